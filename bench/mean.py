"""A model from the weighted mean of the weights of several runs, as the shipped one is made.

    python bench/mean.py --speech SPEECH --noise NOISE --start rtden --out next.tflite \
        --scale 0.95 --shift -0.05 --contrast 3.5 \
        listeners/best.npz=0.4 similarity/best.npz=0.15 models/rtden.weights.npz=0.45

Runs that started with the same weights and went towards different losses differ in what they are
good at; a mean of their weights lies between, often above the line (Ramé et al., 2023, "Rewarded
soups"). The logits of the last layer may be scaled and shifted, which costs nothing, and the
contrast set. The ranges of int8 are found on mixtures of the recordings. Needs the extra `train`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from common import one_sentence

from rtden.errors import InputError
from rtden.files.atomic import check_target
from rtden.model import find_model, load_spec


def weighted(sources: list[str]) -> dict[str, Any]:
    """Return the sum of named weights; a source is the path of an .npz file, and its share."""
    total: dict[str, Any] = {}
    for source in sources:
        path, separator, share = source.rpartition("=")
        try:
            factor = np.float32(share) if separator else None
        except ValueError:
            factor = None
        if factor is None:
            raise InputError(
                f"give weights as FILE.npz=SHARE, for example run/best.npz=0.5: {source}"
            )
        with np.load(path) as named:
            for name, values in named.items():
                total[name] = total.get(name, np.float32(0.0)) + factor * values.astype(np.float32)
    return total


def main(
    weights: Annotated[list[str], typer.Argument(help="FILE.npz=SHARE, for each run.")],
    speech: Annotated[Path, typer.Option(help="Folder of speech.")],
    noise: Annotated[Path, typer.Option(help="Folder of noise.")],
    out: Annotated[Path, typer.Option(help="The model to write.")],
    start: Annotated[str, typer.Option(help="Model whose constants are kept.")] = "rtden",
    scale: Annotated[float, typer.Option(help="Factor of the last layer's logits.")] = 1.0,
    shift: Annotated[float, typer.Option(help="Added to the logits.")] = 0.0,
    contrast: Annotated[float | None, typer.Option(help="Contrast, if not the start's.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for the decoded recordings.")] = None,
) -> None:
    """Write the mean of weights as an int8 model with its sidecar and weights."""
    from rtden.training.export import export
    from rtden.training.network import load_weights, rtden_network
    from rtden.training.recipe import Corpus, Recipe
    from rtden.training.run import calibration_sequences

    with one_sentence("mean", OSError):
        check_target(out, force=False)
        spec = load_spec(find_model(start))
        shares = ", ".join("/".join(Path(source).parts[-2:]) for source in weights)
        said = {"weights": f"the sum of {shares}; logits * {scale:g} + {shift:g}"}
        contrast = spec.contrast if contrast is None else contrast
        training = {**spec.training, **said}
        spec = dataclasses.replace(spec, contrast=contrast, training=training)
        network = rtden_network(spec)
        kept = load_weights(network, weighted(weights))
        if kept:
            raise InputError(f"the weights lack those of {', '.join(kept)}; give a run's best.npz.")
        last = network.get_layer("share")
        kernel, bias = last.get_weights()
        last.set_weights([kernel * np.float32(scale), bias * np.float32(scale) + np.float32(shift)])
        recipe = Recipe(leave_out=("asterisk",))  # as the recipes of the runs
        with tempfile.TemporaryDirectory() as made:
            folder = cache or Path(made)
            corpus = Corpus.load(speech, noise, folder, rate_hz=spec.rate_hz, recipe=recipe)
            sequences = calibration_sequences(corpus.source(spec, recipe))
        export(network, spec, out, calibration=sequences)


if __name__ == "__main__":
    typer.run(main)
