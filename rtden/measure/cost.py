"""What a denoiser costs on this machine: time by stage, latency, memory."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rtden.denoiser import Denoiser
from rtden.files.processes import process_pool
from rtden.model import find_model
from rtden.noise import babble
from rtden.plain import Figures
from rtden.settings import Settings
from rtden.types import Array

WARM_UP_STEPS, SILENCE_SECONDS = 20, 5  # after 5 s of silence the network is skipped
T = TypeVar("T")


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
class BenchResult(Figures):
    """What one model costs at one `hops_per_step`."""

    model: str
    runtime: str
    hops_per_step: int
    audio_seconds: float
    steps: int
    stages: dict[str, Percentiles]
    step: Percentiles  # measured without the stages' clocks
    idle: Percentiles  # a step in silence, where the network is skipped
    real_time_factor: float
    latency_ms: float
    rss_mb: float  # of the process, in MiB; NaN where the system has no figure
    model_kb: float

    @property
    def headroom(self) -> float:
        """Number of such streams that one core could carry."""
        return 1.0 / self.real_time_factor


class Stopwatch:
    """Sums the time of an object's method in `seconds`, as a clock gives it; changes no result.

    `calls` has the time of each call that did not return False.

    >>> denoiser = Denoiser()
    >>> watch = Stopwatch(denoiser.network, "infer")
    >>> _ = denoiser.feed(np.ones(denoiser.step_samples, np.float32))
    >>> watch.seconds > 0.0
    True
    """

    def __init__(
        self, owner: Any, method: str, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds, self.calls, call = 0.0, list[float](), getattr(owner, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = clock()
            result = call(*arguments, **options)
            self.seconds += (took := clock() - began)
            if result is not False:
                self.calls.append(took)
            return result

        setattr(owner, method, timed)


def measure(model: str | Path, hops_per_step: int, *, seconds: float = 60.0) -> BenchResult:
    """Run a model over `seconds` of made-up noisy speech in this process; return what it cost."""
    path = find_model(model)
    denoiser = Denoiser(path, Settings(hops_per_step=hops_per_step))
    rate_hz, size = denoiser.rate_hz, denoiser.step_samples
    signal = babble(round(seconds * rate_hz), rate_hz)
    blocks = [signal[at : at + size] for at in range(0, len(signal), size)]
    step_seconds = _time_steps(denoiser, blocks)
    rss_mb = resident_mb()
    denoiser.feed(np.zeros(SILENCE_SECONDS * rate_hz, np.float32))
    idle_seconds = _time_steps(denoiser, [np.zeros(size, np.float32)] * len(blocks))
    audio_seconds = len(step_seconds) * size / rate_hz
    return BenchResult(
        model=path.stem,
        runtime=denoiser.runtime,
        hops_per_step=hops_per_step,
        audio_seconds=audio_seconds,
        steps=len(step_seconds),
        stages=_time_stages(denoiser, blocks),
        step=Percentiles.of(step_seconds),
        idle=Percentiles.of(idle_seconds),
        real_time_factor=sum(step_seconds) / audio_seconds,
        latency_ms=1000.0 * denoiser.latency.seconds,
        rss_mb=rss_mb,
        model_kb=path.stat().st_size / 1024,
    )


def in_own_process(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call a function in a fresh process with one thread of linear algebra."""
    with process_pool(1, gc.collect) as pool:  # nothing prepared: its memory may be measured
        return pool.submit(function, *arguments, **options).result()


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
    return seconds[_warm_up(blocks) :]


def _time_stages(denoiser: Denoiser, blocks: list[Array]) -> dict[str, Percentiles]:
    """Return the time of each stage in a step; its clocks stay."""
    stages = Denoiser.STAGES.items()
    watches = [Stopwatch(getattr(denoiser, name), method) for name, method in stages]
    clocks = []
    for block in blocks:
        denoiser.feed(block)
        clocks.append([watch.seconds for watch in watches])
    times = np.diff(clocks, axis=0)[_warm_up(blocks) :]
    return {name: Percentiles.of(of) for name, of in zip(Denoiser.STAGES, times.T, strict=True)}


def _warm_up(blocks: list[Array]) -> int:
    """Return how many steps are not counted: of few, half."""
    return min(WARM_UP_STEPS, len(blocks) // 2)
