"""Measure cost and quality; draw spectrograms."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Column, Table
from typer import Argument, Option

from rtden.app import options
from rtden.app.options import messages, screen
from rtden.errors import SettingsError

if TYPE_CHECKING:
    from rtden.measure.evaluation import Evaluation

MODELS = "Model to measure, by default all shipped ones; repeatable."
ModelsOption = Annotated[list[str] | None, Option("--model", "-m", metavar="NAME", help=MODELS)]
HOPS = "Hops per step, by default all numbers in turn; repeatable."
LIMITS = "Reduce noise by at most this, in dB; repeatable."
AT_ONCE = "Measure a voice agent's streams at once; 0 finds how many hold."
TRANSCRIPTS = "Also measure word errors: a file of transcripts, or 'clean'."
PROCESSES = "Files to score at a time."
METRICS = "Metric, such as si-sdr or p.808, by default all; repeatable."
# Columns of tables: header and format. {0} is a result; {1} and {2} are further values of a row.
STEP = {"Model": "{0.model}", "Hops per step": "{0.hops_per_step}"}
COSTS = STEP | {
    "Latency": "{0.latency_ms:.0f} ms",
    "Real-time factor": "{0.real_time_factor:.4f}",
    "Headroom": "{0.headroom:.0f} x",
    "Memory": "{0.rss_mb:.0f} MiB",
    "File": "{0.model_kb:.0f} KiB",
}
TIMES = STEP | {
    "Stage": "{1}",
    "p50 (ms)": "{2.p50_ms:.3f}",
    "p95 (ms)": "{2.p95_ms:.3f}",
    "p99 (ms)": "{2.p99_ms:.3f}",
}
INPUT = {"Model": "{0.model}", "Input": "{1}"}
LIVE = INPUT | {
    "CPU": "{0.cpu:.2%}",
    "Wakes of the worker": "{0.wakes_per_second:.0f} a second",
    "All switches": "{0.switches_per_second:.0f} a second",
    "Turn p50 / p99": "{0.turn.p50_ms:.2f} / {0.turn.p99_ms:.2f} ms",
    "Drop-outs": "{0.dropouts}",
    "Latency": "{0.latency_ms:.0f} ms",
    "Start": "{0.start_seconds:.2f} s",
}
STREAMS = {
    "Model": "{0.model}",
    "Streams": "{0.streams}",
    "Processes": "{0.jobs}",
    "Holds": "{1}",
    "Frame p50 / p99": "{0.frame.p50_ms:.3f} / {0.frame.p99_ms:.3f} ms",
    "Round p50 / p99": "{0.round.p50_ms:.2f} / {0.round.p99_ms:.2f} ms",
    "Load": "{0.load:.2f} cores",
    "A core by CPU time": "{0.streams_per_core:.0f} streams",
    "Memory each": "{0.stream_mb:.1f} MiB",
}


def plot(
    noisy: Annotated[Path, Argument(help="The noisy file.", show_default=False)],
    denoised: Annotated[Path, Argument(help="The denoised file.", show_default=False)],
    out: Annotated[Path, Argument(help="The picture to write.", show_default=False)],
    force: options.ForceOption = False,
) -> None:
    """Draw the mel spectrograms of two files (extra "plot")."""
    from rtden.measure.plots import plot_mels

    plot_mels(noisy, denoised, out, force=force)
    screen.print(f"picture: {out}")


def bench(
    model: ModelsOption = None,
    hops_per_step: Annotated[list[int] | None, Option(metavar="HOPS", help=HOPS)] = None,
    seconds: Annotated[float, Option(help="Sound to process for each figure.")] = 60.0,
    streams: Annotated[int | None, Option(help=AT_ONCE)] = None,
    jobs: Annotated[int, Option(help="Processes that share the --streams.")] = 1,
    live: Annotated[bool, Option("--live", help="Measure live sound, in real time.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure what denoising costs on this machine.

    --streams measures frames of 20 ms at 16 kHz; --live the whole process, between two simulated
    devices of 48 kHz, with sound and in silence.
    """
    options.silence_c_libraries()
    from rtden.model import find_model, list_models

    if not 5 <= seconds <= 3600:
        raise SettingsError(f"--seconds must lie between 5 and 3600, not {seconds:g}.")
    if hops_per_step and (live or streams is not None):
        raise SettingsError("--live and --streams measure streams of 30 ms, with their own hops.")
    if live and streams is not None:
        raise SettingsError("give one of --live and --streams.")
    if jobs != 1 and streams is None:
        raise SettingsError("--jobs shares streams; say how many with --streams.")
    names = model or list_models()
    for name in names:
        find_model(name)
    with messages.status("measuring"):
        if live:
            results, *shown = _bench_live(names, seconds)
        elif streams is not None:
            results, *shown = _bench_streams(names, streams, jobs, seconds)
        else:
            results, *shown = _bench_steps(names, hops_per_step, seconds)
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    else:
        screen.print(*shown)


