"""How late live sound is, from one program to another, through a real sound server.

    python bench/live.py [--clicks 100] [--json OUT] [-- OPTIONS OF rtden live]
    python bench/live.py --compare [--rounds 3] [--clicks 100] [--json OUT]

Starts a sound server of its own with two null sinks, runs `rtden live` from the monitor of the one
to the other, plays clicks into the first and records both monitors. Each click is a burst of noise
of its own, 300 to 4000 Hz and 30 ms long, and is looked for in both recordings by correlation; the
difference is its delay. The command gets `--limit-db 0`: the gain is one, every click passes, and
only the delay is measured. That is from mouth to ear but for the converters: null sinks have none.

The two recordings are two programs, put on one clock by when their sound arrives. The first monitor
is recorded twice: the same clicks in both, which have no delay, show how good that clock is.

`--compare` measures rtden's own streams beside PortAudio's (through ALSA's plugin for the server),
on PulseAudio and on PipeWire, in turn, as many rounds as are asked for.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer
from browser import cpu_seconds
from common import ForceOption, one_sentence, screen
from numpy.typing import NDArray
from pipewire import PipeWireServer, unpacked
from pulse import RATE_HZ, PulseServer
from rich.table import Table
from rounds import processor_name

from rtden.errors import DeviceError
from rtden.files.atomic import check_target, write_whole

CLICK_SECONDS = 0.03
BAND_HZ = (300.0, 4000.0)
SPACING_SECONDS = (0.35, 0.45)
"""Drawn anew for each click, or all of them would meet the devices' blocks at the same point."""
LEAD_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 1.5
DRAIN_SECONDS = 30.0
"""How long paplay may take beyond its sound: once in a while it hangs, for a reason not known. What
was heard tells whether it played."""
HEARD = 0.5
"""Correlation from which on a click counts as found; one that is torn in two by a gap has less."""
PARTS = {"input": "source", "resampling": "", "denoiser": "", "buffer": "", "output": "sink"}
"""Parts of the planned delay, and their names in the status."""
STREAMS = {
    "rtden": ("--in", "mouth.monitor", "--out", "ear"),
    "PortAudio": ("--in", "mouth-monitor", "--out", "ear (ALSA"),
}
ATTEMPTS = 3
"""Measurements until the first monitor, which rtden only records, has the clicks: else the server
hangs, or its player."""
Samples = NDArray[np.float32]
Makes = Callable[[Path], PulseServer]


def servers() -> dict[str, Makes]:
    """Return how to start each sound server with the sinks "mouth" and "ear"."""
    sinks, top = ("mouth", "ear"), unpacked()
    found: dict[str, Makes] = {"PulseAudio": lambda at: PulseServer(at, sinks)}
    return found | ({"PipeWire": lambda at: PipeWireServer(at, sinks, top=top)} if top else {})


@dataclass(frozen=True)
class Clicks:
    """A train of clicks: the sound, and where in it each begins."""

    sound: Samples
    starts: list[int]
    shapes: list[Samples]


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


def correlated(recording: NDArray[Any], shape: Samples) -> NDArray[np.float64]:
    """Return the products of a shape with a recording at each of its samples."""
    size = 1 << (len(recording) + len(shape)).bit_length()
    spectra = np.fft.rfft(recording, size) * np.conj(np.fft.rfft(shape, size))
    products: NDArray[np.float64] = np.fft.irfft(spectra, size)[: len(recording)]
    return products


def find_click(recording: Samples, shape: Samples, first: int, last: int) -> tuple[float, float]:
    """Return the start of a click in samples, fractions included, and its correlation, 0 to 1.

    It is searched for from `first` to `last`.
    """
    first, length = max(0, first), len(shape)
    heard = recording[first : max(first, last) + length].astype(np.float64)
    if len(heard) < length + 2:
        return np.nan, 0.0
    total = np.concatenate([[0.0], np.cumsum(np.square(heard))])
    energy = np.maximum(total[length:] - total[:-length], 1e-9) * float(np.dot(shape, shape))
    likeness = correlated(heard, shape)[: len(energy)] / np.sqrt(energy)
    at = int(np.argmax(likeness[1:-1])) + 1
    before, peak, after = likeness[at - 1 : at + 2]
    bend = before - 2 * peak + after
    # The top of the parabola through the three.
    part = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return first + at + float(part), float(peak)


