"""A virtual microphone on Linux: a sink that rtden plays into and a source that other programs list as "rtden".

PulseAudio and PipeWire both take the two modules from `pactl`. The second module is needed because Chromium, and what is
built on it, does not list the monitor of a sink as a microphone.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rtden.errors import DeviceError
from rtden.live.devices import Device, DeviceSink, find_device, list_devices

SINK_NAME = "rtden_sink"
SOURCE_NAME = "rtden"
"""Names and, for the source, also what other programs show."""
RATE_HZ = 48000
PORTAUDIO_DEVICE = "pulse"
"""How PortAudio, which knows ALSA's devices only, calls the server."""
ANSWER_SECONDS = 5.0
_OWNER = re.compile(r"\brtden\.owner=(\d+)-(\d+)")
_STEREO = ("channels=2", "channel_map=front-left,front-right")
# rtden plays the same into both ears. A microphone is mono; PipeWire's own way from two channels to one would make it 3 dB louder.
_LEFT = ("channels=1", "channel_map=mono", "master_channel_map=front-left", "remix=no")
_DEFAULTS = {"sink": "Default Sink", "source": "Default Source"}


class _RefusedError(DeviceError):
    """What pactl says when it fails."""


@dataclass(frozen=True)
class _Module:
    """A module of the virtual microphone in the server, and the process that loaded it: its id and when it began."""

    index: str
    owner: tuple[int, int]


class VirtualMicrophone:
    """The sink `SINK_NAME` and the source `SOURCE_NAME`, from :meth:`open` to :meth:`close`; a context manager does both.

    To play into it, open the output stream of :meth:`device` inside :meth:`routed`::

        with VirtualMicrophone() as microphone, microphone.routed():
            sink = VirtualSink(microphone)

    What a process that was killed left behind is removed by the next one. Nothing else of the user's is changed. Where loading
    makes the server prefer the new sink or source, as it does on a machine without a real microphone, the former default is
    set again. A machine without any loudspeakers has no other sink: there other programs play into the microphone, too.
    """

    def __init__(self) -> None:
        self._defaults: dict[str, str] = {}
        self._is_open = False

    def __enter__(self) -> VirtualMicrophone:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make the sink and the source.

        Raises
        ------
        DeviceError
            If pactl is missing, no server answers, it refuses, or another rtden or program has the names.
        """
        if sys.platform != "linux":
            raise DeviceError(
                "rtden makes a virtual microphone on Linux only: install BlackHole (macOS) or VB-CABLE (Windows), and give a part of its name as the output."
            )
        with _alone():
            self._make()

    def _make(self) -> None:
        self._defaults = {kind: name for kind, name in _defaults().items() if name in _names(kind)}
        ours = _own_identity()
        _clear_away(ours)
        self._is_open = True
        try:
            mark = f"rtden.owner={ours[0]}-{ours[1]}"
            # Two programs' worth of quotes: the outer ones are the module's, the inner ones those of its list of properties.
            properties = f"device.description='rtden output' {mark}"
            _load(
                "module-null-sink",
                f"sink_name={SINK_NAME}",
                f"rate={RATE_HZ}",
                *_STEREO,
                f'sink_properties="{properties}"',
            )
            properties = (
                f"device.description={SOURCE_NAME} device.icon_name=audio-input-microphone {mark}"
            )
            _load(
                "module-remap-source",
                f"master={SINK_NAME}.monitor",
                f"source_name={SOURCE_NAME}",
                *_LEFT,
                f'source_properties="{properties}"',
            )
            self._restore_defaults()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove both; what cannot be removed now is removed by the next :meth:`open`."""
        if not self._is_open:
            return
        self._is_open = False
        # What to unload is asked of the server, not remembered: an interrupt may come between loading and remembering.
        with contextlib.suppress(DeviceError):  # a server that has gone took them along
            ours = _own_identity()
            _unload([module for module in _modules() if module.owner == ours])

    def device(self) -> Device:
        """Return the device by which PortAudio plays into the sink, if its stream is opened inside :meth:`routed`.

        Raises
        ------
        DeviceError
            If ALSA's plugin for PulseAudio is missing.
        """
        if PORTAUDIO_DEVICE not in {device.name for device in list_devices() if device.outputs > 0}:
            raise DeviceError(
                "ALSA's plugin for PulseAudio is missing: run 'sudo apt install libasound2-plugins' and start rtden again."
            )
        return find_device(PORTAUDIO_DEVICE, "output")

    @contextlib.contextmanager
    def routed(self) -> Iterator[None]:
        """Make streams that are opened inside play into the sink, and record from what was the default source before.

        ALSA's plugin reads both from the environment when a stream is opened. Devices that name a sink or source of their own
        are not affected. The source is named because streams without a name follow the default: a user who makes "rtden"
        the default microphone would have rtden record itself.
        """
        wanted = {"PULSE_SINK": SINK_NAME}
        if "PULSE_SOURCE" not in os.environ and (source := self._defaults.get("source")):
            wanted["PULSE_SOURCE"] = source
        kept = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in kept.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def is_there(self) -> bool:
        """Return whether the server still has it: one that starts anew has not.

        Raises
        ------
        DeviceError
            If no server answers.
        """
        ours = _own_identity()
        return any(module.owner == ours for module in _modules())

    def _restore_defaults(self) -> None:
        for kind, now in _defaults().items():
            before = self._defaults.get(kind)
            if (
                before is not None
                and now in {SINK_NAME, SOURCE_NAME, f"{SINK_NAME}.monitor"}
                and before in _names(kind)
            ):
                _pactl(f"set-default-{kind}", before)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other rtdens of this user from opening at the same time.

    Between looking and loading another one would load, and the server would call the second source "rtden.2". The system
    takes the lock from a process that dies.
    """
    import fcntl  # not on Windows

    path = (
        Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        / f"rtden-{os.getuid()}.lock"
    )
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceError(
            f"the lock {path} cannot be made ({error.strerror}): make its folder writable, or remove it."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class VirtualSink(DeviceSink):
    """The virtual microphone as the live engine's sink, to be made inside :meth:`VirtualMicrophone.routed`.

    A server that starts anew has lost the microphone: it is made again when the sink is opened again.
    """

    def __init__(self, microphone: VirtualMicrophone, *, channels: int = 1) -> None:
        self._microphone = microphone
        super().__init__(microphone.device().name, channels=channels)

    def open(self) -> None:
        """Open a stream into the microphone, which is made if it is not there."""
        if not self._microphone.is_there():
            self._microphone.open()
        super().open()


def _clear_away(ours: tuple[int, int]) -> None:
    """Remove what a dead rtden left; raise if a living one, or something else, has the names."""
    found = _modules()
    for module in found:
        if module.owner == ours or _start_ticks(module.owner[0]) == module.owner[1]:
            raise _taken_by(module.owner[0])
    _unload(found)
    for kind, name in (
        ("sink", SINK_NAME),
        ("source", SOURCE_NAME),
        ("sink", SOURCE_NAME),
    ):  # all share one space of names
        if name in _names(kind):
            raise DeviceError(
                f"the sound server already has a {kind} '{name}' that rtden did not make: find it in 'pactl list {kind}s' and unload its module."
            )


def _taken_by(pid: int) -> DeviceError:
    return DeviceError(
        f"another rtden (process {pid}) already gives the microphone '{SOURCE_NAME}': end that one first."
    )


def _modules() -> list[_Module]:
    """Return every rtden's modules, in the order in which they were loaded."""
    rows = (line.split("\t") for line in _pactl("list", "short", "modules").splitlines())
    wanted = {
        "module-null-sink": f"sink_name={SINK_NAME} ",
        "module-remap-source": f"source_name={SOURCE_NAME} ",
    }
    return [
        _Module(row[0], (int(owner[1]), int(owner[2])))
        for row in rows
        if len(row) > 2
        and row[1] in wanted
        and wanted[row[1]] in row[2]
        and (owner := _OWNER.search(row[2]))
    ]


