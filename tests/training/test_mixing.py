from __future__ import annotations

import numpy as np
import pytest
from conftest import Folders

from rtden.training.corpus import load_clips
from rtden.training.mixing import ROOM_SECONDS, Mixer, Mixture, _room_response, active_rms

RATE_HZ = 22050


@pytest.fixture(scope="module")
def mixer(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Mixer:
    cache = tmp_path_factory.mktemp("cache")
    speech = load_clips(folders.speech, cache, rate_hz=RATE_HZ, group_depth=2, copies=1)
    noise = load_clips(folders.noise, cache, rate_hz=RATE_HZ, group_depth=None)
    return Mixer(speech, noise, rate_hz=RATE_HZ, samples=RATE_HZ)


@pytest.fixture(scope="module")
def drawn(mixer: Mixer) -> list[Mixture]:
    rng = np.random.default_rng(3)
    return [mixer.draw(rng) for _ in range(300)]


def is_clipped(mixture: Mixture) -> bool:
    return np.sum(np.abs(mixture.noisy) == np.abs(mixture.noisy).max()) > 1


def test_the_same_state_gives_the_same_mixture(mixer: Mixer) -> None:
    for number in range(20):
        first, second = (mixer.draw(np.random.default_rng(number)) for _ in range(2))
        assert np.array_equal(first.noisy, second.noisy)
        assert np.array_equal(first.clean, second.clean)
        assert first.bandwidth_hz == second.bandwidth_hz


def test_levels_and_ratios_meet_their_ranges(drawn: list[Mixture]) -> None:
    assert all(m.noisy.dtype == m.clean.dtype == np.float32 for m in drawn)
    assert all(np.isfinite(m.noisy).all() and np.abs(m.noisy).max() <= 1.0 + 1e-6 for m in drawn)
    levels_db = [10 * np.log10(np.mean(m.noisy**2)) for m in drawn if m.noisy.all()]
    assert -45.1 < min(levels_db) < -40
    assert -16 < max(levels_db) <= -9.9
    both = [
        m
        for m in drawn
        if m.clean.all() and not np.array_equal(m.clean, m.noisy) and not is_clipped(m)
    ]
    snr_db = [
        20 * np.log10(active_rms(m.clean) / np.sqrt(np.mean((m.noisy - m.clean) ** 2)))
        for m in both
    ]
    assert -6.5 < min(snr_db) < -2
    assert max(snr_db) > 20
    assert np.mean(np.array(snr_db) < 26.5) > 0.99


def test_some_are_clean_some_are_noise_some_are_silent_for_a_while(drawn: list[Mixture]) -> None:
    share = lambda condition: np.mean([bool(condition(m)) for m in drawn])  # noqa: E731
    assert 0.02 < share(lambda m: np.array_equal(m.clean, m.noisy) and m.clean.any()) < 0.10
    assert 0.02 < share(lambda m: not m.clean.any() and m.noisy.any()) < 0.10
    assert 0.08 < share(lambda m: not m.noisy[:1000].any()) < 0.24
    assert 0.10 < share(lambda m: (np.convolve(m.noisy == 0, np.ones(500)) >= 500).any()) < 0.35


def test_some_are_clipped(drawn: list[Mixture]) -> None:
    assert 0.01 < np.mean([is_clipped(m) for m in drawn]) < 0.12


def test_a_narrow_band_is_reported_and_holds_nothing_above(drawn: list[Mixture]) -> None:
    narrow = [m for m in drawn if m.bandwidth_hz <= 5500 and m.noisy.all()]
    assert 0.03 < len(narrow) / len(drawn) < 0.2
    leaks = []
    for mixture in narrow:
        power = np.abs(np.fft.rfft(mixture.noisy * np.hanning(len(mixture.noisy)))) ** 2
        bins_hz = np.fft.rfftfreq(len(mixture.noisy), 1 / RATE_HZ)
        leaks.append(power[bins_hz > 1.15 * mixture.bandwidth_hz].sum() / power.sum())
    assert (
        np.quantile(leaks, 0.8) < 1e-4
    )  # clipping comes after the band limit and reaches beyond it


def test_noise_often_ends_where_speech_does(drawn: list[Mixture]) -> None:
    """Else a network learns to tell it from speech by what it has above, and keeps all noise in recordings at 16 kHz."""
    both = [
        m
        for m in drawn
        if m.bandwidth_hz <= 8000
        and m.clean.all()
        and not np.array_equal(m.clean, m.noisy)
        and not is_clipped(m)
    ]
    assert len(both) > 0.3 * len(drawn)
    above = []
    for mixture in both:
        power = (
            np.abs(np.fft.rfft((mixture.noisy - mixture.clean) * np.hanning(len(mixture.noisy))))
            ** 2
        )
        bins_hz = np.fft.rfftfreq(len(mixture.noisy), 1 / RATE_HZ)
        above.append(power[bins_hz > 1.1 * mixture.bandwidth_hz].sum() / power.sum())
    assert 0.7 < np.mean(np.array(above) < 1e-5) < 0.98


@pytest.mark.parametrize("kind", ["_recorded_noise", "_clicks", "_draw_noise"])
def test_every_noise_is_finite_and_is_not_silent(mixer: Mixer, kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        noise = getattr(mixer, kind)(rng)
        assert noise.shape == (RATE_HZ,)
        assert np.isfinite(noise).all()
        assert noise.any()


def test_hum_has_its_power_at_the_harmonics(mixer: Mixer) -> None:
    hum = mixer._tones(np.random.default_rng(1), 50.0)
    power = np.abs(np.fft.rfft(hum * np.hanning(len(hum)))) ** 2
    bins_hz = np.fft.rfftfreq(len(hum), 1 / RATE_HZ)
    near = np.abs((bins_hz + 25) % 50 - 25) < 6
    assert power[near].sum() > 0.9 * power.sum()
    assert abs(np.mean(hum**2) - 1) < 1e-3


def test_a_room_decays_and_begins_with_the_direct_sound() -> None:
    for seed in range(10):
        response = _room_response(np.random.default_rng(seed), RATE_HZ)
        assert len(response) == int(ROOM_SECONDS * RATE_HZ)
        assert response[0] == 1.0 == np.abs(response).max()
        quarters = [np.sum(part**2) for part in np.array_split(response[1:], 4)]
        assert quarters[0] > quarters[1] > quarters[2] > quarters[3]


def test_the_active_level_leaves_pauses_out() -> None:
    tone = np.sin(np.arange(10240) / 5).astype(np.float32)
    paused = np.concatenate([tone, np.zeros(51200, np.float32)])
    assert abs(active_rms(tone) - np.sqrt(0.5)) < 0.01
    assert abs(active_rms(paused) - np.sqrt(0.5)) < 0.01
    assert active_rms(np.zeros(5000, np.float32)) == 0.0
