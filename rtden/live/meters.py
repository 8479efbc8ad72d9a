"""Levels, noise and faults of a live stream, in batches: the worker only hands over its arrays."""

from __future__ import annotations

import math
import threading
from collections import deque

import numpy as np

from rtden.live.status import SILENT_DB, SILENT_SECONDS
from rtden.noise import NoiseMeter
from rtden.types import Array

CLIPPED_LEVEL = 0.999
CLIPPED_SAMPLES = 3  # at full scale in a block that count as clipping; one may be a true peak
CLIPPED_BLOCKS = 3
CLIPPED_SECONDS = 10.0  # for which the warning stays after the last clipped block
_SILENT_ENERGY = 10.0 ** (SILENT_DB / 10.0)


class Meters:
    """Meters of input and output.

    The worker appends the sound of a turn to :attr:`turns`, arrays of shape (samples, channels)
    that change no more: as captured, as it went into the sound path, as it came out, and as it went
    to the sink, muted for instance. :meth:`update` reads them, in any thread.
    """

    def __init__(self, source_hz: int, sink_hz: int) -> None:
        self.turns: deque[tuple[Array, Array, Array, Array]] = deque()
        self.watch, self.noise = InputWatch(source_hz), NoiseMeter(source_hz, sink_hz)
        self._input, self._output, self._lock = LevelMeter(), LevelMeter(), threading.Lock()

    def update(self) -> None:
        """Take in all sound up to now; to be called a few times a second."""
        with self._lock:
            turns = [self.turns.popleft() for _ in range(len(self.turns))]
            if not turns:
                return
            captured, mixed, returned, played = map(np.concatenate, zip(*turns, strict=True))
            peak = peak_of(captured)
            self.watch.feed(captured, peak)
            self._input.feed(mixed, peak)
            self._output.feed(played, peak_of(played))
            self.noise.before(_mono(mixed))
            self.noise.after(_mono(returned))

    def read_db(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return level and peak of input and output since the last reading, in dBFS."""
        self.update()
        with self._lock:
            return self._input.read_db(), self._output.read_db()


def _mono(block: Array) -> Array:
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


def peak_of(block: Array) -> float:
    """Return the largest magnitude in a block."""
    return float(np.abs(block).max(initial=0.0))


class LevelMeter:
    """Level and peak of a signal between two readings."""

    def __init__(self) -> None:
        self._energy, self._samples, self._peak = 0.0, 0, 0.0

    def feed(self, block: Array, peak: float) -> None:
        """Take samples of any shape and their largest magnitude."""
        self._energy += float(np.vdot(block, block))
        self._samples += block.size
        self._peak = max(self._peak, peak)

    def read_db(self) -> tuple[float, float]:
        """Return level and peak since the last reading in dBFS; minus infinity for silence."""
        energy, samples, peak = self._energy, self._samples, self._peak
        self._energy, self._samples, self._peak = 0.0, 0, 0.0
        level_db = 10.0 * math.log10(energy / samples) if energy > 0.0 else -math.inf
        return level_db, 20.0 * math.log10(peak) if peak else -math.inf


class InputWatch:
    """Notices clipping, and for how long an input has been below `SILENT_DB`, or zero."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self.quiet_seconds = self.zero_seconds = 0.0
        self._clipped_blocks, self._since_clip_seconds = 0, 0.0

    def feed(self, block: Array, peak: float) -> None:
        """Take sound as it came from the device, shape (samples, channels), and its peak."""
        seconds = len(block) / self._rate_hz
        quiet = float(np.vdot(block, block)) < block.size * _SILENT_ENERGY
        self.quiet_seconds = self.quiet_seconds + seconds if quiet else 0.0
        self.zero_seconds = self.zero_seconds + seconds if peak == 0.0 else 0.0
        self._since_clip_seconds += seconds
        if peak >= CLIPPED_LEVEL and (np.abs(block) >= CLIPPED_LEVEL).sum() >= CLIPPED_SAMPLES:
            self._clipped_blocks, self._since_clip_seconds = self._clipped_blocks + 1, 0.0
        elif self._since_clip_seconds >= CLIPPED_SECONDS:
            self._clipped_blocks = 0

    @property
    def silent(self) -> bool:
        """Whether nothing has come for `SILENT_SECONDS`."""
        return self.quiet_seconds >= SILENT_SECONDS

    @property
    def clips(self) -> bool:
        """Whether the input has been at full scale lately, more than once."""
        return self._clipped_blocks >= CLIPPED_BLOCKS
