"""What a lower latency costs, and a file's lead-in gains: streams by their overlap, and files.

    python bench/latency.py --pairs FOLDER

FOLDER holds `clean/` and `noisy/` with the same file names. Prints the latency of the algorithm and
the mean scores; in brackets the change against the longest overlap, file by file, with its 95 %
confidence.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from rtden.denoiser import algorithmic_latency
from rtden.errors import RtdenError
from rtden.measure.evaluation import Evaluation, interval, mean
from rtden.measure.scores import Processor, StreamProcessor, score_pairs
from rtden.measure.tables import LOSS_NOTE, marked
from rtden.model import ModelSpec, find_model, load_spec
from rtden.settings import Settings

OVERLAPS = (None, 512, 405, 256, 149, 32)
FILES = "files"
"""The row of whole recordings, with the lead-in of :mod:`rtden.recording`."""
METRICS = ("PESQ-WB", "ESTOI", "SI-SDR", "OVRL")


def table_of(found: Evaluation, spec: ModelSpec, settings: dict[str, Settings]) -> Table:
    """Return the latency, the means and the changes of each setting."""
    names = [marked(found.metrics[column]) for column in found.headline]
    columns = [Column(name, justify="right") for name in ("Latency", *names)]
    table = Table("Overlap", *columns, box=None, caption=LOSS_NOTE, caption_justify="left")
    for row, (system, means) in enumerate(zip(found.systems, found.means(), strict=True)):
        cells = [f"{means[column]:.3f}" for column in found.headline]
        if row > 1:
            for place, column in enumerate(found.headline):
                change = found.scores[:, row, column] - found.scores[:, 1, column]
                cells[place] += f" ({mean(change):+.3f} ± {interval(change):.3f})"
        of = algorithmic_latency(spec, settings[system]).seconds if row else 0.0
        table.add_row(system, f"{1000.0 * of:.1f} ms" if row else "", *cells)
    return table


def main(
    pairs: Annotated[Path, typer.Option(help="Folder with clean/ and noisy/.")],
    model: Annotated[
        str | None, typer.Option(help="Model.", show_default="the default one")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Files to work on at a time.", show_default="one for each core"),
    ] = None,
) -> None:
    """Score overlaps on pairs."""
    try:
        spec = load_spec(path := find_model(model))
        settings = {
            str(overlap or spec.n_fft - spec.hop): Settings(overlap_samples=overlap)
            for overlap in OVERLAPS
        }
        processors: dict[str, Processor] = {
            name: StreamProcessor(path, chosen, lead_in=False) for name, chosen in settings.items()
        }
        settings[FILES], processors[FILES] = Settings(), StreamProcessor(path)
        found = score_pairs(pairs, processors, metrics=METRICS, processes=processes)
    except RtdenError as error:
        print(f"bench/latency.py: {error}", file=sys.stderr)
        sys.exit(2)
    screen = Console(soft_wrap=True, highlight=False, width=200)
    screen.print(f"{len(found.files)} pairs, model {spec.name}, hops_per_step 1, one step a hop")
    screen.print(table_of(found, spec, settings))


if __name__ == "__main__":
    typer.run(main)
