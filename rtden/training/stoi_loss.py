"""The ESTOI loss: extended STOI (Jensen and Taal, 2016), differentiable.

The envelopes of third octaves, in segments of 384 ms without pauses, are normalised over time and
then over bands; the score is the correlation of the clean and the denoised ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

FRAME_SECONDS = 0.0256  # length of the frames that the measure compares
BANDS, LOWEST_HZ = 15, 150.0  # third octaves, and the centre of the first
SEGMENT_FRAMES = 30
SEGMENT_STRIDE = 3  # frames from one segment to the next; the original measure has a stride of one
PAUSE_DB = 40.0  # frames that lie further below the loudest are pauses
EPSILON = 1e-4  # lowest amplitude of an envelope relative to the speech; it keeps gradients finite


class StoiLoss:
    """Extended STOI of power spectra of Hann windows of `n_fft` samples, half overlapped."""

    def __init__(self, rate_hz: int, n_fft: int) -> None:
        self.n_fft = n_fft
        bins_hz = np.arange(n_fft // 2 + 1) * (rate_hz / n_fft)
        centres_hz = LOWEST_HZ * 2.0 ** (np.arange(BANDS) / 3.0)
        low_hz, high_hz = centres_hz * 2.0 ** (-1.0 / 6.0), centres_hz * 2.0 ** (1.0 / 6.0)
        within = (bins_hz[:, None] >= low_hz) & (bins_hz[:, None] < high_hz)
        self.to_bands = within.astype(np.float32)
        self._scale = float(1.0 / (0.375 * n_fft))

    def __call__(self, ours: Any, theirs: Any, valid_bins: Any) -> Any:
        """Return the score of each mixture, up to 1, and whether it has enough speech for one.

        Both have shape (mixtures,). Parameters are those of :class:`.pesq_loss.PesqLoss`.
        """
        frames = theirs.shape[1]
        energy = ops.sum(theirs, axis=-1)
        loudest = ops.max(energy, axis=1, keepdims=True)
        speech = ops.cast(energy > 10.0 ** (-PAUSE_DB / 10.0) * loudest, "float32")
        # Those with speech first, in their order.
        order = ops.argsort(ops.arange(frames, dtype="float32") + frames * (1.0 - speech), axis=1)
        counted = ops.cast(ops.matmul(1.0 - valid_bins, self.to_bands) < 0.5, "float32")
        counted = counted[:, None, None]
        starts = np.arange(0, frames - SEGMENT_FRAMES + 1, SEGMENT_STRIDE)
        within = starts[:, None] + np.arange(SEGMENT_FRAMES)
        segments = (self._segments(power, order, within) for power in (ours, theirs))
        first, second = (_normalised(segment, counted) for segment in segments)
        correlation = ops.sum(first * second, axis=(2, 3)) / SEGMENT_FRAMES
        held = ops.sum(speech, axis=1, keepdims=True)
        full = ops.cast(ops.greater_equal(held, starts + SEGMENT_FRAMES), "float32")
        count = ops.sum(full, axis=1)
        score = ops.sum(full * correlation, axis=1) / ops.maximum(count, 1.0)
        return score, ops.cast(count > 0, "float32")

    def _segments(self, power: Any, order: Any, within: Any) -> Any:
        envelopes = ops.sqrt(ops.matmul(power, self.to_bands) * self._scale + EPSILON**2)
        envelopes = ops.take_along_axis(envelopes, order[:, :, None], axis=1)
        return ops.take(envelopes, within, axis=1)


def _normalised(segments: Any, counted: Any) -> Any:
    segments = counted * _unit(segments - ops.mean(segments, axis=2, keepdims=True), 2)
    bands = ops.maximum(ops.sum(counted, axis=3, keepdims=True), 1.0)
    mean = ops.sum(segments, axis=3, keepdims=True) / bands
    return _unit(counted * (segments - mean), 3)


def _unit(values: Any, axis: int) -> Any:
    return values * ops.rsqrt(ops.sum(ops.square(values), axis=axis, keepdims=True) + EPSILON**2)
