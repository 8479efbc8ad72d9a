"""Sample rates: in blocks and steep for recordings, sample by sample and at once for a live stream; and two clocks made one."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtden.errors import MissingPackageError
from rtden.types import Array

ZERO_CROSSINGS = 32
"""Of the windowed sinc on each side, at the lower of the two rates: 1.5 ms at 22 050 Hz, 80 dB down 0.9 kHz above the middle."""
KAISER_BETA = 8.0
CUTOFF = 0.92
"""Middle of the transition band, as a share of half the lower rate."""
GROUP_SECONDS = 0.0008
"""Output samples are computed in groups of about this length, each by one product of a matrix and a vector."""
LARGEST_GROUP = 48
MOST_DRIFT_PPM = 500.0
DRIFT_HALF_SAMPLES = 16
DRIFT_CELLS = 64


def has_soxr() -> bool:
    """Return whether soxr is installed: for 32-bit ARM there are no wheels of it."""
    return importlib.util.find_spec("soxr") is not None


def load_soxr() -> Any:
    """Import and return soxr.

    Raises
    ------
    MissingPackageError
        If it is not installed.
    """
    try:
        import soxr
    except ImportError:
        raise MissingPackageError(
            "sound at another rate than the model's needs the package soxr: run 'pip install soxr'."
        ) from None
    return soxr


class Resampler:
    """A stream of a recording from one sample rate to another (soxr); what is equal passes untouched.

    The output is aligned with the input, the filter's delay included: it is late, not shifted. It comes in bursts of up to
    40 ms, for soxr filters in blocks.
    """

    def __init__(self, source_hz: int, target_hz: int, *, channels: int = 1) -> None:
        self._channels = channels
        self._stream = (
            None
            if source_hz == target_hz
            else load_soxr().ResampleStream(
                source_hz, target_hz, channels, dtype="float32", quality="HQ"
            )
        )

    def feed(self, block: Array, *, last: bool = False) -> Array:
        """Return what is ready, shapes (samples, channels); `last` ends the stream."""
        if self._stream is None:
            return block
        out: Array = self._stream.resample_chunk(block, last=last).reshape(-1, self._channels)
        return out


class Interpolator:
    """A live stream from one sample rate to another, by a windowed sinc (Smith and Gossett, 1984) of 64 zero crossings.

    Output n lies at the input's position n * source_hz / target_hz: late by :attr:`delay_seconds`, constant and short, and
    not shifted. What is equal passes untouched. However the stream is cut into blocks, the samples are the same, to the bit.

    soxr's own mode for live streams is late by 5 to 15 ms.
    """

    def __init__(self, source_hz: int, target_hz: int, *, channels: int = 1) -> None:
        self.source_hz, self.target_hz, self._channels = source_hz, target_hz, channels
        common = math.gcd(source_hz, target_hz)
        self._up, self._down = target_hz // common, source_hz // common
        self._reach = math.ceil(ZERO_CROSSINGS * source_hz / min(source_hz, target_hz))
        self._group = min(LARGEST_GROUP, max(1, round(GROUP_SECONDS * target_hz)))
        # Input samples that a group spans, whichever fraction of a sample it begins at.
        self._span = (self._group * self._down) // self._up + 2 * self._reach + 2
        # Every fraction of a sample at which a group can begin has its matrix, made now and not while sound waits.
        fractions = range(
            0
            if self._up == self._down
            else self._up // math.gcd(self._group * self._down, self._up)
        )
        self._matrices = {
            phase: self._matrix(phase)
            for phase in ((number * self._group * self._down) % self._up for number in fractions)
        }
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        # The stream is preceded by silence, over which the first filter reaches.
        self._held = np.zeros((self._reach, self._channels), np.float32)
        self._held_from = -self._reach
        self._taken_samples = self._given_samples = 0

    @property
    def delay_seconds(self) -> float:
        """By how much the output lags behind at most: half the filter and a group."""
        return (
            0.0
            if self._up == self._down
            else self._reach / self.source_hz + self._group / self.target_hz
        )

    def feed(self, block: Array, *, last: bool = False) -> Array:
        """Return what is ready, shapes (samples, channels); `last` ends the stream, whose output lasts as long as its input."""
        if self._up == self._down:
            return block
        self._taken_samples += len(block)
        rest = np.zeros((self._span if last else 0, self._channels), np.float32)
        held = np.concatenate([self._held, block, rest])
        end = self._held_from + len(held)
        groups = []
        while True:
            base, phase = divmod(self._given_samples * self._down, self._up)
            start = base - self._reach
            if start + self._span > end:
                break
            at = start - self._held_from
            # Channel by channel: a product with several at once sums in another order than that with one.
            matrix, span = self._matrices[phase], held[at : at + self._span]
            groups.append(
                np.stack([matrix @ span[:, channel] for channel in range(self._channels)], axis=1)
            )
            self._given_samples += self._group
        kept = self._given_samples * self._down // self._up - self._reach - self._held_from
        self._held, self._held_from = held[kept:], self._held_from + kept
        out = np.concatenate(groups) if groups else np.empty((0, self._channels), np.float32)
        if last:
            owed = round(self._taken_samples * self.target_hz / self.source_hz) - (
                self._given_samples - len(out)
            )
            self.reset()
            return out[:owed]
        return out

    def _matrix(self, phase: int) -> Array:
        """Return what makes a group of outputs of a span of inputs; the first output lies `phase` / up samples behind input `reach`."""
        positions = (
            self._reach + phase / self._up + np.arange(self._group) * (self._down / self._up)
        )
        distance = np.arange(self._span)[None, :] - positions[:, None]
        rate = min(1.0, self._up / self._down)  # the lower of the two, where the input's is one
        return _windowed_sinc(distance, ZERO_CROSSINGS / rate, rate * CUTOFF)


class Drift:
    """A stream played a little faster or slower: two sound devices have two clocks, and this makes one of them.

    `ppm` may be set at any time, from -500 to 500: at 100, a ten-thousandth more of the input goes into each output. While it
    has always been 0 the samples pass untouched, 16 samples late.
    """

    def __init__(self, *, channels: int = 1) -> None:
        self.ppm = 0.0
        # Between two of these filters, each a 64th of a sample later than the one before, the delay is interpolated.
        distance = (
            np.arange(-DRIFT_HALF_SAMPLES, DRIFT_HALF_SAMPLES + 1)
            - np.arange(DRIFT_CELLS + 1)[:, None] / DRIFT_CELLS
        )
        self._filters = _windowed_sinc(distance, DRIFT_HALF_SAMPLES + 1, 1.0)
        self._held = np.zeros((DRIFT_HALF_SAMPLES, channels), np.float32)
        self._fraction = 0.0

    @property
    def delay_samples(self) -> int:
        """By how much the output lags behind."""
        return DRIFT_HALF_SAMPLES

    def flush(self) -> Array:
        """Return what is still owed, shape (samples, channels)."""
        return self.feed(np.zeros((DRIFT_HALF_SAMPLES, self._held.shape[1]), np.float32))

    def feed(self, block: Array) -> Array:
        """Return what is ready, shapes (samples, channels)."""
        step = float(np.clip(self.ppm, -MOST_DRIFT_PPM, MOST_DRIFT_PPM)) * 1e-6
        held = np.concatenate([self._held, block])
        at, parts = 0, []
        # The next output lies `_fraction` behind sample `at` + DRIFT_HALF_SAMPLES.
        while (samples := len(held) - at - 2 * DRIFT_HALF_SAMPLES) > 0:
            cell = min(int(self._fraction * DRIFT_CELLS), DRIFT_CELLS - 1)
            room = (cell + (step > 0.0)) / DRIFT_CELLS - self._fraction
            if abs(step) * samples > abs(room):  # as far as this cell goes
                samples = max(1, math.ceil(room / step))
            fractions = self._fraction + step * np.arange(samples + 1)
            parts.append(
                self._delayed(
                    held[at : at + samples + 2 * DRIFT_HALF_SAMPLES], cell, fractions[:-1]
                )
            )
            whole = math.floor(fractions[-1])
            self._fraction = float(fractions[-1]) - whole
            at += samples + whole
        self._held = held[at:]
        return np.concatenate(parts) if parts else np.empty((0, held.shape[1]), np.float32)

    def _delayed(self, samples: Array, cell: int, fractions: NDArray[np.floating[Any]]) -> Array:
        """Return the values behind each sample but the outermost DRIFT_HALF_SAMPLES, all within a cell or next to it."""
        share = (fractions * DRIFT_CELLS - cell).astype(np.float32)
        if cell == 0 and not share.any():
            return samples[DRIFT_HALF_SAMPLES:-DRIFT_HALF_SAMPLES]
        out = np.empty((len(share), samples.shape[1]), np.float32)
        for channel, column in enumerate(samples.T):
            first, second = (
                np.correlate(column, taps, "valid") for taps in self._filters[cell : cell + 2]
            )
            out[:, channel] = first + share * (second - first)
        return out


def _windowed_sinc(distance: NDArray[np.float64], half: float, rate: float) -> Array:
    """Return filters, one a row, of a sinc at `rate` (one is the input's) under a Kaiser window that ends at `half`, their sums one."""
    window = np.i0(KAISER_BETA * np.sqrt(np.clip(1.0 - (distance / half) ** 2, 0.0, None))) * (
        np.abs(distance) <= half
    )
    taps = np.sinc(distance * rate) * window
    filters: Array = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    return filters
