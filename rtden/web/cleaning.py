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
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtden.errors import RtdenError
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.denoise import denoise_file
from rtden.measure.plots import FLOOR_DB, HOP, WINDOW, mel_levels_db
from rtden.settings import Settings
from rtden.types import Array

COLUMNS, RANGE_DB = 600, 90.0  # RANGE_DB lies between the darkest shade and the brightest
PREVIEW, PICTURE = "preview.flac", "picture.bin"


def shades(samples: Array, rate_hz: int) -> bytes:
    """Return the mean power of one channel's samples as a byte per mel band, from the lowest."""
    above_floor_db = mel_levels_db(samples, rate_hz) - FLOOR_DB
    return bytes(np.clip(above_floor_db * (255.0 / RANGE_DB), 0.0, 255.0).astype(np.uint8))


def _write_preview(source: Path, cleaned: Path, preview: Path) -> None:
    """Write the recording into the left channel and the result into the right, each in mono."""
    with open_recording(source) as before, open_recording(cleaned) as after:
        rate_hz = before.samplerate
        with soundfile.SoundFile(preview, "w", rate_hz, 2, "PCM_16", format="FLAC") as file:
            for sides in zip(read_blocks(before), read_blocks(after), strict=False):
                samples = min(map(len, sides))  # a lossy format may end a little later
                file.write(np.stack([side[:samples].mean(axis=1) for side in sides], axis=1))


def _draw(preview: Path, picture: Path) -> None:
    """Write the spectrograms of both channels of a preview, column after column."""
    with soundfile.SoundFile(preview) as file:
        step = max(HOP // 2, -(-file.frames // COLUMNS))
        blocks = file.blocks(step + WINDOW, overlap=WINDOW, dtype="float32", always_2d=True)
        columns = [[shades(side, file.samplerate) for side in block.T] for block in blocks]
    picture.write_bytes(b"".join(itertools.chain(*zip(*columns, strict=True))))


def main(source: Path, target: Path, strength: float | None = None) -> None:
    """Denoise; print fields of the :class:`rtden.web.jobs.Job` as lines of JSON."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)  # live sound comes first

    def report(**news: Any) -> None:
        print(json.dumps(news), flush=True)  # noqa: T201

    def progress(done: int, total: int) -> None:
        report(progress=round(min(1.0, done / max(total, 1)), 3))

    folder = source.parent
    try:
        if strength is not None:
            denoise_file(source, target, settings=Settings(strength=strength))
            return
        made = denoise_file(source, target, progress=progress)
        _write_preview(source, target, folder / PREVIEW)
        _draw(folder / PREVIEW, folder / PICTURE)
        known = made.noise_removed_db if abs(made.noise_removed_db) < 200 else None  # nor NaN
        report(seconds=round(made.seconds, 3), noise_removed_db=known, state="ready")
    except RtdenError as error:
        report(error=str(error))
    except (OSError, soundfile.LibsndfileError) as error:
        report(error=f"the temporary folder cannot be written ({error}).")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:]))
