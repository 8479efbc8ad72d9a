"""What a denoiser costs on this machine: time by stage, latency, memory."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtden.denoiser import Denoiser
from rtden.mel import Array
from rtden.settings import Settings
from rtden.sidecar import find_model

WARM_UP_STEPS = 20


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a time, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> Percentiles:
        """Return those of a list of times in seconds."""
        return cls(*(1000.0 * float(p) for p in np.percentile(seconds, (50, 95, 99))))


@dataclass(frozen=True)
class BenchResult:
    """What one model costs at one advance."""

    model: str
    runtime: str
    advance: int
    audio_seconds: float
    steps: int
    stages: dict[str, Percentiles]
    """Time of each stage of a step."""
    step: Percentiles
    """Time of a whole step, the stages not timed."""
    idle: Percentiles
    """Time of a step in silence, in which the network rests."""
    real_time_factor: float
    """Processing time over audio time."""
    latency_ms: float
    """Algorithmic latency."""
    rss_mb: float
    """Memory of a process that does nothing else, in MiB; NaN where the system does not tell."""
    model_kb: float

    @property
    def headroom(self) -> float:
        """How many such streams one core could carry."""
        return 1.0 / self.real_time_factor

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        rss_mb = None if math.isnan(self.rss_mb) else self.rss_mb  # JSON has no NaN
        return {**dataclasses.asdict(self), "rss_mb": rss_mb, "headroom": self.headroom}


def measure(model: str | Path, advance: int, *, seconds: float = 60.0, threads: int = 1) -> BenchResult:
    """Run a model over `seconds` of made-up noisy speech in this process and return what it cost."""
    path = find_model(model)
    denoiser = Denoiser(path, Settings(advance=advance, threads=threads))
    signal = babble(round(seconds * denoiser.rate_hz), denoiser.rate_hz)
    blocks = [signal[at : at + denoiser.step_samples] for at in range(0, len(signal), denoiser.step_samples)]
    step_seconds = _timed(denoiser, blocks)
    rss_mb = resident_mb()
    silence = np.zeros(denoiser.step_samples, np.float32)
    denoiser.feed(np.zeros(denoiser.rate_hz, np.float32))  # a second of it, and the network rests
    idle_seconds = _timed(denoiser, [silence] * len(blocks))
    stage_seconds: dict[str, list[float]] = {}
    for stage in Denoiser.STAGES:
        setattr(denoiser, f"_{stage}", _stopwatch(getattr(denoiser, f"_{stage}"), stage_seconds.setdefault(stage, [])))
    _timed(denoiser, blocks)
    return BenchResult(
        model=path.stem,
        runtime=denoiser.runtime,
        advance=advance,
        audio_seconds=len(step_seconds) * denoiser.step_samples / denoiser.rate_hz,
        steps=len(step_seconds),
        stages={stage: Percentiles.of(times[WARM_UP_STEPS:]) for stage, times in stage_seconds.items()},
        step=Percentiles.of(step_seconds),
        idle=Percentiles.of(idle_seconds),
        real_time_factor=sum(step_seconds) / (len(step_seconds) * denoiser.step_samples / denoiser.rate_hz),
        latency_ms=1000.0 * denoiser.latency.seconds,
        rss_mb=rss_mb,
        model_kb=path.stat().st_size / 1024,
    )


def measure_apart(model: str | Path, advance: int, *, seconds: float = 60.0, threads: int = 1) -> BenchResult:
    """Do as :func:`measure` does, in a process of its own, so that its memory is its own."""
    # numpy's linear algebra reads this once, when it is loaded.
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (model, advance), {"seconds": seconds, "threads": threads})


def babble(samples: int, rate_hz: int) -> Array:
    """Return something with the rhythm of speech in noise, always the same."""
    rng = np.random.default_rng(0)
    seconds = np.arange(samples) / rate_hz
    syllables = np.maximum(0.0, np.sin(2 * np.pi * 3.1 * seconds)) * np.maximum(0.0, np.sin(2 * np.pi * 0.4 * seconds))
    voice = sum(np.sin(2 * np.pi * 120 * k * seconds + k) / k for k in range(1, 30))
    return (0.05 * syllables * voice + 0.02 * rng.standard_normal(samples)).astype(np.float32)


def resident_mb() -> float:
    """Return this process's resident memory in MiB, NaN where the system does not tell."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return float("nan")


def _timed(denoiser: Denoiser, blocks: list[Array]) -> list[float]:
    seconds = []
    for block in blocks:
        began = time.perf_counter()
        denoiser.feed(block)
        seconds.append(time.perf_counter() - began)
    denoiser.reset()
    return seconds[WARM_UP_STEPS:]


def _stopwatch(stage: Callable[[], None], seconds: list[float]) -> Callable[[], None]:
    def timed() -> None:
        began = time.perf_counter()
        stage()
        seconds.append(time.perf_counter() - began)

    return timed
