from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import Folders

from rtden import denoise
from rtden.training import codecs
from rtden.training.corpus import Clips, load_clips
from rtden.training.mixing import FLOOR_DB, Mixer, Mixture
from rtden.training.sources import NoiseSource, SpeechSource
from rtden.training.synthesis import (
    ROOM_SECONDS,
    Synthesis,
    active_rms,
    decaying_noise,
    room_responses,
    unit,
    whisper,
)

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
    return bool(np.sum(np.abs(mixture.noisy) == np.abs(mixture.noisy).max()) > 1)


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
    assert -80.1 < min(levels_db) < -70
    assert -20 < max(levels_db) <= -9.9
    both = [m for m in drawn if m.clean.all() and not is_clipped(m)]
    noises = [np.sqrt(np.mean((m.noisy - m.clean) ** 2)) + 1e-12 for m in both]
    snr_db = [20 * np.log10(active_rms(m.clean) / n) for m, n in zip(both, noises, strict=True)]
    assert min(snr_db) < -2
    assert 0.1 < np.mean(np.array(snr_db) > 20) < 0.6, "much speech needs little help"


def test_some_are_clean_some_are_noise_some_are_silent_for_a_while(drawn: list[Mixture]) -> None:
    def share(condition: Callable[[Mixture], np.bool_ | bool]) -> float:
        return sum(bool(condition(mixture)) for mixture in drawn) / len(drawn)

    assert 0.02 < share(lambda m: np.array_equal(m.clean, m.noisy) and m.clean.any()) < 0.14
    assert 0.02 < share(lambda m: not m.clean.any() and m.noisy.any()) < 0.12
    assert 0.08 < share(lambda m: not m.noisy[:1000].any()) < 0.24
    assert 0.10 < share(lambda m: (np.convolve(m.noisy == 0, np.ones(500)) >= 500).any()) < 0.40


def test_some_are_clipped(drawn: list[Mixture]) -> None:
    assert 0.01 < np.mean([is_clipped(m) for m in drawn]) < 0.12


def test_a_narrow_band_is_reported_and_holds_nothing_above(drawn: list[Mixture]) -> None:
    narrow = [m for m in drawn if m.bandwidth_hz <= 5500 and m.noisy.all() and not is_clipped(m)]
    assert 0.02 < len(narrow) / len(drawn) < 0.2
    leaks = []
    for mixture in narrow:
        power = np.abs(np.fft.rfft(mixture.clean * np.hanning(len(mixture.clean)))) ** 2
        bins_hz = np.fft.rfftfreq(len(mixture.clean), 1 / RATE_HZ)
        leaks.append(power[bins_hz > 1.15 * mixture.bandwidth_hz].sum() / (power.sum() + 1e-20))
    assert np.median(leaks) < 1e-4


def test_noise_often_ends_where_speech_does(drawn: list[Mixture]) -> None:
    """Else a network learns to tell noise by its content above, and keeps noise at 16 kHz."""
    both = [
        m
        for m in drawn
        if m.bandwidth_hz <= 8000 and m.clean.all() and np.abs(m.noisy - m.clean).max() > 1e-4
    ]
    assert len(both) > 0.3 * len(drawn)
    above = []
    for mixture in both:
        noise = (mixture.noisy - mixture.clean) * np.hanning(len(mixture.noisy))
        power = np.abs(np.fft.rfft(noise)) ** 2
        bins_hz = np.fft.rfftfreq(len(mixture.noisy), 1 / RATE_HZ)
        above.append(power[bins_hz > 1.1 * mixture.bandwidth_hz].sum() / power.sum())
    assert 0.4 < np.mean(np.array(above) < 1e-3) < 0.95


@pytest.fixture
def synthesis() -> Synthesis:
    return Synthesis(RATE_HZ, RATE_HZ)


def clips_of(*lengths: int, categories: tuple[str, ...] = ()) -> Clips:
    """Return recordings of short pulses; the n-th has height n + 1 thousand."""
    total = sum(lengths)
    samples, starts = np.zeros(total, np.int16), np.cumsum([0, *lengths[:-1]])
    for number, start in enumerate(starts):
        samples[start : start + 50] = 1000 * (number + 1)
    names = categories or ("all",) * len(lengths)
    group = np.array([f"{name}/{number}" for number, name in enumerate(names)])
    bands = np.full(len(lengths), 11025.0, np.float32)
    return Clips(samples, starts, np.array(lengths), bands, group)


def test_short_recordings_are_scattered_and_not_repeated(synthesis: Synthesis) -> None:
    """A slam that is tiled becomes a train of slams."""
    clips = clips_of(*[2000] * 9)
    source = NoiseSource(clips, SpeechSource(clips, synthesis), synthesis)
    for seed in range(10):
        noise = source._of_length(np.random.default_rng(seed), RATE_HZ)
        starts = np.flatnonzero((noise[1:] > 0.3) & (noise[:-1] <= 0.3))
        gaps = np.diff(starts)
        if len(gaps) > 3:
            assert gaps.std() > 0.02 * gaps.mean()


def test_a_short_recording_is_drawn_nearly_as_often_as_a_long_one(synthesis: Synthesis) -> None:
    clips = clips_of(3 * RATE_HZ, 60 * RATE_HZ, 30 * RATE_HZ, categories=("a", "a", "b"))
    source = NoiseSource(clips, SpeechSource(clips, synthesis), synthesis)
    chances = np.diff(source._recordings.cumulative, prepend=0.0)
    assert chances[1] / chances[0] < 3.0
    assert 0.3 < chances[2] / chances.sum() < 0.7, "categories count, not their length"


