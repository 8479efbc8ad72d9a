"""Cleaning an uploaded recording: the denoised sound, a preview of before and after, a picture.

The server runs this module as a process of its own for each recording: a damaged upload cannot end
the server, and live sound keeps its interpreter to itself.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import soundfile

from rtden.errors import RtdenError
from rtden.files.audio_file import FileReport, Streams, denoise_file, recording_stream
from rtden.types import Array

Power = npt.NDArray[np.floating[Any]]
BANDS, COLUMNS = 96, 600
LOWEST_HZ, HIGHEST_HZ = 60.0, 16000.0
WINDOW, HOP = 2048, 1024
FLOOR_DB, RANGE_DB = -110.0, 90.0
"""Power of the darkest shade, and from there to the brightest, in dB."""
CLEANED = "cleaned.flac"
PROGRESS_SECONDS = 0.2


class Spectrum:
    """Power in `BANDS` bands of equal width in pitch, as shades from 0 to 255."""

    def __init__(self, rate_hz: int) -> None:
        edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)[:-1] * WINDOW / rate_hz
        self._starts = np.minimum(edges.astype(int), WINDOW // 2)
        self._beyond = edges > WINDOW // 2  # above half the rate there is nothing
        window = np.hanning(WINDOW)
        self._window = (window / window.sum()).astype(np.float32)

    def power(self, windows: Array) -> Power:
        """Return the power per band of windows of shape (n, WINDOW), shape (n, BANDS)."""
        bins = np.abs(np.fft.rfft(windows * self._window)) ** 2
        power: Power = np.maximum.reduceat(bins, self._starts, axis=1)
        power[:, self._beyond] = 0.0
        return power

    @staticmethod
    def shades(power: Power) -> bytes:
        """Return power as a byte each."""
        level = (10.0 * np.log10(power + 1e-12) - FLOOR_DB) * (255.0 / RANGE_DB)
        return bytes(np.clip(level, 0.0, 255.0).astype(np.uint8))


class _Picture:
    """The spectrogram of a signal: at most twice `COLUMNS` columns, merged in pairs as it grows."""

    def __init__(self, rate_hz: int) -> None:
        self._spectrum = Spectrum(rate_hz)
        self._rest = np.zeros(WINDOW // 2, np.float32)
        self._windows: Power = np.empty((0, BANDS))
        self._columns: Power = self._windows
        self._per_column = 1

    def feed(self, samples: Array) -> None:
        self._rest = np.concatenate([self._rest, samples])
        if len(self._rest) < WINDOW:
            return
        windows = np.lib.stride_tricks.sliding_window_view(self._rest, WINDOW)[::HOP]
        self._rest = self._rest[HOP * len(windows) :].copy()
        self._windows = np.concatenate([self._windows, self._spectrum.power(windows)])
        self._columns = np.concatenate([self._columns, self._merge(self._per_column)])
        while len(self._columns) >= 2 * COLUMNS:
            self._windows, kept = self._columns, self._windows
            self._columns = self._merge(2)
            odd = np.repeat(self._windows, self._per_column, axis=0)
            self._windows = np.concatenate([odd, kept])
            self._per_column *= 2

    def _merge(self, count: int) -> Power:
        """Take whole groups of `count` from the windows; return their means."""
        whole = len(self._windows) // count
        ready, self._windows = np.split(self._windows, [whole * count])
        return cast(Power, ready.reshape(whole, count, BANDS).mean(axis=1))

    def shades(self) -> bytes:
        """Return the picture, column by column, each from the lowest band to the highest."""
        return Spectrum.shades(self._columns)


class _Watched:
    """A stream that keeps what passes through it: the denoised sound, the preview, the picture."""

    def __init__(self, folder: Path, rate_hz: int, channels: int) -> None:
        self._inner = recording_stream(None, None, rate_hz, channels, full_band=True)
        self._cleaned = soundfile.SoundFile(folder / CLEANED, "w", rate_hz, channels, "PCM_24")
        self._preview = soundfile.SoundFile(folder / "preview.flac", "w", rate_hz, 2, "PCM_16")
        self._pictures = _Picture(rate_hz), _Picture(rate_hz)
        self._noisy, self._folder = np.empty(0, np.float32), folder

    def feed(self, block: Array) -> Array:
        self._noisy = np.concatenate([self._noisy, block.mean(axis=1, dtype=np.float32)])
        return self._keep(self._inner.feed(block))

    def flush(self) -> Array:
        cleaned = self._keep(self._inner.flush())
        for picture in self._pictures:
            picture.feed(np.zeros(WINDOW, np.float32))
        (self._folder / "picture.bin").write_bytes(b"".join(p.shades() for p in self._pictures))
        self._cleaned.close()
        self._preview.close()
        return cleaned

    def _keep(self, cleaned: Array) -> Array:
        self._cleaned.write(cleaned)
        noisy, self._noisy = np.split(self._noisy, [len(cleaned)])
        both = noisy, cleaned.mean(axis=1)
        self._preview.write(np.stack(both, axis=1))
        for picture, samples in zip(self._pictures, both, strict=True):
            picture.feed(samples)
        return cleaned


class _Mixed:
    """A stream that returns the mix of what is fed and of the denoised sound that was kept."""

    def __init__(self, path: Path, strength: float, _rate_hz: int, channels: int) -> None:
        self._cleaned, self._strength = soundfile.SoundFile(path), np.float32(strength)
        self._nothing = np.empty((0, channels), np.float32)

    def feed(self, block: Array) -> Array:
        cleaned = self._cleaned.read(len(block), dtype="float32", always_2d=True)
        return cast(Array, block + self._strength * (cleaned - block))

    def flush(self) -> Array:
        self._cleaned.close()
        return self._nothing


def clean(source: Path, target: Path, progress: Callable[[int, int], None]) -> FileReport:
    """Denoise a recording, and keep beside `target` what :func:`remix` and the page need.

    Raises
    ------
    RtdenError
        As :func:`rtden.denoise_file`.
    """
    streams = cast(Streams, functools.partial(_Watched, target.parent))
    return denoise_file(source, target, progress=progress, streams=streams)


def remix(source: Path, target: Path, strength: float) -> None:
    """Write a recording that :func:`clean` cleaned at another strength, without denoising again.

    Raises
    ------
    RtdenError
        As :func:`rtden.denoise_file`.
    """
    streams = cast(Streams, functools.partial(_Mixed, source.parent / CLEANED, strength))
    denoise_file(source, target, streams=streams)


def main(source: Path, target: Path) -> None:
    """Clean a recording; write what a :class:`rtden.web.jobs.Job` takes over, as lines of JSON."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)  # live sound comes first
    told_at = 0.0

    def tell(**news: Any) -> None:
        sys.stdout.write(json.dumps(news) + "\n")
        sys.stdout.flush()

    def progress(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_SECONDS:
            told_at = time.monotonic()
            tell(progress=round(min(1.0, done / max(total, 1)), 3))

    try:
        report = clean(source, target, progress)
    except RtdenError as error:
        tell(error=str(error), state="failed")
        return
    removed_db = round(report.noise_removed_db, 1)
    known = removed_db if abs(removed_db) < 200 else None  # neither NaN nor infinity
    tell(seconds=round(report.seconds, 3), noise_removed_db=known, state="ready")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
