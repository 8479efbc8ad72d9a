from __future__ import annotations

import math

import numpy as np
import pytest
from properties import given, settings, st

from rtden.noise import NoiseMeter, babble

RATE_HZ = 22050


def noise(rate_hz: int, seconds: float, *, level: float = 0.01, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(round(seconds * rate_hz))
    return (level * values).astype(np.float32)


def with_bursts(background: np.ndarray, rate_hz: int) -> np.ndarray:
    """Add loud half seconds, every second one: a voice that is no part of the background."""
    seconds = np.arange(len(background)) / rate_hz
    bursts = ((seconds % 1.0) > 0.5) * 0.3 * np.sin(2 * np.pi * 200 * seconds)
    mixed: np.ndarray = (background + bursts).astype(np.float32)
    return mixed


def removed_db(
    before: np.ndarray, after: np.ndarray, rate_hz: int = RATE_HZ, after_hz: int | None = None
) -> float:
    meter = NoiseMeter(rate_hz, after_hz or rate_hz)
    meter.before(before)
    meter.after(after)
    return meter.removed_db


@given(attenuation_db=st.floats(-6.0, 50.0), level=st.sampled_from([0.0005, 0.01, 0.3]))
@settings(max_examples=20)
def test_a_known_attenuation_of_the_background_is_recovered(
    attenuation_db: float, level: float
) -> None:
    background = noise(RATE_HZ, 6.0, level=level)
    after = background * np.float32(10 ** (-attenuation_db / 20))
    audible_db = 20 * np.log10(level) - NoiseMeter.INAUDIBLE_DB
    assert removed_db(background, after) == pytest.approx(min(attenuation_db, audible_db), abs=0.5)


def test_the_voice_does_not_count_as_background() -> None:
    background = noise(RATE_HZ, 8.0)
    before, after = (with_bursts(level * background, RATE_HZ) for level in (1.0, 0.1))
    assert removed_db(before, after) == pytest.approx(20.0, abs=0.5)
    assert removed_db(before, background) == pytest.approx(0.0, abs=0.5)


@given(sizes=st.lists(st.integers(0, 30000), max_size=8), late_samples=st.integers(0, 5000))
@settings(max_examples=25)
def test_chunking_and_lateness_of_the_output_do_not_change_the_meter(
    sizes: list[int], late_samples: int
) -> None:
    before = with_bursts(noise(RATE_HZ, 4.0), RATE_HZ)
    after = with_bursts(0.1 * noise(RATE_HZ, 4.0), RATE_HZ)
    before[20000:40000] = after[20000:40000] = 0.0
    meter = NoiseMeter(RATE_HZ, RATE_HZ)
    fed = given = 0
    for size in [*sizes, len(before)]:
        meter.before(before[fed : fed + size])
        fed = min(fed + size, len(before))
        ready = max(given, fed - late_samples)
        meter.after(after[given:ready])
        given = ready
    meter.after(after[given:])
    assert meter.removed_db == removed_db(before, after)


def test_digital_silence_in_the_input_tells_nothing_about_the_background() -> None:
    background = noise(RATE_HZ, 6.0)
    silence: np.ndarray = np.zeros(4 * RATE_HZ, np.float32)
    expected = removed_db(background, 0.1 * background)
    assert expected == pytest.approx(20.0, abs=0.5)
    hiss = noise(RATE_HZ, 4.0, level=1e-5)  # the output may be less silent than the input
    soft = 0.1 * background
    for before, after in (
        ([silence, background], [silence, soft]),
        ([background, silence], [soft, silence]),
        ([silence, background], [hiss, soft]),
    ):
        found_db = removed_db(np.concatenate(before), np.concatenate(after))
        assert found_db == pytest.approx(expected, abs=0.25)


@pytest.mark.parametrize("after", [1e-9, 1e-6, 0.0])
def test_a_background_below_hearing_counts_as_just_inaudible(after: float) -> None:
    background = noise(RATE_HZ, 6.0, level=0.01)  # -40 dBFS
    assert removed_db(background, after * background) == pytest.approx(30.0, abs=0.5)
    assert removed_db(1e-3 * background, after * background) == 0.0


def test_nothing_is_told_before_the_first_block_and_about_silence() -> None:
    meter = NoiseMeter(RATE_HZ, RATE_HZ)
    assert math.isnan(meter.removed_db)
    meter.before(noise(RATE_HZ, 0.01))
    meter.after(noise(RATE_HZ, 0.01))
    assert math.isnan(meter.removed_db)
    assert math.isnan(removed_db(np.zeros(RATE_HZ, np.float32), np.zeros(RATE_HZ, np.float32)))


@pytest.mark.parametrize(
    ("before_hz", "after_hz"), [(16000, 48000), (48000, 16000), (44100, 22050), (8000, 192000)]
)
def test_the_two_sides_may_have_different_rates(before_hz: int, after_hz: int) -> None:
    before, after = noise(before_hz, 6.0), noise(after_hz, 6.0, level=0.001, seed=1)
    before[: 2 * before_hz] = 0.0
    after[: 2 * after_hz] = 0.0
    assert removed_db(before, after, before_hz, after_hz) == pytest.approx(20.0, abs=0.5)


@pytest.mark.parametrize(("before_hz", "after_hz"), [(22050, 16000), (16000, 11025), (11025, 8000)])
def test_the_two_sides_stay_together_for_minutes(before_hz: int, after_hz: int) -> None:
    meter = NoiseMeter(before_hz, after_hz)
    before, after = noise(before_hz, 2.0), noise(after_hz, 2.0, level=0.001, seed=1)
    before[before_hz:] = 0.0
    after[after_hz:] = 0.0
    for _ in range(300):
        meter.before(before)
        meter.after(after)
    assert meter.removed_db == pytest.approx(20.0, abs=0.5)


def test_levels_beyond_the_scale_of_the_meter_count_as_its_ends() -> None:
    loud = noise(RATE_HZ, 4.0, level=5000.0)
    assert removed_db(loud, loud) == 0.0
    assert removed_db(loud, loud / 5e6) == pytest.approx(120.0, abs=1.0)


def test_babble_is_the_same_at_every_call_and_neither_silent_nor_clipped() -> None:
    signal = babble(44100, 22050)
    np.testing.assert_array_equal(signal, babble(44100, 22050))
    assert signal.shape == (44100,)
    assert signal.dtype == np.float32
    assert 0.02 < signal.std() < 0.3
    assert np.abs(signal).max() < 1.0
