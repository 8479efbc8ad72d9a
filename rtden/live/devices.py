"""Sound devices: finding them by name, and streams whose callbacks only move samples through a ring."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from types import ModuleType
from typing import Any, Literal

from rtden.errors import DeviceError
from rtden.live.fade import SmoothReader
from rtden.quiet import quiet_stderr, silence_alsa
from rtden.ring import Ring

Kind = Literal["input", "output"]
DEFAULT_NAMES = {"input": "mic", "output": "speakers"}
RING_SECONDS = 2.0
DEVICE_LATENCY_SECONDS = 0.02
"""Asked of each device. PortAudio's own "low" is 9 ms with ALSA: that underruns on a busy machine."""
FALLBACK_RATES_HZ = (48000, 44100, 32000, 16000, 22050, 8000)


@dataclass(frozen=True)
class Device:
    """A sound device as PortAudio describes it."""

    index: int
    name: str
    host: str
    inputs: int
    outputs: int
    rate_hz: int
    is_default_input: bool
    is_default_output: bool

    def channels(self, kind: Kind) -> int:
        """Return how many channels it has in a direction."""
        return self.inputs if kind == "input" else self.outputs

    def __str__(self) -> str:
        return f"[{self.index}] {self.name} ({self.host})"


def list_devices() -> list[Device]:
    """Return the sound devices of this machine.

    Raises
    ------
    DeviceError
        If PortAudio is missing.
    """
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


def find_device(wanted: str, kind: Kind, devices: list[Device] | None = None) -> Device:
    """Return the device that a user means.

    Parameters
    ----------
    wanted : str
        "mic" or "speakers" for the default, a number, or a part of a name in either case; the whole name wins over a part.

    Raises
    ------
    DeviceError
        If there is none, or several; the message lists the candidates.
    """
    usable = [
        device
        for device in (list_devices() if devices is None else devices)
        if device.channels(kind) > 0
    ]
    if not usable:
        raise DeviceError(
            f"this machine has no {kind} device: connect one, or start the sound server (PipeWire or PulseAudio), and look with 'rtden devices'."
        )
    if wanted.lower() == DEFAULT_NAMES[kind]:
        matches = [
            device
            for device in usable
            if (device.is_default_input if kind == "input" else device.is_default_output)
        ] or usable[:1]
    elif wanted.isdecimal():
        matches = [device for device in usable if device.index == int(wanted)]
    else:
        matches = [device for device in usable if wanted.lower() == device.name.lower()]
        matches = matches or [
            device
            for device in usable
            if wanted.lower() in f"{device.name} ({device.host})".lower()
        ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DeviceError(
            f"'{wanted}' means several {kind} devices: {_join(matches)}; give a number or more of the name."
        )
    raise DeviceError(f"no {kind} device matches '{wanted}'; there are {_join(usable)}.")


def _join(devices: list[Device]) -> str:
    return ", ".join(str(device) for device in devices)


def load_portaudio() -> ModuleType:
    """Import and return sounddevice.

    Raises
    ------
    DeviceError
        If it or PortAudio is missing.
    """
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
                "PortAudio is missing: run 'sudo apt install libportaudio2' (macOS and Windows wheels of sounddevice bring it along)."
            ) from None
    return sounddevice  # type: ignore[no-any-return]


