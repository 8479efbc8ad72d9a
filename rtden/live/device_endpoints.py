"""Devices as the two sides of the live engine: the callbacks only copy to and from a ring."""

from __future__ import annotations

import math
from typing import Any

from rtden.errors import DeviceError
from rtden.live import devices
from rtden.live.device import Device, Kind
from rtden.live.endpoint import Endpoint
from rtden.live.pulse_stream import PulseStream
from rtden.quiet import quiet_stderr

PORTAUDIO_LATENCY_SECONDS = 0.02
"""Asked of PortAudio. Its own "low" is 9 ms with ALSA: that underruns on a busy machine."""
SERVER_LATENCY_SECONDS = 0.025
"""Asked of the sound server: five blocks. With four, outputs ran dry on a busy machine."""


class _DeviceEndpoint(Endpoint):
    """A device by the user's name for it; :meth:`open` finds it again, by its stable name first."""

    kind: Kind
    may_return = True
    fixed = False  # the sound server may not move an output
    rate_hz = channels = 0
    _stream: Any = None

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self.open()

    @property
    def _by_default(self) -> bool:
        return self._wanted.lower() == devices.DEFAULT_NAMES[self.kind]

    def open(self) -> None:
        """Find the device and open it; the ring is kept unless rate or channels are others."""
        device = self._find()
        if self._wanted.isdecimal():
            self._wanted = device.name  # numbers change when devices come and go
        before = self.rate_hz, self.channels
        open_stream = self._open_on_server if device.stable_name else self._open_portaudio
        try:
            self._stream = open_stream(device)
        except DeviceError as error:
            raise DeviceError(
                f"the {self.kind} device {device} cannot be opened ({error}): close the program "
                "that uses it, or choose another with 'rtden devices'."
            ) from None
        self.rate_hz, self.channels = round(self._stream.samplerate), self._stream.channels
        self._latency_seconds = float(self._stream.latency)
        self._use(device)
        self.warning, self.called_at = "", math.nan
        self.lendable_samples = self.lent_samples = 0
        if (self.rate_hz, self.channels) != before:
            self.make_ring()

    def _use(self, device: Device) -> None:
        self.device, self.name = device, str(device)
        self.server_name = self.playing_on = device.stable_name
        self.monitor_of = device.monitor_of

    def _find(self) -> Device:
        """Return the device to open: the one that was open before, or else the one named."""
        if not self.server_name:
            return devices.find_device(self._wanted, self.kind)
        there = devices.server_devices()  # not PortAudio's: without a server they are other devices
        if not self._by_default:
            for device in there:
                if device.kind == self.kind and self.server_name in device.names:
                    return device
        return devices.find_device(self._wanted, self.kind, there, before=self.server_name)

    def _open_on_server(self, device: Device) -> PulseStream:
        return PulseStream(
            device,
            self.kind,
            self._callback,
            channels=min(2, device.channels),
            latency_seconds=SERVER_LATENCY_SECONDS,
            wanted_samples=self.wanted_samples,
            given_samples=self.given_samples,
            fixed=self.fixed,
            follow=self.kind == "output" and self._by_default and device.is_default,
        )

    def _open_portaudio(self, device: Device) -> Any:
        """Open at the rate from before, its own, or the first usual one; in stereo if it can."""
        sounddevice, most = devices.load_portaudio(), device.channels
        streams = {"input": sounddevice.RawInputStream, "output": sounddevice.RawOutputStream}
        reason: Any = None
        rates_hz = (self.rate_hz or device.rate_hz, device.rate_hz, *devices.FALLBACK_RATES_HZ)
        for rate_hz in dict.fromkeys(rates_hz):
            for channels in dict.fromkeys((min(2, most), 1, most)):
                try:
                    with quiet_stderr():
                        return streams[self.kind](
                            device=device.index,
                            samplerate=rate_hz,
                            channels=channels,
                            dtype="float32",
                            latency=PORTAUDIO_LATENCY_SECONDS,
                            callback=self._callback,
                        )
                except sounddevice.PortAudioError as error:
                    reason = error
        raise DeviceError(reason)

    def look_anew(self) -> None:
        devices.look_anew()

    def _callback(self, block: Any, samples: int, time: Any, status: Any) -> None:
        self.block_samples = samples
        if self.kind == "input":
            self.captured(block)
        else:
            self.play(block)
        if status:
            self.flagged_blocks += 1

    @property
    def latency_seconds(self) -> float:  # type: ignore[override]
        """Delay of the device and its driver, as PortAudio or the sound server reports it."""
        if self._stream is not None:
            self._latency_seconds = float(self._stream.latency)
        return self._latency_seconds  # for a lost device, its last value

    @property
    def running(self) -> bool:
        """Whether the device still calls, and is still the right one."""
        stream = self._stream
        if stream is None or not stream.active:
            return False
        if isinstance(stream, PulseStream) and stream.connection.changed.is_set():
            stream.connection.changed.clear()
            try:
                there = stream.connection.devices()
                return self._look(stream, [one for one in there if one.kind == self.kind])
            except DeviceError:  # the server goes
                return bool(stream.active)
        return True

    def _look(self, stream: PulseStream, there: list[Device]) -> bool:
        """Return whether the stream is right after a change; `there` are devices of its kind."""
        raise NotImplementedError

    def start(self) -> None:
        refusal = DeviceError if self.server_name else devices.load_portaudio().PortAudioError
        try:
            with quiet_stderr():
                self._stream.start()
        except refusal as error:
            raise DeviceError(
                f"the {self.kind} device {self.name} does not start ({error}); "
                "choose another with 'rtden devices'."
            ) from None
        if isinstance(self._stream, PulseStream):
            self._stream.connection.changed.set()  # look at it once

    def stop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with quiet_stderr():
                stream.close()


class DeviceSource(_DeviceEndpoint):
    """A microphone."""

    kind: Kind = "input"

    def _look(self, stream: PulseStream, there: list[Device]) -> bool:
        self.muted = any(one.muted for one in there if self.server_name in one.names)
        if not self._by_default:
            return True
        try:  # the user may have chosen another default microphone
            default = devices.find_device("mic", "input", there, before=self.server_name)
        except DeviceError:
            return True
        return self.server_name in default.names


class DeviceSink(_DeviceEndpoint):
    """Loudspeakers."""

    kind: Kind = "output"

    def _look(self, stream: PulseStream, there: list[Device]) -> bool:
        """Return to the named device when it is back, and report where the sound goes now."""
        index = stream.sink_index
        now = [device for device in there if device.index == index]
        if not now:  # it is being moved, and no event reports the end of that
            stream.connection.changed.set()
            return True
        self.playing_on = now[0].names[-1]
        if self.playing_on == self.server_name:
            self.warning = ""
        elif self._by_default:  # the server decides
            self._use(now[0])
        elif not any(self.server_name in device.names for device in there):
            self.warning = f"{self.name} is gone: {now[0].name} plays until it is back."
        elif self.warning:  # it was gone; a user who moved the stream is obeyed
            stream.move_to(self.server_name)
        return True
