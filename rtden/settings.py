"""Settings of a denoiser that the user chooses; those of the model are in its sidecar."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rtden.errors import SettingsError
from rtden.plain import for_json

Phase = Literal["warm", "random"]
HOPS_PER_STEP = (1, 2, 4, 8, 16)
SHORTEST_OVERLAP_SAMPLES = 32
"""A shorter crossfade from frame to frame would be heard as a click."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a :class:`rtden.Denoiser`.

    Parameters
    ----------
    hops_per_step : int
        1, 2, 4, 8 or 16. More cost less, and each delays by a hop (the default model's: 256
        samples, 11.6 ms).
    overlap_samples : int, optional
        Overlap of the synthesis windows of neighbouring frames, 32 samples or more; None for the
        model's longest. The latency is `hops_per_step` hops and the overlap. A shorter overlap
        takes asymmetric windows (:func:`rtden.spectral.window_pair`) and sounds a little worse.
    strength : float
        Wet share of the output, 0 (the input, delayed) to 1 (denoised), aligned to the sample.
    limit_db : float
        At most this much is taken off any cell of the spectrum, in dB; infinity for no limit.
    iterations, frames : int, optional
        Griffin-Lim iterations per step (K), and frames that one spans (M), the new ones included.
        None takes the model's, and no iteration with a short overlap.
    phase : str, optional
        Starting phase of a new frame: the noisy one ("warm") or "random"; None takes the model's.
    seed : int
        Seed of the random phase.

    Raises
    ------
    SettingsError
        If a value is outside its range.
    """

    hops_per_step: int = 1
    overlap_samples: int | None = None
    strength: float = 1.0
    limit_db: float = math.inf
    iterations: int | None = None
    frames: int | None = None
    phase: Phase | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_strength(self.strength)
        check_limit_db(self.limit_db)
        hops, phase, shortest = self.hops_per_step, self.phase, SHORTEST_OVERLAP_SAMPLES
        for name, wanted, valid in (
            ("hops_per_step", f"be one of {HOPS_PER_STEP}", whole(hops) and hops in HOPS_PER_STEP),
            ("overlap_samples", f"be {shortest} or more", whole(self.overlap_samples, shortest)),
            ("iterations", "lie between 0 and 100", whole(self.iterations, 0, 100)),
            ("frames", "lie between 1 and 64", whole(self.frames, 1, 64)),
            ("phase", "be 'warm' or 'random'", phase is None or phase in get_args(Phase)),
            ("seed", "be 0 or more", self.seed is not None and whole(self.seed)),
        ):
            require(valid, name, wanted, getattr(self, name))
        # Plain numbers: those of numpy overflow, and JSON does not take them.
        for name, value in vars(self).items():
            if isinstance(value, numbers.Real):
                kind: Any = float if name in {"strength", "limit_db"} else int
                object.__setattr__(self, name, kind(value))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for JSON, which has no infinity: no limit is null."""
        settings: dict[str, Any] = for_json(self, 12)
        return settings


def gain_floor(limit_db: float) -> float:
    """Return the smallest gain that a limit allows (linear)."""
    return 0.0 if math.isinf(limit_db) else 10.0 ** (-limit_db / 20.0)


def check_strength(strength: float) -> None:
    """Raise SettingsError if a wet share lies outside 0 to 1."""
    require(0 <= number(strength) <= 1, "strength", "lie between 0 and 1", strength)


def check_limit_db(limit_db: float) -> None:
    """Raise SettingsError if a limit is negative."""
    require(number(limit_db) >= 0, "limit_db", "be 0 or more", limit_db)


def check_settings(settings: Settings | None) -> Settings:
    """Return settings, the default ones for None; SettingsError for anything else."""
    if not isinstance(settings, Settings | None):
        given = type(settings).__name__
        raise SettingsError(f"settings are rtden.Settings(strength=0.8, ...), not {given}.")
    return settings or Settings()


def number(value: object) -> float:
    """Return a number as float, and NaN, which no comparison holds for, for anything else."""
    try:
        return float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:
        return math.nan


def whole(value: object, lowest: int = 0, highest: float = math.inf) -> bool:
    """Return whether a value is None or a whole number in a range."""
    return value is None or (
        isinstance(value, numbers.Integral) and lowest <= int(value) <= highest
    )


def check_flags(**flags: object) -> None:
    """Raise SettingsError if a value is neither True nor False, numpy's included."""
    for name, value in flags.items():
        require(type(value).__name__ in ("bool", "bool_"), name, "be True or False", value)


def require(valid: bool, name: str, wanted: str, value: object) -> None:
    """Raise SettingsError unless a setting is valid."""
    if not valid:
        raise SettingsError(f"{name} must {wanted}, not {value!r}.")
