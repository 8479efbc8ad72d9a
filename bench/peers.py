"""rtden beside other denoisers: quality on the same pairs of recordings, and cost in turns on the same sound, each in one run.

    pip install .[eval,peers,noisereduce]
    python bench/peers.py --pairs FOLDER [--model seed] [--results FOLDER]
    python bench/peers.py --cost-only [--quality peers-dev.json] [--results FOLDER]

The folder of pairs holds `clean/` and `noisy/` with the same file names. `drivers.py` says who the others are. For quality, each
gets the sound at its own rate, as a stream, and its own delay is taken off, so that all are compared with the same samples of the
clean signal. For cost, each lives in a process of its own, with one thread, and they take turns, round by round, over a
recording that has been resampled for each beforehand; then the same with functions that denoise a whole recording.
noisereduce cannot take a stream and gets the whole recording in both. One that is not installed is left out.

With `--results`, FOLDER gets peers-NAME.json (quality, file by file; NAME is that of the folder of pairs), peers-cost.json,
peers-cost.txt and, if quality is known, peers.png (extra "plot").
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from drivers import (
    DTLN,
    FILE_PATHS,
    LIVE_LATENCY_MS,
    PEERS,
    Copy,
    Driver,
    FilePath,
    NoiseReduce,
    Rtden,
    RtdenLive,
)
from rich.console import Console
from rich.progress import Progress
from rounds import Cost, Spread, measure_costs, noisy_speech, processor_name, ratios

from rtden import Settings, list_models
from rtden.denoiser import settings_for_latency
from rtden.errors import AudioFileError, InputError, RtdenError
from rtden.files.audio_file import check_target, write_whole
from rtden.measure.evaluation import Evaluation
from rtden.measure.scores import Processor, StreamProcessor, missing_packages, score_pairs
from rtden.measure.tables import tables, to_dict, to_json, versions
from rtden.model import find_model

QUALITY = "PESQ-WB"
"""What the picture shows against cost."""
RTDEN = "rtden"
"""The row that the others' costs are divided by."""
OFFLINE = "offline"
NOTHING = "nothing"

screen = Console(soft_wrap=True, highlight=False, width=320)  # a column for each denoiser
messages = Console(stderr=True, soft_wrap=True, highlight=False)


def label(model: str | Path | None) -> str:
    """Return a model's name among other denoisers: the default one stands for rtden."""
    return RTDEN if find_model(model) == find_model() else f"{RTDEN} {model}"


def processors(models: list[str]) -> dict[str, Processor]:
    """Return whose quality is scored: rtden's models, the first one with a larger hops_per_step and as a live stream too, and the others."""
    found: dict[str, Processor] = {label(model): StreamProcessor(model) for model in models}
    found[f"{label(models[0])}, hops_per_step 4"] = StreamProcessor(
        models[0], Settings(hops_per_step=4)
    )
    found[f"{label(models[0])} live"] = StreamProcessor(
        models[0], settings_for_latency(LIVE_LATENCY_MS, model=models[0])[0]
    )
    return {**found, **{name: peer for name, peer in PEERS.items() if peer.is_installed()}}


def streams(models: list[str]) -> dict[str, Callable[[], Driver]]:
    """Return whose cost is measured, under the same names, and at the end what the loop around them costs."""
    found: dict[str, Callable[[], Driver]] = {
        label(model): functools.partial(Rtden, model) for model in models
    }
    found[f"{label(models[0])}, hops_per_step 4"] = functools.partial(Rtden, models[0], 4)
    found[f"{label(models[0])} live"] = functools.partial(RtdenLive, models[0])
    return {
        **found,
        **{name: peer.driver for name, peer in PEERS.items() if peer.is_installed()},
        NOTHING: Copy,
    }


def whole_files(rate_hz: int) -> dict[str, Callable[[], Driver]]:
    """Return who denoises a whole recording, the first one being what the others are divided by."""
    ours: dict[str, Callable[[], Driver]] = {
        name: functools.partial(FilePath, denoise, rate_hz) for name, denoise in FILE_PATHS.items()
    }
    others: dict[str, Callable[[], Driver]] = {
        "DTLN": DTLN,
        "noisereduce": functools.partial(NoiseReduce, rate_hz),
    }
    return {
        **ours,
        **{
            name: make
            for name, make in others.items()
            if name in PEERS and PEERS[name].is_installed()
        },
    }


def model_kb(system: str, models: list[str]) -> float:
    """Return the size on disk of what a denoiser has learned, in KiB; 0 if it has learned nothing."""
    if system == NOTHING:
        return 0.0
    if system in PEERS:
        return PEERS[system].model_bytes() / 1024
    model = next((model for model in models if label(model) == system), models[0])
    return find_model(model).stat().st_size / 1024


