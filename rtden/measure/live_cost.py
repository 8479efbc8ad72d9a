"""What live sound costs: CPU time, wake-ups and parts of the whole process, in real time."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtden.live.engine import LiveEngine
from rtden.live.file_endpoints import PacedEndpoint
from rtden.live.plan import live_settings
from rtden.measure.cost import Percentiles
from rtden.noise import babble
from rtden.types import Array

RATE_HZ, CHANNELS = 48000, 2
SOUND_SECONDS = 5.0
SETTLE_SECONDS = 7.0
"""Not measured at first: the engine finds its delay, and digital silence becomes idle."""
VIEW_SECONDS = 0.1
"""Between two statuses, as the terminal view takes them."""


class PacedDevice(PacedEndpoint):
    """A sound device of 48 kHz, simulated by a thread that calls back every 10 ms.

    With sound it is a source, else a sink.
    """

    latency_seconds = 0.01

    def __init__(self, name: str, sound: Array | None) -> None:
        super().__init__(name, RATE_HZ, CHANNELS)
        self._sound, self._at = sound, 0
        if sound is None:
            self.make_ring(1)
        self._played = np.zeros((self.block_samples, CHANNELS), np.float32)

    def _block(self) -> None:
        if self._sound is None:
            self.play(self._played)
        else:
            self.captured(self._sound[self._at : self._at + self.block_samples])
            self._at = (self._at + self.block_samples) % len(self._sound)


@dataclass(frozen=True)
class LiveCost:
    """Cost of a live stream between two simulated devices, 48 kHz, in blocks of 10 ms."""

    model: str
    silent: bool
    """Whether the input was digital silence."""
    seconds: float
    start_seconds: float
    """Time to open the engine; not part of the rest."""
    cpu: float
    """User and system CPU time of the process over the time of the sound."""
    switches_per_second: float
    """Voluntary context switches of the process."""
    worker_switches_per_second: float
    """The same of the worker alone: its wakes, and its waits for the interpreter's lock."""
    wakes_per_second: float
    """Times that the worker was woken."""
    turn: Percentiles
    """Time of a turn of the worker."""
    parts: dict[str, float]
    """CPU time by part, over the time of the sound."""
    dropouts: int
    latency_ms: float
    """Total delay as measured."""

    def to_dict(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        return dataclasses.asdict(self)


def measure_live(
    model: str | Path | None = None, *, seconds: float = 20.0, silent: bool = False
) -> LiveCost:
    """Run live sound in a process of its own for `seconds` and return what it cost."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when the process loads numpy
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_here, (model,), {"seconds": seconds, "silent": silent})


def _measure_here(model: str | Path | None, *, seconds: float, silent: bool) -> LiveCost:
    sound = np.repeat(babble(round(SOUND_SECONDS * RATE_HZ), RATE_HZ)[:, None], CHANNELS, axis=1)
    began = time.perf_counter()
    source, sink = (
        PacedDevice("input", 0.0 * sound if silent else sound),
        PacedDevice("output", None),
    )
    engine = LiveEngine(source, sink, model=model, settings=live_settings(model=model))
    start_seconds = time.perf_counter() - began
    times = _Stopwatches(engine)
    with engine:
        time.sleep(SETTLE_SECONDS)
        times.begin()
        before, wakes = _counters(), engine.worker.wakes
        engine.status()
        ends_at = time.perf_counter() + seconds
        while engine.running and time.perf_counter() < ends_at:
            time.sleep(VIEW_SECONDS)
            status = engine.status()
            _ = engine.latency, engine.band_gains
        after = _counters()
    elapsed = after["elapsed"] - before["elapsed"]
    rates = {name: (after[name] - before[name]) / elapsed for name in before}
    return LiveCost(
        model=Path(model or "rtden").stem,
        silent=silent,
        seconds=elapsed,
        start_seconds=start_seconds,
        cpu=rates["cpu"],
        switches_per_second=rates["switches"],
        worker_switches_per_second=rates["switches rtden worker"],
        wakes_per_second=(engine.worker.wakes - wakes) / elapsed,
        turn=Percentiles.of(times.turns),
        parts=_parts(rates, times, elapsed),
        dropouts=status.dropouts,
        latency_ms=status.latency_ms,
    )


def _parts(rates: dict[str, float], times: _Stopwatches, elapsed: float) -> dict[str, float]:
    """Return the CPU time of each part over the time of the sound."""
    work, path, step = times.work / elapsed, times.path / elapsed, times.step / elapsed
    return {
        "callbacks": rates["cpu rtden input"] + rates["cpu rtden output"],
        "resampling and high band": path - step,
        "step": step,
        "meters, delay, rings": work - path,
        "waking": rates["cpu rtden worker"] - work,
        "devices": rates["cpu rtden devices"],
        "status": rates["cpu MainThread"],
    }


class _Stopwatches:
    """CPU time of the worker's thread in a turn, in the sound path, and in the denoiser's steps."""

    def __init__(self, engine: LiveEngine) -> None:
        self.work = self.path = self.step = 0.0
        self.turns: list[float] = []
        worker = engine.worker
        self._wrap(worker, "work", "work", self.turns)
        self._wrap(worker.path, "feed", "path")
        for denoiser in worker.path.denoisers:
            self._wrap(denoiser, "feed", "step")

    def begin(self) -> None:
        """Forget what was measured so far."""
        self.work = self.path = self.step = 0.0
        self.turns.clear()

    def _wrap(self, owner: Any, method: str, name: str, turns: list[float] | None = None) -> None:
        call = getattr(owner, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            result = call(*arguments, **options)
            setattr(self, name, getattr(self, name) + time.thread_time() - cpu)
            if turns is not None and result:
                turns.append(time.perf_counter() - wall)
            return result

        setattr(owner, method, timed)


def _counters() -> dict[str, float]:
    """Return CPU time and voluntary context switches of the process and of its threads."""
    counters = {"elapsed": time.perf_counter(), "cpu": time.process_time(), "switches": math.nan}
    try:
        import resource

        counters["switches"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)
    except ImportError:  # Windows
        pass
    for thread in threading.enumerate():
        cpu = switches = math.nan
        if hasattr(time, "pthread_getcpuclockid") and thread.ident is not None:
            cpu = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        status = Path(f"/proc/self/task/{thread.native_id}/status")
        if status.exists():
            lines = dict(line.split(":", 1) for line in status.read_text("ascii").splitlines())
            switches = float(lines["voluntary_ctxt_switches"])
        counters[f"cpu {thread.name}"] = cpu
        counters[f"switches {thread.name}"] = switches
    return counters
