"""Devices as the two sides of the live engine: the callbacks only copy to and from a ring."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

from rtden.errors import DeviceError
from rtden.live.devices import (
    DEFAULT_NAMES,
    FALLBACK_RATES_HZ,
    Device,
    devices_of,
    find_device,
    load_portaudio,
    look_anew,
    server_devices,
)
from rtden.live.fade import SmoothReader
from rtden.live.pulse import Kind
from rtden.live.pulse_stream import PulseStream
from rtden.quiet import quiet_stderr
from rtden.ring import Ring

RING_SECONDS = 2.0
DEVICE_LATENCY_SECONDS = 0.02
"""Asked of PortAudio. Its own "low" is 9 ms with ALSA: that underruns on a busy machine."""

SERVER_LATENCY_SECONDS = 0.025
"""Asked of the sound server: five blocks. With four, outputs ran dry on a busy machine."""


class _Device:
    """A device by the user's name for it, its stream, and the ring that the callback uses.

    The device may go away and come back: :meth:`stop` closes what is left of the stream,
    :meth:`open` finds the device again, by its stable name first.

    Attributes
    ----------
    called_at : float
        Time of the last callback, by time.perf_counter(); NaN before the first.
    device : Device
        What is open, or was last.
    warning : str
        What the user should know about the device now, or empty.
    """

    kind: Kind
    may_return = True
    fixed = False
    """Whether the sound server may not move an output."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self.flagged_blocks = 0
        self.block_samples = 0
        self.called_at = math.nan
        self.rate_hz = self.channels = 0
        self.warning = ""
        self.device: Device | None = None
        self._latency_seconds = 0.0
        self._stream: Any = None
        self.open()

    @property
    def server_name(self) -> str:
        """Stable name in the sound server of the device that is open; empty for PortAudio's."""
        return self.device.server.name if self.device and self.device.server else ""

    def open(self) -> None:
        """Find the device and open it; the ring is kept if rate and channels are what they were.

        Raises
        ------
        DeviceError
            If it is not there or cannot be opened.
        """
        device = self._find()
        if self._wanted.isdecimal():
            self._wanted = device.name  # numbers change when devices come and go
        before = self.rate_hz, self.channels
        if device.server:
            self.channels = min(2, device.channels(self.kind))
            self._stream = self._open_on_server(device)
            self.rate_hz = self._stream.samplerate
        else:
            self.rate_hz, self.channels, self._stream = _open_portaudio(
                device, self.kind, self._callback, wanted_hz=self.rate_hz
            )
        self.device, self.name, self.warning = device, str(device), ""
        self.called_at = math.nan
        if (self.rate_hz, self.channels) != before:
            self._make_ring()

    def _find(self) -> Device:
        """Return the device to open: the one that was open, else what the user's words mean."""
        if not self.server_name:
            return find_device(self._wanted, self.kind)
        there = server_devices()  # not PortAudio's: without a server they are other devices
        if self._wanted.lower() != DEFAULT_NAMES[self.kind]:
            for device in there:
                if device.channels(self.kind) and self.server_name in device.names:
                    return device
        return find_device(self._wanted, self.kind, there, before=self.server_name)

    def _open_on_server(self, device: Device) -> PulseStream:
        assert device.server is not None
        try:
            return PulseStream(
                device.server,
                self.kind,
                self._callback,
                channels=self.channels,
                latency_seconds=SERVER_LATENCY_SECONDS,
                fixed=self.fixed,
                follow=self._wanted.lower() == DEFAULT_NAMES["output"]
                and device.is_default("output"),
            )
        except DeviceError as error:
            raise _cannot_open(self.kind, device, str(error)) from None

    def look_anew(self) -> None:
        """Make PortAudio look for devices: it knows only those that were there when it was loaded.

        Every stream of PortAudio's must be closed.
        """
        if not self.server_name:
            look_anew()

    def _make_ring(self) -> None:
        raise NotImplementedError

    def _callback(self, block: Any, samples: int, time: Any, status: Any) -> None:
        raise NotImplementedError

    @property
    def latency_seconds(self) -> float:
        """Delay of the device and its driver, as PortAudio or the sound server reports it."""
        if self._stream is not None:
            self._latency_seconds = float(self._stream.latency)
        return self._latency_seconds  # of a device that is gone, what it was

    @property
    def running(self) -> bool:
        """Whether the device still calls, and is still the one that is meant."""
        stream = self._stream
        if stream is None or not stream.active:
            return False
        if isinstance(stream, PulseStream) and stream.connection.changed.is_set():
            stream.connection.changed.clear()
            try:
                return self._look(stream)
            except DeviceError:  # the server goes
                return bool(stream.active)
        return True

    def _look(self, stream: PulseStream) -> bool:
        """See what a change in the sound server means; return whether the stream is still right."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin; the callback runs from now on.

        Raises
        ------
        DeviceError
            If the device refuses.
        """
        errors: tuple[type[Exception], ...] = (DeviceError,)
        if not self.server_name:
            errors = (load_portaudio().PortAudioError,)
        try:
            with quiet_stderr():
                self._stream.start()
        except errors as error:
            raise DeviceError(
                f"the {self.kind} device {self.name} does not start ({error}); "
                "choose another with 'rtden devices'."
            ) from None
        if isinstance(self._stream, PulseStream):
            self._stream.connection.changed.set()  # look at it once

    def stop(self) -> None:
        """End, at once."""
        stream, self._stream = self._stream, None
        if isinstance(stream, PulseStream):
            stream.close()
        elif stream is not None:
            with quiet_stderr():
                stream.abort(ignore_errors=True)
                stream.close(ignore_errors=True)


