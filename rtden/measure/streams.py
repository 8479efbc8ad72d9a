"""Number of live streams that a machine can run: a voice agent's, 16 kHz, frames of 20 ms."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import partial
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
from rtden.plain import Figures

RATE_HZ, FRAME_SAMPLES = 16000, 320
PERIOD_SECONDS = FRAME_SAMPLES / RATE_HZ
SOUND_SECONDS = 10.0  # of the sound that the streams repeat
FRAMES_APART = 7  # from stream to stream in the sound: speech and pauses differ in cost
# Streams begin at random, as callers do, within the time after which the pattern of frames (320
# samples at 16 kHz) and steps (512 at 22 050 Hz) repeats. Otherwise the steps of all would now and
# then fall into one round.
PATTERN_FRAMES = 512
WARM_UP_ROUNDS = 50


@dataclass(frozen=True)
class StreamsResult(Figures):
    """What `streams` real-time streams at once, in `jobs` processes, cost."""

    model: str
    streams: int
    jobs: int
    audio_seconds: float
    frame: Percentiles  # of one stream
    round: Percentiles  # a frame of every stream of the slowest process
    period_ms: float  # until the next frames are due
    load: float  # CPU time over audio time
    stream_mb: float  # MiB that one stream takes

    @property
    def holds(self) -> bool:
        """Whether all keep up: the 99th percentile of a round is below the period."""
        return self.round.p99_ms < self.period_ms

    @property
    def streams_per_core(self) -> float:
        """Number of streams per core, by CPU time alone."""
        return self.streams / self.load


def measure_streams(
    streams: int, *, model: str | Path | None = None, jobs: int = 1, seconds: float = 5.0
) -> StreamsResult:
    """Run :class:`rtden.FrameDenoiser` streams, spread evenly over processes, for `seconds`.

    Each process gives a frame to each of its streams in turn. Nothing sleeps: a round follows the
    other at once. Raises RtdenError if the model or the numbers cannot be used.
    """
    if not 1 <= jobs <= streams:
        raise SettingsError(f"{jobs} processes cannot share {streams} streams; each needs one.")
    path, rounds = find_model(model), max(1, round(seconds / PERIOD_SECONDS))
    FrameDenoiser(RATE_HZ, model=path)  # an unusable model is reported here
    counts = [streams // jobs + (number < streams % jobs) for number in range(jobs)]
    barrier = multiprocessing.get_context("spawn").Barrier(jobs)
    with process_pool(jobs, _set_barrier, barrier) as pool:
        try:
            found = [*pool.map(partial(_run_streams, path, rounds), counts)]
        except BrokenExecutor:
            early = f"a process ended early with {streams} streams, most likely for lack of memory"
            raise RtdenError(f"{early}; measure fewer.") from None
    frames, each_round, cpu_seconds, new_mb = zip(*found, strict=True)
    return StreamsResult(
        model=path.stem,
        streams=streams,
        jobs=jobs,
        audio_seconds=rounds * PERIOD_SECONDS,
        frame=Percentiles.of(np.concatenate(frames)),
        round=max(map(Percentiles.of, each_round), key=lambda found: found.p99_ms),
        period_ms=1000.0 * PERIOD_SECONDS,
        load=sum(cpu_seconds) / (rounds * PERIOD_SECONDS),
        stream_mb=max(new_mb),
    )


def most_streams(measure: Callable[[int], StreamsResult], fewest: int = 1) -> StreamsResult:
    """Return the result of the most streams that hold, within 2 %, or of the fewest if none do."""
    best = measure(fewest)
    if not best.holds:
        return best
    too_many = 2 * best.streams
    while (tried := measure(too_many)).holds:
        best, too_many = tried, 2 * too_many
    while too_many - best.streams > max(1, best.streams // 50):
        tried = measure((best.streams + too_many) // 2)
        if tried.holds:
            best = tried
        else:
            too_many = tried.streams
    return best


_all_ready: Any = None  # a barrier, in each process: all begin together


def _set_barrier(barrier: Any) -> None:
    global _all_ready  # noqa: PLW0603 - one barrier for each process
    _all_ready = barrier


def _run_streams(
    model: Path, rounds: int, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Return times of frames and rounds, CPU time and a stream's memory for `count` streams."""
    sound = 32767.0 * babble(round(SOUND_SECONDS * RATE_HZ), RATE_HZ)
    frames = sound.astype(np.int16).reshape(-1, FRAME_SAMPLES)
    before = resident_mb()
    streams = [FrameDenoiser(RATE_HZ, model=model) for _ in range(count)]
    started = np.random.default_rng(0).integers(PATTERN_FRAMES, size=count)
    for stream, begun in zip(streams, started, strict=True):
        stream.process(np.resize(frames, (begun * FRAME_SAMPLES,)))
    clock, began = np.empty((WARM_UP_ROUNDS + rounds, count + 1)), 0.0
    for number, times in enumerate(clock):
        if number == 1:  # now the streams have touched all of their memory
            stream_mb = (resident_mb() - before) / count
            _all_ready.wait()
        if number == WARM_UP_ROUNDS:
            began = time.process_time()
        times[0] = time.perf_counter()
        for place, stream in enumerate(streams, 1):
            stream.process(frames[(number + FRAMES_APART * place) % len(frames)])
            times[place] = time.perf_counter()
    cpu_seconds, kept = time.process_time() - began, clock[WARM_UP_ROUNDS:]
    return np.diff(kept, axis=1).ravel(), kept[:, -1] - kept[:, 0], cpu_seconds, stream_mb
