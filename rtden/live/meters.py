"""What a live stream reports: levels, load, delay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rtden.live.status import LatencyParts, LiveStatus
from rtden.live.warnings import live_warnings
from rtden.types import Array

if TYPE_CHECKING:
    from rtden.live.worker import Worker


def peak_of(block: Array) -> float:
    """Return the largest magnitude in a block; NaN if it holds one."""
    return max(float(block.max(initial=0.0)), -float(block.min(initial=0.0)))


class LevelMeter:
    """Level and peak of a signal between two readings.

    One thread feeds it, another reads it: a reading during :meth:`feed` may miss that block.
    """

    def __init__(self) -> None:
        self._energy, self._samples, self._peak = 0.0, 0, 0.0
        self._read_energy, self._read_samples = 0.0, 0

    def feed(self, block: Array, peak: float) -> None:
        """Take samples of any shape, contiguous, and their largest magnitude."""
        flat = block.reshape(-1)
        self._energy += float(np.dot(flat, flat)) if peak else 0.0
        self._samples += len(flat)
        self._peak = max(self._peak, peak)

    def read_db(self) -> tuple[float, float]:
        """Return level and peak since the last reading in dBFS; minus infinity for silence."""
        energy, samples, peak = self._energy, self._samples, self._peak
        self._peak = 0.0
        since, count = energy - self._read_energy, samples - self._read_samples
        self._read_energy, self._read_samples = energy, samples
        level_db = 10.0 * math.log10(since / count) if since > 0.0 and count else -math.inf
        return level_db, 20.0 * math.log10(peak) if peak else -math.inf


class StatusReader:
    """Makes a status of what the worker counts; the worker does nothing for it.

    Parameters
    ----------
    worker : Worker
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, worker: Worker, clock: Callable[[], float]) -> None:
        self._worker, self._clock = worker, clock
        self._busy_seconds = 0.0
        self.begin()

    def begin(self) -> None:
        """Count the time from now on."""
        self._read_at = self._started_at = self._clock()

    @property
    def planned(self) -> LatencyParts:
        """The planned delay."""
        worker, source, sink = self._worker, self._worker.source, self._worker.sink
        ready = worker.delay.planned_samples(source.block_samples, sink.block_samples)
        return LatencyParts(
            source_ms=1000.0 * source.latency_seconds,
            resampling_ms=1000.0 * worker.path.resampling_seconds,
            denoiser_ms=1000.0 * worker.path.denoisers[0].latency.seconds,
            buffer_ms=1000.0 * ready / sink.rate_hz,
            sink_ms=1000.0 * sink.latency_seconds,
        )

    def read(self) -> LiveStatus:
        """Return what has happened; levels and load are those since the last call."""
        worker, source, sink = self._worker, self._worker.source, self._worker.sink
        now, busy = self._clock(), worker.busy_seconds
        span, seconds = max(now - self._read_at, 1e-9), now - self._started_at
        load = (busy - self._busy_seconds) / span
        self._read_at, self._busy_seconds = now, busy
        (input_db, input_peak_db), (output_db, output_peak_db) = map(
            LevelMeter.read_db, worker.meters
        )
        counts, drift = worker.counts, worker.delay.drift
        lost_seconds = counts.skipped / source.rate_hz
        lost_seconds += (counts.dropped + counts.discarded) / sink.rate_hz
        devices_seconds = source.latency_seconds + sink.latency_seconds
        latency_seconds = drift.delay_seconds + worker.path.bridge_seconds + devices_seconds
        return LiveStatus(
            seconds=seconds,
            input_db=input_db,
            output_db=output_db,
            input_peak_db=input_peak_db,
            output_peak_db=output_peak_db,
            noise_removed_db=worker.noise.removed_db,
            load=load,
            mean_load=busy / max(seconds, 1e-9),
            flagged_blocks=source.flagged_blocks + sink.flagged_blocks,
            dropouts=worker.delay.dropouts,
            disconnects=worker.devices.disconnects,
            lost_ms=1000.0 * lost_seconds,
            drift_ppm=drift.ppm,
            buffer_ms=1000.0 * worker.delay.buffer.seconds,
            latency_ms=1000.0 * latency_seconds if drift.delay_seconds else math.nan,
            state=worker.devices.state,
            warnings=live_warnings(worker.input_watch, source, sink),
        )
