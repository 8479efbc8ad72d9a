"""How late live sound is, from one program to another, through a real sound server.

    python bench/live.py [--clicks 100] [--json OUT] [--plot PICTURE] [-- OPTIONS OF rtden live]

Starts a PulseAudio of its own with two null sinks, runs `rtden live` from the monitor of the one to
the other, plays clicks into the first and records both monitors. Each click is a burst of noise of
its own, 300 to 4000 Hz and 30 ms long, and is looked for in both recordings by correlation; the
difference is its delay. The command gets `--limit-db 0`: the gain is one, every click passes, and
only the delay is measured. That is from mouth to ear but for the converters: null sinks have none.

The two recordings are two programs, put on one clock by when their sound arrives. How good that is,
is measured in the same run: the first monitor is recorded twice, and the same clicks are compared
in the two recordings, where they have no delay.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray
from pulse import RATE_HZ, PulseServer
from rich.console import Console
from rich.progress import track

from rtden.errors import DeviceError, RtdenError
from rtden.files.audio_file import check_target, write_whole

CLICK_SECONDS = 0.03
BAND_HZ = (300.0, 4000.0)
SPACING_SECONDS = (0.35, 0.45)
"""Drawn anew for each click, or all of them would meet the devices' blocks at the same point."""
LEAD_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 1.5
START_SECONDS = 30.0
SETTLE_SECONDS = 2.5
"""A null sink wakes every two seconds until somebody listens."""
HEARD = 0.5
"""Correlation from which on a click counts as found; one that is torn in two by a gap has less."""
ALGORITHM, BUFFERS = ("resampling", "denoiser", "full band"), ("buffer",)
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Clicks:
    """A train of clicks: the sound, and where in it each begins."""

    sound: Samples
    starts: list[int]
    shapes: list[Samples]


