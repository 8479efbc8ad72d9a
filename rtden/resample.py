"""Resampling: steep filters in blocks for files, short ones for live sound, clock drift."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtden.errors import MissingPackageError
from rtden.types import Array

ZERO_CROSSINGS = 32
"""Of the windowed sinc on each side, at the lower of the two rates: 1.5 ms at 22 050 Hz, and an
attenuation of 80 dB from 0.9 kHz above the cutoff."""
KAISER_BETA = 8.0
CUTOFF = 0.92
"""Middle of the transition band, as a fraction of half the lower rate."""
PERIOD_ROWS, PART_ROWS = 160, 80
"""Output samples of a short period, and of one matrix, about: larger ones have more zeros, and
OpenBLAS splits them among threads at 96 kHz."""
BATCH_PERIODS = 4
"""Periods that one product of matrices computes: a tile of OpenBLAS."""
MOST_DRIFT_PPM = 500.0
DRIFT_HALF_SAMPLES = 16
DRIFT_DEGREE = 5

Count = TypeVar("Count", int, NDArray[np.int64])


def has_soxr() -> bool:
    """Return whether soxr is installed: for 32-bit ARM there are no wheels of it."""
    return importlib.util.find_spec("soxr") is not None


def load_soxr() -> Any:
    """Import and return soxr; MissingPackageError if it is not installed."""
    try:
        import soxr
    except ImportError:
        raise MissingPackageError(
            "sound at another rate than the model's needs the package soxr: run 'pip install soxr'."
        ) from None
    return soxr


class Resampler:
    """Resamples a file with soxr; equal rates pass untouched.

    The output is aligned with the input, the filter's delay included: it is late, not shifted. It
    comes in bursts of up to 40 ms, because soxr filters in blocks.
    """

    def __init__(self, source_hz: int, target_hz: int, *, channels: int = 1) -> None:
        self._stream: Any = None
        if source_hz != target_hz:
            kind = load_soxr().ResampleStream
            self._stream = kind(source_hz, target_hz, channels, dtype="float32", quality="HQ")

    def reset(self) -> None:
        """Forget the stream."""
        if self._stream is not None:
            self._stream.clear()

    def feed(self, block: Array, *, last: bool = False) -> Array:
        """Return the samples that are ready; shapes (samples, channels). `last` ends the stream."""
        if self._stream is None:
            return block
        out: Array = self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
        return out


class Interpolator:
    """Resamples a live stream by a windowed sinc of 64 zero crossings (Smith and Gossett, 1984).

    Output n lies at the input's position n * source_hz / target_hz: late by :attr:`delay_seconds`,
    which is short and constant, and not shifted. Equal rates pass untouched. The samples are the
    same to the bit, however the stream is cut into blocks. (soxr delays a live stream by 5 to
    15 ms.)
    """

    def __init__(self, source_hz: int, target_hz: int, *, channels: int = 1) -> None:
        self.source_hz, self.target_hz, self._channels = source_hz, target_hz, channels
        self._bank = bank = _filter_bank(source_hz, target_hz)
        # The input for a batch of periods, from the period of the next output on.
        length = (BATCH_PERIODS - 1) * bank.step + bank.span
        self._signals = np.zeros((channels, length), np.float32)
        views = np.lib.stride_tricks.sliding_window_view(self._signals, bank.span, 1)
        self._views = list(views[:, :: bank.step])
        self._windows = np.empty((BATCH_PERIODS, bank.span), np.float32)
        results = np.empty((BATCH_PERIODS, bank.rows), np.float32)
        self._results = results.reshape(-1)
        self._products = [
            (begin, end, self._windows[:, at : at + len(filters)], filters, results[:, begin:end])
            for begin, end, at, filters in bank.parts
        ]
        self.reset()

    def reset(self) -> None:
        """Forget the stream: it is preceded by silence again."""
        self._signals[:, : self._bank.reach] = 0.0
        self._held_samples = self._bank.reach
        self._taken_samples = self.given_samples = 0

    @property
    def delay_seconds(self) -> float:
        """Longest time that an output sample waits for the input behind it: half the filter."""
        return (self._bank.reach + 1) / self.source_hz if self._bank.parts else 0.0

    def missing_samples(self, outputs: int) -> int:
        """Return how many more input samples complete the next `outputs` output samples."""
        needed: int = self.needed_samples(self.given_samples + outputs)
        return max(0, needed - self._taken_samples)

    def needed_samples(self, outputs: Count) -> Count:
        """Return how many input samples of a stream complete its first `outputs`, one or more.

        Integers, or arrays of them.
        """
        bank = self._bank
        return (outputs - 1) * bank.down // bank.up + bank.reach + 1

    def ready_samples(self, inputs: Count) -> Count:
        """Return how many outputs some input samples complete; negative before the first."""
        bank = self._bank
        return -((bank.reach - inputs) * bank.up // bank.down)

    def feed(self, block: Array, *, last: bool = False) -> Array:
        """Return the samples that are ready; shapes (samples, channels).

        `last` ends the stream: the output then lasts as long as the input.
        """
        if not self._bank.parts:
            self.given_samples = self._taken_samples = self._taken_samples + len(block)
            return block
        if last:
            taken = self._taken_samples + len(block)
            rest = round(taken * self.target_hz / self.source_hz) - self.given_samples
            silence = np.zeros((self.missing_samples(rest), self._channels), np.float32)
            out = self.feed(np.concatenate([block, silence]))[:rest]
            self.reset()
            return out
        outs: list[Array] = []
        at = 0
        while at < len(block) or not outs:
            room = self._signals.shape[1] - self._held_samples
            outs.append(self._interpolate(block[at : at + room]))
            at += room
        return outs[0] if len(outs) == 1 else np.concatenate(outs)

    def _interpolate(self, block: Array) -> Array:
        """Return the samples that a block completes, for which there is room."""
        rows, step, end = self._bank.rows, self._bank.step, self._held_samples + len(block)
        self._signals[:, self._held_samples : end] = block.T
        self._taken_samples += len(block)
        first, start = divmod(self.given_samples, rows)
        stop = max(start, self.ready_samples(self._taken_samples) - first * rows)
        out = np.empty((stop - start, self._channels), np.float32)
        for channel, view in enumerate(self._views if stop > start else ()):
            # Windows that reach beyond the input belong to outputs that are computed again later.
            np.copyto(self._windows, view)
            for begin, behind, windows, filters, results in self._products:
                if (begin < stop and behind > start) or rows + begin < stop:
                    np.matmul(windows, filters, results)
            out[:, channel] = self._results[start:stop]
        self.given_samples += stop - start
        if passed := stop // rows * step:
            self._signals[:, : end - passed] = self._signals[:, passed:end]
        self._held_samples = end - passed
        return out


class _FilterBank:
    """The filters of an :class:`Interpolator`: output n of a period is a product with column n.

    A period of `rows` outputs spans a whole number of inputs, `step`, so that the filters repeat.
    They are computed `BATCH_PERIODS` periods at a time, by products of matrices whose shapes never
    change: that keeps the sums the same to the bit. Equal rates have none.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        common = math.gcd(source_hz, target_hz)
        self.up, self.down = target_hz // common, source_hz // common
        reach = math.ceil(ZERO_CROSSINGS * source_hz / min(source_hz, target_hz))
        self.reach = 0 if source_hz == target_hz else reach
        self.rows = self.up * max(1, round(PERIOD_ROWS / self.up))
        self.step = self.rows * self.down // self.up
        self.span = (self.rows - 1) * self.down // self.up + 2 * self.reach + 1
        # Outputs far apart share few inputs: each part of a period has its own matrix.
        edges = np.linspace(0, self.rows, max(1, round(self.rows / PART_ROWS)) + 1).astype(int)
        pairs = itertools.pairwise(edges.tolist() if self.reach else [])
        self.parts = [self._part(begin, end) for begin, end in pairs]

    def _part(self, begin: int, end: int) -> tuple[int, int, int, Array]:
        """Return outputs and first input of a part of a period, and its filters, one a column."""
        first = begin * self.down // self.up
        inputs = (end - 1) * self.down // self.up - first + 2 * self.reach + 1
        positions = np.arange(begin, end) * (self.down / self.up) - first + self.reach
        rate = min(1.0, self.up / self.down)  # the lower of the two rates; the input's is one
        distance = np.arange(inputs) - positions[:, None]
        filters = _windowed_sinc(distance, ZERO_CROSSINGS / rate, rate * CUTOFF)
        return begin, end, first, np.ascontiguousarray(filters.T)


