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

_LOGGER = logging.getLogger(__name__)

BEST = "best.npz"
"""Weights of the best validation so far, keyed by layer."""
COLUMNS = ("step", "loss", "validation_loss", "seconds")
"""Of log.csv, which has a row for each validation."""


@dataclasses.dataclass
class State:
    """The position of a run; with weights, optimizer and mean, all that the next step depends on.

    `seconds` were spent so far, in earlier sessions, too; `rows` are those of log.csv.
    """

    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    validations_since_best: int = 0
    rows: list[list[float]] = dataclasses.field(default_factory=list)

    @classmethod
    def load(cls, work: Path, trainer: keras.Model, mean: keras.Model, features: Any) -> State:
        """Load the weights of the run in a folder and return its state, or a new one."""
        path = work / "state.json"
        if not path.exists():
            return cls()
        state = cls(**json.loads(path.read_text(encoding="utf-8")))
        # The optimizer's variables exist only once it has been built for the weights.
        trainer(features)
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.load_weights(work / f"state-{state.step}.weights.h5")
        mean.load_weights(work / f"state-{state.step}.mean.weights.h5")
        _LOGGER.info("continuing after step %d", state.step)
        return state

    def save(self, work: Path, trainer: keras.Model, mean: keras.Model) -> None:
        """Write the state and the log; remove the state before."""
        name, beside = f"state-{self.step}.", work / "new.weights.h5"
        for network, kind in ((trainer, ""), (mean, "mean.")):
            network.save_weights(beside)
            os.replace(beside, work / f"{name}{kind}weights.h5")
        write_text(work / "state.json", json.dumps(dataclasses.asdict(self)))
        lines = [",".join(map(str, row)) for row in (COLUMNS, *self.rows)]
        write_text(work / "log.csv", "\n".join(lines) + "\n")
        for path in work.glob("state-*.weights.h5"):
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


def save_arrays(path: Path, **named: Any) -> None:
    """Write an .npz file; an interrupt leaves the old file or the new one, never half of one."""
    with new_file(path, force=True) as partial, partial.open("wb") as file:
        np.savez(file, **named)


def write_text(path: Path, text: str) -> None:
    """Write a file in the same way."""
    write_whole(path, text.encode(), force=True)
