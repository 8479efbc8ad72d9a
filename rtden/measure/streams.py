"""How many live streams a machine carries: 16 kHz, frames of 20 ms, as a voice agent has them."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtden.errors import RtdenError, SettingsError
from rtden.files.processes import process_pool
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


@dataclass(frozen=True)
class StreamsResult:
    """How a number of real-time streams at once, in `jobs` processes of `threads` each, get on.

    `frame` is the time of one stream's frame while the others have theirs, too; `round` that of a
    frame of every stream of the slowest thread; `period_ms` the time until the next frames are due.
    `load` is CPU time over audio time; one more stream takes `stream_mb` MiB.
    """

    model: str
    streams: int
    jobs: int
    threads: int
    audio_seconds: float
    frame: Percentiles
    round: Percentiles
    period_ms: float
    load: float
    stream_mb: float

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


class Streams:
    """Processes that carry :class:`rtden.FrameDenoiser` streams, a frame of each in turn.

    Nothing sleeps: a round follows the other at once, and is compared with the period. Raises
    ModelError or SettingsError if the model cannot be used, or a number is below 1.
    """

    def __init__(self, model: str | Path | None = None, *, jobs: int = 1, threads: int = 1) -> None:
        if jobs < 1 or threads < 1:
            raise SettingsError(f"jobs and threads must be 1 or more, not {jobs} and {threads}.")
        self._model, self._threads, self.fewest = find_model(model), threads, jobs * threads
        FrameDenoiser(RATE_HZ, model=self._model)  # raises here what is wrong with it
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read where numpy is loaded, in each process
        self._opened, self._stream_mb = ExitStack(), 0.0
        self.pools = [self._opened.enter_context(process_pool(1)) for _ in range(jobs)]

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(self, streams: int, *, seconds: float) -> StreamsResult:
        """Run a number of streams at once, spread evenly, over `seconds` of sound.

        Raises SettingsError if there are fewer than threads, RtdenError if a process ends early.
        """
        if streams < self.fewest:
            spread = f"{streams} streams cannot be spread over {self.fewest} threads"
            raise SettingsError(f"{spread}; take fewer.")
        jobs, rounds = len(self.pools), max(1, round(seconds / PERIOD_SECONDS))
        counts = [streams // jobs + (number < streams % jobs) for number in range(jobs)]
        try:
            new_mb = self._in_each(_make, [(self._model, count) for count in counts])
            found = self._in_each(_carry, [(count, rounds, self._threads) for count in counts])
        except BrokenExecutor:
            early = f"a process ended early with {streams} streams, most likely for lack of memory"
            raise RtdenError(f"{early}; measure fewer.") from None
        self._stream_mb = max(new_mb) or self._stream_mb
        frames, each_round, cpu_seconds = zip(*found, strict=True)
        each = [Percentiles.of(times) for process in each_round for times in process]
        return StreamsResult(
            model=self._model.stem,
            streams=streams,
            jobs=jobs,
            threads=self._threads,
            audio_seconds=rounds * PERIOD_SECONDS,
            frame=Percentiles.of(np.concatenate(frames)),
            round=max(each, key=lambda percentiles: percentiles.p99_ms),
            period_ms=1000.0 * PERIOD_SECONDS,
            load=sum(cpu_seconds) / (rounds * PERIOD_SECONDS),
            stream_mb=self._stream_mb,
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

    def _in_each(self, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what a function returns in each process, all at once."""
        pairs = zip(self.pools, arguments, strict=True)
        futures = [pool.submit(work, *of) for pool, of in pairs]
        return [future.result() for future in futures]


_streams: list[FrameDenoiser] = []
"""Of this process, one of :class:`Streams`."""


def _make(model: Path, streams: int) -> float:
    """Make streams up to a number; return the memory of each new one in MiB, 0 without any."""
    before, new = resident_mb(), streams - len(_streams)
    _streams.extend(FrameDenoiser(RATE_HZ, model=model) for _ in range(new))
    for stream in _streams:  # touches all of their memory
        stream.process(np.zeros(FRAME_SAMPLES, np.int16))
    return (resident_mb() - before) / new if new > 0 else 0.0


def _carry(
    streams: int, rounds: int, threads: int
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], float]:
    """Give streams their frames, round by round, in several threads.

    Returns the time of each frame, that of each round of each thread, and the CPU time.
    """
    sound = 32767.0 * babble(round(SOUND_SECONDS * RATE_HZ), RATE_HZ)
    frames = sound.astype(np.int16).reshape(-1, FRAME_SAMPLES)
    shares = [range(thread, streams, threads) for thread in range(threads)]
    clocks = [np.empty((WARM_UP_ROUNDS + rounds, len(share) + 1)) for share in shares]

    def carry(share: range, clock: NDArray[np.float64]) -> None:
        for number in range(len(clock)):
            clock[number, 0] = time.perf_counter()
            for place, stream in enumerate(share, 1):
                frame = frames[(number + FRAMES_APART * stream) % len(frames)]
                _streams[stream].process(frame)
                clock[number, place] = time.perf_counter()

    workers = [threading.Thread(target=carry, args=of) for of in zip(shares, clocks, strict=True)]
    began = time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cpu_seconds = (time.process_time() - began) * rounds / (WARM_UP_ROUNDS + rounds)
    kept = [clock[WARM_UP_ROUNDS:] for clock in clocks]
    each_frame = np.concatenate([np.diff(clock, axis=1).ravel() for clock in kept])
    return each_frame, [clock[:, -1] - clock[:, 0] for clock in kept], cpu_seconds
