import numpy as np
import pytest

from rtden import Denoiser
from rtden.offset import OffsetBlocker

BLOCK = 256


def through(signal: np.ndarray) -> np.ndarray:
    blocker = OffsetBlocker()
    blocks = signal[: len(signal) // BLOCK * BLOCK].astype(np.float32).reshape(-1, BLOCK)
    return np.concatenate([blocker(block) for block in blocks])


def noise(level: float = 0.003) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(44100)


@pytest.mark.parametrize("offset", [0.05, -0.3])
def test_an_offset_leaves_no_step_at_the_start_and_no_residue(offset: float) -> None:
    blocked = through(noise() + offset)
    assert abs(blocked[:BLOCK]).max() < 0.02
    assert abs(blocked[-22050 // BLOCK * BLOCK :].mean()) < 3e-4


def test_an_offset_that_a_resampler_lets_ring_leaves_no_click() -> None:
    ringing = np.interp(np.arange(20), [0, 8, 12, 19], [0.0, 0.02, 0.25, 0.3])
    signal = noise(level=0.001) + 0.3
    signal[:20] = ringing
    assert abs(through(signal)[:BLOCK]).max() < 0.1


def test_an_offset_after_digital_silence_is_removed_from_its_first_sample_on() -> None:
    signal = np.concatenate([np.zeros(3 * BLOCK + 100), noise() + 0.1])
    assert abs(through(signal)[: 6 * BLOCK]).max() < 0.03


@pytest.mark.parametrize(
    "signal",
    [
        noise(level=0.1),
        0.5 * np.sin(2.0 * np.pi * 220.0 / 22050 * np.arange(44100)),
        np.eye(1, 44100, 5000)[0],
        np.zeros(44100),
    ],
    ids=["noise", "sine", "impulse", "silence"],
)
def test_sound_without_an_offset_passes_unchanged(signal: np.ndarray) -> None:
    length = len(signal) // BLOCK * BLOCK
    np.testing.assert_array_equal(through(signal), signal[:length].astype(np.float32))


@pytest.mark.parametrize("offset", [0.05, 0.3])
def test_a_microphone_with_an_offset_sounds_like_one_without(offset: float) -> None:
    noise = (0.003 * np.random.default_rng(0).standard_normal(44100)).astype(np.float32)
    denoiser, outputs = Denoiser(), []
    for signal in (noise, noise + np.float32(offset)):
        outputs.append(np.concatenate([denoiser.feed(signal), denoiser.flush()]))
    assert abs(outputs[1][:2205]).max() < 2.0 * abs(outputs[0][:2205]).max()
    rest = [np.sqrt(np.mean(output[11025:] ** 2)) for output in outputs]
    assert rest[1] < 1.41 * rest[0]
