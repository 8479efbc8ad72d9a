"""How many live streams a machine carries: 16 kHz, frames of 20 ms, as a voice agent has them."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtden.errors import RtdenError, SettingsError
from rtden.files.processes import without_interrupts
from rtden.frames import FrameDenoiser
from rtden.measure.cost import Percentiles, resident_mb
from rtden.model import find_model
from rtden.noise import babble

RATE_HZ, FRAME_SAMPLES = 16000, 320
PERIOD_SECONDS = FRAME_SAMPLES / RATE_HZ
SOUND_SECONDS = 10.0
"""Length of the sound that the streams repeat, each beginning elsewhere."""
FRAMES_APART = 7
"""Frames by which each stream is ahead of the one before: speech and pauses differ in cost."""
WARM_UP_ROUNDS = 50
GONE = (EOFError, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class StreamsResult:
    """How a number of real-time streams at once, spread over processes and threads, get on."""

    model: str
    streams: int
    jobs: int
    """Processes."""
    threads: int
    """Threads in each process."""
    audio_seconds: float
    """Of each stream."""
    frame: Percentiles
    """Time of one stream's frame while the others have theirs, too."""
    round: Percentiles
    """Time of a frame of every stream of a thread, of the thread that takes longest."""
    period_ms: float
    """Time until the next frames are due."""
    load: float
    """Busy cores: CPU time of all processes over audio time."""
    stream_mb: float
    """Memory that one more stream takes, in MiB."""

    @property
    def holds(self) -> bool:
        """Whether all keep up: the 99th percentile of a round is below the period."""
        return self.round.p99_ms < self.period_ms

    @property
    def streams_per_core(self) -> float:
        """Number of streams that a core has the CPU time for, whatever else disturbs it."""
        return self.streams / self.load

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        found = {"holds": self.holds, "streams_per_core": self.streams_per_core}
        return {**dataclasses.asdict(self), **found}


class _Found(NamedTuple):
    """What a process measured, times in seconds."""

    frames: NDArray[np.float64]
    rounds: NDArray[np.float64]
    """Shape (threads, rounds)."""
    cpu_seconds: float
    stream_mb: float


