"""How cost grows: with a smaller hops_per_step, with more streams on more cores, and not at all with the length of a recording.

    python bench/growth.py [--hours 1] [--seconds 20] [--model rtden] [--results FOLDER]

Measures a step at hops_per_step 1, 2, 4 and 8; the most real-time streams that 1, 2, ... processes carry, up to one for each core
(`rtden bench --streams 0 --jobs K`); and the peak memory of a fresh process that denoises a recording of a minute and one of
hours, made of the bundled one, the latter also with as many processes beside it as the machine has cores, whose memory is not counted.
Leaves with 1 if a longer one takes over 28 MiB (30 MB) more. With `--results`, FOLDER gets
growth.txt, growth.json and growth.png (extra "plot").
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer
from rich.console import Console
from rounds import RECORDING, processor_name
from worker import ONE_THREAD

from rtden.errors import InputError, RtdenError
from rtden.files.audio_file import check_target, read_aligned, write_whole
from rtden.files.processes import cores
from rtden.measure.cost import BenchResult, measure_apart
from rtden.measure.streams import Streams, StreamsResult
from rtden.measure.tables import versions
from rtden.settings import HOPS_PER_STEP

MOST_GROWTH_MB = 28.0
"""A longer recording may take so much more memory, in MiB: less than 30 million bytes."""
DENOISE = """
import sys
from worker import peak_mb
from rtden import denoise_file
model, source, target, jobs = sys.argv[1:]
report = denoise_file(source, target, model=model)
print(report.seconds, report.processing_seconds, peak_mb())
"""

screen = Console(soft_wrap=True, highlight=False, width=200)
messages = Console(stderr=True, soft_wrap=True, highlight=False)


def write_long(path: Path, seconds: float) -> None:
    """Write a recording that repeats the bundled one for so long, in little memory."""
    (samples,), rate_hz = read_aligned(RECORDING)
    left = round(seconds * rate_hz)
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16") as file:
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)


def file_memory(seconds: float, model: str, jobs: int = 1) -> dict[str, float]:
    """Return what it takes a fresh process to denoise a recording of that length with so many jobs: its peak memory in MiB, and its time."""
    with tempfile.TemporaryDirectory(prefix="rtden-bench-") as folder:
        source = Path(folder) / "long.wav"
        write_long(source, seconds)
        paths = os.pathsep.join(
            [
                str(Path(__file__).parent),
                str(Path(__file__).parents[1]),
                os.environ.get("PYTHONPATH", ""),
            ]
        )
        command = [
            sys.executable,
            "-c",
            DENOISE,
            model,
            str(source),
            str(Path(folder) / "denoised.wav"),
            str(jobs),
        ]
        ended = subprocess.run(
            command,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RtdenError(
                f"denoising {seconds:g} s of sound failed; what went wrong stands above."
            )
    audio_seconds, processing_seconds, peak_mb = (float(figure) for figure in ended.stdout.split())
    return {
        "audio_seconds": audio_seconds,
        "jobs": jobs,
        "processing_seconds": processing_seconds,
        "peak_mb": peak_mb,
    }


def text_of(
    steps: list[BenchResult], carried: list[StreamsResult], memory: list[dict[str, float]]
) -> str:
    """Return all figures as text."""
    lines = ["hops_per_step   step p50 / p99       a second of sound   latency"]
    for result in steps:
        lines.append(
            f"{result.hops_per_step:>7}   {result.step.p50_ms:.3f} / {result.step.p99_ms:.3f} ms   {1000.0 * result.real_time_factor:>8.2f} ms         "
            f"{result.latency_ms:>6.0f} ms"
        )
    lines += ["", "processes   streams   round p50 / p99       due after   load"]
    for found in carried:
        said = "" if found.holds else "   (does not hold)"
        lines.append(
            f"{found.jobs:>9}   {found.streams:>7}   {found.round.p50_ms:>5.2f} / {found.round.p99_ms:>5.2f} ms     "
            f"{found.period_ms:.2f} ms    {found.load:.2f}{said}"
        )
    lines += ["", "recording   jobs   peak memory   processing"]
    for taken in memory:
        lines.append(
            f"{taken['audio_seconds']:>7.0f} s   {taken['jobs']:>4}   {taken['peak_mb']:>6.1f} MiB    {taken['processing_seconds']:>7.1f} s"
        )
    lines.append(
        f"a longer one takes {growth_mb(memory):+.1f} MiB; at most {MOST_GROWTH_MB:g} are allowed"
    )
    return "\n".join(lines)


def growth_mb(memory: list[dict[str, float]]) -> float:
    """Return how much more memory a longer recording takes than the shortest, at the most."""
    return max(taken["peak_mb"] for taken in memory[1:]) - memory[0]["peak_mb"]


def draw(
    steps: list[BenchResult],
    carried: list[StreamsResult],
    memory: list[dict[str, float]],
    out: Path,
    *,
    force: bool,
) -> None:
    """Draw all three."""
    from pictures import OURS, new_figure, plain, save

    from rtden.measure.plots import NOISY_COLOUR

    figure = new_figure(10.0, 3.3)
    cost, streams, peak = figure.subplots(1, 3)
    style: dict[str, Any] = {"color": OURS, "marker": "o", "markersize": 5.5, "linewidth": 1.6}
    hops_per_steps = np.arange(len(steps))
    cost.plot(hops_per_steps, [result.step.p50_ms for result in steps], label="a step", **style)
    per_hop = [result.step.p50_ms / result.hops_per_step for result in steps]
    cost.plot(
        hops_per_steps,
        per_hop,
        label="… for each frame",
        **{**style, "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
    )
    cost.set_xticks(hops_per_steps, [str(result.hops_per_step) for result in steps])
    cost.set(xlabel="Advance: new frames per step", ylabel="Time, median (ms)", ylim=(0, None))
    cost.legend(frameon=False, fontsize=8.5)
    jobs = [found.jobs for found in carried]
    streams.plot(jobs, [found.streams for found in carried], **style)
    streams.plot(
        [0, *jobs],
        [jobs_ * carried[0].streams for jobs_ in (0, *jobs)],
        color=NOISY_COLOUR,
        linestyle=(0, (4, 2)),
        linewidth=1.0,
        zorder=1,
    )
    streams.set_xticks(jobs)
    streams.set(
        xlabel="Processes, one for each core",
        ylabel="Real-time streams carried",
        ylim=(0, None),
        xlim=(0, jobs[-1] + 0.5),
    )
    streams.text(
        0.97,
        0.04,
        "dashed: in proportion",
        transform=streams.transAxes,
        ha="right",
        fontsize=8,
        color="#777777",
    )
    names = [
        f"{taken['audio_seconds'] / 60:.3g} min"
        if taken["audio_seconds"] < 3600
        else f"{taken['audio_seconds'] / 3600:.3g} h"
        for taken in memory
    ]
    names = [
        name if taken["jobs"] == 1 else f"{name},\n{taken['jobs']} jobs"
        for name, taken in zip(names, memory, strict=True)
    ]
    bars = peak.bar(names, [taken["peak_mb"] for taken in memory], color=OURS, width=0.5)
    peak.bar_label(bars, fmt="%.0f", fontsize=8.5, padding=2)
    peak.set(xlabel="Length of the recording", ylabel="Peak memory (MiB)")
    peak.margins(y=0.15)
    for axis, title in ((cost, "A step"), (streams, "Streams"), (peak, "Memory")):
        axis.set_title(title, fontsize=10, loc="left", fontweight="bold")
        plain(axis)
    save(figure, out, force=force)


def main(
    hours: Annotated[float, typer.Option(help="Length of the longer recording.")] = 1.0,
    seconds: Annotated[
        float, typer.Option(help="Sound for each figure of a step and of the streams.")
    ] = 20.0,
    jobs: Annotated[
        int | None,
        typer.Option(help="Most processes to carry streams.", show_default="one for each core"),
    ] = None,
    model: Annotated[str, typer.Option(help="Model.")] = "rtden",
    results: Annotated[
        Path | None,
        typer.Option(help="Folder to write growth.txt, growth.json and growth.png into."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Measure how cost grows."""
    try:
        if not 1 / 30 <= hours <= 24 or not 5 <= seconds <= 3600 or (jobs is not None and jobs < 1):
            raise InputError(
                "--hours must lie between 1/30 and 24, --seconds between 5 and 3600, and --jobs must be 1 or more."
            )
        out = (
            []
            if results is None
            else [results / f"growth.{suffix}" for suffix in ("txt", "json", "png")]
        )
        if out:
            from rtden.measure.plots import check_picture

            check_picture(out[2], force=force)
        for path in out:
            check_target(path, force=force)
        with messages.status("measuring"):
            steps = [
                measure_apart(model, hops_per_step, seconds=seconds)
                for hops_per_step in HOPS_PER_STEP
            ]
            carried = []
            for processes in range(1, (jobs or cores()) + 1):
                with Streams(model, jobs=processes) as running:
                    carried.append(running.most(seconds=seconds))
            memory = [
                file_memory(length, model, each)
                for length, each in (
                    (60.0, 1),
                    (3600.0 * hours, 1),
                    (3600.0 * hours, jobs or cores()),
                )
            ]
        text = f"{processor_name()}, model {model}, {seconds:g} s of sound for each figure\n\n{text_of(steps, carried, memory)}"
        screen.print(text, markup=False)
        if out:
            everything = {
                "processor": processor_name(),
                "versions": versions(),
                "steps": [result.to_dict() for result in steps],
                "streams": [found.to_dict() for found in carried],
                "memory": memory,
                "growth_mb": growth_mb(memory),
            }
            write_whole(out[0], f"{text}\n".encode(), force=force)
            write_whole(
                out[1],
                (
                    json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
                ).encode(),
                force=force,
            )
            draw(steps, carried, memory, out[2], force=force)
    except RtdenError as error:
        messages.print(f"bench/growth.py: {error}", markup=False)
        sys.exit(2)
    if growth_mb(memory) > MOST_GROWTH_MB:
        messages.print(
            f"bench/growth.py: the longer recording took {growth_mb(memory):.1f} MiB more, which is more than {MOST_GROWTH_MB:g}.",
            markup=False,
        )
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
