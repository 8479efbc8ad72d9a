"""The delay policy in the rig's scenarios: numbers in place of rings, devices and threads."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np
import pytest

from rtden.live.delay import BUFFER_STEP, EXCESS_SECONDS, TOLERATED_SECONDS, DelayPolicy
from rtden.live.endpoint import Endpoint

HZ, BLOCK, HOP = 8000, 80, 186
BLOCK_SECONDS, STEP_SECONDS = BLOCK / HZ, HOP / HZ
PATH_SECONDS = 0.03
INSIDE = round((PATH_SECONDS - STEP_SECONDS) * HZ)
"""Samples that stay in the denoiser after a step."""
SILENCE = np.zeros(HZ, np.float32)


class World:
    """Two endpoints and a worker around a policy; every number of samples is accounted for."""

    def __init__(
        self, *, buffer_ms: float = 15.0, pinned: bool = True, source_ppm: float = 0.0
    ) -> None:
        self.delay = DelayPolicy(buffer_ms / 1000.0, pinned=pinned)
        self.source, self.sink = Endpoint("source", HZ, 1), Endpoint("sink", HZ, 1)
        self.source.block_samples = self.sink.block_samples = BLOCK
        self.delay.begin(self.source, self.sink, STEP_SECONDS, PATH_SECONDS)
        self.now, self.ppm = 0.0, source_ppm
        self.padded = self.disconnects = 0
        self.left, self.owed = math.inf, 0.0
        self.rests_until = dict.fromkeys(("source", "sink", "worker"), 0.0)
        self.delays: list[float] = []
        self._block = np.zeros((BLOCK, 1), np.float32)
        self._step = np.zeros((HOP, 1), np.float32)
        self._events: list[tuple[float, int, Callable[[], float]]] = [
            (0.0, 0, self._capture),
            (0.001, 1, self._play),
        ]

    def run(self, seconds: float) -> World:
        ends_at, ring = self.now + seconds, self.source.ring
        while self._events[0][0] < ends_at:
            self.now, number, event = heapq.heappop(self._events)
            heapq.heappush(self._events, (self.now + event(), number, event))
            while ring.fill_samples >= HOP and self.now >= self.rests_until["worker"]:
                self._turn()
        self.now = ends_at
        return self

    def lost(self) -> tuple[int, int, int, int]:
        """Return drop-outs, and samples that were skipped, dropped and missing."""
        sink = self.sink.ring
        lost = self.source.ring.lost_samples, sink.lost_samples, sink.missing_samples
        return self.delay.dropouts, *lost

    def _capture(self) -> float:
        if self.now >= self.rests_until["source"]:
            self.source.ring.write(self._block)
            self.source.called_at = self.now
        return BLOCK_SECONDS / (1.0 + self.ppm * 1e-6)

    def _play(self) -> float:
        if self.now >= self.rests_until["sink"]:
            if self.sink.ring.written_samples:
                self.sink.ring.read_into(self._block)
            self.left = min(self.left, self.sink.ring.fill_samples)
            self.sink.called_at = self.now
        return BLOCK_SECONDS

    def _turn(self) -> None:
        source, sink = self.source.ring, self.sink.ring
        if late := self.delay.skip():
            source.skip(late)
        if source.fill_samples < HOP:
            return
        source.read_into(self._step)
        self.owed += HOP / (1.0 + self.delay.drift.ppm * 1e-6)
        block = int(self.owed)
        self.owed -= block
        pad = self.delay.before(self.disconnects, block, INSIDE, self.now) or 0
        self.padded += pad
        sink.write(SILENCE[: pad + block])
        left, self.left = self.left, math.inf
        self.delay.after(inside=INSIDE, left=left, block=block, now=self.now)
        self.delays.append(self.delay.delay_seconds(INSIDE, self.now))


def test_the_delay_is_the_planned_one_and_nothing_is_dropped() -> None:
    world = World().run(60.0)
    assert world.lost() == (0, 0, 0, 0)
    planned_seconds = world.delay.planned_samples / HZ + PATH_SECONDS
    assert world.delay.drift.delay_seconds == pytest.approx(planned_seconds, abs=STEP_SECONDS)
    assert world.padded == world.delay.planned_samples


@pytest.mark.parametrize("ppm", [300.0, -20.0])
def test_two_clocks_become_one(ppm: float) -> None:
    """For five minutes the delay stays within 5 ms, and no sample is lost or missing."""
    world = World(source_ppm=ppm, buffer_ms=30.0).run(10.0)
    first = world.delays[-1]
    world.delays.clear()
    world.run(300.0)
    smooth = [
        sum(world.delays[at : at + 200]) / 200 for at in range(0, len(world.delays) - 200, 200)
    ]
    assert max(abs(delay - first) for delay in smooth) < 0.005
    assert world.delay.drift.ppm == pytest.approx(ppm, abs=10.0)
    assert world.lost() == (0, 0, 0, 0)


@pytest.mark.parametrize("side", ["source", "sink", "worker"])
@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_what_comes_late_is_counted_and_the_delay_does_not_grow(side: str, seconds: float) -> None:
    world = World().run(8.0)
    before = world.delay.drift.delay_seconds
    for _ in range(3):
        world.rests_until[side] = world.now + seconds
        world.run(8.0)
    assert world.delay.drift.delay_seconds < before + EXCESS_SECONDS + 0.01
    if seconds > 0.1:
        assert world.delay.dropouts >= 3


def test_a_late_sink_leaves_no_excess_over_a_delay_below_the_plan() -> None:
    world = World(buffer_ms=150.0).run(1.0)
    ring = world.sink.ring
    ring.drop_oldest(ring.fill_samples - HZ // 20)
    world.run(7.0)
    held_seconds = world.delays[-1]
    world.rests_until["sink"] = world.now + 0.09
    world.run(1.0)
    assert world.delays[-1] < held_seconds + EXCESS_SECONDS
    assert world.delay.dropouts == 1


def test_a_first_cut_is_no_fault_and_two_steps_a_turn_begin_soon() -> None:
    world = World(buffer_ms=60.0).run(1.0)
    world.sink.ring.write(SILENCE[: HZ // 25])
    world.run(11.0)
    assert world.delay.dropouts == 0
    assert world.sink.ring.lost_samples > 0
    assert world.delay.pairing.paired


@pytest.mark.parametrize(("lendable", "skips"), [(0, True), (HZ // 40, False)])
def test_what_a_sink_lends_bridges_a_late_worker(lendable: int, skips: bool) -> None:
    world = World().run(8.0)
    world.sink.lendable_samples = lendable
    world.rests_until["worker"] = world.now + 0.08
    world.run(1.0)
    assert (world.source.ring.lost_samples > 0) == skips


def test_a_sink_that_rests_has_one_drop_out_however_long() -> None:
    world = World().run(8.0)
    for seconds in (0.9, 0.5):
        before = world.delay.dropouts
        world.rests_until["sink"] = world.now + seconds
        world.run(4.0)
        assert world.delay.dropouts == before + 1
    assert world.sink.ring.lost_samples > HZ


def test_the_delay_never_grows_when_the_worker_is_too_slow() -> None:
    world = World(buffer_ms=10.0)
    for _ in range(100):
        world.rests_until["worker"] = world.now + 0.105
        world.run(0.12)
        waiting_seconds = (world.source.ring.fill_samples + world.sink.ring.fill_samples) / HZ
        planned_seconds = world.delay.planned_samples / HZ
        assert waiting_seconds < planned_seconds + EXCESS_SECONDS + 0.22
    assert world.delay.dropouts > 50


def test_the_buffer_grows_with_drop_outs_and_shrinks_when_all_is_well() -> None:
    world = World(pinned=False).run(8.0)
    assert world.delay.buffer.seconds == 0.015
    for _ in range(3):
        world.rests_until["worker"] = world.now + 0.3
        world.run(8.0)
    grown = world.delay.buffer.seconds
    assert grown == pytest.approx(0.015 * BUFFER_STEP**3)
    world.run(20.0)
    delay = world.delay.drift.delay_seconds
    world.run(400.0)
    shrunk = grown - world.delay.buffer.seconds
    assert 0.006 < shrunk < grown - 0.015
    assert delay - world.delay.drift.delay_seconds == pytest.approx(shrunk, abs=0.003)


def test_a_pinned_buffer_stays() -> None:
    world = World(buffer_ms=20.0).run(8.0)
    for _ in range(3):
        world.rests_until["worker"] = world.now + 0.3
        world.run(8.0)
    assert world.delay.dropouts >= 3
    assert world.delay.buffer.seconds == 0.02


def test_no_buffer_grows_for_a_source_that_was_gone() -> None:
    world = World(pinned=False).run(8.0)
    world.disconnects += 1
    world.rests_until["source"] = world.now + 3.0
    world.run(10.0)
    assert (world.delay.dropouts, world.delay.buffer.seconds) == (1, 0.015)


def test_after_a_lost_sink_the_stream_starts_from_its_planned_delay() -> None:
    world = World().run(8.0)
    world.delay.restarting = True
    world.sink.ring.drop_oldest(0)
    world.padded = 0
    world.run(8.0)
    assert world.padded == world.delay.planned_samples
    assert world.delay.dropouts == 0


def test_a_sink_that_begins_late_has_the_planned_delay_at_once_and_again_after_a_loss() -> None:
    world, delays = World(), []
    for seconds in (0.99, 0.96, 1.03):
        world.rests_until["sink"] = world.now + seconds
        world.run(4.0)  # the delay is not held yet
        planned_seconds = world.delay.planned_samples / HZ + PATH_SECONDS
        delays.append(world.delays[-1] - planned_seconds)
        world.delay.restarting = True
        world.sink.ring.drop_oldest(0)
    assert max(delays) < TOLERATED_SECONDS + STEP_SECONDS
    assert max(delays) - min(delays) < TOLERATED_SECONDS + BLOCK_SECONDS
    assert world.delay.dropouts == 0


@pytest.mark.parametrize("seconds", [3.0, 3.004, 3.008])
def test_after_a_rest_the_delay_is_the_one_that_was_held(seconds: float) -> None:
    world = World().run(20.0)
    held_seconds = world.delay.drift.held_seconds
    world.delay.rested = True
    world.rests_until["source"] = world.now + seconds
    world.run(8.0)
    assert world.delay.drift.held_seconds == held_seconds
    assert world.delay.drift.delay_seconds == pytest.approx(held_seconds, abs=0.002)
    assert world.lost()[:3] == (0, 0, 0)


@pytest.mark.parametrize("again", [False, True])
def test_what_a_start_by_fits_leaves_before_the_sink_is_cut_once(again: bool) -> None:
    """A device that needs more than its blocks say is to have it: there is no cutting
    without end.
    """
    world = World().run(1.0)
    excess = round(0.03 * HZ)
    world.sink.ring.write(SILENCE[:excess])
    world.delay.drift.restart()
    while not (cut := world.sink.ring.lost_samples):
        world.run(0.1)
    assert world.now < 8.0
    if again:
        world.sink.ring.write(SILENCE[:excess])
    world.run(20.0)
    assert world.sink.ring.lost_samples == cut
    assert world.delay.dropouts == 0


def test_what_a_sink_leaves_before_it_begins_is_not_lost() -> None:
    world = World()
    world.rests_until["sink"] = 1.0
    world.run(20.0)
    assert world.sink.ring.lost_samples == world.sink.dropped_at_start > 0.5 * HZ
    assert world.delay.dropouts == 0


def test_a_delay_that_has_grown_is_not_held() -> None:
    world = World().run(10.0)
    before = world.delay.drift.delay_seconds
    world.sink.ring.write(SILENCE[: round(0.045 * HZ)])  # less than what is dropped at once
    world.delay.drift.restart()
    world.run(12.0)
    assert world.delay.dropouts == 1
    assert world.delay.drift.delay_seconds == pytest.approx(before, abs=TOLERATED_SECONDS)


def test_a_worker_that_starts_late_starts_at_the_planned_delay() -> None:
    """What it finds waiting lies ready in place of silence."""
    delays = []
    for late_seconds in (0.0, 0.06):
        world = World()
        world.rests_until["worker"] = late_seconds
        world.run(20.0)
        assert world.delay.dropouts <= 1  # what was too late is skipped
        delays.append(world.delay.drift.delay_seconds)
    assert delays[1] == pytest.approx(delays[0], abs=BLOCK_SECONDS)
