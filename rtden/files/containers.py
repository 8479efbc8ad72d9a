"""What the bytes of a sound file say that libsndfile does not: chunks, Ogg pages, MP3 headers."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

PIPE_SIZES = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Programs that write a WAV to a pipe, where its length is unknown, promise about this much."""
PIPE_SLACK = 8192
LARGEST_PROMISE = min(PIPE_SIZES) - PIPE_SLACK
WAV_SUBTYPES = {
    **{(1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32"},
    **{(3, 32): "FLOAT", (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW"},
}
"""libsndfile's names of a WAV's sample formats, by format tag and bits; codecs have none."""


def is_endless(size: int) -> bool:
    """Return whether a WAV's stated length is what programs write that do not know it."""
    return not size or any(abs(size - pipe) <= PIPE_SLACK for pipe in PIPE_SIZES)


class Chunk(NamedTuple):
    """A chunk of RIFF, RF64, BW64 or AIFF."""

    name: bytes
    start: int  # offset of its content
    size: int


class Chunks(NamedTuple):
    """The chunks of a file, in order."""

    magic: bytes
    found: dict[bytes, Chunk]  # the first of each name
    every: list[Chunk]
    end: int  # where they end; what follows is none

    @property
    def order(self) -> str:
        """The byte order, as :mod:`struct` writes it."""
        return "<" if self.magic in (b"RIFF", b"RF64", b"BW64") else ">"


def read_chunks(file: BinaryIO) -> Chunks | None:
    """Return the chunks of a WAV, RF64, BW64 or AIFF file, None for any other."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM") or len(head) < 12:
        return None
    chunks, at, data_size = Chunks(head[:4], {}, [], 0), 12, 0
    while at + 8 <= length:
        file.seek(at)
        name, size = struct.unpack(f"{chunks.order}4sI", file.read(8))
        if not all(0x20 <= letter < 0x7F for letter in name):
            break
        if name == b"ds64":
            data_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data" and size == 0xFFFFFFFF and data_size:
            size = data_size
        chunks.every.append(Chunk(name, at + 8, size))
        chunks.found.setdefault(name, chunks.every[-1])
        at += 8 + size + size % 2
    return chunks._replace(end=at)


def wav_format(content: bytes, order: str) -> tuple[int, int, str] | None:
    """Return rate, channels and libsndfile's sample format, by the content of a chunk "fmt ".

    None for codecs with blocks, and for what no file can have.
    """
    if len(content) < 16:
        return None
    tag, channels, rate_hz, _, _, bits = struct.unpack(f"{order}HHIIHH", content[:16])
    if tag == 0xFFFE and len(content) >= 26:
        (tag,) = struct.unpack(f"{order}H", content[24:26])
    subtype = WAV_SUBTYPES.get((tag, bits))
    return (rate_hz, channels, subtype) if subtype and rate_hz and channels else None


class Window(io.RawIOBase):
    """The part of a file from `start` to `end` as a file of its own, which libsndfile reads."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size = file, start, end - start
        self._at = 0
        self.error: BaseException | None = None
        """What ended a read, an interrupt for instance: libsndfile's callbacks pass nothing on."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the offset."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the part goes; return the number of bytes."""
        try:
            self._file.seek(self._start + self._at)
            view = memoryview(buffer).cast("B")
            view = view[: max(0, self._size - self._at)]
            count = view.nbytes and (self._file.readinto(view) or 0)  # type: ignore[attr-defined]
        except BaseException as error:
            self.error = error
            return 0
        self._at += count
        return int(count)

    def close(self) -> None:
        """Close the file beneath."""
        self._file.close()
        super().close()


class Page(NamedTuple):
    """A page of an Ogg file."""

    start: int
    flags: int  # 2 in the first page of a stream, 4 in its last
    head: bytes  # all before the body, the table of segments included
    body_size: int


def ogg_pages(file: BinaryIO) -> Iterator[Page]:
    """Yield the pages of an Ogg file, as far as they follow each other and are whole."""
    length = file.seek(0, os.SEEK_END)
    at = 0
    while True:
        file.seek(at)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return
        table = file.read(head[26])
        size = sum(table)
        if at + 27 + len(table) + size > length:
            return
        yield Page(at, head[5], head + table, size)
        at += 27 + len(table) + size


def ogg_links(file: BinaryIO) -> tuple[list[tuple[int, int]], bool]:
    """Return the byte ranges of the streams that follow each other, and whether the last ended."""
    starts, flags = [], 0
    for page in ogg_pages(file):
        if page.flags & 2 and not flags & 2:
            starts.append(page.start)
        flags = page.flags
    ends = [*starts[1:], file.seek(0, os.SEEK_END)]
    return list(zip(starts, ends, strict=False)), bool(flags & 4)


def id3_size(file: BinaryIO) -> int:
    """Return the length of the ID3v2 tags at the beginning of a file."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            return at
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if head[5] & 0x10 else 0)


def mp3_held(file: BinaryIO) -> float | None:
    """Return which part of the sound that an MP3's first frame counts is there, 1 for all.

    None without such a Xing or Info header, or where more follows (another MP3): then the count
    of frames that libsndfile gives is a guess.
    """
    length = file.seek(0, os.SEEK_END)
    start = id3_size(file)
    file.seek(start)
    frame = file.read(256)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 16:
        return None
    flags, _, size = struct.unpack(">III", frame[at + 4 : at + 16])
    if flags & 3 != 3 or not size:
        return None
    after = length - start - size
    file.seek(start + size)
    if after > 160 and file.read(3) not in (b"TAG", b"APE", b"LYR"):
        return None
    return min(1.0, (length - start) / float(size))
