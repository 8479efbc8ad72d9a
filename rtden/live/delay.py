"""The delay of a live stream: how much sound to keep ready, what to skip, pad or drop.

It also finds how fast to play: the two devices have two clocks.

The delay is bounded at both ends: input that has waited longer than the output buffer can bridge is
skipped unprocessed, and after a drop-out the delay starts from its planned value.
"""

from __future__ import annotations

import math

from rtden.live.endpoint import Endpoint
from rtden.resample import MOST_DRIFT_PPM

EXCESS_SECONDS = 0.05  # over the held delay, or the planned fill: the oldest sound is dropped
START_SECONDS = 0.5  # played until a sink has started: some take a block and pause for a second
TOLERATED_SECONDS = 0.01  # excess over the planned delay at first lock, or over the first one later

SETTLE_SECONDS = 5.0  # after a start or a drop-out the delay is watched so long before it is held
SMOOTH_SECONDS = 2.0
HOLD_SECONDS = 15.0
"""Time constant of the control, critically damped: a step of 300 ppm moves the delay by 1.7 ms
beyond the tolerance."""
DEAD_ZONE_SECONDS = 0.0015  # a deviation that is not controlled: callbacks come irregularly
LONGEST_BUFFER_SECONDS = 0.2
BUFFER_STEP = 1.5
BUFFER_LEAST_STEP_SECONDS = 0.005
QUIET_SECONDS = 60.0  # time without a drop-out after which the buffer may shrink
SPARE_SECONDS = 0.008  # least fill that the buffer must have kept before it shrinks
SHRINK_SECONDS = 0.002
PAIRED_LEFT_SECONDS = 0.004
"""Sound that must remain, in the sink's ring and of what it lends, while a turn takes two steps.
Before it does, twice as much and a step must remain."""
PAIRING_SECONDS = 3.0  # for which that must hold before turns take two steps
PARTED_SECONDS = 30.0  # the same after sound came late


class DriftControl:
    """Finds by how many ppm one clock runs faster than the other, from the delay between them.

    A critically damped proportional-integral controller of the smoothed delay (Adriaensen, "Using a
    DLL to filter time", 2005). The integral survives drop-outs. `delay_seconds` is the smoothed
    delay, `held_seconds` its set point, None at first.
    """

    def __init__(self) -> None:
        self.ppm = 0.0
        self._integral_ppm = 0.0
        self.restart()

    def restart(self) -> None:
        """Find a new set point, as the delay has jumped."""
        self.held_seconds: float | None = None
        self.delay_seconds = 0.0
        self._seen_seconds = 0.0

    def shift(self, seconds: float) -> None:
        """Move the set point, if there is one."""
        if self.held_seconds is not None:
            self.held_seconds += seconds

    def update(self, delay_seconds: float, elapsed_seconds: float) -> None:
        """Take the delay and the time since the last call; `ppm` is how much faster to play."""
        if self._seen_seconds == 0.0:
            self.delay_seconds = delay_seconds
        self._seen_seconds += elapsed_seconds
        weight = elapsed_seconds / (min(SMOOTH_SECONDS, self._seen_seconds) + elapsed_seconds)
        self.delay_seconds += weight * (delay_seconds - self.delay_seconds)
        if self._seen_seconds < SETTLE_SECONDS:
            return
        if self.held_seconds is None:
            self.held_seconds = self.delay_seconds
        deviation = self.delay_seconds - self.held_seconds
        excess_seconds = deviation - min(DEAD_ZONE_SECONDS, max(-DEAD_ZONE_SECONDS, deviation))
        pull_ppm = 2.0 / HOLD_SECONDS * excess_seconds * 1e6
        wanted_ppm = self._integral_ppm + pull_ppm
        self.ppm = min(MOST_DRIFT_PPM, max(-MOST_DRIFT_PPM, wanted_ppm))
        if self.ppm == wanted_ppm:  # not at its limit: no wind-up
            self._integral_ppm += elapsed_seconds * excess_seconds * 1e6 / HOLD_SECONDS**2


class Pairing:
    """Decides whether a turn of the worker takes two steps, which halves the wake-ups.

    The first step then waits for the second. So turns are paired only while the sink holds enough
    to bridge that, and the delay stays the same. `step_seconds` is the length of a step.
    """

    def __init__(self, step_seconds: float) -> None:
        self.paired, self._step_seconds = False, step_seconds
        self._watch(PAIRING_SECONDS)

    def _watch(self, seconds: float) -> None:
        self._least_seconds, self._rest_seconds = math.inf, seconds

    def update(self, left_seconds: float, elapsed_seconds: float) -> None:
        """Take in the least sound that the sink had or could lend in the last `elapsed_seconds`."""
        self._least_seconds = min(self._least_seconds, left_seconds)
        self._rest_seconds -= elapsed_seconds
        if self.paired and left_seconds < PAIRED_LEFT_SECONDS:
            self.part()
        elif self._rest_seconds <= 0.0:
            enough = self._step_seconds + 2.0 * PAIRED_LEFT_SECONDS
            self.paired = self.paired or self._least_seconds >= enough
            self._watch(PAIRING_SECONDS)

    def part(self) -> None:
        """Take single steps for a while, as sound came late."""
        self.paired = False
        self._watch(PARTED_SECONDS)


