"""The training loop: batches to weights; and its files, from which an interrupted run continues."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from rtden.errors import TrainingError
from rtden.files.atomic import new_file, write_whole
from rtden.files.processes import cores
from rtden.model import ModelSpec
from rtden.training.batches import Batch, draw_ahead
from rtden.training.loss import Loss
from rtden.training.network import Build, load_weights, named_weights, rtden_network
from rtden.training.recipe import Corpus, Recipe

BEST, STATE = "best.npz", "state.npz"
"""Weights of the best validation so far, keyed by layer; everything that the next step needs."""
COLUMNS = ("step", "loss", "validation_loss", "seconds")  # of log.csv: a row for each validation


@dataclasses.dataclass(frozen=True)
class Progress:
    """The position of a run."""

    step: int
    steps: int
    loss: float
    validation_loss: float  # NaN in a step without a validation
    best_loss: float
    best_step: int


@dataclasses.dataclass
class State:
    """The position of a run; with the variables, all that the next step depends on."""

    step: int = 0
    seconds: float = 0.0  # spent so far, in earlier sessions, too
    best_loss: float = math.inf
    best_step: int = 0
    validations_since_best: int = 0
    rows: list[list[float]] = dataclasses.field(default_factory=list)

    @classmethod
    def load(cls, work: Path, variables: Sequence[Any]) -> State:
        """Load the variables of the run in a folder and return its state, or a new one."""
        if not (work / STATE).exists():
            return cls()
        with np.load(work / STATE) as saved:
            for number, variable in enumerate(variables):
                variable.assign(saved[str(number)])
            return cls(**json.loads(str(saved["state"])))

    def save(self, work: Path, variables: Sequence[Any]) -> None:
        """Write the state, the variables and the log."""
        named = {str(number): ops.convert_to_numpy(of) for number, of in enumerate(variables)}
        save_arrays(work / STATE, state=json.dumps(dataclasses.asdict(self)), **named)
        lines = [",".join(map(str, row)) + "\n" for row in (COLUMNS, *self.rows)]
        write_whole(work / "log.csv", "".join(lines).encode(), force=True)


class Trainer(keras.Model):  # type: ignore[misc]
    """A network and the loss behind it; with `costly`, its costly parts, too."""

    def __init__(self, network: keras.Model, loss: Loss, *, costly: bool) -> None:
        super().__init__()
        self.network, self._path_loss, self._costly = network, loss, costly

    def call(self, features: Any, training: bool = False) -> Any:
        """Return the masks of a batch, (mixtures, n_mels, columns, 1)."""
        return self.network(features, training=training)

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        """Return the loss of a batch's masks."""
        return self._path_loss(y, y_pred, costly=self._costly)

    def validation_loss(self, batches: list[Batch]) -> float:
        """Return the mean loss over batches."""
        losses = [float(self.test_on_batch(b.features, b.target())) for b in batches]
        return float(np.mean(losses))


class _Run:
    """The network, the optimizer and the mean of the weights."""

    def __init__(self, spec: ModelSpec, recipe: Recipe, build: Build) -> None:
        self._recipe = recipe
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(recipe.precision)
        self.network, self.mean = (build(spec) for _ in range(2))
        keras.config.set_dtype_policy(policy)
        self._optimizer = keras.optimizers.AdamW(
            recipe.learning_rate, weight_decay=recipe.weight_decay, clipnorm=1.0
        )
        self._optimizer.build(self.network.trainable_variables)
        holders = (self.network, self.mean, self._optimizer)
        self.variables = [variable for holder in holders for variable in holder.variables]
        # Two graphs share one network and one optimizer: most steps leave out the costly parts.
        loss = recipe.loss(spec)
        self._cheap, self._costly = (Trainer(self.network, loss, costly=of) for of in (False, True))
        if not (recipe.dnsmos or recipe.p808) or recipe.dnsmos_every == 1:
            self._cheap = self._costly
        for trainer in (self._costly, self._cheap):
            trainer.compile(self._optimizer)
        self.validator = Trainer(self.mean, loss, costly=True)
        self.validator.compile()

    def step(self, number: int, batch: Batch, progress: float) -> float:
        """Take a step and return its loss."""
        self._optimizer.learning_rate = self._recipe.rate_at(progress)
        every = self._recipe.dnsmos_every
        trainer = self._costly if number % every == every - 1 else self._cheap
        loss = float(trainer.train_on_batch(batch.features, batch.target()))
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss was no longer finite at step {number + 1}; start again with a lower "
                "learning rate ('rtden export' takes the best network so far)."
            )
        # At the beginning the decay is lower, so that the first weights are soon forgotten.
        decay = np.float32(min(self._recipe.average, (number + 1.0) / (number + 11.0)))
        pairs = zip(self.mean.get_weights(), self.network.get_weights(), strict=True)
        self.mean.set_weights([decay * m + (np.float32(1.0) - decay) * w for m, w in pairs])
        return loss


