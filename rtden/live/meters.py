"""Levels of a live stream, and an input that is silent or clips: sound in, findings out."""

from __future__ import annotations

import math

import numpy as np

from rtden.live.warnings import SILENT_DB, SILENT_SECONDS
from rtden.types import Array

CLIPPED_LEVEL = 0.999
CLIPPED_SAMPLES = 3
"""Samples at full scale in a block that count as clipping; one alone may be a true peak."""
CLIPPED_BLOCKS = 3
CLIPPED_SECONDS = 10.0
"""How long after the last clipped block the warning stays."""
_SILENT_ENERGY = 10.0 ** (SILENT_DB / 10.0)


def peak_of(block: Array) -> float:
    """Return the largest magnitude in a contiguous block; NaN if it holds one."""
    if not block.size:
        return 0.0
    flat = block.reshape(-1)
    return max(float(np.maximum.reduce(flat)), -float(np.minimum.reduce(flat)))


class LevelMeter:
    """Level and peak of a signal between two readings.

    One thread feeds it, another reads it: a reading during :meth:`feed` may miss that block.
    """

    def __init__(self) -> None:
        self._energy, self._samples, self._peak = 0.0, 0, 0.0
        self._read_energy, self._read_samples = 0.0, 0

    def feed(self, block: Array, peak: float) -> None:
        """Take samples of any shape, contiguous, and their largest magnitude."""
        if peak:
            self._energy += float(np.vdot(block, block))
            self._peak = max(self._peak, peak)
        self._samples += block.size

    def read_db(self) -> tuple[float, float]:
        """Return level and peak since the last reading in dBFS; minus infinity for silence."""
        energy, samples, peak = self._energy, self._samples, self._peak
        self._peak = 0.0
        since, count = energy - self._read_energy, samples - self._read_samples
        self._read_energy, self._read_samples = energy, samples
        level_db = 10.0 * math.log10(since / count) if since > 0.0 and count else -math.inf
        return level_db, 20.0 * math.log10(peak) if peak else -math.inf


class InputWatch:
    """Notices an input that is silent, or that clips.

    `quiet_seconds` and `zero_seconds`: how long it has been below `SILENT_DB`, and exactly zero.
    """

    def __init__(self) -> None:
        self.quiet_seconds = self.zero_seconds = 0.0
        self._clipped_blocks, self._since_clip_seconds = 0, 0.0

    def feed(self, block: Array, rate_hz: int, peak: float) -> None:
        """Take sound as it came from the device, shape (samples, channels), and its peak."""
        seconds = len(block) / rate_hz
        most = block.size * _SILENT_ENERGY
        quiet = peak * peak < most and float(np.vdot(block, block)) < most
        self.quiet_seconds = self.quiet_seconds + seconds if quiet else 0.0
        self.zero_seconds = self.zero_seconds + seconds if peak == 0.0 else 0.0
        self._since_clip_seconds += seconds
        if peak >= CLIPPED_LEVEL and (np.abs(block) >= CLIPPED_LEVEL).sum() >= CLIPPED_SAMPLES:
            self._clipped_blocks, self._since_clip_seconds = self._clipped_blocks + 1, 0.0
        elif self._since_clip_seconds >= CLIPPED_SECONDS:
            self._clipped_blocks = 0

    @property
    def silent(self) -> bool:
        """Whether nothing has come for `SILENT_SECONDS`."""
        return self.quiet_seconds >= SILENT_SECONDS

    @property
    def clips(self) -> bool:
        """Whether the input has been at full scale lately, more than once."""
        return self._clipped_blocks >= CLIPPED_BLOCKS