class DeviceSource(_Device):
    """A microphone.

    Attributes
    ----------
    muted : bool
        Whether the sound server has it muted.
    """

    kind: Kind = "input"
    exhausted = False
    muted = False
    notify: Callable[[], None] = staticmethod(lambda: None)

    @property
    def monitor_of(self) -> str:
        """Stable name of the output whose sound this source records, or empty."""
        return self.device.server.monitor_of if self.device and self.device.server else ""

    def _make_ring(self) -> None:
        self.ring = Ring(round(RING_SECONDS * self.rate_hz), self.channels)

    def _callback(self, block: Any, samples: int, time: Any, status: Any) -> None:
        self.ring.write(block)
        self.block_samples = samples
        self.called_at = perf_counter()
        self.notify()
        if status:
            self.flagged_blocks += 1

    def _look(self, stream: PulseStream) -> bool:
        there = devices_of(stream.connection)
        own = [device for device in there if device.inputs and self.server_name in device.names]
        self.muted = bool(own and own[0].server and own[0].server.muted)
        if self._wanted.lower() != DEFAULT_NAMES[self.kind]:
            return True
        try:  # the user may have chosen another default microphone
            default = find_device("mic", "input", there, before=self.server_name)
        except DeviceError:
            return True
        return self.server_name in default.names


class DeviceSink(_Device):
    """Loudspeakers: of a mono ring every channel gets the sound."""

    kind: Kind = "output"

    playing_on = ""
    """Stable name of the sink that plays now; empty without a sound server."""

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

    def open(self) -> None:
        """Find the device and open it, as :meth:`_Device.open`."""
        super().open()
        self.playing_on = self.server_name

    def _look(self, stream: PulseStream) -> bool:
        """Return to the named device when it is back, and report where the sound goes now."""
        there, index = devices_of(stream.connection), stream.sink_index
        now = [d for d in there if d.server and d.outputs and d.server.index == index]
        if not now:  # it is being moved: no event tells when that is done
            stream.connection.changed.set()
            return True
        self.playing_on = now[0].names[-1]
        named = self._wanted.lower() != DEFAULT_NAMES[self.kind]
        if self.playing_on == self.server_name:
            self.warning = ""
        elif not named:  # the default: the server decides
            self.device, self.name = now[0], str(now[0])
        elif not any(self.server_name in device.names for device in there if device.outputs):
            self.warning = f"{self.name} is gone: {now[0].name} plays until it is back."
        elif self.warning:  # it was gone; a user who moved the stream is obeyed
            stream.move_to(self.server_name)
        return True


def _open_portaudio(
    device: Device,
    kind: Kind,
    callback: Callable[[Any, int, Any, Any], None],
    *,
    wanted_hz: int = 0,
) -> tuple[int, int, Any]:
    """Open a device at the wanted rate, its own, or the first usual one; in stereo if it can.

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
    raise _cannot_open(kind, device, reason)


def _cannot_open(kind: Kind, device: Device, reason: str) -> DeviceError:
    return DeviceError(
        f"the {kind} device {device} cannot be opened ({reason}): close the program that uses it, "
        "or choose another with 'rtden devices'."
    )