class _Device:
    """A device by the name that the user gave, the stream that is open on it, and the ring that its callback fills or empties.

    The device may go away and come back: :meth:`stop` closes what is left of the stream, :meth:`open` finds the device again.

    Attributes
    ----------
    called_at : float
        When the callback last ran, as time.perf_counter() says; NaN before the first time.
    """

    kind: Kind
    may_return = True

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self.flagged_blocks = 0
        self.block_samples = 0
        self.called_at = math.nan
        self.rate_hz = self.channels = 0
        self._latency_seconds = 0.0
        self._stream: Any = None
        self.open()

    def open(self) -> None:
        """Find the device and open it; the ring is kept if rate and channels are what they were.

        Raises
        ------
        DeviceError
            If it is not there or cannot be opened.
        """
        device = find_device(self._wanted, self.kind)
        if self._wanted.isdecimal():
            self._wanted = device.name  # numbers change when devices come and go
        self.name = str(device)
        before = self.rate_hz, self.channels
        self.rate_hz, self.channels, self._stream = _open(
            device, self.kind, self._callback, wanted_hz=self.rate_hz
        )
        self.called_at = math.nan
        if (self.rate_hz, self.channels) != before:
            self._make_ring()

    @staticmethod
    def look_anew() -> None:
        """Make PortAudio look for devices: it knows only those that were there when it was loaded. Every stream must be closed."""
        sounddevice = load_portaudio()
        with quiet_stderr():
            sounddevice._terminate()  # python-sounddevice has no other way
            sounddevice._initialize()

    def _make_ring(self) -> None:
        raise NotImplementedError

    def _callback(self, block: Any, samples: int, time: Any, status: Any) -> None:
        raise NotImplementedError

    @property
    def latency_seconds(self) -> float:
        """The delay of the device and its driver, as PortAudio reports it."""
        if self._stream is not None:
            self._latency_seconds = float(self._stream.latency)
        return self._latency_seconds  # of a device that is gone, what it was

    @property
    def running(self) -> bool:
        """Whether the device still calls."""
        return self._stream is not None and bool(self._stream.active)

    def start(self) -> None:
        """Begin; the callback runs from now on.

        Raises
        ------
        DeviceError
            If the device refuses.
        """
        try:
            with quiet_stderr():
                self._stream.start()
        except load_portaudio().PortAudioError as error:
            raise DeviceError(
                f"the {self.kind} device {self.name} does not start ({error}); choose another with 'rtden devices'."
            ) from None

    def stop(self) -> None:
        """End, at once."""
        if self._stream is not None:
            with quiet_stderr():
                self._stream.abort(ignore_errors=True)
                self._stream.close(ignore_errors=True)
            self._stream = None


class DeviceSource(_Device):
    """A microphone."""

    kind: Kind = "input"
    exhausted = False

    def _make_ring(self) -> None:
        self.ring = Ring(round(RING_SECONDS * self.rate_hz), self.channels)

    def _callback(self, block: Any, samples: int, time: Any, status: Any) -> None:
        self.ring.write(block)
        self.block_samples = samples
        self.called_at = perf_counter()
        if status:
            self.flagged_blocks += 1


class DeviceSink(_Device):
    """Loudspeakers: of a mono ring every channel gets the sound."""

    kind: Kind = "output"

    def __init__(self, wanted: str, *, channels: int = 1) -> None:
        self._ring_channels = channels
        super().__init__(wanted)

    def _make_ring(self) -> None:
        self.ring = Ring(
            round(RING_SECONDS * self.rate_hz), min(self._ring_channels, self.channels)
        )
        self.reader = SmoothReader(self.ring, self.channels, self.rate_hz)

    def _callback(self, block: Any, samples: int, time: Any, status: Any) -> None:
        self.block_samples = samples
        if self.ring.written_samples:
            self.reader.read_into(block)
        else:
            block.fill(0.0)
        self.called_at = perf_counter()
        if status:
            self.flagged_blocks += 1


def _open(
    device: Device,
    kind: Kind,
    callback: Callable[[Any, int, Any, Any], None],
    *,
    wanted_hz: int = 0,
) -> tuple[int, int, Any]:
    """Open a device at the wanted rate, its own, or the first usual one that it takes; in stereo if it can, else with what it has.

    Returns rate, channels and the stream.
    """
    sounddevice = load_portaudio()
    stream_class = sounddevice.InputStream if kind == "input" else sounddevice.OutputStream
    most, reason = device.channels(kind), ""
    for rate_hz in dict.fromkeys((wanted_hz or device.rate_hz, device.rate_hz, *FALLBACK_RATES_HZ)):
        for channels in dict.fromkeys((min(2, most), 1, most)):
            try:
                with quiet_stderr():
                    stream = stream_class(
                        device=device.index,
                        samplerate=rate_hz,
                        channels=channels,
                        dtype="float32",
                        latency=DEVICE_LATENCY_SECONDS,
                        callback=callback,
                    )
                return round(stream.samplerate), channels, stream
            except sounddevice.PortAudioError as error:
                reason = str(error)
    raise DeviceError(
        f"the {kind} device {device} cannot be opened ({reason}): close the program that uses it, or choose another with 'rtden devices'."
    )
