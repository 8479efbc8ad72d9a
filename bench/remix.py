"""Pairs made anew from others: with more or less of their noise, or at another rate."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from rtden.files.audio_file import read_aligned
from rtden.measure.pairs import find_pairs


def remix(pairs: Path, into: Path, *, noise_db: float = 0.0, to_hz: int | None = None) -> Path:
    """Write pairs whose noise, what noisy has beyond clean, is so much louder; return their folder.

    `to_hz` is their rate, that of the pairs if None. They are FLAC of 24 bits in a new folder below
    `into`, with the name of the old one and :func:`changed`.
    """
    folder = into / f"{pairs.resolve().name}{changed(noise_db, to_hz)}"
    for side in ("clean", "noisy"):
        (folder / side).mkdir(parents=True)
    for clean_path, noisy_path in find_pairs(pairs):
        (clean, noisy), rate_hz = read_aligned(clean_path, noisy_path)
        noisy = clean + np.float32(10.0 ** (noise_db / 20.0)) * (noisy - clean)
        made_hz = to_hz or rate_hz
        clean, noisy = (soxr.resample(each, rate_hz, made_hz) for each in (clean, noisy))
        # Both at one level, at which neither is clipped.
        level = np.float32(min(1.0, 0.99 / max(1e-9, np.abs([clean, noisy]).max())))
        name = f"{_remixed(noisy_path.stem, noise_db)}.flac"
        for side, samples in (("clean", clean), ("noisy", noisy)):
            soundfile.write(folder / side / name, level * samples, made_hz, subtype="PCM_24")
    return folder


def changed(noise_db: float = 0.0, to_hz: int | None = None) -> str:
    """Return what names pairs that were made anew, as "-15dB" or "-8kHz"."""
    rate = f"-{to_hz / 1000:g}kHz" if to_hz else ""
    return (f"{noise_db:+g}dB" if noise_db else "") + rate


def _remixed(stem: str, noise_db: float) -> str:
    """Return a name NUMBER_NOISE_+5dB with its new SNR."""
    return re.sub(r"([+-]?\d+(?:\.\d+)?)dB$", lambda snr: f"{float(snr[1]) - noise_db:+g}dB", stem)
