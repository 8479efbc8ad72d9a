"""Sound files in blocks. What the decoder gives counts, not what a header promises.

libsndfile reads; its lengths are checked, not believed. Where it would lose sound (an MP3 without a
count of its frames) or knows no such file, PyAV reads (:mod:`rtden.files.media`, extra "av").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from rtden.errors import AudioFileError, DamagedFileError
from rtden.files import containers
from rtden.files.atomic import reason_of
from rtden.files.endings import is_mp3
from rtden.files.joins import CHANGED, converted
from rtden.files.layout import GOES_ON, Layout, layout_of, no_header, truncated
from rtden.files.listing import (
    ENCODED_SUFFIXES,
    HEADERLESS,
    HEADERS,
    RAW_SUFFIXES,
    Raw,
    has_av,
)
from rtden.resample import load_soxr
from rtden.types import Array

BLOCK_FRAMES = 1 << 15
LOUDEST = 1e6  # samples beyond this (120 dB above full scale) are no sound
ABSURD = "{} samples were not finite or absurd; they became silence"
CLIPPED = "{} samples above full scale were clipped; a float WAV keeps them"
Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all, 0 where that is not known."""
PERCEPTUAL = ("OPUS", "VORBIS", "MPEG_LAYER_III")
"""Codecs whose bits a second are a choice, by libsndfile's names."""
OGGS = {("OGG", "VORBIS"), ("OGG", "OPUS")}
VORBIS_ORDER = {
    **{3: [0, 2, 1], 5: [0, 2, 1, 3, 4], 6: [0, 2, 1, 4, 5, 3], 7: [0, 2, 1, 5, 6, 4, 3]},
    8: [0, 2, 1, 6, 7, 4, 5, 3],
}
"""Which of a WAV's channels are those of Vorbis and Opus (Vorbis I, 4.3.9; RFC 7845, 5.1.1.2)."""
MP3_FRAME = 1152  # samples
EMPTY_BYTES = 16384  # a file that is longer holds sound, whatever its header says


@dataclass
class Recording:
    """A sound file that is open for reading."""

    path: Path
    samplerate: int
    channels: int
    frames: int
    """How many there are to be; 0 where that is not known, an estimate where the codec has none."""
    format: str  # libsndfile's name of the container; "" where PyAV reads
    subtype: str  # libsndfile's name of the sample format, or the nearest that it has
    blocks: Callable[[int], Iterator[Array]]
    """Takes how many frames to read at a time; yields (frames, channels), of any length."""
    endian: str = "FILE"
    strings: dict[str, str] = field(default_factory=dict)
    """Title, artist and the like, as libsndfile names them."""
    bit_rate: float = 0.0  # bits a second of a lossy codec; 0 where unknown
    variable: bool = False  # whether an MP3 spends them where the sound needs them
    codec: str = ""  # FFmpeg's name of the codec, where PyAV reads
    texts: dict[str, str] = field(default_factory=dict)  # all tags, where PyAV reads
    notes: list[str] = field(default_factory=list)  # what a user should know of it


