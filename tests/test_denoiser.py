from __future__ import annotations

import gc
import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_MODELS
from hypothesis import given, settings
from hypothesis import strategies as st

from rtden import Denoiser, Settings, list_models
from rtden.bench import resident_mb
from rtden.errors import InputError
from rtden.sidecar import find_model

MODELS = [*SMALL_MODELS, *(find_model(name) for name in list_models())]
ADVANCES = (1, 2, 4, 8)
UNITY = {"limit_db": 0.0}
by_model = pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
by_advance = pytest.mark.parametrize("advance", ADVANCES)


def whole(denoiser: Denoiser, signal: np.ndarray) -> np.ndarray:
    return np.concatenate([denoiser.feed(signal), denoiser.flush()])


def in_chunks(denoiser: Denoiser, signal: np.ndarray, chunk: int) -> np.ndarray:
    return np.concatenate([*(denoiser.feed(signal[at : at + chunk]) for at in range(0, len(signal), chunk)), denoiser.flush()])


@by_model
@by_advance
@pytest.mark.parametrize("chunk", [17, 509, 4000, 8000, 44100])
def test_any_chunk_size_gives_the_same_samples_to_the_bit(model: Path, advance: int, chunk: int, noise: np.ndarray) -> None:
    denoiser = Denoiser(model, Settings(advance=advance))
    assert np.array_equal(in_chunks(denoiser, noise, chunk), whole(denoiser, noise))


def test_sample_by_sample_too(noise: np.ndarray) -> None:
    denoiser = Denoiser()
    assert np.array_equal(in_chunks(denoiser, noise[:8001], 1), whole(denoiser, noise[:8001]))


SHARED = {advance: Denoiser(SMALL_MODELS[0], Settings(advance=advance, strength=0.7)) for advance in ADVANCES}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ADVANCES), st.lists(st.integers(0, 3000), max_size=20), st.integers(0, 2**32 - 1))
def test_any_chunking_gives_the_same_samples_to_the_bit(advance: int, chunks: list[int], seed: int) -> None:
    signal = np.random.default_rng(seed).normal(0.0, 0.2, sum(chunks)).astype(np.float32)
    denoiser = SHARED[advance]
    ends = list(itertools.accumulate(chunks, initial=0))
    parts = [denoiser.feed(signal[start:end]) for start, end in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate([*parts, denoiser.flush()]), whole(denoiser, signal))


@by_model
@by_advance
@pytest.mark.parametrize("samples", [0, 1, 511, 512, 7999, 8000, 8001, 30000])
def test_every_sample_comes_back_once(model: Path, advance: int, samples: int, noise: np.ndarray) -> None:
    out = whole(Denoiser(model, Settings(advance=advance)), noise[:samples])
    assert out.shape == (samples,)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


@by_model
@by_advance
def test_gain_one_gives_the_input_back_to_minus_100_db(model: Path, advance: int, noise: np.ndarray) -> None:
    denoiser = Denoiser(model, Settings(advance=advance, phase="warm", **UNITY))
    error = whole(denoiser, noise) - noise
    assert 10 * np.log10(np.mean(error**2) / np.mean(noise**2)) < -100


@by_model
@by_advance
def test_latency_is_proved_by_an_impulse(model: Path, advance: int) -> None:
    """A player that takes a sample before each one fed, from `latency` zeros on, hears the impulse exactly `latency` later."""
    denoiser = Denoiser(model, Settings(advance=advance, phase="warm", **UNITY))
    impulse = np.zeros(6 * denoiser.step_samples + 2 * denoiser.spec.n_fft, np.float32)
    at = denoiser.spec.n_fft + 77
    impulse[at] = 1.0
    waiting = list(np.zeros(denoiser.latency.samples, np.float32))
    least, played = len(waiting), []
    for sample in impulse:
        least = min(least, len(waiting))
        played.append(waiting.pop(0))
        waiting.extend(denoiser.feed(sample[None]))
    assert least == 1  # never dry, and one sample less would have been too few
    assert int(np.argmax(np.abs(played))) == at + denoiser.latency.samples
    assert max(played) == pytest.approx(1.0, abs=1e-4)
    assert denoiser.latency.seconds == denoiser.latency.samples / denoiser.rate_hz


def test_latency_of_the_shipped_geometry() -> None:
    assert [Denoiser(settings=Settings(advance=advance)).latency.samples for advance in ADVANCES] == [1024, 1536, 2560, 4608]


@by_advance
def test_strength_zero_is_the_input_exactly(advance: int, noise: np.ndarray) -> None:
    assert np.array_equal(whole(Denoiser(settings=Settings(advance=advance, strength=0.0)), noise), noise)


def test_strength_mixes_in_time_with_the_input(noise: np.ndarray) -> None:
    wet = whole(Denoiser(), noise)
    half = whole(Denoiser(settings=Settings(strength=0.5)), noise)
    np.testing.assert_allclose(half, 0.5 * wet + 0.5 * noise, atol=1e-6)


def test_limit_bounds_what_is_taken_away(noise: np.ndarray) -> None:
    def level(limit_db: float) -> float:
        return float(np.mean(whole(Denoiser(settings=Settings(limit_db=limit_db, iterations=0)), noise)[8000:] ** 2))

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


