"""What the scripts share: options, how they print, end with an error, and compare scores."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from rtden.errors import RtdenError
from rtden.measure.evaluation import Evaluation
from rtden.measure.tables import LOSS_NOTE, marked

PairsOption = Annotated[Path, typer.Option(help="Folder with clean/ and noisy/, the same names.")]
ModelOption = Annotated[str | None, typer.Option(help="Model.", show_default="the default one")]
ProcessesOption = Annotated[
    int | None, typer.Option(help="Files to work on at a time.", show_default="one for each core")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]

screen = Console(soft_wrap=True, highlight=False, width=400)  # a column for each denoiser
messages = Console(stderr=True, soft_wrap=True, highlight=False)


@contextlib.contextmanager
def one_sentence(script: str, *errors: type[Exception]) -> Iterator[None]:
    """End the script with exit code 2 and a sentence where rtden raises an error."""
    expected: tuple[type[Exception], ...] = (RtdenError, *errors)
    try:
        yield
    except expected as error:
        messages.print(f"bench/{script}.py: {error}", markup=False)
        sys.exit(2)


def changes_table(found: Evaluation, names: str, **notes: Sequence[str]) -> Table:
    """Return the means; in brackets the changes against the first system, with 95 % confidence.

    `notes` are further columns behind the names.
    """
    metrics = [marked(found.metrics[column]) for column in found.headline]
    columns = [Column(name, justify="right") for name in (*notes, *metrics)]
    table = Table(names, *columns, box=None, caption=LOSS_NOTE, caption_justify="left")
    figures = found.figures(against=1)
    means, gains, halves = (figures[name] for name in ("mean", "gain", "gain_ci95"))
    for row, system in enumerate(found.systems):
        cells = [f"{means[row, column]:.3f}" for column in found.headline]
        for place, column in enumerate(found.headline if row > 1 else ()):
            cells[place] += f" ({gains[row, column]:+.3f} ± {halves[row, column]:.3f})"
        noted = [of[row - 1] if row else "" for of in notes.values()]
        table.add_row(system, *noted, *cells)
    return table


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are also lined up for reading as they are."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join([first.ljust(widths[0]), *cells])} |")
    rule = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])
