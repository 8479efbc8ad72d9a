"""What was done to many files, one JSON object a line: what is finished is known by its content."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rtden.errors import AudioFileError
from rtden.files.atomic import PLACE, make_folder, write_errors, write_whole

MANIFEST = "rtden-manifest.jsonl"
Key = tuple[str, str, str, str]
"""SHA-256 of source and model, settings as JSON, and the suffix that chose the container."""


def key_of(source_sha256: str, model_sha256: str, settings: dict[str, Any], target: str) -> Key:
    """Return what a result is made from."""
    wish = json.dumps(settings, sort_keys=True)
    return source_sha256, model_sha256, wish, Path(target).suffix.lower()


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file of any length."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Manifest:
    """A manifest that is open; where the system has locks, nobody else can open it meanwhile.

    Lines are only ever added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / MANIFEST
        place = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:12]
        self._prefix = f".rtden-{place}-"
        self.run = str(folder / f"{self._prefix}{secrets.token_hex(4)}")
        """A file that exists during the run; names of its unfinished results begin with it."""
        self.by_key: dict[Key, list[dict[str, Any]]] = {}
        self.by_target: dict[str, dict[str, set[Key]]] = {}
        """For each target the SHA-256 of what was written there, and what that was made from."""
        make_folder(folder)
        with write_errors(self.path, "cannot be written", PLACE):
            self._file = self.path.open("a+b", buffering=0)
        if not _lock(self._file.fileno()):
            self._file.close()
            raise AudioFileError(
                f"{self.path} is in use by another rtden; wait until it has finished, or choose "
                "another place with -o."
            )
        self._file.seek(0)
        content = self._file.read()
        for line in content.splitlines():
            with suppress(ValueError, TypeError, KeyError):  # torn, or of another version
                self._learn(json.loads(line))
        # A line that was torn by the end of its run stays alone on its line, and is no entry.
        self._torn = bool(content) and not content.endswith(b"\n")

    def relative(self, path: str) -> str:
        """Return a path as the manifest writes it."""
        try:
            return Path(os.path.relpath(path, self.folder)).as_posix()
        except ValueError:  # on another drive of Windows
            return Path(path).absolute().as_posix()

    def append(self, line: dict[str, Any]) -> None:
        """Write a line to the disk itself, before the result goes to its place."""
        content = json.dumps(line, allow_nan=False).encode() + b"\n"
        content = b"\n" + content if self._torn else content
        again = "make room on the disk, and run the same command again."
        with write_errors(self.path, "could not be written", again):
            self._torn = self._file.write(content) != len(content)
            if self._torn:
                raise OSError(None, "no space left")
            with suppress(OSError):
                os.fsync(self._file.fileno())
        self._learn(line)

    def begin(self, folders: Iterable[Path]) -> None:
        """Begin a run that writes into these folders: remove what a killed one left there."""
        self._remove_hidden(folders)
        write_whole(Path(self.run), b"", force=True)

    def close(self, folders: Iterable[Path] = ()) -> None:
        """End the run: remove what is unfinished in these folders, and release the manifest."""
        self._remove_hidden(folders)
        self._file.close()

    def _remove_hidden(self, folders: Iterable[Path]) -> None:
        for folder in (self.folder, *folders):
            for path in folder.glob(f"{self._prefix}*"):
                with suppress(OSError):
                    path.unlink()

    def _learn(self, line: dict[str, Any]) -> None:
        if line["status"] == "ok":
            sources = line["source_sha256"], line["model_sha256"], line["settings"]
            key, sha256 = key_of(*sources, line["target"]), str(line["target_sha256"])
            self.by_key.setdefault(key, []).append(line)
            self.by_target.setdefault(line["target"], {}).setdefault(sha256, set()).add(key)


def _lock(descriptor: int) -> bool:
    """Lock an open file where the system can; return False if another process has."""
    with suppress(ImportError, OSError):
        import fcntl  # not on Windows

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
