"""What a user may choose about a denoiser; what the model fixes stands in the model's sidecar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rtden.errors import SettingsError

Phase = Literal["warm", "random"]
ADVANCES = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a :class:`rtden.Denoiser`.

    Raises
    ------
    SettingsError
        If a value is outside its range.
    """

    advance: int = 1
    """New frames per step: 1, 2, 4 or 8. More is cheaper and later by a hop each."""

    strength: float = 1.0
    """Wet share of the output, 0 (the input, delayed) to 1 (denoised); the two are aligned to the sample."""

    limit_db: float = math.inf
    """At most this much is taken off any cell of the spectrum, in dB; infinity sets no limit."""

    iterations: int | None = None
    """Griffin-Lim iterations per step (K); None takes the model's."""

    frames: int | None = None
    """Frames that a Griffin-Lim iteration spans (M), the new ones included; None takes the model's."""

    phase: Phase | None = None
    """Where Griffin-Lim starts a new frame: at the noisy phase ("warm") or at a random one; None takes the model's."""

    seed: int = 0
    """Seed of the random phase."""

    threads: int = 1
    """Interpreter threads. More than one makes a small network slower, not faster."""

    def __post_init__(self) -> None:
        _require(self.advance in ADVANCES, f"advance must be one of {ADVANCES}, not {self.advance}")
        _require(0 <= self.strength <= 1, f"strength must lie between 0 and 1, not {self.strength:g}")
        _require(self.limit_db >= 0, f"limit_db must be 0 or more, not {self.limit_db:g}")
        _require(self.iterations is None or 0 <= self.iterations <= 100, f"iterations must lie between 0 and 100, not {self.iterations}")
        _require(self.frames is None or 1 <= self.frames <= 64, f"frames must lie between 1 and 64, not {self.frames}")
        _require(self.phase is None or self.phase in get_args(Phase), f"phase must be 'warm' or 'random', not '{self.phase}'")
        _require(self.threads >= 1, f"threads must be 1 or more, not {self.threads}")

    @property
    def gain_floor(self) -> float:
        """The smallest gain that `limit_db` allows (linear)."""
        return 0.0 if math.isinf(self.limit_db) else 10.0 ** (-self.limit_db / 20.0)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise SettingsError(sentence)