@contextmanager
def open_recording(
    path: Path, raw: Raw | None = None, *, track: int | None = None
) -> Iterator[Recording]:
    """Open a file for reading; `raw` says what headerless PCM holds, `track` counts from 1.

    Raises AudioFileError if it cannot be read, holds no sound, or less than its header says;
    MissingPackageError if it needs PyAV, which is not installed.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise AudioFileError(f"{path} is a folder; name a file in it.")
    with ExitStack() as opened:
        try:
            file = opened.enter_context(path.open("rb"))
            notes = list[str]()
            recording = _open_sndfile(path, file, raw, opened, notes) if track is None else None
        except FileNotFoundError:
            raise AudioFileError(f"there is no file {path}; check the name.") from None
        except OSError as error:
            what = "permissions" if isinstance(error, PermissionError) else "name"
            sentence = f"{path} cannot be read ({error.strerror}); check its {what}."
            raise AudioFileError(sentence) from None
        if recording is None:
            from rtden.files.media import open_media

            recording = opened.enter_context(open_media(path, track=track))
            recording.notes += notes
        yield recording


def read_blocks(recording: Recording, *, frames: int = BLOCK_FRAMES) -> Iterator[Array]:
    """Yield a file's blocks of `frames`, shape (frames, channels), the last one shorter.

    Samples that are no sound (not finite, or beyond 1e6 times full scale) are silence.
    """
    silenced = 0
    try:
        for block in _cut(recording.blocks(frames), frames):
            sound, absurd = without_absurd(block)
            silenced += absurd
            yield sound
    except OSError as error:
        sentence = (
            f"{recording.path} cannot be read to its end ({reason_of(error)}); copy it again."
        )
        raise AudioFileError(sentence) from None
    if silenced:
        recording.notes.append(ABSURD.format(silenced))


def vorbis_order(container: str, subtype: str, channels: int) -> list[int]:
    """Return the channels of a WAV as libsndfile has them in a file; nothing if they are so."""
    return VORBIS_ORDER.get(channels, []) if (container, subtype) in OGGS else []


def without_absurd(block: Array) -> tuple[Array, int]:
    """Return samples with silence where they are no sound, and how many those are."""
    with np.errstate(invalid="ignore"):
        sound = np.abs(block) < LOUDEST
    absurd = block.size - int(np.count_nonzero(sound))
    return np.where(sound, block, np.float32(0.0)) if absurd else block, absurd


def _cut(pieces: Iterator[Array], frames: int) -> Iterator[Array]:
    held, count = list[Array](), 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= frames:
            joined, whole = np.concatenate(held), count - count % frames
            yield from (joined[start : start + frames] for start in range(0, whole, frames))
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def read_aligned(*paths: Path) -> tuple[list[Array], int]:
    """Return files as mono at the first one's rate, as long as the shortest, and the rate."""
    signals, rates_hz = [], []
    for path in paths:
        with open_recording(path) as recording:
            blocks = [block.mean(axis=1) for block in read_blocks(recording)]
            signals.append(np.concatenate([np.empty(0, np.float32), *blocks]))
            rates_hz.append(recording.samplerate)
    signals = [
        signal if hz == rates_hz[0] else load_soxr().resample(signal, hz, rates_hz[0])
        for signal, hz in zip(signals, rates_hz, strict=True)
    ]
    shortest = min(map(len, signals))
    return [signal[:shortest] for signal in signals], rates_hz[0]


def _open_sndfile(
    path: Path, file: BinaryIO, raw: Raw | None, opened: ExitStack, notes: list[str]
) -> Recording | None:
    """Open a file by libsndfile; return None if PyAV is to read it."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise AudioFileError(f"{path} is empty; it is no sound file.")
    raw = _raw_of(path, file, raw)
    layout = layout_of(path, file, size, notes, raw)
    if not layout.parts:
        return None
    try:
        reader = _Reader(path, layout, opened, notes)
    except soundfile.LibsndfileError as error:
        if "file is malformed" in error.error_string and not has_av():
            sentence = f"{path} is damaged or truncated ({reason_of(error)}); copy it again."
            raise DamagedFileError(sentence) from None
        return None
    first = reader.first
    start = containers.read_at(file, containers.start_of_sound(file), 256)
    guessed = first.subtype[:4] == "MPEG" and first.format != "MP3"  # its length, in a WAV
    if guessed or (not first.frames and size > EMPTY_BYTES):  # a CAF from a pipe, for instance
        return None
    return Recording(
        path,
        first.samplerate,
        first.channels,
        first.stated if len(layout.parts) == 1 else 0,
        layout.container or first.format,
        first.subtype,
        reader.blocks,
        first.endian if first.format in ("WAV", "AIFF", "AU", "RAW") else "FILE",
        first.copy_metadata(),
        _bit_rate(first, layout.parts[0][1] - layout.parts[0][0], start),
        b"Xing" in start,
        notes=notes,
    )


def _raw_of(path: Path, file: BinaryIO, raw: Raw | None) -> Raw | None:
    """Return what a file without a header holds, given or by its name; None for any other.

    Raises AudioFileError if a description is missing, or given for a file that has a header.
    """
    start, suffix = containers.start_of_sound(file), path.suffix.lower()
    head = containers.read_at(file, start, 8)
    has_header = head[:4] in HEADERS or head[4:] == b"ftyp" or is_mp3(file, start)
    if has_header or (raw and suffix in ENCODED_SUFFIXES):
        if raw is None:
            return None
        raise AudioFileError(
            f"{path} has a header that says what it holds; leave out the rate, the channels and "
            "the format, which describe PCM without one."
        )
    if raw is None and suffix in RAW_SUFFIXES:
        raise no_header(path)
    return raw or HEADERLESS.get(suffix)


def _bit_rate(file: soundfile.SoundFile, size: int, start: bytes) -> float:
    """Return a lossy codec's bits a second: Vorbis states what it was asked for."""
    if file.subtype == "VORBIS" and (nominal := int.from_bytes(start[48:52], "little")) < 1 << 31:
        return float(nominal)
    lossy = file.subtype in PERCEPTUAL and file.frames
    return 8.0 * size * file.samplerate / file.frames if lossy else 0.0


