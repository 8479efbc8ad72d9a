"""Sound files in blocks. What the decoder gives counts, not what a header promises.

libsndfile reads and writes. Where it would lose sound (an MP3 without a count of its frames) or
knows no such file, PyAV reads (:mod:`rtden.files.media`, extra "av").
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from rtden.errors import AudioFileError
from rtden.files.atomic import check_target, new_file, reason_of, write_errors, write_whole
from rtden.files.containers import (
    PIPE_SIZES,
    PIPE_SLACK,
    Chunks,
    Window,
    mp3_held,
    ogg_links,
    read_chunks,
    wav_format,
)
from rtden.files.listing import HEADERLESS, RAW_SUFFIXES, SUFFIXES, Raw
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
SYSTEM_ERROR = 2
"""libsndfile's code for what the operating system refused."""
LOUDEST = 1e6
"""Samples beyond this (120 dB above full scale) are no sound."""
LARGEST_WAV = 4_200_000_000
"""A WAV's sizes have 32 bits; what may become larger is written as RF64."""
GENTLE_SUBTYPES = {"FLOAT": "PCM_24", "DOUBLE": "PCM_24", "PCM_32": "PCM_24"}
"""What a container takes that has no room for a sample format."""
PERCEPTUAL = ("OPUS", "VORBIS", "MPEG_LAYER_III")
WRITABLE = ", ".join(sorted(SUFFIXES))

Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all, 0 where that is not known."""
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
    """Takes a number of frames, yields blocks (frames, channels) of that many, the last one shorter."""
    endian: str = "FILE"
    strings: dict[str, str] = field(default_factory=dict)
    """Title, artist and the like, as libsndfile names them."""
    bit_rate: float = 0.0
    """Bits a second of a lossy codec; 0 where unknown."""
    notes: list[str] = field(default_factory=list)
    """What a user should know of it."""


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
            recording = _open_sndfile(path, file, raw, opened) if not track else None
        except FileNotFoundError:
            raise AudioFileError(f"there is no file {path}; check the name.") from None
        except OSError as error:
            sentence = f"{path} cannot be read ({error.strerror}); check its permissions."
            raise AudioFileError(sentence) from None
        if recording is None:
            from rtden.files.media import open_media

            recording = opened.enter_context(open_media(path, track=track))
        yield recording


def _open_sndfile(
    path: Path, file: BinaryIO, raw: Raw | None, opened: ExitStack
) -> Recording | None:
    """Open a file by libsndfile; None if PyAV is to read it."""
    suffix = path.suffix.lower()
    raw = raw or HEADERLESS.get(suffix)
    if raw is None and suffix in RAW_SUFFIXES:
        raise AudioFileError(
            f"{path} has no header that says what it holds; give --rate, --channels and --format."
        )
    notes: list[str] = []
    known: tuple[Any, ...] = raw.known if raw else ()
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise AudioFileError(f"{path} is empty; it is no sound file.")
    parts, container = [(0, size)], ""
    head = _head(file)
    if raw is None:
        if (chunks := read_chunks(file)) is not None and head[:4] != b"FORM":
            mended = _mend_wav(path, file, chunks, size, notes)
            if mended is not None:
                (container, known), parts = mended[0], [mended[1]]
        elif head[:4] == b"OggS":
            parts, ended = ogg_links(file)
            if not ended:
                notes.append("its last page is missing; it was cut off, or is still being written")
        elif _is_mp3(head, suffix):
            held = mp3_held(file)
            if held is None:
                return None
            if held < 1.0:
                raise _truncated(path, held)
    windows: list[Window] = []

    def open_part(start: int, end: int) -> soundfile.SoundFile:
        place: Any = os.fsencode(path)
        if known or len(parts) > 1:
            place = opened.enter_context(Window(path.open("rb"), start, end))
            windows.append(place)
        return opened.enter_context(soundfile.SoundFile(place, "r", *known))

    try:
        first = open_part(*parts[0]) if parts else None
    except soundfile.LibsndfileError as error:
        if "file is malformed" in error.error_string:
            raise AudioFileError(
                f"{path} is damaged or truncated ({reason_of(error)}); copy it again."
            ) from None
        return None
    if first is None:
        return None
    if len(parts) == 1:
        _check_length(first, path)
    return Recording(
        path,
        first.samplerate,
        first.channels,
        first.frames if first.frames < 1 << 62 and len(parts) == 1 else 0,
        container or first.format,
        first.subtype,
        lambda frames: _sndfile_blocks(path, first, parts, open_part, windows, frames),
        first.endian if first.format in ("WAV", "AIFF", "AU", "RAW") else "FILE",
        first.copy_metadata(),
        _bit_rate(first, parts[0][1] - parts[0][0], head),
        notes,
    )


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(64)


def _is_mp3(head: bytes, suffix: str) -> bool:
    frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2
    return frame or (head[:3] == b"ID3" and suffix not in (".flac", ".aac", ".wav", ".tta"))


def _bit_rate(file: soundfile.SoundFile, size: int, head: bytes) -> float:
    """Return a lossy codec's bits a second: Vorbis states what it was asked for."""
    if file.subtype == "VORBIS" and (nominal := int.from_bytes(head[48:52], "little")) < 1 << 31:
        return float(nominal)
    lossy = file.subtype in PERCEPTUAL and file.frames
    return 8.0 * size * file.samplerate / file.frames if lossy else 0.0