def figures_of(costs: Mapping[str, Cost]) -> dict[str, dict[str, Any]]:
    """Return what is to be known of the costs, for JSON; the first one is what the others are divided by."""
    first = next(iter(costs.values()))
    found = {}
    for name, cost in costs.items():
        known = {
            "real_time_factor": asdict(Spread.of(cost.real_time_factors)),
            "times_the_first": asdict(ratios(cost.real_time_factors, first.real_time_factors)),
            "frame_ms": 1000.0 * cost.frame_samples / cost.rate_hz if cost.frame_samples else None,
            "cores": cost.cores,
        }
        if cost.start_seconds:
            known["start_seconds_median"] = Spread.of(cost.start_seconds).median
        found[name] = {**known, **asdict(cost)}
    return found


def markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown whose columns are also lined up for reading as they are."""
    widths = [max(len(cells[column]) for cells in (header, *rows)) for column in range(len(header))]

    def line(cells: tuple[str, ...]) -> str:
        aligned = [
            cells[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(aligned)} |"

    return "\n".join(
        [
            line(header),
            f"|{'|'.join(['-' * (widths[0] + 2), *('-' * (width + 1) + ':' for width in widths[1:])])}|",
            *map(line, rows),
        ]
    )


def times_cell(times: dict[str, float]) -> str:
    """Return how often one real-time factor goes into another, with its spread."""
    if times["least"] == times["most"] == 1.0:
        return "1"
    return f"{times['median']:.3g} ({times['low']:.3g}–{times['high']:.3g})"


def cost_text(found: dict[str, Any]) -> str:
    """Return the costs as text."""
    stream_rows = []
    for name, cost in found["streams"].items():
        learned = (
            "–"
            if not cost["model_kb"]
            else f"{cost['model_kb']:.0f}" + (" in its library" if name == "RNNoise" else "")
        )
        stream_rows.append(
            (
                name,
                f"{cost['rate_hz'] / 1000:g} kHz",
                f"{cost['frame_ms']:.1f} ms" if cost["frame_ms"] else "whole",
                f"{cost['real_time_factor']['median']:.4f}",
                times_cell(cost["times_the_first"]),
                f"{cost['delay_ms']:.1f} ms" if cost["delay_ms"] is not None else OFFLINE,
                f"{cost['start_seconds_median']:.2f} s",
                f"{cost['peak_mb']:.0f} MiB",
                learned,
            )
        )
    file_rows = [
        (
            name,
            f"{cost['rate_hz'] / 1000:g} kHz",
            f"{cost['real_time_factor']['median']:.4f}",
            f"{1 / cost['real_time_factor']['median']:.0f} x",
            times,
        )
        for name, cost in found["files"].items()
        for times in [times_cell(cost["times_the_first"])]
    ]
    first, first_file = next(iter(found["streams"])), next(iter(found["files"]))
    return "\n\n".join(
        [
            f"{found['processor']}; one thread each; {found['seconds']:g} s of noisy speech, {found['rounds']} rounds in turns, medians; in brackets the "
            "quartiles of the ratio, round by round. Delay: of the algorithm, a frame's length included. Start: of a fresh process, until "
            f"sound has come out (median of {found['starts']}). Memory: the peak of that process. {NOTHING.capitalize()}: Python, numpy and the same loop, "
            "around a copy.",
            markdown(
                (
                    "",
                    "rate",
                    "frame",
                    "real-time factor",
                    f"times {first}'s",
                    "delay",
                    "start",
                    "memory",
                    "model (KiB)",
                ),
                stream_rows,
            ),
            f"Whole recordings, on one core; {', '.join(FILE_PATHS)}: from file to file, its model loaded before; the others from memory to memory.",
            markdown(
                ("", "rate", "real-time factor", "times real time", f"times {first_file}'s"),
                file_rows,
            ),
            *found["notes"],
        ]
    )


def targets(results: Path, pairs: Path | None, *, drawn: bool, force: bool) -> dict[str, Path]:
    """Return the files to write, checked before the work whose results they are to hold."""
    out = {"json": results / "peers-cost.json", "text": results / "peers-cost.txt"}
    if pairs is not None:
        out["quality"] = results / f"peers-{pairs.resolve().name}.json"
    if drawn:
        from rtden.measure.plots import check_picture

        out["picture"] = results / "peers.png"
        check_picture(out["picture"], force=force)
    for path in out.values():
        check_target(path, force=force)
    return out


def score(pairs: Path, models: list[str], processes: int | None) -> Evaluation:
    """Score all on pairs of recordings, and print the scores."""
    if missing := missing_packages():
        messages.print(missing, markup=False)
    with _progress("pairs") as progress:
        evaluation = score_pairs(pairs, processors(models), processes=processes, progress=progress)
    if left_out := evaluation.left_out():
        messages.print(left_out, markup=False)
    screen.print(
        f"{len(evaluation.files)} pairs; in brackets the change against noisy, ± 95 % confidence"
    )
    for table in tables(evaluation):
        screen.print(table, "")
    return evaluation


def measure(models: list[str], *, seconds: float, rounds: int, starts: int) -> dict[str, Any]:
    """Measure what all cost, as streams and with whole recordings; return it for JSON."""
    noisy, rate_hz = noisy_speech(seconds)
    drivers = streams(models)
    with _progress("streams") as progress:
        costs = measure_costs(
            drivers, noisy, rate_hz, rounds=rounds, starts=starts, progress=progress
        )
    with _progress("files") as progress:
        files = measure_costs(
            whole_files(rate_hz), noisy, rate_hz, rounds=rounds, starts=0, progress=progress
        )
    found = figures_of(costs)
    for name, known in found.items():
        known["model_kb"] = model_kb(name, models)
        known.update(PEERS[name].details() if name in PEERS else {})
    absent = [name for name, peer in PEERS.items() if not peer.is_installed()]
    notes = [f"not installed: {', '.join(absent)}."] if absent else []
    notes += [
        f"{name} kept {cost.cores:.1f} cores busy."
        for name, cost in {**costs, **files}.items()
        if cost.cores > 1.2
    ]
    return {
        "processor": processor_name(),
        "versions": versions(),
        "seconds": seconds,
        "rounds": rounds,
        "starts": starts,
        "streams": found,
        "files": figures_of(files),
        "notes": notes,
    }


def draw(found: dict[str, Any], quality: dict[str, Any], out: Path, *, force: bool) -> None:
    """Draw quality against real-time factor and against delay."""
    from pictures import Point, plot_quality

    systems = quality["systems"]
    points = []
    for name, cost in found["streams"].items():
        if name in systems:
            score = systems[name]["scores"][QUALITY]
            factor = cost["real_time_factor"]["median"]
            points.append(
                Point(
                    name,
                    score["mean"],
                    score["gain_ci95"] or 0.0,
                    factor,
                    cost["delay_ms"],
                    ours=name.startswith(RTDEN),
                )
            )
    plot_quality(
        points,
        systems["noisy"]["scores"][QUALITY]["mean"],
        QUALITY,
        quality["pairs"],
        out,
        force=force,
    )


def read_quality(path: Path) -> dict[str, Any]:
    """Return quality figures that an earlier run wrote.

    Raises
    ------
    AudioFileError
        If they cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        found["systems"]["noisy"]["scores"][QUALITY]["mean"]
    except (OSError, ValueError, KeyError, TypeError):
        raise AudioFileError(
            f"{path} holds no quality figures with {QUALITY}; give a file that 'bench/peers.py --pairs ... --results ...' wrote."
        ) from None
    return found


