"""How good a denoised signal is, against the clean one."""

from __future__ import annotations

import math
import warnings

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray

from rtden.errors import InputError, MissingPackageError

SPEECH_RATE_HZ = 16000
"""The rate at which PESQ-WB and STOI are defined."""


def si_sdr_db(clean: ArrayLike, estimate: ArrayLike) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019).

    Parameters
    ----------
    clean, estimate : array_like, shape (samples,)
        Of the same length and aligned; means are taken off.

    Raises
    ------
    InputError
        If the lengths differ or the clean signal is silent.
    """
    target, signal = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
    if target.shape != signal.shape or target.ndim != 1:
        raise InputError(f"SI-SDR compares two signals of one length, not shapes {target.shape} and {signal.shape}.")
    target, signal = target - target.mean(), signal - signal.mean()
    energy = float(target @ target)
    if energy == 0.0:
        raise InputError("SI-SDR has no meaning for a silent reference.")
    if not signal.any():
        return -math.inf
    projection = target * float(signal @ target) / energy
    distortion = float(np.sum((signal - projection) ** 2))
    return math.inf if distortion == 0.0 else 10.0 * math.log10(max(float(projection @ projection), 1e-300) / distortion)


def pesq_wb(clean: NDArray[np.float32], estimate: NDArray[np.float32], rate_hz: int) -> float:
    """Return PESQ-WB (ITU-T P.862.2, 1 to 4.64), by the package `pesq`; NaN where it finds no utterance.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    try:
        import pesq
    except ImportError:
        raise _missing("pesq") from None
    reference, degraded = (soxr.resample(s, rate_hz, SPEECH_RATE_HZ) for s in (clean, estimate))
    if len(reference) < SPEECH_RATE_HZ // 4 or not reference.any() or not degraded.any():
        return math.nan
    try:
        return float(pesq.pesq(SPEECH_RATE_HZ, reference, degraded, "wb"))
    except pesq.NoUtterancesError:
        return math.nan


def estoi(clean: NDArray[np.float32], estimate: NDArray[np.float32], rate_hz: int) -> float:
    """Return extended STOI (Jensen and Taal, 2016; 0 to 1), by the package `pystoi`.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    try:
        import pystoi
    except ImportError:
        raise _missing("pystoi") from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(clean, estimate, rate_hz, extended=True))
        except (RuntimeWarning, ValueError):  # too little speech, or none
            return math.nan


class NoiseMeter:
    """By how much the background of a signal of any length was lowered, in constant memory.

    The background's level is the 10th percentile of the levels of 40 ms blocks. Blocks in which nothing came in (digital
    silence) tell nothing and are left out, on both sides.

    Parameters
    ----------
    before_hz, after_hz : int
        Sample rates of the two signals.
    """

    BLOCK_SECONDS = 0.04
    LOWEST_DB, HIGHEST_DB, STEP_DB = -120.0, 60.0, 0.25

    def __init__(self, before_hz: int, after_hz: int) -> None:
        self._block_samples = [round(self.BLOCK_SECONDS * rate_hz) for rate_hz in (before_hz, after_hz)]
        self._rests = [np.empty(0, np.float32), np.empty(0, np.float32)]
        self._counts = np.zeros((2, round((self.HIGHEST_DB - self.LOWEST_DB) / self.STEP_DB)), np.int64)
        self._heard = np.empty(0, bool)  # of the blocks that came in and have not yet gone out

    def before(self, samples: NDArray[np.float32]) -> None:
        """Take in what goes in, shape (samples,)."""
        levels_db = self._levels_db(0, samples)
        if not len(levels_db):
            return
        heard = levels_db > self.LOWEST_DB
        self._heard = np.concatenate([self._heard, heard])
        self._count(0, levels_db[heard])

    def after(self, samples: NDArray[np.float32]) -> None:
        """Take in what comes out, shape (samples,), aligned with what went in."""
        levels_db = self._levels_db(1, samples)
        if not len(levels_db):
            return
        heard, self._heard = self._heard[: len(levels_db)], self._heard[len(levels_db) :]
        self._count(1, levels_db[: len(heard)][heard])

    @property
    def removed_db(self) -> float:
        """By how many dB the background's level fell; NaN before the first block."""
        totals = self._counts.sum(axis=1)
        if not totals.all():
            return math.nan
        before, after = (int(np.searchsorted(np.cumsum(counts), 0.1 * total)) for counts, total in zip(self._counts, totals, strict=True))
        return self.STEP_DB * (before - after)

    def _levels_db(self, side: int, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        joined, block = np.concatenate([self._rests[side], samples]), self._block_samples[side]
        whole = len(joined) // block * block
        self._rests[side] = joined[whole:]
        if not whole:
            return np.empty(0)
        mean_square = np.mean(np.square(joined[:whole], dtype=np.float64).reshape(-1, block), axis=1)
        levels_db: NDArray[np.float64] = 10.0 * np.log10(np.maximum(mean_square, 10.0 ** (self.LOWEST_DB / 10.0)))
        return levels_db

    def _count(self, side: int, levels_db: NDArray[np.float64]) -> None:
        bins = ((levels_db - self.LOWEST_DB) / self.STEP_DB).astype(int)
        np.add.at(self._counts[side], np.minimum(bins, self._counts.shape[1] - 1), 1)


def _missing(package: str) -> MissingPackageError:
    return MissingPackageError(f"the package {package} is not installed: run 'pip install rtden[eval]'.")
