from __future__ import annotations

import gc
import itertools
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODELS, SMALL_MODELS
from properties import given, settings, st
from streams import HOPS_PER_STEP, OVERLAPS, by_model, by_overlap, in_chunks, sampled, whole

from rtden import Denoiser, Settings
from rtden.denoiser import settings_for_latency
from rtden.errors import InputError, SettingsError
from rtden.measure.cost import resident_mb
from rtden.measure.metrics import si_sdr_db
from rtden.model import find_model, load_spec


@settings(max_examples=60)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(HOPS_PER_STEP),
    st.sampled_from(OVERLAPS),
    st.lists(st.integers(0, 3000) | st.sampled_from([1, 255, 256, 511, 512, 8000]), max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_any_chunking_gives_the_same_samples_to_the_bit(
    model: Path, hops_per_step: int, overlap: int | None, chunks: list[int], seed: int
) -> None:
    """Of the sound, and of the gain for the high band; in sound, hush and digital silence."""
    signal = np.random.default_rng(seed).normal(0.0, 0.2, sum(chunks)).astype(np.float32)
    signal[len(signal) // 3 : len(signal) // 2] *= np.float32(1e-5)
    signal[len(signal) // 2 : -5000] = 0.0
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.7)
    denoiser = Denoiser(model, options)
    parts, gains = [], []
    for start, end in itertools.pairwise(itertools.accumulate(chunks, initial=0)):
        parts.append(denoiser.feed(signal[start:end]))
        gains.append(denoiser.high_band.gains)
    parts.append(denoiser.flush())
    gains.append(denoiser.high_band.gains)
    assert [len(part) for part in parts] == [len(gain) for gain in gains]
    assert sum(map(len, parts)) == len(signal)
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in parts)
    once = denoiser.feed(signal), denoiser.high_band.gains
    rest = denoiser.flush(), denoiser.high_band.gains
    assert np.array_equal(np.concatenate(parts), np.concatenate([once[0], rest[0]]))
    assert np.array_equal(np.concatenate(gains), np.concatenate([once[1], rest[1]]))


def test_sample_by_sample_too(noise: np.ndarray) -> None:
    denoiser = Denoiser()
    assert np.array_equal(in_chunks(denoiser, noise[:8001], 1), whole(denoiser, noise[:8001]))


@sampled
@pytest.mark.parametrize("iterations", [0, 2])
def test_gain_one_gives_the_input_back_to_minus_100_db(
    model: Path, hops_per_step: int, overlap: int | None, iterations: int, noise: np.ndarray
) -> None:
    sizes: dict[str, Any] = {"hops_per_step": hops_per_step, "overlap_samples": overlap}
    options = Settings(**sizes, iterations=iterations, phase="warm", limit_db=0.0)
    error = whole(Denoiser(model, options), noise) - noise
    assert 10 * np.log10(np.mean(error**2) / np.mean(noise**2)) < -100


@sampled
def test_no_sound_is_heard_later_than_the_latency(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    """The output up to a sample does not change with the input from `latency` behind it on."""
    at = 20001
    other = noise.copy()
    other[at:] = noise[::-1][at:]
    denoiser = Denoiser(model, Settings(hops_per_step=hops_per_step, overlap_samples=overlap))
    before = at - denoiser.latency.samples
    assert np.array_equal(whole(denoiser, noise)[:before], whole(denoiser, other)[:before])


def test_the_whole_overlap_is_the_same_by_its_number(noise: np.ndarray) -> None:
    by_number = Denoiser(settings=Settings(overlap_samples=640))
    assert np.array_equal(whole(by_number, noise), whole(Denoiser(), noise))


def test_without_iterations_the_default_model_gives_the_same_samples_at_any_advance_to_the_bit(
    noise: np.ndarray,
) -> None:
    assert load_spec(find_model()).iterations == 0
    expected = whole(Denoiser(), noise)
    for hops_per_step in HOPS_PER_STEP[1:]:
        denoiser = Denoiser(settings=Settings(hops_per_step=hops_per_step))
        assert np.array_equal(whole(denoiser, noise), expected)


def test_a_latency_of_30_ms_costs_little_of_the_quality(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = recordings
    chosen, latency = settings_for_latency(30.0)
    assert latency.seconds <= 0.030
    full, low = whole(Denoiser(), noisy), whole(Denoiser(settings=chosen), noisy)
    assert si_sdr_db(clean, full) > si_sdr_db(clean, noisy) + 3.0
    assert si_sdr_db(clean, low) > si_sdr_db(clean, noisy) + 5.3
    assert si_sdr_db(clean, low) > si_sdr_db(clean, full) - 0.5  # which has two frames a column


@sampled
def test_strength_zero_is_the_input_exactly(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.0)
    assert np.array_equal(whole(Denoiser(model, options), noise), noise)


@by_overlap
def test_strength_mixes_in_time_with_the_input(overlap: int | None, noise: np.ndarray) -> None:
    wet = whole(Denoiser(settings=Settings(overlap_samples=overlap)), noise)
    half = whole(Denoiser(settings=Settings(overlap_samples=overlap, strength=0.5)), noise)
    np.testing.assert_allclose(half, 0.5 * wet + 0.5 * noise, atol=1e-6)


@sampled
def test_strength_glides_from_the_denoised_to_the_dry_within_a_step(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    chosen = Settings(hops_per_step=hops_per_step, overlap_samples=overlap)
    denoiser = Denoiser(model, chosen)
    wet, at = whole(denoiser, noise), 15000
    parts = [denoiser.feed(noise[:at])]
    denoiser.strength = 0.0
    parts += [denoiser.feed(noise[at:]), denoiser.flush()]
    start, step = len(parts[0]), denoiser.step_samples
    share = np.clip(1.0 - np.arange(1, len(noise) - start + 1) / step, 0.0, 1.0)
    out = np.concatenate(parts)
    assert np.array_equal(out[:start], wet[:start])
    np.testing.assert_allclose(
        out[start:], share * wet[start:] + (1.0 - share) * noise[start:], atol=1e-6
    )
    assert np.array_equal(out[start + step :], noise[start + step :])


def test_a_change_of_strength_makes_no_jump() -> None:
    """A tone that the denoiser takes away fades: nowhere is its step from sample to sample longer
    than its own.
    """
    tone = (0.3 * np.sin(2 * np.pi * 500.0 * np.arange(60000) / 22050)).astype(np.float32)
    denoiser, parts = Denoiser(), []
    for at in range(0, len(tone), 441):
        if at % 8820 == 0:
            denoiser.strength = 1.0 - denoiser.strength
        parts.append(denoiser.feed(tone[at : at + 441]))
    out = np.concatenate(parts)
    assert np.abs(out - tone[: len(out)]).max() > 0.1  # something changed
    assert np.abs(np.diff(out)).max() <= np.abs(np.diff(tone)).max() * 1.05


@pytest.mark.parametrize(
    ("hops_per_step", "overlap", "chunk"),
    [(1, None, 1), (2, 128, 100), (4, None, 4097), (8, 128, 100)],
)
def test_a_change_at_the_same_sample_gives_the_same_samples_however_the_stream_is_cut(
    hops_per_step: int, overlap: int | None, chunk: int, noise: np.ndarray
) -> None:
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap)
    denoiser = Denoiser(SMALL_MODELS[0], options)
    changes = {0: (1.0, math.inf), 6000: (0.2, math.inf), 9001: (0.9, 6.0)}
    changes |= {9002: (0.3, 10.0), 20000: (1.0, 0.0)}

    def changed(longest: int) -> np.ndarray:
        parts = []
        for start, end in itertools.pairwise([*changes, len(noise)]):
            denoiser.strength, denoiser.limit_db = changes[start]
            starts = range(start, end, longest)
            parts += [denoiser.feed(noise[at : min(at + longest, end)]) for at in starts]
        return np.concatenate([*parts, denoiser.flush()])

    assert np.array_equal(changed(chunk), changed(len(noise)))


def test_reset_keeps_strength_and_limit_and_a_stream_begins_with_them(noise: np.ndarray) -> None:
    denoiser = Denoiser()
    denoiser.feed(noise)
    denoiser.strength, denoiser.limit_db = 0.25, 10.0
    denoiser.reset()
    assert (denoiser.strength, denoiser.limit_db) == (0.25, 10.0)
    new = Denoiser(settings=Settings(strength=0.25, limit_db=10.0))
    assert np.array_equal(whole(denoiser, noise), whole(new, noise))
    denoiser.strength = 0.0
    assert np.array_equal(whole(denoiser, noise), noise)
    assert denoiser.settings == Settings()


def test_a_limit_set_while_running_holds_for_what_follows(noise: np.ndarray) -> None:
    denoiser = Denoiser(settings=Settings(iterations=0))  # an iteration keeps some of the past
    first = denoiser.feed(noise[:15000])
    denoiser.limit_db = 0.0
    out = np.concatenate([first, denoiser.feed(noise[15000:]), denoiser.flush()])
    settled = len(first) + denoiser.spec.n_fft
    np.testing.assert_allclose(out[settled:], noise[settled:], atol=1e-5)
    assert np.mean(first[8000:] ** 2) < 0.1 * np.mean(noise**2)


def test_a_strength_or_limit_outside_its_range_is_refused_and_the_old_one_kept() -> None:
    denoiser = Denoiser(settings=Settings(strength=0.5, limit_db=20.0))
    for name, wrong in (("strength", (1.01, -0.1, math.nan)), ("limit_db", (-1.0, math.nan))):
        for value in wrong:
            with pytest.raises(SettingsError, match=name):
                setattr(denoiser, name, value)
    assert (denoiser.strength, denoiser.limit_db) == (0.5, 20.0)


def test_a_step_leaves_no_memory_behind(noise: np.ndarray) -> None:
    """Beside what is returned; what a step needs for a while is given back within it."""
    denoiser = Denoiser(settings=Settings(strength=0.5))
    block = noise[: denoiser.step_samples]
    for _ in range(50):
        denoiser.feed(block)
    tracemalloc.start()
    try:
        denoiser.feed(block)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            denoiser.feed(block)
        assert tracemalloc.get_traced_memory()[0] - before < 2048
    finally:
        tracemalloc.stop()


def test_limit_bounds_what_is_taken_away(noise: np.ndarray) -> None:
    def level(limit_db: float) -> float:
        out = whole(Denoiser(settings=Settings(limit_db=limit_db, iterations=0)), noise)
        return float(np.mean(out[8000:] ** 2))

    unlimited, six, none = level(np.inf), level(6.0), level(0.0)
    assert unlimited < six < none
    assert 10 * np.log10(none / six) <= 6.1


@by_model
def test_reset_forgets_everything(model: Path, noise: np.ndarray) -> None:
    denoiser = Denoiser(model)
    first = whole(denoiser, noise)
    denoiser.feed(noise[::-1][:12345])
    denoiser.reset()
    assert np.array_equal(whole(denoiser, noise), first)


@by_model
def test_silence_stays_silence(model: Path) -> None:
    assert not whole(Denoiser(model), np.zeros(20000, np.float32)).any()


BAD = {
    "not a number": np.full(5000, np.nan),
    "infinity": np.full(5000, np.inf),
    "minus infinity": np.full(5000, -np.inf),
    "beyond float32": np.full(5000, 1e300),
    "denormal": np.full(5000, 1e-42),
    "direct current": np.ones(5000),
    "clipped": np.sign(np.sin(np.arange(5000) / 7.0)),
    "silence": np.zeros(5000),
}


@pytest.mark.parametrize(
    ("model", "kind"), [(MODELS[i % len(MODELS)], k) for i, k in enumerate(BAD)]
)
def test_bad_input_gives_finite_output_and_is_forgotten(
    model: Path, kind: str, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.5 s after it (a second for the floor, the window's 16 columns), the output is what it
    would have been after silence.
    """
    tail = np.tile(noise, 2)

    def after(start: np.ndarray) -> np.ndarray:
        denoiser = Denoiser(model, Settings(iterations=0, phase="warm"))
        return whole(denoiser, np.concatenate([start, tail]))

    with np.errstate(all="ignore"):
        out = after(BAD[kind])
    assert np.isfinite(out).all()
    rate_hz = Denoiser(model).rate_hz
    settled = len(BAD[kind]) + 3 * rate_hz // 2
    # The slow mean, by its nature, forgets gradually.
    if "above_mean" not in Denoiser(model).spec.channels:
        expected = after(np.zeros(5000))[settled:]
        # -30 dB: a rounding error in the floor may tip a step of 1/256 of an int8 network.
        assert np.mean((out[settled:] - expected) ** 2) < 1e-3 * np.mean(expected**2)


def test_single_bad_samples_do_not_spread(noise: np.ndarray) -> None:
    spoiled = noise.copy()
    spoiled[10000] = np.nan
    mended = noise.copy()
    mended[10000] = 0.0
    assert np.array_equal(whole(Denoiser(), spoiled), whole(Denoiser(), mended))


def test_input_of_the_wrong_kind_is_refused() -> None:
    denoiser = Denoiser()
    with pytest.raises(InputError, match="mono"):
        denoiser.feed(np.zeros((100, 2), np.float32))
    with pytest.raises(InputError, match="floating-point"):
        denoiser.feed(np.zeros(100, np.int16))


def test_memory_does_not_grow_over_five_thousand_hops(
    noise: np.ndarray, carried_model: Path
) -> None:
    denoiser = Denoiser(carried_model)
    block = noise[: denoiser.step_samples]
    for _ in range(500):
        denoiser.feed(block)
    gc.collect()
    before = resident_mb()
    for _ in range(5000):
        denoiser.feed(block)
    gc.collect()
    assert resident_mb() - before < 3.0
