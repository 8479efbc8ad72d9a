"""Two framings of one stream: better estimates at the same delay, for another network's work."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from rtden.denoiser import Denoiser, Latency
from rtden.mel import Array
from rtden.parallel import ParallelDenoiser
from rtden.settings import Settings


class InterleavedDenoiser:
    """Two denoisers of one stream, whose frames lie half a hop apart; what comes out is the mean of what they give.

    Gains follow the sound twice as finely, and what one network gets wrong the other need not: their errors partly cancel. Each has a
    memory of its own. The latency is that of one. Everything else is as :class:`rtden.Denoiser` has it.

    Parameters
    ----------
    model, settings, steps_at_once
        As :class:`rtden.Denoiser` takes them; `settings.interleaved` goes without saying.
    pool : Executor, optional
        Other processes that do the work, as :class:`rtden.parallel.ParallelDenoiser` has it done; there is nothing to be asked or set then.
    with_top_gains : bool
        Whether :attr:`top_gains` will be asked for: they are worked out with every call, a tenth of the work; else there are none.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        settings: Settings | None = None,
        *,
        steps_at_once: int = 1,
        pool: Executor | None = None,
        with_top_gains: bool = True,
    ) -> None:
        self.settings = dataclasses.replace(settings or Settings(), interleaved=True)
        # An iteration makes a frame consistent with its neighbours; the mean of two framings does so better.
        iterations = 0 if self.settings.iterations is None else self.settings.iterations
        alone = dataclasses.replace(self.settings, interleaved=False, iterations=iterations)
        self._here = [] if pool else [Denoiser(model, alone, steps_at_once=steps_at_once) for _ in range(2)]
        self._framings: Sequence[Denoiser | ParallelDenoiser]
        self._framings = [ParallelDenoiser(model, alone, pool=pool) for _ in range(2)] if pool else self._here
        self.spec, self.rate_hz = self._framings[0].spec, self._framings[0].rate_hz
        self._with_top_gains = with_top_gains
        self._offset = np.zeros(self.spec.frame_hop // 2, np.float32)
        self.reset()

    @property
    def runtime(self) -> str:
        """The package that runs the network."""
        return self._here[0].runtime

    @property
    def latency(self) -> Latency:
        """Of the algorithm and of the steps that are computed together, in samples and seconds: that of one framing.

        A player that is so far behind never runs dry. Whoever feeds whole hops gets a sample half a hop later than from one framing, for then
        the second one's steps wait for the next hop.
        """
        return self._here[0].latency

    @property
    def step_samples(self) -> int:
        """Samples that one step of a framing takes and gives."""
        return self._here[0].step_samples

    @property
    def strength(self) -> float:
        """Wet share of the output, as :attr:`rtden.Denoiser.strength`."""
        return self._here[0].strength

    @strength.setter
    def strength(self, strength: float) -> None:
        for framing in self._here:
            framing.strength = strength

    @property
    def limit_db(self) -> float:
        """At most this much is taken off any cell of the spectrum, as :attr:`rtden.Denoiser.limit_db`."""
        return self._here[0].limit_db

    @limit_db.setter
    def limit_db(self, limit_db: float) -> None:
        for framing in self._here:
            framing.limit_db = limit_db

    @property
    def band_gains(self) -> Array:
        """The gains of the first framing's newest frame, linear, shape (n_mels,); a copy."""
        return self._here[0].band_gains

    @property
    def top_gains(self) -> Array:
        """The gain for what lies above the model's band, at each of the samples that the last call gave, as :attr:`rtden.Denoiser.top_gains`."""
        return self._top_gains

    def reset(self) -> None:
        """Forget the stream."""
        for framing in self._framings:
            framing.reset()
        nothing = np.empty(0, np.float32)
        self._early = [nothing, nothing]  # what one framing has given before the other
        self._early_gains = [nothing, nothing]
        self._skipped_samples = 0  # of the second framing, whose stream begins with the offset
        self._begun = False
        self._top_gains = nothing

    def feed(self, samples: ArrayLike) -> Array:
        """Take in any number of samples and return those that are ready; as :meth:`rtden.Denoiser.feed`, which says what it raises."""
        first, second = self._framings
        given = [first.feed(samples)]
        behind = np.asarray(samples)
        given.append(second.feed(behind if self._begun else np.concatenate([self._offset, behind])))
        self._begun = True
        return self._mean(given)

    def flush(self) -> Array:
        """End the stream: return the samples that are still owed, shape (owed,), and reset."""
        rest = self._mean([framing.flush() for framing in self._framings])
        gains = self._top_gains
        self.reset()
        self._top_gains = gains
        return rest

    def _mean(self, given: list[Array]) -> Array:
        """Return the mean of what both framings have given by now."""
        skip = min(len(self._offset) - self._skipped_samples, len(given[1]))
        self._skipped_samples += skip
        given[1] = given[1][skip:]
        if self._with_top_gains:
            first, second = (framing.top_gains for framing in self._framings)
            self._top_gains, self._early_gains = _meet(self._early_gains, [first, second[skip:]])
        out, self._early = _meet(self._early, given)
        return out


def _meet(early: list[Array], given: list[Array]) -> tuple[Array, list[Array]]:
    """Return the mean of two signals as far as both reach, and what is left of them."""
    first, second = (np.concatenate(parts) for parts in zip(early, given, strict=True))
    ready = min(len(first), len(second))
    mean = first[:ready] + second[:ready]
    mean *= np.float32(0.5)
    return mean, [first[ready:], second[ready:]]
