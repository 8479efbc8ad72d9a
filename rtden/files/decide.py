"""What there is to do, by content: a job, a part to move, or nothing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rtden.errors import AudioFileError, RtdenError
from rtden.files.atomic import PLACE, check_target, make_folder, write_errors
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.denoise import FileReport
from rtden.files.manifest import Manifest, key_of, sha256_of
from rtden.model import find_model, load_spec


@dataclass(frozen=True)
class Job:
    """A file to be denoised, as a worker gets it."""

    source: str
    target: str
    run: str
    """A file that exists while the run goes on; names of its parts begin with it."""
    model: str
    model_sha256: str
    options: dict[str, Any]
    """More of :func:`rtden.denoise_file`'s."""
    replaces_sha256: str | None = None
    """Of what lies at the target and may be overwritten."""


@dataclass(frozen=True)
class Part:
    """A file that is done but not yet at its place."""

    path: str
    source_sha256: str
    target_sha256: str
    report: FileReport
    replaces_sha256: str | None
    state: Literal["denoised", "copied"] = "denoised"


@dataclass(frozen=True)
class Outcome:
    """What became of a file."""

    source: str
    target: str
    state: Literal["denoised", "copied", "skipped", "failed", "planned"]
    report: FileReport | None = None
    """Of what was denoised or copied."""
    error: str = ""
    """Of what failed, a sentence."""


class Run:
    """The manifests of a run and what they imply."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        folders: Sequence[str],
        asked: Job,
        *,
        force: bool,
    ) -> None:
        self._asked, self._force = asked, force
        plain = {key: value for key, value in asked.options.items() if value is not None}
        self._settings = {**plain.pop("settings").to_dict(), **plain}
        if "raw" in plain:
            self._settings["raw"] = dataclasses.asdict(plain["raw"])
        self._made_by = {
            "model": load_spec(find_model(asked.model)).name,
            "model_sha256": asked.model_sha256,
            "settings": self._settings,
            "rtden": importlib.metadata.version("rtden"),
        }
        self._manifests: dict[str, Manifest] = {}
        self._folders: defaultdict[str, set[Path]] = defaultdict(set)
        self._of_target: dict[str, Manifest] = {}
        tops = [Path(folder) for folder in folders]
        try:
            for _, target in pairs:
                path = Path(target)
                top = next((top for top in tops if path.is_relative_to(top)), path.parent)
                place = os.path.realpath(top)
                if place not in self._manifests:
                    self._manifests[place] = Manifest(top)
                self._of_target[target] = self._manifests[place]
                self._folders[place].add(path.parent)
            for place, manifest in self._manifests.items():
                manifest.begin(self._folders[place])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave nothing unfinished behind."""
        for place, manifest in self._manifests.items():
            manifest.close(self._folders[place])

    def decide(self, pair: tuple[str, str]) -> Job | Part | str | None:
        """Return a Job to run, a Part to move, an error sentence, or None if it is finished."""
        try:
            return self._decide(*pair)
        except RtdenError as error:
            return str(error)
        except OSError as error:
            place = error.filename or pair[0]
            return f"{place} cannot be read ({error.strerror}); check its permissions."

    def _decide(self, source: str, target: str) -> Job | Part | None:
        manifest, path = self._of_target[target], Path(target)
        check_target(path, force=True)
        written = manifest.by_target.get(manifest.relative(target), {})
        present = sha256_of(target) if written and path.exists() else None
        key = None
        if manifest.by_key and os.path.isfile(source):
            sha256 = sha256_of(source)
            key = key_of(sha256, self._asked.model_sha256, self._settings, target)
            if present is not None and key in written.get(present, ()):
                return None
        if present is None:
            check_target(path, force=self._force)
        elif not (self._force or present in written or _is_cut_short(path)):
            raise AudioFileError(
                f"{target} exists already and was changed since rtden wrote it; keep it under "
                "another name, or overwrite it with --force."
            )
        job = dataclasses.replace(
            self._asked, source=source, target=target, run=manifest.run, replaces_sha256=present
        )
        if key is not None and not (path.exists() and path.samefile(source)):
            for line in manifest.by_key.get(key, ()):
                if (part := _copy(line, manifest.folder / line["target"], job)) is not None:
                    return part
        return job

    def settle(self, source: str, target: str, found: Part | str | None) -> Outcome:
        """Write down what became of a file, and move it to its place."""
        if found is None:
            return Outcome(source, target, "skipped")
        manifest = self._of_target[target]
        line = {
            **{"source": manifest.relative(source), "target": manifest.relative(target)},
            **{"status": "failed", "error": None, **self._made_by},
        }
        if isinstance(found, Part):
            try:
                self._move(manifest, line, found, Path(target))
            except AudioFileError as error:
                found = str(error)
            else:
                report = dataclasses.replace(found.report, source=source, target=target)
                return Outcome(source, target, found.state, report)
        manifest.append({**line, "error": found})
        return Outcome(source, target, "failed", error=found)

    def _move(self, manifest: Manifest, line: dict[str, Any], part: Part, target: Path) -> None:
        ours = target.is_file() and sha256_of(target) == part.replaces_sha256
        check_target(target, force=self._force or ours)
        report = part.report
        figures = {
            "seconds": report.seconds,
            "real_time_factor": report.real_time_factor,
            "noise_removed_db": report.noise_removed_db,
        }
        # The line first: what is written down and not there is done again, what is there and not
        # written down would be in the way.
        manifest.append(
            {
                **line,
                "status": "ok",
                "source_sha256": part.source_sha256,
                "target_sha256": part.target_sha256,
                # JSON knows only finite figures.
                **{k: round(v, 6) if math.isfinite(v) else None for k, v in figures.items()},
            }
        )
        with write_errors(target, "cannot be written", PLACE):
            os.replace(part.path, target)


def part_path(run: str, target: str) -> Path:
    """Return where to make a part: a name for this attempt, for an older one may go on."""
    return Path(target).with_name(f"{Path(run).name}-{secrets.token_hex(8)}.part")


def _copy(line: dict[str, Any], finished: Path, job: Job) -> Part | None:
    """Return a part that is a copy of a finished file; None if that is no longer what it was."""
    if not finished.is_file():
        return None
    part = part_path(job.run, job.target)
    make_folder(part.parent)
    with write_errors(job.target, "cannot be written", "make room on the disk."):
        shutil.copyfile(finished, part)
        if sha256_of(part) != line["target_sha256"]:
            part.unlink()
            return None
    noise_db = line.get("noise_removed_db")
    figures = line.get("seconds") or 0.0, 0.0, math.nan if noise_db is None else noise_db
    report = FileReport(job.source, job.target, *figures)
    shas = line["source_sha256"], line["target_sha256"]
    return Part(str(part), *shas, report, job.replaces_sha256, "copied")


def _is_cut_short(path: Path) -> bool:
    """Return whether a file is empty or cut short, as after a loss of power; it is done again."""
    if not path.stat().st_size:
        return True
    with suppress(RtdenError):
        try:
            with open_recording(path) as recording:
                for _ in read_blocks(recording, path):
                    pass
        except AudioFileError as error:
            return "truncated" in str(error) or "damaged" in str(error)
    return False
