"""Whether rtden has become slower: ratios of CPU times, held against those that were recorded.

    python bench/check.py             # or make bench-check
    python bench/check.py --record    # writes bench/results/check.json

Times differ from machine to machine and from minute to minute; ratios of times that were taken in
turns differ less. rtden's, as a stream at hops_per_step 1 and 4, as live sound and with a whole
file, are divided by that of a fixed piece of work in numpy, and by those of RNNoise and DTLN as
live sound where they are installed (extra "peers"). A ratio is worse if its median lies above the
recorded one by more than both measurements scatter, and by more than 15 %. Leaves with 1 if one is
worse.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from common import messages, one_sentence, screen
from drivers import AsLive, Driver, FilePath, NumpyWork, Rtden, RtdenLive, rtden_file
from peer_drivers import PEERS
from rich.table import Column, Table
from rounds import Spread, measure_costs, noisy_speech, processor_name, ratios

from rtden.errors import AudioFileError, InputError
from rtden.files.atomic import write_whole
from rtden.measure.tables import versions

RECORDED = Path(__file__).parent / "results" / "check.json"
NUMPY = "numpy"
PEERS_BESIDE = ("RNNoise", "DTLN")
MOST_MADS = 3.0
LEAST_CHANGE = 0.15
"""A ratio that is worse by less, relative to it, counts as equal, however little it scatters."""


def compare(recorded: Mapping[str, Spread], measured: Mapping[str, Spread]) -> list[str]:
    """Return a sentence for each ratio that is worse than recorded, beyond all scatter."""
    return [
        f"{name} is {found.median:.3f}; recorded was {recorded[name].median:.3f}, "
        f"and up to {most:.3f} would be noise."
        for name, found in measured.items()
        if name in recorded and found.median > (most := limit(recorded[name], found))
    ]


def limit(recorded: Spread, found: Spread) -> float:
    """Return up to where a ratio is not worse than the recorded one."""
    noise = MOST_MADS * max(recorded.mad, found.mad)
    return recorded.median + max(noise, LEAST_CHANGE * recorded.median)


def measure(*, seconds: float, rounds: int) -> dict[str, Spread]:
    """Return the ratios, by their names."""
    noisy, rate_hz = noisy_speech(seconds)
    ours: dict[str, Callable[[], Driver]] = {
        "rtden": Rtden,
        "rtden, hops_per_step 4": functools.partial(Rtden, None, 4),
        "rtden live": RtdenLive,
        "rtden file": functools.partial(FilePath, rtden_file, rate_hz),
    }
    beside: dict[str, Callable[[], Driver]] = {
        f"{name} live": functools.partial(AsLive, PEERS[name].driver)
        for name in PEERS_BESIDE
        if PEERS[name].is_installed()
    }
    drivers = {**ours, NUMPY: NumpyWork, **beside}
    costs = measure_costs(drivers, noisy, rate_hz, rounds=rounds, starts=0)
    times = {name: cost.cpu_per_second for name, cost in costs.items()}
    pairs = [(name, NUMPY) for name in ours] + [("rtden live", name) for name in beside]
    return {f"{above} / {below}": ratios(times[above], times[below]) for above, below in pairs}


def read_recorded(path: Path) -> tuple[dict[str, Spread], str]:
    """Return the recorded ratios and the processor that they are of."""
    try:
        content = json.loads(path.read_bytes())
        ratios = {name: Spread(**known) for name, known in content["ratios"].items()}
        return ratios, content["processor"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        advice = "make it with 'python bench/check.py --record'"
        raise AudioFileError(f"{path} holds no recorded ratios; {advice}.") from None


def write_recorded(path: Path, measured: Mapping[str, Spread], **conditions: float) -> None:
    """Write the ratios."""
    known = {"processor": processor_name(), "versions": versions(), **conditions}
    spreads = {name: asdict(spread) for name, spread in measured.items()}
    content = json.dumps({**known, "ratios": spreads}, indent=2)
    write_whole(path, f"{content}\n".encode(), force=True)


def table_of(recorded: Mapping[str, Spread], measured: Mapping[str, Spread]) -> Table:
    """Return the ratios, those recorded, and how far they may go."""
    names = ("median", "quartiles", "recorded", "limit")
    columns = [Column(name, justify="right") for name in names]
    table = Table("CPU time / CPU time", *columns, box=None)
    for name, found in measured.items():
        before = ("–", "–")
        if name in recorded:
            before = (f"{recorded[name].median:.3f}", f"{limit(recorded[name], found):.3f}")
        table.add_row(name, f"{found.median:.3f}", f"{found.low:.3f}–{found.high:.3f}", *before)
    return table


def main(
    record: Annotated[
        bool, typer.Option("--record", help="Write the ratios instead of comparing them.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="Length of the sound of each round.")] = 10.0,
    rounds: Annotated[int, typer.Option(help="How many rounds.")] = 15,
    file: Annotated[
        Path, typer.Option(help="The recorded ratios.", show_default="bench/results/check.json")
    ] = RECORDED,
) -> None:
    """Compare rtden's CPU time, in relation to other work, with what was recorded."""
    with one_sentence("check"):
        if not (seconds >= 1 and math.isfinite(seconds) and rounds >= 3):
            raise InputError("--seconds must be 1 or more, and --rounds 3 or more.")
        recorded, processor = ({}, processor_name()) if record else read_recorded(file)
        measured = measure(seconds=seconds, rounds=rounds)
        if record:
            write_recorded(file, measured, seconds=seconds, rounds=rounds)
    if processor != processor_name():
        said = f"The recorded ratios are of another processor, {processor}"
        messages.print(f"{said}: here they may differ for that reason alone.", markup=False)
    screen.print(table_of(recorded, measured))
    if absent := [name for name in recorded if name not in measured]:
        said = f"Not compared, for a package is not installed: {', '.join(absent)}."
        messages.print(said, markup=False)
    worse = compare(recorded, measured)
    for sentence in worse:
        messages.print(f"bench/check.py: {sentence}", markup=False)
    if worse:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
