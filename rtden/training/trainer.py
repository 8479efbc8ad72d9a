"""The training loop: batches to weights."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from rtden.errors import TrainingError
from rtden.model import ModelSpec
from rtden.training.batches import Batch, draw_ahead
from rtden.training.checkpoint import BEST, State, check_recipe, save_arrays
from rtden.training.loss import Loss
from rtden.training.network import find_network, load_weights, named_weights, trained_network
from rtden.training.recipe import Corpus, Recipe

_LOGGER = logging.getLogger(__name__)

WINDOW_STRIDE = 4
"""Columns taken from each window of a network that is not causal; in use it is one to eight."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """The position of a run."""

    step: int
    steps: int
    loss: float
    validation_loss: float
    """NaN before the first validation."""
    best_loss: float
    best_step: int


class Trainer(keras.Model):  # type: ignore[misc]
    """A network, the signal path behind it and the loss at its end.

    A `causal` network runs on sequences, any other on windows. With `costly`, the loss includes its
    costly parts.
    """

    def __init__(
        self, network: keras.Model, spec: ModelSpec, *, causal: bool, loss: Loss, costly: bool
    ) -> None:
        super().__init__()
        self.network = network
        self._frames, self._causal = spec.frames, causal
        self._path_loss, self._costly = loss, costly

    def call(self, features: Any, training: bool = False) -> Any:
        """Return the masks of a batch, (mixtures, n_mels, columns, 1)."""
        if self._causal:
            return self.network(features, training=training)
        columns, new = features.shape[2], WINDOW_STRIDE
        edges = (self._frames - new, -columns % new)
        padded = ops.pad(features, ((0, 0), (0, 0), edges, (0, 0)))
        starts = range(0, columns, new)
        windows = [padded[:, :, start : start + self._frames] for start in starts]
        masks = self.network(ops.concatenate(windows), training=training)[:, :, -new:]
        return ops.concatenate(ops.split(masks, len(windows)), axis=2)[:, :, :columns]

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        """Return the loss of a batch's masks."""
        return self._path_loss(y, y_pred, costly=self._costly)

    def validation_loss(self, batches: list[Batch]) -> float:
        """Return the mean loss over batches."""
        losses = [float(self.test_on_batch(b.features, b.target())) for b in batches]
        return float(np.mean(losses))


class _Run:
    """One call of a run: networks, optimizer, mean of the weights, and the files."""

    def __init__(
        self, spec: ModelSpec, recipe: Recipe, work: Path, start: keras.Model | None
    ) -> None:
        self._recipe, self._work = recipe, work
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(recipe.precision)
        kind = find_network(recipe.network)
        self.network, self.mean = (kind.build(spec, None) for _ in range(2))
        keras.config.set_dtype_policy(policy)
        if start is not None:
            load_weights(self.network, named_weights(start))
        self.mean.set_weights(self.network.get_weights())
        self._optimizer = keras.optimizers.AdamW(
            recipe.learning_rate, weight_decay=recipe.weight_decay, clipnorm=1.0
        )
        make = functools.partial(Trainer, spec=spec, causal=kind.causal, loss=recipe.loss(spec))
        # Two graphs share one network and one optimizer: most steps leave out the costly parts.
        self._cheap = self.costly = make(self.network, costly=True)
        self.costly.compile(self._optimizer)
        if recipe.dnsmos and recipe.dnsmos_every > 1:
            self._cheap = make(self.network, costly=False)
            self._cheap.compile(self._optimizer)
        self._validator = make(self.mean, costly=True)
        self._validator.compile()

    def step(self, number: int, batch: Batch, progress: float) -> float:
        """Return the loss of a step, which is taken."""
        self._optimizer.learning_rate = self._recipe.rate_at(progress)
        every = self._recipe.dnsmos_every
        trainer = self.costly if number % every == every - 1 else self._cheap
        loss = float(trainer.train_on_batch(batch.features, batch.target()))
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss was no longer finite at step {number + 1}; start again with a lower "
                f"learning rate (the best network so far is kept in {self._work})."
            )
        # At the beginning the decay is lower, so that the first weights are soon forgotten.
        decay = np.float32(min(self._recipe.average, (number + 1.0) / (number + 11.0)))
        pairs = zip(self.mean.get_weights(), self.network.get_weights(), strict=True)
        self.mean.set_weights([decay * m + (np.float32(1.0) - decay) * w for m, w in pairs])
        return loss

    def validate(self, batches: list[Batch], state: State) -> float:
        """Return the validation loss of the mean of the weights, and keep it if it is the best."""
        loss = self._validator.validation_loss(batches)
        state.validations_since_best += 1
        if loss < state.best_loss:
            state.best_loss, state.best_step, state.validations_since_best = loss, state.step, 0
            save_arrays(self._work / BEST, **named_weights(self.mean))
        return loss


def train(
    spec: ModelSpec,
    corpus: Corpus,
    recipe: Recipe,
    work: Path,
    *,
    start: keras.Model | None = None,
    report: Callable[[Progress], None] | None = None,
) -> keras.Model:
    """Train a network; return the best one, by validation loss, in float32.

    `work` receives ``recipe.json``, ``log.csv``, ``best.npz`` and ``state*``, from which an
    interrupted run with the same recipe continues. The layers start with the weights of those of
    the same name in `start`. `report` is called after every step. Raises TrainingError if `work`
    holds a run with another recipe, or the loss is no longer finite.
    """
    work.mkdir(parents=True, exist_ok=True)
    check_recipe(work / "recipe.json", spec, recipe)
    keras.utils.set_random_seed(recipe.seed)
    run = _Run(spec, recipe, work, start)
    held_out = corpus.source(spec, recipe, validation=True)
    validation = [held_out(number) for number in range(recipe.validation_batches)]
    state = State.load(work, run.costly, run.mean, validation[0].features)
    began = time.monotonic() - state.seconds
    batches = draw_ahead(corpus.source(spec, recipe), range(state.step, recipe.steps))
    losses: list[float] = []
    with contextlib.closing(batches):
        for batch in batches:
            state.seconds = time.monotonic() - began
            progress = max(state.step / recipe.steps, state.seconds / 3600.0 / recipe.hours)
            loss = run.step(state.step, batch, progress)
            losses.append(loss)
            state.step += 1
            last = state.step == recipe.steps or progress >= 1.0
            found = math.nan
            if state.step % recipe.validate_every == 0 or last:
                found = run.validate(validation, state)
                mean, seconds = float(np.mean(losses)), round(state.seconds)
                state.rows.append([state.step, mean, found, seconds])
                losses.clear()
                state.save(work, run.costly, run.mean)
            if report is not None:
                best = state.best_loss, state.best_step
                report(Progress(state.step, recipe.steps, loss, found, *best))
            if last or state.validations_since_best >= recipe.patience:
                _LOGGER.info("stopped after %d steps", state.step)
                break
    return load_best(spec, recipe, work)


def load_best(spec: ModelSpec, recipe: Recipe, work: Path) -> keras.Model:
    """Return the best network of a run, finished or not, in float32."""
    path = work / BEST
    if not path.exists():
        raise TrainingError(
            f"{work} holds no trained network yet; let the training reach its first validation."
        )
    return trained_network(recipe.network, spec, path)
