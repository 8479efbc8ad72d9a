"""What a denoiser costs on this machine: time by stage, latency, memory."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtden.denoiser import Denoiser
from rtden.model import find_model
from rtden.noise import babble
from rtden.settings import Settings
from rtden.types import Array

WARM_UP_STEPS = 20
SILENCE_SECONDS = 5
"""After this much silence the network is skipped."""


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a time, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float] | Array) -> Percentiles:
        """Return the percentiles of times in seconds."""
        return cls(*(1000.0 * float(p) for p in np.percentile(seconds, (50, 95, 99))))


@dataclass(frozen=True)
class BenchResult:
    """What one model costs at one `hops_per_step`."""

    model: str
    runtime: str
    hops_per_step: int
    audio_seconds: float
    steps: int
    stages: dict[str, Percentiles]
    """Time of each stage in a step, measured in a run of its own."""
    step: Percentiles
    """Time of a whole step, without the stages' clocks."""
    idle: Percentiles
    """Time of a step in silence, where the network is skipped."""
    real_time_factor: float
    """Processing time over audio time."""
    latency_ms: float
    """Algorithmic latency."""
    rss_mb: float
    """Memory of a process that does nothing else, in MiB; NaN where the system has no figure."""
    model_kb: float

    @property
    def headroom(self) -> float:
        """Number of such streams that one core could carry."""
        return 1.0 / self.real_time_factor

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        rss_mb = None if math.isnan(self.rss_mb) else self.rss_mb  # JSON has no NaN
        return {**dataclasses.asdict(self), "rss_mb": rss_mb, "headroom": self.headroom}


class TimedStage:
    """A stage of a :class:`Denoiser` whose one method is timed; all else passes through.

    >>> denoiser = Denoiser()
    >>> denoiser.network = timed = TimedStage(denoiser.network, "infer")
    >>> _ = denoiser.feed(np.ones(denoiser.step_samples, np.float32))
    >>> timed.seconds > 0.0
    True
    """

    def __init__(self, stage: Any, method: str) -> None:
        self.__dict__.update(_stage=stage, _method=method, seconds=0.0)

    def __getattr__(self, name: str) -> Any:
        """Return the stage's attribute, its method with a clock around it."""
        return self._timed if name == self._method else getattr(self._stage, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stage, name, value)

    def _timed(self, *arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        result = getattr(self._stage, self._method)(*arguments, **options)
        self.__dict__["seconds"] += time.perf_counter() - began
        return result


def measure(
    model: str | Path, hops_per_step: int, *, seconds: float = 60.0, threads: int = 1
) -> BenchResult:
    """Run a model over `seconds` of made-up noisy speech in this process; return what it cost.

    Raises
    ------
    ModelError, SettingsError, InputError
        If the model or `hops_per_step` cannot be used.
    """
    path = find_model(model)
    denoiser = Denoiser(path, Settings(hops_per_step=hops_per_step, threads=threads))
    rate_hz, size = denoiser.rate_hz, denoiser.step_samples
    signal = babble(round(seconds * rate_hz), rate_hz)
    blocks = [signal[at : at + size] for at in range(0, len(signal), size)]
    step_seconds = _time_steps(denoiser, blocks)
    rss_mb = resident_mb()
    denoiser.feed(np.zeros(SILENCE_SECONDS * rate_hz, np.float32))
    idle_seconds = _time_steps(denoiser, [np.zeros(size, np.float32)] * len(blocks))
    stages = _time_stages(denoiser, blocks)
    audio_seconds = len(step_seconds) * size / rate_hz
    return BenchResult(
        model=path.stem,
        runtime=denoiser.runtime,
        hops_per_step=hops_per_step,
        audio_seconds=audio_seconds,
        steps=len(step_seconds),
        stages=stages,
        step=Percentiles.of(step_seconds),
        idle=Percentiles.of(idle_seconds),
        real_time_factor=sum(step_seconds) / audio_seconds,
        latency_ms=1000.0 * denoiser.latency.seconds,
        rss_mb=rss_mb,
        model_kb=path.stat().st_size / 1024,
    )


def measure_apart(
    model: str | Path, hops_per_step: int, *, seconds: float = 60.0, threads: int = 1
) -> BenchResult:
    """Do as :func:`measure` does, in a process of its own, so that its memory is its own."""
    # numpy's linear algebra reads this once, when it is loaded.
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (model, hops_per_step), {"seconds": seconds, "threads": threads})


def resident_mb() -> float:
    """Return this process's resident memory in MiB, NaN where the system has no figure."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return float("nan")


def _time_steps(denoiser: Denoiser, blocks: list[Array]) -> list[float]:
    seconds = []
    for block in blocks:
        began = time.perf_counter()
        denoiser.feed(block)
        seconds.append(time.perf_counter() - began)
    denoiser.reset()
    return seconds[WARM_UP_STEPS:]


def _time_stages(denoiser: Denoiser, blocks: list[Array]) -> dict[str, Percentiles]:
    stages = {
        name: TimedStage(getattr(denoiser, name), method)
        for name, method in Denoiser.STAGES.items()
    }
    for name, stage in stages.items():
        setattr(denoiser, name, stage)
    clocks = []
    for block in blocks:
        denoiser.feed(block)
        clocks.append([stage.seconds for stage in stages.values()])
    times = np.diff(clocks, axis=0)[WARM_UP_STEPS:]
    return {name: Percentiles.of(times[:, column]) for column, name in enumerate(stages)}
