from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODELS
from networks import MadeUpNetwork
from streams import OVERLAPS, by_overlap, sampled

from rtden import Denoiser, Settings
from rtden.model import load_spec


@sampled
def test_high_band_gains_are_the_gains_of_the_samples_returned(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    """Where all bands have one gain, the denoiser scales its own band by it, too."""
    spec = dataclasses.replace(load_spec(model), contrast=0.0)
    options = Settings(
        hops_per_step=hops_per_step, overlap_samples=overlap, iterations=0, phase="warm"
    )
    network = MadeUpNetwork(spec, lambda frames: 0.2 + 0.001 * frames)
    denoiser = Denoiser(settings=options, network=network)
    out = denoiser.feed(noise)
    gains = denoiser.high_band.gains
    assert gains.shape == out.shape
    assert gains.dtype == np.float32
    np.testing.assert_allclose(out, gains * noise[: len(out)], atol=0.004)
    rest = denoiser.flush()
    assert denoiser.high_band.gains.shape == rest.shape
    denoiser.reset()
    assert denoiser.high_band.gains.shape == (0,)


@pytest.mark.parametrize(
    ("model", "overlap"), [(model, OVERLAPS[number % 2]) for number, model in enumerate(MODELS)]
)
def test_high_band_gains_know_the_limit_and_the_strength(
    model: Path, overlap: int | None, noise: np.ndarray
) -> None:
    def gains(**changes: Any) -> np.ndarray:
        denoiser = Denoiser(model, Settings(overlap_samples=overlap, **changes))
        denoiser.feed(noise)
        return denoiser.high_band.gains

    unlimited, limited = gains(), gains(limit_db=6.0)
    assert (gains(limit_db=0.0) == 1.0).all()
    assert (gains(strength=0.0) == 1.0).all()
    np.testing.assert_allclose(gains(strength=0.25), 0.25 * unlimited + 0.75, atol=1e-6)
    assert limited.min() >= 10 ** (-6.0 / 20.0) - 1e-6
    assert (limited >= unlimited - 1e-6).all()


@by_overlap
def test_high_band_gains_let_fricatives_through_and_noise_not(
    overlap: int | None, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    def gains(signal: np.ndarray) -> np.ndarray:
        denoiser = Denoiser(settings=Settings(overlap_samples=overlap))
        denoiser.feed(signal)
        return denoiser.high_band.gains

    clean, noisy = (recording[:110000] for recording in recordings)
    spectrum = np.fft.rfft(clean)
    spectrum[np.fft.rfftfreq(len(clean), 1 / 22050) < 5000] = 0.0
    level = np.convolve(np.fft.irfft(spectrum, len(clean)) ** 2, np.ones(512) / 512, "same")
    passed = gains(clean)
    assert (
        passed[level[: len(passed)] > 0.1 * level.max()].mean() > 0.4
    )  # the voice is synthetic; natural ones get 0.9
    assert gains(noisy - clean).mean() < 0.02
