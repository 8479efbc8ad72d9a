"""Gains of bins, and their contrast."""

import dataclasses

import numpy as np
import pytest
from networks import MadeUpNetwork

from rtden import Denoiser, Settings
from rtden.contrast import BinGains
from rtden.model import load_spec
from rtden.types import Array

SPEC = dataclasses.replace(load_spec(), contrast=6.0)
BINS, BANDS = SPEC.n_fft // 2 + 1, SPEC.n_mels


def raised(gains: Array, frames_power: Array, floor: float = 0.0) -> Array:
    out: Array = BinGains(SPEC, len(gains))(gains, frames_power, floor).real.copy()
    return out


def even(gain: float, frames: int = 1) -> Array:
    return np.full((frames, BANDS), gain, np.float32)


def harmonics(frames: int = 1) -> Array:
    """Return the power of a voice with a pitch of 16 bins, 20 dB above the noise between."""
    frames_power = np.full((frames, BINS), 0.01, np.float32)
    frames_power[:, ::16] = 1.0
    return frames_power


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_cells_that_are_certain_stay(gain: float) -> None:
    assert (raised(even(gain), harmonics()) == gain).all()


def test_harmonics_rise_and_what_lies_between_them_falls() -> None:
    change = raised(even(0.5), harmonics())[0] - 0.5
    between = np.arange(BINS) % 16 == 8
    assert (change[16:-1:16] > 0.1).all()
    assert (change[between] < -0.1).all()
    # c (g (1 - g))^2 at most, where c is 6 and g one half.
    assert np.abs(change).max() <= 6 / 16


def test_without_contrast_bins_lie_in_a_line_between_the_bands() -> None:
    plain = dataclasses.replace(SPEC, contrast=0.0)
    slope = np.linspace(0.0, 1.0, BANDS, dtype=np.float32)[None]
    gains = BinGains(plain, 1)(slope, harmonics(), 0.0).real
    assert (np.diff(gains[0]) >= 0).all()
    assert gains[0, 0] == 0.0
    assert gains[0, -1] == 1.0


def test_silence_has_no_contrast_to_raise_and_stays_finite() -> None:
    assert np.isfinite(raised(even(0.5), np.zeros((1, BINS), np.float32))).all()


def test_noise_left_by_a_limit_keeps_its_sound() -> None:
    noise = np.random.default_rng(1).random((4, BINS)).astype(np.float32) ** 2
    np.testing.assert_array_equal(raised(even(0.4, 4), noise, floor=0.4), np.float32(0.4))


def test_no_gain_leaves_the_range_from_the_floor_to_one() -> None:
    rng = np.random.default_rng(2)
    gains = raised(np.maximum(rng.random((9, BANDS)), 0.4).astype(np.float32), harmonics(9), 0.4)
    assert gains.min() >= np.float32(0.4)
    assert gains.max() <= 1.0


def test_frames_do_not_depend_on_those_beside_them() -> None:
    rng = np.random.default_rng(3)
    gains = rng.random((7, BANDS)).astype(np.float32)
    frames_power = rng.random((7, BINS)).astype(np.float32) ** 8
    together = raised(gains, frames_power)
    alone = [raised(gains[n : n + 1], frames_power[n : n + 1]) for n in range(7)]
    assert (together == np.concatenate(alone)).all()


def test_a_denoiser_leaves_less_noise_between_a_voices_harmonics() -> None:
    """Of masks that are one half everywhere."""
    at = np.arange(6 * SPEC.rate_hz // 2)
    hum = np.sin(2 * np.pi * np.outer(np.arange(1, 20) * 16 / SPEC.n_fft, at)).sum(0)
    noise = np.random.default_rng(4).standard_normal(len(at))
    signal = (0.01 * hum + 0.003 * noise).astype(np.float32)
    spectra = []
    for contrast in (0.0, 3.0):
        spec = dataclasses.replace(SPEC, contrast=contrast)
        network = MadeUpNetwork(spec, lambda frames: np.full(len(frames), 0.5))
        out = Denoiser(network=network).feed(signal)[SPEC.rate_hz :][: 32 * SPEC.n_fft]
        spectra.append((np.abs(np.fft.rfft(out.reshape(32, -1), axis=1)) ** 2).mean(0))
    change_db = 10 * np.log10(spectra[1] / spectra[0])
    lines, bins = np.arange(16, 300, 16), np.arange(24, 300, 16)
    assert (change_db[lines] > 1.0).all()
    assert (change_db[bins] < -1.0).all()


@pytest.mark.parametrize("iterations", [0, 1])
def test_each_frame_of_a_block_takes_its_own_power(iterations: int) -> None:
    signal = np.random.default_rng(5).standard_normal(40 * SPEC.hop).astype(np.float32) * 0.1
    signal *= np.linspace(0.0, 1.0, len(signal), dtype=np.float32)
    signal[15 * SPEC.hop : 25 * SPEC.hop] = 0.0  # some steps of a block are silent
    made = []
    for batch_steps in (1, 8):
        network = MadeUpNetwork(SPEC, lambda frames: np.full(len(frames), 0.5))
        settings = Settings(iterations=iterations)
        denoiser = Denoiser(settings=settings, network=network, batch_steps=batch_steps)
        made.append(np.concatenate([denoiser.feed(signal), denoiser.flush()]))
    assert (made[0] == made[1]).all()
