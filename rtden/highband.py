"""Sound above the model's band: the gain for it, and its path around the resamplers."""

from __future__ import annotations

import math

import numpy as np

from rtden.mel import band_centres_hz
from rtden.model import ModelSpec
from rtden.types import Array

BANDS_HZ = (5000.0, 8000.0)
"""The bands centred between these set the gain above the model's band. Fricatives lie there, and
the training speech still does; higher up the network removes more speech and passes more noise."""


class HighBandGain:
    """The gain for sound above the model's band, at each sample that a denoiser's call returns.

    It is the mean of the gains of the bands of `BANDS_HZ`, limit and strength included. It changes
    from frame to frame linearly, over their overlap: so delayed sound that it scales fades together
    with the model's band. If every gain is one, or the strength zero, it is exactly one. It is
    computed only when :attr:`gains` is read. `overlap` is that of the inverted frames in samples,
    `frames` their number per step.
    """

    def __init__(self, spec: ModelSpec, *, overlap: int, frames: int) -> None:
        hop = spec.hop
        centres_hz = band_centres_hz(spec)
        bands = (centres_hz >= BANDS_HZ[0]) & (centres_hz <= BANDS_HZ[1])
        bands[-1] |= not bands.any()
        self._weights: Array = bands.astype(np.float32) / np.float32(bands.sum())
        self._overlapping, self._frames = max(1, overlap // hop), frames  # frames at any sample
        ramp = np.arange(1, hop + 1, dtype=np.float32) / np.float32(min(overlap, hop))
        self._fade = np.minimum(ramp, np.float32(1.0))
        self._step_samples = frames * hop
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        # The gains of the frames of a call, preceded by those of the older frames that overlap with
        # them. Before a stream the gain is one; it fades before the first sample is returned.
        self._bands = np.ones((self._overlapping, len(self._weights)), np.float32)
        self._missing = self._overlapping  # frames that the stream did not have before the call
        self._strengths: list[tuple[float, float]] = []
        self.gains = np.empty(0, np.float32)

    def begin(self, steps: int) -> None:
        """Begin a call with this number of steps."""
        self._gains: Array | None = None
        self._start = self._stop = 0
        self._missing = max(0, self._missing - self._frames * len(self._strengths))
        self._strengths.clear()
        older = self._bands[-self._overlapping :]
        if len(self._bands) != self._overlapping + steps * self._frames:
            shape = (self._overlapping + steps * self._frames, len(self._weights))
            self._bands = np.empty(shape, np.float32)
        self._bands[: self._overlapping] = older

    def push(self, band_gains: Array, strengths: tuple[float, float]) -> None:
        """Take in the gains of the next step's frames, shape (frames, n_mels).

        `strengths` are those at the beginning and at the end of the step.
        """
        at = self._overlapping + len(self._strengths) * self._frames
        self._bands[at : at + self._frames] = band_gains
        self._strengths.append(strengths)

    def keep(self, start: int, stop: int) -> None:
        """Say which samples of the call's steps are returned."""
        self._start, self._stop = start, stop

    @property
    def gains(self) -> Array:
        """One gain for each sample that the last call returned, linear, shape (samples,)."""
        if self._gains is None:
            self._gains = self._compute() if self._stop else np.empty(0, np.float32)
        return self._gains[self._start : self._stop]

    @gains.setter
    def gains(self, gains: Array) -> None:
        self._gains = gains
        self._start, self._stop = 0, len(gains)

    def _compute(self) -> Array:
        # A product of a matrix and a vector would sum in another order where there are more rows.
        levels = np.add.reduce(self._bands * self._weights, axis=-1)
        levels[: self._missing] = 1.0
        count = len(levels) - self._overlapping + 1
        mean = levels[:count]
        for later in range(1, self._overlapping):
            mean = mean + levels[later : later + count]
        mean = mean / np.float32(self._overlapping)
        gains: Array = (mean[1:] - mean[:-1])[:, None] * self._fade
        gains += mean[:-1, None]
        if self._strengths.count((1.0, 1.0)) < len(self._strengths):
            glide = np.arange(1, self._step_samples + 1, dtype=np.float32)
            glide /= np.float32(self._step_samples)
            gains = gains.reshape(-1, self._step_samples)
            old, new = np.array(self._strengths, np.float32).T[..., None]
            wet = old + (new - old) * glide
            gains *= wet
            gains += np.float32(1.0) - wet
        return gains.reshape(-1)


class BypassPath:
    """Carries sound above the model's band around the denoisers and their resamplers.

    Of every block it holds the input and the same at the model's rate. What the denoisers return is
    reduced by the part of the latter that takes the bypass, and the input is added to the result.
    """

    def __init__(self, rate_hz: int, model_hz: int, channels: int) -> None:
        common, self._channels = math.gcd(rate_hz, model_hz), channels
        self._period, self._step = rate_hz // common, model_hz // common
        # For each sample of the input, the newest one at the model's rate.
        self._course = np.empty(0, np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._input = self._low = self._gains = np.empty((0, self._channels), np.float32)
        self._returned_samples = self._gains_from = 0

    def hold(self, block: Array, low: Array) -> None:
        """Take in a block of input and what the resampler returned for it."""
        self._input = np.concatenate([self._input, block])
        self._low = np.concatenate([self._low, low])

    def reduce(self, denoised: Array, gains: Array) -> Array:
        """Return what goes to the second resampler; all arrays (samples, channels)."""
        self._gains = np.concatenate([self._gains, gains])
        low, self._low = self._low[: len(denoised)], self._low[len(denoised) :]
        return denoised - gains * low

    def add(self, resampled: Array) -> Array:
        """Return the output: what came through the second resampler and the bypass."""
        samples, start = len(resampled), self._returned_samples
        if samples and len(self._gains):  # the shortest streams have none at the model's rate
            periods, first = divmod(start, self._period)
            if first + samples > len(self._course):
                length = self._period + first + samples
                self._course = np.arange(length) * self._step // self._period
            at = self._course[first : first + samples] + (periods * self._step - self._gains_from)
            newest = int(at[-1])
            if newest >= len(self._gains):
                np.minimum(at, len(self._gains) - 1, out=at)
            bypassed = self._gains.take(at, axis=0)
            bypassed *= self._input[:samples]
            resampled = bypassed + resampled
            self._input = self._input[samples:]
            self._gains, self._gains_from = self._gains[newest:], self._gains_from + newest
        self._returned_samples += samples
        return resampled
