"""What libsndfile reads, and where it would lose sound: lengths are checked, not believed."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile

from rtden.errors import AudioFileError
from rtden.files.atomic import reason_of
from rtden.files.containers import (
    PIPE_SIZES,
    PIPE_SLACK,
    Chunks,
    Window,
    id3_size,
    mp3_held,
    ogg_links,
    read_chunks,
    wav_format,
)
from rtden.files.listing import HEADERLESS, RAW_SUFFIXES, Raw
from rtden.types import Array

PERCEPTUAL = ("OPUS", "VORBIS", "MPEG_LAYER_III")
"""Codecs whose bits a second are a choice, by libsndfile's names."""
EMPTY_BYTES = 16384
"""A file that is longer holds sound, whatever its header says."""
Blocks = Callable[[int], Iterator[Array]]


@dataclass
class Recording:
    """A sound file that is open for reading."""

    path: Path
    samplerate: int
    channels: int
    frames: int
    """How many there are to be; 0 where that is not known, an estimate where the codec has none."""
    format: str
    """libsndfile's name of the container; "" where PyAV reads."""
    subtype: str
    """libsndfile's name of the sample format, or FFmpeg's of the codec."""
    blocks: Blocks
    """Takes a block's length; yields blocks (frames, channels), the last one shorter."""
    endian: str = "FILE"
    strings: dict[str, str] = field(default_factory=dict)
    """Title, artist and the like, as libsndfile names them."""
    bit_rate: float = 0.0
    """Bits a second of a lossy codec; 0 where unknown."""
    codec: str = ""
    """FFmpeg's name of the codec, where PyAV reads."""
    notes: list[str] = field(default_factory=list)
    """What a user should know of it."""


class _Layout(NamedTuple):
    """Where the sound of a file lies."""

    parts: list[tuple[int, int]]
    """Byte ranges, each a stream to libsndfile."""
    known: tuple[Any, ...] = ()
    """Rate, channels, sample format, byte order and container, if no header is trustworthy."""
    container: str = ""
    """libsndfile's name of the container, if `known` says otherwise."""


def open_sndfile(
    path: Path, file: BinaryIO, raw: Raw | None, opened: ExitStack
) -> Recording | None:
    """Open a file by libsndfile; return None if PyAV is to read it.

    Raises
    ------
    AudioFileError
        If it has no header, or is shorter than its header says.
    """
    notes: list[str] = []
    head = file.read(64)
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise AudioFileError(f"{path} is empty; it is no sound file.")
    layout = _raw_layout(path, raw, size) or _layout(path, file, head, size, notes)
    if not layout.parts:
        return None
    try:
        reader = _Reader(path, layout, opened)
    except soundfile.LibsndfileError as error:
        if "file is malformed" in error.error_string:
            sentence = f"{path} is damaged or truncated ({reason_of(error)}); copy it again."
            raise AudioFileError(sentence) from None
        return None
    first = reader.first
    if not first.frames and size > EMPTY_BYTES:  # a CAF from a pipe, for instance
        return None
    return Recording(
        path,
        first.samplerate,
        first.channels,
        first.frames if first.frames < 1 << 62 and len(layout.parts) == 1 else 0,
        layout.container or first.format,
        first.subtype,
        reader.blocks,
        first.endian if first.format in ("WAV", "AIFF", "AU", "RAW") else "FILE",
        first.copy_metadata(),
        _bit_rate(first, layout.parts[0][1] - layout.parts[0][0], head),
        notes=notes,
    )


def _raw_layout(path: Path, raw: Raw | None, size: int) -> _Layout | None:
    """Return the layout of a file without a header, None for any other."""
    raw = raw or HEADERLESS.get(path.suffix.lower())
    if raw is None and path.suffix.lower() in RAW_SUFFIXES:
        raise AudioFileError(
            f"{path} has no header that says what it holds; give --rate, --channels and --format."
        )
    return _Layout([(0, size)], raw.known) if raw else None


def _layout(path: Path, file: BinaryIO, head: bytes, size: int, notes: list[str]) -> _Layout:
    """Return where a file's sound lies; nowhere if libsndfile cannot know."""
    whole = _Layout([(0, size)])
    if head[:4] == b"OggS":
        parts, ended = ogg_links(file)
        if not ended:
            notes.append("its last page is missing; it was cut off, or is still being written")
        return _Layout(parts)
    if head[:4] == b"fLaC":
        return _Layout(_flac_parts(file, size))
    if _is_mpeg(file):
        held = mp3_held(file)
        if held is not None and held < 1.0:
            raise truncated(path, held)
        return whole if held else _Layout([])
    chunks = read_chunks(file)
    if chunks is None or chunks.magic == b"FORM":
        return whole
    return _mended_wav(path, file, chunks, size, notes) or whole


def _is_mpeg(file: BinaryIO) -> bool:
    """Return whether a file begins with a frame of MPEG audio, layer I to III, behind ID3 tags."""
    file.seek(id3_size(file))
    head = file.read(2)
    return len(head) == 2 and head[0] == 0xFF and head[1] >= 0xE0 and bool(head[1] & 6)


