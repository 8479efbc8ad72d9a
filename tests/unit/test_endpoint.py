from __future__ import annotations

import numpy as np
import pytest

from rtden.live.endpoint import FADE_SECONDS, Endpoint

HZ, BLOCK, TARGET = 48000, 360, 840
"""The player holds 17.5 ms and asks every 7.5 ms, as PulseAudio does."""


class Player:
    """A sound server that plays what a sink gives it."""

    def __init__(self, sink: Endpoint) -> None:
        self.sink, self.held, self.lent = sink, 0, 0
        self.heard: list[np.ndarray] = []
        sink.block_samples = BLOCK
        self.ask(TARGET)

    def cycle(self, samples: int = BLOCK) -> None:
        self.held -= samples
        assert self.held >= 0
        self.ask(samples)

    def ask(self, played: int) -> None:
        wanted = TARGET - self.held
        given = self.sink.given_samples(wanted, self.held, played)
        assert self.sink.lent_samples == wanted - given
        block = memoryview(bytearray(4 * given))
        self.sink.play(block)
        self.heard.append(np.frombuffer(block, np.float32))
        self.held += given


def sound(samples: int, start: int) -> np.ndarray:
    return np.arange(start, start + samples, dtype=np.float32)[:, None]


@pytest.mark.parametrize("late", [BLOCK // 2, BLOCK])
def test_a_player_that_holds_enough_waits_for_a_late_worker(late: int) -> None:
    sink = Endpoint("sink", HZ, 1)
    player = Player(sink)
    sink.ring.write(sound(4 * BLOCK - late, 0))
    for _ in range(4):
        player.cycle()
    assert sink.reader.least_left_samples == -late
    sink.ring.write(sound(BLOCK, 4 * BLOCK - late))
    player.cycle()
    assert (sink.ring.missing_samples, sink.lent_samples) == (0, late)
    heard = np.concatenate(player.heard)[TARGET + round(FADE_SECONDS * HZ) :]
    np.testing.assert_array_equal(np.diff(heard), 1.0)


def test_a_player_that_holds_too_little_gets_what_is_missing_as_a_fade() -> None:
    sink = Endpoint("sink", HZ, 1)
    player = Player(sink)
    sink.ring.write(sound(4 * BLOCK, 0))
    for _ in range(8):
        player.cycle()
    assert sink.ring.missing_samples >= 2 * BLOCK
    assert sink.lent_samples == 0
    assert player.held == TARGET
    assert (player.heard[-1] == 0.0).all()


def test_a_late_call_is_no_reason_to_lend_nothing() -> None:
    sink = Endpoint("sink", HZ, 1)
    player = Player(sink)
    sink.ring.write(sound(4 * BLOCK, 0))
    player.cycle()
    player.cycle(2 * BLOCK)
    player.cycle(2 * BLOCK)
    assert sink.lent_samples == BLOCK
    assert sink.ring.missing_samples == 0
