"""The settings of a training run, and the recordings that it uses."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from rtden.errors import TrainingError
from rtden.model import ModelSpec
from rtden.training.batches import BatchSource
from rtden.training.corpus import Clips, load_clips
from rtden.training.loss import Loss

LOSS_SETTINGS = ("distortion", "pesq", "stoi", "dnsmos", "p808")
PRECISIONS = ("float32", "mixed_bfloat16")
WORDS = {int: "a whole number", float: "a number", str: "a word", tuple: "a list"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a run; the defaults are those of the recipe "rtden".

    With `hours` at infinity, the same recipe and recordings give the same network.
    """

    steps: int = 60000
    hours: float = math.inf  # time after which the run ends, if it has not done all steps
    mixtures: int = 8  # a step
    seconds: float = 4.0  # length of a mixture
    # The highest: it rises over the first twentieth, and falls as a cosine to the end of the run.
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    average: float = 0.998  # decay per step of the mean of the weights, which a run returns
    distortion: float = 0.015  # weights of the parts of the loss
    pesq: float = 0.025
    stoi: float = 0.35
    dnsmos: float = 0.06
    p808: float = 0.0
    dnsmos_every: int = 8  # steps: those two parts cost as much as the rest
    dnsmos_mixtures: int = 4  # of a step's
    validate_every: int = 500
    validation_batches: int = 8
    patience: int = 40  # validations without a better one after which the run stops
    copies: int = 1  # further ones of the speech at other speeds
    leave_out: tuple[str, ...] = ()  # folders of speech that are not used
    seed: int = 0
    precision: str = "mixed_bfloat16"  # two to three times as fast where the processor has it

    def __post_init__(self) -> None:
        counts = (
            *("steps", "mixtures", "dnsmos_every", "dnsmos_mixtures"),
            *("validate_every", "validation_batches", "patience"),
        )
        for name, wanted, valid in (
            *((name, "be 1 or more", getattr(self, name) >= 1) for name in counts),
            ("hours", "be more than 0", self.hours > 0),
            ("average", "lie between 0 and 1", 0 <= self.average < 1),
            ("precision", f"be one of {', '.join(PRECISIONS)}", self.precision in PRECISIONS),
        ):
            if not valid:
                raise TrainingError(f"{name} must {wanted}, not {getattr(self, name)!r}.")

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Recipe:
        """Return the recipe of settings read from JSON; names and values are checked."""
        unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise TrainingError(f"a recipe has no setting {', '.join(unknown)}; remove it.")
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        if settings.get("hours", 0) is None:
            settings["hours"] = math.inf
        for name, value in settings.items():
            kind = type(getattr(cls, name))
            if not isinstance(value, (int, float) if kind is float else kind):
                raise TrainingError(f"{name} must be {WORDS[kind]}, not {value!r}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for JSON, in which no time limit is null."""
        settings = dataclasses.asdict(self)
        return {**settings, "hours": None if math.isinf(self.hours) else self.hours}

    def loss(self, spec: ModelSpec) -> Loss:
        """Return the loss."""
        weights = {name: getattr(self, name) for name in LOSS_SETTINGS}
        return Loss(spec, self.dnsmos_mixtures, **weights)

    def rate_at(self, progress: float) -> float:
        """Return the learning rate at a point of the run, 0 to 1."""
        rise = min(1.0, (progress + 1e-4) / 0.05)
        fall = 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))
        return self.learning_rate * max(rise * fall, 1e-3)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Speech and noise, each split into a part for training and one for validation."""

    speech: tuple[Clips, Clips]
    noise: tuple[Clips, Clips]

    @classmethod
    def load(
        cls, speech: Path, noise: Path, cache: Path, *, recipe: Recipe, **options: Any
    ) -> Corpus:
        """Decode two folders, or map the cached result; see :func:`load_clips`."""
        options |= {"seed": recipe.seed}
        varied: dict[str, Any] = {"copies": recipe.copies, "leave_out": recipe.leave_out}
        talkers = load_clips(speech, cache, group_depth=2, **varied, **options)
        return cls(talkers.split(), load_clips(noise, cache, group_depth=None, **options).split())

    def source(self, spec: ModelSpec, recipe: Recipe, *, validation: bool = False) -> BatchSource:
        """Return the batches of one part.

        Validation batches do not depend on the recipe's seed, so that runs compare.
        """
        part, seed = int(validation), 1 if validation else recipe.seed + 2
        sizes: dict[str, Any] = {"mixtures": recipe.mixtures, "seconds": recipe.seconds}
        return BatchSource(self.speech[part], self.noise[part], spec=spec, seed=seed, **sizes)
