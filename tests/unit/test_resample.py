from __future__ import annotations

import numpy as np
import pytest
from properties import given, settings, st

from rtden.resample import MOST_DRIFT_PPM, Drift, Interpolator, Resampler

RATES_HZ = (8000, 16000, 22050, 32000, 44100, 48000, 96000, 192000)
PAIRS_HZ = (
    [(rate_hz, 22050) for rate_hz in RATES_HZ]
    + [(22050, rate_hz) for rate_hz in RATES_HZ]
    + [(44100, 48000), (48000, 16000), (8000, 96000)]
)


def sine(rate_hz: int, hz: float, seconds: float = 0.5) -> np.ndarray:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * hz * times).astype(np.float32)[:, None]


def run(
    resampler: Interpolator | Resampler, signal: np.ndarray, sizes: list[int] | None = None
) -> np.ndarray:
    out, at = [], 0
    for size in sizes or []:
        out.append(resampler.feed(signal[at : at + size]))
        at += size
    last = resampler.feed(signal[at:]), resampler.feed(signal[:0], last=True)
    return np.concatenate([*out, *last])


@pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS_HZ)
@pytest.mark.parametrize("kind", [Interpolator, Resampler])
def test_a_tone_is_the_same_tone_at_the_same_time_at_another_rate(
    kind: type, source_hz: int, target_hz: int
) -> None:
    out, expected = run(kind(source_hz, target_hz), sine(source_hz, 1e3)), sine(target_hz, 1e3)
    assert out.shape == expected.shape
    inner = slice(target_hz // 20, -target_hz // 20)
    np.testing.assert_allclose(out[inner], expected[inner], atol=2e-4)


@pytest.mark.parametrize(
    ("source_hz", "target_hz"), [pair for pair in PAIRS_HZ if pair[0] > pair[1]]
)
def test_what_the_lower_rate_cannot_hold_is_taken_away(source_hz: int, target_hz: int) -> None:
    above = sine(source_hz, min(0.55 * target_hz, 0.49 * source_hz))
    out = run(Interpolator(source_hz, target_hz), above)
    inner = slice(target_hz // 20, -target_hz // 20)
    assert 20 * np.log10(np.abs(out[inner]).max()) < -70


@given(
    sizes=st.lists(st.integers(0, 3000), max_size=12),
    pair=st.sampled_from(
        [(48000, 22050), (22050, 48000), (8000, 22050), (44100, 48000), (22050, 22050)]
    ),
)
@settings(max_examples=40)
def test_chunking_does_not_change_an_interpolated_stream_by_a_bit(
    sizes: list[int], pair: tuple[int, int]
) -> None:
    signal = np.random.default_rng(0).normal(0, 0.1, (9000, 2)).astype(np.float32)
    cut, whole = (run(Interpolator(*pair, channels=2), signal, each) for each in (sizes, None))
    np.testing.assert_array_equal(cut, whole)


@pytest.mark.parametrize(
    ("source_hz", "target_hz"), [pair for pair in PAIRS_HZ if pair[0] != pair[1]]
)
def test_the_delay_that_an_interpolator_states_is_the_longest_that_a_sample_waits(
    source_hz: int, target_hz: int
) -> None:
    interpolator, waits = Interpolator(source_hz, target_hz), []
    block = source_hz // 1000
    given_samples = 0
    for number in range(1, 200):
        given_samples += len(interpolator.feed(np.zeros((block, 1), np.float32)))
        waits.append(number * block / source_hz - given_samples / target_hz)
    most_seconds = interpolator.delay_seconds + 1.0 / target_hz + (1.0 + block) / source_hz
    assert max(waits) <= most_seconds
    assert min(waits[20:]) >= interpolator.delay_seconds - 0.003
    assert interpolator.delay_seconds < 0.006


def test_equal_rates_pass_untouched_and_without_delay() -> None:
    block = sine(44100, 300.0)
    for kind in (Interpolator, Resampler):
        np.testing.assert_array_equal(kind(44100, 44100).feed(block), block)
    assert Interpolator(44100, 44100).delay_seconds == 0.0


def test_an_interpolator_that_has_ended_begins_anew() -> None:
    signal, interpolator = sine(48000, 440.0), Interpolator(48000, 22050)
    first = run(interpolator, signal)
    np.testing.assert_array_equal(run(interpolator, signal), first)


@pytest.mark.parametrize("ppm", [-500.0, -37.0, 0.0, 123.0, 500.0])
@pytest.mark.parametrize("hz", [200.0, 5000.0, 15000.0])
def test_drift_plays_a_tone_faster_by_so_many_ppm(ppm: float, hz: float) -> None:
    rate_hz = 48000
    drift = Drift()
    drift.ppm = ppm
    signal = sine(rate_hz, hz, seconds=4.0)
    out = np.concatenate([drift.feed(signal[at : at + 480]) for at in range(0, len(signal), 480)])
    assert len(out) == pytest.approx(len(signal) / (1 + ppm * 1e-6) - drift.delay_samples, abs=2)
    expected = np.sin(2 * np.pi * hz * np.arange(len(out)) * (1 + ppm * 1e-6) / rate_hz)
    assert np.abs(out[100:, 0] - expected[100:]).max() < 5e-4


def test_drift_leaves_a_stream_untouched_while_it_is_zero() -> None:
    signal = np.random.default_rng(0).normal(0, 0.1, (5000, 2)).astype(np.float32)
    drift = Drift(channels=2)
    out = np.concatenate([drift.feed(signal[:123]), drift.feed(signal[123:]), drift.flush()])
    np.testing.assert_array_equal(out, signal)


def test_drift_stops_at_500_ppm() -> None:
    drift, wild = Drift(), Drift()
    drift.ppm, wild.ppm = MOST_DRIFT_PPM, 1e6
    signal = sine(48000, 440.0)
    np.testing.assert_array_equal(wild.feed(signal), drift.feed(signal))


@given(
    ppms=st.lists(st.floats(-500.0, 500.0), min_size=1, max_size=20),
    sizes=st.lists(st.integers(0, 900), min_size=20, max_size=20),
)
@settings(max_examples=30)
def test_a_changing_drift_loses_no_sample_and_makes_no_jump(
    ppms: list[float], sizes: list[int]
) -> None:
    """Not "to the bit": a change of ppm counts from its own block on."""
    signal = sine(48000, 100.0, seconds=1.0)
    drift, out, at = Drift(), [], 0
    for number, size in enumerate(sizes):
        drift.ppm = ppms[number % len(ppms)]
        out.append(drift.feed(signal[at : at + size]))
        at += size
    played = np.concatenate(out)[:, 0]
    assert len(played) == pytest.approx(max(0, at - drift.delay_samples), abs=2 + at * 500e-6)
    if len(played) > 40:
        assert np.abs(np.diff(played[20:])).max() < 2 * np.pi * 100 / 48000 * 1.01
