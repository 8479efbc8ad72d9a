"""Removes the constant offset of a microphone before the transform."""

from __future__ import annotations

import math

import numpy as np

from rtden.types import Array

SLOWEST_WEIGHT = 1.0 / 32.0
"""Lowest weight of a new block in the running mean: with blocks of 256 samples, 0.37 s."""
PARTS = 8
"""Parts of a block. The spread of their means gives the standard error of the block's mean."""
SIGNIFICANCE = (6.0, 8.0)
"""Standard errors from zero at which a mean begins to count as an offset, and counts in full."""
SHORTEST_SAMPLES = 64
"""A block with less sound is too short to estimate an offset."""
ARRIVAL = 0.7
"""Fraction of the offset that the first sample of a stream with an offset reaches."""


class OffsetBlocker:
    """Subtracts the running mean of a stream where it differs from zero significantly.

    The network cannot mask an offset: it leaves a step at the start of a stream, and a residue in
    the lowest band. Sound without an offset passes unchanged: the mean of a few blocks of speech or
    noise lies within its standard error. There is no delay. The caller passes blocks of one length,
    so that the result does not depend on how the stream is cut.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._blocks = 0
        self._mean = self._variance = self._removed = 0.0

    def __call__(self, samples: Array) -> Array:
        """Return a block without its offset, shape (samples,); the same array where it has none."""
        first, last = 0, len(samples)
        if samples[0] == 0.0 or samples[-1] == 0.0:
            first = int(np.argmax(samples != 0.0))
            if samples[first] == 0.0:  # digital silence: a new stream may follow
                self.reset()
                return samples
            last -= int(np.argmax(samples[::-1] != 0.0))
        before, starts = self._removed, self._blocks == 0
        if last - first >= SHORTEST_SAMPLES:
            self._follow(samples[first:last])
        after = self._removed
        if before == after == 0.0:
            return samples
        course = np.linspace(after if starts else before, after, len(samples) + 1)[1:]
        # Before a stream and after its end there is digital silence, which stays as it is.
        course[last:] = 0.0
        blocked = samples - course.astype(np.float32)
        if starts:
            # Up to where the offset arrives there is only the ringing of a resampler.
            arrived = int(np.argmax(samples * np.sign(after) > ARRIVAL * abs(after)))
            blocked[:arrived] = 0.0
        return blocked

    def _follow(self, sound: Array) -> None:
        """Take the samples of a block into the mean and its variance from block to block."""
        # Low frequencies move the mean of a block more than white noise does.
        size = len(sound) // PARTS
        parts = sound[: size * PARTS].reshape(PARTS, size)
        means = [total / size for total in np.add.reduce(parts, 1, np.float64).tolist()]
        mean = sum(means) / PARTS
        inside = 2.0 * sum([(part - mean) ** 2 for part in means]) / PARTS**2
        deviation = mean - self._mean if self._blocks else 0.0
        self._blocks += 1
        weight = max(1.0 / self._blocks, SLOWEST_WEIGHT)
        self._mean += weight * (mean - self._mean)
        self._variance += weight * (max(deviation**2, inside) - self._variance)
        error = math.sqrt(self._variance / min(self._blocks, 2.0 / SLOWEST_WEIGHT - 1.0))
        low, high = SIGNIFICANCE
        certainty = (abs(self._mean) / max(error, 1e-12) - low) / (high - low)
        self._removed = self._mean * min(max(certainty, 0.0), 1.0)
