"""Many files, on all cores or a cluster, each once.

Workers only make *parts*, hidden files beside the targets. This process alone decides, by content,
what there is to do, moves parts to their places and writes the manifest. So a worker may die, or do
a thing twice, and no file is lost, half-written, or there without its line.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from rtden.errors import AudioFileError, InputError, ModelError, RtdenError
from rtden.files.audio_file import open_recording
from rtden.files.denoise import denoise_file
from rtden.files.listing import MANIFEST
from rtden.files.manifest import Job, Manifest, Outcome, Part, sha256_of
from rtden.files.processes import connect, cores, in_processes, on_cluster
from rtden.model import DEFAULT_MODEL, find_model, list_models, load_spec
from rtden.settings import Settings

DIED = (
    "{} could not be denoised: its process died twice, for lack of memory or of damage in the "
    "file; free memory, or copy or convert the file."
)


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
    a target that still has the bytes that it was given) is skipped. What rtden wrote may be
    overwritten as long as nobody has changed it since.

    Parameters
    ----------
    pairs, folders : sequences
        Sources and targets (:func:`rtden.files.listing.plan`), and folders that each have the
        manifest of the targets below it; that of any other target lies beside it.
    jobs : int, optional
        Files at a time; the default is one for each core. With 1 the work is done in this process,
        which a decoder that crashes ends; others are started afresh: a script guards its call by
        ``__name__ == "__main__"``.
    dask : str, optional
        Address of a dask scheduler whose workers reach files and model under the same paths.
    **options
        What :func:`rtden.denoise_file` takes besides: settings, full_band, raw, track, loudness.

    Raises
    ------
    RtdenError
        If a manifest, the number of jobs, the model or the cluster cannot be used; what is wrong
        with a file is an outcome.
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
        yield from (_planned(*pair, options) for pair in pairs)
        return
    with ExitStack() as opened:
        # A wrong address is to be known before anything is written.
        client = opened.enter_context(connect(dask)) if dask is not None else None
        manifests = _manifests(pairs, folders, asked, force, opened)
        todo: list[Job] = []
        with ThreadPoolExecutor(min(8, cores())) as threads:  # to hash is to wait for the disk
            decided = threads.map(lambda pair: manifests[pair[1]].decide(*pair), pairs)
            for pair, found in zip(pairs, decided, strict=True):
                if dry_run and isinstance(found, Job):
                    yield _planned(*pair, options)
                elif isinstance(found, Job):
                    todo.append(found)
                else:
                    yield manifests[pair[1]].settle(*pair, found)
        with closing(_results(todo, client, jobs)) as results:
            for job, part in results:
                yield manifests[job.target].settle(
                    job.source, job.target, part or DIED.format(job.source)
                )


def _planned(source: str, target: str, options: dict[str, Any]) -> Outcome:
    """Return what would become of a file, as far as its beginning shows."""
    try:
        with open_recording(Path(source), options.get("raw"), track=options.get("track")):
            return Outcome(source, target, "planned")
    except RtdenError as error:
        return Outcome(source, target, "failed", error=str(error))


def _manifests(
    pairs: Sequence[tuple[str, str]],
    folders: Sequence[str],
    asked: Job,
    force: bool,
    opened: ExitStack,
) -> dict[str, Manifest]:
    """Open the manifests of all targets; return them by target."""
    tops, by_place = [Path(folder) for folder in folders], dict[str, Manifest]()
    by_target = {}
    for _, target in pairs:
        parent = Path(target).parent
        top = next((top for top in tops if parent.is_relative_to(top)), parent)
        place = os.path.realpath(top)
        if place not in by_place:
            by_place[place] = Manifest(top, asked, force=force)
            opened.callback(by_place[place].close)
        by_target[target] = by_place[place]
        by_target[target].folders.add(parent)
    for manifest in by_place.values():
        manifest.begin()
    return by_target


def _results(
    todo: list[Job], client: Any, jobs: int | None
) -> Generator[tuple[Job, Part | str | None], None, None]:
    if client is None and jobs == 1:
        yield from ((job, denoise_part(job)) for job in todo)
        return
    # A long one begun last would be waited for.
    todo.sort(key=lambda job: _state(job.source) or (0, 0), reverse=True)
    if client is None:
        yield from in_processes(denoise_part, todo, jobs or cores())
        return
    asked = {os.path.abspath(job.target): job for job in todo}
    places = ("source", "target", "run")
    absolute = [
        dataclasses.replace(job, **{name: os.path.abspath(getattr(job, name)) for name in places})
        for job in todo
    ]
    for job, part in on_cluster(client, denoise_part, absolute):
        yield asked[job.target], part


def denoise_part(job: Job) -> Part | str:
    """Denoise a file into a part, or return the sentence that says why not; workers do this."""
    # A name for this attempt: an older one may go on.
    part = Path(job.target).with_name(f"{Path(job.run).name}-{secrets.token_hex(8)}.part")

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
        shas = sha256_of(job.source), sha256_of(part)
        still_wanted()
        if _state(job.source) != before:
            raise AudioFileError(
                f"{job.source} was changed while it was read; denoise it when it is finished."
            )
        return Part(str(part), *shas, report)
    except Exception as error:  # whatever is wrong with one file, the others are to be done
        with suppress(OSError):
            part.unlink()
        if isinstance(error, RtdenError):
            return str(error)
        return f"{job.source} could not be denoised ({type(error).__name__}: {error})."


def _state(path: str) -> tuple[int, int] | None:
    """Return size and time of a file, None if there is none."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns
    return None