def _mend_wav(
    path: Path, file: BinaryIO, chunks: Chunks, size: int, notes: list[str]
) -> tuple[tuple[str, tuple[Any, ...]], tuple[int, int]] | None:
    """Return how to read a WAV whose header libsndfile takes amiss, and where its sound lies.

    That is a length that has wrapped round at 4 GiB, or was never written, and BW64. None for a WAV
    that is as it should be.

    Raises
    ------
    AudioFileError
        If the file ends before its sound does.
    """
    sound, form = chunks.sound, wav_format(file, chunks)
    if sound is None or form is None:
        return None
    held, beyond = size - sound.start, size - chunks.end
    unknown = not sound.size or any(abs(sound.size - pipe) <= PIPE_SLACK for pipe in PIPE_SIZES)
    if sound.size > held and not unknown:
        raise _truncated(path, held / sound.size)
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
    return (container, (*form, endian, "RAW")), (sound.start, end)


def _check_length(file: soundfile.SoundFile, path: Path) -> None:
    """Raise if the header of another container than WAV promises more than the file holds."""
    promise = re.search(
        r"^ *(?:SSND|Data Size|data|riff|Riff size) *: (\d+) \(should be (\d+)\)",
        file.extra_info,
        re.MULTILINE,
    )
    if promise and int(promise[2]) < int(promise[1]) < min(PIPE_SIZES) - PIPE_SLACK:
        raise _truncated(path, int(promise[2]) / int(promise[1]))


def _sndfile_blocks(
    path: Path,
    first: soundfile.SoundFile,
    parts: list[tuple[int, int]],
    open_part: Callable[[int, int], soundfile.SoundFile],
    windows: list[Window],
    frames: int,
) -> Iterator[Array]:
    buffer = np.empty((frames, first.channels), np.float32)
    done = filled = 0
    try:
        for part in parts:
            file = first if part == parts[0] else open_part(*part)
            if (file.samplerate, file.channels) != (first.samplerate, first.channels):
                raise AudioFileError(
                    f"{path} changes to {file.samplerate} Hz and {file.channels} channels after "
                    f"{done / first.samplerate:.1f} s; split it there, for instance with ffmpeg."
                )
            while count := len(file.read(out=buffer[filled:])):
                done += count
                filled += count
                if filled == frames:
                    yield buffer
                    filled = 0
            if windows and (error := windows[-1].error):
                raise error
    except soundfile.LibsndfileError as error:
        raise AudioFileError(
            f"{path} is damaged after {done / first.samplerate:.1f} s ({reason_of(error)}); "
            "restore it or re-encode it with ffmpeg."
        ) from None
    if filled:
        yield buffer[:filled]
    counted = len(parts) == 1 and not (first.format[:3] == "WAV" and first.subtype[:4] == "MPEG")
    if counted and done < first.frames < 1 << 62:
        raise _truncated(path, done / first.frames)


def _truncated(path: Path, part: float) -> AudioFileError:
    return AudioFileError(
        f"{path} is truncated: it holds {int(100 * part)}% of the sound its header promises; "
        f"copy it again, or repair it with 'ffmpeg -i {path.name} repaired{path.suffix}'."
    )


