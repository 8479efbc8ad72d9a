"""What the loss and its parts compare, for tests that have no batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtden.model import ModelSpec
from rtden.spectral import hann, power, stft, window_pair
from rtden.types import Array


def powers(n_fft: int, signal: Array) -> Array:
    """Return the powers of Hann windows, half overlapped, shape (1, frames, bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, n_fft)[:: n_fft // 2]
    return power(stft(frames, hann(n_fft)))[None]


def target(
    spec: ModelSpec,
    noisy: np.ndarray,
    clean: np.ndarray,
    *,
    valid_bins: np.ndarray | None = None,
    overlap: int | None = None,
) -> dict[str, Any]:
    """Return the target of mixtures, shape (mixtures, samples), all with one overlap."""
    mixtures = len(noisy)
    if overlap is None:
        overlap = spec.longest_overlap
    analysis, synthesis = window_pair(spec.n_fft, spec.hop, overlap)
    if valid_bins is None:
        valid_bins = np.ones((mixtures, spec.n_fft // 2 + 1), np.float32)
    return {
        "noisy": noisy,
        "clean": clean,
        "valid_bins": valid_bins,
        "analysis": np.repeat(analysis[None], mixtures, axis=0),
        "synthesis": np.repeat(synthesis[None], mixtures, axis=0),
    }