def _bench_steps(names: list[str], hops_per_step: list[int] | None, seconds: float) -> list[Any]:
    """Return the results, followed by the lines and tables to print."""
    from rtden.measure.cost import in_own_process, measure
    from rtden.settings import HOPS_PER_STEP, Settings

    wanted = hops_per_step or HOPS_PER_STEP
    for value in wanted:
        Settings(hops_per_step=value)  # raises SettingsError
    results = [
        in_own_process(measure, name, value, seconds=seconds)  # whose memory is measured
        for name in names
        for value in wanted
    ]
    stages: list[tuple[Any, ...]] = []
    for result in results:
        times = {**result.stages, "whole step": result.step, "in silence": result.idle}
        stages += [(result, stage, time) for stage, time in times.items()]
    title = f"{results[0].runtime}, {seconds:g} s of sound a figure"
    return [results, title, _table(COSTS, zip(results)), "", _table(TIMES, stages)]


def _bench_live(names: list[str], seconds: float) -> list[Any]:
    from rtden.measure.live_cost import measure_live

    rows = [
        (measure_live(name, seconds=seconds, silent=silent), words)
        for name in names
        for silent, words in ((False, "sound"), (True, "silence"))
    ]
    results = [result for result, _ in rows]
    parts = {name: f"{{0.parts[{name}]:.2%}}" for name in results[0].parts}
    title = f"{seconds:g} s a figure; CPU time in percent of a core"
    return [results, title, _table(LIVE, rows), "", _table(INPUT | parts, rows)]


def _bench_streams(names: list[str], streams: int, jobs: int, seconds: float) -> list[Any]:
    from rtden.measure.streams import PERIOD_SECONDS, measure_streams, most_streams

    results = []
    for name in names:
        work = functools.partial(measure_streams, model=name, jobs=jobs, seconds=seconds)
        results.append(work(streams) if streams else most_streams(work, jobs))
    table = _table(STREAMS, [(result, "yes" if result.holds else "no") for result in results])
    note = (
        "Holds: the 99th percentile of a round (a frame of every stream of a process) is below the "
        f"{1000.0 * PERIOD_SECONDS:g} ms until the next frames."
    )
    return [results, table, note]


def _table(columns: dict[str, str], rows: Iterable[tuple[Any, ...]]) -> Table:
    words = {"Model", "Hops per step", "Stage", "Input"}
    table = Table(
        *(Column(name, justify="left" if name in words else "right") for name in columns), box=None
    )
    for row in rows:
        table.add_row(*(form.format(*row) for form in columns.values()))
    return table


def evaluate(
    pairs: Annotated[Path, Option(help="Folder with clean/ and noisy/, the same names in both.")],
    model: ModelsOption = None,
    limit_db: Annotated[list[float] | None, Option(metavar="DB", help=LIMITS)] = None,
    metric: Annotated[list[str] | None, Option(metavar="NAME", help=METRICS)] = None,
    live: Annotated[bool, Option("--live", help="Also score live sound, at 30 ms.")] = False,
    transcripts: Annotated[str | None, Option(help=TRANSCRIPTS)] = None,
    processes: Annotated[int | None, Option(help=PROCESSES, show_default="one per core")] = None,
    as_json: Annotated[Path | None, Option("--json", help="JSON file for all figures.")] = None,
    picture: Annotated[Path | None, Option("--plot", help="Picture of scores by SNR.")] = None,
    force: options.ForceOption = False,
) -> None:
    """Score models on pairs of clean and noisy files.

    The files are denoised as 'rtden file' does it. PESQ, ESTOI, SI-SDR, DNSMOS P.835 and P.808
    (extra "eval"); DistillMOS (extra "judge"). A star marks metrics that the training loss has a
    model of. --transcripts (extra "recognition", English) takes a file with a line 'NAME what is
    said' for each pair, or 'clean' to compare with what the recogniser finds in the clean files.
    """
    options.silence_c_libraries()
    from rich.progress import MofNCompleteColumn

    from rtden.files.atomic import check_target
    from rtden.measure import plots, scores
    from rtden.measure.pairs import find_pairs
    from rtden.model import list_models

    if as_json is not None:
        check_target(as_json, force=force)
    if picture is not None:
        plots.check_picture(picture, force=force)
    find_pairs(pairs)
    if missing := scores.missing_packages():
        messages.print(missing)
    with options.progress("pairs", MofNCompleteColumn()) as show:
        result = scores.evaluate(
            pairs,
            model or list_models(),
            limits_db=limit_db or [math.inf],
            live=live,
            metrics=metric or (),
            transcripts=transcripts,
            processes=processes,
            progress=show,
        )
    _report(result, as_json, picture, force=force)


def _report(result: Evaluation, as_json: Path | None, picture: Path | None, *, force: bool) -> None:
    from rtden.files.atomic import write_whole
    from rtden.live.status import counted
    from rtden.measure import plots, tables

    if left_out := result.left_out():
        messages.print(left_out)
    pairs = counted(len(result.files), "pair")
    screen.print(f"{pairs}; in brackets the change against noisy, ± 95 % confidence")
    for table in tables.tables(result):
        screen.print(table, "")
    if as_json is not None:
        write_whole(as_json, tables.to_json(result), force=force)
        screen.print(f"figures: {as_json}")
    if picture is not None:
        plots.plot_scores(result, picture, force=force)
        screen.print(f"picture: {picture}")
