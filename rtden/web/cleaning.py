"""Cleaning an uploaded recording: the denoised sound, a preview of before and after, a picture.

The server runs this module as a process of its own for each recording: a damaged upload cannot end
the server, and live sound keeps its interpreter to itself.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtden.denoiser import default_model
from rtden.errors import RtdenError
from rtden.files.denoise import BATCH_STEPS, denoise_file
from rtden.stream import StreamDenoiser
from rtden.types import Array

BANDS, COLUMNS = 96, 600
LOWEST_HZ, HIGHEST_HZ = 60.0, 16000.0
WINDOW, HOP = 2048, 1024
FLOOR_DB, RANGE_DB = -110.0, 90.0
"""Power of the darkest shade, and from there to the brightest, in dB."""
PREVIEW, PICTURE = "preview.flac", "picture.bin"
KEPT = "cleaned-{}.caf".format
"""Name of the denoised sound of each track."""
PROGRESS_SECONDS = 0.2


class Spectrum:
    """Power in `BANDS` bands of equal width in pitch, as shades from 0 to 255."""

    def __init__(self, rate_hz: int) -> None:
        edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)[:-1] * WINDOW / rate_hz
        self._starts = np.minimum(edges.astype(int), WINDOW // 2)
        self._below_half = edges <= WINDOW // 2  # above half the rate there is nothing
        window = np.hanning(WINDOW)
        self._window = (window / window.sum()).astype(np.float32)

    def shades(self, samples: Array) -> bytes:
        """Return a byte per band, from the lowest: the mean power of one channel's samples."""
        samples = np.pad(samples, (max(0, WINDOW - len(samples)), 0))
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
        bins = (np.abs(np.fft.rfft(windows * self._window)) ** 2).mean(axis=0)
        power = np.maximum.reduceat(bins, self._starts) * self._below_half
        level = (10.0 * np.log10(power + 1e-12) - FLOOR_DB) * (255.0 / RANGE_DB)
        return bytes(np.clip(level, 0.0, 255.0).astype(np.uint8))


def _draw(folder: Path) -> None:
    """Write the spectrograms of both channels of the preview, column after column."""
    with soundfile.SoundFile(folder / PREVIEW) as preview:
        spectrum = Spectrum(preview.samplerate)
        step = max(HOP // 2, -(-preview.frames // COLUMNS))
        blocks = preview.blocks(step + WINDOW, overlap=WINDOW, dtype="float32", always_2d=True)
        columns = [[spectrum.shades(side) for side in block.T] for block in blocks]
    (folder / PICTURE).write_bytes(b"".join(itertools.chain(*zip(*columns, strict=True))))


class _Watched:
    """A stream that keeps what comes out of it and, of the first sound track, a preview."""

    def __init__(self, folder: Path, numbers: Iterator[int], rate_hz: int, channels: int) -> None:
        self._inner = StreamDenoiser(
            default_model(), rate_hz=rate_hz, channels=channels, batch_steps=BATCH_STEPS
        )
        number = next(numbers)
        self._kept = soundfile.SoundFile(folder / KEPT(number), "w", rate_hz, channels, "PCM_24")
        path = folder / (PREVIEW if number == 0 else os.devnull)
        self._preview = soundfile.SoundFile(path, "w", rate_hz, 2, "PCM_16", format="FLAC")
        self._noisy = np.empty(0, np.float32)

    def feed(self, block: Array) -> Array:
        self._noisy = np.concatenate([self._noisy, block.mean(axis=1, dtype=np.float32)])
        return self._keep(self._inner.feed(block))

    def flush(self) -> Array:
        with self._kept, self._preview:
            return self._keep(self._inner.flush())

    def _keep(self, cleaned: Array) -> Array:
        self._kept.write(cleaned)
        noisy, self._noisy = np.split(self._noisy, [len(cleaned)])
        self._preview.write(np.stack([noisy, cleaned.mean(axis=1)], axis=1))
        return cleaned


class _Mixed:
    """A stream that returns the mix of what is fed and of the denoised sound that was kept."""

    def __init__(self, folder: Path, strength: float, numbers: Iterator[int], *_: int) -> None:
        self._kept = soundfile.SoundFile(folder / KEPT(next(numbers)))
        self._strength = np.float32(strength)

    def feed(self, block: Array) -> Array:
        cleaned = self._kept.read(len(block), dtype="float32", always_2d=True)
        mixed: Array = block + self._strength * (cleaned - block)
        return mixed

    def flush(self) -> Array:
        with self._kept:
            return np.empty((0, self._kept.channels), np.float32)


def remix(source: Path, target: Path, strength: float) -> None:
    """Write a recording that :func:`main` cleaned at another strength, without denoising again.

    Raises what :func:`rtden.denoise_file` raises.
    """
    streams = functools.partial(_Mixed, source.parent, strength, itertools.count())
    denoise_file(source, target, streams=streams)


def main(source: Path, target: Path) -> None:
    """Clean a recording; write what a :class:`rtden.web.jobs.Job` takes over, as lines of JSON."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)  # live sound comes first
    told_at = 0.0

    def tell(**news: Any) -> None:
        print(json.dumps(news), flush=True)  # noqa: T201

    def progress(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_SECONDS:
            told_at = time.monotonic()
            tell(progress=round(min(1.0, done / max(total, 1)), 3))

    try:
        streams = functools.partial(_Watched, source.parent, itertools.count())
        report = denoise_file(source, target, progress=progress, streams=streams)
        _draw(source.parent)
    except RtdenError as error:
        return tell(error=str(error), state="failed")
    removed_db = round(report.noise_removed_db, 1)
    known = removed_db if abs(removed_db) < 200 else None  # neither NaN nor infinity
    return tell(seconds=round(report.seconds, 3), noise_removed_db=known, state="ready")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
