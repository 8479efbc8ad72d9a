"""The worker of the live engine: one turn brings captured sound to the output ring."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import numpy as np

from rtden.live.delay import DelayPolicy
from rtden.live.endpoint import fade_in
from rtden.live.meters import Meters
from rtden.live.path import Controls, SoundPath
from rtden.live.reconnect import Reconnector
from rtden.live.recorder import Recorder
from rtden.live.status import SampleCounts
from rtden.types import Array

MUTE_SECONDS = 0.02
LOUDEST = 1000.0
"""Samples as large as this, 60 dB above full scale, are faults."""
MOST_SECONDS = 0.1
"""Sound that one turn processes at most."""
COMPARED_SECONDS = 0.04
"""Time between two comparisons of the clocks, at least."""
FULL_SCALE = np.ones((), np.float32)
REST_SECONDS = 0.25
"""Time between two turns while nothing but digital silence comes."""


class Worker:
    """Takes captured sound in steps of the denoiser and delivers it at the planned delay.

    While the path is idle, it rests and delivers nothing: the sink is silent without that. The
    first sound begins a new stream.

    `devices` knows the two sides and which is lost; `make_path` returns the sound path between them
    as they are now. `wakes` counts how often the thread was woken, and `busy_seconds` the time of
    all turns.
    """

    def __init__(
        self,
        devices: Reconnector,
        delay: DelayPolicy,
        controls: Controls,
        make_path: Callable[[], SoundPath],
        *,
        clock: Callable[[], float],
    ) -> None:
        self.source, self.sink = devices.source, devices.sink
        self.devices, self.delay = devices, delay
        self._controls, self._make_path, self._clock = controls, make_path, clock
        self.recorder: Recorder | None = None
        self._returned = self._discarded = self._padding = 0
        self._volume = 1.0
        self.busy_seconds, self.wakes = 0.0, 0
        self._build()

    def _build(self) -> None:
        """Make what depends on the rates of the two sides."""
        source, sink = self.source, self.sink
        self.rings = source.ring, sink.ring
        self.path = path = self._make_path()
        self.delay.begin(source, sink, path.step_seconds, path.path_seconds)
        self.meters = Meters(source.rate_hz, sink.rate_hz)
        self._lost_samples = 0
        self._last_in = self._last_out = np.zeros(path.channels, np.float32)
        source.wake_at, source.resting = source.ring.read_samples + path.missing_samples, False
        self._step_samples = round(path.step_seconds * source.rate_hz)
        self._most_samples = round(MOST_SECONDS * source.rate_hz)
        self._uncompared = 0

    @property
    def counts(self) -> SampleCounts:
        """What became of every sample; exact between two turns."""
        source, sink = self.rings
        return SampleCounts(
            captured=source.written_samples,
            skipped=source.lost_samples,
            taken=source.read_samples - source.lost_samples,
            waiting=source.fill_samples,
            returned=self._returned,
            discarded=self._discarded,
            padding_samples=self._padding,
            played=sink.read_samples - sink.lost_samples,
            dropped=sink.lost_samples,
            ready=sink.written_samples - sink.read_samples,
        )

    def work(self, *, whole_steps: bool = True) -> bool:
        """Process a tenth of a second at most; return whether there was enough for a step.

        Without `whole_steps` any sound is enough: the source has ended.
        """
        source, sink = self.source, self.sink
        ring, sink_ring = self.rings
        if ring is not source.ring or sink_ring is not sink.ring:
            self._build()  # a device came back with another rate
            ring, sink_ring = self.rings
        if sink.lost and not self.delay.restarting:
            self.delay.restarting = True
            sink_ring.drop_oldest(0)  # it would be stale when the sink is back
            self._last_out = np.zeros(self.path.channels, np.float32)
        if (whole_steps and ring.written_samples < source.wake_at) or not ring.fill_samples:
            return False
        began, waiting = perf_counter(), ring.fill_samples
        if self.path.idle:  # set before the ring is read: sound that comes meanwhile ends it
            source.wake_at = ring.written_samples + round(REST_SECONDS * source.rate_hz)
            source.resting = True
        else:
            if not source.exhausted and (late := self.delay.skip()):
                ring.skip(late)
            waiting = min(ring.fill_samples, self._most_samples)
        self._process(waiting)
        if not (self.path.idle and source.resting):
            source.wake_at = ring.read_samples + self.path.missing_samples
            source.wake_at += self._step_samples if self.delay.pairing.paired else 0
            source.resting = False
        self.busy_seconds += perf_counter() - began
        return True

    def finish(self) -> None:
        """Process the rest of a source that has ended, and deliver the samples in the denoiser."""
        while self.work(whole_steps=False):
            pass
        nothing = np.empty((0, self.rings[0].channels), np.float32)
        rest = self.path.flush()
        self._pass_on(nothing, rest[:0], rest)

    def _process(self, samples: int) -> None:
        """Process samples from the ring; where a rest ends, the silence before the sound first."""
        ring, path = self.rings[0], self.path
        captured = np.empty((samples, ring.channels), np.float32)
        got = ring.read_into(captured)
        captured = captured[:got]
        energy = float(np.vdot(captured, captured))
        if not energy < LOUDEST**2:  # nor if it is NaN
            captured[~(np.abs(captured) < LOUDEST)] = 0.0
        if path.idle and energy:
            first = int(captured.any(axis=1).argmax())
            self._clean(captured[:first], 0.0)
            captured = captured[first:]
        self._clean(captured, energy)

    def _clean(self, captured: Array, energy: float) -> None:
        ring, path = self.rings[0], self.path
        if not len(captured):
            return
        mixed = path.mix(captured)
        if ring.lost_samples != self._lost_samples:
            self._lost_samples = ring.lost_samples
            if self._last_in.any():
                energy = np.inf
            fade_in(mixed, self._last_in, path.source_hz)
        self._last_in = mixed[-1]
        path.ppm = self.delay.drift.ppm
        self._pass_on(captured, mixed, path.feed(mixed, silent=energy == 0.0))

    def _pass_on(self, captured: Array, mixed: Array, cleaned: Array) -> None:
        cleaned = played = np.minimum(np.maximum(cleaned, -FULL_SCALE), FULL_SCALE)
        if self._controls.muted or self._volume != 1.0:
            played = self._faded(cleaned, 0.0 if self._controls.muted else 1.0)
        self.meters.turns.append((captured, mixed, cleaned, played))
        if self.recorder is not None:
            self.recorder.put("noisy", mixed, self.path.source_hz)
            self.recorder.put("cleaned", cleaned, self.path.sink_hz)
        self._returned += len(cleaned)
        if len(cleaned):
            self._deliver(played)

    def _faded(self, cleaned: Array, volume: float) -> Array:
        """Return sound on its way to a volume."""
        most, start = len(cleaned) / (MUTE_SECONDS * self.path.sink_hz), self._volume
        self._volume = start + min(most, max(-most, volume - start))
        ramp = np.linspace(start, self._volume, len(cleaned), dtype=np.float32)
        return np.multiply(cleaned, ramp[:, None])

    def _deliver(self, block: Array) -> None:
        """Hand a block to the sink, at the planned delay."""
        delay, reader = self.delay, self.sink.reader
        if self.sink.lost:
            self._discarded += len(block)
            return
        if self.path.idle:
            delay.rested = True
            self._padding -= len(block)
            return
        inside, now = self.path.inside_samples, self._clock()
        pad = delay.before(self.source.disconnects, len(block), inside, now)
        if pad is not None:
            self._pad(pad, block)
        self._write(block)
        self._last_out = block[-1]
        self._uncompared += len(block)
        if self._uncompared < COMPARED_SECONDS * self.path.sink_hz:
            return
        left, reader.least_left_samples = reader.least_left_samples, math.inf
        delay.after(inside=inside, left=left, block=self._uncompared, now=now)
        self._uncompared = 0

    def _write(self, block: Array) -> None:
        """Write a block to the sink's ring: mono to every channel, more channel for channel."""
        ring, channels = self.rings[1], self.path.channels
        wide = np.zeros((len(block), ring.channels), np.float32)
        for channel in range(channels if channels > 1 else ring.channels):  # rows are slow
            wide[:, channel] = block[:, channel % channels]
        ring.write(wide)

    def _pad(self, samples: int, block: Array) -> None:
        """Put silence before a block: the sound before it fades out, the block fades in."""
        silence = np.zeros((samples, self.path.channels), np.float32)
        fade_in(silence, self._last_out, self.path.sink_hz)
        self._write(silence)
        last = silence[-1] if samples else self._last_out
        fade_in(block, last, self.path.sink_hz)
        self._padding += samples