@pytest.mark.parametrize("kind", ["_recorded", "_keystrokes", "draw", "hum"])
def test_every_noise_is_finite_and_is_not_silent(mixer: Mixer, kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        noise = getattr(mixer._noise, kind)(rng)
        assert noise.shape == (RATE_HZ,)
        assert np.isfinite(noise).all()
        assert noise.any()


def test_hum_has_its_power_at_the_harmonics(synthesis: Synthesis) -> None:
    hum = synthesis.tones(np.random.default_rng(1), 50.0)
    power = np.abs(np.fft.rfft(hum * np.hanning(len(hum)))) ** 2
    bins_hz = np.fft.rfftfreq(len(hum), 1 / RATE_HZ)
    near = np.abs((bins_hz + 25) % 50 - 25) < 6
    assert power[near].sum() > 0.9 * power.sum()
    assert abs(np.mean(hum**2) - 1) < 1e-3


def test_a_whisper_has_the_envelope_and_no_pitch(recordings: tuple[np.ndarray, ...]) -> None:
    speech = recordings[0][: 4 * RATE_HZ]
    whispered = whisper(speech, np.random.default_rng(0))
    assert whispered.shape == speech.shape
    levels = [np.sqrt(np.mean(s.reshape(-1, 1050) ** 2, axis=1)) for s in (speech, whispered)]
    assert np.corrcoef(np.log(levels[0] + 1e-4), np.log(levels[1] + 1e-4))[0, 1] > 0.8
    low = [np.mean(np.abs(np.fft.rfft(s))[: (300 * 4)] ** 2) for s in (speech, whispered)]
    assert low[1] / np.mean(whispered**2) < 0.3 * low[0] / np.mean(speech**2)


def test_a_made_room_decays_and_begins_with_the_direct_sound() -> None:
    for seed in range(10):
        response = decaying_noise(np.random.default_rng(seed), RATE_HZ, 0.4, 5.0)
        assert len(response) == int(ROOM_SECONDS * RATE_HZ)
        assert response[0] == 1.0
        quarters = [np.sum(part**2) for part in np.array_split(response[1:], 4)]
        assert quarters[0] > quarters[1] > quarters[2] > quarters[3]


def test_modelled_rooms_begin_with_the_direct_sound() -> None:
    for talker, noise in room_responses(RATE_HZ):
        for response in (talker, noise):
            assert response.shape == (int(ROOM_SECONDS * RATE_HZ),)
            assert abs(response[:40]).max() > 0.3 * abs(response).max()


@pytest.mark.parametrize("codec", codecs.CODECS, ids=lambda codec: codec.name)
def test_codecs_keep_the_alignment_and_end_the_band(
    recordings: tuple[np.ndarray, ...], codec: codecs.Codec
) -> None:
    speech = recordings[0][: 2 * RATE_HZ]
    soft = np.float32(0.01) * speech
    coded = codecs.code([speech, soft], codec, RATE_HZ, np.random.default_rng(0))
    assert all(signal.shape == speech.shape for signal in coded)
    assert np.corrcoef(coded[0], speech)[0, 1] > 0.95
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    (hiss,) = codecs.code([noise], codec, RATE_HZ, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(hiss * np.hanning(len(hiss)))) ** 2
    assert power[int(1.15 * codec.bandwidth_hz) :].mean() < 0.02 * power[:6000].mean()


def test_a_faint_floor_lies_within_its_range(mixer: Mixer) -> None:
    """Above the end of a codec's band, too, where resamplers leave one."""
    noisy = np.sin(np.arange(RATE_HZ) / 7).astype(np.float32)
    floors = [mixer._floor(np.random.default_rng(seed), noisy) for seed in range(40)]
    levels_db = [20 * np.log10(np.std(floor) / np.std(noisy)) for floor in floors]
    low, high = FLOOR_DB
    assert low - 0.5 < min(levels_db) < low + 10
    assert high - 10 < max(levels_db) < high + 0.5
    assert all((np.abs(np.fft.rfft(floor)[9000:]) > 0.0).mean() > 0.99 for floor in floors)


@pytest.mark.parametrize("codec", codecs.CODECS[:2], ids=lambda codec: codec.name)
def test_the_default_model_lowers_hiss_through_a_headset_or_a_telephone(
    codec: codecs.Codec,
) -> None:
    """With the faint floor above the codec's band that a converter leaves."""
    rng, samples = np.random.default_rng(0), 8 * RATE_HZ
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 100))  # pink
    hiss = 0.01 * unit(np.fft.irfft(spectrum).astype(np.float32))
    (coded,) = codecs.code([hiss], codec, RATE_HZ, rng)
    heard = coded + np.float32(1e-4) * rng.standard_normal(samples, np.float32)
    out = denoise(heard, RATE_HZ)
    left_db = 20 * np.log10(np.std(out[3 * RATE_HZ :]) / np.std(heard[3 * RATE_HZ :]))
    assert left_db < -31


def test_the_active_level_leaves_pauses_out() -> None:
    tone = np.sin(np.arange(10240) / 5).astype(np.float32)
    paused = np.concatenate([tone, np.zeros(51200, np.float32)])
    assert abs(active_rms(tone) - np.sqrt(0.5)) < 0.01
    assert abs(active_rms(paused) - np.sqrt(0.5)) < 0.01
    assert active_rms(np.zeros(5000, np.float32)) == 0.0
