"""Many files, on all cores or a cluster, each once.

Workers only make *parts*, hidden files beside the targets. This process alone decides, by content,
what there is to do, moves parts to their places and writes the manifest. So a worker may die, or do
a thing twice, and no file is lost, half-written, or there without its line.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rtden.errors import AudioFileError, InputError, ModelError, RtdenError
from rtden.files.atomic import check_target, make_folder
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.cluster import connect, on_cluster
from rtden.files.denoise import FileReport, denoise_file
from rtden.files.manifest import MANIFEST, Entry, Manifest, key_of, sha256_of
from rtden.files.processes import cores, in_processes
from rtden.model import DEFAULT_MODEL, find_model, list_models, load_spec
from rtden.settings import Settings


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


def denoise_files(
    pairs: Sequence[tuple[str, str]],
    folders: Sequence[str],
    *,
    model: str | Path | None = None,
    force: bool = False,
    jobs: int | None = None,
    dask: str | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Generator[Outcome, None, None]:
    """Denoise many files and yield what became of each, in the order in which they are done.

    What a manifest shows to be finished (the same bytes of source and model, the same settings, and
    a target that still has the bytes that it was given) is skipped; the same under another name is
    copied. What rtden wrote may be overwritten as long as nobody has changed it since.

    Parameters
    ----------
    pairs : sequence of (str, str)
        Sources and targets, as :func:`rtden.files.listing.plan` gives them.
    folders : sequence of str
        Each has the manifest of the targets below it; that of any other target lies beside it.
    force : bool
        Overwrite what is in the way, too, whoever wrote it.
    jobs : int, optional
        Files to work on at a time; the default is one for each core. With 1 the work is done in
        this process; others are started afresh, so that a script must guard its own call by
        ``__name__ == "__main__"``.
    dask : str, optional
        Address of the scheduler of a dask cluster that works in place of this machine. It must
        reach the files and the model under the same paths.
    dry_run : bool
        Only say what would be done.
    **options
        What :func:`rtden.denoise_file` takes besides: settings, full_band, raw, track, loudness.

    Raises
    ------
    AudioFileError
        If a manifest cannot be used, or standard input is among the sources.
    InputError, ModelError, RtdenError
        If the number of jobs, the model or the cluster cannot be used; what is wrong with a file is
        an outcome.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be 1 or more, not {jobs}.")
    if any("-" in pair for pair in pairs):
        raise AudioFileError(
            "pipes, standard input and output cannot be among several files; denoise them alone."
        )
    model = DEFAULT_MODEL if model is None else model
    path = find_model(model)
    # A shipped model by its name: on another machine it may lie elsewhere.
    name = str(model) if model in list_models() else os.path.abspath(path)
    options = {"settings": Settings(), "full_band": True, **options}
    asked = Job("", "", "", name, load_spec(path).sha256, options)
    tops = {*map(Path, folders), *(Path(target).parent for _, target in pairs)}
    if dry_run and not any((top / MANIFEST).exists() for top in tops):
        yield from (Outcome(*pair, "planned") for pair in pairs)
        return
    with ExitStack() as opened:
        # A wrong address is to be known before anything is written.
        client = opened.enter_context(connect(dask)) if dask is not None else None
        run = opened.enter_context(closing(_Run(pairs, folders, asked, force=force)))
        todo: list[Job] = []
        with ThreadPoolExecutor(min(8, cores())) as threads:  # to hash is to wait for the disk
            for pair, found in zip(pairs, threads.map(run.decide, pairs), strict=True):
                if isinstance(found, Job) and not dry_run:
                    todo.append(found)
                elif isinstance(found, (Job, Part)) and dry_run:
                    yield Outcome(*pair, "planned")
                else:
                    yield run.settle(*pair, found)  # type: ignore[arg-type]
        processes = min(cores() if jobs is None else jobs, len(todo))
        with closing(_results(todo, client, processes)) as results:
            for job, part in results:
                yield run.settle(job.source, job.target, part or _died(job))


def _results(
    todo: list[Job], client: Any, processes: int
) -> Generator[tuple[Job, Part | str | None], None, None]:
    if client is not None or processes > 1:
        todo.sort(key=_size, reverse=True)  # a long one begun last would be waited for
    if client is not None:
        asked = {_absolute(job).target: job for job in todo}
        for job, part in on_cluster(client, denoise_part, [_absolute(job) for job in todo]):
            yield asked[job.target], part
    elif processes > 1:
        yield from in_processes(denoise_part, todo, processes)
    else:
        for job in todo:
            yield job, denoise_part(job)


def _absolute(job: Job) -> Job:
    paths = {name: os.path.abspath(getattr(job, name)) for name in ("source", "target", "run")}
    return dataclasses.replace(job, **paths)


def _died(job: Job) -> str:
    return (
        f"{job.source} could not be denoised: its process was killed twice, most likely for "
        "lack of "
        "memory; split the file, or free memory."
    )