@dataclass
class Live:
    """`rtden live` as a process whose lines are kept."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def follow(self) -> None:
        """Collect its lines until it ends."""
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip("\n"))


def make_clicks(count: int, rng: np.random.Generator) -> Clicks:
    """Return clicks of which no two are alike."""
    length = round(CLICK_SECONDS * RATE_HZ)
    hz = np.fft.rfftfreq(length, 1 / RATE_HZ)
    outside = (hz < BAND_HZ[0]) | (hz > BAND_HZ[1])
    shapes, starts, at = [], [], round(LEAD_SECONDS * RATE_HZ)
    for _ in range(count):
        spectrum = np.fft.rfft(rng.standard_normal(length))
        spectrum[outside] = 0.0
        burst = np.hanning(length) * np.fft.irfft(spectrum, length)
        shapes.append((0.5 * burst / np.abs(burst).max()).astype(np.float32))
        starts.append(at)
        at += round(rng.uniform(*SPACING_SECONDS) * RATE_HZ)
    sound = np.zeros(at, np.float32)
    for start, shape in zip(starts, shapes, strict=True):
        sound[start : start + length] = shape
    return Clicks(sound, starts, shapes)


def find_click(recording: Samples, shape: Samples, first: int, last: int) -> tuple[float, float]:
    """Return the start of a click in samples, fractions included, and its correlation, 0 to 1.

    It is searched for from `first` to `last`.
    """
    first = max(0, first)
    heard = recording[first : max(first, last) + len(shape)].astype(np.float64)
    if len(heard) < len(shape) + 2:
        return np.nan, 0.0
    size = 1 << (len(heard) + len(shape)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(shape, size)), size)[
        : len(heard) - len(shape) + 1
    ]
    total = np.concatenate([[0.0], np.cumsum(np.square(heard))])
    energy = np.maximum(total[len(shape) :] - total[: -len(shape)], 1e-9) * float(
        np.dot(shape, shape)
    )
    likeness = products / np.sqrt(energy)
    at = int(np.argmax(likeness[1:-1])) + 1
    before, peak, after = likeness[at - 1 : at + 2]
    bend = before - 2 * peak + after
    part = (
        0.5 * (before - after) / bend if bend < 0 else 0.0
    )  # the top of the parabola through the three
    return first + at + float(part), float(peak)


def train_start(recording: Samples, clicks: Clicks) -> int:
    """Return where the train begins in a recording of what it was played into."""
    size = 1 << (len(recording) + len(clicks.sound)).bit_length()
    products = np.fft.irfft(
        np.fft.rfft(recording, size) * np.conj(np.fft.rfft(clicks.sound, size)), size
    )
    return int(np.argmax(products[: len(recording)]))


def planned_parts(lines: list[str]) -> dict[str, float]:
    """Return the parts of the delay, in ms, that `rtden live` printed; empty if it has not yet."""
    for line in lines:
        if line.startswith("{"):
            said: dict[str, float] = json.loads(line).get("planned_latency", {})
            names = {"source": "input", "sink": "output"}
            return {
                names.get(stem, stem.replace("_", " ")): value
                for name, value in said.items()
                if (stem := name.removesuffix("_ms")) != "total"
            }
        if line.startswith("total latency") and "=" in line:
            return {
                name: float(number)
                for name, number in re.findall(
                    r"([a-z][a-z -]*?) +(\d+(?:\.\d+)?)", line.partition("=")[2]
                )
            }
    return {}


def last_words(lines: list[str]) -> str:
    """Return what `rtden live` said about xruns at its end."""
    if lines and lines[-1].startswith("{"):
        said = json.loads(lines[-1])
        return f"xruns {said['xruns']}, load {said['mean_load']:.1%} of one core"
    return next((line for line in reversed(lines) if re.search(r"\d xruns?$", line)), "")


def start_live(server: PulseServer, options: list[str]) -> Live:
    """Start `rtden live` between the server's sinks and wait until it says how late it plans to be.

    Raises
    ------
    DeviceError
        If it does not get so far.
    """
    command = [
        sys.executable,
        "-m",
        "rtden",
        "live",
        "--in",
        "mouth-monitor",
        "--out",
        "ear",
        "--limit-db",
        "0",
        *options,
    ]
    process = subprocess.Popen(
        command,
        env=server.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    live = Live(process)
    threading.Thread(target=live.follow, daemon=True).start()
    ends_at = time.monotonic() + START_SECONDS
    while not planned_parts(live.lines):
        if process.poll() is not None or time.monotonic() > ends_at:
            process.kill()
            raise DeviceError(
                f"'rtden live' did not start: {process.communicate()[1].strip() or live.lines}"
            )
        time.sleep(0.05)
    return live


def measure(clicks: Clicks, options: list[str], screen: Console) -> dict[str, Any]:
    """Play the clicks through `rtden live` and return what was measured, all in ms."""
    with tempfile.TemporaryDirectory() as folder:
        server = PulseServer(Path(folder), ("mouth", "ear"))
        try:
            live = start_live(server, options)
            try:
                recordings = [server.record("mouth"), server.record("mouth"), server.record("ear")]
                time.sleep(SETTLE_SECONDS)
                path = Path(folder) / "clicks.wav"
                soundfile.write(path, clicks.sound, RATE_HZ, subtype="FLOAT")
                player = server.play(path, "mouth")
                seconds = len(clicks.sound) / RATE_HZ
                for _ in track(
                    range(round(10 * (seconds + LONGEST_DELAY_SECONDS))),
                    "playing",
                    console=screen,
                    transient=True,
                    disable=not screen.is_terminal,
                ):
                    time.sleep(0.1)
                player.wait(30)
                heard = [(recording.stop(), recording.started_at) for recording in recordings]
            finally:
                live.process.send_signal(signal.SIGINT)
                try:
                    live.process.wait(20)
                except subprocess.TimeoutExpired:
                    live.process.kill()
        finally:
            server.stop()
    time.sleep(0.1)  # for its last line
    return {
        "planned_ms": planned_parts(live.lines),
        "said": last_words(live.lines),
        **delays(clicks, *heard),
    }


def delays(
    clicks: Clicks,
    mouth: tuple[Samples, float],
    again: tuple[Samples, float],
    ear: tuple[Samples, float],
) -> dict[str, Any]:
    """Return each click's delay, and the offset between the two recordings of the same monitor."""
    begins = train_start(mouth[0], clicks)
    found, twice = [], []
    slack = round(0.05 * RATE_HZ)
    for start, shape in zip(clicks.starts, clicks.shapes, strict=True):
        at, sure = find_click(mouth[0], shape, begins + start - slack, begins + start + slack)
        spoken_at = mouth[1] + at / RATE_HZ
        times = []
        for (recording, started_at), longest in ((again, 0.1), (ear, LONGEST_DELAY_SECONDS)):
            first = round((spoken_at - started_at - 0.1) * RATE_HZ) if sure >= HEARD else 0
            at, likeness = (
                find_click(recording, shape, first, first + round((0.1 + longest) * RATE_HZ))
                if sure >= HEARD
                else (np.nan, 0.0)
            )
            times.append(
                1000.0 * (started_at + at / RATE_HZ - spoken_at) if likeness >= HEARD else np.nan
            )
        twice.append(times[0])
        found.append(times[1])
    heard = [delay for delay in found if np.isfinite(delay)]
    return {
        "delays_ms": heard,
        "lost_clicks": len(found) - len(heard),
        "same_monitor_ms": [offset for offset in twice if np.isfinite(offset)],
    }


