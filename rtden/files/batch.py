"""Many recordings: on all cores or a cluster, each once.

A run is planned (:func:`rtden.files.audio_file.plan`), worked and written down. Workers only make *parts*, hidden files beside the
targets. This process alone decides, by content, what there is to do, moves parts to where they belong and writes the
manifest: so a worker may die, or do a thing twice, and no recording is lost, half-written or there without its line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import secrets
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from rtden.errors import AudioFileError, InputError, MissingPackageError, ModelError, RtdenError
from rtden.files.audio_file import (
    FileReport,
    check_target,
    denoise_file,
    make_folder,
    open_recording,
    read_blocks,
    recording_stream,
    write_whole,
)
from rtden.files.processes import cores, in_processes
from rtden.model import DEFAULT_MODEL, find_model, list_models, load_spec
from rtden.settings import Settings
from rtden.stream import StreamDenoiser

MANIFEST = "rtden-manifest.jsonl"
STREAMS_KEPT = 4
"""Streams that a worker keeps for the next recording: few folders hold more rates and numbers of channels."""
CONNECT_SECONDS = 5.0
WORKERS_SECONDS = 60.0
"""A cluster may start its workers when it is asked for work, but not for ever."""
ATTEMPTS_AGAIN = 2
"""How often a cluster tries a task again that failed otherwise than with a sentence."""

Key = tuple[str, str, str, str]
"""What makes a result: the SHA-256 of its source and of the model, the settings as JSON, and the suffix that chose the container."""


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
        return _key(str(self.source_sha256), self.model_sha256, self.settings, self.target)


def _key(source_sha256: str, model_sha256: str, settings: dict[str, Any], target: str) -> Key:
    return (
        source_sha256,
        model_sha256,
        json.dumps(settings, sort_keys=True),
        Path(target).suffix.lower(),
    )


class Manifest:
    """The file that says what was done, one JSON object a line; its lines are only ever added to.

    While it is open nobody else can open it, where the system has locks.

    Raises
    ------
    AudioFileError
        If it cannot be read or written, or another run has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / MANIFEST
        self._prefix = (
            f".rtden-{hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:12]}-"
        )
        self.run = str(folder / f"{self._prefix}{secrets.token_hex(4)}")
        """A file that is there as long as the manifest is open; the names of the run's parts begin as its own."""
        self.by_key: dict[Key, list[Entry]] = {}
        self.by_target: dict[str, dict[str, set[Key]]] = {}
        """Of each target what was written there: the SHA-256 of its bytes and what they were made from."""
        make_folder(folder)
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise AudioFileError(
                f"{self.path} cannot be written ({error.strerror}); choose another place with -o."
            ) from None
        if not _lock(self._file.fileno()):
            self._file.close()
            raise AudioFileError(
                f"{self.path} is in use by another rtden; wait until it has finished, or choose another place with -o."
            )
        self._file.seek(0)
        content = self._file.read()
        for line in content.splitlines():
            entry = _entry(line)
            if entry is not None:
                self._learn(entry)
        # A line that was torn by the end of its run stays alone on its line, and is no entry.
        self._torn = bool(content) and not content.endswith(b"\n")
        self.was_killed = self._torn
        """Whether the last run had no time to end: then its last lines may be missing."""

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
        try:
            whole = self._file.write(b"\n" + line if self._torn else line) == len(line) + self._torn
            self._torn = not whole
            if not whole:
                raise OSError(None, "no space left")
        except OSError as error:
            raise AudioFileError(
                f"{self.path} could not be written ({error.strerror}); make room on the disk, and run the same command again."
            ) from None
        self._learn(entry)

    def begin(self, folders: Iterable[Path]) -> None:
        """Begin a run that writes into these folders: remove what is left there of one that was killed."""
        self.was_killed |= self._remove_hidden(folders)
        write_whole(Path(self.run), b"", force=True)

    def close(self, folders: Iterable[Path] = ()) -> None:
        """End the run: remove what is unfinished in these folders, and let others open the manifest."""
        self._remove_hidden(folders)
        self._file.close()

    def _remove_hidden(self, folders: Iterable[Path]) -> bool:
        """Remove the hidden files that belong to this manifest, and return whether there were any; as long as it is open, nobody else makes such."""
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
            self.by_target.setdefault(entry.target, {}).setdefault(entry.target_sha256, set()).add(
                entry.key
            )


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
    """Lock an open file, as far as the system and the file system can; return False if another process has."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@dataclass(frozen=True)
class Job:
    """A recording to be denoised, as a worker gets it."""

    source: str
    target: str
    run: str
    """A file that is there as long as the run goes on; the names of its parts begin as this one's."""
    model: str
    model_sha256: str
    settings: Settings
    full_band: bool
    replaces_sha256: str | None = None
    """Of what lies at the target and may be overwritten."""


