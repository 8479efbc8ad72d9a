"""Keys from a terminal without Enter, and what they do to a live engine."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtden.live import LiveEngine

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

# What arrows and function keys send: their letters must not act as keys.
_ESCAPED = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z]|.?)", re.DOTALL)


def apply_key(key: str, engine: LiveEngine) -> None:
    """Switch the engine by a key of the terminal view; other keys do nothing."""
    if key in {"b", "B"}:
        engine.bypassed = not engine.bypassed
    elif key in {"m", "M"}:
        engine.muted = not engine.muted
    elif key in {"+", "=", "-", "_"}:  # "=" is "+" without shift
        step = 0.1 if key in {"+", "="} else -0.1
        engine.strength = min(1.0, max(0.0, round(engine.strength + step, 1)))


@contextlib.contextmanager
def open_keys(descriptor: int | None = None, wait_seconds: float = 0.1) -> Iterator[Iterator[str]]:
    """Yield the keys of a terminal, by default standard input's, and restore its settings.

    A key comes as it is pressed, and "" after `wait_seconds` without one; without a terminal, and
    in the background of one, no key comes.
    """
    if descriptor is None and sys.stdin is not None:
        with contextlib.suppress(OSError, ValueError):  # closed, or not a file
            descriptor = sys.stdin.fileno()
    if descriptor is None or not os.isatty(descriptor) or _in_background(descriptor):
        yield _no_keys(wait_seconds)
    elif sys.platform == "win32":
        yield _windows_keys(wait_seconds)
    else:
        import termios  # POSIX only
        import tty

        settings = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor)  # not raw: Ctrl-C and Ctrl-Z keep their meaning
            yield _posix_keys(descriptor, wait_seconds)
        finally:
            with contextlib.suppress(termios.error):  # the window may have been closed
                termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)


def _in_background(descriptor: int) -> bool:
    """Return whether the program runs in the terminal's background, where reading would stop it."""
    with contextlib.suppress(OSError, AttributeError):  # a terminal without job control; Windows
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    return False


def _no_keys(wait_seconds: float) -> Iterator[str]:
    while True:
        time.sleep(wait_seconds)
        yield ""


def _posix_keys(descriptor: int, wait_seconds: float) -> Iterator[str]:
    while True:
        if not select.select([descriptor], [], [], wait_seconds)[0]:
            yield ""
            continue
        try:
            new = os.read(descriptor, 256)
        except OSError:
            new = b""
        if not new:  # the terminal is gone
            yield from _no_keys(wait_seconds)
        yield from _ESCAPED.sub("", new.decode("utf-8", errors="replace")) or [""]


def _windows_keys(wait_seconds: float) -> Iterator[str]:
    import msvcrt  # Windows only

    console: Any = msvcrt
    while True:
        ends_at = time.monotonic() + wait_seconds
        while not console.kbhit() and time.monotonic() < ends_at:
            time.sleep(0.01)
        key = console.getwch() if console.kbhit() else ""
        if key in {"\x00", "\xe0"}:  # an arrow or a function key; its second code follows
            console.getwch()
            key = ""
        yield key
