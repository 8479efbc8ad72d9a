"""What was done to many files, one JSON object a line: what is finished is known by its content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rtden.errors import AudioFileError, DamagedFileError, RtdenError
from rtden.files.atomic import PLACE, check_target, make_folder, write_errors, write_whole
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.denoise import FileReport
from rtden.files.listing import MANIFEST, entries
from rtden.model import find_model, load_spec
from rtden.plain import for_json


@dataclass(frozen=True)
class Job:
    """A file to be denoised, as a worker gets it."""

    source: str
    target: str
    run: str  # a file that exists while the run goes on; names of its parts begin with it
    model: str
    model_sha256: str
    options: dict[str, Any]  # more of denoise_file's


@dataclass(frozen=True)
class Part:
    """A file that is done but not yet at its place."""

    path: str
    source_sha256: str
    target_sha256: str
    report: FileReport


@dataclass(frozen=True)
class Outcome:
    """What became of a file."""

    source: str
    target: str
    state: Literal["denoised", "skipped", "failed", "planned"]
    report: FileReport | None = None  # of what was denoised
    error: str = ""  # of what failed, a sentence


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file of any length."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Manifest:
    """A manifest that is open; where the system has locks, nobody else can open it meanwhile.

    Lines are only ever added. `asked` is the wish, without a file.
    """

    def __init__(self, folder: Path, asked: Job, *, force: bool = False) -> None:
        self.folder, self.path = folder, folder / MANIFEST
        self._asked, self._force = asked, force
        options = {key: value for key, value in asked.options.items() if value is not None}
        if "raw" in options:
            options["raw"] = dataclasses.asdict(options["raw"])
        self._settings = options.pop("settings").to_dict() | options
        place = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:12]
        self._prefix = f".rtden-{place}-"
        self.run = str(folder / f"{self._prefix}{secrets.token_hex(4)}")
        """A file that exists during the run; names of its unfinished results begin with it."""
        self.folders = {folder}  # that get results
        self._present: dict[str, str | None] = {}
        """For each target the SHA-256 of what lay there and may be overwritten."""
        self._written = defaultdict[str, set[tuple[str, str]]](set)
        """For each target the SHA-256 of what was written there, with what that was made from."""
        self._is_new_folder = not folder.exists()
        make_folder(folder)
        with write_errors(self.path, "cannot be written", PLACE):
            self._file = self.path.open("a+b", buffering=0)
        # Another run may have removed the file before it was locked here.
        if not (_lock(self._file.fileno()) and os.fstat(self._file.fileno()).st_nlink):
            self._file.close()
            raise AudioFileError(
                f"{self.path} is in use by another rtden; wait until it has finished, or choose "
                "another place with -o."
            )
        self._file.seek(0)
        content = self._file.read()
        for line in entries(content):
            with suppress(KeyError):  # of another version
                self._learn(line)
        # A line that was torn by the end of its run stays alone on its line, and is no entry.
        self._torn = bool(content) and not content.endswith(b"\n")

    def begin(self) -> None:
        """Begin a run that writes into `folders`: remove what a killed one left there."""
        self._remove_hidden()
        write_whole(Path(self.run), b"", force=True)

    def close(self) -> None:
        """End the run: remove what is unfinished and an empty manifest; release another."""
        self._remove_hidden()
        with suppress(OSError):
            if not os.fstat(self._file.fileno()).st_size:
                self.path.unlink()
            if self._is_new_folder:
                self.folder.rmdir()  # if it is empty
        self._file.close()

    def decide(self, source: str, target: str) -> Job | str | None:
        """Return a Job to run, an error sentence, or None if it is finished."""
        try:
            return self._decide(source, target)
        except RtdenError as error:
            return str(error)
        except OSError as error:
            place = error.filename or source
            return f"{place} cannot be read ({error.strerror}); check its permissions."

    def settle(self, source: str, target: str, found: Part | str | None) -> Outcome:
        """Write down what became of a file, and move it to its place."""
        from importlib.metadata import version  # slow

        if found is None:
            return Outcome(source, target, "skipped")
        line = {
            **{"source": self._relative(source), "target": self._relative(target)},
            **{"status": "failed", "error": None},
            **{"model": load_spec(find_model(self._asked.model)).name, "rtden": version("rtden")},
            **{"model_sha256": self._asked.model_sha256, "settings": self._settings},
        }
        if isinstance(found, Part):
            try:
                self._move(line, found, target)
            except AudioFileError as error:
                found = str(error)
            else:
                report = dataclasses.replace(found.report, source=source, target=target)
                return Outcome(source, target, "denoised", report)
        if os.path.lexists(source):
            self._append({**line, "error": found})
        return Outcome(source, target, "failed", error=found)

    def _decide(self, source: str, target: str) -> Job | None:
        path = Path(target)
        check_target(path, force=True)
        written = self._written[self._relative(target)]
        present = sha256_of(target) if written and path.exists() else None
        is_ours = any(sha256 == present for sha256, _ in written)
        if is_ours and os.path.isfile(source):
            wish = _wish(sha256_of(source), self._asked.model_sha256, self._settings)
            if (present, wish) in written:
                return None
        if present is None:
            check_target(path, force=self._force)
        elif not (self._force or is_ours or _is_cut_short(path)):
            raise AudioFileError(
                f"{target} exists already and was changed since rtden wrote it; keep it under "
                "another name, or overwrite it with --force."
            )
        self._present[target] = present
        return dataclasses.replace(self._asked, source=source, target=target, run=self.run)

    def _move(self, line: dict[str, Any], part: Part, target: str) -> None:
        ours = os.path.isfile(target) and sha256_of(target) == self._present[target]
        check_target(Path(target), force=self._force or ours)
        shas = {"source_sha256": part.source_sha256, "target_sha256": part.target_sha256}
        names = ("seconds", "real_time_factor", "noise_removed_db")
        figures = for_json({name: getattr(part.report, name) for name in names})
        # The line first: what is written down and not there is done again, what is there and not
        # written down would be in the way.
        self._append({**line, "status": "ok", **shas, **figures})
        with write_errors(target, "cannot be written", PLACE):
            os.replace(part.path, target)

    def _append(self, line: dict[str, Any]) -> None:
        """Write a line to the disk itself."""
        content = json.dumps(line, allow_nan=False).encode() + b"\n"
        content = b"\n" + content if self._torn else content
        again = "make room on the disk, and run the same command again."
        with write_errors(self.path, "could not be written", again):
            self._torn = self._file.write(content) != len(content)
            if self._torn:
                raise OSError(None, "no space left")
            with suppress(OSError):
                os.fsync(self._file.fileno())
        if line["status"] == "ok":
            self._learn(line)

    def _learn(self, line: dict[str, Any]) -> None:
        wish = _wish(*(line[key] for key in ("source_sha256", "model_sha256", "settings")))
        self._written[line["target"]].add((str(line["target_sha256"]), wish))

    def _relative(self, path: str) -> str:
        try:
            return Path(os.path.relpath(path, self.folder)).as_posix()
        except ValueError:  # on another drive of Windows
            return Path(path).absolute().as_posix()

    def _remove_hidden(self) -> None:
        for folder in self.folders:
            for path in folder.glob(f"{self._prefix}*"):
                with suppress(OSError):
                    path.unlink()


def _wish(source_sha256: str, model_sha256: str, settings: dict[str, Any]) -> str:
    """Return what a result is made from."""
    return json.dumps([source_sha256, model_sha256, settings], sort_keys=True)


def _is_cut_short(path: Path) -> bool:
    """Return whether a file is empty or cut short, as after a loss of power; it is done again."""
    if not path.stat().st_size:
        return True
    with suppress(RtdenError):
        try:
            with open_recording(path) as recording:
                for _ in read_blocks(recording):
                    pass
        except DamagedFileError:
            return True
    return False


def _lock(descriptor: int) -> bool:
    """Lock an open file where the system can; return False if another process has."""
    with suppress(ImportError, OSError):
        import fcntl  # not on Windows

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
