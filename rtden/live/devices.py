"""Sound devices: what there is, and which one a user means."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

from rtden.errors import DeviceError
from rtden.live.device import Device, Kind
from rtden.live.pulse import Connection, NoAnswerError
from rtden.quiet import quiet_stderr, silence_alsa

DEFAULT_NAMES: dict[Kind, str] = {"input": "mic", "output": "speakers"}
FALLBACK_RATES_HZ = (48000, 44100, 32000, 16000, 22050, 8000)


def list_devices(*, all_hosts: bool = False) -> list[Device]:
    """Return the sound server's devices; PortAudio's if there is no server, or besides.

    Raises DeviceError if the sound server hangs, or there is none and PortAudio is missing.
    """
    found = server_devices()
    return found if found and not all_hosts else [*found, *portaudio_devices()]


def server_devices() -> list[Device]:
    """Return the sound server's devices, none without a server; NoAnswerError if it hangs."""
    if sys.platform != "linux":
        return []
    try:
        with Connection() as connection:
            return connection.devices()
    except NoAnswerError:
        raise
    except DeviceError:
        return []


def portaudio_devices() -> list[Device]:
    """Return PortAudio's devices, ALSA's on Linux; raises DeviceError if PortAudio is missing."""
    sounddevice = load_portaudio()
    hosts = sounddevice.query_hostapis()
    defaults = dict(zip(DEFAULT_NAMES, sounddevice.default.device, strict=True))
    return [
        Device(
            kind=kind,
            index=index,
            name=found["name"],
            host=hosts[found["hostapi"]]["name"],
            channels=found[f"max_{kind}_channels"],
            rate_hz=round(found["default_samplerate"]),
            is_default=index == default,
        )
        for index, found in enumerate(sounddevice.query_devices())
        for kind, default in defaults.items()
        if found[f"max_{kind}_channels"]
    ]


def look_anew() -> None:
    """Make PortAudio look for devices again; every stream of PortAudio's must be closed."""
    sounddevice = load_portaudio()
    with quiet_stderr():
        sounddevice._terminate()  # python-sounddevice has no other way
        sounddevice._initialize()


def find_device(
    wanted: str, kind: Kind, devices: Sequence[Device] | None = None, *, before: str = ""
) -> Device:
    """Return the device that a user means.

    `wanted` is "mic" or "speakers" for the default, a number of PortAudio's, or a part of a name in
    either case; the whole name wins over a part. What rtden made itself is never found: while the
    default is rtden's own, the device with the stable name `before` is preferred. Without `devices`
    it looks among the sound server's and, if none matches, PortAudio's. Raises DeviceError if there
    is none, or several; the message lists the candidates.
    """
    if devices is None:
        devices = server_devices()
        if not devices or not _matches(wanted, kind, devices, before):
            devices = [*devices, *portaudio_devices()]
    matches = _matches(wanted, kind, devices, before)
    if len(matches) > 1:
        raise DeviceError(
            f"'{wanted}' means several {kind} devices: {', '.join(map(str, matches))}; "
            "give more of the name, or a number."
        )
    if matches and matches[0].own:
        raise DeviceError(
            f"'{wanted}' is rtden's own: choose a real {kind} device with 'rtden devices'."
        )
    if matches:
        return matches[0]
    usable = [device for device in devices if device.kind == kind and not device.own]
    if not usable:
        raise DeviceError(
            f"this machine has no {kind} device: connect one, or start the sound server "
            "(PipeWire or PulseAudio), and look with 'rtden devices'."
        )
    shown = [device for device in usable if device.stable_name and not device.hidden] or usable
    raise DeviceError(
        f"no {kind} device matches '{wanted}': choose from {', '.join(map(str, shown))}, or "
        "from all that 'rtden devices --all' lists."
    )


def _matches(wanted: str, kind: Kind, devices: Sequence[Device], before: str) -> list[Device]:
    usable = [device for device in devices if device.kind == kind]
    lower = wanted.lower()
    if lower == DEFAULT_NAMES[kind]:
        # If the default is rtden's own: the one before, or the first real one.
        others = [device for device in usable if not device.own]
        default = [device for device in others if device.is_default]
        former = [device for device in others if device.stable_name == before != ""]
        real = [device for device in usable if not device.hidden]
        return (default or former or real)[:1]
    if wanted.isdecimal():
        return [d for d in usable if d.index == int(wanted) and not d.stable_name]
    whole = [device for device in usable if lower in map(str.lower, device.names)]
    part = [device for device in usable if lower in f"{device.name} ({device.host})".lower()]
    named = [device for device in usable if any(lower in name.lower() for name in device.names)]
    found = whole or named or part
    return [device for device in found if not device.hidden] or found


def load_portaudio() -> ModuleType:
    """Import and return sounddevice; raises DeviceError if it or PortAudio is missing."""
    with quiet_stderr():  # sound systems that PortAudio looks for report that they are not there
        try:
            import sounddevice

            silence_alsa()
        except ImportError:
            raise DeviceError(
                "the package sounddevice is not installed: run 'pip install sounddevice'."
            ) from None
        except OSError:
            raise DeviceError(
                "PortAudio is missing: run 'sudo apt install libportaudio2' (macOS and "
                "Windows wheels of sounddevice bring it along)."
            ) from None
    return sounddevice  # type: ignore[no-any-return]
