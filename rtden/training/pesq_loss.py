"""The PESQ-style loss: a difference of loudness after ITU-T P.862 (PESQ), differentiable.

It has bands of 0.4 Bark, loudness after Zwicker, a dead zone for differences that are masked, and
a separate term for added sound. After P.862.2 and Martín-Doñas et al., "A Deep Learning Loss
Function Based on the Perceptual Evaluation of the Speech Quality" (2018). Bands and thresholds are
computed here, up to half of the sample rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

FRAME_SECONDS = 0.032  # length of the frames that P.862 compares
BANDS_PER_BARK = 2.5
SPEECH_DB_SPL = 79.0  # sound pressure level at which active speech is played
GAMMA = 0.23  # exponent of loudness (Zwicker)
ONE_SONE = 0.1866  # loudness density by which a tone of 1 kHz at 40 dB SPL has one sone
SYMMETRIC_WEIGHT, ASYMMETRIC_WEIGHT = 0.1, 0.0309  # points of raw PESQ score for a unit of it
MOST_DISTURBANCE = 45.0


def bark(frequency_hz: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the critical-band rate (Zwicker and Terhardt, 1980)."""
    low, high = np.arctan(0.00076 * frequency_hz), np.arctan((frequency_hz / 7500.0) ** 2)
    rate: NDArray[np.floating[Any]] = 13.0 * low + 3.5 * high
    return rate


def threshold_db_spl(frequency_hz: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the threshold in quiet (Terhardt, 1979)."""
    khz = np.maximum(frequency_hz, 40.0) / 1000.0
    threshold: NDArray[np.floating[Any]] = (
        3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    )
    return threshold


class PesqLoss:
    """Points of raw PESQ score that differences between two power spectra cost.

    The frames of the spectra are Hann windows of `n_fft` samples, half overlapped.
    """

    def __init__(self, rate_hz: int, n_fft: int) -> None:
        self.n_fft = n_fft
        bins_hz = np.arange(n_fft // 2 + 1, dtype=np.float64) * (rate_hz / n_fft)
        bins_bark = bark(bins_hz)
        edges = np.arange(int(bins_bark[-1] * BANDS_PER_BARK) + 1) / BANDS_PER_BARK
        edges[-1] = bins_bark[-1]
        # A bin reaches half-way to its neighbours; each band gets its part of the bin.
        between = (bins_bark[1:] + bins_bark[:-1]) / 2.0
        bin_edges = np.concatenate([bins_bark[:1], between, bins_bark[-1:]])
        low = np.maximum(bin_edges[:-1, None], edges[None, :-1])
        high = np.minimum(bin_edges[1:, None], edges[None, 1:])
        parts = np.maximum(high - low, 0.0) / np.diff(bin_edges)[:, None]
        self.to_bands = parts.astype(np.float32)
        self._width = ops.convert_to_tensor(np.diff(edges).astype(np.float32))
        centres_bark = (edges[1:] + edges[:-1]) / 2.0
        centres_hz = np.interp(centres_bark, bins_bark, bins_hz)
        threshold = 10.0 ** (threshold_db_spl(centres_hz) / 10.0)
        self._threshold = ops.convert_to_tensor(threshold.astype(np.float32))
        gamma = GAMMA * np.clip(6.0 / (centres_bark + 2.0), 1.0, 2.0) ** 0.15
        self._gamma = ops.convert_to_tensor(gamma.astype(np.float32))
        # Bins of a Hann window to mean power: both halves of the spectrum, the window's energy.
        self._scale = float(2.0 / (0.375 * n_fft**2) * 10.0 ** (SPEECH_DB_SPL / 10.0))

    def __call__(self, ours: Any, theirs: Any, valid_bins: Any) -> Any:
        """Return the disturbance of each mixture, shape (mixtures,).

        `ours` and `theirs` are powers, (mixtures, frames, bins), of the denoised and the clean
        signals, whose active speech has an RMS of one; `valid_bins` has shape (mixtures, bins).
        """
        first, second = (
            ops.matmul(power * valid_bins[:, None, :], self.to_bands) * self._scale
            for power in (ours, theirs)
        )
        valid_bands = ops.cast(ops.matmul(valid_bins, self.to_bands) > 0, "float32")
        counted = valid_bands[:, None, :] * self._width
        first, second = self._equalise(first, second)
        loudness, clean_loudness = self._loudness(first), self._loudness(second)
        masked = 0.25 * ops.minimum(loudness, clean_loudness)
        audible = ops.maximum(ops.abs(loudness - clean_loudness) - masked, 0.0)
        asymmetry = ops.power((first + 50.0) / (second + 50.0), 1.2)
        asymmetry = ops.where(asymmetry < 3.0, 0.0, ops.minimum(asymmetry, 12.0))
        total = ops.sum(counted, axis=-1)
        symmetric = ops.sqrt(ops.sum(counted * ops.square(audible), axis=-1) * total + 1e-6)
        added = ops.sum(counted * audible * asymmetry, axis=-1)
        quiet = ops.power((ops.sum(second, axis=-1) + 1e5) / 1e7, 0.04)
        symmetric, added = (
            ops.sqrt(ops.mean(ops.square(ops.minimum(part / quiet, MOST_DISTURBANCE)), 1) + 1e-6)
            for part in (symmetric, added)
        )
        return SYMMETRIC_WEIGHT * symmetric + ASYMMETRIC_WEIGHT * added

    def _equalise(self, first: Any, second: Any) -> tuple[Any, Any]:
        """Remove differences that hardly disturb: of the mean response and of slow gain."""
        speech = ops.cast(ops.sum(second, axis=-1, keepdims=True) > 1e5, "float32")
        counted = speech * ops.cast(second > 100 * self._threshold, "float32")
        mean_first, mean_second = (
            ops.sum(power * counted, axis=1, keepdims=True) + 1e3 for power in (first, second)
        )
        second = second * ops.clip(mean_first / mean_second, 0.01, 100.0)
        audible_first, audible_second = (
            ops.sum(ops.where(power > self._threshold, power, 0.0), axis=-1, keepdims=True) + 5e3
            for power in (first, second)
        )
        gain = audible_second / audible_first
        before = ops.pad(gain, ((0, 0), (1, 0), (0, 0)), constant_values=1.0)[:, :-1]
        smooth = 0.8 * gain + 0.2 * before
        return first * ops.clip(smooth, 3e-4, 5.0), second

    def _loudness(self, power: Any) -> Any:
        base = ONE_SONE * (self._threshold / 0.5) ** self._gamma
        loudness = base * (ops.power(0.5 + 0.5 * power / self._threshold, self._gamma) - 1.0)
        return ops.where(power > self._threshold, loudness, 0.0)