class _Part(soundfile.SoundFile):  # type: ignore[misc]
    """A part of a file. It does not seek after each read: without a length that would fail."""

    window: containers.Window
    stated: int  # frames that are to be; 0 where that is not known

    def seekable(self) -> bool:
        return False


class _Reader:
    """The parts of a file, read one after the other."""

    def __init__(self, path: Path, layout: Layout, opened: ExitStack, notes: list[str]) -> None:
        self._path, self._layout, self._opened, self._notes = path, layout, opened, notes
        self.first = self._open(layout.parts[0])
        self._done = 0  # frames that were read, at the first part's rate

    def _open(self, part: tuple[int, int]) -> _Part:
        window = self._opened.enter_context(containers.Window(self._path.open("rb"), *part))
        whole = part == (0, os.path.getsize(self._path)) and not self._layout.known
        named_raw = self._path.suffix.lower() in RAW_SUFFIXES  # soundfile goes by that
        by_window = window.patched or named_raw or not whole
        place: Any = window if by_window else os.fsencode(self._path)
        file: _Part = self._opened.enter_context(_Part(place, "r", *self._layout.known))
        frames = file.frames if file.frames < 1 << 62 else 0
        file.window, file.stated = window, self._layout.frames or window.stated_frames or frames
        return file

    def blocks(self, frames: int) -> Iterator[Array]:
        """Yield what is read at a time, mostly `frames`; parts of another kind are converted."""
        changes, kind = list[str](), (self.first.samplerate, self.first.channels)
        for part in self._layout.parts:
            try:
                file = self.first if part == self._layout.parts[0] else self._open(part)
            except soundfile.LibsndfileError as error:
                raise self._damaged(error) from None
            blocks, own = self._part(file, frames), (file.samplerate, file.channels)
            if own != kind:
                changes.append(CHANGED.format(*own, self._done / kind[0], *kind))
                blocks = converted(blocks, own, kind, str(self._path))
            for block in blocks:
                self._done += len(block)
                yield block
        self._notes += changes[:1]

    def _part(self, file: _Part, frames: int) -> Iterator[Array]:
        stated, read = file.stated, 0
        # Beyond the stated end: nothing where a last block's filling is, else small steps.
        behind = 0 if self._layout.frames else 1024
        # Without a count libsndfile guesses, up to a frame of an MP3 too much.
        guess = MP3_FRAME if self.first.format == "MP3" else 0
        order = np.argsort(vorbis_order(file.format, file.subtype, file.channels))
        try:
            while True:
                count = min(frames, stated - read) if read < stated else behind
                block: Array = file.read(count, "float32", always_2d=True)
                if not len(block):
                    break
                read += len(block)
                yield block[:, order] if len(order) else block
        except soundfile.LibsndfileError as error:
            if not 0 < stated <= read:  # beyond its sound anything may follow
                raise self._damaged(error) from None
        if file.window.error is not None:
            raise file.window.error
        sure = file.window.stated_frames or len(self._layout.parts) == 1
        if sure and read < stated - guess:
            raise truncated(self._path, read / stated)
        if read > stated > 0 and GOES_ON not in self._notes:
            self._notes.append(GOES_ON)

    def _damaged(self, error: Exception) -> DamagedFileError:
        return DamagedFileError(
            f"{self._path} is damaged after {self._done / self.first.samplerate:.1f} s "
            f"({reason_of(error)}); restore it or re-encode it with ffmpeg."
        )
