"""The losses of a few training steps, on the backend of Keras that KERAS_BACKEND names.

python few_steps.py SPEECH NOISE WORK
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rtden.model import find_model
from rtden.training.export import load_network
from rtden.training.recipe import Corpus, Recipe
from rtden.training.trainer import Progress, train

RECIPE = Recipe(
    precision="float32",
    steps=3,
    mixtures=2,
    seconds=1.5,
    learning_rate=1e-4,
    p808=0.05,
    dnsmos_every=1,
    validate_every=3,
    validation_batches=1,
    copies=0,
)


def few_steps(speech: Path, noise: Path, work: Path) -> list[float]:
    """Return the loss of each step from the shipped network, and that of the validation."""
    network, spec = load_network(find_model("rtden"))
    corpus = Corpus.load(speech, noise, work / "cache", rate_hz=spec.rate_hz, recipe=RECIPE)
    seen: list[Progress] = []
    train(spec, corpus, RECIPE, work, start=network, report=seen.append)
    return [progress.loss for progress in seen] + [seen[-1].validation_loss]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(few_steps(*map(Path, sys.argv[1:]))))
