"""What a lower latency costs: live sound with shorter and shorter overlaps of its frames.

    python bench/latency.py --pairs FOLDER

FOLDER holds `clean/` and `noisy/` with the same file names. Prints the algorithmic latency, the
mean scores, and the change of each headline metric against the longest overlap, file by file, with
its 95 % confidence, with Griffin-Lim iterations (K) and without.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from rtden.denoiser import algorithmic_latency
from rtden.errors import RtdenError
from rtden.measure.evaluation import Evaluation, interval, mean
from rtden.measure.scores import Processor, StreamProcessor, score_pairs
from rtden.measure.tables import LOSS_NOTE, marked
from rtden.model import ModelSpec, find_model, load_spec
from rtden.settings import Settings

OVERLAPS = (None, 384, 256, 149, 128, 64, 32)
ITERATIONS = (0, 1)
"""The default first: changes are against it, with the whole overlap."""

screen = Console(soft_wrap=True, highlight=False, width=200)
messages = Console(stderr=True, soft_wrap=True, highlight=False)


def variants(spec: ModelSpec) -> dict[str, Settings]:
    """Return the settings to compare, by name."""
    longest = spec.n_fft - spec.hop
    return {
        f"{overlap or longest}, K {iterations}": Settings(
            overlap_samples=overlap, iterations=iterations
        )
        for overlap in OVERLAPS
        if overlap is None or overlap < longest
        for iterations in ITERATIONS
    }


def table_of(found: Evaluation, spec: ModelSpec, settings: dict[str, Settings]) -> Table:
    """Return the latency, the means and the changes of each setting."""
    chosen = found.headline
    names = [marked(found.metrics[column]) for column in chosen]
    columns = [Column(name, justify="right") for name in ("Latency", *names)]
    table = Table("Overlap", *columns, box=None, caption=LOSS_NOTE, caption_justify="left")
    for row, (system, means) in enumerate(zip(found.systems, found.means(), strict=True)):
        latency, cells = "", [f"{means[column]:.3f}" for column in chosen]
        if row:
            seconds = algorithmic_latency(spec, settings[system]).seconds
            latency = f"{1000.0 * seconds:.1f} ms"
        if row > 1:
            changes = found.scores[:, row] - found.scores[:, 1]
            for place, column in enumerate(chosen):
                change = changes[:, column]
                cells[place] += f" ({mean(change):+.3f} ± {interval(change):.3f})"
        table.add_row(system, latency, *cells)
    return table


def main(
    pairs: Annotated[Path, typer.Option(help="Folder with clean/ and noisy/.")],
    model: Annotated[
        str | None, typer.Option(help="Model.", show_default="the default one")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric, as for 'rtden eval'.", show_default="all")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Files to work on at a time.", show_default="one for each core"),
    ] = None,
) -> None:
    """Score overlaps on pairs."""
    try:
        spec = load_spec(path := find_model(model))
        settings = variants(spec)
        processors: dict[str, Processor] = {
            name: StreamProcessor(path, chosen) for name, chosen in settings.items()
        }
        with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
            task = bar.add_task("pairs", total=None)
            found = score_pairs(
                pairs,
                processors,
                metrics=metric or (),
                processes=processes,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except RtdenError as error:
        messages.print(f"bench/latency.py: {error}", markup=False)
        sys.exit(2)
    title = f"{len(found.files)} pairs, model {spec.name}, hops_per_step 1"
    screen.print(f"{title}; in brackets the change against {found.systems[1]}, ± 95 % confidence")
    screen.print(table_of(found, spec, settings))


if __name__ == "__main__":
    typer.run(main)
