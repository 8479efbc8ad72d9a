"""Where the sound of a file lies, if its header cannot be believed."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rtden.errors import AudioFileError, DamagedFileError
from rtden.files import containers
from rtden.files.containers import Chunk, Chunks, read_at
from rtden.files.endings import mp3_held, promised_end
from rtden.files.listing import Raw

BEGINNINGS = {b"RIFF", b"RF64", b"riff", b"FORM", b"caff"}
"""Of files with chunks; among the chunks of one they begin another."""
SOUND = (b"data", b"SSND", b"BODY")
STEREO_SVX = b"\0\0\0\6"
VOC_SLACK = 160  # bytes that may be wrong in what SoX states
CUT_OFF = "its end is missing: it was cut off, or is still being written"
GOES_ON = "its sound goes on after the length in its header; all of it was read"


class Layout(NamedTuple):
    """Where the sound of a file lies."""

    parts: list[tuple[int, int]]  # byte ranges, each a stream to libsndfile
    known: tuple[Any, ...] = ()
    """Rate, channels, sample format, byte order and container, if no header is trustworthy."""
    container: str = ""  # libsndfile's name of the container, if `known` says otherwise
    frames: int = 0  # of a codec whose last block is filled up; 0 where that is not stated


def layout_of(
    path: Path, file: BinaryIO, size: int, notes: list[str], raw: Raw | None = None
) -> Layout:
    """Return where a file's sound lies; nowhere if libsndfile cannot know.

    Raises AudioFileError if a file holds less than its header promises.
    """
    start, end = containers.start_of_sound(file), containers.end_of_sound(file)
    if start >= size:  # it ends within the tag at its beginning
        raise no_sound(path)
    if raw is not None:
        rest = (end - start) % raw.frame_bytes
        if end - rest <= start:
            raise no_sound(path)
        notes += [CUT_OFF] if rest else []
        return Layout([(start, end - rest)], raw.known)
    head = read_at(file, start, 4)
    if head == b"OggS":
        parts, ended = containers.ogg_links(file)
        if parts and not ended:
            notes.append(CUT_OFF)
        return Layout(parts)
    if head in (b"fLaC", b"Crea"):
        parts_of = _flac_parts if head == b"fLaC" else _voc_parts
        return Layout(parts_of(path, file, start, end))
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0" and head[1] & 6:  # MPEG audio, layers I to III
        held = mp3_held(file)
        if held is not None and held < 1.0:
            raise truncated(path, held)
        return Layout([(0, size)] if held else [])
    if start:  # as if there were no tag
        untagged: Any = containers.Window(path.open("rb"), start, size)
        with untagged:
            layout = layout_of(path, untagged, size - start, notes)
        return layout._replace(parts=[(at + start, end + start) for at, end in layout.parts])
    check_end(path, file)
    # Of another file with that name libmpg123 would complain on file descriptor 2.
    named_mp3 = path.suffix.lower() == ".mp3" and head not in (b"RIFF", b"RF64", b"FORM")
    return _chunked_layout(path, file, size, notes) or Layout([] if named_mp3 else [(0, end)])


def _flac_parts(_: Path, file: BinaryIO, start: int, end: int) -> list[tuple[int, int]]:
    """Return the byte ranges of FLAC streams that were joined to one file, without tags."""
    starts = [start]
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (at := content.find(b"fLaC\0\0\0\x22", starts[-1] + 4)) > 0:
            starts.append(at)
    return list(zip(starts, [*starts[1:], end], strict=True))


def _voc_parts(path: Path, file: BinaryIO, start: int, size: int) -> list[tuple[int, int]]:
    """Return the whole of a VOC of one block, as libsndfile reads it; nothing for one of more."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.rfind(b"Creative Voice File\x1a") != start:
            raise joined(path)
    at, blocks = start + int.from_bytes(read_at(file, start + 20, 2), "little"), 0
    while at < size - VOC_SLACK and (head := read_at(file, at, 4))[0]:  # 0 is the end
        at += 4 + int.from_bytes(head[1:], "little")
        blocks += 1
    if at - size > VOC_SLACK:
        raise truncated(path, size / at)
    end = at if size - at > VOC_SLACK else size  # behind it anything may follow
    return [(start, end)] if blocks == 1 else []


