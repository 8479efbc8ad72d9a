"""How long a denoiser's steps and delays are, from a model and settings."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

from rtden.errors import InputError, SettingsError
from rtden.model import Model, ModelSpec, load_spec
from rtden.settings import (
    HOPS_PER_STEP,
    SHORTEST_OVERLAP_SAMPLES,
    Settings,
    check_settings,
    number,
    require,
    whole,
)

MOST_STEPS = 1024
"""Of 256 samples, 12 s: more gain nothing, and take memory."""


class Latency(NamedTuple):
    """A delay, in two units."""

    samples: int
    seconds: float

    @property
    def ms(self) -> float:
        """The delay in milliseconds."""
        return 1000.0 * self.seconds


def algorithmic_latency(spec: ModelSpec, settings: Settings) -> Latency:
    """Return the latency of a model under some settings.

    It is a step, and the samples that still have to overlap.
    """
    overlap = settings.overlap_samples
    samples = settings.hops_per_step * spec.hop
    samples += spec.longest_overlap if overlap is None else overlap
    return Latency(samples, samples / spec.rate_hz)


def settings_for_latency(
    ms: float,
    *,
    model: str | Path | Model | None = None,
    settings: Settings | None = None,
    hops_per_step: int = 1,
) -> tuple[Settings, Latency]:
    """Return the settings that use an algorithmic latency best, and the latency that they give.

    The latency must not exceed `ms`, which may be infinite. Quality comes first: the longest
    overlap that fits. If the longest of all fits, the rest is spent on the largest hops_per_step,
    which costs less. If nothing fits, the result has the lowest possible latency, above `ms`.

    `hops_per_step` is the least number of hops if the latency then leaves a hop of overlap;
    otherwise that is one. All else is that of `settings`. Raises SettingsError if `ms` is not a
    positive number or there is no such `hops_per_step`, ModelError if the model cannot be used.

    Examples
    --------
    >>> settings, latency = settings_for_latency(30)
    >>> settings.hops_per_step, settings.overlap_samples, latency.samples
    (1, 405, 661)
    """
    require(number(ms) > 0, "a latency", "be more than 0 ms", ms)
    settings = dataclasses.replace(check_settings(settings), hops_per_step=hops_per_step)
    spec = load_spec(model)
    longest, wish_samples = spec.longest_overlap, ms * spec.rate_hz / 1000.0
    fewest = hops_per_step if wish_samples >= (hops_per_step + 1) * spec.hop else 1
    spare = wish_samples - fewest * spec.hop
    overlap = None if spare >= longest else max(SHORTEST_OVERLAP_SAMPLES, math.floor(spare))
    chosen = dataclasses.replace(
        settings, hops_per_step=fewest, overlap_samples=None if overlap == longest else overlap
    )
    for hops in HOPS_PER_STEP:
        larger = dataclasses.replace(chosen, hops_per_step=hops)
        fits = algorithmic_latency(spec, larger).samples <= wish_samples
        if fits and fewest < hops <= spec.frames:
            chosen = larger
    return chosen, algorithmic_latency(spec, chosen)


def block_steps(most: int) -> list[int]:
    """Return the numbers of steps that are computed together, largest first: few of them.

    The network has an interpreter for each. SettingsError if `most` is none of these numbers.
    """
    valid = most is not None and whole(most, 1, MOST_STEPS)
    require(valid, "batch_steps", f"lie between 1 and {MOST_STEPS}", most)
    return [most] if most == 1 else [most, *block_steps(max(1, most // 4))]


class Geometry:
    """Sizes of a step and of the largest block: `most_steps` steps are computed together."""

    def __init__(
        self, spec: ModelSpec, settings: Settings, most_steps: int, stateful: bool
    ) -> None:
        longest = spec.longest_overlap
        self.most_steps, self.hops_per_step = most_steps, settings.hops_per_step
        self._block_steps = block_steps(most_steps)
        self.step_samples = self.hops_per_step * spec.hop
        self.most_samples = most_steps * self.step_samples
        self.most_frames = most_steps * self.hops_per_step
        # Samples by which synthesis windows overlap: the output lies as far behind the input.
        self.overlap = longest if settings.overlap_samples is None else settings.overlap_samples
        self.whole_overlap = self.overlap == longest
        if self.overlap > longest:
            raise SettingsError(
                f"the frames of model '{spec.name}' overlap by {longest} samples at most: "
                f"overlap_samples must not be {self.overlap}"
            )
        # Columns that the network takes at a step: the new ones, or a window that ends with them.
        self.step_columns = self.hops_per_step if stateful else spec.frames
        if self.hops_per_step > self.step_columns:
            raise InputError(
                f"model '{spec.name}' returns masks for {self.step_columns} frames at once, fewer "
                f"than hops_per_step {self.hops_per_step}; choose a smaller hops_per_step."
            )

    def next_steps(self, ready: int) -> int:
        """Return how many of the steps that are ready are computed together next."""
        for steps in self._block_steps:
            if steps <= ready:
                return steps
        return 1

    def columns_of(self, steps: int) -> int:
        """Return how many columns the network reads in some consecutive steps."""
        return self.step_columns + (steps - 1) * self.hops_per_step