_filter_bank = functools.lru_cache(maxsize=16)(_FilterBank)
"""All streams of a process share the filters of a pair of rates."""


class Drift:
    """Plays a stream a little faster or slower, for the clocks of two sound devices differ.

    `ppm` may be set at any time, from -500 to 500. At 100, each output sample advances the input by
    1.0001 samples. As long as it was always 0 the samples pass untouched, `delay_samples` late.
    """

    delay_samples = DRIFT_HALF_SAMPLES

    def __init__(self, *, channels: int = 1) -> None:
        self.ppm = 0.0
        self._branches = _farrow_branches()
        self._held = np.zeros((DRIFT_HALF_SAMPLES, channels), np.float32)
        self._fraction = 0.0

    def missing_samples(self, outputs: int) -> int:
        """Return how many more input samples complete the next `outputs`, or one too many."""
        return outputs + 2 * DRIFT_HALF_SAMPLES - len(self._held) + (self.ppm > 0.0)

    def flush(self) -> Array:
        """Return the samples that are still to come, shape (samples, channels)."""
        return self.feed(np.zeros((DRIFT_HALF_SAMPLES, self._held.shape[1]), np.float32))

    def feed(self, block: Array) -> Array:
        """Return the samples that are ready; shapes (samples, channels)."""
        step = min(MOST_DRIFT_PPM, max(-MOST_DRIFT_PPM, self.ppm)) * 1e-6
        held = np.concatenate([self._held, block])
        at, parts = 0, []
        # The next output lies `_fraction` behind sample `at` + DRIFT_HALF_SAMPLES.
        while (samples := len(held) - at - 2 * DRIFT_HALF_SAMPLES) > 0:
            room = (step > 0.0) - self._fraction
            if abs(step) * samples > abs(room):  # as far as this sample goes
                samples = max(1, math.ceil(room / step))
            parts.append(self._delayed(held[at : at + samples + 2 * DRIFT_HALF_SAMPLES], step))
            reached = self._fraction + step * samples
            whole = math.floor(reached)
            self._fraction = reached - whole
            at += samples + whole
        self._held = held[at:]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, held.shape[1]), np.float32)

    def _delayed(self, samples: Array, step: float) -> Array:
        """Return the values behind all samples but the outermost `DRIFT_HALF_SAMPLES`.

        The first is delayed by `_fraction`, each further one by `step` more; all by less than one.
        """
        if self._fraction == step == 0.0:
            return samples[DRIFT_HALF_SAMPLES:-DRIFT_HALF_SAMPLES]
        size = 2 * DRIFT_HALF_SAMPLES
        count, rows = len(samples) - size, math.ceil(len(samples) / size) - 1
        delays = np.arange(rows * size, dtype=np.float32).reshape(rows, size)
        delays *= np.float32(step)
        delays += np.float32(self._fraction - 0.5)
        out = np.empty((count, samples.shape[1]), np.float32)
        blocks = np.zeros((rows + 1, size), np.float32)
        for channel, signal in enumerate(samples.T):
            blocks.reshape(-1)[: len(signal)] = signal
            windows = np.concatenate([blocks[:-1], blocks[1:]], axis=1)
            *lower, values = np.matmul(windows, self._branches)
            for branch in reversed(lower):  # Horner's scheme
                values *= delays
                values += branch
            out[:, channel] = values.reshape(-1)[:count]
        return out