class Streams:
    """Processes that carry :class:`rtden.FrameDenoiser` streams, a frame of each in turn.

    Nothing sleeps: a round follows the other at once, and is compared with the period.

    Parameters
    ----------
    jobs : int
        Number of processes.
    threads : int
        Threads in each process, which share its streams.

    Raises
    ------
    ModelError, SettingsError
        If the model cannot be used, or a number is below 1.
    """

    def __init__(self, model: str | Path | None = None, *, jobs: int = 1, threads: int = 1) -> None:
        if jobs < 1 or threads < 1:
            raise SettingsError(f"jobs and threads must be 1 or more, not {jobs} and {threads}.")
        self._model, self._threads = find_model(model), threads
        FrameDenoiser(RATE_HZ, model=self._model)  # raises here what is wrong with it
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read where numpy is loaded, in each process
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, self._model, threads), daemon=True
            )
            with without_interrupts():
                process.start()
            theirs.close()  # or its end would not be noticed here
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()

    @property
    def fewest(self) -> int:
        """The least number of streams: one for each thread."""
        return len(self._pipes) * self._threads

    def run(self, streams: int, *, seconds: float) -> StreamsResult:
        """Run a number of streams at once, spread evenly, over `seconds` of sound.

        Raises
        ------
        SettingsError
            If there are fewer streams than threads.
        RtdenError
            If a process ends early.
        """
        if streams < self.fewest:
            raise SettingsError(
                f"{streams} streams cannot be spread over {self.fewest} threads; take fewer."
            )
        jobs, rounds = len(self._pipes), max(1, round(seconds / PERIOD_SECONDS))
        try:
            for number, pipe in enumerate(self._pipes):
                pipe.send((streams // jobs + (number < streams % jobs), rounds))
            for pipe in self._pipes:
                pipe.recv()  # all are ready before the first one begins
            for pipe in self._pipes:
                pipe.send(None)
            found: list[_Found] = [pipe.recv() for pipe in self._pipes]
        except GONE:
            raise RtdenError(
                f"a process ended early with {streams} streams, most likely for lack of memory; "
                "measure fewer."
            ) from None
        return StreamsResult(
            model=self._model.stem,
            streams=streams,
            jobs=jobs,
            threads=self._threads,
            audio_seconds=rounds * PERIOD_SECONDS,
            frame=Percentiles.of(np.concatenate([part.frames for part in found])),
            round=_slowest(found),
            period_ms=1000.0 * PERIOD_SECONDS,
            load=sum(part.cpu_seconds for part in found) / (rounds * PERIOD_SECONDS),
            stream_mb=max(part.stream_mb for part in found),
        )

    def most(self, *, seconds: float) -> StreamsResult:
        """Return the result of the most streams that hold, within 2 %, by doubling and bisecting.

        If one stream for each thread does not hold, its result is returned.
        """
        best = self.run(self.fewest, seconds=seconds)
        if not best.holds:
            return best
        too_many = 2 * best.streams
        while (tried := self.run(too_many, seconds=seconds)).holds:
            best, too_many = tried, 2 * too_many
        while too_many - best.streams > max(1, best.streams // 50):
            tried = self.run((best.streams + too_many) // 2, seconds=seconds)
            if tried.holds:
                best = tried
            else:
                too_many = tried.streams
        return best


def _slowest(found: list[_Found]) -> Percentiles:
    """Return the rounds of the thread that takes longest."""
    each = [Percentiles.of(times) for part in found for times in part.rounds]
    return max(each, key=lambda percentiles: percentiles.p99_ms)


def _serve(pipe: Connection, model: Path, threads: int) -> None:
    """Carry streams as often as the pipe asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    sound = babble(round(SOUND_SECONDS * RATE_HZ), RATE_HZ)
    frames = (32767.0 * sound).astype(np.int16).reshape(-1, FRAME_SAMPLES)
    denoisers: list[FrameDenoiser] = []
    stream_mb = 0.0
    with contextlib.suppress(*GONE):  # nobody asks any more
        while True:
            streams, rounds = pipe.recv()
            before, made = resident_mb(), streams - len(denoisers)
            denoisers += [FrameDenoiser(RATE_HZ, model=model) for _ in range(made)]
            for denoiser in denoisers:  # touches all of their memory
                denoiser.process(frames[0])
            if made > 0:
                stream_mb = (resident_mb() - before) / made
            pipe.send(None)
            pipe.recv()
            found = _carry(denoisers[:streams], frames, rounds, threads)
            pipe.send(found._replace(stream_mb=stream_mb))


def _carry(
    denoisers: list[FrameDenoiser], frames: NDArray[np.int16], rounds: int, threads: int
) -> _Found:
    """Give each stream its frames, round by round, in several threads."""
    stamps = [
        np.empty((WARM_UP_ROUNDS + rounds, len(denoisers[thread::threads]) + 1))
        for thread in range(threads)
    ]
    barrier = threading.Barrier(threads)

    def carry(thread: int) -> None:
        own, clock = list(enumerate(denoisers))[thread::threads], stamps[thread]
        barrier.wait()
        for number in range(len(clock)):
            clock[number, 0] = time.perf_counter()
            for place, (stream, denoiser) in enumerate(own, 1):
                denoiser.process(frames[(number + FRAMES_APART * stream) % len(frames)])
                clock[number, place] = time.perf_counter()

    workers = [threading.Thread(target=carry, args=(thread,)) for thread in range(threads)]
    began = time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cpu_seconds = (time.process_time() - began) * rounds / (WARM_UP_ROUNDS + rounds)
    kept = [clock[WARM_UP_ROUNDS:] for clock in stamps]
    return _Found(
        frames=np.concatenate([np.diff(clock, axis=1).ravel() for clock in kept]),
        rounds=np.array([clock[:, -1] - clock[:, 0] for clock in kept]),
        cpu_seconds=cpu_seconds,
        stream_mb=float("nan"),
    )
