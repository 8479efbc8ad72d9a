"""rtden beside other denoisers: quality on the same pairs, and cost in turns on the same sound.

    pip install .[eval,peers,noisereduce]
    python bench/peers.py --pairs FOLDER [--model seed] [--results FOLDER]
    python bench/peers.py --cost-only [--results FOLDER]

FOLDER of pairs holds `clean/` and `noisy/` with the same file names. `peer_drivers.py` lists the
others; one that is not installed is left out.

Quality: each gets the sound at its own rate, as a stream, and its own delay is taken off, so that
all are compared with the same samples of the clean signal. rtden's models run as `rtden file` runs
them, and the first one also as `rtden live` does, at 30 ms.

Cost: each lives in a process of its own, with one thread, and they take turns, round by round.
First as live: blocks of 10 ms at 48 kHz, each with its own resampling; these ratios are the
headline. Then alone, at its own rate; then with whole files. noisereduce cannot take a stream.

With `--results`, FOLDER gets peers-NAME.json (quality, file by file; NAME is that of the folder of
pairs), peers-cost.json and peers-cost.txt.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from common import ForceOption, ProcessesOption, markdown, messages, one_sentence, screen
from drivers import AsLive, Copy, Driver, FilePath, Rtden, RtdenLive, rtden_file
from peer_drivers import PEERS, NoiseReduce
from remix import changed, remix
from rounds import Cost, Spread, measure_costs, noisy_speech, processor_name, ratios

from rtden import list_models
from rtden.app.options import progress
from rtden.errors import InputError
from rtden.files.atomic import check_target, write_whole
from rtden.live.plan import live_settings
from rtden.measure.evaluation import Evaluation
from rtden.measure.scores import Processor, StreamProcessor, missing_packages, score_pairs
from rtden.measure.tables import tables, to_json, versions
from rtden.model import find_model

Drivers = dict[str, Callable[[], Driver]]
RTDEN, NOTHING = "rtden", "nothing"


def label(model: str | Path | None) -> str:
    """Return a model's name among other denoisers: the default one stands for rtden."""
    return RTDEN if find_model(model) == find_model() else f"{RTDEN} {model}"


def processors(models: list[str]) -> dict[str, Processor]:
    """Return the systems whose quality is scored, models as files, the first one also live."""
    found: dict[str, Processor] = {label(model): StreamProcessor(model) for model in models}
    live = live_settings(model=models[0])
    found[f"{label(models[0])} live"] = StreamProcessor(models[0], live, lead_in=False)
    return {**found, **{name: peer for name, peer in PEERS.items() if peer.is_installed()}}


def live_streams(models: list[str]) -> Drivers:
    """Return the drivers of live sound at 48 kHz, rtden's first, and the loop around them."""
    ours: Drivers = {label(model): functools.partial(RtdenLive, model) for model in models}
    ours[f"{label(models[0])}, each step alone"] = functools.partial(RtdenLive, models[0], 1)
    others: Drivers = {
        name: functools.partial(AsLive, peer.driver)
        for name, peer in PEERS.items()
        if peer.is_installed() and peer.driver is not NoiseReduce
    }
    return {**ours, **others, NOTHING: Copy}


def streams(models: list[str]) -> Drivers:
    """Return the drivers of streams at their own rates, rtden's first, and the loop around them."""
    ours: Drivers = {label(model): functools.partial(Rtden, model) for model in models}
    ours[f"{label(models[0])}, hops_per_step 4"] = functools.partial(Rtden, models[0], 4)
    others = {name: peer.driver for name, peer in PEERS.items() if peer.is_installed()}
    return {**ours, **others, NOTHING: Copy}


def whole_files(rate_hz: int) -> Drivers:
    """Return the drivers of whole files, rtden's first."""
    found: Drivers = {"rtden file": functools.partial(FilePath, rtden_file, rate_hz)}
    others = {"DTLN": (), "noisereduce": (rate_hz,)}
    installed = [name for name in others if name in PEERS and PEERS[name].is_installed()]
    return found | {n: functools.partial(PEERS[n].driver, *others[n]) for n in installed}


def model_kb(system: str, models: list[str]) -> float:
    """Return the size on disk of a denoiser's model, in KiB; 0 if it has none."""
    if system == NOTHING:
        return 0.0
    if system in PEERS:
        return PEERS[system].model_bytes() / 1024
    model = next((model for model in models if label(model) == system), models[0])
    return find_model(model).stat().st_size / 1024


