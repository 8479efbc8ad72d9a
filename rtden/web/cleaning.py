"""Cleaning one uploaded recording: the denoised sound, a preview of before and after, and a picture of both.

This runs in a process of its own (:mod:`rtden.web.jobs`): damaged uploads cannot end the server, and live sound keeps its
interpreter to itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import soundfile

from rtden.files.audio_file import FileReport, Streams, denoise_file, recording_stream
from rtden.types import Array

Power = npt.NDArray[np.floating[Any]]

BANDS = 96
LOWEST_HZ, HIGHEST_HZ = 60.0, 16000.0
WINDOW, HOP = 2048, 1024
COLUMNS = 600
CLEANED = "cleaned.flac"
FLOOR_DB, RANGE_DB = -110.0, 90.0
"""Power of the darkest shade, and from there to the brightest, in dB."""


class Spectrum:
    """Power in `BANDS` bands of equal width in pitch, as shades from 0 to 255."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)[:-1] * WINDOW / rate_hz
        bins = WINDOW // 2 + 1
        self._starts = np.minimum(edges.astype(int), bins - 1)
        self._beyond = edges >= bins  # above half the rate there is nothing
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
        self._columns = self._windows
        self._per_column = 1

    def feed(self, samples: Array) -> None:
        self._rest = np.concatenate([self._rest, samples])
        if len(self._rest) < WINDOW:
            return
        windows = np.lib.stride_tricks.sliding_window_view(self._rest, WINDOW)[::HOP]
        self._rest = self._rest[HOP * len(windows) :].copy()
        self._windows = np.concatenate([self._windows, self._spectrum.power(windows)])
        self._merge()

    def _merge(self) -> None:
        whole = len(self._windows) // self._per_column
        ready = self._windows[: whole * self._per_column]
        self._windows = self._windows[whole * self._per_column :]
        means = ready.reshape(whole, self._per_column, BANDS).mean(axis=1)
        self._columns = np.concatenate([self._columns, means])
        while len(self._columns) >= 2 * COLUMNS:
            pairs = len(self._columns) // 2
            odd = np.repeat(self._columns[2 * pairs :], self._per_column, axis=0)
            self._windows = np.concatenate([odd, self._windows])
            self._columns = self._columns[: 2 * pairs].reshape(pairs, 2, BANDS).mean(axis=1)
            self._per_column *= 2

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
        self._noisy = np.empty(0, np.float32)
        self._folder = folder

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
        noisy, self._noisy = self._noisy[: len(cleaned)], self._noisy[len(cleaned) :]
        both = noisy, cleaned.mean(axis=1)
        self._preview.write(np.stack(both, axis=1))
        for picture, samples in zip(self._pictures, both, strict=True):
            picture.feed(samples)
        return cleaned


class _Mixed:
    """A stream that returns the mix of what is fed and of the denoised sound that was kept."""

    def __init__(self, path: Path, strength: float, _rate_hz: int, _channels: int) -> None:
        self._cleaned, self._strength = soundfile.SoundFile(path), strength

    def feed(self, block: Array) -> Array:
        cleaned = self._cleaned.read(len(block), dtype="float32", always_2d=True)
        mixed: Array = block + np.float32(self._strength) * (cleaned - block)
        return mixed

    def flush(self) -> Array:
        nothing = np.empty((0, self._cleaned.channels), np.float32)
        self._cleaned.close()
        return nothing


def clean(source: Path, target: Path, progress: Callable[[int, int], None]) -> FileReport:
    """Denoise a recording into `target`, and keep beside it what :func:`remix` and the page need.

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
