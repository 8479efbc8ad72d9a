"""Measure cost and quality; draw spectrograms."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from rtden.app.options import (
    AdvanceOption,
    ForceOption,
    messages,
    one_sentence,
    progress_bar,
    screen,
    show_progress,
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
    hops_per_step: Annotated[
        list[int] | None,
        typer.Option(
            help="Hops per step to measure; may be given again.", show_default="1, 2, 4 and 8"
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Sound to process for each figure.")] = 60.0,
    threads: Annotated[
        int,
        typer.Option(
            help="Threads of the network and of numpy; with --streams, threads in each process "
            "that share its streams."
        ),
    ] = 1,
    streams: Annotated[
        int | None,
        typer.Option(
            help="Measure whether as many live streams at once hold (16 kHz, frames of 20 ms, as "
            "a voice agent has them); 0 finds the largest number that does.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="With --streams: processes that share the streams, one for each core.",
            show_default="1",
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Measure the whole process of live sound instead, in real time: from one "
            "simulated device of 48 kHz to another, with sound and in silence.",
        ),
    ] = False,
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


@one_sentence
def evaluate(
    pairs: Annotated[
        Path,
        typer.Option(
            "--pairs",
            help="Folder that holds clean/ and noisy/ with the same file names.",
            show_default=False,
        ),
    ],
    model: ModelsOption = None,
    hops_per_step: AdvanceOption = 1,
    iterations: Annotated[
        int | None,
        typer.Option(help="Griffin-Lim iterations per step.", show_default="the model's"),
    ] = None,
    limit_db: Annotated[
        list[float] | None,
        typer.Option(
            help="Take at most this much off the noise, in dB; may be given again to compare.",
            show_default="no limit",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric to measure, such as si-sdr or p.808; may be given again.",
            show_default="all that are installed",
        ),
    ] = None,
    transcripts: Annotated[
        str | None,
        typer.Option(
            help="Also measure the word error rate of a recogniser (extra 'recognition'): a file "
            "with a line 'NAME what is said' for each pair, or 'clean' to compare with what the "
            "recogniser finds in the clean files. English.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Files to work on at a time.", show_default="one for each core"),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write everything, file by file, into this file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw the scores by SNR into this picture.")
    ] = None,
    into_sidecar: Annotated[
        bool, typer.Option("--into-sidecar", help="Write each model's figures into its sidecar.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Score models on pairs of clean and noisy files (extra "eval").

    PESQ, STOI, SI-SDR, DNSMOS P.835 and P.808; DistillMOS with the extra "judge"; the word error
    rate with --transcripts. A star marks metrics that the training loss has a model of.
    """
    from rich.progress import MofNCompleteColumn

    from rtden.errors import InputError
    from rtden.files.audio_file import check_target, write_whole
    from rtden.measure import plots, scores, tables
    from rtden.measure.pairs import find_pairs
    from rtden.model import list_models
    from rtden.settings import Settings

    settings = Settings(hops_per_step=hops_per_step, iterations=iterations)
    names, limits_db = model or list_models(), limit_db or [math.inf]
    if into_sidecar and len(limits_db) > 1:
        raise InputError("--into-sidecar takes the figures of one --limit-db, not of several.")
    if as_json is not None:
        check_target(as_json, force=force)
    if picture is not None:
        plots.check_picture(picture, force=force)
    find_pairs(pairs)
    if missing := scores.missing_packages():
        messages.print(missing, markup=False)
    with progress_bar(MofNCompleteColumn()) as bar:
        show = functools.partial(show_progress, bar, bar.add_task("pairs", total=None))
        result = scores.evaluate(
            pairs,
            names,
            settings,
            limits_db=limits_db,
            metrics=metric or (),
            transcripts=transcripts,
            processes=processes,
            progress=show,
        )
    if left_out := result.left_out():
        messages.print(left_out, markup=False)
    title = f"{len(result.files)} pairs, hops_per_step {hops_per_step}"
    screen.print(f"{title}; in brackets the change against noisy, ± 95 % confidence")
    for table in tables.tables(result):
        screen.print(table, "")
    if as_json is not None:
        write_whole(as_json, tables.to_json(result), force=force)
        screen.print(f"figures: {as_json}", markup=False)
    if picture is not None:
        plots.plot_scores(result, picture, force=force)
        screen.print(f"picture: {picture}", markup=False)
    for name in names if into_sidecar else ():
        scores.record_metrics(name, result)
