"""The worker of the live engine: one turn brings what was captured to the output ring."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from rtden.live.delay import DelayPolicy
from rtden.live.fade import NOTHING_SEEN, fade_in
from rtden.live.meters import InputWatch, LevelMeter, peak_of
from rtden.live.path import Controls, SoundPath
from rtden.live.reconnect import Reconnector
from rtden.live.recorder import Recorder
from rtden.live.status import SampleCounts
from rtden.noise import NoiseMeter
from rtden.types import Array

MUTE_SECONDS = 0.02
LOUDEST = 1000.0
"""Samples as large as this, 60 dB above full scale, are faults."""
MOST_SECONDS = 0.1
"""Sound that one turn processes at most."""


class Worker:
    """Takes captured sound in steps of the denoiser and delivers it at the planned delay.

    `devices` knows the two sides and which is lost; `make_path` returns the sound path between them
    as they are now. `wake_at` counts the written samples of the source with which the next step can
    be completed, `wakes` how often the thread was woken, and `busy_seconds` the time of all turns.
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
        self.source, self.sink = devices.source.endpoint, devices.sink.endpoint
        self.devices, self.delay = devices, delay
        self._controls, self._make_path, self._clock = controls, make_path, clock
        self.recorder: Recorder | None = None
        self._taken = self._returned = self._discarded = self._padding = 0
        self.meters = LevelMeter(), LevelMeter()
        self.input_watch = InputWatch()
        self._volume = 1.0
        self.busy_seconds, self.wakes = 0.0, 0
        self._build()

    def _build(self) -> None:
        """Make what depends on the rates of the two sides."""
        source, sink = self.source, self.sink
        self.rings = source.ring, sink.ring
        self.path = path = self._make_path()
        self.delay.begin(source, sink, path.step_seconds, path.path_seconds)
        shape = round(MOST_SECONDS * source.rate_hz), source.ring.channels
        self._chunk = np.empty(shape, np.float32)
        self.noise = NoiseMeter(source.rate_hz, sink.rate_hz)
        self._lost_samples = 0
        self._last_in = self._last_out = np.zeros(path.channels, np.float32)
        self.wake_at = source.ring.read_samples + path.missing_samples

    @property
    def counts(self) -> SampleCounts:
        """What became of every sample; exact between two turns."""
        source, sink = self.rings
        return SampleCounts(
            captured=source.written_samples,
            skipped=source.lost_samples,
            taken=self._taken,
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
        ring, sink_ring = self.rings
        if ring is not self.source.ring or sink_ring is not self.sink.ring:
            self._build()  # a device came back with another rate
            ring = self.rings[0]
        if self.devices.sink.lost_at is not None and self.delay.sink_lost():
            self._drop_stale()  # whether or not sound comes: the source may be gone, too
        if not ring.fill_samples or (whole_steps and ring.written_samples < self.wake_at):
            return False
        began = perf_counter()
        if not self.source.exhausted and (late := self.delay.skip()):
            ring.skip(late)
        self._process(self._chunk[: min(ring.fill_samples, len(self._chunk))])
        self.wake_at = ring.read_samples + self.path.missing_samples
        self.busy_seconds += perf_counter() - began
        return True

    def finish(self) -> None:
        """Process what waits, and deliver what the denoiser holds: the source has ended."""
        while self.work(whole_steps=False):
            pass
        self._pass_on(self.path.flush())

    def _process(self, chunk: Array) -> None:
        ring, path = self.rings[0], self.path
        got = ring.read_into(chunk)
        self._taken += got
        captured = chunk[:got]
        peak = peak_of(captured)
        if not peak < LOUDEST:  # nor if it is NaN
            captured[~(np.abs(captured) < LOUDEST)] = 0.0
            peak = peak_of(captured)
        self.input_watch.feed(captured, path.source_hz, peak)
        mixed = path.mix(captured)
        if ring.lost_samples != self._lost_samples:
            self._lost_samples = ring.lost_samples
            fade_in(mixed, self._last_in, path.source_hz)
            peak = max(peak, peak_of(mixed))
        self._last_in = mixed[-1]
        self.meters[0].feed(mixed, peak)
        if self.recorder is not None:
            self.recorder.put("noisy", mixed)
        path.ppm = self.delay.ppm
        cleaned = path.feed(mixed, silent=not peak)
        if not path.idle:  # nor does digital silence say anything about the background
            self.noise.before(_mono(mixed))
        self._pass_on(cleaned)

    def _pass_on(self, cleaned: Array) -> None:
        if len(cleaned) == 0:
            return
        peak = peak_of(cleaned)
        if peak > 1.0:
            cleaned, peak = np.clip(cleaned, -1.0, 1.0), 1.0
        if not self.path.idle:
            self.noise.after(_mono(cleaned))
        if self.recorder is not None:
            self.recorder.put("cleaned", cleaned)
        if self._controls.muted or self._volume != 1.0:
            cleaned = self._faded(cleaned, 0.0 if self._controls.muted else 1.0)
            peak = peak_of(cleaned)
        self.meters[1].feed(cleaned, peak)
        self._returned += len(cleaned)
        self._deliver(cleaned)

    def _faded(self, cleaned: Array, volume: float) -> Array:
        """Return sound on its way to a volume."""
        most = len(cleaned) / (MUTE_SECONDS * self.path.sink_hz)
        end = self._volume + min(most, max(-most, volume - self._volume))
        ramp = np.linspace(self._volume, end, len(cleaned), dtype=np.float32)[:, None]
        self._volume = end
        faded: Array = cleaned * ramp
        return faded

    def _deliver(self, block: Array) -> None:
        """Hand a block to the sink, at the planned delay."""
        ring, delay, reader = self.rings[1], self.delay, self.sink.reader
        if self.devices.sink.lost_at is not None:
            delay.sink_lost()
            self._drop_stale()
            self._discarded += len(block)
            return
        decision = delay.before(self.devices.source.disconnects, len(block))
        if decision.keep is not None:
            ring.drop_oldest(decision.keep)
        if decision.pad is not None:
            self._pad(decision.pad, block)
        ring.write(block)
        self._last_out = block[-1].copy()
        left, reader.least_left_samples = reader.least_left_samples, NOTHING_SEEN
        inside, now = self.path.inside_samples, self._clock()
        keep = delay.after(inside=inside, left=left, block=len(block), now=now)
        if keep is not None:
            ring.drop_oldest(keep)

    def _drop_stale(self) -> None:
        """Drop what waits for a sink that is gone: it would be stale when the sink is back."""
        self.rings[1].drop_oldest(0)
        self._last_out = np.zeros(self.path.channels, np.float32)

    def _pad(self, samples: int, block: Array) -> None:
        """Put silence before a block: what waits before it fades out, the block fades in."""
        silence = np.zeros((samples, self.path.channels), np.float32)
        fade_in(silence, self._last_out, self.path.sink_hz)
        self.rings[1].write(silence)
        last = silence[-1] if samples else self._last_out
        fade_in(block, last, self.path.sink_hz)
        self._padding += samples


def _mono(block: Array) -> Array:
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