def figures_of(costs: Mapping[str, Cost]) -> dict[str, dict[str, Any]]:
    """Return the costs for JSON; the others are divided by the first one."""
    first = next(iter(costs.values()))
    found = {}
    for name, cost in costs.items():
        known = {
            "cpu_per_second": asdict(Spread.of(cost.cpu_per_second)),
            "times_the_first": asdict(ratios(cost.cpu_per_second, first.cpu_per_second)),
            "frame_ms": 1000.0 * cost.frame_samples / cost.rate_hz if cost.frame_samples else None,
            "cores": cost.cores,
        }
        if cost.start_seconds:
            known["start_seconds_median"] = Spread.of(cost.start_seconds).median
        found[name] = {**known, **asdict(cost)}
    return found


def score(pairs: Path, models: list[str], metrics: list[str], processes: int | None) -> Evaluation:
    """Score all on pairs of files, and print the scores."""
    if missing := missing_packages():
        messages.print(missing, markup=False)
    with progress("pairs") as show:
        evaluation = score_pairs(
            pairs, processors(models), metrics=metrics, processes=processes, progress=show
        )
    if left_out := evaluation.left_out():
        messages.print(left_out, markup=False)
    title = f"{len(evaluation.files)} pairs, rtden as whole files and live at 30 ms"
    screen.print(f"{title}; in brackets the change against noisy, ± 95 % confidence")
    for table in tables(evaluation):
        screen.print(table, "")
    return evaluation


def measure(models: list[str], *, seconds: float, rounds: int, starts: int) -> dict[str, Any]:
    """Measure the cost of all, as live, alone and with whole files; return it for JSON."""
    noisy, rate_hz = noisy_speech(seconds)
    kinds = {
        "live": (live_streams(models), 0),
        "streams": (streams(models), starts),
        "files": (whole_files(rate_hz), 0),
    }
    found: dict[str, Any] = {
        "processor": processor_name(),
        "versions": versions(),
        "seconds": seconds,
        "rounds": rounds,
        "starts": starts,
    }
    absent = [name for name, peer in PEERS.items() if not peer.is_installed()]
    notes = [f"not installed: {', '.join(absent)}."] if absent else []
    for kind, (drivers, often) in kinds.items():
        with progress(kind) as show:
            costs = measure_costs(
                drivers, noisy, rate_hz, rounds=rounds, starts=often, progress=show
            )
        found[kind] = figures_of(costs)
        busy = {
            name: cost.cores
            for name, cost in costs.items()
            # Of less than a few milliseconds, the two clocks tell nothing.
            if cost.cores > 1.2 and sum(cost.processor_seconds) > 0.01
        }
        notes += [f"{name} ({kind}) kept {cores:.1f} cores busy." for name, cores in busy.items()]
    for name, known in found["streams"].items():
        known["model_kb"] = model_kb(name, models)
        known.update(PEERS[name].details() if name in PEERS else {})
    return {**found, "notes": notes}


CONDITIONS = """{processor}; one thread each; {seconds:g} s of noisy speech, {rounds} rounds in
turns, medians; in brackets the quartiles of the ratio, round by round. CPU: time on all cores."""
TITLES = {
    "live": """As live: 48 kHz in and out in blocks of 10 ms, each with its own resampling, and with
the conversions to its format. Without threads and devices, which are the same for all. rtden takes
two steps at a time, as `rtden live` does where its output holds one in reserve.""",
    "streams": """Alone: at its own rate, resampled beforehand, frames in its own format. Delay: of
the algorithm, a frame's length included. Start: of a fresh process, until sound has come out.
Memory: the peak of that process. Nothing: Python, numpy and the same loop, around a copy.""",
    "files": "Whole files, on one core; rtden from file to file, the others from memory to memory.",
}
COLUMNS = {
    "live": ("CPU per second", "times", "memory"),
    "streams": (
        *("rate", "frame", "CPU per second", "times", "delay", "start", "memory", "model (KiB)"),
    ),
    "files": ("rate", "CPU per second", "times real time", "times"),
}


