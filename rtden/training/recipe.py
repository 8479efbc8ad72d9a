"""The training run: batches to weights, with checkpoints from which an interrupted run goes on to the same result."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from rtden.errors import TrainingError
from rtden.model import ModelSpec
from rtden.training.batches import Batch, BatchSource, draw_ahead
from rtden.training.corpus import Clips, load_clips
from rtden.training.losses import Loss
from rtden.training.network import find_network

_LOGGER = logging.getLogger(__name__)

WINDOW_STRIDE = 4
"""Columns that a network which is not causal answers per window in training; in use the newest one to eight are taken."""


LOSS_SETTINGS = (
    "iterations",
    "complex_share",
    "distortion",
    "resolutions",
    "loudness",
    "intelligibility",
    "opinion",
)
PRECISIONS = ("float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run depends on besides its recordings. The same recipe on the same recordings gives the same network."""

    network: str = "rtden"
    steps: int = 12000
    mixtures: int = 16
    """Mixtures a step."""
    seconds: float = 4.0
    """Length of a mixture."""
    learning_rate: float = 1.5e-3
    """Highest learning rate; it rises over the first twentieth of the steps and falls as a cosine."""
    weight_decay: float = 1e-4
    iterations: int = 0
    """Griffin-Lim iterations in the path that is trained through."""
    complex_share: float = 0.0
    """Share of complex spectra in the loss."""
    distortion: float = 0.0
    """Weight of the logarithmic distortion in the loss."""
    resolutions: tuple[int, ...] = ()
    """Further frame lengths, in samples, at which the loss compares."""
    loudness: float = 0.025
    """Weight of the audible disturbance in the loss."""
    intelligibility: float = 0.35
    """Weight of what extended STOI lacks to one."""
    opinion: float = 0.025
    """Weight of what DNSMOS OVRL lacks to five."""
    validate_every: int = 500
    validation_batches: int = 24
    patience: int = 8
    """Validations without a better one after which the run stops."""
    copies: int = 2
    """Further copies of the speech at other speeds."""
    seed: int = 0
    precision: str = "float32"
    """Of the network's arithmetic: float32, or mixed_bfloat16, which is two to three times as fast where the processor has it."""

    def __post_init__(self) -> None:
        for name in ("steps", "mixtures", "validate_every", "validation_batches", "patience"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if self.precision not in PRECISIONS:
            raise TrainingError(
                f"precision must be one of {', '.join(PRECISIONS)}, not '{self.precision}'."
            )

    def loss(self, spec: ModelSpec) -> Loss:
        """Return the loss that is to become small."""
        return Loss(spec, **{name: getattr(self, name) for name in LOSS_SETTINGS})


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run is."""

    step: int
    steps: int
    loss: float
    validation_loss: float
    """NaN before the first validation."""
    best_loss: float
    best_step: int


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Speech and noise, each split into a part for training and one for validation."""

    speech: tuple[Clips, Clips]
    noise: tuple[Clips, Clips]

    @classmethod
    def load(
        cls, speech: Path, noise: Path, cache: Path, *, rate_hz: int, copies: int, seed: int
    ) -> Corpus:
        """Decode two folders, or map what was decoded before; :func:`rtden.training.corpus.load_clips` says what it raises."""
        return cls(
            load_clips(
                speech, cache, rate_hz=rate_hz, group_depth=2, copies=copies, seed=seed
            ).split(),
            load_clips(noise, cache, rate_hz=rate_hz, group_depth=None, seed=seed).split(),
        )

    def source(self, spec: ModelSpec, recipe: Recipe, *, validation: bool = False) -> BatchSource:
        """Return the batches of one part. Validation batches do not depend on the recipe's seed, so that runs compare."""
        seed = 1 if validation else recipe.seed + 2
        part = int(validation)
        return BatchSource(
            self.speech[part],
            self.noise[part],
            spec,
            mixtures=recipe.mixtures,
            seconds=recipe.seconds,
            seed=seed,
        )


class Trainer(keras.Model):  # type: ignore[misc]
    """A network with the path after it and the loss at its end."""

    def __init__(self, network: keras.Model, spec: ModelSpec, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self._frames = spec.frames
        self._causal = find_network(recipe.network).causal
        self._path_loss = recipe.loss(spec)

    def call(self, features: Any, training: bool = False) -> Any:
        """Return the shares of every column of a batch, (mixtures, n_mels, columns, frames_per_column)."""
        if self._causal:
            return self.network(features, training=training)
        bands, columns = features.shape[1:3]
        stride = WINDOW_STRIDE
        lead_in = self._frames - stride
        padded = ops.pad(features, ((0, 0), (0, 0), (lead_in, -columns % stride), (0, 0)))
        starts = range(0, columns, stride)
        windows = ops.concatenate([padded[:, :, start : start + self._frames] for start in starts])
        answers = self.network(windows, training=training)[:, :, -stride:]
        answers = ops.reshape(answers, (len(starts), -1, bands, stride, 1))
        return ops.reshape(
            ops.transpose(answers, (1, 2, 0, 3, 4)), (-1, bands, len(starts) * stride, 1)
        )[:, :, :columns]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of a batch's shares."""
        return self._path_loss(y["noisy"], y["clean"], y["heard"], y_pred)

    def validation_loss(self, batches: list[Batch]) -> float:
        """Return the mean loss over batches."""
        return float(
            np.mean(
                [float(self.test_on_batch(batch.features, batch.target())) for batch in batches]
            )
        )


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

    `work` receives ``recipe.json``, ``log.csv``, ``best.weights.h5`` and ``state.*``, from which an interrupted run with the
    same recipe goes on, to the same result as one that was not interrupted.

    Parameters
    ----------
    start : Model, optional
        A network of the same shape whose weights to begin with.
    report : callable, optional
        Called after every step.

    Raises
    ------
    TrainingError
        If `work` holds a run with another recipe, or the loss is no longer finite.
    """
    work.mkdir(parents=True, exist_ok=True)
    _check_recipe(work / "recipe.json", spec, recipe)
    keras.utils.set_random_seed(recipe.seed)
    network = _with_precision(recipe, spec)
    if start is not None:
        network.set_weights(start.get_weights())
    trainer = Trainer(network, spec, recipe)
    schedule = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100,
        recipe.steps,
        warmup_target=recipe.learning_rate,
        warmup_steps=-(-recipe.steps // 20),
    )
    trainer.compile(
        keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, clipnorm=1.0)
    )
    held_out = corpus.source(spec, recipe, validation=True)
    validation = [held_out(number) for number in range(recipe.validation_batches)]

    state = _State.load(work, trainer, validation[0])
    source = corpus.source(spec, recipe)
    with _Log(work / "log.csv", upto=state.step) as log:
        losses: list[float] = []
        for batch in draw_ahead(source, range(state.step, recipe.steps)):
            if state.validations_since_best >= recipe.patience:
                _LOGGER.info(
                    "no better network for %d validations: stopped after %d steps",
                    recipe.patience,
                    state.step,
                )
                break
            loss = float(trainer.train_on_batch(batch.features, batch.target()))
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss was no longer finite at step {state.step + 1}; start again with a lower learning rate (the best so far is kept in {work})."
                )
            losses.append(loss)
            state.step += 1
            validation_loss = math.nan
            if state.step % recipe.validate_every == 0 or state.step == recipe.steps:
                validation_loss = trainer.validation_loss(validation)
                log.write(
                    step=state.step, loss=float(np.mean(losses)), validation_loss=validation_loss
                )
                losses.clear()
                if validation_loss < state.best_loss:
                    state.best_loss, state.best_step, state.validations_since_best = (
                        validation_loss,
                        state.step,
                        0,
                    )
                    _save_weights(network, work / "best.weights.h5")
                else:
                    state.validations_since_best += 1
                state.save(work, trainer)
            if report is not None:
                report(
                    Progress(
                        state.step,
                        recipe.steps,
                        loss,
                        validation_loss,
                        state.best_loss,
                        state.best_step,
                    )
                )
    return load_best(spec, recipe, work)


def load_best(spec: ModelSpec, recipe: Recipe, work: Path) -> keras.Model:
    """Return the best network of a run, finished or not, in float32.

    Raises
    ------
    TrainingError
        If the run has not come to its first validation.
    """
    path = work / "best.weights.h5"
    if not path.exists():
        raise TrainingError(
            f"{work} holds no trained network yet; let the training run to its first validation."
        )
    network = _with_precision(recipe, spec)
    network.load_weights(path)
    precise = find_network(recipe.network).build(spec, None)
    precise.set_weights(network.get_weights())
    return precise


def _with_precision(recipe: Recipe, spec: ModelSpec) -> keras.Model:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        return find_network(recipe.network).build(spec, None)
    finally:
        keras.config.set_dtype_policy(policy)


def _check_recipe(path: Path, spec: ModelSpec, recipe: Recipe) -> None:
    content = json.loads(
        json.dumps(
            {
                "recipe": dataclasses.asdict(recipe),
                **{k: v for k, v in spec.to_dict().items() if k in ("signal", "mel", "network")},
            }
        )
    )
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != content:
        raise TrainingError(
            f"{path.parent} holds a run with other settings; continue it with those (see {path}), or choose another folder for this one."
        )
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save_weights(model: keras.Model, path: Path) -> None:
    # Written beside and renamed: an interrupt leaves the old file or the new one, never half of one.
    beside = path.with_name(f"new-{path.name}")
    model.save_weights(beside)
    os.replace(beside, path)


@dataclasses.dataclass
class _State:
    """How far a run is; with the trainer's weights and its optimizer's, all that the next step depends on."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    validations_since_best: int = 0

    @classmethod
    def load(cls, work: Path, trainer: Trainer, batch: Batch) -> _State:
        path = work / "state.json"
        if not path.exists():
            return cls()
        state = cls(**json.loads(path.read_text(encoding="utf-8")))
        # The optimizer's variables exist only once it has seen the weights; the step undone by loading is never counted.
        trainer(batch.features[:1])
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.load_weights(work / f"state-{state.step}.weights.h5")
        _LOGGER.info("going on after step %d", state.step)
        return state

    def save(self, work: Path, trainer: Trainer) -> None:
        _save_weights(trainer, work / f"state-{self.step}.weights.h5")
        beside = work / "new-state.json"
        beside.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")
        os.replace(beside, work / "state.json")
        for path in work.glob("state-*.weights.h5"):
            if path.name != f"state-{self.step}.weights.h5":
                path.unlink()


class _Log:
    """A CSV file with a row per validation; a run that goes on drops the rows of steps that it repeats."""

    COLUMNS = ("step", "loss", "validation_loss")

    def __init__(self, path: Path, *, upto: int) -> None:
        kept = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= upto]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, self.COLUMNS)
        self._writer.writeheader()
        self._writer.writerows(kept)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, **row: float) -> None:
        self._writer.writerow(row)
        self._file.flush()
