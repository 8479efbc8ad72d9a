"""How far batches made on the GPU, and losses with constants kept there, differ from training's.

python gpu_batch.py SPEECH NOISE WORK
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gpu import DEVICE, BatchMaker, keep_constants

from rtden.model import ModelSpec, load_spec
from rtden.training import batches
from rtden.training.recipe import Corpus, Recipe
from rtden.training.synthesis import active_rms


def differences(speech: Path, noise: Path, work: Path) -> dict[str, float]:
    """Return the largest difference of the features and of each part of the target."""
    spec, recipe = load_spec(None), Recipe(mixtures=12, copies=0)
    corpus = Corpus.load(speech, noise, work, rate_hz=spec.rate_hz, recipe=recipe)
    mixtures = corpus.source(spec, recipe).mixtures(0)
    overlaps = batches.draw_overlaps(spec, len(mixtures), np.random.default_rng(0))
    wanted = batches.to_batch(mixtures, spec, overlaps)
    signals = (np.stack(each) for each in zip(*(of[:2] for of in mixtures), strict=True))
    about = [(active_rms(of.clean), min(of.bandwidth_hz, 1e5)) for of in mixtures]
    columns = (*signals, *np.array(about, np.float32).T)
    clean, noisy, speech_levels, ends_hz = (
        torch.from_numpy(np.ascontiguousarray(of)).to(DEVICE) for of in columns
    )
    make = BatchMaker(spec)
    features, target = make.finish(clean, noisy, speech_levels, ends_hz, overlaps)
    found = {"features": features, **target}
    apart = {
        name: float(np.abs(of - found[name].cpu().numpy()).max())
        for name, of in vars(wanted).items()
    }
    return {
        **apart,
        "alone": speech_alone(make),
        "kept": with_kept_constants(recipe, spec, {n: of[:2] for n, of in target.items()}),
    }


def speech_alone(make: BatchMaker) -> float:
    """Return how much noise is put beside speech that the mixer drew alone."""
    clean = torch.randn((4, 32768), device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(0))
    beside = torch.tensor([0.0, 0.5, 0.5, 0.5], device=DEVICE)
    ends_hz = torch.tensor([5000.0, 11000.0, 11000.0, 11000.0], device=DEVICE)  # tells them apart
    signals = 0.1 * torch.stack([clean, clean + beside[:, None] * clean.flip(1)], dim=1)
    about = torch.stack([torch.full_like(beside, 0.1), 0.1 * beside, ends_hz], dim=1)
    pool: Any = SimpleNamespace(drawn=len(signals), signals=signals, about=about)
    _, target = make(pool, 64)
    of_first = target["valid_bins"].mean(dim=1) < 0.7
    assert 0 < of_first.sum() < 64
    return float((target["noisy"] - target["clean"])[of_first].abs().max())


def with_kept_constants(recipe: Recipe, spec: ModelSpec, target: dict[str, Any]) -> float:
    """Return how far losses change once constants are kept: of two masks, each twice."""
    loss, columns = recipe.loss(spec), target["noisy"].shape[1] // spec.hop
    shape = (len(target["noisy"]), spec.n_mels, columns, 1)
    masks = [torch.full(shape, value, device=DEVICE) for value in (0.3, 0.8)]
    plain = [float(loss(target, mask)) for mask in masks]
    keep_constants()
    kept = [[float(loss(target, mask)) for mask in masks] for _ in range(2)]
    return float(np.abs(np.array(kept) - plain).max())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(differences(*map(Path, sys.argv[1:]))))