def read_blocks(recording: Recording, path: Path, *, frames: int = BLOCK_FRAMES) -> Iterator[Array]:
    """Yield a file's blocks of `frames`, shape (frames, channels), the last one shorter.

    The array is used again for the next block. Samples that are no sound (not finite, or beyond
    1e6 times full scale) are silence.

    Raises
    ------
    AudioFileError
        If the file is damaged, or ends before its header says.
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
    """Return files whole, as mono at the first one's rate and as long as the shortest; and the rate.

    Raises
    ------
    AudioFileError
        If one cannot be read.
    """
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


@contextmanager
def write_recording(
    path: Path,
    rate_hz: int,
    channels: int,
    *,
    container: str = "WAV",
    subtype: str = "PCM_16",
    endian: str = "FILE",
    strings: dict[str, str] | None = None,
    bit_rate: float = 0.0,
    force: bool = False,
    leave_at: Path | None = None,
    finish: Callable[[Path], None] = lambda _: None,
) -> Iterator[Callable[[Array], None]]:
    """Yield the function that appends a block to a file, which appears when all went well, whole.

    Parameters
    ----------
    container, subtype, endian : str
        libsndfile's names.
    strings : dict, optional
        Title and the like, as far as the container has a place for them.
    bit_rate : float
        Bits a second of a lossy codec; 0 for libsndfile's choice.
    leave_at : Path, optional
        Leave it here when it is whole, for a caller that moves it to `path` itself.
    finish : callable
        Gets the path of the complete file before it is moved to its place.

    Raises
    ------
    AudioFileError
        If the file exists already or cannot be written.
    """
    with new_file(path, force=force, leave_at=leave_at) as partial:
        level = _compression(subtype, bit_rate, rate_hz, channels)
        mode = "CONSTANT" if level is not None and subtype.startswith("MPEG") else None
        try:
            file = soundfile.SoundFile(
                os.fsencode(partial), "w", rate_hz, channels, subtype, endian, container,
                compression_level=level, bitrate_mode=mode,
            )  # fmt: skip
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            advice = f"as {container}", "choose another format, for instance NAME.wav."
            if getattr(error, "code", 0) == SYSTEM_ERROR:
                advice = "there", "make room on the disk or choose another place."
            sentence = f"{path} cannot be written {advice[0]} ({reason_of(error)}); {advice[1]}"
            raise AudioFileError(sentence) from None
        written = 0

        def append(block: Array) -> None:
            nonlocal written
            with write_errors(path):
                file.write(block)
            written += len(block)

        with write_errors(path):
            with file:
                for name, value in (strings or {}).items():
                    with suppress(soundfile.LibsndfileError):
                        setattr(file, name, value)
                yield append
            _check_written(partial, written, container, bit_rate * written / rate_hz / 8.0)
            finish(partial)


def _compression(subtype: str, bit_rate: float, rate_hz: int, channels: int) -> float | None:
    """Return libsndfile's level of compression (0 to 1) for a bit rate; None for its own choice."""
    if not bit_rate or subtype not in PERCEPTUAL:
        return None
    if subtype == "OPUS":
        level = 1.0 - (bit_rate / channels - 6000.0) / 250000.0
    elif subtype == "VORBIS":  # bits a sample of stereo at quality 0 to 10, at 44.1 kHz
        rates = np.array([64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500]) / 88.2
        level = 1.0 - float(np.interp(bit_rate / rate_hz / channels, rates, np.linspace(0, 1, 11)))
    else:
        low, high = (32, 320) if rate_hz >= 32000 else (8, 160) if rate_hz >= 16000 else (8, 64)
        level = (high - bit_rate / 1000.0) / (high - low)
    return min(1.0, max(0.0, level))


def _check_written(path: Path, frames: int, container: str, size: float) -> None:
    """Raise OSError if a file's end is missing: a codec may fail without a word when it closes."""
    whole = True
    if container == "MP3":  # frames of few bits a second have no room for a count
        with path.open("rb") as file:
            held = mp3_held(file)
        whole = held == 1.0 or (held is None and path.stat().st_size > 0.9 * size > 0.0)
    elif frames and container != "RAW":
        try:
            with soundfile.SoundFile(os.fsencode(path)) as file:
                if file.seekable() and file.subtype != "GSM610":
                    file.seek(frames - min(frames, 8192))
                    whole = file.frames >= frames
                    whole &= len(file.read(min(frames, 8192), dtype="float32")) == min(frames, 8192)
        except soundfile.LibsndfileError:
            whole = False
    if not whole:
        raise OSError(5, "its end is missing")


def format_of(path: Path, recording: Recording | None = None) -> tuple[str, str]:
    """Return libsndfile's names of container and sample format for a file to be written.

    The suffix chooses the container, and the recording, if there is one, the sample format, as far
    as the container has it. Without a suffix, or with the recording's own, the container is the
    recording's. A large WAV is an RF64.

    Raises
    ------
    AudioFileError
        If nothing can be written under that suffix.
    """
    suffix = path.suffix[1:].upper()
    wanted = {
        **dict.fromkeys(("WAVE", ""), "WAV"),
        **dict.fromkeys(("AIF", "AIFC"), "AIFF"),
        **dict.fromkeys(("OGA", "OPUS"), "OGG"),
        **dict.fromkeys(("PCM", "GSM", "VOX"), "RAW"),
        "SND": "AU",
    }.get(suffix, suffix)
    if recording and recording.format and suffix in ("", recording.path.suffix[1:].upper()):
        wanted = recording.format
    if wanted not in soundfile.available_formats():
        raise AudioFileError(f"rtden cannot write {path.suffix} files; choose one of {WRITABLE}.")
    if recording is None:
        return wanted, "OPUS" if suffix == "OPUS" else str(soundfile.default_subtype(wanted))
    if wanted == "WAV" and recording.format in ("WAVEX", "RF64"):
        wanted = recording.format
    subtype = recording.subtype
    if not soundfile.check_format(wanted, subtype) or subtype in PERCEPTUAL:
        subtype = GENTLE_SUBTYPES.get(subtype, "")
        if not soundfile.check_format(wanted, subtype):
            subtype = "OPUS" if suffix == "OPUS" else str(soundfile.default_subtype(wanted))
    if wanted == recording.format in ("OGG", "MP3"):
        subtype = recording.subtype
    width = {"DOUBLE": 8, "FLOAT": 4, "PCM_32": 4, "PCM_24": 3}.get(subtype, 2)
    if wanted in ("WAV", "WAVEX") and recording.frames * recording.channels * width > LARGEST_WAV:
        wanted = "RF64"
    return wanted, subtype
