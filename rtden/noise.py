"""Noise: how much of it was taken off a signal, and a noisy signal to measure with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rtden.types import Array


def babble(samples: int, rate_hz: int) -> Array:
    """Return noisy sound with the rhythm of speech, shape (samples,); the same at every call."""
    rng = np.random.default_rng(0)
    seconds = np.arange(samples) / rate_hz
    syllables, phrases = (np.maximum(0.0, np.sin(2 * np.pi * hz * seconds)) for hz in (3.1, 0.4))
    voice = sum(np.sin(2 * np.pi * 120 * k * seconds + k) / k for k in range(1, 30))
    noise = 0.02 * rng.standard_normal(samples)
    return (0.05 * syllables * phrases * voice + noise).astype(np.float32)


class NoiseMeter:
    """Level by which the background of a signal fell, for any length, in constant memory.

    The background's level is the 10th percentile of the levels of 40 ms blocks. Blocks whose input
    is digital silence are left out on both sides. Levels below `INAUDIBLE_DB` count as that:
    nobody hears how far below it a background is.

    Parameters
    ----------
    before_hz, after_hz : int
        Sample rates of input and output.
    """

    BLOCK_SECONDS = 0.04
    LOWEST_DB, HIGHEST_DB, STEP_DB = -120.0, 60.0, 0.25
    INAUDIBLE_DB = -70.0
    """In dBFS: 40 to 45 dB below speech at its usual level, as quiet as a quiet room."""

    def __init__(self, before_hz: int, after_hz: int) -> None:
        self._block_samples = [round(self.BLOCK_SECONDS * hz) for hz in (before_hz, after_hz)]
        self._rests = [np.empty(0, np.float32), np.empty(0, np.float32)]
        bins = round((self.HIGHEST_DB - self.LOWEST_DB) / self.STEP_DB)
        self._counts = np.zeros((2, bins), np.int64)
        self._active = np.empty(0, bool)  # input blocks whose output has not come yet

    def before(self, samples: NDArray[np.float32]) -> None:
        """Take input, shape (samples,)."""
        levels_db = self._levels_db(0, samples)
        if not len(levels_db):
            return
        active = levels_db > self.LOWEST_DB
        self._active = np.concatenate([self._active, active])
        self._count(0, levels_db[active])

    def after(self, samples: NDArray[np.float32]) -> None:
        """Take output, shape (samples,), aligned with the input."""
        levels_db = self._levels_db(1, samples)
        if not len(levels_db):
            return
        active, self._active = self._active[: len(levels_db)], self._active[len(levels_db) :]
        self._count(1, levels_db[: len(active)][active])

    @property
    def removed_db(self) -> float:
        """Level by which the background fell, in dB; NaN before the first block."""
        totals = self._counts.sum(axis=1)
        if not totals.all():
            return math.nan
        inaudible = round((self.INAUDIBLE_DB - self.LOWEST_DB) / self.STEP_DB)
        before, after = (
            max(inaudible, int(np.searchsorted(np.cumsum(counts), 0.1 * total)))
            for counts, total in zip(self._counts, totals, strict=True)
        )
        return self.STEP_DB * (before - after)

    def _levels_db(self, side: int, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        joined, block = np.concatenate([self._rests[side], samples]), self._block_samples[side]
        whole = len(joined) // block * block
        self._rests[side] = joined[whole:]
        squares = np.square(joined[:whole], dtype=np.float64).reshape(-1, block)
        floor = 10.0 ** (self.LOWEST_DB / 10.0)
        levels_db: NDArray[np.float64] = 10.0 * np.log10(np.maximum(squares.mean(axis=1), floor))
        return levels_db

    def _count(self, side: int, levels_db: NDArray[np.float64]) -> None:
        bins = ((levels_db - self.LOWEST_DB) / self.STEP_DB).astype(int)
        np.add.at(self._counts[side], np.minimum(bins, self._counts.shape[1] - 1), 1)
