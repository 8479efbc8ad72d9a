"""Silence for C libraries that report on file descriptor 2 what no user needs to know."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send what C libraries write to file descriptor 2 nowhere."""
    with (
        _turn
    ):  # of two threads at a time one would keep the other's nowhere, and put it back for good
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def silence_alsa() -> None:
    """Have libasound report nothing from now on, if there is one: at every underrun it would write across the live view, from the audio thread.

    Drop-outs are counted where PortAudio tells of them.
    """
    try:
        alsa = ctypes.CDLL("libasound.so.2")
    except OSError:
        return
    # Its reporter has to be a C function: one of Python's would make the audio thread wait for the interpreter. This one does nothing, whatever it is given.
    alsa.snd_lib_error_set_handler(ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p))
