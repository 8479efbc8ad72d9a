"""Gains of the bins of a spectrum, from those of the mel bands.

Mel bands are too wide to separate a voice's harmonics from the noise between them, and masks
between zero and one leave much of it. So there the contrast of the masked spectrum is raised, as in
Baer, Moore and Gatehouse (1993, "Spectral contrast enhancement of speech in noise for listeners
with sensorineural hearing impairment").
"""

from __future__ import annotations

import functools

import numpy as np

from rtden.mel import mel_filterbank, shared_band_spread
from rtden.model import ModelSpec
from rtden.types import Array

SURROUNDINGS = 16
"""Mel bands; a bin is compared to the mean power there."""
TINY, ONE = np.array(1e-30, np.float32), np.array(1.0, np.float32)


@functools.lru_cache(maxsize=16)
def surroundings(rate_hz: int, n_fft: int) -> tuple[Array, Array]:
    """Return two matrices: from the power of bins to mean powers, and to means around each bin.

    Shapes (n_fft // 2 + 1, SURROUNDINGS), (SURROUNDINGS, n_fft // 2 + 1).
    """
    around = (rate_hz, n_fft, SURROUNDINGS, 0.0, rate_hz / 2.0)
    means = mel_filterbank(*around).T * np.float32(rate_hz / n_fft)
    spread = np.empty(means.shape[::-1], np.float32)
    shared_band_spread(*around)(np.eye(SURROUNDINGS, dtype=np.float32), spread)
    return means, spread


class BinGains:
    """The gains of the bins of at most `frames` frames: linear between the bands' centres.

    A gain g then becomes g + c ((g - f) (1 - g))^2 (P - M) / (P + M): P is the power of its bin
    under g, M the mean power around it, f the smallest gain, c the contrast of the model. Gains
    close to f and to one stay, so that noise which is left on purpose keeps its sound; none leaves
    the range from f to one while c is at most 27 / 4.
    """

    def __init__(self, spec: ModelSpec, frames: int) -> None:
        self._spread = shared_band_spread(
            spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz
        )
        self._to_means, self._to_bins = surroundings(spec.rate_hz, spec.n_fft)
        self._contrast = np.array(spec.contrast, np.float32)
        shape = (frames, 1, spec.n_fft // 2 + 1)
        self._gains, *self._work = (np.empty(shape, np.float32) for _ in range(5))
        self._means = np.empty((frames, 1, SURROUNDINGS), np.float32)
        self._complex = np.zeros(shape[::2], np.complex64)

    def __call__(self, gains: Array, frames_power: Array, floor: float) -> Array:
        """Return gains of bins, shape (frames, n_fft // 2 + 1), real numbers of a complex type.

        `gains`, shape (frames, n_mels), are those of bands, none below `floor`; `frames_power`, of
        the shape of the result, are the squared magnitudes of the noisy frames. The next call
        overwrites the result.
        """
        count = len(gains)
        of_bins, out = self._gains[:count], self._complex[:count]
        self._spread(gains, of_bins[:, 0])
        if self._contrast:
            self._raise_contrast(of_bins, frames_power[:, None], floor)
        out.real[...] = of_bins[:, 0]
        return out

    def _raise_contrast(self, gains: Array, frames_power: Array, floor: float) -> None:
        count = len(gains)
        power, mean, weight, difference = (each[:count] for each in self._work)
        np.multiply(gains, gains, power)
        np.subtract(gains, power, weight)
        if floor:
            np.subtract(ONE, gains, mean)
            np.multiply(mean, np.float32(floor), mean)
            np.subtract(weight, mean, weight)
        np.multiply(weight, weight, weight)
        np.multiply(weight, self._contrast, weight)
        np.multiply(power, frames_power, power)
        # A product for each frame: one of all would round according to their number.
        means = np.matmul(power, self._to_means, self._means[:count])
        np.add(means, TINY, means)
        np.matmul(means, self._to_bins, mean)
        np.subtract(power, mean, difference)
        np.add(power, mean, mean)
        np.divide(difference, mean, difference)
        np.multiply(difference, weight, difference)
        np.add(gains, difference, gains)