def cell(column: str, cost: dict[str, Any]) -> str:
    """Return a cost as a table shows it; "times" is how many times the first row's it is."""
    cpu, times = cost["cpu_per_second"]["median"], cost["times_the_first"]
    spread = f"{times['median']:.3g} ({times['low']:.3g}–{times['high']:.3g})"
    return {
        "CPU per second": f"{1000.0 * cpu:.1f} ms",
        "times": "1" if times["least"] == times["most"] == 1.0 else spread,
        "times real time": f"{1.0 / cpu:.0f} x",
        "memory": f"{cost['peak_mb']:.0f} MiB",
        "rate": f"{cost['rate_hz'] / 1000:g} kHz",
        "frame": f"{cost['frame_ms']:.1f} ms" if cost["frame_ms"] else "whole",
        "delay": "offline" if cost["delay_ms"] is None else f"{cost['delay_ms']:.1f} ms",
        "start": f"{cost.get('start_seconds_median', 0.0):.2f} s",
        "model (KiB)": f"{cost['model_kb']:.0f}" if cost.get("model_kb") else "–",
    }[column]


def cost_text(found: dict[str, Any]) -> str:
    """Return the costs as text, with tables in Markdown."""
    parts = [CONDITIONS.format(**found)]
    for kind, title in TITLES.items():
        names, first = COLUMNS[kind], next(iter(found[kind]))
        rows = [[name, *(cell(c, cost) for c in names)] for name, cost in found[kind].items()]
        header = [kind, *(f"times {first}'s" if name == "times" else name for name in names)]
        parts += [title, markdown([header, *rows])]
    return "\n\n".join([*parts, *found["notes"]])


def main(
    pairs: Annotated[Path | None, typer.Option(help="Folder with clean/ and noisy/.")] = None,
    noise_db: Annotated[
        float, typer.Option(help="Gain for the noise of the pairs: -15 scores mild noise.")
    ] = 0.0,
    to_hz: Annotated[
        int | None,
        typer.Option(help="Rate of the pairs: 8000 scores telephone sound.", show_default="theirs"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="rtden's model; may be given again.", show_default="all shipped ones"),
    ] = None,
    cost_only: Annotated[
        bool, typer.Option("--cost-only", help="Leave quality out, which takes minutes.")
    ] = False,
    quality_only: Annotated[
        bool, typer.Option("--quality-only", help="Leave cost out, which wants a quiet machine.")
    ] = False,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric, as for 'rtden eval'.", show_default="all")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Length of the sound that costs are measured with.")
    ] = 20.0,
    rounds: Annotated[int, typer.Option(help="How often each one processes it.")] = 15,
    starts: Annotated[int, typer.Option(help="How often each one is started afresh.")] = 5,
    processes: ProcessesOption = None,
    results: Annotated[Path | None, typer.Option(help="Folder to write figures into.")] = None,
    force: ForceOption = False,
) -> None:
    """Score rtden and others on pairs, and measure what they cost."""
    with one_sentence("peers"):
        if (pairs is None) != cost_only or (quality_only and cost_only):
            raise InputError("give a folder of pairs with --pairs, or --cost-only, and not both.")
        if not (seconds >= 1 and math.isfinite(seconds) and rounds >= 1 and starts >= 1):
            raise InputError("--seconds, --rounds and --starts must be 1 or more.")
        names = [] if quality_only else ["peers-cost.json", "peers-cost.txt"]
        change = changed(noise_db, to_hz)
        names += [] if pairs is None else [f"peers-{pairs.resolve().name}{change}.json"]
        out = [] if results is None else [results / name for name in names]
        for path in out:
            check_target(path, force=force)
        for name, peer in PEERS.items():
            if not peer.is_installed():
                messages.print(peer.left_out(name), markup=False)
        models, written = model or list_models(), []
        if pairs is not None:
            with tempfile.TemporaryDirectory() as made:
                scored = pairs
                if change:
                    scored = remix(pairs, Path(made), noise_db=noise_db, to_hz=to_hz)
                quality = to_json(score(scored, models, metric or [], processes))
        if not quality_only:
            found = measure(models, seconds=seconds, rounds=rounds, starts=starts)
            text = cost_text(found)
            screen.print(text, markup=False)
            content = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
            written += [f"{content}\n".encode(), f"{text}\n".encode()]
        written += [] if pairs is None else [quality]
        for path, content_ in zip(out, written, strict=False):
            write_whole(path, content_, force=force)


if __name__ == "__main__":
    typer.run(main)
