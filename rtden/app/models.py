"""List the shipped models."""

from __future__ import annotations

from rich.table import Table

from rtden.app.options import (
    one_sentence,
    screen,
)


@one_sentence
def models() -> None:
    """List the shipped models."""
    from rtden.model import DEFAULT_MODEL, find_model, list_models, load_spec

    table = Table("Name", "Size", "What it is", box=None)
    for name in list_models():
        path = find_model(name)
        table.add_row(
            f"{name} (default)" if name == DEFAULT_MODEL else name,
            f"{path.stat().st_size / 1024:.0f} KiB",
            load_spec(path).description,
        )
    screen.print(table)
