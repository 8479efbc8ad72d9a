"""``python -m rtden.training``: train the seed's network and export it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from rtden.sidecar import ModelSpec


def main(
    speech: Annotated[Path, typer.Option(help="Folder of speech; the first two folder levels tell speakers apart.")],
    noise: Annotated[Path, typer.Option(help="Folder of noise recordings.")],
    out: Annotated[Path, typer.Option(help="The .tflite file to write; its sidecar goes beside it.")],
    work: Annotated[Path, typer.Option(help="Folder for the decoded corpus, checkpoints and the log.")] = Path("training-run"),
    steps: Annotated[int, typer.Option(help="Training steps of about 110 windows.")] = 8000,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    data: Annotated[Path | None, typer.Option(help="JSON list of the recordings' sources and licences, for the sidecar.")] = None,
    start: Annotated[Path | None, typer.Option(help="A best.keras of an earlier run to begin with.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1.5e-3,
    average_with: Annotated[Path | None, typer.Option(help="Average the weights with those of this .keras file before the export.")] = None,
    output_offset: Annotated[float, typer.Option(help="Add this to the bias of the last layer before the export; choose it on held-out pairs.")] = 0.0,
    export_only: Annotated[bool, typer.Option("--export-only", help="Export the best network of an earlier run in --work.")] = False,
) -> None:
    """Train the seed's network to tell the share of each mel cell that is speech, and export it as full int8."""
    import keras

    from rtden.training.export import export
    from rtden.training.network import average, raise_output
    from rtden.training.recipe import train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spec = ModelSpec(
        name=out.stem,
        description="The seed's convolutional autoencoder (74 497 parameters), trained to say which share of a mel cell is speech.",
        mean_db=-30.0,
        iterations=1,
        frames_inverted=2,
        training={
            "network": "seed",
            "steps": steps,
            "seed": seed,
            "output_offset": output_offset,
            "data": json.loads(data.read_text(encoding="utf-8")) if data else [],
        },
    )
    work.mkdir(parents=True, exist_ok=True)
    network, windows = train(
        spec, speech=speech, noise=noise, work=work, steps=0 if export_only else steps, seed=seed, start=start, learning_rate=learning_rate
    )
    if average_with is not None:
        network = average(network, keras.models.load_model(average_with, compile=False))
    network = raise_output(network, output_offset)
    half = len(windows) // 2
    export(network, spec, out, calibration=windows[:half][:400], check=windows[half:][:400])


if __name__ == "__main__":
    typer.run(main)
