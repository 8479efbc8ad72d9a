"""Standard input and pipes as files: they are read more than once, and not in order."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from rtden.errors import AudioFileError, DamagedFileError
from rtden.files.atomic import write_errors
from rtden.files.audio_file import open_recording
from rtden.files.listing import Raw

DESCRIPTORS = "/proc/self/fd"
SPOOL_BYTES, SURE_BYTES = 1 << 20, 1 << 26  # no file has more before its sound
QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""The first parts of a file in which the last one may say what it is."""


def spool(source: str, path: Path, raw: Raw | None, temporary: ExitStack) -> None:
    """Copy standard input or a pipe into a file; refuse early what may never end.

    The file has no name where the system can open it again by its number: it then goes with the
    process, however that ends.
    """
    piped = source == "-"
    name = "standard input" if piped else source
    if piped and (sys.stdin is None or sys.stdin.closed or sys.stdin.isatty()):
        raise AudioFileError(
            f"{name} is closed or a terminal; pipe a sound file into rtden, or name one."
        )
    with ExitStack() as opened:
        with write_errors(source, "cannot be read", "name a file or a pipe."):
            pipe = sys.stdin.buffer if piped else opened.enter_context(open(source, "rb"))
        if _is_device(pipe) and pipe.read(1):  # of /dev/null nothing comes
            raise AudioFileError(f"{name} is a device, which may never end; name a file or a pipe.")
        with write_errors(Path("a temporary file")):
            if os.path.isdir(DESCRIPTORS):
                file = temporary.enter_context(tempfile.TemporaryFile(buffering=0))
                path.symlink_to(f"{DESCRIPTORS}/{file.fileno()}")
            with path.open("wb") as copy:
                for block in iter(lambda: pipe.read(SPOOL_BYTES), b""):
                    before = copy.tell()
                    copy.write(block)
                    if before < SURE_BYTES <= copy.tell():
                        _check_beginning(path, raw)
    if not path.stat().st_size:
        raise AudioFileError(f"nothing came through {name}; it ended before its first byte.")


def _check_beginning(path: Path, raw: Raw | None) -> None:
    """Raise AudioFileError if a file whose end is still to come is no recording."""
    with path.open("rb") as file:
        if file.read(8)[4:] in QUICKTIME:
            return
    with suppress(DamagedFileError), open_recording(path, raw):
        pass


def _is_device(pipe: BinaryIO) -> bool:
    with suppress(OSError):  # what replaces standard input in a program may have no descriptor
        found = os.fstat(pipe.fileno())
        if not os.path.samestat(found, os.stat(os.devnull)):  # which ends at once
            return stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return False
