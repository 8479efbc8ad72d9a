"""Live sound beside a busy Python thread: how late the callbacks come, and what helps.

    python bench/busy.py [--seconds 20]

Starts a PulseAudio server of its own with two null sinks and runs `open_live` between them, in a
process of its own for each row: alone, beside a thread that computes in pure Python, with a shorter
switch interval, and with that thread in another process, as `rtden live` would have it. How late a
callback comes is counted from the earliest one, by the samples that it brings or takes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from common import screen
from pulse import RATE_HZ, PulseServer
from rich.table import Table
from rounds import processor_name

from rtden import open_live
from rtden.live.endpoint import Endpoint
from rtden.measure.cost import in_own_process

SETTLE_SECONDS = 4.0
SHORT_INTERVAL_SECONDS = 0.0005
AT_ONCE_SECONDS = 0.001
"""Blocks of a recording that waited together come one after the other."""
ROWS: dict[str, dict[str, Any]] = {
    "alone": {},
    "busy thread": {"busy": True},
    "… sys.setswitchinterval(0.0005)": {"busy": True, "interval": SHORT_INTERVAL_SECONDS},
    "… buffer_ms=60": {"busy": True, "buffer_ms": 60.0},
    "busy thread of another process": {"busy_elsewhere": True},
}


def compute() -> None:
    """Keep the interpreter's lock for as long as it allows."""
    while True:
        sum(number * number for number in range(1000))


def listen(
    *,
    seconds: float,
    busy: bool = False,
    busy_elsewhere: bool = False,
    interval: float | None = None,
    buffer_ms: float | None = None,
) -> dict[str, Any]:
    """Run live sound and return how late callbacks came, in ms, and the drop-outs."""
    if interval is not None:
        sys.setswitchinterval(interval)
    engine = open_live("mouth.monitor", "ear", buffer_ms=buffer_ms, realtime=False)
    calls: dict[str, list[tuple[float, int]]] = {"captured": [], "play": []}

    def watch(side: Endpoint, name: str, pass_on: Callable[[Any], None], block: Any) -> None:
        now, samples, made = time.perf_counter(), len(block) // side.ring.sample_bytes, calls[name]
        if made and now - made[-1][0] < AT_ONCE_SECONDS:
            samples += made.pop()[1]
        made.append((now, samples))
        pass_on(block)

    for side, name in ((engine.source, "captured"), (engine.sink, "play")):
        setattr(side, name, partial(watch, side, name, getattr(side, name)))
    child = os.fork() if busy_elsewhere else None
    if child == 0:
        compute()
    with engine:
        if busy:
            threading.Thread(target=compute, daemon=True).start()
        time.sleep(SETTLE_SECONDS)
        begun, before = [*map(len, calls.values())], engine.status().xruns
        time.sleep(seconds)
        status = engine.status()
    if child is not None:
        os.kill(child, 9)
        os.waitpid(child, 0)
    late = [_lateness_ms(made[start:]) for made, start in zip(calls.values(), begun, strict=True)]
    return {"late_ms": late, "xruns": status.xruns - before, "latency_ms": status.latency_ms}


def _lateness_ms(calls: list[tuple[float, int]]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    times, samples = np.array(calls).T
    late = times - np.cumsum(samples) / RATE_HZ
    late -= np.polynomial.Polynomial.fit(times, late, 1)(times)  # the clock of the server
    median, most = np.percentile(1000.0 * (late - late.min()), (50, 99))
    return float(median), float(most)


def main(seconds: Annotated[float, typer.Option(help="Sound for each row.")] = 20.0) -> None:
    """Measure, and print a table."""
    columns = ("Input p50 / p99 (ms)", "Output p50 / p99 (ms)", "Drop-outs, late blocks")
    table = Table("Program", *columns, "Delay (ms)", box=None)
    with tempfile.TemporaryDirectory() as folder:
        server = PulseServer(Path(folder), ("mouth", "ear"))
        os.environ.update(server.env)
        try:
            for name, options in ROWS.items():
                found = in_own_process(listen, seconds=seconds, **options)
                late = (f"{median:.1f} / {most:.1f}" for median, most in found["late_ms"])
                table.add_row(name, *late, str(found["xruns"]), f"{found['latency_ms']:.0f}")
        finally:
            server.stop()
    screen.print(f"{processor_name()}, {os.cpu_count()} cores; {seconds:g} s a row")
    screen.print(table)


if __name__ == "__main__":
    typer.run(main)