@dataclass(frozen=True)
class Part:
    """A recording that is done but not yet at its place."""

    path: str
    source_sha256: str
    target_sha256: str
    report: FileReport
    replaces_sha256: str | None
    state: Literal["denoised", "copied"] = "denoised"


@dataclass(frozen=True)
class Outcome:
    """What became of a recording."""

    source: str
    target: str
    state: Literal["denoised", "copied", "skipped", "failed"]
    report: FileReport | None = None
    """Of what was denoised or copied."""
    error: str = ""
    """Of what failed, a sentence."""


def denoise_files(
    pairs: Sequence[tuple[str, str]],
    folders: Sequence[str],
    *,
    model: str | Path | None = None,
    settings: Settings | None = None,
    full_band: bool = True,
    force: bool = False,
    jobs: int | None = None,
    dask: str | None = None,
) -> Generator[Outcome, None, None]:
    """Denoise many recordings and yield what became of each, in the order in which they are done.

    What a manifest shows to be finished (the same bytes of source and model, the same settings, and a target that still has
    the bytes that it was given) is skipped; the same under another name is copied. What rtden wrote may be overwritten as
    long as nobody has changed it since.

    Parameters
    ----------
    pairs : sequence of (str, str)
        Sources and targets, as :func:`rtden.files.audio_file.plan` gives them.
    folders : sequence of str
        Each has the manifest of the targets below it; that of any other target lies in the target's own folder.
    force : bool
        Overwrite what is in the way, too, whoever wrote it.
    jobs : int, optional
        Recordings to work on at a time; the default is one for each core. With 1 the work is done in this process; others
        are started afresh, so that a script must guard its own call by ``__name__ == "__main__"``.
    dask : str, optional
        Address of the scheduler of a dask cluster that works in place of this machine. It must reach the recordings and the
        model under the same paths.

    Raises
    ------
    AudioFileError
        If a manifest cannot be used, or standard input is among the sources.
    InputError, ModelError, RtdenError
        If the number of jobs, the model or the cluster cannot be used; what is wrong with a recording is an outcome.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be 1 or more, not {jobs}.")
    if any("-" in pair for pair in pairs):
        raise AudioFileError(
            "standard input and output cannot be among several recordings; denoise them by themselves."
        )
    model = DEFAULT_MODEL if model is None else model
    path = find_model(model)
    spec = load_spec(path)
    settings = Settings() if settings is None else settings
    # A shipped model by its name: on another machine it may lie elsewhere.
    asked = Job(
        "",
        "",
        "",
        str(model) if model in list_models() else os.path.abspath(path),
        spec.sha256,
        settings,
        full_band,
    )
    with ExitStack() as opened:
        cluster = (
            None if dask is None else opened.enter_context(_cluster(dask))
        )  # a wrong address is to be known before anything is written
        run = opened.enter_context(closing(_Run(pairs, folders, spec.name, asked, force=force)))
        todo: list[Job] = []
        with closing(_side_by_side(run.decide, pairs)) as decided:
            for (source, target), found in decided:
                if isinstance(found, Job):
                    todo.append(found)
                else:
                    yield run.settle(source, target, found)
        processes = min(cores() if jobs is None else jobs, len(todo))
        results: Generator[tuple[Job, Part | str | None], None, None]
        if cluster is not None or processes > 1:
            todo.sort(key=_size, reverse=True)  # a long one begun last would be waited for
        if cluster is not None:
            results = _on_cluster(cluster, todo)
        elif processes > 1:
            results = in_processes(denoise_part, todo, processes)
        else:
            results = ((job, denoise_part(job)) for job in todo)
        with closing(results):
            for job, part in results:
                yield run.settle(job.source, job.target, part or _died(job))


def _died(job: Job) -> str:
    return f"{job.source} could not be denoised: its process was killed twice, most likely for lack of memory; split the recording, or free memory."


class _Run:
    """The manifests of a run and what they imply."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        folders: Sequence[str],
        model: str,
        asked: Job,
        *,
        force: bool,
    ) -> None:
        self._asked, self._model, self._force = asked, model, force
        self._settings = {**asked.settings.to_dict(), "full_band": asked.full_band}
        self._manifests: dict[str, Manifest] = {}
        self._folders: defaultdict[str, set[Path]] = defaultdict(
            set
        )  # of the targets of each manifest
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
        """Return what is to be done, or that it is: the part to be moved, why it cannot be done, or None for what is finished."""
        try:
            return self._decide(*pair)
        except RtdenError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or pair[0]} cannot be read ({error.strerror}); check its permissions."

    def _decide(self, source: str, target: str) -> Job | Part | None:
        manifest, path = self._of_target[target], Path(target)
        check_target(path, force=True)
        written = manifest.by_target.get(manifest.relative(target), {})
        present = sha256_of(target) if written and path.exists() else None
        key = None
        if manifest.by_key and os.path.isfile(source):
            key = _key(sha256_of(source), self._asked.model_sha256, self._settings, target)
            if present is not None and key in written.get(present, ()):
                return None
        if not self._force:
            if present is None:
                check_target(
                    path, force=manifest.was_killed
                )  # what is there may be what is to be there: that will be seen
            elif present not in written and not _is_cut_short(path):
                raise AudioFileError(
                    f"{target} exists already and was changed since rtden wrote it; keep it under another name, or overwrite it with --force."
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
        """Write down what became of a recording, and move it to its place."""
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
        # First the line: what is written down and not there is done again, what is there and not written down would be in the way.
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
            raise AudioFileError(
                f"{target} cannot be written ({error.strerror}); choose another place."
            ) from None


def _part_path(run: str, target: str) -> Path:
    # A name of its own for every attempt: one that was given up may still be written to.
    return Path(target).with_name(f"{Path(run).name}-{secrets.token_hex(8)}.part")


def _copy(entry: Entry, finished: Path, job: Job) -> Part | None:
    """Return a part that is a copy of a finished recording; None if that is no longer what it was."""
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
        raise AudioFileError(
            f"{job.target} cannot be written ({error.strerror}); make room on the disk or choose another place."
        ) from None
    noise_removed_db = math.nan if entry.noise_removed_db is None else entry.noise_removed_db
    report = FileReport(job.source, job.target, entry.seconds or 0.0, 0.0, noise_removed_db)
    return Part(
        str(part),
        str(entry.source_sha256),
        str(entry.target_sha256),
        report,
        job.replaces_sha256,
        "copied",
    )


def _is_cut_short(path: Path) -> bool:
    """Return whether a file is empty, or a recording that is not whole: what a machine leaves that loses its power, and nobody's work."""
    if not path.stat().st_size:
        return True
    try:
        soundfile.info(os.fsencode(path))
    except soundfile.LibsndfileError:
        return False
    try:
        with open_recording(path) as recording:
            for _ in read_blocks(recording, path):
                pass
    except AudioFileError:
        return True
    return False


def _same_sound(first: Path, second: Path) -> bool:
    """Return whether two files hold the same samples; their bytes may differ, for some containers hold a random number or the time."""
    try:
        with open_recording(first) as one, open_recording(second) as other:
            if (one.samplerate, one.channels, one.subtype) != (
                other.samplerate,
                other.channels,
                other.subtype,
            ):
                return False
            blocks = zip_longest(read_blocks(one, first), read_blocks(other, second))
            return all(a is not None and b is not None and np.array_equal(a, b) for a, b in blocks)
    except AudioFileError:
        return False


def denoise_part(job: Job) -> Part | str:
    """Denoise a recording into a part, or return the sentence that says why not; this is what workers do."""
    part = _part_path(job.run, job.target)

    def still_wanted(*_: int) -> None:
        if not os.path.exists(job.run):  # a cluster cannot stop its workers in the midst of a task
            raise AudioFileError(f"{job.target} was given up.")

    def stream(rate_hz: int, channels: int) -> StreamDenoiser:
        return _stream(job, rate_hz, channels)

    try:
        before = _state(job.source)
        report = denoise_file(
            job.source, job.target, force=True, progress=still_wanted, streams=stream, leave_at=part
        )
        source_sha256 = sha256_of(job.source)
        try:
            still_wanted()
            if _state(job.source) != before:
                raise AudioFileError(
                    f"{job.source} was changed while it was read; denoise it again when it is finished."
                )
        except AudioFileError:
            part.unlink(missing_ok=True)
            raise
        return Part(str(part), source_sha256, sha256_of(part), report, job.replaces_sha256)
    except RtdenError as error:
        return str(error)
    except Exception as error:  # whatever is wrong with one recording, the others are to be done
        return f"{job.source} could not be denoised ({type(error).__name__}: {error}); the others are not touched by it."


_kept = (
    threading.local()
)  # a worker of a cluster may have several threads, and a stream serves one at a time


def _stream(job: Job, rate_hz: int, channels: int) -> StreamDenoiser:
    """Return a stream at its beginning: one that served before, for to load a model takes longer than many a recording."""
    streams: dict[Any, StreamDenoiser] = _kept.__dict__.setdefault("streams", {})
    wanted = (job.model, job.model_sha256, job.settings, job.full_band, rate_hz, channels)
    if wanted not in streams:
        stream = recording_stream(
            job.model, job.settings, rate_hz, channels, full_band=job.full_band
        )
        if stream.denoisers[0].spec.sha256 != job.model_sha256:
            raise ModelError(
                f"the model {job.model} of the worker is another one than that of the command; install the same rtden and models on both."
            )
        while len(streams) >= STREAMS_KEPT:
            del streams[next(iter(streams))]
        streams[wanted] = stream
    streams[wanted].reset()  # the last recording may have ended in its midst
    return streams[wanted]


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file of any length."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


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


def _side_by_side(
    decide: Callable[[tuple[str, str]], Job | Part | str | None], pairs: Sequence[tuple[str, str]]
) -> Generator[tuple[tuple[str, str], Job | Part | str | None], None, None]:
    """Yield pairs with what is decided about them; several at a time, for to hash is to wait for the disk."""
    pool = ThreadPoolExecutor(min(8, cores()))
    try:
        yield from zip(pairs, pool.map(decide, pairs), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Connect to a dask cluster.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    RtdenError
        If no scheduler answers at that address.
    """
    try:
        import distributed
    except ImportError:
        raise MissingPackageError(
            "the package distributed, which reaches a dask cluster, is not installed: run 'pip install rtden[dask]'."
        ) from None
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)  # what matters is said in sentences
        # A client that could not connect would wait for itself when it is deleted, and complain.
        connect = type("Client", (distributed.Client,), {"__del__": lambda _: None})
        try:
            client = connect(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # what answers there may be anything
            reason = (
                str(error).strip().splitlines()[0]
                if isinstance(error, (OSError, ValueError)) and str(error).strip()
                else "what answers is none"
            )
            raise RtdenError(
                f"no dask scheduler answers at {address} ({reason}); start one with 'dask scheduler', or check the address."
            ) from None
        with client:
            yield client
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _on_cluster(
    client: Any, jobs: Sequence[Job]
) -> Generator[tuple[Job, Part | str | None], None, None]:
    """Yield jobs with their results from a dask cluster, in the order in which they are done.

    What a worker was doing when it was lost, the cluster does again elsewhere. A job that lost one worker after another is
    done once more after all others, alone, for it may have lost them by what was beside it; if it loses them again, the result is None.
    """
    lost: list[Job] = []
    for job, result in _as_completed(client, jobs):
        if result is None:
            lost.append(job)
        else:
            yield job, result
    for job in lost:
        yield from _as_completed(client, [job])


def _as_completed(
    client: Any, jobs: Sequence[Job]
) -> Generator[tuple[Job, Part | str | None], None, None]:
    import distributed

    if not jobs:
        return
    elsewhere = [
        dataclasses.replace(
            job,
            source=os.path.abspath(job.source),
            target=os.path.abspath(job.target),
            run=os.path.abspath(job.run),
        )
        for job in jobs
    ]
    futures = client.map(denoise_part, elsewhere, pure=False, retries=ATTEMPTS_AGAIN, key="rtden")
    try:
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except distributed.TimeoutError:
            raise RtdenError(
                f"the dask cluster has had no worker for {WORKERS_SECONDS:.0f} s; start some with 'dask worker ADDRESS'."
            ) from None
        job_of = {future.key: job for future, job in zip(futures, jobs, strict=True)}
        for future in distributed.as_completed(futures, loop=client.loop):
            job = job_of[future.key]
            if future.status == "finished":
                yield job, future.result()
            elif future.status != "error":
                raise RtdenError(
                    "the connection to the dask cluster was lost; the same command goes on with what is not yet finished."
                )
            elif isinstance(error := future.exception(), distributed.KilledWorker):
                yield job, None
            else:
                yield (
                    job,
                    f"{job.source} could not be denoised by the cluster ({type(error).__name__}: {error}); install the same rtden on it.",
                )
            future.release()  # the cluster need not remember it
    finally:
        with suppress(Exception):
            client.cancel(futures, force=True)
