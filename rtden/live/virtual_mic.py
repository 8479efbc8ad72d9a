"""A virtual microphone on Linux: a sink for rtden, and a source that others list as "rtden".

PulseAudio and PipeWire both have the two modules. The second is needed because Chromium, and what
is built on it, does not list the monitor of a sink as a microphone.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from rtden.errors import DeviceError, SettingsError
from rtden.live.control import NAME, runtime_folder
from rtden.live.device import Device
from rtden.live.device_endpoints import DeviceSink
from rtden.live.pulse import OWNER_PROPERTY, Connection, Module

SINK_NAME, SOURCE_NAME = "rtden_sink", "rtden"  # the latter is also what other programs show
RATE_HZ = 48000
_OWNER = re.compile(rf"\b{OWNER_PROPERTY}=(\d+)-(\d+)")
_STEREO = "channels=2 channel_map=front-left,front-right"
# rtden plays the same into both ears. A microphone is mono, and PipeWire's own way from two
# channels to one would make it 3 dB louder.
_LEFT = "channels=1 channel_map=mono master_channel_map=front-left remix=no"


class VirtualMicrophone:
    """A sink and the source `name`, from :meth:`open` to :meth:`close`; a context manager.

    What a process that was killed left behind is removed by the next one. The default sink stays
    what it was. The default source may be this one: rtden's own recording is fixed to a real
    microphone. Raises SettingsError for a name of other characters than letters, digits, "_", "-".
    """

    def __init__(self, name: str = SOURCE_NAME) -> None:
        if not NAME.fullmatch(name):
            raise SettingsError(
                f"'{name}' is no name for a microphone: up to 31 letters, digits, '_' and '-'."
            )
        self.name = name
        self.sink_name = SINK_NAME if name == SOURCE_NAME else f"{SINK_NAME}.{name}"
        self._is_open = False
        self._identity = os.getpid(), _start_ticks(os.getpid()) or 0
        # Two programs' quotes: the outer are the module's, the inner those of its properties.
        mark = "{}={}-{}".format(OWNER_PROPERTY, *self._identity)
        sink = f"device.description='{name} output' {mark}"
        source = f"device.description={name} device.icon_name=audio-input-microphone {mark}"
        self._arguments = {
            "module-null-sink": f"sink_name={self.sink_name} rate={RATE_HZ} {_STEREO} "
            f'sink_properties="{sink}"',
            "module-remap-source": f"source_name={name} master={self.sink_name}.monitor {_LEFT} "
            f'source_properties="{source}"',
        }

    def __enter__(self) -> VirtualMicrophone:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make both; DeviceError if no server answers, it refuses, or something has the names."""
        if sys.platform != "linux":
            raise DeviceError(
                "rtden makes a virtual microphone on Linux only: install BlackHole (macOS) or "
                "VB-CABLE (Windows), and give a part of its name as the output."
            )
        with Connection() as connection, _alone():
            default_sink = connection.server().default_sink
            self._clear_away(connection)
            self._is_open = True
            try:
                for module, arguments in self._arguments.items():
                    connection.load(module, arguments)
                # On a server that switches to new sinks, other programs would play into this one.
                if connection.server().default_sink == self.sink_name != default_sink:
                    connection.number("set_default_sink", default_sink.encode())
            except BaseException:
                self._remove(connection)
                raise

    def close(self) -> None:
        """Remove both; what cannot be removed now is removed by the next :meth:`open`."""
        if self._is_open:
            with contextlib.suppress(DeviceError), Connection() as connection:
                self._remove(connection)  # a server that has gone took them along

    def _remove(self, connection: Connection) -> None:
        self._is_open = False
        # What to unload is asked of the server, not remembered: an interrupt may come between.
        _unload(connection, self._modules(connection, own=True))

    def device(self) -> Device:
        """Return the sink; a server that started anew has lost both, and they are made again."""
        with Connection() as connection:
            if not self._modules(connection, own=True):
                self.open()
            for device in connection.devices():
                if device.kind == "output" and device.stable_name == self.sink_name:
                    return device
        raise DeviceError(f"the microphone '{self.name}' is gone from the sound server.")

    def _modules(
        self, connection: Connection, *, own: bool = False
    ) -> dict[Module, tuple[int, int]]:
        """Return the modules of any process for this name, in loading order, and their owners."""
        found = {}
        for module in connection.modules():
            made, owner = self._arguments.get(module.name), _OWNER.search(module.argument)
            if made and owner and f"{made.split(' ')[0]} " in module.argument:
                found[module] = int(owner[1]), int(owner[2])
        return {at: owner for at, owner in found.items() if not own or owner == self._identity}

    def _clear_away(self, connection: Connection) -> None:
        """Remove what a dead rtden left; raise if something alive has the names."""
        found = self._modules(connection)
        for pid, began in found.values():
            if _start_ticks(pid) == began:
                raise DeviceError(
                    f"another rtden (process {pid}) already gives the microphone '{self.name}': "
                    "end that one first, or give this one another name with --name "
                    "(name=... in Python)."
                )
        _unload(connection, found)
        for device in connection.devices():  # sinks and sources share one space of names
            if (name := device.stable_name) in (self.sink_name, self.name):
                word = "sink" if device.kind == "output" else "source"
                raise DeviceError(
                    f"the sound server already has a {word} '{name}' that rtden did not make: "
                    f"find it in 'pactl list {word}s' and unload its module."
                )


class VirtualSink(DeviceSink):
    """The virtual microphone as a sink; made again where a server that starts anew lost it."""

    fixed = True

    def __init__(self, microphone: VirtualMicrophone) -> None:
        self._microphone = microphone
        super().__init__(microphone.sink_name)

    def _find(self) -> Device:
        return self._microphone.device()

    def open(self) -> None:
        """Open a stream into the microphone, which is made if it is not there."""
        super().open()
        # A new null sink of PulseAudio's sleeps for two seconds before it asks for sound; one that
        # resumes does not.
        for suspend in (1, 0):
            with contextlib.suppress(DeviceError):
                self._stream.connection.number(
                    "suspend_sink_by_name", self._microphone.sink_name.encode(), suspend
                )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other rtdens of this user from opening at the same time, or both would load the source.

    The system takes the lock from a process that dies.
    """
    import fcntl  # not on Windows

    path = runtime_folder() / f"rtden-{os.getuid()}.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceError(
            f"the lock {path} cannot be made ({error.strerror}): make its folder writable, "
            "or remove it."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _unload(connection: Connection, modules: dict[Module, tuple[int, int]]) -> None:
    """Unload modules, the last one first: the source hangs on the sink."""
    for module in reversed(modules):
        with contextlib.suppress(DeviceError):  # even if another one fails
            connection.number("unload_module", module.index)


def _start_ticks(pid: int) -> int | None:
    """Return when a living process began, in ticks since the boot: ids come back, this does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