@contextmanager
def _progress(task: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        number = bar.add_task(task, total=None)
        yield lambda done, total: bar.update(number, completed=done, total=total)


def main(
    pairs: Annotated[Path | None, typer.Option(help="Folder with clean/ and noisy/.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="rtden's model; may be given again.", show_default="all shipped ones"),
    ] = None,
    cost_only: Annotated[
        bool, typer.Option("--cost-only", help="Leave quality out, which takes minutes.")
    ] = False,
    quality: Annotated[
        Path | None, typer.Option(help="Quality figures of an earlier run, for the picture.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Length of the recording that costs are measured with.")
    ] = 20.0,
    rounds: Annotated[int, typer.Option(help="How often each one processes it.")] = 15,
    starts: Annotated[int, typer.Option(help="How often each one is started afresh.")] = 5,
    processes: Annotated[
        int | None,
        typer.Option(help="Recordings to score at a time.", show_default="one for each core"),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder to write figures and picture into.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Score rtden and others on pairs, and measure what they cost."""
    try:
        if (pairs is None) != cost_only:
            raise InputError("give a folder of pairs with --pairs, or --cost-only, and not both.")
        if not (seconds >= 1 and math.isfinite(seconds) and rounds >= 1 and starts >= 1):
            raise InputError("--seconds, --rounds and --starts must be 1 or more.")
        models = model or list_models()
        known = read_quality(quality) if quality is not None else None
        drawn = results is not None and (pairs is not None or known is not None)
        out = targets(results, pairs, drawn=drawn, force=force) if results is not None else {}
        for name, peer in PEERS.items():
            if not peer.is_installed():
                messages.print(peer.left_out(name), markup=False)
        if pairs is not None:
            evaluation = score(pairs, models, processes)
            known = to_dict(evaluation)
            if out:
                write_whole(out["quality"], to_json(evaluation), force=force)
        found = measure(models, seconds=seconds, rounds=rounds, starts=starts)
        text = cost_text(found)
        screen.print(text, markup=False)
        if out:
            write_whole(
                out["json"],
                (json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
                force=force,
            )
            write_whole(out["text"], f"{text}\n".encode(), force=force)
        if drawn and known is not None:
            draw(found, known, out["picture"], force=force)
    except RtdenError as error:
        messages.print(f"bench/peers.py: {error}", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    typer.run(main)
