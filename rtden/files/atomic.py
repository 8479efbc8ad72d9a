"""The one way in which rtden writes a file: beside its place, moved there when it is complete."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import soundfile

from rtden.errors import AudioFileError

PLACE = "choose another place."
PROBE_BYTES = 1 << 16


def reason_of(error: Exception) -> str:
    """Return why the system or libsndfile refused, without a full stop."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None)
    return str(text or error).rstrip(".")


@contextmanager
def write_errors(
    path: Path | str,
    problem: str = "could not be written to its end",
    advice: str = "make room on the disk or choose another place.",
    partial: Path | None = None,
) -> Iterator[None]:
    """Turn what the system or libsndfile refuses into a sentence about `path`.

    A library may not say why it failed: then `partial`, the file that it wrote, is written to.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, soundfile.LibsndfileError, AssertionError) as error:
        if partial is not None:
            with write_errors(path, problem, advice):
                write_more(partial)
        raise AudioFileError(f"{path} {problem} ({reason_of(error)}); {advice}") from None


def write_more(partial: Path) -> None:
    """Spoil a file that could not be completed; raise OSError if the system takes no more of it."""
    with partial.open("ab") as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing."""
    with write_errors(f"the folder {path}", "cannot be made", PLACE):
        path.mkdir(parents=True, exist_ok=True)


def check_target(path: Path, *, force: bool) -> None:
    """Raise AudioFileError if no file may be written to `path`."""
    if os.path.isdir(path):
        raise AudioFileError(f"{path} is a folder; name the file to write in it.")
    if os.path.exists(path) and not os.path.isfile(path):
        sentence = f"{path} is a device or a pipe; name a file, or give '-' for standard output."
        raise AudioFileError(sentence)
    if os.path.lexists(path) and not force:
        sentence = (
            f"{path} exists already; choose another file, or overwrite it with --force "
            "(force=True in Python)."
        )
        raise AudioFileError(sentence)


@contextmanager
def new_file(path: Path, *, force: bool, leave_at: Path | None = None) -> Iterator[Path]:
    """Yield the hidden path at which to make a file; without an error it then moves to `path`.

    Of two writers of one new file the second fails; `force` replaces an existing one. The hidden
    name is short, so that any name that the file system takes may be the target's. With `leave_at`
    the file is made there, and left to the caller to move.
    """
    check_target(path, force=force)
    partial = leave_at or path.with_name(f".rtden-{secrets.token_hex(6)}.part")
    try:
        with write_errors(path, "cannot be written", PLACE):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                path.lstat()  # a name that is too long is refused before the work
            partial.open("xb").close()
        yield partial
        if leave_at is None:
            with write_errors(path):
                _move(partial, path, force=force)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _move(partial: Path, path: Path, *, force: bool) -> None:
    """Move a complete file to its place; without `force` never over another."""
    if not force:
        try:
            os.link(partial, path)
        except (OSError, AttributeError, NotImplementedError):  # it exists, or no hard links here
            check_target(path, force=False)
        else:
            partial.unlink()
            return
    partial.replace(path)


def write_whole(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file, and the folders above it, that appears only when it is complete."""
    with new_file(path, force=force) as partial, write_errors(path):
        partial.write_bytes(content)
