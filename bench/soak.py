"""A day of live denoising in minutes: the real engine, simulated devices, random faults.

    python bench/soak.py --hours 24 [--seed 1] [--drift-ppm 300] [--no-faults] [--json OUT]

Faults, each a few times an hour: a source or a sink that calls up to 200 ms late, a worker that
gets no processor for as long, clocks that wander by 50 ppm, a device that is unplugged for up to a
minute. At the end every sample must be accounted for, the delay must have come back to its plan
after every fault, and memory must not have grown.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from common import messages, screen
from rich.table import Table
from rig import Rig

from rtden import Settings
from rtden.live.status import SampleCounts
from rtden.measure.cost import resident_mb

FAULT_EVERY_SECONDS = 180.0
RECOVERED_SECONDS = 15.0
"""Time after a fault until the delay is compared with its plan."""
MOST_LATE_SECONDS = 0.2
LONGEST_ABSENCE_SECONDS = 60.0


@dataclass
class Span:
    """What was seen in a part of the run."""

    hours: float
    faults: int
    least_delay_ms: float
    most_delay_ms: float
    dropouts: int
    disconnects: int
    lost_ms: float
    drift_ppm: float
    rss_mb: float


def imbalance(counts: SampleCounts, *, inside: int) -> list[str]:
    """Return the sums that do not hold; `inside` bounds the samples inside the engine."""
    given = counts.returned - counts.discarded + counts.padding_samples
    stretch = counts.taken * 500e-6
    holds = {
        "captured = skipped + taken + waiting": counts.captured
        == counts.skipped + counts.taken + counts.waiting,
        "returned - discarded + padding = played + dropped + ready": given
        == counts.played + counts.dropped + counts.ready,
        "taken and returned differ by what is inside and 500 ppm at most": -stretch
        <= counts.taken - counts.returned
        <= stretch + inside,
    }
    return [f"not so: {rule}, in {counts}" for rule, true in holds.items() if not true]


def soak(
    hours: float,
    *,
    seed: int,
    drift_ppm: float,
    faults: bool,
    hops_per_step: int,
    report: Callable[[Span], None] = lambda _: None,
) -> tuple[Rig, list[Span]]:
    """Run for some simulated hours; return the rig and the figures of 24 spans."""
    rng = np.random.default_rng(seed)
    rig = Rig(source_ppm=drift_ppm, settings=Settings(limit_db=0.0, hops_per_step=hops_per_step))
    rig.run(10.0)
    spans: list[Span] = []
    fault_at = rig.now + rng.exponential(FAULT_EVERY_SECONDS)
    steady_from = rig.now
    for _ in range(24):
        ends_at = rig.now + hours * 3600 / 24
        delays, count = [], 0
        while rig.now < ends_at:
            rig.run(min(5.0, ends_at - rig.now))
            if rig.engine.status().state != "running":
                steady_from = max(steady_from, rig.now + RECOVERED_SECONDS)
            if rig.now >= steady_from:
                delays.append(rig.delay_seconds())
            if faults and rig.now >= fault_at:
                count += 1
                steady_from = rig.now + _fault(rig, rng) + RECOVERED_SECONDS
                fault_at = rig.now + rng.exponential(FAULT_EVERY_SECONDS)
        status = rig.engine.status()
        span = Span(
            hours=rig.now / 3600,
            faults=count,
            least_delay_ms=1000 * min(delays, default=np.nan),
            most_delay_ms=1000 * max(delays, default=np.nan),
            dropouts=status.dropouts,
            disconnects=status.disconnects,
            lost_ms=status.lost_ms,
            drift_ppm=status.drift_ppm,
            rss_mb=resident_mb(),
        )
        spans.append(span)
        report(span)
    return rig, spans


def _fault(rig: Rig, rng: np.random.Generator) -> float:
    """Let something go wrong; return how long it lasts."""
    seconds = float(rng.uniform(0.02, MOST_LATE_SECONDS))
    match rng.integers(5):
        case 0:
            rig.late_until[rig.source] = rig.now + seconds
        case 1:
            rig.late_until[rig.sink] = rig.now + seconds
        case 2:
            rig.worker_sleeps_until = rig.now + seconds
        case 3:
            device = rig.source if rng.random() < 0.5 else rig.sink
            device.ppm = float(np.clip(device.ppm + rng.normal(0.0, 50.0), -200.0, 200.0))
            return 60.0
        case _:
            seconds = float(rng.uniform(1.0, LONGEST_ABSENCE_SECONDS))
            (rig.source if rng.random() < 0.5 else rig.sink).go_away(seconds)
            return seconds + 16.0  # the longest pause between two tries, twice
    return seconds


def main(
    hours: Annotated[float, typer.Option(help="Simulated hours.")] = 24.0,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 1,
    drift_ppm: Annotated[
        float, typer.Option(help="By how much faster the source's clock runs at the start.")
    ] = 100.0,
    faults: Annotated[
        bool, typer.Option(help="Whether anything goes wrong besides the clocks.")
    ] = True,
    hops_per_step: Annotated[
        int, typer.Option(help="Frames per step: more hours in less time.")
    ] = 8,
    out: Annotated[Path | None, typer.Option("--json", help="Write what was seen here.")] = None,
) -> None:
    """Run the engine for simulated hours."""
    began = time.monotonic()
    rig, spans = soak(
        hours,
        seed=seed,
        drift_ppm=drift_ppm,
        faults=faults,
        hops_per_step=hops_per_step,
        report=lambda span: messages.print(f"{span.hours:.1f} h", end=" "),
    )
    columns = ("Hours", "Faults", "Delay (ms)", "Drop-outs", "Losses", "Lost (s)", "Drift (ppm)")
    table = Table(*columns, "RSS (MiB)", box=None)
    for span in spans:
        delays = f"{span.least_delay_ms:.1f} to {span.most_delay_ms:.1f}"
        figures = (span.dropouts, span.disconnects, round(span.lost_ms / 1000, 1))
        last = f"{span.drift_ppm:.0f}", f"{span.rss_mb:.1f}"
        table.add_row(f"{span.hours:.1f}", str(span.faults), delays, *map(str, figures), *last)
    screen.print(table)
    counts = rig.engine.counts
    wrong = imbalance(counts, inside=rig.source.rate_hz)
    later = spans[4:]
    slope = float(np.polyfit([at.hours for at in later], [at.rss_mb for at in later], 1)[0])
    minutes = (time.monotonic() - began) / 60
    screen.print(
        f"{hours:g} h in {minutes:.1f} min; memory grows by {slope:+.3f} MiB an hour; "
        f"{asdict(counts)}"
    )
    screen.print("; ".join(wrong) or "every sample is accounted for")
    if out is not None:
        seen = {"spans": [asdict(span) for span in spans], "counts": asdict(counts)}
        text = json.dumps({**seen, "rss_mb_per_hour": slope}, indent=1)
        out.write_text(f"{text}\n", encoding="utf-8")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
