"""Recordings that the page is given: a temporary folder, and a queue that one process works on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtden.errors import InputError

MOST_FILES = 50
FOLDER_PREFIX = "rtden-ui-"
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
SHOWN = ("id", "name", "bytes", "state", "progress", "error", "seconds", "noise_removed_db")


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

    def __post_init__(self) -> None:
        suffix = Path(self.name).suffix
        self.suffix = suffix if SUFFIX.fullmatch(suffix) else ""
        self.source = self.folder / f"source{self.suffix}"
        self.result = self.folder / f"result{self.suffix}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a visitor may know, for JSON."""
        return {name: getattr(self, name) for name in SHOWN}


class Jobs:
    """The queue of recordings, for the event loop's thread; :meth:`close` removes its folder."""

    def __init__(self, *, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        _remove_leftovers()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self.all: dict[str, Job] = {}
        self._process: Process | None = None
        self._worker: asyncio.Task[None] | None = None

    async def add(self, name: str, blocks: AsyncIterator[bytes], announced: int) -> Job:
        """Store an upload of the announced size, and queue it.

        Raises
        ------
        InputError
            If it is empty, or the disk is full; TooMuchError if it or their number is too large.
        """
        self._check_size(announced)
        if len(self.all) >= MOST_FILES:
            raise TooMuchError(f"there are {MOST_FILES} recordings already; remove some first.")
        job_id = secrets.token_hex(8)
        self.all[job_id] = job = Job(job_id, shown_name(name), self._folder / job_id)
        try:
            job.folder.mkdir()
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
        job.state = "waiting"
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return job

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            most = f"a recording may have up to {self.most_bytes / 1e6:.0f} MB here"
            raise TooMuchError(f"{most}; 'rtden file' takes larger ones.")

    def remove(self, job: Job) -> None:
        """Forget a recording and its files."""
        self.all.pop(job.id, None)
        if job.state == "working" and self._process is not None:
            self._process.kill()
        shutil.rmtree(job.folder, ignore_errors=True)

    async def close(self) -> None:
        """Forget all recordings and remove the folder."""
        for job in [*self.all.values()]:
            self.remove(job)
        if self._worker is not None:
            await self._worker
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _work(self) -> None:
        """Clean one recording after another in a process of its own, until none waits."""
        while job := next((job for job in self.all.values() if job.state == "waiting"), None):
            job.state = "working"
            command = sys.executable, "-m", "rtden.web.cleaning", job.source, job.result
            self._process = process = await asyncio.create_subprocess_exec(
                *command, stdout=PIPE, start_new_session=True
            )  # in a session of its own: the terminal's Ctrl-C is for the server
            assert process.stdout is not None
            async for line in process.stdout:
                for name, value in json.loads(line).items():
                    shown = value.replace(str(job.source), job.name) if name == "error" else value
                    setattr(job, name, shown)
            await process.wait()
            if job.state == "working":
                job.error = "the program that reads recordings ended; this one may be damaged."
                job.state = "failed"


def shown_name(name: str) -> str:
    """Return a file's name as it is shown: without folders and control characters, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    stem, suffix = os.path.splitext("".join(filter(str.isprintable, last)).strip(" ."))
    return f"{stem[:100]}{suffix[:10]}" or "recording"


def _remove_leftovers() -> None:
    """Remove the folders of servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        owner = folder.name[len(FOLDER_PREFIX) :].partition("-")[0]
        with contextlib.suppress(OSError, ValueError, OverflowError):
            try:
                os.kill(int(owner), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
