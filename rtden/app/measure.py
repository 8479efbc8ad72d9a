"""Measure cost and quality; draw spectrograms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from rtden.app.options import (
    ForceOption,
    messages,
    one_sentence,
    screen,
)

ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Model to measure; may be given again.",
        show_default="all shipped ones",
    ),
]
HopsOption = Annotated[
    list[int] | None,
    typer.Option(help="Hops per step to measure; may be given again.", show_default="1, 2, 4, 8"),
]
SecondsOption = Annotated[float, typer.Option(help="Sound to process for each figure.")]
ThreadsOption = Annotated[
    int,
    typer.Option(
        help="Threads of the network and of numpy; with --streams, threads in each process that "
        "share its streams."
    ),
]
StreamsOption = Annotated[
    int | None,
    typer.Option(
        help="Measure whether as many live streams at once hold (16 kHz, frames of 20 ms, as a "
        "voice agent has them); 0 finds the largest number that does.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        help="With --streams: processes that share the streams, one for each core.",
        show_default="1",
    ),
]
LiveOption = Annotated[
    bool,
    typer.Option(
        "--live",
        help="Measure the whole process of live sound instead, in real time: from one simulated "
        "device of 48 kHz to another, with sound and in silence.",
    ),
]
STREAMS_COLUMNS = (
    *("Streams", "Processes", "Threads each", "Holds", "Frame p50 / p99", "Round p50 / p99"),
    *("Load", "A core by CPU time", "Memory each"),
)
LIVE_COLUMNS = (
    *("CPU", "Wakes of the worker / all switches", "Turn p50 / p99", "Drop-outs", "Latency"),
    "Start",
)


@one_sentence
def plot(
    noisy: Annotated[Path, typer.Argument(help="The noisy file.", show_default=False)],
    denoised: Annotated[Path, typer.Argument(help="The denoised file.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The picture to write.", show_default=False)],
    force: ForceOption = False,
) -> None:
    """Draw the mel spectrograms of two files side by side."""
    from rtden.measure.plots import plot_mels

    plot_mels(noisy, denoised, out, force=force)
    screen.print(f"picture: {out}", markup=False)


@one_sentence
def bench(
    model: ModelsOption = None,
    hops_per_step: HopsOption = None,
    seconds: SecondsOption = 60.0,
    threads: ThreadsOption = 1,
    streams: StreamsOption = None,
    jobs: JobsOption = None,
    live: LiveOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure what denoising costs on this machine."""
    from rtden.errors import SettingsError
    from rtden.model import find_model, list_models

    if not 5 <= seconds <= 3600:
        raise SettingsError(f"--seconds must lie between 5 and 3600, not {seconds:g}.")
    names = model or list_models()
    for name in names:
        find_model(name)
    if live:
        if streams is not None or hops_per_step:
            raise SettingsError("--live measures one stream of 30 ms, at one hop per step.")
        _bench_live(names, seconds=seconds, as_json=as_json)
    elif streams is not None:
        if hops_per_step:
            raise SettingsError("--streams measures streams of 30 ms, at one hop per step.")
        processes = 1 if jobs is None else jobs
        _bench_streams(names, streams, processes, threads, seconds=seconds, as_json=as_json)
    elif jobs is not None:
        raise SettingsError("--jobs shares streams; say how many with --streams.")
    else:
        _bench_steps(names, hops_per_step, threads, seconds=seconds, as_json=as_json)


