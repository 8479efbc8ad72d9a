"""Cleaning an uploaded recording: the denoised sound, a preview of before and after, a picture.

    python -m rtden.web.cleaning SOURCE TARGET [STRENGTH]    # with a strength: the sound alone

A process of its own for each: a damaged upload cannot end the server, nor slow live sound down.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtden.denoiser import RECORDING_STEPS
from rtden.errors import RtdenError
from rtden.files.denoise import denoise_file
from rtden.measure.plots import FLOOR_DB, HOP, WINDOW, mel_levels_db
from rtden.recording import RecordingDenoiser
from rtden.settings import Settings
from rtden.stream import StreamDenoiser
from rtden.types import Array

COLUMNS, RANGE_DB = 600, 90.0  # RANGE_DB lies between the darkest shade and the brightest
PREVIEW, PICTURE = "preview.flac", "picture.bin"


def shades(samples: Array, rate_hz: int) -> bytes:
    """Return the mean power of one channel's samples as a byte per mel band, from the lowest."""
    above_floor_db = mel_levels_db(samples, rate_hz) - FLOOR_DB
    return bytes(np.clip(above_floor_db * (255.0 / RANGE_DB), 0.0, 255.0).astype(np.uint8))


class _Previewed:
    """Denoises a track, and writes a preview of the first: before left, after right, each mono."""

    def __init__(self, paths: Iterator[Path], rate_hz: int, channels: int) -> None:
        stream = StreamDenoiser(rate_hz=rate_hz, channels=channels, batch_steps=RECORDING_STEPS)
        self._inner = RecordingDenoiser(stream)
        self._preview = soundfile.SoundFile(next(paths), "w", rate_hz, 2, "PCM_16", format="FLAC")
        self._noisy = np.empty(0, np.float32)

    def feed(self, block: Array) -> Array:
        self._noisy = np.concatenate([self._noisy, block.mean(axis=1, dtype=np.float32)])
        return self._keep(self._inner.feed(block))

    def flush(self) -> Array:
        with self._preview:
            return self._keep(self._inner.flush())

    def _keep(self, cleaned: Array) -> Array:
        noisy, self._noisy = np.split(self._noisy, [len(cleaned)])
        self._preview.write(np.stack([noisy, cleaned.mean(axis=1)], axis=1))
        return cleaned


def _draw(folder: Path) -> None:
    """Write the spectrograms of both channels of the preview, column after column."""
    with soundfile.SoundFile(folder / PREVIEW) as preview:
        step = max(HOP // 2, -(-preview.frames // COLUMNS))
        blocks = preview.blocks(step + WINDOW, overlap=WINDOW, dtype="float32", always_2d=True)
        columns = [[shades(side, preview.samplerate) for side in block.T] for block in blocks]
    (folder / PICTURE).write_bytes(b"".join(itertools.chain(*zip(*columns, strict=True))))


def main(source: Path, target: Path, strength: float | None = None) -> None:
    """Denoise; print fields of the :class:`rtden.web.jobs.Job` as lines of JSON."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)  # live sound comes first

    def report(**news: Any) -> None:
        print(json.dumps(news), flush=True)  # noqa: T201

    def progress(done: int, total: int) -> None:
        report(progress=round(min(1.0, done / max(total, 1)), 3))

    paths = itertools.chain([source.parent / PREVIEW], itertools.repeat(Path(os.devnull)))
    try:
        if strength is not None:
            denoise_file(source, target, settings=Settings(strength=strength))
            return
        made = denoise_file(source, target, progress=progress, streams=partial(_Previewed, paths))
        _draw(source.parent)
        known = made.noise_removed_db if abs(made.noise_removed_db) < 200 else None  # nor NaN
        report(seconds=round(made.seconds, 3), noise_removed_db=known, state="ready")
    except RtdenError as error:
        report(error=str(error))
    except (OSError, soundfile.LibsndfileError) as error:
        report(error=f"the temporary folder cannot be written ({error}).")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:]))
