"""Steady noise of narrow band, as of telephones and codecs, is noise to the network, too."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from properties import given, settings, st

from rtden import Settings, StreamDenoiser
from rtden.denoiser import settings_for_latency
from rtden.extension import FLOOR_RISE_DB_PER_SECOND, SLOPE_BANDS, FloorExtension
from rtden.mel import band_edges_hz
from rtden.model import load_model

SPEC = load_model().spec
CENTRES_HZ = band_edges_hz(SPEC.n_mels, SPEC.fmin_hz, SPEC.fmax_hz)[1:-1]
FRAMES_PER_SECOND = SPEC.rate_hz / SPEC.hop


def extended(levels_db: np.ndarray, *, cut_at: tuple[int, ...] = ()) -> np.ndarray:
    extension = FloorExtension(CENTRES_HZ, FRAMES_PER_SECOND)
    return np.concatenate([extension.extend(part) for part in np.split(levels_db, cut_at)])


def noise_db(frames: int, edge_hz: float = np.inf, seed: int = 0) -> np.ndarray:
    """Return the log-mels of noise at -40 dB with nothing above an edge."""
    rng = np.random.default_rng(seed)
    levels_db = -40.0 + 10.0 * np.log10(rng.gamma(2.0, 0.5, (frames, SPEC.n_mels)))
    levels_db[:, edge_hz < CENTRES_HZ] -= 60.0
    found: np.ndarray = levels_db.astype(np.float32)
    return found


def hiss(rate_hz: int, colour: str, seconds: float) -> np.ndarray:
    white = np.random.default_rng(1).standard_normal(round(48000 * seconds))
    spectrum, hz = np.fft.rfft(white), np.fft.rfftfreq(len(white), 1 / 48000)
    if colour == "pink":
        spectrum /= np.sqrt(np.maximum(hz, 20.0))
    sound = soxr.resample(np.fft.irfft(spectrum, len(white)), 48000, rate_hz, quality="VHQ")
    found: np.ndarray = (0.01 / sound.std() * sound).astype(np.float32)
    return found


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("rate_hz", [8000, 12000, 16000])
def test_hiss_of_narrow_band_is_taken_off_from_the_second_second_on(
    rate_hz: int, colour: str
) -> None:
    noise = hiss(rate_hz, colour, 4.0)
    live, _ = settings_for_latency(30.0)
    stream = StreamDenoiser(None, live, rate_hz=rate_hz, low_delay=True)
    out = stream.feed(noise[:, None])[2 * rate_hz :, 0]
    assert 20 * np.log10(out.std() / 0.01) < -45.0


@pytest.mark.parametrize("hz", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("rate_hz", "fall_db"), [(8000, 45.0), (16000, 60.0)])
def test_noise_that_comes_and_goes_is_still_taken_off(
    rate_hz: int, fall_db: float, hz: float
) -> None:
    noise = hiss(rate_hz, "white", 8.0)
    noise *= 1.0 + 0.9 * np.sin(2.0 * np.pi * hz * np.arange(len(noise)) / rate_hz)
    live, _ = settings_for_latency(30.0)
    stream = StreamDenoiser(None, live, rate_hz=rate_hz, low_delay=True)
    out = stream.feed(noise[:, None])[2 * rate_hz :, 0]
    assert 20 * np.log10(out.std() / noise.std()) < -fall_db


def test_hiss_is_lowered_by_no_more_than_the_limit() -> None:
    noise = hiss(8000, "pink", 5.0)
    stream = StreamDenoiser(None, Settings(limit_db=20.0), rate_hz=8000)
    out = stream.feed(noise[:, None])[24000:, 0]
    assert 20 * np.log10(out.std() / noise[24000:].std()) == pytest.approx(-20.0, abs=0.3)


@pytest.mark.parametrize("edge_hz", [3700.0, 5500.0, 7300.0])
def test_the_floor_goes_on_above_an_edge(edge_hz: float) -> None:
    levels_db = noise_db(200, edge_hz)
    out, edge = extended(levels_db), int(np.searchsorted(CENTRES_HZ, edge_hz))
    below = slice(None, edge - SLOPE_BANDS)
    np.testing.assert_array_equal(out[:, below], levels_db[:, below])
    assert np.all(out >= levels_db)
    assert -55.0 < np.median(out[50:, edge:]) < -42.0


def test_sound_of_the_whole_band_stays_as_it_is() -> None:
    steady = noise_db(200)
    falling = steady - np.linspace(0.0, 60.0, SPEC.n_mels, dtype=np.float32)
    for levels_db in (steady, falling, steady[:0]):
        np.testing.assert_array_equal(extended(levels_db), levels_db)


def test_of_speech_only_the_floor_below_it_is_shown() -> None:
    levels_db = noise_db(400, 3700.0) - 30.0
    formants_db = 15.0 + 15.0 * np.cos(np.arange(SPEC.n_mels) / 4.0, dtype=np.float32)
    levels_db[np.arange(400) % 34 < 17] += formants_db  # syllables
    shown = extended(levels_db)[100:, CENTRES_HZ > 3700.0]
    rise_db = FLOOR_RISE_DB_PER_SECOND * 34 / FRAMES_PER_SECOND
    assert shown.max() < -70.0 + rise_db + 3.0


def test_noise_whose_bands_rise_and_fall_together_is_followed() -> None:
    levels_db = noise_db(400, 3700.0)
    course_db = 10.0 * np.sin(np.arange(400, dtype=np.float32) / 14.0)
    above = np.searchsorted(CENTRES_HZ, 3700.0)
    shown = extended(levels_db + course_db[:, None])[100:, above + 2 : -4]
    below = (levels_db + course_db[:, None])[100:, above - 40 : above - 4]
    assert np.corrcoef(np.median(shown, axis=1), np.median(below, axis=1))[0, 1] > 0.9


def test_a_lowest_band_without_sound_is_no_silence() -> None:
    levels_db = noise_db(200, 4000.0)
    as_usual = extended(levels_db)
    levels_db[:, 0] = -200.0
    assert np.array_equal(extended(levels_db)[:, 1:], as_usual[:, 1:])
    assert not np.array_equal(as_usual[:, 1:], levels_db[:, 1:])


def test_digital_silence_changes_nothing() -> None:
    silence = np.full((500, SPEC.n_mels), -200.0, np.float32)
    noise = noise_db(100, 3700.0)
    apart = extended(np.concatenate([noise[:60], silence, noise[60:]]))
    np.testing.assert_array_equal(np.delete(apart, np.s_[60:560], axis=0), extended(noise))


@given(cut_at=st.lists(st.integers(0, 120), max_size=6).map(sorted), seed=st.integers(0, 3))
@settings(max_examples=30)
def test_any_division_into_calls_gives_the_same_bits(cut_at: list[int], seed: int) -> None:
    levels_db = noise_db(120, 3700.0 if seed % 2 else 8000.0, seed)
    np.testing.assert_array_equal(extended(levels_db, cut_at=tuple(cut_at)), extended(levels_db))