def _bench_steps(
    names: list[str],
    hops_per_step: list[int] | None,
    threads: int,
    *,
    seconds: float,
    as_json: bool,
) -> None:
    from rtden.measure.cost import measure_apart
    from rtden.settings import HOPS_PER_STEP, Settings

    hops_per_steps = hops_per_step or list(HOPS_PER_STEP)
    for value in hops_per_steps:
        Settings(hops_per_step=value, threads=threads)  # raises what is wrong
    with messages.status("measuring"):
        results = [
            measure_apart(name, value, seconds=seconds, threads=threads)
            for name in names
            for value in hops_per_steps
        ]
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return
    costs = _table(("Latency", "Real-time factor", "Headroom", "Memory", "File"), "Hops per step")
    times = _table(("p50 (ms)", "p95 (ms)", "p99 (ms)"), "Hops per step", "Stage")
    for result in results:
        key = (result.model, str(result.hops_per_step))
        costs.add_row(
            *key,
            f"{result.latency_ms:.0f} ms",
            f"{result.real_time_factor:.4f}",
            f"{result.headroom:.0f} x",
            f"{result.rss_mb:.0f} MiB",
            f"{result.model_kb:.0f} KiB",
        )
        rows = {**result.stages, "whole step": result.step, "in silence": result.idle}
        for stage, p in rows.items():
            times.add_row(*key, stage, *(f"{ms:.3f}" for ms in (p.p50_ms, p.p95_ms, p.p99_ms)))
    screen.print(f"{results[0].runtime}, threads: {threads}, {seconds:g} s of sound a figure")
    screen.print(costs, "", times)


def _bench_live(names: list[str], *, seconds: float, as_json: bool) -> None:
    from rtden.measure.live_cost import measure_live

    with messages.status("measuring"):
        results = [
            measure_live(name, seconds=seconds, silent=silent)
            for name in names
            for silent in (False, True)
        ]
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return
    table = _table(LIVE_COLUMNS, "Input")
    parts = _table(tuple(results[0].parts), "Input")
    for result in results:
        key = (result.model, "silence" if result.silent else "sound")
        table.add_row(
            *key,
            f"{result.cpu:.2%}",
            f"{result.wakes_per_second:.0f} / {result.switches_per_second:.0f} a second",
            f"{result.turn.p50_ms:.2f} / {result.turn.p99_ms:.2f} ms",
            f"{result.dropouts}",
            f"{result.latency_ms:.0f} ms",
            f"{result.start_seconds:.2f} s",
        )
        parts.add_row(*key, *(f"{part:.2%}" for part in result.parts.values()))
    screen.print(f"{seconds:g} s a figure; CPU time in percent of a core")
    screen.print(table, "", parts)


def _bench_streams(
    names: list[str], streams: int, jobs: int, threads: int, *, seconds: float, as_json: bool
) -> None:
    from rtden.errors import SettingsError
    from rtden.measure.streams import PERIOD_SECONDS, Streams

    if jobs < 1:
        raise SettingsError(f"--jobs must be 1 or more, not {jobs}.")
    if streams < 0 or 0 < streams < jobs * threads:
        fewest = f"at least {jobs * threads} (--jobs times --threads)"
        raise SettingsError(f"--streams must be 0 or {fewest}, not {streams}.")
    results = []
    with messages.status("measuring"):
        for name in names:
            with Streams(name, jobs=jobs, threads=threads) as carried:
                run = carried.run if streams else carried.most
                results.append(run(*([streams] if streams else []), seconds=seconds))
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return
    table = _table(STREAMS_COLUMNS)
    for result in results:
        frame, whole = result.frame, result.round
        table.add_row(
            result.model,
            *map(str, (result.streams, result.jobs, result.threads)),
            "yes" if result.holds else "no",
            f"{frame.p50_ms:.3f} / {frame.p99_ms:.3f} ms",
            f"{whole.p50_ms:.2f} / {whole.p99_ms:.2f} ms",
            f"{result.load:.2f} cores",
            f"{result.streams_per_core:.0f} streams",
            f"{result.stream_mb:.1f} MiB",
        )
    screen.print(table)
    screen.print(
        f"Holds: the 99th percentile of a round (a frame of every stream of a thread) is below the "
        f"{1000.0 * PERIOD_SECONDS:g} ms until the next frames."
    )


def _table(columns: tuple[str, ...], *names: str) -> Table:
    return Table("Model", *names, *(Column(name, justify="right") for name in columns), box=None)
