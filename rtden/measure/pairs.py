"""Pairs of clean and noisy files: where they are, their noise and their SNR."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np

from rtden.errors import AudioFileError
from rtden.files.listing import SUFFIXES
from rtden.types import Array

SNR_STEP_DB = 5.0
ACTIVE_RANGE_DB = 20.0  # speech is active in 20 ms blocks at most this far below the loudest


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the pairs of `clean/` and `noisy/`, by name; AudioFileError if a file is alone."""
    if not os.path.isdir(folder):
        raise AudioFileError(f"there is no folder {folder}; name one that holds clean/ and noisy/.")
    names = {}
    for side in ("clean", "noisy"):
        if not os.path.isdir(folder / side):
            raise AudioFileError(f"{folder} has no folder {side}/; it must hold clean/ and noisy/.")
        files = [path for path in (folder / side).glob("[!.]*") if path.is_file()]
        names[side] = {path.name for path in files if path.suffix.lower() in SUFFIXES}
    both = names["clean"] & names["noisy"]
    if alone := [f"{side}/{name}" for side in names for name in sorted(names[side] - both)]:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise AudioFileError(
            f"{alone[0]}{more} of {folder} stands alone; give both files of a pair one name."
        )
    if not both:
        kinds = ", ".join(sorted(SUFFIXES))
        advice = f"put files ({kinds}) of the same names into clean/ and noisy/"
        raise AudioFileError(f"{folder} holds no pairs: {advice}.")
    return [(folder / "clean" / name, folder / "noisy" / name) for name in sorted(both)]


def noise_of(stem: str) -> str:
    """Return the noise in a file's name NUMBER_NOISE_+5dB, or "all"."""
    named = re.fullmatch(r"[^_]*_(.+)_[+-]?\d+(?:\.\d+)?dB", stem)
    return named[1] if named else "all"


def rounded_snr_db(clean: Array, noisy: Array, rate_hz: int) -> float:
    """Return the SNR of a pair to the nearest 5 dB: active speech against all of the noise.

    Pauses do not count, so that pairs that were mixed alike fall into one group.
    """
    block = max(1, rate_hz // 50)
    whole = clean[: len(clean) // block * block]
    powers = np.square(whole, dtype=np.float64).reshape(-1, block).mean(axis=1)
    noise = float(np.mean(np.square(noisy - clean, dtype=np.float64))) if len(clean) else 0.0
    if not powers.any():
        return math.nan
    if noise == 0.0:
        return math.inf
    speech = float(powers[powers >= powers.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)].mean())
    return SNR_STEP_DB * round(10.0 * math.log10(speech / noise) / SNR_STEP_DB) + 0.0
