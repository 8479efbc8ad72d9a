"""Sound files in blocks. What the decoder gives counts, not what a header promises.

libsndfile reads; its lengths are checked, not believed. Where it would lose sound (an MP3 without a
count of its frames) or knows no such file, PyAV reads (:mod:`rtden.files.media`, extra "av").
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile

from rtden.errors import AudioFileError
from rtden.files import containers
from rtden.files.atomic import reason_of
from rtden.files.listing import HEADERLESS, RAW_SUFFIXES, Raw
from rtden.resample import load_soxr
from rtden.types import Array

BLOCK_FRAMES = 1 << 15
LOUDEST = 1e6  # samples beyond this (120 dB above full scale) are no sound
Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all, 0 where that is not known."""
PERCEPTUAL = ("OPUS", "VORBIS", "MPEG_LAYER_III")
"""Codecs whose bits a second are a choice, by libsndfile's names."""
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
    notes: list[str] = field(default_factory=list)  # what a user should know of it


class _Layout(NamedTuple):
    """Where the sound of a file lies."""

    parts: list[tuple[int, int]]  # byte ranges, each a stream to libsndfile
    known: tuple[Any, ...] = ()
    """Rate, channels, sample format, byte order and container, if no header is trustworthy."""
    container: str = ""  # libsndfile's name of the container, if `known` says otherwise


@contextmanager
def open_recording(
    path: Path, raw: Raw | None = None, *, track: int | None = None
) -> Iterator[Recording]:
    """Open a file for reading; `raw` says what headerless PCM holds, `track` counts from 1.

    Raises AudioFileError if it cannot be read, holds no sound, or less than its header says;
    MissingPackageError if it takes PyAV, which is not installed.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise AudioFileError(f"{path} is a folder; name a file in it.")
    with ExitStack() as opened:
        try:
            file = opened.enter_context(path.open("rb"))
            recording = _open_sndfile(path, file, raw, opened) if track is None else None
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

    Samples that are no sound (not finite, or beyond 1e6 times full scale) are silence.
    """
    silenced = 0
    for block in _cut(recording.blocks(frames), frames):
        with np.errstate(invalid="ignore"):
            sound = np.abs(block) < LOUDEST
        silenced += int(block.size - np.count_nonzero(sound))
        yield block if sound.all() else np.where(sound, block, np.float32(0.0))
    if silenced:
        recording.notes.append(f"{silenced} samples were not finite or absurd; they became silence")


def _cut(pieces: Iterator[Array], frames: int) -> Iterator[Array]:
    """Yield pieces of sound as blocks of `frames`, the last one shorter."""
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
            blocks = [block.mean(axis=1) for block in read_blocks(recording, path)]
            signals.append(np.concatenate([np.empty(0, np.float32), *blocks]))
            rates_hz.append(recording.samplerate)
    signals = [
        signal if hz == rates_hz[0] else load_soxr().resample(signal, hz, rates_hz[0])
        for signal, hz in zip(signals, rates_hz, strict=True)
    ]
    shortest = min(map(len, signals))
    return [signal[:shortest] for signal in signals], rates_hz[0]


def _open_sndfile(
    path: Path, file: BinaryIO, raw: Raw | None, opened: ExitStack
) -> Recording | None:
    """Open a file by libsndfile; return None if PyAV is to read it."""
    notes: list[str] = []
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise AudioFileError(f"{path} is empty; it is no sound file.")
    raw = raw or HEADERLESS.get(path.suffix.lower())
    if raw is None and path.suffix.lower() in RAW_SUFFIXES:
        raise AudioFileError(
            f"{path} has no header that says what it holds; give --rate, --channels and --format."
        )
    layout = _Layout([(0, size)], raw.known) if raw else _layout(path, file, size, notes)
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
    file.seek(containers.id3_size(file))
    start = file.read(256)
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
        _bit_rate(first, layout.parts[0][1] - layout.parts[0][0], start),
        b"Xing" in start,
        notes=notes,
    )


def _layout(path: Path, file: BinaryIO, size: int, notes: list[str]) -> _Layout:
    """Return where a file's sound lies; nowhere if libsndfile cannot know."""
    start = containers.id3_size(file)
    file.seek(start)
    head = file.read(4)
    if head == b"OggS":
        parts, ended = containers.ogg_links(file)
        if not ended:
            notes.append("its last page is missing; it was cut off, or is still being written")
        return _Layout(parts)
    if head == b"fLaC":
        return _Layout(_flac_parts(file, start, size))
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0" and head[1] & 6:  # MPEG audio, layers I to III
        held = containers.mp3_held(file)
        if held is not None and held < 1.0:
            raise truncated(path, held)
        return _Layout([(0, size)] if held else [])
    # Of another file with that name libmpg123 would complain on file descriptor 2.
    named_mp3 = path.suffix.lower() == ".mp3" and head not in (b"RIFF", b"RF64", b"FORM")
    return _wav_layout(path, file, size, notes) or _Layout([] if named_mp3 else [(0, size)])