class _Run:
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
        self._model = load_spec(find_model(asked.model)).name
        plain = {key: value for key, value in asked.options.items() if value is not None}
        self._settings = {**plain.pop("settings").to_dict(), **plain}
        if "raw" in plain:
            self._settings["raw"] = dataclasses.asdict(plain["raw"])
        self._manifests: dict[str, Manifest] = {}
        self._folders: defaultdict[str, set[Path]] = defaultdict(set)
        self._of_target: dict[str, Manifest] = {}
        self._version = importlib.metadata.version("rtden")
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
        if not self._force:
            if present is None:
                # After a killed run, what is there may be what is to be there: that will be seen.
                check_target(path, force=manifest.was_killed)
            elif present not in written and path.stat().st_size and not _is_cut_short(path):
                raise AudioFileError(
                    f"{target} exists already and was changed since rtden wrote it; keep it under "
                    "another name, or overwrite it with --force."
                )
        job = dataclasses.replace(
            self._asked, source=source, target=target, run=manifest.run, replaces_sha256=present
        )
        if key is not None and not (path.exists() and path.samefile(source)):
            for entry in manifest.by_key.get(key, ()):
                if (part := _copy(entry, manifest.folder / entry.target, job)) is not None:
                    return part
        return job

    def settle(self, source: str, target: str, found: Part | str | None) -> Outcome:
        """Write down what became of a file, and move it to its place."""
        if found is None:
            return Outcome(source, target, "skipped")
        manifest = self._of_target[target]
        entry = Entry(
            source=manifest.relative(source),
            target=manifest.relative(target),
            status="failed",
            model=self._model,
            model_sha256=self._asked.model_sha256,
            settings=self._settings,
            rtden=self._version,
        )
        if isinstance(found, Part):
            try:
                self._move(manifest, entry, found, Path(target))
            except AudioFileError as error:
                found = str(error)
            else:
                report = dataclasses.replace(found.report, source=source, target=target)
                return Outcome(source, target, found.state, report)
        manifest.append(dataclasses.replace(entry, error=found))
        return Outcome(source, target, "failed", error=found)

    def _move(self, manifest: Manifest, entry: Entry, part: Part, target: Path) -> None:
        ours = self._force or (
            target.is_file()
            and (
                sha256_of(target) == part.replaces_sha256
                or (manifest.was_killed and _same_sound(target, Path(part.path)))
            )
        )
        check_target(target, force=ours)
        # The line first: what is written down and not there is done again, what is there and not
        # written down would be in the way.
        manifest.append(
            dataclasses.replace(
                entry,
                status="ok",
                source_sha256=part.source_sha256,
                target_sha256=part.target_sha256,
                seconds=part.report.seconds,
                real_time_factor=_figure(part.report.real_time_factor),
                noise_removed_db=_figure(part.report.noise_removed_db),
            )
        )
        try:
            os.replace(part.path, target)
        except OSError as error:
            sentence = f"{target} cannot be written ({error.strerror}); choose another place."
            raise AudioFileError(sentence) from None


def _part_path(run: str, target: str) -> Path:
    # A name of its own for every attempt: one that was given up may still be written to.
    return Path(target).with_name(f"{Path(run).name}-{secrets.token_hex(8)}.part")


def _copy(entry: Entry, finished: Path, job: Job) -> Part | None:
    """Return a part that is a copy of a finished file; None if that is no longer what it was."""
    if not finished.is_file():
        return None
    part = _part_path(job.run, job.target)
    make_folder(part.parent)
    try:
        shutil.copyfile(finished, part)
        if sha256_of(part) != entry.target_sha256:
            part.unlink()
            return None
    except OSError as error:
        sentence = f"{job.target} cannot be written ({error.strerror}); make room on the disk."
        raise AudioFileError(sentence) from None
    noise_db = math.nan if entry.noise_removed_db is None else entry.noise_removed_db
    report = FileReport(job.source, job.target, entry.seconds or 0.0, 0.0, noise_db)
    shas = str(entry.source_sha256), str(entry.target_sha256)
    return Part(str(part), *shas, report, job.replaces_sha256, "copied")


def _is_cut_short(path: Path) -> bool:
    """Return whether a sound file is cut short, as after a loss of power; it is done again."""
    try:
        with open_recording(path) as recording:
            for _ in read_blocks(recording, path):
                pass
    except AudioFileError as error:
        return "truncated" in str(error) or "damaged" in str(error)
    except RtdenError:
        return False
    return False


def _same_sound(first: Path, second: Path) -> bool:
    """Return whether two files hold the same samples; some containers differ by a random number."""
    try:
        with open_recording(first) as one, open_recording(second) as other:
            if (one.samplerate, one.subtype) != (other.samplerate, other.subtype):
                return False
            blocks = zip_longest(read_blocks(one, first), read_blocks(other, second))
            return all(a is not None and b is not None and np.array_equal(a, b) for a, b in blocks)
    except RtdenError:
        return False


def denoise_part(job: Job) -> Part | str:
    """Denoise a file into a part, or return the sentence that says why not; workers do this."""
    part = _part_path(job.run, job.target)

    def still_wanted(*_: int) -> None:
        if not os.path.exists(job.run):  # a cluster cannot stop its workers in the midst of a task
            raise AudioFileError(f"{job.target} was given up.")

    try:
        if load_spec(find_model(job.model)).sha256 != job.model_sha256:
            raise ModelError(
                f"the model {job.model} of the worker is another one than that of the command; "
                "install the same rtden and models on both."
            )
        before = _state(job.source)
        options = {**job.options, "model": job.model, "progress": still_wanted, "leave_at": part}
        report = denoise_file(job.source, job.target, force=True, **options)
        source_sha256 = sha256_of(job.source)
        try:
            still_wanted()
            if _state(job.source) != before:
                raise AudioFileError(
                    f"{job.source} was changed while it was read; denoise it when it is finished."
                )
        except AudioFileError:
            part.unlink(missing_ok=True)
            raise
        return Part(str(part), source_sha256, sha256_of(part), report, job.replaces_sha256)
    except RtdenError as error:
        return str(error)
    except Exception as error:  # whatever is wrong with one file, the others are to be done
        return f"{job.source} could not be denoised ({type(error).__name__}: {error})."


def _state(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _size(job: Job) -> int:
    return (_state(job.source) or (0, 0))[0]


def _figure(value: float) -> float | None:
    """Return a figure for JSON, which knows only finite ones."""
    return round(value, 6) if math.isfinite(value) else None
