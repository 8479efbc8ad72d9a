"""The delay of a live stream: how much sound to keep ready, what to skip, pad or drop.

:class:`DelayPolicy` decides and the engine carries out. The policy sees fill levels, clocks and
disconnects; it touches neither rings nor threads. Delay is bounded at both ends: sound that has
waited longer than the output buffer could bridge is skipped unprocessed, and after a drop-out the
delay starts from its planned value again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from rtden.live.clock import BufferControl, DriftControl

EXCESS_SECONDS = 0.05
"""Excess over the planned delay beyond which the oldest sound is dropped at once."""
TOLERATED_SECONDS = 0.01
"""Tolerated excess over the planned delay at first lock, or over the first locked delay later."""
ALL = 2**62
"""More samples than any ring holds: of a minimum that nothing has been seen for yet."""


@dataclass(frozen=True)
class Geometry:
    """What the delay depends on as long as the devices keep their rates."""

    source_hz: int
    sink_hz: int
    step_seconds: float
    """Time between two steps of the denoiser."""
    path_seconds: float
    """Delay of the denoiser and of the resamplers around it."""


class SideView(NamedTuple):
    """One side at one moment."""

    fill: int
    """Samples in its ring."""
    block: int
    """Samples of its blocks."""
    called_at: float
    """When its last block came; NaN before the first."""
    passed: int
    """Samples that have gone through its ring so far."""
    missing: int
    """Samples that its ring could not deliver so far."""


class Decision(NamedTuple):
    """What to do with the output ring around a block."""

    keep: int | None = None
    """Drop all but this number of the samples that wait."""
    pad: int | None = None
    """Put so much silence before the block, and fade from one to the other."""
    discard: bool = False
    """Throw the block away: there is no sink."""


class DelayPolicy:
    """Decides what keeps the delay at its plan.

    Parameters
    ----------
    buffer_seconds : float
        Sound to keep ready for the sink beyond its blocks, at first.
    pinned : bool
        Whether the buffer stays so; otherwise it grows after drop-outs and shrinks when all is
        well.

    Attributes
    ----------
    dropouts : int
        Times that the sink ran dry or the worker fell behind.
    restarting : bool
        Whether the next block begins a stream: at the start and after the sink was lost.
    """

    def __init__(self, buffer_seconds: float, *, pinned: bool) -> None:
        self.buffer = BufferControl(buffer_seconds, pinned=pinned)
        self.drift = DriftControl()
        self.dropouts = self._disconnects = 0

    def begin(self, geometry: Geometry) -> None:
        """Begin with new rings; buffer, drift and counts stay."""
        self.geometry = geometry
        self.restarting = True
        self._missing = self._passed_at_excess = 0
        self._least_left, self._padded = ALL, False
        self._first_seconds: float | None = None  # the first locked delay beyond the buffer
        self._cut_at_first = False

    @property
    def ppm(self) -> float:
        """How much faster to play."""
        return self.drift.ppm

    def planned_samples(self, source_block: int, sink_block: int) -> int:
        """Return how many samples to keep ready for the sink.

        Its block, the source's (they have no common rhythm), and the buffer.
        """
        seconds = source_block / self.geometry.source_hz + self.buffer.seconds
        return sink_block + round(seconds * self.geometry.sink_hz)

    def skip(self, source: SideView, sink: SideView) -> int:
        """Return how many input samples came too late to be played in time."""
        geometry = self.geometry
        planned_seconds = self.planned_samples(source.block, sink.block) / geometry.sink_hz
        bridged = round((planned_seconds + geometry.step_seconds) * geometry.source_hz)
        if source.fill <= bridged + source.block:
            return 0
        self._drop_out()
        return source.fill - source.block

    def sink_lost(self) -> bool:
        """Note that there is no sink; return whether this is new: what waits is then stale."""
        new, self.restarting = not self.restarting, True
        return new

    def before(self, source: SideView, sink: SideView, disconnects: int, block: int) -> Decision:
        """Return what to do before a block of `samples` is written.

        `disconnects` are the source's so far.
        """
        planned = self.planned_samples(source.block, sink.block)
        late = self._late_samples(source, block)
        ran_dry, self._missing = sink.missing > self._missing, sink.missing
        if self.restarting:
            self.restarting = False
            return self._pad(planned - late)
        if ran_dry:
            if disconnects == self._disconnects:  # no buffer bridges a device that is gone
                self.buffer.drop_out()
            self._disconnects = disconnects
            self._drop_out()
            planned = self.planned_samples(source.block, sink.block)
            return self._pad(planned - sink.fill - late)
        if sink.fill > planned + EXCESS_SECONDS * self.geometry.sink_hz:
            if sink.passed == self._passed_at_excess:  # it rests, as some do while they start:
                self.drift.restart()  # one drop-out, however much is dropped
            else:
                self._drop_out()
            self._passed_at_excess = sink.passed
            return Decision(keep=planned)
        return Decision()

    def after(
        self, source: SideView, sink: SideView, *, inside: int, left: int, block: int, now: float
    ) -> Decision:
        """Return what to do after a block of `samples` was written.

        `inside` counts the samples in the denoiser, `left` is the least that any block of the sink
        left in the ring since the last call.
        """
        elapsed_seconds = block / self.geometry.sink_hz
        was_locked = self.drift.held_seconds is not None
        self.drift.update(self.delay_seconds(source, sink, inside, now), elapsed_seconds)
        # Before silence was padded, the ring had run dry: that says nothing about the new delay.
        self._least_left = ALL if self._padded else min(self._least_left, left)
        self._padded = False
        decision = Decision()
        if not was_locked and self.drift.held_seconds is not None:
            decision = self._shorten(self.drift.held_seconds, source, sink)
        spare_seconds = self._least_left / self.geometry.sink_hz
        if shrunk := self.buffer.shrink(spare_seconds, elapsed_seconds):
            self._least_left = ALL
            self.drift.shift(-shrunk)
        return decision

    def delay_seconds(self, source: SideView, sink: SideView, inside: int, now: float) -> float:
        """Return how long ago the sample was captured that the sink plays now, devices apart.

        Blocks come and go at once, time does not: a source's block grows, a sink's shrinks, while
        they wait for the next one.
        """
        source_hz, sink_hz = self.geometry.source_hz, self.geometry.sink_hz
        grown = _age(source, source_hz, now) - _age(sink, sink_hz, now)
        return source.fill / source_hz + (inside + sink.fill) / sink_hz + grown

    def _shorten(self, delay_seconds: float, source: SideView, sink: SideView) -> Decision:
        """Drop the samples by which the delay exceeds its target, deliberate growth apart."""
        beyond_buffer = delay_seconds - self.buffer.seconds
        reference = self._first_seconds
        if reference is None:
            # A sink that starts by fits leaves too much before it. That is cut once only: a device
            # that needs more than its blocks say is to have it.
            unbuffered = self.planned_samples(source.block, sink.block) / self.geometry.sink_hz
            unbuffered += self.geometry.path_seconds - self.buffer.seconds
            reference = beyond_buffer if self._cut_at_first else min(beyond_buffer, unbuffered)
            self._cut_at_first = beyond_buffer - reference > TOLERATED_SECONDS
            self._first_seconds = None if self._cut_at_first else beyond_buffer
        gained = round((beyond_buffer - reference) * self.geometry.sink_hz)
        if gained <= TOLERATED_SECONDS * self.geometry.sink_hz or sink.fill <= gained:
            return Decision()
        self._drop_out()
        return Decision(keep=sink.fill - gained)

    def _late_samples(self, source: SideView, block: int) -> int:
        """Return how many output samples come at once that should have come earlier.

        They lie ready for the sink in place of silence.
        """
        geometry = self.geometry
        waiting = max(0, source.fill - source.block) / geometry.source_hz
        return max(0, block + round((waiting - geometry.step_seconds) * geometry.sink_hz))

    def _pad(self, samples: int) -> Decision:
        self.drift.restart()
        self._padded = True
        return Decision(pad=max(0, samples))

    def _drop_out(self) -> None:
        self.dropouts += 1
        self.drift.restart()


def _age(side: SideView, rate_hz: int, now: float) -> float:
    """Return the time since a side's last block, at most the block's length."""
    if math.isnan(side.called_at):
        return 0.0
    return min(max(now - side.called_at, 0.0), side.block / rate_hz)
