"""Noisy speech as voice agents have it: 16-bit frames of 20 ms at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE_HZ = 16000
FRAME_SAMPLES = 320
NOISY = Path(__file__).parents[1] / "data" / "noisy.flac"


def noisy_pcm(*, seconds: float) -> np.ndarray:
    """Return the beginning of the bundled recording, int16, whole frames."""
    samples, rate_hz = soundfile.read(NOISY, dtype="float32")
    pcm: np.ndarray = np.rint(32767.0 * soxr.resample(samples, rate_hz, RATE_HZ)).astype(np.int16)
    return pcm[: int(seconds * RATE_HZ) // FRAME_SAMPLES * FRAME_SAMPLES]


def frames_of(pcm: np.ndarray) -> Iterator[np.ndarray]:
    """Yield frames of 20 ms."""
    yield from pcm.reshape(-1, FRAME_SAMPLES)
