from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from command import run_python

from rtden.errors import DeviceError
from rtden.live.device import Device, Kind
from rtden.live.device_endpoints import DeviceSink, DeviceSource
from rtden.live.devices import find_device


def device(index: int, name: str, *kinds: Kind, default: bool = False) -> list[Device]:
    """Return a device of PortAudio's, in both directions unless one is named."""
    return [
        Device(
            kind=kind,
            index=index,
            name=name,
            host="ALSA",
            channels=2,
            rate_hz=48000,
            is_default=default,
        )
        for kind in kinds or ("input", "output")
    ]


DEVICES = [
    *device(0, "Built-in Analog", default=True),
    *device(1, "USB Audio: Mic", "input"),
    *device(2, "USB Audio: Headset"),
    *device(3, "HDMI 1", "output"),
    *device(4, "USB Audio"),
    *device(5, "Card 1"),
]


@pytest.mark.parametrize(
    ("wanted", "kind", "index"),
    [
        ("mic", "input", 0),
        ("MIC", "input", 0),
        ("speakers", "output", 0),
        ("2", "output", 2),
        ("headset", "input", 2),
        ("usb audio", "input", 4),  # the whole name wins over a part of others
        ("hdmi", "output", 3),
        ("1", "input", 1),  # a number, not every name with a 1 in it
        ("audio: m", "input", 1),
    ],
)
def test_a_device_is_found_by_default_number_or_part_of_its_name(
    wanted: str, kind: Kind, index: int
) -> None:
    assert find_device(wanted, kind, DEVICES).index == index


def test_an_ambiguous_name_lists_the_candidates() -> None:
    with pytest.raises(
        DeviceError, match=r"several input devices: \[1\] USB Audio: Mic.*\[2\] USB Audio: Headset"
    ):
        find_device("usb", "input", DEVICES)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(DeviceError, match=r"no output device matches 'nonesuch'.*HDMI 1"):
        find_device("nonesuch", "output", DEVICES)


def test_a_device_without_inputs_is_no_microphone() -> None:
    with pytest.raises(DeviceError, match="no input device matches 'HDMI'"):
        find_device("HDMI", "input", DEVICES)
    with pytest.raises(DeviceError, match="no input device matches '3'"):
        find_device("3", "input", DEVICES)


def served(
    name: str, description: str, *, monitor_of: str = "", own: bool = False, default: bool = False
) -> Device:
    """Return a source of a sound server."""
    return Device(
        kind="input",
        index=0,
        name=description,
        host="PipeWire",
        channels=2,
        rate_hz=48000,
        is_default=default,
        stable_name=name,
        monitor_of=monitor_of,
        own=own,
    )


OWN = served("rtden", "rtden", own=True)
MONITOR = served("alsa_output.usb.monitor", "Monitor of USB headset", monitor_of="alsa_output.usb")
YETI, HEADSET = served("alsa_input.yeti", "Blue Yeti"), served("alsa_input.usb", "USB headset")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("yeti", "alsa_input.yeti"),
        ("ALSA_INPUT.USB", "alsa_input.usb"),
        ("usb headset", "alsa_input.usb"),
        ("headset", "alsa_input.usb"),  # its output's monitor has the word, too
        ("monitor of usb", "alsa_output.usb.monitor"),
    ],
)
def test_a_servers_device_is_found_by_description_or_stable_name(wanted: str, name: str) -> None:
    found = find_device(wanted, "input", [OWN, MONITOR, YETI, HEADSET])
    assert found.stable_name == name


def test_the_default_microphone_is_never_rtdens_own() -> None:
    own = served("rtden", "rtden", own=True, default=True)
    among = [own, MONITOR, YETI, HEADSET]
    assert find_device("mic", "input", among) == YETI
    assert find_device("mic", "input", among, before="alsa_input.usb") == HEADSET
    with pytest.raises(DeviceError, match="connect one"):
        find_device("mic", "input", [own])
    with pytest.raises(DeviceError, match="'rtden' is rtden's own: choose a real input"):
        find_device("rtden", "input", among)


def test_a_monitor_is_the_microphone_only_where_it_is_the_default() -> None:
    monitor = served("cable.monitor", "Monitor", monitor_of="cable", default=True)
    assert find_device("mic", "input", [monitor, YETI]) == monitor
    with pytest.raises(DeviceError, match="no input device matches 'mic'"):
        find_device("mic", "input", [OWN, MONITOR])


def test_mic_without_a_default_is_the_first_input() -> None:
    among = [*device(3, "HDMI", "output"), *device(7, "Somewhere")]
    assert find_device("mic", "input", among).index == 7


def test_no_devices_at_all_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match="connect one"):
        find_device("mic", "input", [])


def test_a_missing_portaudio_names_the_package_to_install() -> None:
    code = (
        "import ctypes.util, sys\n"
        # As on a machine without it: sounddevice looks there.
        "ctypes.util.find_library = lambda name: None\n"
        "from rtden.live.devices import portaudio_devices as list_devices\n"
        "from rtden.errors import DeviceError\n"
        "try:\n    list_devices()\nexcept DeviceError as error:\n    print(error)\n"
    )
    said = run_python(code).stdout
    assert "apt install libportaudio2" in said


@pytest.mark.parametrize("kind", ["source", "sink"])
def test_a_callback_allocates_nothing(kind: str) -> None:
    """A thousand blocks, some of which run dry or jump: less than 1400 bytes, small views, are
    ever held beyond what was there before.
    """
    made = object.__new__(DeviceSource if kind == "source" else DeviceSink)
    made.flagged_blocks, made.rate_hz, made.channels = 0, 48000, 2
    made.make_ring()
    block = np.zeros((480, 2), np.float32)
    supply = np.zeros((48000, 2), np.float32)
    most = 0

    def call(number: int) -> None:
        if kind == "sink" and number % 90 == 0:
            made.ring.write(supply[: 480 * 80])  # type: ignore[attr-defined]
        if kind == "sink" and number % 50 == 0:
            made.ring.drop_oldest(960)  # type: ignore[attr-defined]
        made._callback(block.data.cast("B"), 480, None, number % 7 == 0)

    for number in range(200):
        call(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1000):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            call(number)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert made.flagged_blocks > 0
    assert most < 1400, f"{most} bytes; a block of sound has {block.nbytes}"