def train(
    spec: ModelSpec,
    corpus: Corpus,
    recipe: Recipe,
    work: Path,
    *,
    start: keras.Model | None = None,
    build: Build = rtden_network,
    report: Callable[[Progress], None] | None = None,
) -> keras.Model:
    """Train a network; return the best one, by validation loss, in float32.

    An interrupted run with the same recipe continues from the files in `work`. The layers start
    with the weights of those of the same name in `start`. `report` is called after every step.
    Raises TrainingError if `work` holds another run, or the loss is no longer finite.
    """
    work.mkdir(parents=True, exist_ok=True)
    check_recipe(work / "recipe.json", spec, recipe)
    keras.utils.set_random_seed(recipe.seed)
    run = _Run(spec, recipe, build)
    if start is not None:
        load_weights(run.network, named_weights(start))
    run.mean.set_weights(run.network.get_weights())
    held_out = corpus.source(spec, recipe, validation=True)
    validation = [held_out(number) for number in range(recipe.validation_batches)]
    state = State.load(work, run.variables)
    began, losses = time.monotonic() - state.seconds, list[float]()
    with contextlib.closing(
        draw_ahead(corpus.source(spec, recipe), range(state.step, recipe.steps), workers=_workers())
    ) as batches:
        for batch in batches:
            state.seconds = time.monotonic() - began
            progress = max(state.step / recipe.steps, state.seconds / 3600.0 / recipe.hours)
            loss = run.step(state.step, batch, progress)
            losses.append(loss)
            state.step += 1
            last = state.step == recipe.steps or progress >= 1.0
            found = math.nan
            if state.step % recipe.validate_every == 0 or last:
                found = run.validator.validation_loss(validation)
                _keep(state, work, run, float(np.mean(losses)), found)
                losses.clear()
            if report is not None:
                best = state.best_loss, state.best_step
                report(Progress(state.step, recipe.steps, loss, found, *best))
            if last or state.validations_since_best >= recipe.patience:
                break
    return load_best(spec, work, build)


def _workers() -> int:
    """Return how many processes draw mixtures: beside a GPU, processors have nothing else to do.

    One core draws about 25 mixtures a second, and an H100 takes a thousand.
    """
    if keras.backend.backend() != "torch":
        return 1
    import torch

    return max(1, cores() - 1) if torch.cuda.is_available() else 1


def _keep(state: State, work: Path, run: _Run, loss: float, validation_loss: float) -> None:
    """Write the state after a validation, and the mean of the weights if it is the best."""
    state.validations_since_best += 1
    if validation_loss < state.best_loss:
        state.best_loss, state.best_step = validation_loss, state.step
        state.validations_since_best = 0
        save_arrays(work / BEST, **named_weights(run.mean))
    state.rows.append([state.step, loss, validation_loss, round(state.seconds)])
    state.save(work, run.variables)


def load_best(spec: ModelSpec, work: Path, build: Build = rtden_network) -> keras.Model:
    """Return the best network of a run, finished or not, in float32."""
    path, network = work / BEST, build(spec)
    if not path.exists():
        raise TrainingError(
            f"{work} holds no trained network yet; let the training reach its first validation."
        )
    with np.load(path) as named:
        load_weights(network, dict(named))
    return network


def check_recipe(path: Path, spec: ModelSpec, recipe: Recipe) -> None:
    """Write a run's recipe; that of another run in the folder raises TrainingError."""
    signal = {"hop": spec.hop, "channels": spec.channels}
    text = json.dumps({"recipe": recipe.to_dict(), **signal}, indent=2) + "\n"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != json.loads(text):
        raise TrainingError(
            f"{path.parent} holds a run with other settings; continue it with those (see {path}), "
            "or choose another folder for this one."
        )
    write_whole(path, text.encode(), force=True)


def save_arrays(path: Path, **named: Any) -> None:
    """Write an .npz file; an interrupt leaves the old file or the new one, never half of one."""
    with new_file(path, force=True) as partial, partial.open("wb") as file:
        np.savez(file, **named)
