"""What live sound costs: CPU time, wake-ups and parts of the whole process, in real time.

    python bench/live_cost.py [--seconds 20] [--model MODEL]

Between two simulated devices of 48 kHz, with sound and in silence; prints CPU time in percent of a
core.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from common import ModelOption, screen
from rich.table import Column, Table

from rtden.live.engine import LiveEngine
from rtden.live.file_endpoints import BLOCK_SECONDS, PacedEndpoint
from rtden.live.plan import live_settings
from rtden.measure.cost import Percentiles, in_own_process
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


class Stopwatch:
    """Sums the time of an object's method in `seconds`, as a clock gives it; changes no result.

    `calls` has the time of each call that did not return False.
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


@dataclass(frozen=True)
class LiveCost:
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
    source, sink = (
        PacedDevice("input", 0.0 * sound if silent else sound),
        PacedDevice("output", None),
    )
    engine = LiveEngine(source, sink, model=model, settings=live_settings(model=model))
    start_seconds = time.perf_counter() - began
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
        model=Path(model or "rtden").stem,
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


def _watches(engine: LiveEngine) -> dict[str, list[Stopwatch]]:
    """Return clocks of the engine's parts, which count CPU time from now on."""
    path = engine.worker.path
    watched: dict[str, list[tuple[Any, str]]] = {
        "work": [(engine.worker, "work")],
        "path": [(path, "feed")],
        "step": [(denoiser, "feed") for denoiser in path.denoisers],
        "callbacks": [(engine.source, "captured"), (engine.sink, "play")],
    }
    return {
        part: [Stopwatch(*method, time.thread_time) for method in methods]
        for part, methods in watched.items()
    }


def _parts(rates: dict[str, float]) -> dict[str, float]:
    """Return the CPU time of each part over the time of the sound."""
    return {
        "callbacks": rates["callbacks"],
        "the devices' clocks": sum(rates[f"cpu rtden {side}"] for side in ("input", "output"))
        - rates["callbacks"],
        "resampling and high band": rates["path"] - rates["step"],
        "step": rates["step"],
        "meters, delay, rings": rates["work"] - rates["path"],
        "waking": rates["cpu rtden worker"] - rates["work"],
        "watching devices": rates["cpu rtden devices"],
        "status": rates["cpu MainThread"],
    }


def _counters(watches: dict[str, list[Stopwatch]]) -> dict[str, float]:
    """Return CPU time and voluntary context switches of the process, its threads and its parts."""
    counters = {"elapsed": time.perf_counter(), "cpu": time.process_time(), "switches": math.nan}
    counters |= {part: sum(one.seconds for one in each) for part, each in watches.items()}
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


COLUMNS = {
    "CPU": "{0.cpu:.2%}",
    "Wakes of the worker": "{0.wakes_per_second:.0f} a second",
    "All switches": "{0.switches_per_second:.0f} a second",
    "Turn p50 / p99": "{0.turn.p50_ms:.2f} / {0.turn.p99_ms:.2f} ms",
    "Drop-outs": "{0.dropouts}",
    "Latency": "{0.latency_ms:.0f} ms",
    "Start": "{0.start_seconds:.2f} s",
}
"""Headers of the first table, and the formats of a result."""


def main(
    seconds: Annotated[float, typer.Option(min=5.0, help="Of sound for each figure.")] = 20.0,
    model: ModelOption = None,
) -> None:
    """Measure sound and silence, and print both."""
    found = [measure_live(model, seconds=seconds, silent=silent) for silent in (False, True)]
    parts = {name: f"{{0.parts[{name}]:.2%}}" for name in found[0].parts}
    screen.print(f"{seconds:g} s a figure; CPU time in percent of a core")
    for columns in (COLUMNS, parts):
        table = Table("Input", *(Column(name, justify="right") for name in columns), box=None)
        for cost in found:
            cells = (form.format(cost) for form in columns.values())
            table.add_row("silence" if cost.silent else "sound", *cells)
        screen.print(table, "")


if __name__ == "__main__":
    typer.run(main)
