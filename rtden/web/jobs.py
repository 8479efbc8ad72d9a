"""Recordings that the page is given: a temporary folder, a queue, and a process that works through it."""

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
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rtden.errors import InputError, RtdenError

MOST_FILES = 50
FOLDER_PREFIX = "rtden-ui-"
PROGRESS_SECONDS = 0.2
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
State = Literal["uploading", "waiting", "working", "ready", "failed"]


class TooMuchError(InputError):
    """An upload is beyond a limit."""


@dataclass
class Job:
    """A recording and what has become of it. `name` is only shown; paths are made from `id`."""

    id: str
    name: str
    folder: Path
    suffix: str
    bytes: int = 0
    state: State = "uploading"
    progress: float = 0.0
    error: str | None = None
    report: dict[str, Any] = field(default_factory=dict)

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
        names = ("id", "name", "bytes", "state", "error")
        return {
            **{name: getattr(self, name) for name in names},
            "progress": round(self.progress, 3),
            "seconds": self.report.get("seconds"),
            "noise_removed_db": self.report.get("noise_removed_db"),
        }


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
        with self._changed:
            return self._jobs.get(job_id)

    async def add(self, name: str, blocks: AsyncIterator[bytes], announced: int) -> Job:
        """Store an upload and queue it.

        Raises
        ------
        TooMuchError
            If it is larger than allowed, or there are too many.
        InputError
            If it is empty, or the disk is full.
        """
        job = self._register(name, announced)
        try:
            with job.source.open("wb") as file:
                async for block in blocks:
                    job.bytes += len(block)
                    self._check_size(job.bytes)
                    file.write(block)
            if not job.bytes:
                raise InputError("the upload is empty; choose a recording.")
        except OSError as error:
            self.remove(job.id)
            raise InputError(
                f"the upload could not be stored ({error.strerror}); make room on the disk."
            ) from None
        except BaseException:  # a visitor that leaves, too
            self.remove(job.id)
            raise
        with self._changed:
            job.state = "waiting"
            self._changed.notify_all()
        return job

    def _register(self, name: str, announced: int) -> Job:
        self._check_size(announced)
        with self._changed:
            if len(self._jobs) >= MOST_FILES:
                raise TooMuchError(
                    f"there are {MOST_FILES} recordings already; remove some of them first."
                )
            job_id = secrets.token_hex(8)
            shown = shown_name(name)
            suffix = Path(shown).suffix
            folder = self._folder / job_id
            folder.mkdir()
            job = Job(job_id, shown, folder, suffix if _SUFFIX.fullmatch(suffix) else "")
            self._jobs[job_id] = job
            return job

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            raise TooMuchError(
                f"a recording may have up to {self.most_bytes / 1e6:.0f} MB here; "
                "use 'rtden file' for larger ones."
            )

    def remove(self, job_id: str) -> bool:
        """Forget a recording and its files; return whether there was one."""
        with self._changed:
            job = self._jobs.pop(job_id, None)
            if job is None:
                return False
            if job.state == "working" and self._child is not None:
                self._child.kill()
        shutil.rmtree(job.folder, ignore_errors=True)
        return True

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
        while True:
            with self._changed:
                job = next((job for job in self._jobs.values() if job.state == "waiting"), None)
                if job is None or self._closed:
                    if self._child is not None:  # its memory is given back between queues
                        self._child.kill()
                        self._child = None
                    if self._closed:
                        return
                    self._changed.wait()
                    continue
                job.state = "working"
                self._child = child = self._child or _Child()
            try:
                for done in child.work(job):
                    job.progress = done
                job.report, job.state = child.report, "ready"
            except RtdenError as error:
                told = str(error).replace(str(job.source), job.name)
                job.error, job.state = told.replace(job.source.name, job.name), "failed"
            except (EOFError, OSError):
                job.error = "this recording ended the program that read it; it may be damaged."
                job.state = "failed"
                with self._changed:
                    self._child = None


class _Child:
    """A process that cleans one recording after another."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.report: dict[str, Any] = {}

    def work(self, job: Job) -> Any:
        """Clean a recording; yield the share that is done, 0 to 1, then set :attr:`report`.

        Raises
        ------
        RtdenError
            If the recording cannot be read.
        EOFError, OSError
            If the process has ended.
        """
        self._pipe.send((job.source, job.result))
        while True:
            kind, value = self._pipe.recv()
            if kind == "progress":
                yield value
            elif kind == "failed":
                raise RtdenError(value)
            else:
                self.report = value
                return

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Any) -> None:
    """Clean what the pipe names until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the server
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)  # live sound comes first
    from rtden.web.cleaning import clean

    told_at = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_SECONDS:
            told_at = time.monotonic()
            pipe.send(("progress", min(1.0, done / max(total, 1))))

    while True:
        try:
            source, target = pipe.recv()
        except EOFError:
            return
        try:
            report = clean(source, target, tell)
            removed_db = round(report.noise_removed_db, 1)
            known = removed_db if abs(removed_db) < 200 else None  # neither NaN nor infinity
            pipe.send(("done", {"seconds": report.seconds, "noise_removed_db": known}))
        except RtdenError as error:
            pipe.send(("failed", str(error)))


def shown_name(name: str) -> str:
    """Return a file's name as it is shown and offered for download: no folders, no control characters."""
    last = re.split(r"[/\\]", name)[-1]
    printable = "".join(letter for letter in last if letter.isprintable()).strip(" .")
    stem, suffix = os.path.splitext(printable)
    return f"{stem[:100]}{suffix[:10]}" or "recording"


def _remove_leftovers() -> None:
    """Remove the folders of servers of this user that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        owner = folder.name[len(FOLDER_PREFIX) :].partition("-")[0]
        if not owner.isdecimal() or folder.is_symlink():
            continue
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)  # only what is this user's can be removed
        except OSError:
            continue
