"""How cost grows: with steps, streams, cores and threads, and not with the length of a file.

    python bench/growth.py [--hours 1] [--seconds 20] [--model rtden] [--results FOLDER]

Measures a step at hops_per_step 1, 2, 4 and 8; the most live streams (16 kHz, frames of 20 ms) that
one thread carries, one process with a thread for each core, and a process for each core; and the
peak memory of a fresh process that denoises a file of a minute and one of hours. Leaves with 1 if
the longer one takes over 28 MiB (30 MB) more. FOLDER gets growth.txt and growth.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

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
"""Memory that a longer file may take beyond a short one's, in MiB: less than 30 million bytes."""
DENOISE = """
import sys
from worker import peak_mb
from rtden import denoise_file
model, source, target = sys.argv[1:]
report = denoise_file(source, target, model=model)
print(report.seconds, report.processing_seconds, peak_mb())
"""

screen = Console(soft_wrap=True, highlight=False, width=200)
messages = Console(stderr=True, soft_wrap=True, highlight=False)


def write_long(path: Path, seconds: float) -> None:
    """Write a file that repeats the bundled recording for `seconds`, in little memory."""
    (samples,), rate_hz = read_aligned(RECORDING)
    left = round(seconds * rate_hz)
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16") as file:
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)


def file_memory(seconds: float, model: str) -> dict[str, float]:
    """Return the peak memory of a fresh process that denoises a file, in MiB, and its time."""
    bench = Path(__file__).parent
    paths = os.pathsep.join([str(bench), str(bench.parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="rtden-bench-") as folder:
        source, target = Path(folder) / "long.wav", Path(folder) / "denoised.wav"
        write_long(source, seconds)
        ended = subprocess.run(
            [sys.executable, "-c", DENOISE, model, source, target],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if ended.returncode:
        raise RtdenError(f"denoising {seconds:g} s of sound failed; the reason stands above.")
    names = ("audio_seconds", "processing_seconds", "peak_mb")
    return dict(zip(names, map(float, ended.stdout.split()), strict=True))


def text_of(
    steps: list[BenchResult], carried: list[StreamsResult], memory: list[dict[str, float]]
) -> str:
    """Return all figures as text."""
    lines = ["hops per step   step p50 / p99       a second of sound   latency"]
    for result in steps:
        step = f"{result.step.p50_ms:.3f} / {result.step.p99_ms:.3f} ms"
        cost = f"{1000.0 * result.real_time_factor:>8.2f} ms         {result.latency_ms:>6.0f} ms"
        lines.append(f"{result.hops_per_step:>13}   {step}   {cost}")
    lines += ["", "processes   threads each   streams   round p50 / p99       load         each"]
    for found in carried:
        times = f"{found.round.p50_ms:>5.2f} / {found.round.p99_ms:>5.2f} ms"
        load = f"{found.load:.2f} cores   {found.stream_mb:.1f} MiB"
        holds = "" if found.holds else "   (does not hold)"
        counts = f"{found.jobs:>9}   {found.threads:>12}   {found.streams:>7}"
        lines.append(f"{counts}   {times}   {load}{holds}")
    lines += ["", "file        peak memory   processing"]
    for taken in memory:
        cost = f"{taken['peak_mb']:>6.1f} MiB    {taken['processing_seconds']:>7.1f} s"
        lines.append(f"{taken['audio_seconds']:>7.0f} s   {cost}")
    allowed = f"at most {MOST_GROWTH_MB:g} are allowed"
    lines.append(f"the longer one takes {growth_mb(memory):+.1f} MiB; {allowed}")
    return "\n".join(lines)


def growth_mb(memory: list[dict[str, float]]) -> float:
    """Return the memory that the longer file takes beyond the shorter one's."""
    return memory[-1]["peak_mb"] - memory[0]["peak_mb"]


def carry_streams(model: str, jobs: int, seconds: float) -> list[StreamsResult]:
    """Return the most streams of a thread, of `jobs` threads in a process, of `jobs` processes."""
    found = []
    for processes, threads in dict.fromkeys([(1, 1), (1, jobs), (jobs, 1)]):
        with Streams(model, jobs=processes, threads=threads) as running:
            found.append(running.most(seconds=seconds))
    return found


def main(
    hours: Annotated[float, typer.Option(help="Length of the longer file.")] = 1.0,
    seconds: Annotated[
        float, typer.Option(help="Sound for each figure of a step and of the streams.")
    ] = 20.0,
    jobs: Annotated[
        int | None,
        typer.Option(help="Most processes or threads.", show_default="one for each core"),
    ] = None,
    model: Annotated[str, typer.Option(help="Model.")] = "rtden",
    results: Annotated[
        Path | None, typer.Option(help="Folder to write growth.txt and growth.json into.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Measure how cost grows."""
    try:
        if not 1 / 30 <= hours <= 24 or not 5 <= seconds <= 3600 or (jobs is not None and jobs < 1):
            raise InputError("--hours is 1/30 to 24, --seconds 5 to 3600, --jobs 1 or more.")
        out = [] if results is None else [results / "growth.txt", results / "growth.json"]
        for path in out:
            check_target(path, force=force)
        with messages.status("measuring"):
            steps = [measure_apart(model, hops, seconds=seconds) for hops in HOPS_PER_STEP]
            carried = carry_streams(model, jobs or cores(), seconds)
            memory = [file_memory(length, model) for length in (60.0, 3600.0 * hours)]
        title = f"{processor_name()}, model {model}, {seconds:g} s of sound for each figure"
        text = f"{title}\n\n{text_of(steps, carried, memory)}"
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
            content = json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False)
            for path, written in zip(out, (text, content), strict=True):
                write_whole(path, f"{written}\n".encode(), force=force)
    except RtdenError as error:
        messages.print(f"bench/growth.py: {error}", markup=False)
        sys.exit(2)
    if growth_mb(memory) > MOST_GROWTH_MB:
        messages.print(f"bench/growth.py: over {MOST_GROWTH_MB:g} MiB more for the longer file.")
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