@functools.cache
def _farrow_branches() -> Array:
    """Return the filters of :class:`Drift`, one for each power of the delay beyond half a sample.

    Each takes two blocks of samples to one, as matrices of shape (2 blocks, block). The taps of a
    fractional delay are polynomials of it (Farrow, "A continuously variable digital delay element",
    1988), fitted to windowed sincs: 85 dB up to two thirds of the band.
    """
    size = 2 * DRIFT_HALF_SAMPLES
    delays = np.linspace(-0.5, 0.5, 65)
    distance = np.arange(-DRIFT_HALF_SAMPLES, DRIFT_HALF_SAMPLES + 1) - (delays[:, None] + 0.5)
    taps = _windowed_sinc(distance, DRIFT_HALF_SAMPLES + 1, 1.0)
    polynomials = np.polynomial.polynomial.polyfit(delays, taps, DRIFT_DEGREE)
    branches = np.zeros((DRIFT_DEGREE + 1, 2 * size, size), np.float32)
    for output in range(size):
        branches[:, output : output + size + 1, output] = polynomials
    return branches


def _windowed_sinc(distance: NDArray[np.float64], half: float, rate: float) -> Array:
    """Return windowed sincs, one per row of distances, each with the sum one.

    `rate` is that of the sinc (1 is the input's); the Kaiser window ends at the distance `half`.
    """
    window = np.i0(KAISER_BETA * np.sqrt(np.clip(1.0 - (distance / half) ** 2, 0.0, None))) * (
        np.abs(distance) <= half
    )
    taps = np.sinc(distance * rate) * window
    filters: Array = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    return filters