def split(planned_ms: dict[str, float], measured_ms: float) -> dict[str, tuple[float, float]]:
    """Return the planned and the measured delay of each part."""
    algorithm, buffers = (
        sum(planned_ms.get(name, 0.0) for name in names) for names in (ALGORITHM, BUFFERS)
    )
    others = sum(planned_ms.values()) - algorithm - buffers
    return {
        "algorithm": (algorithm, algorithm),
        "buffers": (buffers, buffers),
        "devices and server": (others, measured_ms - algorithm - buffers),
    }


def summary(measured: dict[str, Any]) -> dict[str, float]:
    """Return median, 99th percentile, least and most of the delays, and the clock's accuracy.

    The accuracy is the median and the largest of the same monitor's offsets.
    """
    found, offsets = np.array(measured["delays_ms"]), np.abs(measured["same_monitor_ms"])
    figures = {
        "median_ms": np.median(found),
        "p99_ms": np.percentile(found, 99),
        "min_ms": found.min(),
        "max_ms": found.max(),
    }
    return {
        name: round(float(value), 3)
        for name, value in {
            **figures,
            "clock_median_ms": np.median(offsets),
            "clock_max_ms": offsets.max(),
        }.items()
    }


def draw(measured: dict[str, Any], figures: dict[str, float], path: Path) -> None:
    """Draw a histogram of the delays."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axis = figure.subplots()
    axis.hist(measured["delays_ms"], bins=40, color="tab:blue")
    planned = sum(measured["planned_ms"].values())
    for value, name, style in (
        (figures["median_ms"], "median", "-"),
        (figures["p99_ms"], "p99", "--"),
        (planned, "planned", ":"),
    ):
        axis.axvline(
            value, color="black", linestyle=style, linewidth=1, label=f"{name} {value:.1f} ms"
        )
    axis.set(xlabel="Delay (ms)", ylabel="Clicks")
    axis.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(
    options: Annotated[
        list[str] | None,
        typer.Argument(help="Options for 'rtden live', after '--'.", show_default=False),
    ] = None,
    clicks: Annotated[int, typer.Option(min=2, help="How many to play; each takes 0.4 s.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the clicks.")] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a histogram into this picture.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Measure the delay of `rtden live`."""
    screen, messages = (
        Console(soft_wrap=True, highlight=False),
        Console(stderr=True, soft_wrap=True, highlight=False),
    )
    try:
        for path in (out, plot):
            if path is not None:
                check_target(path, force=force)
        measured = measure(
            make_clicks(clicks, np.random.default_rng(seed)), options or [], messages
        )
        if not measured["delays_ms"] or not measured["same_monitor_ms"]:
            raise DeviceError(
                "none of the clicks came through: see what 'rtden live' says with these options."
            )
        figures = summary(measured)
        planned = measured["planned_ms"]
        screen.print(
            f"delay of {len(measured['delays_ms'])} clicks: median "
            f"{figures['median_ms']:.1f} ms, p99 {figures['p99_ms']:.1f}, "
            f"min {figures['min_ms']:.1f}, max {figures['max_ms']:.1f}; "
            f"{measured['lost_clicks']} not heard"
        )
        screen.print(
            f"planned: {sum(planned.values()):.0f} ms = "
            f"{' + '.join(f'{name} {value:.0f}' for name, value in planned.items())}",
            markup=False,
        )
        for share, (plan_ms, left_ms) in split(planned, figures["median_ms"]).items():
            screen.print(f"  {share:<20}planned {plan_ms:5.1f} ms, of the median {left_ms:5.1f} ms")
        screen.print(
            f"two recordings of the same monitor are apart by "
            f"{figures['clock_median_ms']:.2f} ms (median), {figures['clock_max_ms']:.2f} "
            "ms at most"
        )
        screen.print(measured["said"], markup=False)
        if out is not None:
            write_whole(
                out,
                json.dumps(
                    {
                        "command": " ".join(["rtden live --limit-db 0", *(options or [])]),
                        **figures,
                        **measured,
                    },
                    indent=1,
                ).encode(),
                force=force,
            )
        if plot is not None:
            draw(measured, figures, plot)
    except (RtdenError, RuntimeError) as error:
        messages.print(f"bench/live.py: {error}", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    typer.run(main)
