"""Sound files in blocks. What the decoder gives counts, not what a header promises.

libsndfile reads and writes. Where it would lose sound (an MP3 without a count of its frames) or
knows no such file, PyAV reads (:mod:`rtden.files.media`, extra "av").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from rtden.errors import AudioFileError
from rtden.files.atomic import check_target, write_whole
from rtden.files.listing import SUFFIXES, Raw
from rtden.files.sndfile import Recording, open_sndfile
from rtden.files.writing import format_of, write_recording
from rtden.resample import load_soxr
from rtden.types import Array

__all__ = [
    "SUFFIXES",
    "Progress",
    "Recording",
    "check_target",
    "format_of",
    "open_recording",
    "read_aligned",
    "read_blocks",
    "write_recording",
    "write_whole",
]
BLOCK_FRAMES = 1 << 15
LOUDEST = 1e6  # samples beyond this (120 dB above full scale) are no sound
Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all, 0 where that is not known."""


@contextmanager
def open_recording(
    path: Path, raw: Raw | None = None, *, track: int | None = None
) -> Iterator[Recording]:
    """Open a file for reading.

    Parameters
    ----------
    raw : Raw, optional
        What headerless PCM holds.
    track : int, optional
        Which of several sound tracks, from 1; the first is the default.

    Raises
    ------
    AudioFileError
        If it does not exist, cannot be read, holds no sound, or is shorter than its header says.
    MissingPackageError
        If it takes PyAV to read it, which is not installed.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise AudioFileError(f"{path} is a folder; name a file in it.")
    with ExitStack() as opened:
        try:
            file = opened.enter_context(path.open("rb"))
            recording = open_sndfile(path, file, raw, opened) if track is None else None
        except FileNotFoundError:
            raise AudioFileError(f"there is no file {path}; check the name.") from None
        except OSError as error:
            sentence = f"{path} cannot be read ({error.strerror}); check its permissions."
            raise AudioFileError(sentence) from None
        if recording is None:
            from rtden.files.media import open_media

            recording = opened.enter_context(open_media(path, track=track))
        yield recording


def read_blocks(recording: Recording, path: Path, *, frames: int = BLOCK_FRAMES) -> Iterator[Array]:
    """Yield a file's blocks of `frames`, shape (frames, channels), the last one shorter.

    The array is used again for the next block. Samples that are no sound (not finite, or beyond
    1e6 times full scale) are silence.
    """
    silenced = 0
    for block in recording.blocks(frames):
        with np.errstate(invalid="ignore"):
            sound = np.abs(block) < LOUDEST
        silenced += int(block.size - np.count_nonzero(sound))
        yield block if sound.all() else np.where(sound, block, np.float32(0.0))
    if silenced:
        recording.notes.append(f"{silenced} samples were not finite or absurd; they became silence")


def read_aligned(*paths: Path) -> tuple[list[Array], int]:
    """Return files as mono at the first one's rate, as long as the shortest, and the rate."""
    signals, rates_hz = [], []
    for path in paths:
        with open_recording(path) as recording:
            blocks = [block.mean(axis=1) for block in read_blocks(recording, path)]
            signals.append(np.concatenate([np.empty(0, np.float32), *blocks]))
            rates_hz.append(recording.samplerate)
    signals = [
        signal if hz == rates_hz[0] else load_soxr().resample(signal, hz, rates_hz[0])
        for signal, hz in zip(signals, rates_hz, strict=True)
    ]
    shortest = min(map(len, signals))
    return [signal[:shortest] for signal in signals], rates_hz[0]
