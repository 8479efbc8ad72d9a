"""What a lower latency costs: the streaming Denoiser with shorter and shorter overlaps of its frames.

    python bench/latency.py --pairs FOLDER

FOLDER holds `clean/` and `noisy/` with the same file names. Prints the algorithmic latency, the mean scores and the change of
PESQ-WB against the longest overlap, file by file, with its 95 % confidence, with Griffin-Lim iterations (K) and without.
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
from rtden.measure.evaluation import HEADLINE, interval
from rtden.measure.scores import Processor, StreamProcessor, missing_packages, score_pairs
from rtden.model import find_model, load_spec
from rtden.settings import Settings

OVERLAPS = (None, 384, 256, 149, 128, 64, 32)
ITERATIONS = (0, 1)
"""The default first: the change is told against it, with the whole overlap."""


def main(
    pairs: Annotated[Path, typer.Option(help="Folder with clean/ and noisy/.")],
    model: Annotated[
        str | None, typer.Option(help="Model.", show_default="the default one")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Recordings to work on at a time.", show_default="one for each core"),
    ] = None,
) -> None:
    """Score overlaps on pairs."""
    screen, messages = (
        Console(soft_wrap=True, highlight=False, width=160),
        Console(stderr=True, soft_wrap=True, highlight=False),
    )
    try:
        spec = load_spec(path := find_model(model))
        variants = [
            Settings(overlap_samples=overlap, iterations=iterations)
            for overlap in OVERLAPS
            for iterations in ITERATIONS
        ]
        names = [
            f"{overlap or spec.n_fft - spec.hop}, K {iterations}"
            for overlap in OVERLAPS
            for iterations in ITERATIONS
        ]
        processors: dict[str, Processor] = {
            name: StreamProcessor(path, settings)
            for name, settings in zip(names, variants, strict=True)
        }
        if missing := missing_packages():
            messages.print(missing, markup=False)
        with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
            task = bar.add_task("pairs", total=None)
            found = score_pairs(
                pairs,
                processors,
                processes=processes,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except RtdenError as error:
        messages.print(f"bench/latency.py: {error}", markup=False)
        sys.exit(2)

    if left_out := found.left_out():
        messages.print(left_out, markup=False)
    chosen = found.headline
    screen.print(
        f"{len(found.files)} pairs, model {spec.name}, hops_per_step 1; change against {names[0]}, ± 95 % confidence"
    )
    table = Table(
        "Overlap",
        *(
            Column(name, justify="right")
            for name in (
                "Latency",
                *(found.metrics[at] for at in chosen),
                f"Change of {HEADLINE[0]}",
            )
        ),
        box=None,
    )
    changes = (
        found.scores[:, 1:, found.metrics.index(HEADLINE[0])]
        if HEADLINE[0] in found.metrics
        else None
    )
    for row, (system, means) in enumerate(zip(found.systems, found.means(), strict=True)):
        latency = (
            f"{1000 * algorithmic_latency(spec, variants[row - 1]).seconds:.1f} ms" if row else ""
        )
        change = ""
        if row and changes is not None:
            change = f"{(difference := changes[:, row - 1] - changes[:, 0]).mean():+.3f} ± {interval(difference):.3f}"
        table.add_row(system, latency, *(f"{means[at]:.3f}" for at in chosen), change)
    screen.print(table)


if __name__ == "__main__":
    typer.run(main)
