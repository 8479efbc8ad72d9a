"""The comb filter of recordings, on synthetic voices: sums of harmonics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rtden import StreamDenoiser, denoise
from rtden.harmonics import LONGEST, N_FFT, RATE_HZ, SHORTEST, HarmonicFilter, _Comb, _pitch
from rtden.settings import Settings


def voice(pitch_hz: float, seconds: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    numbers = np.arange(1, int(3000 / pitch_hz))
    waves = np.sin(2 * np.pi * pitch_hz * numbers[:, None] * times) / numbers[:, None]
    return np.asarray(0.1 * waves.sum(axis=0), np.float32)


def noise(samples: int, amplitude: float) -> np.ndarray:
    values = np.random.default_rng(3).standard_normal(samples)
    return (amplitude * values).astype(np.float32)


def filtered(
    output: np.ndarray, given: np.ndarray, chunk: int = 10**9, **options: Any
) -> np.ndarray:
    stream = StreamDenoiser(**{"rate_hz": RATE_HZ, **options})
    harmonics, parts = HarmonicFilter(stream), []
    for at in range(0, len(output), chunk):
        harmonics.hold(given[at : at + chunk, None])
        parts.append(harmonics.feed(output[at : at + chunk, None]))
    return np.concatenate([*parts, harmonics.flush()])[:, 0]


@pytest.mark.parametrize("pitch_hz", [62.0, 101.3, 180.0, 250.0, 395.0])
def test_the_pitch_of_a_voice_is_found(pitch_hz: float) -> None:
    signal = voice(pitch_hz, 0.2)
    starts = np.arange(3)[:, None] * 100 + LONGEST
    frames = signal[starts + np.arange(N_FFT)]
    periods, correlation = _pitch(frames, signal[starts + np.arange(-LONGEST, N_FFT)])
    assert periods.min() >= SHORTEST - 1
    assert periods.max() <= LONGEST + 1
    numbers = np.rint(periods * pitch_hz / RATE_HZ)  # two periods or more repeat as well
    assert numbers.min() >= 1
    np.testing.assert_allclose(RATE_HZ / periods * numbers, pitch_hz, rtol=0.01)
    assert correlation.min() > 0.9


@pytest.mark.parametrize("pitch_hz", [75.0, 101.3])  # two periods of these are too long
def test_noise_between_harmonics_is_lowered_and_the_voice_stays(pitch_hz: float) -> None:
    speech = voice(pitch_hz)
    rest = noise(len(speech), 0.01)  # what a denoiser left
    out = filtered(speech + rest, speech + 4.0 * rest)
    inside = slice(RATE_HZ // 4, -RATE_HZ // 4)
    spectra = [np.fft.rfft(s[inside] * np.hanning(len(s[inside]))) for s in (rest, out)]
    bins_hz = np.fft.rfftfreq(len(speech[inside]), 1.0 / RATE_HZ)
    distance = np.abs(bins_hz / pitch_hz - np.rint(bins_hz / pitch_hz))
    between = (distance > 0.3) & (bins_hz > 150.0) & (bins_hz < 950.0)
    left = [np.linalg.norm(spectrum[between]) for spectrum in spectra]
    assert left[1] < 0.75 * left[0]
    error = out[inside] - speech[inside]
    assert np.mean(error**2) < 0.9 * np.mean(rest[inside] ** 2)


def test_sound_from_which_nothing_was_taken_stays_to_the_bit() -> None:
    signal = voice(120.0) + noise(2 * RATE_HZ, 0.01)
    assert not denoise(np.zeros(44100, np.float32), 22050).any()
    np.testing.assert_array_equal(filtered(signal, signal), signal)
    np.testing.assert_array_equal(filtered(0.97 * signal, signal), np.float32(0.97) * signal)


@pytest.mark.parametrize("limit", [0.0, 0.25, 1.0])
def test_no_cell_becomes_softer_than_the_limit_allows(limit: float) -> None:
    rng = np.random.default_rng(5)
    real, imaginary = rng.standard_normal((2, 4, 7, N_FFT // 2 + 1))
    ours, earlier, later, more = (real + 1j * imaginary).astype(np.complex64)
    heard = ours + 2.0 * more  # alike enough, and with much noise
    copies = [ours + 0.5 * earlier, ours + 0.5 * later]
    combed = np.abs(_Comb()._combed(ours, heard, copies, limit))
    least = np.minimum(np.abs(ours), limit * np.abs(heard))
    assert (combed >= 0.999 * least).all()
    free = np.abs(_Comb()._combed(ours, heard, copies, 0.0))
    assert ((free < 0.9 * least).any()) == (limit > 0.0)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 48000])
def test_any_blocks_give_the_same_samples_to_the_bit(rate_hz: int) -> None:
    speech = voice(130.0, rate_hz=rate_hz)
    rest = noise(len(speech), 0.02)
    made = [
        filtered(speech + rest, speech + 3.0 * rest, chunk, rate_hz=rate_hz)
        for chunk in (len(speech), 333, 7001)
    ]
    assert len(made[0]) == len(speech)
    assert np.abs(made[0] - speech - rest).max() > 0.005
    for other in made[1:]:
        np.testing.assert_array_equal(other, made[0])


def test_strength_mixes_the_input_in() -> None:
    noisy = voice(110.0, rate_hz=22050) + noise(44100, 0.01)
    half, plain = (denoise(noisy, 22050, settings=Settings(strength=s)) for s in (0.5, 1.0))
    difference = half - (plain + noisy) / 2  # rounding may change the pitch of single frames
    assert np.abs(difference).mean() < 1e-6