def _unload(modules: list[_Module]) -> None:
    """Unload modules, the last one first: the source hangs on the sink."""
    with contextlib.ExitStack() as stack:  # each is unloaded, whatever befalls another
        for module in modules:
            stack.callback(_pactl, "unload-module", module.index)


def _load(module: str, *arguments: str) -> None:
    try:
        _pactl("load-module", module, *arguments)
    except _RefusedError as error:
        raise DeviceError(
            f"the sound server refused {module} ({error}): see that it may load modules, or restart it, and try again."
        ) from None


def _names(kind: str) -> set[str]:
    rows = (line.split("\t") for line in _pactl("list", "short", f"{kind}s").splitlines())
    return {row[1] for row in rows if len(row) > 1}


def _defaults() -> dict[str, str]:
    """Return the names of the default sink and source."""
    try:
        said = _pactl("info")
    except _RefusedError as error:
        raise DeviceError(
            f"no sound server answers ({error}): start it with 'systemctl --user start pipewire-pulse' (PipeWire) or 'pulseaudio --start', and try again."
        ) from None
    pairs = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    return {kind: pairs[title] for kind, title in _DEFAULTS.items() if title in pairs}


def _pactl(*arguments: str) -> str:
    """Run pactl and return what it prints; a failure is a DeviceError that carries its own words."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PULSE_SINK", "PULSE_SOURCE"}
    } | {"LC_ALL": "C"}
    try:
        # In a session of its own: Ctrl-C in the terminal is for rtden, which unloads the modules, and not for the pactl that does it.
        ended = subprocess.run(
            ["pactl", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_SECONDS,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise DeviceError("pactl is missing: run 'sudo apt install pulseaudio-utils'.") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"the sound server gave no answer in {ANSWER_SECONDS:g} s: restart it and try again."
        ) from None
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or [f"pactl ended with {ended.returncode}"])[0]
        raise _RefusedError(reason.removeprefix("Failure: ").removeprefix("Connection failure: "))
    return ended.stdout


def _own_identity() -> tuple[int, int]:
    return os.getpid(), _start_ticks(os.getpid()) or 0


def _start_ticks(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the boot, or None if it lives no more; ids come back, this does not."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
