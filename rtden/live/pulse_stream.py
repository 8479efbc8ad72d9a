"""Sound streams of PulseAudio and PipeWire, with the interface of python-sounddevice's.

Why not PortAudio: it knows ALSA's devices only, and a stream that reaches the server through ALSA
can be moved to any device without rtden learning of it, rtden's own virtual microphone included.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import byref, c_int, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any

import numpy as np

from rtden.errors import DeviceError
from rtden.live import libpulse as pa
from rtden.live.device import Device, Kind
from rtden.live.pulse import ANSWER_SECONDS, Connection

BLOCK_SECONDS = 0.005
_FLOAT32, _ANY = 5, 0xFFFFFFFF
_STREAM_CREATING, _STREAM_READY = 1, 2
_CORKED, _INTERPOLATE, _TIMING, _DONT_MOVE, _ADJUST_LATENCY = 0x1, 0x2, 0x8, 0x200, 0x2000
MEASURED_CALLS, LATER_CALLS = 4, 40  # for each measurement of the latency, at first and later
FIRST_CALLS, MANY_CALLS = 12, 400
"""Callbacks before the first one, as a stream begins with what waited for it; and before later."""
OWN_CALLS = 2  # the first may be in the thread that starts the stream; this is in libpulse's
_SMOOTHING = 0.2  # weight of a new value of the latency: single ones tremble by a block


class PulseStream:
    """A stream from or to one device of the sound server.

    A recording stays with its device, and so does a `fixed` output: the server may not move it, so
    that choosing another default source cannot make rtden record itself. It ends if the device
    goes. With `follow` an output follows the server's default sink.

    ``callback(block, samples, None, flagged)`` is called in libpulse's thread. The block is memory
    with float32 of shape (samples, channels), to be read or filled at once. A recording waits in
    libpulse until it has `wanted_samples()`, and then comes in as many blocks as the server sent;
    `samples` counts those that it sent last, or has played since the last call. Of the samples that
    an output could take, `given_samples(wanted, held, samples)` are written, while the server holds
    others: the rest is lent. The server is asked for `latency_seconds`, device included. Raises
    DeviceError if it refuses.
    """

    def __init__(
        self,
        device: Device,
        kind: Kind,
        callback: Callable[[Any, int, Any, Any], None],
        *,
        channels: int,
        latency_seconds: float,
        wanted_samples: Callable[[], int] = lambda: 0,
        given_samples: Callable[[int, int, int], int] = lambda wanted, _held, _samples: wanted,
        fixed: bool = False,
        follow: bool = False,
    ) -> None:
        self._device, self._kind, self._callback = device, kind, callback
        self._wanted_samples, self._given_samples = wanted_samples, given_samples
        self.samplerate, self.channels, self._frame_bytes = device.rate_hz, channels, 4 * channels
        self._block_bytes = round(BLOCK_SECONDS * self.samplerate) * self._frame_bytes
        self._target_samples, self._lent_samples = round(latency_seconds * self.samplerate), 0
        self.latency = latency_seconds if kind == "output" else BLOCK_SECONDS
        self._flagged = False
        self.connection = Connection()
        self._lib, self._quick = self.connection.lib, pa.load_quick_libpulse()
        self._address, self._size = c_void_p(), c_size_t()
        self._at = byref(self._address), byref(self._size)
        self._played = memoryview(b"")
        self._calls = self._waiting_bytes = 0
        self._settled = threading.Event()
        self._callbacks = (
            pa.STATE(self._on_state),
            pa.STATE(lambda *_: self.connection.changed.set()),
            pa.STATE(self._on_fault),
            pa.REQUEST(self._on_readable if kind == "input" else self._on_writable),
        )
        try:
            with self.connection.locked():
                self._stream = self._new_stream()
                failed = self._connect(
                    None if follow else device.stable_name.encode(),
                    self._target_samples * self._frame_bytes,
                    _DONT_MOVE if fixed or kind == "input" else 0,
                )
            if failed or not self._settled.wait(ANSWER_SECONDS) or not self.active:
                raise DeviceError(self.connection.reason())
            self.connection.subscribe()
        except BaseException:
            self.connection.close()
            raise

    def _new_stream(self) -> Any:
        lib, (on_state, on_move, on_fault, _) = self._lib, self._callbacks
        properties = lib.pa_proplist_new()
        # A volume that the server remembers for the loudspeakers must not reach the microphone.
        own = f"rtden-{self._kind}-{self._device.stable_name}".encode()
        lib.pa_proplist_sets(properties, b"module-stream-restore.id", own)
        lib.pa_proplist_sets(properties, b"media.name", b"rtden " + self._kind.encode())
        spec = pa.SampleSpec(_FLOAT32, self.samplerate, self.channels)
        stream = lib.pa_stream_new_with_proplist(
            self.connection.context, None, byref(spec), None, properties
        )
        lib.pa_proplist_free(properties)
        lib.pa_stream_set_state_callback(stream, on_state, None)
        lib.pa_stream_set_moved_callback(stream, on_move, None)
        lib.pa_stream_set_overflow_callback(stream, on_fault, None)
        lib.pa_stream_set_underflow_callback(stream, on_fault, None)
        return stream

    def _connect(self, name: bytes | None, target_bytes: int, flags: int) -> bool:
        block = self._block_bytes
        attributes = pa.BufferAttributes(_ANY, target_bytes, block, block, block)
        flags |= _CORKED | _INTERPOLATE | _TIMING | _ADJUST_LATENCY
        arguments: tuple[Any, ...] = (self._stream, name, byref(attributes), flags)
        if self._kind == "input":
            return bool(self._lib.pa_stream_connect_record(*arguments))
        return bool(self._lib.pa_stream_connect_playback(*arguments, None, None))

    @property
    def active(self) -> bool:
        """Whether server and device are still there."""
        return self.connection.alive and self._state() == _STREAM_READY

    @property
    def sink_index(self) -> int:
        """Index of the sink that it plays on now: the server may have moved it."""
        # Not pa_stream_get_device_name: PipeWire 0.3 does not tell of its moves.
        return self.connection.sink_of(int(self._lib.pa_stream_get_index(self._stream)))

    def move_to(self, device_name: str) -> None:
        """Ask the server to play on another sink."""
        with self.connection.locked():
            index = self._lib.pa_stream_get_index(self._stream)
            operation = self._lib.pa_context_move_sink_input_by_name(
                self.connection.context, index, device_name.encode(), None, None
            )
            if operation:
                self._lib.pa_operation_unref(operation)

    def start(self) -> None:
        """Begin; the callback runs from now on."""
        lib, on_request = self._lib, self._callbacks[-1]
        with self.connection.locked():
            if self._kind == "input":
                lib.pa_stream_set_read_callback(self._stream, on_request, None)
            else:
                lib.pa_stream_set_write_callback(self._stream, on_request, None)
                writable = lib.pa_stream_writable_size(self._stream)
                # Of the latency that the server was asked for, a part is the device's.
                self._target_samples = writable // self._frame_bytes
                self._on_writable(None, writable, None)
            operation = lib.pa_stream_cork(self._stream, 0, None, None)
            if not operation:
                raise DeviceError(self.connection.reason())
            lib.pa_operation_unref(operation)

    def close(self) -> None:
        """End it at once; the callback no longer runs."""
        if self.connection.alive:
            with self.connection.locked():
                self._lib.pa_stream_disconnect(self._stream)
                self._lib.pa_stream_unref(self._stream)
        self.connection.close()

    def _state(self) -> int:
        return int(self._lib.pa_stream_get_state(self._stream))

    def _on_state(self, *_: Any) -> None:
        if self._state() != _STREAM_CREATING:
            self._settled.set()

    def _on_fault(self, *_: Any) -> None:
        self._flagged = True

    def _on_readable(self, _stream: Any, readable: int, _data: Any) -> None:
        arrived, self._waiting_bytes = readable - self._waiting_bytes, readable
        # Single samples come from sources with filters.
        if readable < max(self._block_bytes // 2, self._wanted_samples() * self._frame_bytes):
            return
        self._waiting_bytes = 0
        lib, stream = self._quick, self._stream
        while readable > 0 and not lib.pa_stream_peek(stream, *self._at):
            address, size = self._address.value, self._size.value
            if not size:
                break
            if not address:  # a hole: sound that the server lost
                self._flagged = True
            block = pa.view_memory(address, size) if address else memoryview(bytes(size))
            self._callback(block, arrived // self._frame_bytes, None, self._flagged)
            self._flagged = False
            lib.pa_stream_drop(stream)
            readable -= size
        self._count()

    def _on_writable(self, _stream: Any, wanted: int, _data: Any) -> None:
        wanted //= self._frame_bytes
        played = wanted - self._lent_samples
        if played <= 0:
            return
        given = self._given_samples(wanted, self._target_samples - wanted, played)
        self._lent_samples = wanted - given
        self._size.value = size = given * self._frame_bytes
        if size > len(self._played):
            memory = np.zeros(size // 4, np.float32)
            self._played, self._address.value = memory.data.cast("B"), memory.ctypes.data
        self._callback(self._played[:size], played, None, self._flagged)
        self._flagged = False
        if size:  # libpulse copies it: to fill its own memory takes more calls than that saves
            lib, written = self._quick, (self._address, self._size)
            lib.pa_stream_write(self._stream, *written, None, c_int64(0), 0)
        self._count()

    def _count(self) -> None:
        self._calls += 1
        if self._calls == OWN_CALLS:
            # Otherwise Python makes the state of this thread, and unmakes it, at each callback.
            ctypes.pythonapi.PyGILState_Ensure()
        every = MEASURED_CALLS if self._calls < MANY_CALLS else LATER_CALLS
        if self._calls < FIRST_CALLS or self._calls % every:
            return
        latency, negative = c_uint64(), c_int()
        if self._quick.pa_stream_get_latency(self._stream, byref(latency), byref(negative)):
            return  # not known yet
        seconds = 0.0 if negative.value else latency.value * 1e-6
        seconds += self._lent_samples / self.samplerate
        self.latency += _SMOOTHING * (seconds - self.latency)