def _flac_parts(file: BinaryIO, size: int) -> list[tuple[int, int]]:
    """Return the byte ranges of FLAC streams that were joined to one file."""
    starts = [0]
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (at := content.find(b"fLaC\0\0\0\x22", starts[-1] + 4)) > 0:
            starts.append(at)
    return list(zip(starts, [*starts[1:], size], strict=True))


def _bit_rate(file: soundfile.SoundFile, size: int, head: bytes) -> float:
    """Return a lossy codec's bits a second: Vorbis states what it was asked for."""
    if file.subtype == "VORBIS" and (nominal := int.from_bytes(head[48:52], "little")) < 1 << 31:
        return float(nominal)
    lossy = file.subtype in PERCEPTUAL and file.frames
    return 8.0 * size * file.samplerate / file.frames if lossy else 0.0


def _mended_wav(
    path: Path, file: BinaryIO, chunks: Chunks, size: int, notes: list[str]
) -> _Layout | None:
    """Return how to read a WAV whose header libsndfile takes amiss, and where its sound lies.

    That is a length that has wrapped round at 4 GiB, or was never written, and BW64. None for a WAV
    that is as it should be.

    Raises
    ------
    AudioFileError
        If the file ends before its sound does.
    """
    if any(chunk.name in (b"RIFF", b"RF64") for chunk in chunks.found):
        raise AudioFileError(
            f"{path} is several WAVs in one file; split them, or join them by sox."
        )
    sound, form = chunks.sound, wav_format(file, chunks)
    if sound is None or form is None:
        return None
    held, beyond = size - sound.start, size - chunks.end
    unknown = not sound.size or any(abs(sound.size - pipe) <= PIPE_SLACK for pipe in PIPE_SIZES)
    if sound.size > held and not unknown:
        raise truncated(path, held / sound.size)
    end = min(size, sound.start + sound.size)
    if chunks.found[-1] is sound and beyond > PIPE_SLACK:
        wraps = (held - sound.size) >> 32
        end = end + (wraps << 32) if wraps else size
        if not wraps and not unknown:
            notes.append("its sound goes on after the length in its header; all of it was read")
    elif chunks.magic != b"BW64":
        return None
    endian = "LITTLE" if chunks.order == "<" else "BIG"
    container = "WAV" if chunks.magic[:2] == b"RI" else "RF64"
    return _Layout([(sound.start, end)], (*form, endian, "RAW"), container)


class _Reader:
    """The parts of a file, read one after the other."""

    def __init__(self, path: Path, layout: _Layout, opened: ExitStack) -> None:
        self._path, self._layout, self._opened = path, layout, opened
        self._window: Window | None = None
        self.first = self._open(layout.parts[0])
        if len(layout.parts) == 1:
            _check_length(self.first, path)

    def _open(self, part: tuple[int, int]) -> soundfile.SoundFile:
        place: Any = os.fsencode(self._path)
        if self._layout.known or len(self._layout.parts) > 1:
            place = self._window = self._opened.enter_context(Window(self._path.open("rb"), *part))
        return self._opened.enter_context(soundfile.SoundFile(place, "r", *self._layout.known))

    def blocks(self, frames: int) -> Iterator[Array]:
        """Yield blocks of that many frames, the last one shorter."""
        first = self.first
        buffer = np.empty((frames, first.channels), np.float32)
        done = filled = 0
        try:
            for part in self._layout.parts:
                file = first if part == self._layout.parts[0] else self._open(part)
                self._check_same(file, done)
                while count := len(file.read(out=buffer[filled:])):
                    done, filled = done + count, filled + count
                    if filled == frames:
                        yield buffer
                        filled = 0
                if self._window is not None and self._window.error is not None:
                    raise self._window.error
        except soundfile.LibsndfileError as error:
            raise AudioFileError(
                f"{self._path} is damaged after {done / first.samplerate:.1f} s "
                f"({reason_of(error)}); restore it or re-encode it with ffmpeg."
            ) from None
        if filled:
            yield buffer[:filled]
        guessed = first.format[:3] == "WAV" and first.subtype[:4] == "MPEG"
        if len(self._layout.parts) == 1 and not guessed and done < first.frames < 1 << 62:
            raise truncated(self._path, done / first.frames)

    def _check_same(self, file: soundfile.SoundFile, done: int) -> None:
        first = self.first
        if (file.samplerate, file.channels) != (first.samplerate, first.channels):
            raise AudioFileError(
                f"{self._path} changes to {file.samplerate} Hz and {file.channels} channels after "
                f"{done / first.samplerate:.1f} s; split it there, for instance with ffmpeg."
            )


def _check_length(file: soundfile.SoundFile, path: Path) -> None:
    """Raise if the header of another container than WAV promises more than the file holds."""
    promise = re.search(
        r"^ *(?:SSND|Data Size|data|riff|Riff size) *: (\d+) \(should be (\d+)\)",
        file.extra_info,
        re.MULTILINE,
    )
    if promise and int(promise[2]) < int(promise[1]) < min(PIPE_SIZES) - PIPE_SLACK:
        raise truncated(path, int(promise[2]) / int(promise[1]))


def truncated(path: Path, part: float) -> AudioFileError:
    """Return the error of a file that holds only a part of its sound."""
    return AudioFileError(
        f"{path} is truncated: it holds {int(100 * part)}% of the sound its header promises; "
        f"copy it again, or repair it with 'ffmpeg -i {path.name} repaired{path.suffix}'."
    )