def _chunked_layout(path: Path, file: BinaryIO, size: int, notes: list[str]) -> Layout | None:
    """Return how to read a file with chunks; None where libsndfile does it as it should."""
    chunks = containers.read_chunks(file)
    if chunks is None:
        return None
    names = [chunk.name for chunk in chunks.every]
    if BEGINNINGS & {*names} or names.count(b"data") > 1:
        raise joined(path)
    sound = next((chunk for chunk in chunks.every if chunk.name in SOUND), None)
    if sound is None:
        return None
    held = size - sound.start
    block = _block_bytes(file, chunks)
    if sound.size // block > held // block and not containers.is_endless(sound.size):
        raise truncated(path, held / sound.size)
    if sound.name == b"BODY":
        return _svx_layout(file, size, chunks, sound)
    return _wav_layout(file, size, chunks, sound, notes) if b"fmt " in chunks.found else None


def _block_bytes(file: BinaryIO, chunks: Chunks) -> int:
    """Return the bytes of a WAV's smallest part, 1 for any other file."""
    if b"fmt " not in chunks.found:
        return 1
    held = read_at(file, chunks.found[b"fmt "].start + 12, 2).ljust(2, b"\0")
    return struct.unpack(f"{chunks.order}H", held)[0] or 1


def _svx_layout(file: BinaryIO, size: int, chunks: Chunks, sound: Chunk) -> Layout:
    """Return how to read an 8SVX, of whose two channels libsndfile knows nothing."""
    width = 2 if read_at(file, 8, 4) == b"16SV" else 1
    channels = chunks.found.get(b"CHAN")
    stereo = channels and read_at(file, channels.start, 4) == STEREO_SVX
    return Layout([] if stereo else [(0, size)], frames=sound.size // width)


def _wav_layout(
    file: BinaryIO, size: int, chunks: Chunks, sound: Chunk, notes: list[str]
) -> Layout | None:
    """Return how to read a WAV whose header libsndfile takes amiss, and where its sound lies.

    That is a length that has wrapped round at 4 GiB, or was never written, BW64, and W64, whose
    extensible header it takes for 32-bit integers. None for a WAV that is as it should be.
    """
    held, endless = size - sound.start, containers.is_endless(sound.size)
    content = read_at(file, chunks.found[b"fmt "].start, 26)
    form = containers.wav_format(content, chunks.order)
    if form is None:
        stated = containers.stated_frames(file, chunks)
        block_bytes, block_frames = struct.unpack(
            f"{chunks.order}H4xH", content[12:20].ljust(8, b"\0")
        )
        held = -(-sound.size // block_bytes) * block_frames if block_bytes else 0
        filled = held - block_frames <= stated <= held  # SoX adds the padding to an even size
        return Layout([(0, size)], frames=stated if filled else 0)
    end = min(size, sound.start + sound.size)
    if chunks.every[-1] is sound and size - chunks.end > containers.PIPE_SLACK:
        wraps = (held - sound.size) >> 32
        end = end + (wraps << 32) if wraps else size
        if not wraps and not endless:
            notes.append(GOES_ON)
    elif chunks.magic not in (b"BW64", b"riff") and not (endless and chunks.magic == b"RF64"):
        return None
    endian = "LITTLE" if chunks.order == "<" else "BIG"
    container = {b"RIFF": "WAV", b"RIFX": "WAV", b"riff": "W64"}.get(chunks.magic, "RF64")
    return Layout([(sound.start, end)], (*form, endian, "RAW"), container)


def no_sound(path: Path) -> AudioFileError:
    """Return the error of a file from which no sample comes; it may be no sound file at all."""
    return AudioFileError(
        f"{path} has no sound that can be decoded; it may be damaged or cut off: copy it again."
    )


def no_header(path: Path) -> AudioFileError:
    """Return the error of PCM without a header and a description."""
    return AudioFileError(
        f"{path} has no header that says what it holds; 'rtden file' reads it with --rate, "
        "--channels and --format."
    )


def truncated(path: Path, part: float) -> DamagedFileError:
    """Return the error of a file that holds only a part of its sound."""
    repair = f", or repair it with 'ffmpeg -i {path.name} repaired{path.suffix}'"
    return DamagedFileError(
        f"{path} is truncated: it holds {int(100 * part)}% of the sound its header promises; "
        f"copy it again{repair if path.suffix else ''}."
    )


def check_end(path: Path, file: BinaryIO) -> None:
    """Raise AudioFileError if a file ends before its header says, or begins once more there."""
    size, end = file.seek(0, os.SEEK_END), promised_end(file)
    if end > size:
        raise truncated(path, size / end)
    after = read_at(file, end, 4)
    if end and after and read_at(file, 0, 4) == after:
        raise joined(path)


def joined(path: Path) -> AudioFileError:
    """Return the error of a file of which a decoder would read the first part alone."""
    return AudioFileError(
        f"{path} is several files in one; split them, or join their sound by ffmpeg or sox."
    )
