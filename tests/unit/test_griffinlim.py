from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from rtden.griffinlim import Inverter
from rtden.spectral import hann, stft, window_pair


def griffin_lim(
    magnitude: np.ndarray,
    *,
    n_fft: int,
    hop: int,
    iterations: int,
    angles: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Run the inverter over a whole spectrogram, shape (bins, frames), from phases in radians."""
    frames = magnitude.shape[1]
    if angles is None:
        angles = 2.0 * np.pi * np.random.default_rng(seed).random(magnitude.shape)
    inverter = Inverter(
        n_fft=n_fft, hop=hop, new_frames=frames, iterations=iterations, frames=frames
    )
    done = np.empty(frames * hop, np.float32)
    spectra = (magnitude * np.exp(1j * angles)).T.astype(np.complex64)
    inverter.push(spectra, np.ones(magnitude.T.shape, np.float32), done)
    return np.concatenate([done, inverter.tail()])


def spectra_of(signal: np.ndarray, n_fft: int, hop: int, overlap: int | None = None) -> np.ndarray:
    window = hann(n_fft) if overlap is None else window_pair(n_fft, hop, overlap)[0]
    padded = np.concatenate([np.zeros(n_fft - hop, np.float32), signal])
    return stft(np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop], window)


def run(
    inverter: Inverter, spectra: np.ndarray, gains: np.ndarray, new_frames: int, hop: int
) -> np.ndarray:
    steps = len(spectra) // new_frames
    out = np.empty((steps, new_frames * hop), np.float32)
    for step in range(steps):
        span = slice(step * new_frames, (step + 1) * new_frames)
        inverter.push(spectra[span], gains[span], out[step])
    return out.reshape(-1)


@pytest.mark.parametrize("iterations", [0, 1, 3, 10])
@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 512), (1024, 256), (256, 64)])
def test_equals_librosas_griffinlim(
    noise: np.ndarray, iterations: int, n_fft: int, hop: int
) -> None:
    librosa = pytest.importorskip("librosa")
    magnitude = np.abs(librosa.stft(noise[:12000], n_fft=n_fft, hop_length=hop, center=False))
    overlap = n_fft // hop - 1
    # librosa's first and last frames have no neighbours either.
    magnitude = np.pad(magnitude, ((0, 0), (overlap, overlap)))
    sizes: dict[str, Any] = {"n_fft": n_fft, "hop": hop, "iterations": iterations}
    ours = griffin_lim(magnitude, **sizes, angles=np.zeros(magnitude.shape))
    plain = {"center": False, "momentum": 0.0, "init": None}
    theirs = librosa.griffinlim(magnitude, n_iter=iterations, n_fft=n_fft, hop_length=hop, **plain)
    np.testing.assert_allclose(ours[: len(theirs)], theirs, atol=1e-5)


def test_more_iterations_bring_the_magnitudes_nearer(noise: np.ndarray) -> None:
    magnitude = np.abs(spectra_of(noise[:16384], 1024, 256)).T

    def error(iterations: int) -> float:
        signal = griffin_lim(magnitude, n_fft=1024, hop=256, iterations=iterations)
        frames = np.lib.stride_tricks.sliding_window_view(signal, 1024)[::256]
        again = np.abs(stft(frames, hann(1024))).T
        return float(np.linalg.norm(again - magnitude) / np.linalg.norm(magnitude))

    errors = [error(iterations) for iterations in (0, 2, 8, 32)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("iterations", [0, 2])
@pytest.mark.parametrize("frames", [1, 4, 9])
@pytest.mark.parametrize("new_frames", [1, 2, 8])
@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 512), (1024, 256)])
def test_gain_of_one_gives_the_signal_back_to_minus_100_db(
    noise: np.ndarray, iterations: int, frames: int, new_frames: int, n_fft: int, hop: int
) -> None:
    sizes = {"new_frames": new_frames, "iterations": iterations, "frames": frames}
    check_exact(noise, n_fft, hop, n_fft - hop, **sizes)


@pytest.mark.parametrize("iterations", [0, 2])
@pytest.mark.parametrize("new_frames", [1, 4])
@pytest.mark.parametrize(
    ("n_fft", "hop", "overlap"),
    [
        *((1024, 512, overlap) for overlap in (32, 128, 511)),
        *((1024, 256, 100), (1024, 256, 600), (256, 64, 64)),
    ],
)
def test_so_it_does_with_a_shorter_overlap(
    noise: np.ndarray, iterations: int, new_frames: int, n_fft: int, hop: int, overlap: int
) -> None:
    check_exact(noise, n_fft, hop, overlap, new_frames=new_frames, iterations=iterations, frames=3)


def check_exact(noise: np.ndarray, n_fft: int, hop: int, overlap: int, **parameters: Any) -> None:
    spectra = spectra_of(noise, n_fft, hop, overlap)
    inverter = Inverter(n_fft=n_fft, hop=hop, overlap=overlap, **parameters)
    # The first frame ends with the first hop; what it completes ends `overlap` earlier.
    gains = np.ones(spectra.shape, np.float32)
    out = run(inverter, spectra, gains, parameters["new_frames"], hop)[overlap:]
    error = out - noise[: len(out)]
    assert 10 * np.log10(np.mean(error**2) / np.mean(noise**2)) < -100


def test_random_phase_is_seeded_and_reset_starts_it_again(noise: np.ndarray) -> None:
    spectra = spectra_of(noise, 512, 256)
    gains = np.full(spectra.shape, 0.5, np.float32)
    sizes: dict[str, Any] = {"n_fft": 512, "hop": 256, "new_frames": 1, "frames": 2}
    first, same, other = (
        Inverter(**sizes, iterations=1, phase="random", seed=seed) for seed in (3, 3, 4)
    )
    out = run(first, spectra, gains, 1, 256)
    assert np.array_equal(out, run(same, spectra, gains, 1, 256))
    assert not np.array_equal(out, run(other, spectra, gains, 1, 256))
    first.reset()
    assert np.array_equal(out, run(first, spectra, gains, 1, 256))


def test_iterations_make_the_output_more_consistent_with_its_targets(noise: np.ndarray) -> None:
    spectra = spectra_of(noise, 1024, 256)
    rng = np.random.default_rng(1)
    gains = rng.random((len(spectra), 1), np.float32) * rng.random(spectra.shape[1], np.float32)
    target = np.abs(spectra) * gains

    def inconsistency(iterations: int, frames: int) -> float:
        sizes: dict[str, Any] = {"n_fft": 1024, "hop": 256, "new_frames": 1}
        out = run(Inverter(**sizes, iterations=iterations, frames=frames), spectra, gains, 1, 256)
        achieved = np.abs(spectra_of(out[768:], 1024, 256))
        usable = min(len(achieved), len(target)) - 4
        return float(np.linalg.norm(achieved[4:usable] - target[4:usable]) / np.linalg.norm(target))

    assert inconsistency(4, 1) < inconsistency(0, 1)
    assert inconsistency(4, 4) < inconsistency(4, 1)


def test_silence_stays_silence() -> None:
    inverter = Inverter(n_fft=1024, hop=512, new_frames=1, iterations=3, frames=2)
    zeros = np.zeros((10, 513), np.complex64)
    assert not run(inverter, zeros, np.ones(zeros.shape, np.float32), 1, 512).any()


def test_without_iterations_any_number_of_frames_at_once_gives_the_same_to_the_bit(
    noise: np.ndarray,
) -> None:
    spectra = spectra_of(noise[:16384], 1024, 256, 512)
    gains = np.random.default_rng(0).random(spectra.shape).astype(np.float32)
    sizes: dict[str, Any] = {"n_fft": 1024, "hop": 256, "overlap": 512}
    many, single = (Inverter(**sizes, new_frames=new, iterations=0, frames=1) for new in (20, 1))
    expected = run(single, spectra, gains, 1, 256)
    out, ends = np.empty(len(spectra) * 256, np.float32), [1, 21, 23, 26, 33, 50, len(spectra)]
    for start, stop in itertools.pairwise([0, *ends]):
        many.push(spectra[start:stop], gains[start:stop], out[start * 256 : stop * 256])
    assert np.array_equal(out, expected)
