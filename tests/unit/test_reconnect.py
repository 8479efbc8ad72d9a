from __future__ import annotations

import itertools

import pytest
from rig import SimulatedDevice

from rtden.live.reconnect import (
    FIRST_RETRY_SECONDS,
    LONGEST_RETRY_SECONDS,
    STALLED_SECONDS,
    Reconnector,
)


class World:
    """Two devices and a keeper that looks five times a second."""

    def __init__(self) -> None:
        self.now = 100.0
        self.source, self.sink = (
            SimulatedDevice(name, 8000, 80, lambda: self.now)
            for name in ("microphone", "loudspeakers")
        )
        self.looked_anew = 0
        for device in (self.source, self.sink):
            device.look_anew = self.look_anew  # type: ignore[method-assign]
            device.start()
        self.stopped_when_looking: list[tuple[bool, bool]] = []
        self.keeper = Reconnector(self.source, self.sink, clock=lambda: self.now)

    @property
    def disconnects(self) -> int:
        return self.source.disconnects + self.sink.disconnects

    def look_anew(self) -> None:
        self.looked_anew += 1
        self.stopped_when_looking.append((self.source.running, self.sink.running))

    def run(self, seconds: float, *, calling: tuple[str, ...] = ("source", "sink")) -> None:
        for _ in range(round(seconds / 0.2)):
            self.now += 0.2
            for name in calling:
                device = getattr(self, name)
                if device.running:
                    device.called_at = self.now
            self.keeper.check()


def test_devices_that_run_are_left_alone() -> None:
    world = World()
    world.run(60.0)
    assert (world.keeper.state, world.disconnects, world.looked_anew) == ("running", 0, 0)


@pytest.mark.parametrize("name", ["source", "sink"])
def test_a_device_that_went_away_is_opened_when_it_is_back(name: str) -> None:
    world = World()
    world.run(1.0)
    getattr(world, name).go_away(5.0)
    world.run(0.2)
    word = {"source": "input microphone", "sink": "output loudspeakers"}[name]
    assert world.keeper.state.startswith(f"{word} lost, trying again in ")
    world.run(5.0 + LONGEST_RETRY_SECONDS)
    assert (world.keeper.state, world.disconnects) == ("running", 1)
    assert world.source.running
    assert world.sink.running
    # No stream was open while PortAudio looked anew.
    assert world.looked_anew >= 1
    assert set(world.stopped_when_looking) == {(False, False)}


def test_the_pauses_between_tries_grow_up_to_a_limit() -> None:
    world = World()
    tries = []
    world.source.open = lambda: tries.append(world.now) or SimulatedDevice.open(world.source)  # type: ignore[method-assign,func-returns-value]
    world.source.go_away(120.0)
    world.run(100.0)
    pauses = [after - before for before, after in itertools.pairwise(tries) if after > before]
    assert min(pauses) >= FIRST_RETRY_SECONDS
    assert pauses[-1] == pytest.approx(LONGEST_RETRY_SECONDS, abs=0.5)
    assert len(tries) < 40


def test_a_device_that_no_longer_calls_is_lost_and_opened_again() -> None:
    world = World()
    world.run(1.0)
    world.run(STALLED_SECONDS + 0.5, calling=("sink",))
    assert world.disconnects == 1
    world.run(3.0)
    assert world.keeper.state == "running"


def test_a_device_that_can_be_opened_and_never_calls_is_lost_once() -> None:
    world = World()
    world.run(1.0)
    starts = []
    world.sink.start = lambda: starts.append(world.now) or SimulatedDevice.start(world.sink)  # type: ignore[method-assign,func-returns-value]
    world.run(120.0, calling=("source",))
    assert world.disconnects == 1
    assert len(starts) < 15
    world.run(20.0)
    assert (world.keeper.state, world.disconnects) == ("running", 1)
    world.run(STALLED_SECONDS + FIRST_RETRY_SECONDS, calling=("source",))
    assert world.disconnects == 2


def test_both_may_be_lost_at_once() -> None:
    world = World()
    for device in (world.source, world.sink):
        device.go_away(3.0)
    world.run(0.4)
    assert world.keeper.state.startswith("input microphone and output loudspeakers lost")
    world.run(15.0)
    assert (world.keeper.state, world.disconnects) == ("running", 2)


def test_what_cannot_return_is_not_watched() -> None:
    world = World()
    world.source.may_return = False
    world.source.running = False
    world.run(5.0)
    assert world.keeper.state == "running"
