"""Recordings that the page is given: a temporary folder, a queue, and a process that works."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtden.errors import InputError, RtdenError

MOST_FILES = 50
FOLDER_PREFIX = "rtden-ui-"
PROGRESS_SECONDS = 0.2
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class TooMuchError(InputError):
    """A request is beyond a limit."""


@dataclass
class Job:
    """A recording and what has become of it. `name` is only shown; paths are made from `id`."""

    id: str
    name: str
    folder: Path
    bytes: int = 0
    state: str = "uploading"
    """Then "waiting", "working", "ready" or "failed"."""
    progress: float = 0.0
    error: str | None = None
    seconds: float | None = None
    noise_removed_db: float | None = None

    @property
    def suffix(self) -> str:
        """The suffix of the upload's name, or nothing if it is none of the usual kind."""
        suffix = Path(self.name).suffix
        return suffix if _SUFFIX.fullmatch(suffix) else ""

    @property
    def source(self) -> Path:
        """The upload."""
        return self.folder / f"source{self.suffix}"

    @property
    def result(self) -> Path:
        """The denoised recording in the format of the upload."""
        return self.folder / f"result{self.suffix}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a visitor may know, for JSON."""
        shown = ("id", "name", "bytes", "state", "progress", "error", "seconds", "noise_removed_db")
        return {name: getattr(self, name) for name in shown}


class Jobs:
    """The queue of recordings; its folder is removed by :meth:`close`. Any thread may call."""

    def __init__(self, *, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        _remove_leftovers()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self._jobs: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._child: _Child | None = None
        self._thread = threading.Thread(target=self._run, name="rtden recordings", daemon=True)
        self._thread.start()

    def list(self) -> list[Job]:
        """Return all recordings, oldest first."""
        with self._changed:
            return [*self._jobs.values()]

    def get(self, job_id: str) -> Job | None:
        """Return a recording, or None if there is none of that id."""
        return self._jobs.get(job_id)

    async def add(self, name: str, blocks: AsyncIterator[bytes], announced: int) -> Job:
        """Store an upload of so many bytes, as it says, and queue it.

        Raises
        ------
        TooMuchError
            If it is larger than allowed, or there are too many.
        InputError
            If it is empty, or the disk is full.
        """
        job = self._register(shown_name(name), announced)
        try:
            with job.source.open("wb") as file:
                async for block in blocks:
                    job.bytes += len(block)
                    self._check_size(job.bytes)
                    file.write(block)
            if not job.bytes:
                raise InputError("the upload is empty; choose a recording.")
        except BaseException as error:  # a visitor who leaves, too
            self.remove(job)
            if not isinstance(error, OSError):
                raise
            raise InputError(f"the upload cannot be stored ({error.strerror}).") from None
        with self._changed:
            job.state = "waiting"
            self._changed.notify_all()
        return job

    def _register(self, name: str, announced: int) -> Job:
        self._check_size(announced)
        with self._changed:
            if len(self._jobs) >= MOST_FILES:
                raise TooMuchError(f"there are {MOST_FILES} recordings already; remove some first.")
            job_id = secrets.token_hex(8)
            self._jobs[job_id] = job = Job(job_id, name, self._folder / job_id)
            job.folder.mkdir()
            return job

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            raise TooMuchError(
                f"a recording may have up to {self.most_bytes / 1e6:.0f} MB here; "
                "'rtden file' takes larger ones."
            )

    def remove(self, job: Job) -> None:
        """Forget a recording and its files."""
        with self._changed:
            self._jobs.pop(job.id, None)
            if job.state == "working" and self._child is not None:
                self._child.kill()
        shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Forget all recordings, end the work and remove the folder."""
        with self._changed:
            self._closed = True
            if self._child is not None:
                self._child.kill()
            self._changed.notify_all()
        self._thread.join(5)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        while (found := self._next()) is not None:
            job, child = found
            try:
                for share in child.work(job):
                    job.progress = share
                job.state = "ready"
            except RtdenError as error:
                told = str(error).replace(str(job.source), job.name)
                job.error, job.state = told.replace(job.source.name, job.name), "failed"
            except (EOFError, OSError):
                self._child = None
                job.error = "the program that reads recordings ended; this one may be damaged."
                job.state = "failed"

    def _next(self) -> tuple[Job, _Child] | None:
        """Return the next recording, with a child to work on it, or None at the end."""
        with self._changed:
            while not self._closed:
                for job in self._jobs.values():
                    if job.state == "waiting":
                        job.state = "working"
                        self._child = self._child or _Child()
                        return job, self._child
                if self._child is not None:  # its memory is given back between queues
                    self._child.kill()
                    self._child = None
                self._changed.wait()
        return None


class _Child:
    """A process that cleans one recording after another."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def work(self, job: Job) -> Iterator[float]:
        """Clean a recording; yield the share that is done, and note in the job what came of it.

        Raises
        ------
        RtdenError
            If the recording cannot be read.
        EOFError, OSError
            If the process has ended.
        """
        self._pipe.send((job.source, job.result))
        while isinstance(said := self._pipe.recv(), float):
            yield said
        if isinstance(said, str):
            raise RtdenError(said)
        job.seconds, job.noise_removed_db = said

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Any) -> None:
    """Clean the recordings that the pipe names; answer with shares done, then figures or a sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the server
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)  # live sound comes first
    from rtden.web.cleaning import clean

    told_at = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_SECONDS:
            told_at = time.monotonic()
            pipe.send(round(min(1.0, done / max(total, 1)), 3))

    with contextlib.suppress(EOFError):  # the server has ended
        while True:
            try:
                source, target = pipe.recv()
                report = clean(source, target, tell)
                removed_db = round(report.noise_removed_db, 1)
                known = removed_db if abs(removed_db) < 200 else None  # neither NaN nor infinity
                pipe.send((round(report.seconds, 3), known))
            except RtdenError as error:
                pipe.send(str(error))


def shown_name(name: str) -> str:
    """Return a file's name as it is shown: without folders and control characters, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    stem, suffix = os.path.splitext("".join(filter(str.isprintable, last)).strip(" ."))
    return f"{stem[:100]}{suffix[:10]}" or "recording"


def _remove_leftovers() -> None:
    """Remove the folders of servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        owner = folder.name[len(FOLDER_PREFIX) :].partition("-")[0]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError, OverflowError):
            continue
