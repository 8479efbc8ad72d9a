"""Pairs with more or less of their noise: the same speech and noise at other SNRs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import soundfile

from rtden.files.audio_file import read_aligned
from rtden.measure.pairs import find_pairs


def remix(pairs: Path, noise_db: float, into: Path) -> Path:
    """Write pairs whose noise, what noisy has beyond clean, is so much louder; return their folder.

    They are FLAC of 24 bits in a new folder NAME-15dB below `into`.
    """
    folder = into / f"{pairs.resolve().name}{noise_db:+g}dB"
    for side in ("clean", "noisy"):
        (folder / side).mkdir(parents=True)
    for clean_path, noisy_path in find_pairs(pairs):
        (clean, noisy), rate_hz = read_aligned(clean_path, noisy_path)
        noisy = clean + np.float32(10.0 ** (noise_db / 20.0)) * (noisy - clean)
        # Both at one level, at which neither is clipped.
        level = np.float32(min(1.0, 0.99 / max(1e-9, np.abs([clean, noisy]).max())))
        name = f"{_remixed(noisy_path.stem, noise_db)}.flac"
        for side, samples in (("clean", clean), ("noisy", noisy)):
            soundfile.write(folder / side / name, level * samples, rate_hz, subtype="PCM_24")
    return folder


def _remixed(stem: str, noise_db: float) -> str:
    """Return a name NUMBER_NOISE_+5dB with its new SNR."""
    return re.sub(r"([+-]?\d+(?:\.\d+)?)dB$", lambda snr: f"{float(snr[1]) - noise_db:+g}dB", stem)