class BufferControl:
    """The buffer beyond the sink's blocks; unless `pinned`, drop-outs lengthen it for a while."""

    def __init__(self, seconds: float, *, pinned: bool) -> None:
        self.seconds, self._pinned = seconds, pinned
        self._least_seconds = seconds
        self._quiet_seconds = 0.0

    def drop_out(self) -> None:
        """Note that the sink ran dry."""
        self._quiet_seconds = 0.0
        if not self._pinned:
            longer = max(self.seconds * BUFFER_STEP, self.seconds + BUFFER_LEAST_STEP_SECONDS)
            self.seconds = min(LONGEST_BUFFER_SECONDS, longer)

    def shrink(self, spare_seconds: float, elapsed_seconds: float) -> float:
        """Return by how much the delay should fall, from the lowest fill since the last call."""
        quiet, grown_seconds = spare_seconds >= SPARE_SECONDS, self.seconds - self._least_seconds
        self._quiet_seconds = self._quiet_seconds + elapsed_seconds if quiet else 0.0
        if self._quiet_seconds < QUIET_SECONDS or grown_seconds <= 0.0:
            return 0.0
        self._quiet_seconds = 0.0
        step = min(SHRINK_SECONDS, grown_seconds)
        self.seconds -= step
        return step


class DelayPolicy:
    """Keeps the delay at its plan: drops sound that waits too long, and pads with silence.

    `buffer_seconds` and `pinned` are for the :class:`BufferControl`. `dropouts` counts how often
    the sink ran dry or the worker fell behind. `restarting`: the next block begins a stream.
    `rested`: the next block ends a silence in which nothing was delivered.
    """

    def __init__(self, buffer_seconds: float, *, pinned: bool) -> None:
        self.buffer = BufferControl(buffer_seconds, pinned=pinned)
        self.drift = DriftControl()
        self.dropouts = self._disconnects = 0

    def begin(
        self, source: Endpoint, sink: Endpoint, step_seconds: float, path_seconds: float
    ) -> None:
        """Begin with new rings; buffer, drift and counts stay.

        `step_seconds` lie between two steps; denoiser and resamplers delay by `path_seconds`.
        """
        self._source, self._sink = source, sink
        self._source_hz, self._sink_hz = source.rate_hz, sink.rate_hz
        self._step_seconds, self._path_seconds = step_seconds, path_seconds
        self.pairing = Pairing(step_seconds)
        self.restarting, self.rested = True, False
        self._missing = self._played_at_excess = self._played_at_start = 0
        self._least_left, self._padded = math.inf, False
        self._first_seconds: float | None = None  # the first locked delay beyond the buffer
        self._cut_at_first = False

    @property
    def planned_samples(self) -> int:
        """Samples to keep ready for the sink: a block of its own, one of the source, the buffer."""
        seconds = self._source.block_samples / self._source_hz + self.buffer.seconds
        return self._sink.block_samples + round(seconds * self._sink_hz)

    def skip(self) -> int:
        """Return how many input samples came too late to be played in time."""
        fill, block = self._source.ring.fill_samples, self._source.block_samples
        steps = 2 if self.pairing.paired else 1
        in_time = steps * self._step_seconds * self._source_hz + block
        if fill <= in_time:
            return 0
        bridged = self.planned_samples + self._sink.lendable_samples
        if fill <= round(in_time + bridged / self._sink_hz * self._source_hz):
            return 0
        self._drop_out()
        return fill - block

    def before(self, disconnects: int, block: int, inside: int, now: float) -> int | None:
        """Return the silence to write before a block of `block` samples, None for no break.

        `disconnects` are the source's, and `inside` counts samples that stay in the denoiser.
        """
        ring, held_seconds = self._sink.ring, self.drift.held_seconds
        ran_dry, self._missing = ring.missing_samples > self._missing, ring.missing_samples
        restarting, rested = self.restarting, self.rested
        self.restarting = self.rested = False
        if restarting:
            self._played_at_start, self._cut_at_first = self._played, False
        if rested and not restarting and held_seconds is not None:  # the delay is to be as before
            self._padded = True
            lacking_seconds = held_seconds - self.delay_seconds(inside + block, now)
            return max(0, round(lacking_seconds * self._sink_hz))
        if restarting or rested:
            return self._pad(ring.fill_samples, block)
        if ran_dry:
            if disconnects == self._disconnects:  # no buffer bridges a device that is gone
                self.buffer.drop_out()
            self._disconnects = disconnects
            self._drop_out()
            return self._pad(ring.fill_samples, block)
        planned = self.planned_samples
        excess_seconds = TOLERATED_SECONDS if self._starts else EXCESS_SECONDS
        if ring.fill_samples > planned + excess_seconds * self._sink_hz:
            self._drop_excess(planned)
        return None

    def after(self, *, inside: int, left: float, block: int, now: float) -> None:
        """Compare the clocks after blocks of `block` samples in all were written.

        `inside` counts samples in the denoiser; a block of the sink left at least `left` since.
        """
        elapsed_seconds, delay_seconds = block / self._sink_hz, self.delay_seconds(inside, now)
        held_seconds, ring = self.drift.held_seconds, self._sink.ring
        excess_seconds = 0.0 if held_seconds is None else delay_seconds - held_seconds
        if excess_seconds > EXCESS_SECONDS:
            self._drop_excess(ring.fill_samples - round(excess_seconds * self._sink_hz))
            return
        self.drift.update(delay_seconds, elapsed_seconds)
        # Before silence was padded, the ring had run dry: that says nothing about the new delay.
        left = math.inf if self._padded else left
        self._least_left = math.inf if self._padded else min(self._least_left, left)
        self._padded = False
        lasting = left + self._sink.lendable_samples
        self.pairing.update(lasting / self._sink_hz, elapsed_seconds)
        if held_seconds is None and self.drift.held_seconds is not None:
            self._shorten(self.drift.held_seconds)
        if shrunk := self.buffer.shrink(self._least_left / self._sink_hz, elapsed_seconds):
            self._least_left = math.inf
            self.drift.shift(-shrunk)

    def delay_seconds(self, inside: int, now: float) -> float:
        """Return how long ago the sample was captured that the sink plays now, devices apart.

        While they wait for the next one, a source's block grows and a sink's shrinks.
        """
        source, sink = self._source, self._sink
        waiting = source.ring.fill_samples / self._source_hz
        waiting += (inside + sink.ring.fill_samples - sink.lent_samples) / self._sink_hz
        return waiting + _age(source, now) - _age(sink, now)

    @property
    def _played(self) -> int:
        return self._sink.ring.read_samples - self._sink.ring.lost_samples

    @property
    def _starts(self) -> bool:
        return self._played - self._played_at_start < START_SECONDS * self._sink_hz

    def _drop_excess(self, keep_samples: int) -> None:
        """Keep the newest samples; while the sink plays nothing, that is one drop-out at most."""
        ring, keep_samples = self._sink.ring, max(0, keep_samples)
        if self._starts:
            self._sink.dropped_at_start += ring.fill_samples - keep_samples
            self.drift.restart()
        elif self._played == self._played_at_excess:
            self.drift.restart()
        else:
            self._drop_out()
        self._played_at_excess = self._played
        ring.drop_oldest(keep_samples)

    def _shorten(self, delay_seconds: float) -> None:
        """Drop the samples by which the delay exceeds its target, deliberate growth apart."""
        beyond_buffer = delay_seconds - self.buffer.seconds
        reference = self._first_seconds
        if reference is None:
            # A sink that starts by fits leaves too much before it. That is cut once only: a device
            # that needs more than its blocks say is to have it.
            unbuffered = self.planned_samples / self._sink_hz
            unbuffered += self._path_seconds - self.buffer.seconds
            reference = beyond_buffer if self._cut_at_first else min(beyond_buffer, unbuffered)
            self._cut_at_first = beyond_buffer - reference > TOLERATED_SECONDS
            self._first_seconds = None if self._cut_at_first else beyond_buffer
        gained = round((beyond_buffer - reference) * self._sink_hz)
        fill = self._sink.ring.fill_samples
        if fill > gained > TOLERATED_SECONDS * self._sink_hz:
            if self._cut_at_first:
                self.drift.restart()
                self.pairing = Pairing(self._step_seconds)
            else:
                self._drop_out()
            self._sink.ring.drop_oldest(fill - gained)

    def _pad(self, fill: int, block: int) -> int:
        """Return the silence that the plan lacks beyond `fill` and the late part of this block.

        Output samples that come at once and should have come earlier lie ready in its place.
        """
        waiting = max(0, self._source.ring.fill_samples - self._source.block_samples)
        early_seconds = self._step_seconds - waiting / self._source_hz
        late = max(0, block - round(early_seconds * self._sink_hz))
        self.drift.restart()
        self._padded = True
        return max(0, self.planned_samples - fill - late)

    def _drop_out(self) -> None:
        self.dropouts += 1
        self.drift.restart()
        self.pairing.part()


def _age(side: Endpoint, now: float) -> float:
    """Return the time since a side's last block, at most the block's length."""
    if math.isnan(side.called_at):
        return 0.0
    return min(max(now - side.called_at, 0.0), side.block_samples / side.rate_hz)
