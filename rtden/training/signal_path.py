"""The signal path behind the network in Keras operations, through which gradients flow.

Masks of mel bands become gains of bins, gains are applied to the noisy spectra, and frames are
overlap-added. The result is that of :class:`rtden.Denoiser` without Griffin-Lim, as a test shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from rtden.contrast import TINY, surroundings
from rtden.mel import BandSpread
from rtden.model import ModelSpec

Spectra = tuple[Any, Any]  # real and imaginary parts, shape (mixtures, frames, bins) each


class SignalPath:
    """Spectra and masks to a signal."""

    def __init__(self, spec: ModelSpec) -> None:
        self._hop, self._parts = spec.hop, spec.n_fft // spec.hop
        spread = np.empty((spec.n_mels, spec.n_fft // 2 + 1), np.float32)
        bands = BandSpread(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
        bands(np.eye(spec.n_mels, dtype=np.float32), spread)
        self._spread, self._contrast = spread, spec.contrast
        self._to_means, self._to_bins = surroundings(spec.rate_hz, spec.n_fft)

    def __call__(self, noisy: Any, mask: Any, analysis: Any, synthesis: Any) -> Any:
        """Return the denoised signals, shape (mixtures, samples), as the noisy ones.

        The mask has shape (mixtures, n_mels, frames, 1), the windows (mixtures, n_fft).
        """
        gains = ops.matmul(ops.transpose(mask[..., 0], (0, 2, 1)), self._spread)
        # The last frames reach beyond the end: into the following sound in use, here into silence.
        rest = (self._parts - 1) * self._hop
        padded = ops.pad(noisy, ((0, 0), (0, rest)))
        real, imaginary = spectra(padded, analysis[:, None, :], self._hop)
        if self._contrast:
            gains = self._with_contrast(gains, real * real + imaginary * imaginary)
        signal = self._overlap_add((real * gains, imaginary * gains), analysis, synthesis)
        return signal[:, : noisy.shape[1]]

    def _with_contrast(self, gains: Any, frames_power: Any) -> Any:
        """Return gains as :class:`rtden.contrast.BinGains` does, without a limit."""
        power = gains * gains * frames_power
        mean = ops.matmul(ops.matmul(power, self._to_means) + float(TINY), self._to_bins)
        difference = (power - mean) / (power + mean)
        return gains + self._contrast * ops.square(gains * (1.0 - gains)) * difference

    def _overlap_add(self, frames: Spectra, analysis: Any, synthesis: Any) -> Any:
        """Return the weighted sum of frames, up to the end of the last one.

        The division by the sum of the windows' products makes it exact for spectra of a signal.
        """
        hop, parts = self._hop, self._parts
        signals = ops.irfft(frames, fft_length=parts * hop)
        mixtures, count = ops.shape(signals)[0], signals.shape[1]
        weighted = ops.reshape(signals * synthesis[:, None], (mixtures, count, parts, hop))
        total = sum(
            ops.pad(weighted[:, :, part], ((0, 0), (part, parts - 1 - part), (0, 0)))
            for part in range(parts)
        )
        product = ops.reshape(analysis * synthesis, (mixtures, parts, hop))
        # Silence precedes the first frame; its frames count. Behind the last frame there is none.
        inner = ops.tile(ops.sum(product, axis=1, keepdims=True), (1, count, 1))
        tail = [ops.sum(product[:, part:], axis=1, keepdims=True) for part in range(1, parts)]
        weight = ops.maximum(ops.concatenate([inner, *tail], axis=1), 1e-6)
        return ops.reshape(total / weight, (mixtures, (count + parts - 1) * hop))


def spectra(signal: Any, window: Any, hop: int) -> Spectra:
    """Return the spectra of the frames that lie inside a signal, shape (mixtures, samples)."""
    length = signal.shape[1] // hop * hop
    blocks = ops.reshape(signal[:, :length], (ops.shape(signal)[0], -1, hop))
    parts = window.shape[-1] // hop
    count = blocks.shape[1] - parts + 1
    frames = ops.concatenate([blocks[:, part : part + count] for part in range(parts)], axis=-1)
    # Real, imaginary: complex tensors have no gradient on some backends.
    real, imaginary = ops.rfft(frames * ops.convert_to_tensor(window))
    return real, imaginary