class Live:
    """`rtden live --json` between the server's sinks; DeviceError if it makes no status."""

    def __init__(self, server: PulseServer, options: list[str]) -> None:
        self.statuses: list[dict[str, Any]] = []
        command = [sys.executable, "-m", "rtden", "live", "--limit-db", "0", "--json", *options]
        self.process = subprocess.Popen(
            [*command, "--status-seconds", "0.5"],
            env=server.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._started.wait(120.0)
        if not self.statuses:
            self.process.kill()
            said = (self.process.stderr.read() if self.process.stderr else "").strip()
            raise DeviceError(f"'rtden live' did not start: {said}")

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.statuses.append(json.loads(line))
            self._started.set()
        self._started.set()

    def stop(self) -> None:
        """End it, and read its last status."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join(5)


def measure(make: Makes, clicks: Clicks, options: list[str]) -> dict[str, Any]:
    """Return what was measured with clicks through `rtden live`, times in ms."""
    for attempt in range(ATTEMPTS):
        measured = attempted(make, clicks, options)
        if measured["same_monitor_ms"]:
            break
        screen.print(f"the sound server played nothing, attempt {attempt + 1} of {ATTEMPTS}")
    if not measured["delays_ms"] or not measured["same_monitor_ms"]:
        raise DeviceError(
            "none of the clicks came through: see what 'rtden live' says with these options."
        )
    return {**summary(measured), **measured}


def attempted(make: Makes, clicks: Clicks, options: list[str]) -> dict[str, Any]:
    """Play the clicks through `rtden live` on a new server; return each click's delay and more."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "clicks.wav", clicks.sound, RATE_HZ, subtype="FLOAT")
        server = make(folder)
        try:
            live = Live(server, options)
            try:
                recordings = [server.record(sink) for sink in ("mouth", "mouth", "ear")]
                for recording in recordings:
                    recording.wait(0.5)  # a null sink wakes every two seconds before that
                used, began = cpu_seconds(live.process.pid), time.monotonic()
                played = server.play(folder / "clicks.wav", "mouth")
                try:
                    played.wait(DRAIN_SECONDS + len(clicks.sound) / RATE_HZ)
                except subprocess.TimeoutExpired:
                    played.kill()
                recordings[-1].wait(LONGEST_DELAY_SECONDS)
                cpu = (cpu_seconds(live.process.pid) - used) / (time.monotonic() - began)
                heard = [(recording.stop(), recording.started_at) for recording in recordings]
            finally:
                live.stop()
        finally:
            server.stop()
    last = live.statuses[-1]
    planned = last["planned_latency"]
    return {
        "planned_ms": {part: planned[f"{name or part}_ms"] for part, name in PARTS.items()},
        **{name: last[name] for name in ("dropouts", "flagged_blocks", "mean_load")},
        "cpu": cpu,
        **delays(clicks, *heard),
    }


def delays(
    clicks: Clicks,
    mouth: tuple[Samples, float],
    again: tuple[Samples, float],
    ear: tuple[Samples, float],
) -> dict[str, Any]:
    """Return each click's delay, and the offset between the two recordings of the same monitor."""
    begins = int(np.argmax(correlated(mouth[0], clicks.sound)))
    found: dict[str, list[float]] = {"delays_ms": [], "same_monitor_ms": []}
    slack = round(0.05 * RATE_HZ)
    for start, shape in zip(clicks.starts, clicks.shapes, strict=True):
        at, sure = find_click(mouth[0], shape, begins + start - slack, begins + start + slack)
        if sure < HEARD:
            continue
        spoken_at = mouth[1] + at / RATE_HZ
        for name, (recording, started_at), longest in (
            ("same_monitor_ms", again, 0.1),
            ("delays_ms", ear, LONGEST_DELAY_SECONDS),
        ):
            first = round((spoken_at - started_at - 0.1) * RATE_HZ)
            last = first + round((0.1 + longest) * RATE_HZ)
            at, likeness = find_click(recording, shape, first, last)
            if likeness >= HEARD:
                found[name].append(1000.0 * (started_at + at / RATE_HZ - spoken_at))
    return {**found, "lost_clicks": len(clicks.starts) - len(found["delays_ms"])}


def summary(measured: dict[str, Any]) -> dict[str, float]:
    """Return percentiles of the delays, and the clock's accuracy by the same monitor's offsets."""
    found, offsets = np.array(measured["delays_ms"]), np.abs(measured["same_monitor_ms"])
    shares = {"median": 50, "p99": 99, "min": 0, "max": 100}
    figures = {f"{name}_ms": np.percentile(found, share) for name, share in shares.items()}
    clock = {"clock_median_ms": np.median(offsets), "clock_max_ms": offsets.max()}
    return {name: round(float(value), 3) for name, value in {**figures, **clock}.items()}


def report(measured: dict[str, Any]) -> None:
    """Print one measurement: the delay, and how much of it lies where."""
    planned = measured["planned_ms"]
    algorithm_ms = planned["resampling"] + planned["denoiser"]
    others_ms = measured["median_ms"] - algorithm_ms - planned["buffer"]
    parts = " + ".join(f"{name} {value:.0f}" for name, value in planned.items())
    screen.print(
        f"delay of {len(measured['delays_ms'])} clicks: median {measured['median_ms']:.1f} ms, "
        f"p99 {measured['p99_ms']:.1f}, min {measured['min_ms']:.1f}, max "
        f"{measured['max_ms']:.1f}; {measured['lost_clicks']} not heard\n"
        f"planned: {sum(planned.values()):.0f} ms = {parts}\n"
        f"of the median: algorithm and resampling {algorithm_ms:.1f} ms, buffers "
        f"{planned['buffer']:.1f}, devices and server {others_ms:.1f}\n"
        f"two recordings of the same monitor are apart by {measured['clock_median_ms']:.2f} ms "
        f"(median), {measured['clock_max_ms']:.2f} ms at most\n"
        f"drop-outs {measured['dropouts']}, blocks late or lost {measured['flagged_blocks']}, "
        f"{measured['cpu']:.1%} of one core"
    )


def compare(clicks: Clicks, rounds: int, options: list[str]) -> dict[str, Any]:
    """Measure each stream on each server, in turn; print a table and return all measurements."""
    rows: dict[str, list[dict[str, Any]]] = {}
    found_servers = servers()
    if "PipeWire" not in found_servers:
        screen.print("without PipeWire: Debian's packages of it cannot be downloaded")
    for number in range(rounds):
        for server, make in found_servers.items():
            for stream, ends in STREAMS.items():
                measured = measure(make, clicks, [*ends, *options])
                rows.setdefault(f"{server}, {stream}", []).append(measured)
                screen.print(f"round {number + 1}, {server}, {stream}: {measured['median_ms']} ms")
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "Median (ms)": lambda one: f"{one['median_ms']:.1f}",
        "p99 (ms)": lambda one: f"{one['p99_ms']:.1f}",
        "Planned (ms)": lambda one: f"{sum(one['planned_ms'].values()):.0f}",
        "Drop-outs": lambda one: str(one["dropouts"]),
        "Late blocks": lambda one: str(one["flagged_blocks"]),
        "Not heard": lambda one: str(one["lost_clicks"]),
        "CPU (% of a core)": lambda one: f"{100 * one['cpu']:.1f}",
    }
    table = Table("Streams", *columns, box=None)
    for name, found in rows.items():
        table.add_row(name, *(" ".join(map(show, found)) for show in columns.values()))
    screen.print(f"{processor_name()}; one value a round of {len(clicks.starts)} clicks")
    screen.print(table)
    return rows


def main(
    options: Annotated[
        list[str] | None,
        typer.Argument(help="Options for 'rtden live', after '--'.", show_default=False),
    ] = None,
    clicks: Annotated[int, typer.Option(min=2, help="How many to play; each takes 0.4 s.")] = 100,
    both: Annotated[
        bool, typer.Option("--compare", help="rtden's streams beside PortAudio's, on both servers.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Of a comparison.")] = 3,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    force: ForceOption = False,
) -> None:
    """Measure the delay of `rtden live`."""
    options = options or []
    with one_sentence("live", RuntimeError):
        if out is not None:
            check_target(out, force=force)
        train = make_clicks(clicks, np.random.default_rng(0))
        if both:
            measured = compare(train, rounds, options)
        else:
            measured = measure(servers()["PulseAudio"], train, [*STREAMS["rtden"], *options])
            report(measured)
        if out is not None:
            figures = {"processor": processor_name(), "options": options, **measured}
            write_whole(out, json.dumps(figures, indent=1).encode(), force=force)


if __name__ == "__main__":
    typer.run(main)
