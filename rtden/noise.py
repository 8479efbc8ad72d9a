"""Noise: how much of it was taken off a signal, and a noisy signal to measure with."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

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
    """

    BLOCK_SECONDS = 0.04
    LOWEST_DB, HIGHEST_DB, STEP_DB = -120.0, 60.0, 0.25
    INAUDIBLE_DB = -70.0
    """In dBFS: 40 to 45 dB below speech at its usual level, as quiet as a quiet room."""

    def __init__(self, before_hz: int, after_hz: int) -> None:
        self._block_samples = [round(self.BLOCK_SECONDS * hz) for hz in (before_hz, after_hz)]
        self._held, self._energies = [0, 0], [0.0, 0.0]  # of less than a block
        bins = round((self.HIGHEST_DB - self.LOWEST_DB) / self.STEP_DB)
        self._counts = np.zeros((2, bins), np.int64)
        self._active: deque[bool] = deque()  # of input blocks whose output has not come yet

    def before(self, samples: Array) -> None:
        """Take input, shape (samples,)."""
        for level_db in self._levels_db(0, samples):
            active = level_db > self.LOWEST_DB
            self._active.append(active)
            if active:
                self._count(0, level_db)

    def after(self, samples: Array) -> None:
        """Take output, shape (samples,), aligned with the input."""
        for level_db in self._levels_db(1, samples):
            if self._active and self._active.popleft():
                self._count(1, level_db)

    @property
    def removed_db(self) -> float:
        """Level by which the background fell, in dB; NaN before the first block."""
        cumulated = self._counts.cumsum(axis=1)
        totals = cumulated[:, -1:]
        if not totals.all():
            return math.nan
        inaudible = round((self.INAUDIBLE_DB - self.LOWEST_DB) / self.STEP_DB)
        before, after = np.maximum((cumulated < 0.1 * totals).sum(axis=1), inaudible)
        return float(self.STEP_DB * (before - after))

    def _levels_db(self, side: int, samples: Array) -> list[float]:
        """Return the levels of the blocks that are complete with these samples."""
        block, levels_db, at = self._block_samples[side], [], 0
        while (end := at + block - self._held[side]) <= len(samples):
            part = samples[at:end]
            energy = (self._energies[side] + float(np.dot(part, part))) / block
            levels_db.append(10.0 * math.log10(energy) if energy > 0.0 else -math.inf)
            self._held[side], self._energies[side], at = 0, 0.0, end
        rest = samples[at:]
        self._held[side] += len(rest)
        self._energies[side] += float(np.dot(rest, rest))
        return levels_db

    def _count(self, side: int, level_db: float) -> None:
        level_db = min(max(level_db, self.LOWEST_DB), self.HIGHEST_DB)
        number = int((level_db - self.LOWEST_DB) / self.STEP_DB)
        self._counts[side, min(number, self._counts.shape[1] - 1)] += 1
