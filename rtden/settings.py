"""What a user may choose about a denoiser; what the model fixes stands in the model's sidecar."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rtden.errors import SettingsError

Phase = Literal["warm", "random"]
HOPS_PER_STEP = (1, 2, 4, 8)
SHORTEST_OVERLAP_SAMPLES = 32
"""A shorter crossfade from frame to frame would be heard as a click."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a :class:`rtden.Denoiser`.

    Raises
    ------
    SettingsError
        If a value is outside its range.
    """

    hops_per_step: int = 1
    """New columns, of a hop each, per step: 1, 2, 4 or 8. More is cheaper and later by a hop each."""

    overlap_samples: int | None = None
    """Samples by which the synthesis windows of neighbouring frames overlap, 32 or more; None takes all that there are, n_fft - hop.

    The latency is `hops_per_step` hops and these. Fewer make it lower, with asymmetric windows (:func:`rtden.mel.window_pair`), and the
    gains a little late for the sound that they act on.
    """

    strength: float = 1.0
    """Wet share of the output, 0 (the input, delayed) to 1 (denoised); the two are aligned to the sample."""

    limit_db: float = math.inf
    """At most this much is taken off any cell of the spectrum, in dB; infinity sets no limit."""

    iterations: int | None = None
    """Griffin-Lim iterations per step (K); None takes the model's, or none with fewer `overlap_samples` than there are."""

    frames: int | None = None
    """Frames that a Griffin-Lim iteration spans (M), the new ones included; None takes the model's."""

    phase: Phase | None = None
    """Where Griffin-Lim starts a new frame: at the noisy phase ("warm") or at a random one; None takes the model's."""

    seed: int = 0
    """Seed of the random phase."""

    threads: int = 1
    """Interpreter threads. More than one makes a small network slower, not faster."""

    def __post_init__(self) -> None:
        _require(
            self.hops_per_step in HOPS_PER_STEP,
            f"hops_per_step must be one of {HOPS_PER_STEP}, not {self.hops_per_step}",
        )
        _require(
            self.overlap_samples is None or self.overlap_samples >= SHORTEST_OVERLAP_SAMPLES,
            f"overlap_samples must be {SHORTEST_OVERLAP_SAMPLES} or more, not {self.overlap_samples}",
        )
        check_strength(self.strength)
        check_limit_db(self.limit_db)
        _require(
            self.iterations is None or 0 <= self.iterations <= 100,
            f"iterations must lie between 0 and 100, not {self.iterations}",
        )
        _require(
            self.frames is None or 1 <= self.frames <= 64,
            f"frames must lie between 1 and 64, not {self.frames}",
        )
        _require(
            self.phase is None or self.phase in get_args(Phase),
            f"phase must be 'warm' or 'random', not '{self.phase}'",
        )
        _require(self.threads >= 1, f"threads must be 1 or more, not {self.threads}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for JSON, which has no infinity: no limit is null."""
        return {
            name: value if value != math.inf else None
            for name, value in dataclasses.asdict(self).items()
        }

    @property
    def gain_floor(self) -> float:
        """The smallest gain that `limit_db` allows (linear)."""
        return gain_floor(self.limit_db)


def gain_floor(limit_db: float) -> float:
    """Return the smallest gain that a limit allows (linear)."""
    return 0.0 if math.isinf(limit_db) else 10.0 ** (-limit_db / 20.0)


def check_strength(strength: float) -> None:
    """Refuse what is no wet share.

    Raises
    ------
    SettingsError
        If it lies outside 0 to 1.
    """
    _require(0 <= strength <= 1, f"strength must lie between 0 and 1, not {strength:g}")


def check_limit_db(limit_db: float) -> None:
    """Refuse what is no limit.

    Raises
    ------
    SettingsError
        If it is negative.
    """
    _require(limit_db >= 0, f"limit_db must be 0 or more, not {limit_db:g}")


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise SettingsError(sentence)
