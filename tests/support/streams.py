"""Running a denoiser over a whole signal, and what its tests are parametrised by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import MODELS

from rtden.harmonics import HarmonicFilter
from rtden.recording import lead_in

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
    """Return the output for a signal with what whole recordings get besides but the second pass.

    That is a lead-in, which is dropped, and the comb filter between harmonics.
    """
    before, harmonics = lead_in(signal, rate_hz), HarmonicFilter(stream)
    harmonics.hold(signal)
    out = whole(stream, np.concatenate([before, signal]))[len(before) :]
    return np.concatenate([harmonics.feed(out), harmonics.flush()])


def in_chunks(stream: Any, signal: np.ndarray, chunk: int) -> np.ndarray:
    """Return the output for a signal fed in chunks."""
    parts = [stream.feed(signal[at : at + chunk]) for at in range(0, len(signal), chunk)]
    return np.concatenate([*parts, stream.flush()])


def with_a_pause(speech: np.ndarray, pause_db: float, pause_samples: int = 44100) -> np.ndarray:
    """Return speech, two seconds whose peaks stay below `pause_db`, and speech."""
    pause = np.random.default_rng(2).uniform(-1.0, 1.0, pause_samples).astype(np.float32)
    pause *= np.float32(10.0 ** (pause_db / 20.0))
    return np.concatenate([speech[:20000], pause, speech[20000:40000]])
