"""Files of a training run, from which an interrupted run continues."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from rtden.errors import TrainingError
from rtden.files.atomic import new_file, write_whole
from rtden.model import ModelSpec
from rtden.training.recipe import Recipe

BEST, STATE = "best.npz", "state.npz"
"""Weights of the best validation so far, keyed by layer; everything that the next step needs."""
COLUMNS = ("step", "loss", "validation_loss", "seconds")
"""Of log.csv, which has a row for each validation."""


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
        lines = [",".join(map(str, row)) for row in (COLUMNS, *self.rows)]
        write_text(work / "log.csv", "\n".join(lines) + "\n")


def check_recipe(path: Path, spec: ModelSpec, recipe: Recipe) -> None:
    """Write a run's recipe; that of another run in the folder raises TrainingError."""
    signal = {"hop": spec.hop, "channels": spec.channels}
    text = json.dumps({"recipe": recipe.to_dict(), **signal}, indent=2) + "\n"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != json.loads(text):
        raise TrainingError(
            f"{path.parent} holds a run with other settings; continue it with those (see {path}), "
            "or choose another folder for this one."
        )
    write_text(path, text)


def save_arrays(path: Path, **named: Any) -> None:
    """Write an .npz file; an interrupt leaves the old file or the new one, never half of one."""
    with new_file(path, force=True) as partial, partial.open("wb") as file:
        np.savez(file, **named)


def write_text(path: Path, text: str) -> None:
    """Write a file in the same way."""
    write_whole(path, text.encode(), force=True)
