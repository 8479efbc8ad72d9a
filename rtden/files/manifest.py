"""What was done to many files, one JSON object a line: what is finished is known by its content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rtden.errors import AudioFileError
from rtden.files.atomic import make_folder, write_whole

MANIFEST = "rtden-manifest.jsonl"
Key = tuple[str, str, str, str]
"""SHA-256 of source and model, settings as JSON, and the suffix that chose the container."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of a manifest; the paths are relative to its folder."""

    source: str
    target: str
    status: Literal["ok", "failed"]
    error: str | None = None
    source_sha256: str | None = None
    target_sha256: str | None = None
    model: str
    model_sha256: str
    settings: dict[str, Any]
    rtden: str
    seconds: float | None = None
    real_time_factor: float | None = None
    noise_removed_db: float | None = None

    @property
    def key(self) -> Key:
        """What the result was made from."""
        return key_of(str(self.source_sha256), self.model_sha256, self.settings, self.target)


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

    Raises
    ------
    AudioFileError
        If it cannot be read or written, or another run has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / MANIFEST
        place = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:12]
        self._prefix = f".rtden-{place}-"
        self.run = str(folder / f"{self._prefix}{secrets.token_hex(4)}")
        """A file that exists during the run; names of its unfinished results begin with it."""
        self.by_key: dict[Key, list[Entry]] = {}
        self.by_target: dict[str, dict[str, set[Key]]] = {}
        """For each target the SHA-256 of what was written there, and what that was made from."""
        make_folder(folder)
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            sentence = f"{self.path} cannot be written ({error.strerror}); choose another place."
            raise AudioFileError(sentence) from None
        if not _lock(self._file.fileno()):
            self._file.close()
            raise AudioFileError(
                f"{self.path} is in use by another rtden; wait until it has finished, or choose "
                "another place with -o."
            )
        self._file.seek(0)
        content = self._file.read()
        for entry in map(_entry, content.splitlines()):
            if entry is not None:
                self._learn(entry)
        # A line that was torn by the end of its run stays alone on its line, and is no entry.
        self._torn = bool(content) and not content.endswith(b"\n")
        self.was_killed = self._torn
        """Whether the last run was killed: then its last lines may be missing."""

    def relative(self, path: str) -> str:
        """Return a path as the manifest writes it."""
        try:
            return Path(os.path.relpath(path, self.folder)).as_posix()
        except ValueError:  # on another drive of Windows
            return Path(path).absolute().as_posix()

    def append(self, entry: Entry) -> None:
        """Write a line.

        Raises
        ------
        AudioFileError
            If it cannot be written.
        """
        line = json.dumps(dataclasses.asdict(entry), allow_nan=False).encode() + b"\n"
        line = b"\n" + line if self._torn else line
        try:
            self._torn = self._file.write(line) != len(line)
            if self._torn:
                raise OSError(None, "no space left")
        except OSError as error:
            raise AudioFileError(
                f"{self.path} could not be written ({error.strerror}); make room on the disk, and "
                "run the same command again."
            ) from None
        self._learn(entry)

    def begin(self, folders: Iterable[Path]) -> None:
        """Begin a run that writes into these folders: remove what a killed one left there."""
        self.was_killed |= self._remove_hidden(folders)
        write_whole(Path(self.run), b"", force=True)

    def close(self, folders: Iterable[Path] = ()) -> None:
        """End the run: remove what is unfinished in these folders, and release the manifest."""
        self._remove_hidden(folders)
        self._file.close()

    def _remove_hidden(self, folders: Iterable[Path]) -> bool:
        """Remove the hidden files of this manifest's runs; return whether there were any."""
        found = False
        for folder in (self.folder, *folders):
            with suppress(OSError):
                for name in os.listdir(folder):
                    if name.startswith(self._prefix):
                        found = True
                        with suppress(OSError):
                            (folder / name).unlink()
        return found

    def _learn(self, entry: Entry) -> None:
        if entry.status == "ok" and entry.target_sha256:
            self.by_key.setdefault(entry.key, []).append(entry)
            written = self.by_target.setdefault(entry.target, {})
            written.setdefault(entry.target_sha256, set()).add(entry.key)


def _entry(line: bytes) -> Entry | None:
    """Return the entry of a line; None if it is torn, or none that this version reads."""
    try:
        content = json.loads(line)
        known = {field.name for field in dataclasses.fields(Entry)}
        entry = Entry(**{name: value for name, value in content.items() if name in known})
        hash((entry.key, entry.target, entry.target_sha256))
    except (ValueError, TypeError, AttributeError):
        return None
    return entry


def _lock(descriptor: int) -> bool:
    """Lock an open file where the system can; return False if another process has."""
    with suppress(ImportError, OSError):
        import fcntl  # not on Windows

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
