import numpy as np
import pytest

from rtden.mel import MelFeatures
from rtden.model import ModelSpec

CHANNELS = ("relative_mel", "above_floor", "above_mean")
SPEC = ModelSpec(name="level", channels=CHANNELS, mean_db=-30.0, hop=256)


def speech_like_power(seconds: float = 4.0) -> np.ndarray:
    """Powers of frames with syllables and pauses, shape (frames, bins)."""
    rng = np.random.default_rng(0)
    frames = int(seconds * SPEC.rate_hz / SPEC.hop)
    course = 10.0 ** (-3.0 * (np.sin(np.arange(frames) / 9.0) < 0))
    tilt = 1.0 / (1.0 + np.arange(SPEC.n_fft // 2 + 1) / 20.0) ** 2
    noise = rng.exponential(size=(frames, SPEC.n_fft // 2 + 1))
    return (100.0 * noise * course[:, None] * tilt).astype(np.float32)


def features(frame_powers: np.ndarray) -> np.ndarray:
    maker = MelFeatures(SPEC)
    return np.stack([maker.push(frame_power).copy() for frame_power in frame_powers])


@pytest.mark.parametrize("gain_db", [-40.0, -20.0, 20.0])
def test_features_do_not_depend_on_the_level(gain_db: float) -> None:
    powers = speech_like_power()
    gained = powers * np.float32(10.0 ** (gain_db / 10.0))
    np.testing.assert_allclose(features(gained), features(powers), atol=1e-4)


def test_the_division_into_calls_changes_nothing() -> None:
    maker = MelFeatures(SPEC)
    levels_db = maker.levels_db(speech_like_power())
    whole = maker.add(levels_db).copy()
    maker.reset()
    parts = [maker.add(part).copy() for part in np.array_split(levels_db, 17)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_silence_before_a_stream_changes_nothing() -> None:
    powers = speech_like_power()
    silence = np.zeros((40, powers.shape[1]), np.float32)
    found = features(np.concatenate([silence, powers]))
    np.testing.assert_array_equal(found[40:], features(powers))
    assert (found[:40, :, 1:] == 0.0).all()


def test_a_sound_much_softer_than_the_one_before_is_raised_by_5_db_a_second() -> None:
    powers = speech_like_power()
    soft = powers * np.float32(1e-6)
    found = features(np.concatenate([powers, soft]))[..., 0].max(axis=1)
    frames_per_second = SPEC.rate_hz / SPEC.hop
    after = found[len(powers) + int(3 * frames_per_second) :].max()
    assert after - found[: len(powers)].max() == pytest.approx((-60.0 + 15.0) / 20.0, abs=0.4)
