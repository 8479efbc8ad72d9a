"""Uploaded recordings: a temporary folder, and one process at a time that denoises."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtden.errors import InputError
from rtden.files.listing import default_target

MOST_FILES, SPARE_BYTES = 50, 200_000_000
PAUSE_SECONDS = 0.002  # between two blocks of an upload: live sound comes first
FOLDER_PREFIX = "rtden-ui-"
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
DIED = "the program that reads recordings ended; this one may be damaged."
SHOWN = ("id", "name", "bytes", "state", "progress", "error", "seconds", "noise_removed_db")


class TooMuchError(InputError):
    """A request is beyond a limit."""


@dataclass
class Job:
    """A recording and its state. `name` is for display only; paths are made from `id`."""

    id: str
    name: str
    folder: Path
    bytes: int = 0
    state: str = "uploading"  # then "waiting", "working", "ready" or "failed"
    progress: float = 0.0
    error: str | None = None
    seconds: float | None = None
    noise_removed_db: float | None = None
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        suffix = Path(self.name).suffix
        self.source = self.folder / f"source{suffix if SUFFIX.fullmatch(suffix) else ''}"
        self.result = default_target(self.source)

    def to_dict(self) -> dict[str, Any]:
        """Return the public fields, for JSON."""
        return {name: getattr(self, name) for name in SHOWN}

    async def run(self, target: Path, *strength: str) -> None:
        """Run :mod:`rtden.web.cleaning` in a process of its own; copy its reports into this job."""
        command = ["-m", "rtden.web.cleaning", str(self.source), str(target), *strength]
        alone: dict[str, Any] = {"start_new_session": True}  # Ctrl-C is for the server
        process = await create_subprocess_exec(sys.executable, *command, stdout=PIPE, **alone)
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                for name, value in json.loads(line).items():
                    setattr(self, name, value)
        finally:
            if process.returncode is None and not process.stdout.at_eof():
                process.kill()
            await process.communicate()  # not wait: the pipe must be closed before the loop is
        if self.error or not target.exists():
            self.state = "failed"
            self.error = (self.error or DIED).replace(str(self.source), self.name)


class Jobs:
    """All recordings, for the event loop's thread; :meth:`close` removes their folder."""

    def __init__(self, *, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        _remove_leftovers()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self.all: dict[str, Job] = {}
        self._cleaning, self._mixing = asyncio.Lock(), asyncio.Lock()

    async def add(self, name: str, blocks: AsyncIterator[bytes], announced: int) -> Job:
        """Store an upload of the announced size and queue it, or raise InputError."""
        self._check_size(announced)
        if len(self.all) >= MOST_FILES:
            raise TooMuchError(f"there are {MOST_FILES} recordings already; remove some first.")
        if shutil.disk_usage(self._folder).free < announced + SPARE_BYTES:
            raise TooMuchError("the disk of the temporary folder is full; remove recordings first.")
        job_id = secrets.token_hex(8)
        self.all[job_id] = job = Job(job_id, shown_name(name), self._folder / job_id)
        try:
            job.folder.mkdir()
            with job.source.open("wb") as file:
                async for block in blocks:
                    job.bytes += len(block)
                    self._check_size(job.bytes)
                    job.progress = min(1.0, job.bytes / max(announced, 1))
                    file.write(block)
                    await asyncio.sleep(PAUSE_SECONDS)
            if not job.bytes:
                raise InputError("the upload is empty; choose a recording.")
        except BaseException as error:  # a visitor who leaves, too
            await self.remove(job)
            if not isinstance(error, OSError):
                raise
            raise InputError(f"the upload cannot be stored ({error.strerror}).") from None
        job.state, job.progress = "waiting", 0.0
        job.task = asyncio.create_task(self._clean(job))
        return job

    async def _clean(self, job: Job) -> None:
        async with self._cleaning:
            job.state = "working"
            await job.run(job.result)

    async def mix(self, job: Job, strength: str) -> Path:
        """Return a new file with a recording that is ready, at another strength, or raise."""
        target = job.folder / f"mix-{secrets.token_hex(4)}{job.result.suffix}"
        mixed = dataclasses.replace(job)
        async with self._mixing:
            await mixed.run(target, strength)
        if mixed.error:
            raise InputError(mixed.error)
        return target

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            most = f"a recording may have up to {self.most_bytes / 1e6:.0f} MB here"
            raise TooMuchError(f"{most}; 'rtden file' takes larger ones.")

    async def remove(self, *jobs: Job) -> None:
        """Forget recordings, end the work on them and remove their files."""
        tasks = [job.task for job in jobs if job.task is not None]
        for job in jobs:
            self.all.pop(job.id, None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in jobs:
            shutil.rmtree(job.folder, ignore_errors=True)

    async def close(self) -> None:
        """Forget all recordings and remove the folder."""
        await self.remove(*self.all.values())
        shutil.rmtree(self._folder, ignore_errors=True)


def shown_name(name: str) -> str:
    """Return a file's name as it is shown: without folders and control characters, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    stem, suffix = os.path.splitext("".join(filter(str.isprintable, last)).strip(" ."))
    return f"{stem[:100]}{suffix[:10]}" or "recording"


def _remove_leftovers() -> None:
    """Remove the folders of servers that were killed, on Linux."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        owner = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if owner.isdecimal() and Path("/proc/self").exists() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
