"""Running a denoiser or a network over a whole signal, and what their tests are parametrised by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODELS

from rtden.autoencoder import Autoencoder
from rtden.mel import Features
from rtden.recording import lead_in
from rtden.spectral import power, stft, window_pair

HOPS_PER_STEP = (1, 2, 4, 8, 16)
OVERLAPS = (None, 128)
SAMPLED = [
    (model, HOPS_PER_STEP[(number + turn) % 5], OVERLAPS[(number // 2 + turn) % 2])
    for turn in range(2)
    for number, model in enumerate(MODELS)
]
"""Every model, hops_per_step and overlap, in pairs; not each with each."""

by_model = pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
by_hops = pytest.mark.parametrize("hops_per_step", HOPS_PER_STEP)
by_overlap = pytest.mark.parametrize("overlap", OVERLAPS)
sampled = pytest.mark.parametrize(
    ("model", "hops_per_step", "overlap"),
    SAMPLED,
    ids=[f"{model.stem}-{hops}-{overlap}" for model, hops, overlap in SAMPLED],
)


def whole(stream: Any, signal: np.ndarray) -> np.ndarray:
    """Return the output for a signal fed at once."""
    return np.concatenate([stream.feed(signal), stream.flush()])


def as_recording(stream: Any, signal: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return the output for a signal behind a lead-in, whose output is dropped."""
    before = lead_in(signal, rate_hz)
    return whole(stream, np.concatenate([before, signal]))[len(before) :]


def in_chunks(stream: Any, signal: np.ndarray, chunk: int) -> np.ndarray:
    """Return the output for a signal fed in chunks."""
    parts = [stream.feed(signal[at : at + chunk]) for at in range(0, len(signal), chunk)]
    return np.concatenate([*parts, stream.flush()])


def with_a_pause(speech: np.ndarray, pause_db: float, pause_samples: int = 44100) -> np.ndarray:
    """Return speech, two seconds whose peaks stay below `pause_db`, and speech."""
    pause = np.random.default_rng(2).uniform(-1.0, 1.0, pause_samples).astype(np.float32)
    pause *= np.float32(10.0 ** (pause_db / 20.0))
    return np.concatenate([speech[:20000], pause, speech[20000:40000]])


def masks_of(path: Path, stream: np.ndarray, *, every: int = 1) -> np.ndarray:
    """Return the mask of every frame of a stream, shape (n_mels, frames, 1), as the Denoiser comes
    to them; `every` frames a call.
    """
    network, masks = Autoencoder(path), []
    spec = network.spec
    features = Features(spec, every if network.stateful else None)
    window, _ = window_pair(spec.n_fft, spec.hop, spec.longest_overlap)
    frames = np.lib.stride_tricks.sliding_window_view(stream, spec.n_fft)[:: spec.hop]
    spectra = stft(frames, window)
    for start in range(0, len(spectra) // every * every, every):
        for spectrum in spectra[start : start + every]:
            features.push(power(spectrum)[None])
        masks.append(network.infer(features.columns)[:, -every:].copy())
    return np.concatenate(masks, axis=1)[..., None]
