"""The training run: corpus to weights."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from rtden.mel import Array
from rtden.sidecar import ModelSpec
from rtden.training.corpus import Batch, Mixer, batches, load_clips
from rtden.training.network import seed_network

COMPRESSION = 0.3
"""Exponent that brings amplitudes nearer to loudness before they are compared."""


LEAST_DISTORTION = 0.01
"""Distortion of a window, relative to its energy, below which there is little to gain (-20 dB)."""
WINDOW_STRIDE = 20
"""Columns between two windows cut from one mixture: few windows of many mixtures teach more than many of few."""
VALIDATION_BATCHES = 40


def share_loss(target: Any, share: Any) -> Any:
    """Return the mean weighted error of a predicted share; `target` as :class:`rtden.training.corpus.Batch` says.

    The squared difference of the compressed amplitudes of denoised and clean mel, which is what one hears, plus a little of
    the logarithm of each window's distortion relative to its energy, which is what SI-SDR measures. The second term keeps the
    network from being shy: without it strong cells of clear speech came out a fifth too low.
    """
    noisy, clean, best, weight = (target[..., i : i + 1] for i in range(4))
    small = 1e-3
    loudness = ops.power(share * noisy + small, COMPRESSION) - ops.power(clean + small, COMPRESSION)
    energy = weight * ops.square(noisy + small)
    distortion = ops.sum(energy * ops.square(share - best), axis=(1, 2, 3)) / (ops.sum(energy, axis=(1, 2, 3)) + small**2)
    return 0.5 * ops.mean(weight * ops.square(loudness)) + 0.02 * ops.mean(ops.log(distortion + LEAST_DISTORTION))


def column_weights(spec: ModelSpec) -> Array:
    """Return the weight of each column in the loss, mean one.

    Of the newest columns, one is used at advance 1 and eight at advance 8; the others serve as practice. The newest but one
    counts nearly as much as the newest, so that one may still choose to wait for a column of lookahead.
    """
    weight = np.full(spec.frames, 0.25, np.float32)
    weight[-8:] = 0.5
    weight[-2:] = 3.0, 4.0
    weight /= weight.mean()
    return weight


def train(
    spec: ModelSpec,
    *,
    speech: Path,
    noise: Path,
    work: Path,
    steps: int,
    steps_per_epoch: int = 250,
    mixtures: int = 16,
    learning_rate: float = 1.5e-3,
    seed: int = 0,
    start: Path | None = None,
) -> tuple[keras.Model, Array]:
    """Train the seed's network on mixtures of two folders; return it and windows for calibrating its quantisation.

    Writes into `work`: the decoded corpus, `log.csv`, `best.keras` (lowest validation loss), and a backup from which an
    interrupted run goes on. `start` is a network of an earlier run to begin with; with no steps, the best network in `work`
    is returned as it is.
    """
    keras.utils.set_random_seed(seed)
    speeds = (1.0, spec.rate_hz / 16000.0)
    speech_parts = load_clips(speech, work / "cache", rate_hz=spec.rate_hz, group_depth=2, speeds=speeds, seed=seed).split()
    noise_parts = load_clips(noise, work / "cache", rate_hz=spec.rate_hz, group_depth=None, seed=seed).split()

    def source(part: int, source_seed: int) -> Iterator[Batch]:
        mixer = Mixer(speech_parts[part], noise_parts[part], rate_hz=spec.rate_hz, samples=3 * spec.rate_hz, seed=source_seed)
        return batches(mixer, spec, mixtures=mixtures, stride=WINDOW_STRIDE, column_weight=column_weights(spec))

    held_out = list(itertools.islice(source(1, 1), VALIDATION_BATCHES))
    validation = (np.concatenate([b.x for b in held_out]), np.concatenate([b.y for b in held_out]))
    if steps:
        model = seed_network(spec) if start is None else keras.models.load_model(start, compile=False)
        schedule = keras.optimizers.schedules.CosineDecay(1e-5, steps, warmup_target=learning_rate, warmup_steps=min(300, steps // 10))
        model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0), share_loss)
        model.fit(
            ((batch.x, batch.y) for batch in _in_background(source(0, seed + 2))),
            steps_per_epoch=steps_per_epoch,
            epochs=-(-steps // steps_per_epoch),
            validation_data=validation,
            verbose=2,
            callbacks=[
                keras.callbacks.BackupAndRestore(work / "backup"),
                keras.callbacks.ModelCheckpoint(work / "best.keras", save_best_only=True),
                keras.callbacks.CSVLogger(work / "log.csv", append=True),
                keras.callbacks.TerminateOnNaN(),
            ],
        )
    best = keras.models.load_model(work / "best.keras", compile=False)
    return best, validation[0]


def _in_background(source: Iterator[Batch], depth: int = 8) -> Iterator[Batch]:
    """Draw from a source in a thread, `depth` batches ahead."""
    ready: queue.Queue[Batch] = queue.Queue(depth)

    def fill() -> None:
        for batch in source:
            ready.put(batch)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()
