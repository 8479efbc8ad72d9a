"""Integrated loudness (ITU-R BS.1770-4), in constant memory; the filters are pyloudnorm's."""

from __future__ import annotations

import math

import numpy as np

from rtden.errors import MissingPackageError
from rtden.extras import install_command
from rtden.types import Array

BLOCK_SECONDS, HOPS = 0.4, 4
ABSOLUTE_GATE = 10.0 ** ((-70.0 + 0.691) / 10.0)
RELATIVE_GATE = 10.0 ** (-10.0 / 10.0)
CHANNEL_GAINS = (1.0, 1.0, 1.0, 1.41, 1.41)
HIGHEST_PEAK = 10.0 ** (-1.0 / 20.0)


class LoudnessMeter:
    """The loudness of a signal of any length."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        try:
            from pyloudnorm.iirfilter import IIRfilter
            from scipy.signal import lfilter
        except ImportError:
            sentence = f"a loudness takes pyloudnorm: run '{install_command('loudness')}'."
            raise MissingPackageError(sentence) from None
        self._lfilter = lfilter
        shelf = IIRfilter(4.0, 1.0 / math.sqrt(2.0), 1500.0, rate_hz, "high_shelf")
        high_pass = IIRfilter(0.0, 0.5, 38.0, rate_hz, "high_pass")
        self._filters = [(f.b, f.a, np.zeros((2, channels))) for f in (shelf, high_pass)]
        self._hop = round(BLOCK_SECONDS / HOPS * rate_hz)
        self._gains = np.array([*CHANNEL_GAINS, *[1.0] * channels])[:channels]
        self._rest = np.zeros((0, channels))
        self._energies: list[Array] = []
        self.peak = 0.0

    def add(self, block: Array) -> None:
        """Take in samples, shape (samples, channels)."""
        if not len(block):
            return
        self.peak = max(self.peak, float(np.abs(block).max()))
        weighted = block.astype(np.float64)
        for number, (b, a, before) in enumerate(self._filters):
            weighted, after = self._lfilter(b, a, weighted, axis=0, zi=before)
            self._filters[number] = b, a, after
        weighted = np.concatenate([self._rest, weighted])
        whole = len(weighted) // self._hop * self._hop
        self._rest = weighted[whole:]
        squares = weighted[:whole].reshape(-1, self._hop, len(self._gains)) ** 2
        self._energies.append(squares.mean(axis=1) @ self._gains)

    @property
    def loudness(self) -> float:
        """Integrated loudness in LUFS; minus infinity for silence, or less than 0.4 s."""
        hops = np.concatenate([np.zeros(0), *self._energies])
        blocks = hops[:0]
        if len(hops) >= HOPS:
            blocks = np.convolve(hops, np.full(HOPS, 1.0 / HOPS), "valid")
        blocks = blocks[blocks > ABSOLUTE_GATE]
        if len(blocks):
            blocks = blocks[blocks > blocks.mean() * RELATIVE_GATE]
        return -0.691 + 10.0 * math.log10(blocks.mean()) if len(blocks) else -math.inf


def gain_for(meter: LoudnessMeter, lufs: float, notes: list[str]) -> float:
    """Return the gain (linear) to a loudness, less where peaks would pass -1 dBFS; then a note."""
    if math.isinf(meter.loudness):
        return 1.0
    gain = 10.0 ** ((lufs - meter.loudness) / 20.0)
    if gain * meter.peak > HIGHEST_PEAK:
        gain = HIGHEST_PEAK / meter.peak
        reached = meter.loudness + 20.0 * math.log10(gain)
        notes.append(f"{reached:.1f} LUFS instead of {lufs:g}, for its peaks would be clipped")
    return float(gain)
