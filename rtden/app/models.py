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
    from rtden.geometry import algorithmic_latency, default_model
    from rtden.model import DEFAULT_MODEL, list_models, load_model
    from rtden.settings import Settings

    table = Table("Name", "Size", "Serves", "What it is", box=None)
    for_files = default_model()
    for name in list_models():
        model, serves = load_model(name), ""
        if name == DEFAULT_MODEL:
            serves = "live sound and files" if for_files is model else "live sound"
        elif model is for_files:
            latency = algorithmic_latency(model.spec, Settings())
            serves = f"files, live sound from {latency.ms:.0f} ms"
        label = f"{name} (default)" if name == DEFAULT_MODEL else name
        size = f"{len(model.content) / 1024:.0f} KiB"
        table.add_row(label, size, serves, model.spec.description)
    screen.print(table)
