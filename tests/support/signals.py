"""Comparing signals that one clock did not sample."""

from __future__ import annotations

import numpy as np

from rtden.measure.metrics import si_sdr_db


def delay_samples(signal: np.ndarray, reference: np.ndarray) -> int:
    """Return by how many samples a signal lags behind a reference (the peak of their
    cross-correlation).
    """
    size = 1 << int(np.ceil(np.log2(len(signal) + len(reference))))
    correlation = np.fft.irfft(np.fft.rfft(signal, size) * np.conj(np.fft.rfft(reference, size)))
    lag = int(np.argmax(correlation))
    return lag if lag < size // 2 else lag - size


def aligned_si_sdr_db(
    reference: np.ndarray, signal: np.ndarray, *, margin_samples: int = 1000
) -> float:
    """Return SI-SDR at the best alignment, to a sixteenth of a sample; both ends are left out.

    Signals that hardly overlap have minus infinity.
    """
    lag = delay_samples(signal, reference)
    start = max(0, lag)
    window = signal[start : start + len(reference)]
    reference = reference[max(0, -lag) :][: len(window)]
    window = window[: len(reference)]
    if len(window) <= 2 * margin_samples:
        return -np.inf
    size = 1 << len(window).bit_length()  # other sizes may take ten times as long
    spectrum, step = np.fft.rfft(window, size), 2j * np.pi * np.fft.rfftfreq(size)
    inner = slice(margin_samples, len(window) - margin_samples)
    return max(
        si_sdr_db(
            reference[inner],
            np.fft.irfft(spectrum * np.exp(step * shift), size)[inner],
        )
        for shift in np.arange(-1.0, 1.01, 1 / 16)
    )