@by_model
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gives_finite_output_and_is_forgotten(model: Path, kind: str, noise: np.ndarray) -> None:
    """1.5 s after it (a second for the floor, the window's 16 columns), the output is what it would have been after silence."""
    tail = np.tile(noise, 2)

    def after(start: np.ndarray) -> np.ndarray:
        return whole(Denoiser(model, Settings(iterations=0, phase="warm")), np.concatenate([start, tail]))

    with np.errstate(all="ignore"):
        out = after(BAD[kind])
    assert np.isfinite(out).all()
    rate_hz = Denoiser(model).rate_hz
    settled = len(BAD[kind]) + 3 * rate_hz // 2
    if "above_mean" not in Denoiser(model).spec.channels:  # the slow mean, by its nature, forgets gradually
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


def test_an_advance_beyond_the_networks_window_is_refused(tmp_path: Path) -> None:
    import dataclasses
    import shutil

    from rtden.sidecar import load_spec, save_spec

    source = next(path for path in SMALL_MODELS if path.stem == "int8_lookahead")
    copy = tmp_path / source.name
    shutil.copy(source, copy)
    save_spec(dataclasses.replace(load_spec(source), lookahead=10), copy)
    with pytest.raises(InputError, match="smaller advance"):
        Denoiser(copy, Settings(advance=8))


def test_memory_does_not_grow_over_ten_thousand_hops(noise: np.ndarray) -> None:
    denoiser = Denoiser()
    block = noise[: denoiser.step_samples]
    for _ in range(500):
        denoiser.feed(block)
    gc.collect()
    before = resident_mb()
    for _ in range(10000):
        denoiser.feed(block)
    gc.collect()
    assert resident_mb() - before < 3.0


def test_speech_comes_out_cleaner_than_it_went_in(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    from rtden.metrics import si_sdr_db

    clean, noisy = recordings
    assert si_sdr_db(clean, whole(Denoiser(), noisy)) > si_sdr_db(clean, noisy) + 3.0


class Untiring(Denoiser):
    """A denoiser that asks its network at every step."""

    def _is_silent(self) -> bool:
        return False


def with_a_pause(speech: np.ndarray, pause_db: float, pause_samples: int = 44100) -> np.ndarray:
    """Return speech, two seconds whose peaks stay below `pause_db`, and speech."""
    pause = np.random.default_rng(2).uniform(-1.0, 1.0, pause_samples).astype(np.float32) * np.float32(10.0 ** (pause_db / 20.0))
    return np.concatenate([speech[:20000], pause, speech[20000:40000]])


@by_model
@by_advance
@pytest.mark.parametrize("phase", ["warm", "random"])
def test_digital_silence_without_the_network_changes_nothing_to_the_bit(
    model: Path, advance: int, phase: str, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    signal = with_a_pause(recordings[1], -np.inf)
    options = Settings(advance=advance, phase=phase)
    assert np.array_equal(whole(Denoiser(model, options), signal), whole(Untiring(model, options), signal))


@by_advance
@pytest.mark.parametrize("limit_db", [0.0, 12.0, np.inf])
@pytest.mark.parametrize("pause_db", [-80.1, -100.0])
def test_silence_below_80_db_without_the_network_changes_no_sample_by_more_than_that(
    advance: int, limit_db: float, pause_db: float, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    signal = with_a_pause(recordings[1], pause_db)
    options = Settings(advance=advance, limit_db=limit_db)
    difference = whole(Denoiser(settings=options), signal) - whole(Untiring(settings=options), signal)
    assert 0.0 < np.abs(difference).max() < 1e-4  # 0 would mean that nothing had been left out


@by_advance
def test_the_network_rests_in_silence_and_is_back_at_the_first_step_that_is_not(advance: int, noise: np.ndarray) -> None:
    denoiser = Denoiser(settings=Settings(advance=advance))
    infer, calls = denoiser._network.infer, []
    denoiser._network.infer = lambda columns: calls.append(1) or infer(columns)
    step, sound = denoiser.step_samples, np.tile(noise, 2)

    def calls_for(signal: np.ndarray) -> int:
        calls.clear()
        denoiser.feed(signal)
        return len(calls)

    assert calls_for(sound[: 10 * step]) >= 9
    calls_for(np.zeros(16384, np.float32))  # 0.74 s: the 16 columns, the inverter's frames and two steps
    assert calls_for(np.full(20 * step, 0.99e-4, np.float32)) == 0
    assert calls_for(np.full(step, 1.01e-4, np.float32)) == 1
    assert calls_for(sound[: 10 * step]) == 10


@by_advance
@pytest.mark.parametrize("chunk", [17, 509, 8000])
def test_any_chunk_size_gives_the_same_samples_around_a_pause(advance: int, chunk: int, recordings: tuple[np.ndarray, np.ndarray]) -> None:
    signal = with_a_pause(recordings[1], -85.0)
    denoiser = Denoiser(settings=Settings(advance=advance))
    assert np.array_equal(in_chunks(denoiser, signal, chunk), whole(denoiser, signal))


def test_a_recording_that_is_quiet_throughout_is_not_muted(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    speech = recordings[0][:66150] * np.float32(0.99e-4 / np.abs(recordings[0]).max())
    out = whole(Denoiser(), speech)
    assert np.mean(out[30000:] ** 2) > 0.01 * np.mean(speech[30000:] ** 2)
