"""Keys from a terminal without Enter, and what they do to a live engine."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Protocol

QUIT_KEYS = ("q", "Q", "\x03")
HELP_KEYS = ("?", "h", "H")
KEYS = (
    ("q", "quit", "stop, as Ctrl-C"),
    ("?", "help", "show or hide this"),
    ("b", "bypass", "hear the sound as it comes in, at the same delay"),
    ("m", "mute", "play silence"),
    ("+ -", "strength", "0 leaves the sound as it is, 1 denoises it fully"),
)
"""Key, name and effect; the most important first."""

_KEY = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z]|.?)|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;]*|O)?\Z")
_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}


class Controls(Protocol):
    """The part of a live engine that keys change."""

    strength: float
    """0 to 1."""
    bypassed: bool
    muted: bool


def obey(key: str, engine: Controls) -> None:
    """Change the engine as the key says; other keys do nothing."""
    if key in {"b", "B"}:
        engine.bypassed = not engine.bypassed
    elif key in {"m", "M"}:
        engine.muted = not engine.muted
    elif key in {"+", "=", "up"}:  # "=" is "+" without shift
        engine.strength = min(1.0, round(engine.strength + 0.1, 1))
    elif key in {"-", "_", "down"}:
        engine.strength = max(0.0, round(engine.strength - 0.1, 1))


class Keyboard:
    """Keys of a terminal, without Enter; a context manager that restores the terminal's settings.

    Without a terminal, and in the background of one, it reads and changes nothing.

    Parameters
    ----------
    descriptor : int, optional
        The terminal's file descriptor; None is standard input's.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._reader: _PosixKeys | _WindowsKeys | None = None

    def __enter__(self) -> Keyboard:
        descriptor = self._descriptor
        if descriptor is None and sys.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or not a file
                descriptor = sys.stdin.fileno()
        if descriptor is not None and os.isatty(descriptor):
            if sys.platform == "win32":
                self._reader = _WindowsKeys()
            elif not _in_background(descriptor):
                self._reader = _PosixKeys(descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.restore()
            self._reader = None

    @property
    def reads(self) -> bool:
        """Whether there is a terminal to read from."""
        return self._reader is not None

    def keys(self, wait_seconds: float = 0.1) -> Iterator[str]:
        """Yield keys as they are pressed, and "" after `wait_seconds` without one.

        The arrows are "up", "down", "left" and "right".
        """
        while True:
            if self._reader is None:
                time.sleep(wait_seconds)
                yield ""
            else:
                yield from self._reader.read(wait_seconds) or [""]


def _in_background(descriptor: int) -> bool:
    """Return whether the program runs in the terminal's background, where reading would stop it."""
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # a terminal without job control
        return False


class _PosixKeys:
    def __init__(self, descriptor: int) -> None:
        import termios  # POSIX only
        import tty

        self._descriptor, self._unfinished, self._ended = descriptor, "", False
        self._termios: ModuleType = termios
        self._settings = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor)  # not raw: Ctrl-C and Ctrl-Z keep their meaning
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        with contextlib.suppress(self._termios.error):  # the window may have been closed
            self._termios.tcsetattr(self._descriptor, self._termios.TCSADRAIN, self._settings)

    def read(self, wait_seconds: float) -> list[str]:
        if self._ended:
            time.sleep(wait_seconds)
            return []
        if not select.select([self._descriptor], [], [], wait_seconds)[0]:
            self._unfinished = ""  # it was Escape alone
            return []
        try:
            new = os.read(self._descriptor, 256)
        except OSError:
            new = b""
        self._ended = not new  # the terminal is gone
        text = self._unfinished + new.decode("utf-8", errors="replace")
        unfinished = _UNFINISHED.search(text)
        self._unfinished = unfinished[0] if unfinished else ""
        found = _KEY.findall(text.removesuffix(self._unfinished))
        keys = (_ARROWS.get(key[2:], "") if key.startswith("\x1b") else key for key in found)
        return [key for key in keys if key]


class _WindowsKeys:
    def restore(self) -> None:
        """Do nothing: a Windows console needs no settings."""

    def read(self, wait_seconds: float) -> list[str]:
        import msvcrt  # Windows only

        console: Any = msvcrt
        ends_at = time.monotonic() + wait_seconds
        while not console.kbhit():
            if time.monotonic() >= ends_at:
                return []
            time.sleep(0.01)
        key: str = console.getwch()
        if key in {"\x00", "\xe0"}:  # first of the two codes of an arrow
            return [name] if (name := {"H": "up", "P": "down"}.get(console.getwch(), "")) else []
        return [key]
