"""Files of a training run, from which an interrupted run continues."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rtden.errors import TrainingError
from rtden.files.atomic import new_file, write_whole
from rtden.model import ModelSpec, without_sections
from rtden.training.recipe import Recipe
from rtden.types import Array

_LOGGER = logging.getLogger(__name__)

BEST = "best.npz"
"""Weights of the best validation so far, keyed by layer."""
COLUMNS = ("step", "loss", "validation_loss", "seconds")
"""Of log.csv, which has a row for each validation."""


class Average:
    """The exponential mean of a network's weights.

    `decay` is per step; at the beginning it is lower, so that the first weights are soon forgotten.
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        self._network, self._decay, self.steps = network, decay, 0
        self.weights: list[Array] = [np.array(w, np.float32) for w in network.get_weights()]

    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = np.float32(min(self._decay, self.steps / (10.0 + self.steps)))
        now = self._network.get_weights()
        self.weights = [
            decay * mean + (np.float32(1.0) - decay) * weight
            for mean, weight in zip(self.weights, now, strict=True)
        ]

    def swap(self) -> None:
        """Exchange the network's weights and their mean; a second call undoes the first."""
        now = [np.array(w, np.float32) for w in self._network.get_weights()]
        self._network.set_weights(self.weights)
        self.weights = now


@dataclasses.dataclass
class State:
    """The position of a run.

    With weights, optimizer and mean, it is all that the next step depends on.
    """

    step: int = 0
    seconds: float = 0.0
    """Time spent in earlier sessions of the run."""
    best_loss: float = math.inf
    best_step: int = 0
    validations_since_best: int = 0
    rows: list[list[float]] = dataclasses.field(default_factory=list)
    """What log.csv holds."""

    @classmethod
    def load(cls, work: Path, trainer: keras.Model, average: Average, features: Any) -> State:
        """Load the weights of the run in a folder and return its state, or a new one."""
        path = work / "state.json"
        if not path.exists():
            return cls()
        state = cls(**json.loads(path.read_text(encoding="utf-8")))
        # The optimizer's variables exist only once it has been built for the weights.
        trainer(features)
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.load_weights(work / f"state-{state.step}.weights.h5")
        with np.load(work / f"state-{state.step}.average.npz") as mean:
            average.weights = [mean[f"arr_{number}"] for number in range(len(mean.files))]
        average.steps = state.step
        _LOGGER.info("continuing after step %d", state.step)
        return state

    def save(self, work: Path, trainer: keras.Model, average: Average) -> None:
        """Write the state and the log; remove the state before."""
        name = f"state-{self.step}."
        beside = work / "new.weights.h5"
        trainer.save_weights(beside)
        os.replace(beside, work / f"{name}weights.h5")
        save_arrays(work / f"{name}average.npz", *average.weights)
        write_text(work / "state.json", json.dumps(dataclasses.asdict(self)))
        lines = [",".join(map(str, row)) for row in (COLUMNS, *self.rows)]
        write_text(work / "log.csv", "\n".join(lines) + "\n")
        for path in [*work.glob("state-*.weights.h5"), *work.glob("state-*.average.npz")]:
            if not path.name.startswith(name):
                path.unlink()


def check_recipe(path: Path, spec: ModelSpec, recipe: Recipe) -> None:
    """Write a run's recipe; that of another run in the folder raises TrainingError."""
    constants = {
        name: value
        for name, value in dataclasses.asdict(spec).items()
        if name not in ("name", "description", "sha256", "training", "metrics")
        and name not in ("iterations", "frames_inverted", "phase")
    }
    content = json.loads(json.dumps({"recipe": recipe.to_dict(), **constants}))
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else content
    if without_sections(before) != content:
        raise TrainingError(
            f"{path.parent} holds a run with other settings; continue it with those (see {path}), "
            "or choose another folder for this one."
        )
    write_text(path, json.dumps(content, indent=2) + "\n")


def save_arrays(path: Path, *numbered: Array, **named: Any) -> None:
    """Write an .npz file; an interrupt leaves the old file or the new one, never half of one."""
    with new_file(path, force=True) as partial, partial.open("wb") as file:
        np.savez(file, *numbered, **named)


def write_text(path: Path, text: str) -> None:
    """Write a file in the same way."""
    write_whole(path, text.encode(), force=True)
