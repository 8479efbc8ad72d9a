from __future__ import annotations

import math

import numpy as np
import pytest
from properties import given, settings, st

from rtden.live.endpoint import FADE_SECONDS, SmoothReader, fade_in
from rtden.ring import Ring

RATE_HZ = 48000
FADE = round(FADE_SECONDS * RATE_HZ)
STEEPEST = 1.6 / FADE
"""Of a fade of one, from one sample to the next: pi / 2 over its length, and a little."""


def reader() -> tuple[Ring, SmoothReader]:
    ring = Ring(RATE_HZ)
    return ring, SmoothReader(ring, RATE_HZ)


def read(smooth: SmoothReader, samples: int) -> np.ndarray:
    block = np.full((samples, 1), np.nan, np.float32)
    smooth.read_into(block.data.cast("B"))
    return block


def test_sound_that_is_there_passes_untouched_but_for_its_beginning() -> None:
    ring, smooth = reader()
    sound = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    ring.write(sound)
    played = np.concatenate([read(smooth, 500)[:, 0] for _ in range(8)])
    np.testing.assert_array_equal(played[FADE:], sound[FADE:])


def test_sound_that_breaks_off_decays_and_sound_that_begins_rises() -> None:
    ring, smooth = reader()
    ring.write(np.ones(1000, np.float32))
    played = [read(smooth, 700), read(smooth, 700)]  # the second runs dry after 300
    ring.write(-np.ones(1000, np.float32))
    played += [read(smooth, 700), read(smooth, 700), read(smooth, 700)]
    whole = np.concatenate(played)[:, 0]
    assert np.abs(np.diff(whole, prepend=0.0)).max() < STEEPEST
    assert (whole[FADE:1000] == 1).all()
    assert (whole[1000 + FADE : 1400] == 0).all()
    assert (whole[1400 + FADE : 2400] == -1).all()


def test_a_jump_in_the_sound_is_joined() -> None:
    ring, smooth = reader()
    ring.write(np.concatenate([np.full(2000, 0.9), np.full(2000, -0.9)]).astype(np.float32))
    first = read(smooth, 500)
    ring.drop_oldest(1000)
    second = read(smooth, 500)
    assert (
        np.abs(np.diff(np.concatenate([first, second])[:, 0], prepend=0.0)).max() < 1.8 * STEEPEST
    )
    assert (second[FADE:] == np.float32(-0.9)).all()


@given(data=st.data())
@settings(max_examples=60)
def test_whatever_happens_no_step_is_louder_than_a_fade(data: st.DataObject) -> None:
    """Blocks shorter than a fade included; the sound itself is constant between jumps, so every
    step is the reader's.
    """
    ring, smooth = reader()
    level, dry, played = 0.0, True, []
    for _ in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(["write", "drop", "read", "read"])):
            case "write":
                if ring.fill_samples == 0 and dry:
                    level = data.draw(st.floats(-1, 1))
                ring.write(np.full(data.draw(st.integers(1, 900)), level, np.float32))
            case "drop":
                ring.drop_oldest(data.draw(st.integers(0, 100)))
            case "read":
                missing = ring.missing_samples
                played.append(read(smooth, data.draw(st.integers(20, 700)))[:, 0])
                dry = ring.missing_samples > missing
    if played:
        # Within a fade another may begin: their slopes add up to two at most.
        assert np.abs(np.diff(np.concatenate(played), prepend=0.0)).max() < 2.2 * STEEPEST


def test_the_least_that_was_left_is_remembered() -> None:
    ring, smooth = reader()
    assert smooth.least_left_samples == math.inf
    ring.write(np.zeros(1000, np.float32))
    read(smooth, 400)
    read(smooth, 400)
    ring.write(np.zeros(1000, np.float32))
    read(smooth, 400)
    assert smooth.least_left_samples == 200


@pytest.mark.parametrize("samples", [0, 3, 5000])
def test_a_block_is_joined_to_the_sample_before_it(samples: int) -> None:
    block = np.ones((samples, 2), np.float32)
    fade_in(block, np.array([0.0, -1.0], np.float32), RATE_HZ)
    if samples:
        np.testing.assert_array_equal(block[0], [0.0, -1.0])
        assert np.abs(np.diff(block, axis=0)).max() < 2 * STEEPEST
    assert (block[FADE:] == 1).all()