def _flac_parts(file: BinaryIO, start: int, size: int) -> list[tuple[int, int]]:
    """Return the byte ranges of FLAC streams that were joined to one file, without ID3 tags."""
    starts = [start]
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (at := content.find(b"fLaC\0\0\0\x22", starts[-1] + 4)) > 0:
            starts.append(at)
        size -= 128 if content[-128:-125] == b"TAG" else 0
    return list(zip(starts, [*starts[1:], size], strict=True))


def _wav_layout(path: Path, file: BinaryIO, size: int, notes: list[str]) -> _Layout | None:
    """Return how to read a WAV whose header libsndfile takes amiss, and where its sound lies.

    That is a length that has wrapped round at 4 GiB, or was never written, and BW64. None for a WAV
    that is as it should be.
    """
    chunks = containers.read_chunks(file)
    if chunks is None or not {b"fmt ", b"data"} <= {*chunks.found}:
        return None
    if {b"RIFF", b"RF64"} & {*chunks.found}:
        raise AudioFileError(
            f"{path} is several WAVs in one file; split them, or join them by sox."
        )
    sound = chunks.found[b"data"]
    file.seek(chunks.found[b"fmt "].start)
    form = containers.wav_format(file.read(26), chunks.order)
    if form is None:
        return None
    held, endless = size - sound.start, containers.is_endless(sound.size)
    if sound.size > held and not endless:
        raise truncated(path, held / sound.size)
    end = min(size, sound.start + sound.size)
    if chunks.every[-1] is sound and size - chunks.end > containers.PIPE_SLACK:
        wraps = (held - sound.size) >> 32
        end = end + (wraps << 32) if wraps else size
        if not wraps and not endless:
            notes.append("its sound goes on after the length in its header; all of it was read")
    elif chunks.magic != b"BW64":
        return None
    endian = "LITTLE" if chunks.order == "<" else "BIG"
    container = "WAV" if chunks.magic[:2] == b"RI" else "RF64"
    return _Layout([(sound.start, end)], (*form, endian, "RAW"), container)


def _bit_rate(file: soundfile.SoundFile, size: int, start: bytes) -> float:
    """Return a lossy codec's bits a second: Vorbis states what it was asked for."""
    if file.subtype == "VORBIS" and (nominal := int.from_bytes(start[48:52], "little")) < 1 << 31:
        return float(nominal)
    lossy = file.subtype in PERCEPTUAL and file.frames
    return 8.0 * size * file.samplerate / file.frames if lossy else 0.0


class _Reader:
    """The parts of a file, read one after the other."""

    def __init__(self, path: Path, layout: _Layout, opened: ExitStack) -> None:
        self._path, self._layout, self._opened = path, layout, opened
        self._window: containers.Window | None = None
        self.first = self._open(layout.parts[0])
        promise = re.search(  # of containers other than WAV
            r"^ *(?:SSND|Data Size|data|riff|Riff size) *: (\d+) \(should be (\d+)\)",
            self.first.extra_info,
            re.MULTILINE,
        )
        if promise and int(promise[2]) < int(promise[1]) < containers.LARGEST_PROMISE:
            raise truncated(path, int(promise[2]) / int(promise[1]))

    def _open(self, part: tuple[int, int]) -> soundfile.SoundFile:
        place: Any = os.fsencode(self._path)
        if self._layout.known or part != (0, os.path.getsize(place)):
            self._window = containers.Window(self._path.open("rb"), *part)
            place = self._opened.enter_context(self._window)
        return self._opened.enter_context(soundfile.SoundFile(place, "r", *self._layout.known))

    def blocks(self, frames: int) -> Iterator[Array]:
        """Yield what is read at a time: at most `frames`."""
        first, alone, done = self.first, len(self._layout.parts) == 1, 0
        try:
            for part in self._layout.parts:
                file = first if part == self._layout.parts[0] else self._open(part)
                if (file.samplerate, file.channels) != (first.samplerate, first.channels):
                    now = file.samplerate, file.channels, done / first.samplerate
                    raise changed(self._path, *now)
                while len(block := file.read(frames, "float32", always_2d=True)):
                    done += len(block)
                    yield block
                if self._window is not None and self._window.error is not None:
                    raise self._window.error
        except soundfile.LibsndfileError as error:
            raise AudioFileError(
                f"{self._path} is damaged after {done / first.samplerate:.1f} s "
                f"({reason_of(error)}); restore it or re-encode it with ffmpeg."
            ) from None
        guessed = first.format[:3] == "WAV" and first.subtype[:4] == "MPEG"
        if alone and not guessed and done < first.frames < 1 << 62:
            raise truncated(self._path, done / first.frames)


def truncated(path: Path, part: float) -> AudioFileError:
    """Return the error of a file that holds only a part of its sound."""
    return AudioFileError(
        f"{path} is truncated: it holds {int(100 * part)}% of the sound its header promises; "
        f"copy it again, or repair it with 'ffmpeg -i {path.name} repaired{path.suffix}'."
    )


def changed(path: Path, rate_hz: int, channels: int, seconds: float) -> AudioFileError:
    """Return the error of a file whose rate or number of channels changes on the way."""
    return AudioFileError(
        f"{path} changes to {rate_hz} Hz and {channels} channels after {seconds:.1f} s; "
        "split it there, for instance with ffmpeg."
    )
