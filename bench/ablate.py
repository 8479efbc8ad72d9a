"""What each part of network, input and loss gives: equal steps on the same batches without it.

    python bench/ablate.py --speech SPEECH --noise NOISE --pairs FOLDER --work WORK [--steps 1000]

Every variant is trained from scratch, and scored in float32 at the latency of live sound. In
brackets: the change against the whole network, pair by pair, with its 95 % confidence. A variant
that was interrupted continues; WORK/VARIANT/log.csv has its losses.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

import typer
from common import PairsOption, changes_table, screen

from rtden.denoiser import settings_for_latency
from rtden.measure.scores import Processor, StreamProcessor, score_pairs

LATENCY_MS = 30.0
METRICS = ("PESQ-WB", "ESTOI", "SI-SDR", "OVRL", "P.808")
WHOLE = "whole"
LAYERS = {"memory of each band": "band", "memory over 96 columns": "far"}
"""Blocks of the network, by the beginning of their layers' names."""
CHANNELS = ("above_floor", "above_mean")
LOSSES = ("distortion", "pesq", "stoi", "dnsmos")
VARIANTS = (WHOLE, *LAYERS, *CHANNELS, *LOSSES)


def switched_off(prefix: str, spec: Any, **options: Any) -> Any:
    """Return a network in which the blocks of a name add nothing, and stay so."""
    from rtden.training.network import rtden_network

    network = rtden_network(spec, **options)
    for layer in network.layers:
        if layer.name.startswith(prefix) and layer.name.endswith("_mix"):
            layer.set_weights([0.0 * weight for weight in layer.get_weights()])
            layer.trainable = False
    return network


def trained(name: str, recipe: Any, speech: Path, noise: Path, work: Path) -> Path:
    """Train a variant and return its float32 model."""
    from precision import write_float

    from rtden.training.recipe import Corpus
    from rtden.training.run import NEW_SPEC
    from rtden.training.trainer import train

    spec, options = NEW_SPEC, {}
    if name in LAYERS:
        options["build"] = functools.partial(switched_off, LAYERS[name])
    elif name in CHANNELS:
        kept = tuple(channel for channel in spec.channels if channel != name)
        spec = dataclasses.replace(spec, channels=kept)
    elif name in LOSSES:
        recipe = dataclasses.replace(recipe, **{name: 0.0})
    corpus = Corpus.load(speech, noise, work / "cache", rate_hz=spec.rate_hz, recipe=recipe)
    folder = work / name.replace(" ", "-")
    network = train(spec, corpus, recipe, folder, **options)
    return write_float(network, spec, folder.with_suffix(".tflite"))


def main(
    speech: Annotated[Path, typer.Option(help="Folder of speech, as for 'rtden train'.")],
    noise: Annotated[Path, typer.Option(help="Folder of noise.")],
    pairs: PairsOption,
    work: Annotated[Path, typer.Option(help="Folder for the runs.")],
    steps: Annotated[int, typer.Option(help="Steps of each variant.")] = 1000,
    recipe: Annotated[str, typer.Option(help="Recipe, as for 'rtden train'.")] = "rtden",
    only: Annotated[list[str] | None, typer.Option(help="A variant; repeatable.")] = None,
) -> None:
    """Train all variants, and print their scores."""
    from rtden.training import require_packages

    require_packages()
    from rtden.training.run import load_recipe

    settings = load_recipe(recipe, {"steps": steps})
    found: dict[str, Processor] = {}
    for name in dict.fromkeys((WHOLE, *(only or VARIANTS))):
        path = trained(name, settings, speech, noise, work)
        live, _ = settings_for_latency(LATENCY_MS, model=path)
        found[name if name == WHOLE else f"without {name}"] = StreamProcessor(
            path, live, lead_in=False
        )
    screen.print(f"{steps} steps each, float32, {LATENCY_MS:g} ms")
    scores = score_pairs(pairs, found, metrics=METRICS)
    screen.print(changes_table(scores, "Variant"))


if __name__ == "__main__":
    typer.run(main)
