"""A connection to PulseAudio or PipeWire: devices, modules and events."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from rtden.errors import DeviceError
from rtden.live import libpulse as pa
from rtden.live.device import Device, Kind

ANSWER_SECONDS = 5.0
OWNER_PROPERTY = "rtden.owner"  # marks the sink and the source of a virtual microphone
_CONTEXT_READY = 4
_INVALID_INDEX = 0xFFFFFFFF
_EVENTS = 0x0001 | 0x0002 | 0x0080  # sinks, sources, the server's defaults


class NoAnswerError(DeviceError):
    """The sound server runs and gives no answer; PortAudio would wait for it for ever."""

    def __init__(self) -> None:
        super().__init__(
            f"the sound server gave no answer in {ANSWER_SECONDS:g} s: restart it and try again."
        )


@dataclass(frozen=True)
class Module:
    """A loaded module."""

    index: int
    name: str
    argument: str


class Server(NamedTuple):
    """What answers, and its default devices."""

    name: str
    default_sink: str
    default_source: str


class Connection(contextlib.AbstractContextManager["Connection"]):
    """A connection to the sound server, with a thread of libpulse's; a context manager.

    Methods may be called from any thread but libpulse's own. What answers is the server of
    PULSE_SERVER, or that of the user's session. `changed` is set when a device or the defaults
    changed, after :meth:`subscribe`. Raises DeviceError without libpulse or an answer.
    """

    def __init__(self) -> None:
        self.lib = pa.load_libpulse()
        self.changed = threading.Event()
        self._settled = threading.Event()
        self._loop = self.lib.pa_threaded_mainloop_new()
        if not self._loop:
            raise DeviceError("libpulse does not start: too many files are open; close some.")
        api = self.lib.pa_threaded_mainloop_get_api(self._loop)
        self.context = self.lib.pa_context_new(api, b"rtden")
        # libpulse holds no reference to its callbacks: they must live as long as it may call them.
        self._callbacks = [pa.STATE(self._on_state), pa.EVENT(lambda *_: self.changed.set())]
        self.lib.pa_context_set_state_callback(self.context, self._callbacks[0], None)
        self.lib.pa_context_connect(self.context, None, 0, None)
        self.lib.pa_threaded_mainloop_start(self._loop)
        self._closed = False
        if not self._settled.wait(ANSWER_SECONDS):
            self.close()
            raise NoAnswerError
        if not self.alive:
            reason = self.reason()
            self.close()
            raise DeviceError(
                f"no sound server answers ({reason}): start it with 'systemctl --user start "
                "pipewire-pulse' (PipeWire) or 'pulseaudio --start', and try again."
            )

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_state(self, context: Any, _data: Any) -> None:
        if self.lib.pa_context_get_state(pa.Handle(context)) >= _CONTEXT_READY:
            self._settled.set()

    @property
    def alive(self) -> bool:
        """Whether the server is still there."""
        return not self._closed and (self.lib.pa_context_get_state(self.context) == _CONTEXT_READY)

    def reason(self) -> str:
        """Return why the last call failed, in the library's words."""
        return str(self.lib.pa_strerror(self.lib.pa_context_errno(self.context)).decode())

    def close(self) -> None:
        """End it."""
        if self._closed:
            return
        with self.locked():
            self._closed = True
            self.lib.pa_context_disconnect(self.context)
            self.lib.pa_context_unref(self.context)
        self.lib.pa_threaded_mainloop_stop(self._loop)
        self.lib.pa_threaded_mainloop_free(self._loop)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep libpulse's thread out: needed around its functions."""
        self.lib.pa_threaded_mainloop_lock(self._loop)
        try:
            yield
        finally:
            self.lib.pa_threaded_mainloop_unlock(self._loop)

    def subscribe(self) -> None:
        """Have `changed` set from now on."""
        self.lib.pa_context_set_subscribe_callback(self.context, self._callbacks[1], None)
        self.number("subscribe", _EVENTS)

    def server(self) -> Server:
        """Return what answers, and its defaults."""
        found: list[Server] = self._ask(pa.SERVER, "get_server_info", read=_read_server)
        return found[0]

    def devices(self) -> list[Device]:
        """Return the server's sources and then its sinks."""
        server = self.server()
        kinds: tuple[tuple[Kind, str, str], ...] = (
            ("input", "source", server.default_source),
            ("output", "sink", server.default_sink),
        )
        found = []
        for kind, what, default in kinds:
            read = functools.partial(self._read_device, server.name, kind, default)
            found += self._ask(pa.DEVICES, f"get_{what}_info_list", read=read)
        return found

    def _read_device(self, host: str, kind: Kind, default: str, info: pa.DeviceInfo) -> Device:
        name = _text(info.name)
        monitor_of = _text(info.monitor_name) if kind == "input" else ""
        owner = self.lib.pa_proplist_gets(info.properties, OWNER_PROPERTY.encode())
        return Device(
            kind=kind,
            index=info.index,
            name=_text(info.description) or name,
            host=host,
            channels=info.spec.channels,
            rate_hz=info.spec.rate,
            is_default=name == default,
            stable_name=name,
            muted=bool(info.mute) or not any(info.volume.values[: info.volume.channels]),
            monitor_of=monitor_of,
            own=owner is not None or monitor_of.startswith("rtden_sink"),
        )

    def sink_of(self, stream_index: int) -> int:
        """Return the index of the sink that a stream plays on, or -1 if the stream is gone."""
        sinks = self._ask(
            pa.SINK_INPUTS, "get_sink_input_info", stream_index, read=lambda info: info.sink
        )
        return int(sinks[0]) if sinks else -1

    def modules(self) -> list[Module]:
        """Return the loaded modules, in the order of loading."""
        return self._ask(
            *(pa.MODULES, "get_module_info_list"),
            read=lambda info: Module(info.index, _text(info.name), _text(info.argument)),
        )

    def load(self, module: str, arguments: str) -> None:
        """Load a module; raises DeviceError if the server refuses."""
        try:
            self.number("load_module", module.encode(), arguments.encode())
        except DeviceError as error:
            raise DeviceError(
                f"the sound server refused {module} ({error}): see that it may load modules, "
                "or restart it, and try again."
            ) from None

    def number(self, function: str, *arguments: Any) -> int:
        """Call a pa_context function whose answer is a number, and return it; 0 or more is success.

        Raises DeviceError if the server refuses; the message is the library's reason alone.
        """
        answer = int(self._ask(pa.NUMBER, function, *arguments)[0])
        if answer == _INVALID_INDEX or (function != "load_module" and answer == 0):
            raise DeviceError(self.reason())
        return answer

    def _ask(
        self, prototype: Any, function: str, *arguments: Any, read: Callable[[Any], Any] = int
    ) -> list[Any]:
        """Call a pa_context function and return the values that its callback received.

        `read` copies the fields of a structure, which the library frees after the callback.
        """
        replied, values, one = threading.Event(), [], prototype in (pa.NUMBER, pa.SERVER)

        def reply(_context: Any, value: Any, *rest: Any) -> None:
            if prototype is pa.NUMBER:
                values.append(read(value))
            elif value:  # a list ends with an empty reply
                values.append(read(value.contents))
            if one or rest[0]:
                replied.set()

        callback = prototype(reply)
        with self.locked():
            asked = getattr(self.lib, f"pa_context_{function}")
            operation = asked(self.context, *arguments, callback, None)
        if not operation:
            raise DeviceError(self.reason())
        ends_at = time.monotonic() + ANSWER_SECONDS
        while not replied.wait(0.1) and self.alive and time.monotonic() < ends_at:
            pass
        with self.locked():
            self.lib.pa_operation_cancel(operation)  # the callback is about to be freed
            self.lib.pa_operation_unref(operation)
        if not replied.is_set() or (one and not values):
            raise NoAnswerError
        return values


def _read_server(info: pa.ServerInfo) -> Server:
    name = "PipeWire" if b"PipeWire" in (info.name or b"") else "PulseAudio"
    return Server(name, _text(info.default_sink), _text(info.default_source))


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
