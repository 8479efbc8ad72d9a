"""Sound devices: what there is, and which one a user means."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from rtden.errors import DeviceError
from rtden.live.pulse import Connection, Kind, PulseDevice
from rtden.quiet import quiet_stderr, silence_alsa

DEFAULT_NAMES: dict[Kind, str] = {"input": "mic", "output": "speakers"}
FALLBACK_RATES_HZ = (48000, 44100, 32000, 16000, 22050, 8000)


@dataclass(frozen=True)
class Device:
    """A sound device, of the sound server or of PortAudio."""

    index: int
    """PortAudio's number; -1 for a device of the sound server."""
    name: str
    host: str
    inputs: int
    outputs: int
    rate_hz: int
    is_default_input: bool
    is_default_output: bool
    server: PulseDevice | None = None

    def channels(self, kind: Kind) -> int:
        """Return how many channels it has in a direction."""
        return self.inputs if kind == "input" else self.outputs

    def is_default(self, kind: Kind) -> bool:
        """Return whether the system uses it where no device is named."""
        return self.is_default_input if kind == "input" else self.is_default_output

    @property
    def names(self) -> tuple[str, ...]:
        """Names that a user may give: the description and, of the server's, the stable name."""
        return (self.name, self.server.name) if self.server else (self.name,)

    @property
    def own(self) -> bool:
        """Whether an rtden made it."""
        return bool(self.server and self.server.own)

    @property
    def is_monitor(self) -> bool:
        """Whether it records what an output plays."""
        return bool(self.server and self.server.monitor_of)

    def __str__(self) -> str:
        if self.server:
            return f"{self.name} [{self.server.name}]"
        return f"[{self.index}] {self.name} ({self.host})"


def list_devices(*, all_hosts: bool = False) -> list[Device]:
    """Return the sound server's devices; PortAudio's if there is no server, or besides.

    Raises DeviceError if there is no sound server and PortAudio is missing.
    """
    found = server_devices()
    return found if found and not all_hosts else [*found, *portaudio_devices()]


def server_devices() -> list[Device]:
    """Return the devices of PulseAudio or PipeWire; empty without a sound server."""
    if sys.platform != "linux":
        return []
    try:
        with Connection() as connection:
            return devices_of(connection)
    except DeviceError:
        return []


def devices_of(connection: Connection) -> list[Device]:
    """Return the devices of a sound server; raises DeviceError if it no longer answers."""
    server = connection.server()
    return [
        Device(
            index=-1,
            name=device.description,
            host=server.name,
            inputs=device.channels if kind == "input" else 0,
            outputs=device.channels if kind == "output" else 0,
            rate_hz=device.rate_hz,
            is_default_input=kind == "input" and device.name == server.default_source,
            is_default_output=kind == "output" and device.name == server.default_sink,
            server=device,
        )
        for kind in DEFAULT_NAMES
        for device in connection.devices(kind)
    ]


def portaudio_devices() -> list[Device]:
    """Return PortAudio's devices, ALSA's on Linux; raises DeviceError if PortAudio is missing."""
    sounddevice = load_portaudio()
    hosts = sounddevice.query_hostapis()
    default_input, default_output = sounddevice.default.device
    return [
        Device(
            index=index,
            name=found["name"],
            host=hosts[found["hostapi"]]["name"],
            inputs=found["max_input_channels"],
            outputs=found["max_output_channels"],
            rate_hz=round(found["default_samplerate"]),
            is_default_input=index == default_input,
            is_default_output=index == default_output,
        )
        for index, found in enumerate(sounddevice.query_devices())
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

    Parameters
    ----------
    wanted : str
        "mic" or "speakers" for the default, a number of PortAudio's, or a part of a name in either
        case; the whole name wins over a part. What rtden made itself is never found.
    devices : sequence of Device, optional
        If None, the sound server's and then, if none of them matches, PortAudio's.
    before : str
        Stable name of the device to prefer while the default is rtden's own.

    Raises
    ------
    DeviceError
        If there is none, or several; the message lists the candidates.
    """
    if devices is None:
        devices = server_devices()
        if not devices or not _matches(wanted, kind, devices, before):
            devices = [*devices, *portaudio_devices()]
    matches = _matches(wanted, kind, devices, before)
    if len(matches) > 1:
        raise DeviceError(
            f"'{wanted}' means several {kind} devices: {_join(matches)}; "
            "give more of the name, or a number."
        )
    if matches and matches[0].own:
        raise DeviceError(
            f"'{wanted}' is rtden's own: choose a real {kind} device with 'rtden devices'."
        )
    if matches:
        return matches[0]
    usable = [device for device in devices if device.channels(kind) and not device.own]
    if not usable:
        raise DeviceError(
            f"this machine has no {kind} device: connect one, or start the sound server "
            "(PipeWire or PulseAudio), and look with 'rtden devices'."
        )
    shown = [device for device in usable if device.server and not device.is_monitor] or usable
    raise DeviceError(
        f"no {kind} device matches '{wanted}'; there are {_join(shown)}; "
        "'rtden devices --all' lists all."
    )


def _matches(wanted: str, kind: Kind, devices: Sequence[Device], before: str) -> list[Device]:
    usable = [device for device in devices if device.channels(kind)]
    lower = wanted.lower()
    if lower == DEFAULT_NAMES[kind]:
        # If the default is rtden's own: the one before, or the first real one.
        others = [device for device in usable if not device.own]
        default = [device for device in others if device.is_default(kind)]
        former = [device for device in others if device.server and device.server.name == before]
        real = [device for device in others if not device.is_monitor]
        return (default or former or real)[:1]
    if wanted.isdecimal():
        return [device for device in usable if device.index == int(wanted)]
    whole = [device for device in usable if lower in map(str.lower, device.names)]
    part = [device for device in usable if lower in f"{device.name} ({device.host})".lower()]
    named = [device for device in usable if any(lower in name.lower() for name in device.names)]
    found = whole or named or part
    return [device for device in found if not (device.own or device.is_monitor)] or found


def _join(devices: Sequence[Device]) -> str:
    return ", ".join(map(str, devices))


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
