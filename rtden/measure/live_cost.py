"""What live sound costs: CPU time, wake-ups and parts of the whole process, in real time."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtden.live.engine import LiveEngine
from rtden.live.file_endpoints import BLOCK_SECONDS, PacedEndpoint
from rtden.live.plan import live_settings
from rtden.live.realtime import settle_memory
from rtden.measure.cost import Percentiles, Stopwatch, in_own_process
from rtden.model import find_model
from rtden.noise import babble
from rtden.plain import Figures
from rtden.types import Array

RATE_HZ, CHANNELS = 48000, 2
SOUND_SECONDS = 5.0
SETTLE_SECONDS = 7.0  # not measured: the engine finds its delay, digital silence becomes idle
VIEW_SECONDS = 0.1  # between two statuses, as the terminal view takes them


class PacedDevice(PacedEndpoint):
    """A sound device of 48 kHz, simulated by a thread; with sound it is a source, else a sink."""

    latency_seconds = 0.01

    def __init__(self, name: str, sound: Array | None) -> None:
        super().__init__(name, RATE_HZ, CHANNELS)
        self._sound, self._at = None if sound is None else sound.data.cast("B"), 0
        self._played = memoryview(bytearray(self.block_samples * self.ring.sample_bytes))

    def start(self) -> None:
        """Start the clock, the sink's half a block behind the source's: the delay depends on it."""
        phase = 0.5 * BLOCK_SECONDS if self._sound is None else 0.0
        time.sleep((phase - time.perf_counter()) % BLOCK_SECONDS)
        super().start()

    def block(self) -> None:
        """Hand over a block of sound, or take one."""
        if self._sound is None:
            self.play(self._played)
        else:
            self.captured(self._sound[self._at : self._at + len(self._played)])
            self._at = (self._at + len(self._played)) % len(self._sound)


@dataclass(frozen=True)
class LiveCost(Figures):
    """Cost of a live stream between two simulated devices, 48 kHz, in blocks of 10 ms.

    `cpu` and `parts` are CPU time, user and system, over the time of the sound. The devices' clocks
    are the simulation's own part: waking up for a block. Switches are voluntary context switches of
    the process, and of the worker: its wakes, and its waits for the interpreter's lock. `turn` is
    the time of a turn of the worker. Opening took `start_seconds`, which are not part of the rest.
    """

    model: str
    silent: bool
    seconds: float
    start_seconds: float
    cpu: float
    switches_per_second: float
    worker_switches_per_second: float
    wakes_per_second: float
    turn: Percentiles
    parts: dict[str, float]
    dropouts: int
    latency_ms: float


def measure_live(
    model: str | Path | None = None, *, seconds: float = 20.0, silent: bool = False
) -> LiveCost:
    """Run live sound in a process of its own for `seconds` and return what it cost."""
    return in_own_process(_measure_here, model, seconds=seconds, silent=silent)


def _measure_here(model: str | Path | None, *, seconds: float, silent: bool) -> LiveCost:
    sound = np.repeat(babble(round(SOUND_SECONDS * RATE_HZ), RATE_HZ)[:, None], CHANNELS, axis=1)
    began = time.perf_counter()
    source = PacedDevice("input", 0.0 * sound if silent else sound)
    sink = PacedDevice("output", None)
    engine = LiveEngine(source, sink, model=model, settings=live_settings(model=model))
    start_seconds = time.perf_counter() - began
    settle_memory()
    turns, watches = Stopwatch(engine.worker, "work"), _watches(engine)
    with engine:
        time.sleep(SETTLE_SECONDS)
        turns.calls.clear()
        before, wakes = _counters(watches), engine.worker.wakes
        engine.status()
        ends_at = time.perf_counter() + seconds
        while engine.running and time.perf_counter() < ends_at:
            time.sleep(VIEW_SECONDS)
            status = engine.status()
            _ = engine.latency, engine.band_gains
        after = _counters(watches)
    elapsed = after["elapsed"] - before["elapsed"]
    rates = {name: (after[name] - before[name]) / elapsed for name in before}
    return LiveCost(
        model=find_model(model).stem,
        silent=silent,
        seconds=elapsed,
        start_seconds=start_seconds,
        cpu=rates["cpu"],
        switches_per_second=rates["switches"],
        worker_switches_per_second=rates["switches rtden worker"],
        wakes_per_second=(engine.worker.wakes - wakes) / elapsed,
        turn=Percentiles.of(turns.calls),
        parts=_parts(rates),
        dropouts=status.dropouts,
        latency_ms=status.latency_ms,
    )


def _watches(engine: LiveEngine) -> dict[str, Stopwatch]:
    """Return clocks of the engine's parts, which count CPU time from now on."""
    path = engine.worker.path
    watched: dict[str, tuple[Any, str]] = {
        **{"work": (engine.worker, "work"), "path": (path, "feed")},
        "step": (path.denoisers[0], "feed"),
        **{"captured": (engine.source, "captured"), "played": (engine.sink, "play")},
    }
    return {part: Stopwatch(*method, time.thread_time) for part, method in watched.items()}


def _parts(rates: dict[str, float]) -> dict[str, float]:
    """Return the CPU time of each part over the time of the sound."""
    callbacks = rates["captured"] + rates["played"]
    return {
        "callbacks": callbacks,
        "the devices' clocks": rates["cpu rtden input"] + rates["cpu rtden output"] - callbacks,
        "resampling and high band": rates["path"] - rates["step"],
        "step": rates["step"],
        "meters, delay, rings": rates["work"] - rates["path"],
        "waking": rates["cpu rtden worker"] - rates["work"],
        "watching devices": rates["cpu rtden devices"],
        "status": rates["cpu MainThread"],
    }


def _counters(watches: dict[str, Stopwatch]) -> dict[str, float]:
    """Return CPU time and voluntary context switches of the process, its threads and its parts."""
    counters = {"elapsed": time.perf_counter(), "cpu": time.process_time(), "switches": math.nan}
    counters |= {part: watch.seconds for part, watch in watches.items()}
    with contextlib.suppress(ImportError):  # Windows
        import resource

        counters["switches"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)
    for thread in threading.enumerate():
        cpu = switches = math.nan
        if hasattr(time, "pthread_getcpuclockid") and thread.ident is not None:
            cpu = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        status = Path(f"/proc/self/task/{thread.native_id}/status")
        if status.exists():
            lines = dict(line.split(":", 1) for line in status.read_text("ascii").splitlines())
            switches = float(lines["voluntary_ctxt_switches"])
        counters |= {f"cpu {thread.name}": cpu, f"switches {thread.name}": switches}
    return counters
