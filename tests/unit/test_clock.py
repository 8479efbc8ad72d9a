from __future__ import annotations

import numpy as np
import pytest

from rtden.live.delay import (
    DEAD_ZONE_SECONDS,
    LONGEST_BUFFER_SECONDS,
    PAIRED_LEFT_SECONDS,
    PAIRING_SECONDS,
    PARTED_SECONDS,
    QUIET_SECONDS,
    SETTLE_SECONDS,
    SHRINK_SECONDS,
    BufferControl,
    DriftControl,
    Pairing,
)

STEP_SECONDS = 0.0232


def simulate(
    control: DriftControl,
    drift_ppm: float,
    hours: float,
    *,
    jitter_seconds: float = 0.0,
    delay: float = 0.1,
) -> np.ndarray:
    """Return the delay at every step, with a source that is so much faster than the sink."""
    rng, delays = np.random.default_rng(0), []
    for _ in range(round(hours * 3600 / STEP_SECONDS)):
        delay += (drift_ppm - control.ppm) * 1e-6 * STEP_SECONDS
        control.update(delay + jitter_seconds * rng.uniform(-1, 1), STEP_SECONDS)
        delays.append(delay)
    return np.array(delays)


@pytest.mark.parametrize("drift_ppm", [300.0, -300.0, 20.0])
def test_a_quarter_of_an_hour_of_drift_moves_the_delay_by_less_than_5_ms(drift_ppm: float) -> None:
    control = DriftControl()
    delays = simulate(control, drift_ppm, 0.25, jitter_seconds=0.005)
    assert np.abs(delays - 0.1).max() < 0.005
    # At most what 300 ppm make before it is held, and what is let pass.
    assert (
        np.abs(delays[len(delays) // 10 :] - 0.1).max()
        < SETTLE_SECONDS * 300e-6 + DEAD_ZONE_SECONDS
    )
    assert control.ppm == pytest.approx(drift_ppm, abs=15.0)


def test_clocks_that_agree_are_left_alone() -> None:
    control = DriftControl()
    simulate(control, 0.0, 0.2, jitter_seconds=DEAD_ZONE_SECONDS)
    assert control.ppm == 0.0


def test_more_than_can_be_played_away_stops_at_the_limit_and_is_not_learned() -> None:
    control = DriftControl()
    simulate(control, 3000.0, 0.05)
    assert control.ppm == 500.0
    control.restart()
    simulate(control, 0.0, 0.1)
    assert abs(control.ppm) < 500.0


def test_what_was_learned_survives_a_drop_out() -> None:
    control = DriftControl()
    simulate(control, 200.0, 0.2)
    control.restart()
    assert control.held_seconds is None
    delays = simulate(control, 200.0, 0.1, delay=0.25)
    assert np.abs(delays - 0.25).max() < 0.002


def test_the_held_delay_can_be_shifted() -> None:
    control = DriftControl()
    simulate(control, 0.0, 0.01)
    control.shift(-0.004)
    assert simulate(control, 0.0, 0.1)[-1] == pytest.approx(0.096, abs=DEAD_ZONE_SECONDS + 1e-4)


def test_nothing_is_held_before_it_has_settled() -> None:
    control = DriftControl()
    control.update(0.1, SETTLE_SECONDS / 2)
    control.shift(0.1)
    assert control.held_seconds is None
    assert control.ppm == 0.0


def test_the_buffer_grows_by_half_up_to_a_limit() -> None:
    buffer = BufferControl(0.004, pinned=False)
    seen = []
    for _ in range(12):
        buffer.drop_out()
        seen.append(buffer.seconds)
    assert seen[:3] == pytest.approx([0.009, 0.014, 0.021])
    assert seen[-1] == LONGEST_BUFFER_SECONDS


def test_the_buffer_shrinks_after_quiet_minutes_and_not_below_its_beginning() -> None:
    buffer = BufferControl(0.015, pinned=False)
    buffer.drop_out()
    grown = buffer.seconds
    assert buffer.shrink(0.02, QUIET_SECONDS / 2) == 0.0
    assert buffer.shrink(0.02, QUIET_SECONDS / 2) == SHRINK_SECONDS
    assert buffer.seconds == pytest.approx(grown - SHRINK_SECONDS)
    assert buffer.shrink(0.001, 10 * QUIET_SECONDS) == 0.0  # nothing to spare
    for _ in range(20):
        buffer.shrink(0.02, QUIET_SECONDS)
    assert buffer.seconds == pytest.approx(0.015)


def test_a_pinned_buffer_stays() -> None:
    buffer = BufferControl(0.04, pinned=True)
    buffer.drop_out()
    assert buffer.shrink(1.0, 1e6) == 0.0
    assert buffer.seconds == 0.04


def watch(pairing: Pairing, left_seconds: float, seconds: float) -> bool:
    for _ in range(round(seconds / 0.04)):
        pairing.update(left_seconds, 0.04)
    return pairing.paired


def test_steps_are_paired_where_the_ring_can_spare_one() -> None:
    pairing, enough = Pairing(0.0116), 0.0116 + 2 * PAIRED_LEFT_SECONDS
    assert not watch(pairing, enough, PAIRING_SECONDS - 0.1)
    assert watch(pairing, enough, 0.2)
    assert watch(pairing, PAIRED_LEFT_SECONDS, 100.0)  # a step less than before


@pytest.mark.parametrize("dropped_out", [False, True])
def test_steps_part_before_the_ring_runs_dry_and_for_a_while(dropped_out: bool) -> None:
    pairing = Pairing(0.0116)
    assert watch(pairing, 0.03, PAIRING_SECONDS + 0.1)
    if dropped_out:
        pairing.part()
    else:
        pairing.update(0.9 * PAIRED_LEFT_SECONDS, 0.04)
    assert not pairing.paired
    assert not watch(pairing, 0.03, PARTED_SECONDS - 0.1)
    assert watch(pairing, 0.03, 0.2)


def test_one_late_block_is_enough_not_to_pair() -> None:
    pairing = Pairing(0.0116)
    for number in range(1000):
        pairing.update(0.01 if number % 50 == 0 else 0.03, 0.04)
        assert not pairing.paired
