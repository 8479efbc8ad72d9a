"""Silences C libraries that write to file descriptor 2; for the app and for sound devices only."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_turn = threading.RLock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what C libraries write to file descriptor 2 inside the block."""
    with _turn:  # two threads at once would restore each other's null device
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = -1
        with suppress(OSError):  # it may be closed, as in programs without a terminal
            kept = os.dup(2)
        if kept < 0:
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def silence_alsa() -> None:
    """Turn off the reports of libasound, which it would write across the live view.

    Drop-outs are counted where PortAudio reports them.
    """
    try:
        alsa = ctypes.CDLL("libasound.so.2")
    except OSError:
        return
    # The handler has to be a C function without effect: a Python function would make the audio
    # thread wait for the interpreter.
    alsa.snd_lib_error_set_handler(ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p))
