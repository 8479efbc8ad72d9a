"""What the bytes of a file say that libsndfile and FFmpeg do not: chunks, Ogg pages, lengths."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

PIPE_SIZES = (0x7F000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Programs that write a WAV or AIFF to a pipe, where its length is unknown, promise about this."""
PIPE_SLACK = 8192
CHUNKED = frozenset(
    b"RIFFWAVE|RIFXWAVE|RF64WAVE|BW64WAVE|FORMAIFF|FORMAIFC|FORM8SVX|FORM16SV".split(b"|")
)
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"
"""How a W64 begins: its chunks have names of 16 bytes and sizes of 8, which count themselves."""
WAV_SUBTYPES = {
    **{(1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32"},
    **{(3, 32): "FLOAT", (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW"},
}
"""libsndfile's names of a WAV's sample formats, by format tag and bits; codecs have none."""

SHORT_BYTES = 4096
SYNC_WORDS = {b"G": "mpegts", b"\xff\xf1": "aac", b"\xff\xf9": "aac", b"\x0b\x77": "eac3"}
"""How files begin that FFmpeg does not recognise if they have a frame or two, and its formats."""


BLANKS = re.compile(rb"[\s\0\xef\xbb\xbf]+(?=fLaC\0|(?:RIFF|RF64|FORM)....[WA])", re.DOTALL)
"""What some servers and programs write before a file, with or without a byte-order mark."""


def is_endless(size: int) -> bool:
    """Return whether the stated length of sound is what programs write that do not know it."""
    return not size or size >= 1 << 62 or any(abs(size - pipe) <= PIPE_SLACK for pipe in PIPE_SIZES)


def read_at(file: BinaryIO, start: int, size: int) -> bytes:
    """Return up to `size` bytes from an offset on; sizes in damaged files may be anything."""
    left = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return file.read(max(0, min(size, left)))


class Chunk(NamedTuple):
    """A chunk of RIFF, RF64, BW64, W64, AIFF, 8SVX or CAF."""

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
        return "<" if self.magic in (b"RIFF", b"RF64", b"BW64", b"riff") else ">"


def read_chunks(file: BinaryIO) -> Chunks | None:
    """Return the chunks of a WAV, RF64, BW64, W64, AIFF, 8SVX or CAF; None for any other file."""
    length, head = file.seek(0, os.SEEK_END), read_at(file, 0, 12)
    chunks, data_size = Chunks(head[:4], {}, [], 0), 0
    if w64 := head == W64:
        at, form, even = 40, "<4s12xq", 8
    elif head[:8] == b"caff\0\1\0\0":
        at, form, even = 8, ">4sq", 1
    elif head[:4] + head[8:] in CHUNKED:
        at, form, even = 12, f"{chunks.order}4sI", 2
    else:
        return None
    header = struct.calcsize(form)
    while at + header <= length:
        name, size = struct.unpack(form, read_at(file, at, header))
        size -= header if w64 else 0
        if size < 0 or not all(0x20 <= letter < 0x7F for letter in name):
            break
        if name == b"ds64":
            data_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data" and size == 0xFFFFFFFF and data_size:
            size = data_size
        chunks.every.append(Chunk(name, at + header, size))
        chunks.found.setdefault(name, chunks.every[-1])
        at += header + size + -size % even
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


def stated_frames(file: BinaryIO, chunks: Chunks) -> int:
    """Return how many frames the chunk "fact" of a WAV counts; 0 without it."""
    fact = chunks.found.get(b"fact")
    if fact is None or fact.size != 4:
        return 0
    return int(struct.unpack(f"{chunks.order}I", read_at(file, fact.start, 4))[0])


def state_frames(path: Path, frames: int) -> None:
    """Write how many frames a WAV or AIFF has into its chunk "fact" or "COMM", if it has one.

    libsndfile counts what fills up a WAV's last block, or an odd number of bytes in an AIFF.
    """
    with path.open("r+b") as file:
        chunks = read_chunks(file)
        found = chunks.found if chunks and frames < 1 << 32 else {}
        if chunks and found and stated_frames(file, chunks):
            file.seek(found[b"fact"].start)
            file.write(struct.pack(f"{chunks.order}I", frames))
        elif b"COMM" in found and b"SSND" in found:
            at, sound = found[b"COMM"].start + 2, found[b"SSND"]
            if read_at(file, at, 4) == struct.pack(">I", frames + 1):
                for offset, number in ((at, frames), (sound.start - 4, sound.size - 1)):
                    file.seek(offset)
                    file.write(struct.pack(">I", number))


def copy_speakers(source: BinaryIO, made: BinaryIO) -> None:
    """Copy what an extensible WAV says of its samples: speakers, valid bits and Ambisonics."""
    fields, start = list[bytes](), 0
    for file in (source, made):
        chunks = read_chunks(file)
        chunk = chunks and chunks.found.get(b"fmt ")
        fields.append(read_at(file, chunk.start, min(chunk.size, 40)) if chunk else b"")
        start = chunk.start if chunk else 0
    given, written = fields
    same_samples = given[:16] == written[:16] and given[24:26] == written[24:26]  # int or float
    if len(given) == len(written) == 40 and same_samples:
        made.seek(start + 18)
        made.write(given[18:])


class Window(io.RawIOBase):
    """The part of a file from `start` to `end` as a file of its own, which libsndfile reads.

    Its header states no length, where that may be less than there is.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size = file, start, end - start
        self._at = self._patch_at = 0
        self._patch, head = b"", read_at(file, start, 26).ljust(26, b"\0")
        self.stated_frames = 0  # of FLAC, by its header; 0 where that is not known
        if head[:4] == b"fLaC":
            self.stated_frames = int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
            self._patch_at, self._patch = 21, bytes([head[21] & 0xF0, 0, 0, 0, 0])
        elif head[:4] == b".snd" and sum(struct.unpack(">II", head[4:12])) < self._size:
            self._patch_at, self._patch = 8, b"\xff\xff\xff\xff"
        self.patched = bool(self._patch)  # whether the file itself would be read less well
        # What ended a read, such as an interrupt: libsndfile's callbacks pass nothing on.
        self.error: BaseException | None = None

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
            view = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
            count = view.nbytes and (self._file.readinto(view) or 0)  # type: ignore[attr-defined]
            for at, byte in enumerate(self._patch, self._patch_at - self._at):
                if 0 <= at < count:
                    view[at] = byte
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

    def body(self, file: BinaryIO) -> bytes:
        """Read what the page holds; the file then stands behind it."""
        return read_at(file, self.start + len(self.head), self.body_size)


def ogg_pages(file: BinaryIO) -> Iterator[Page]:
    """Yield the pages of an Ogg file, as far as they follow each other and are whole."""
    length, at = file.seek(0, os.SEEK_END), 0
    while True:
        head = read_at(file, at, 27)
        if len(head) < 27 or head[:4] != b"OggS":
            return
        table = file.read(head[26])
        size = sum(table)
        if at + 27 + len(table) + size > length:
            return
        yield Page(at, head[5], head + table, size)
        at += 27 + len(table) + size


def ogg_links(file: BinaryIO) -> tuple[list[tuple[int, int]], bool]:
    """Return the byte ranges of the streams that follow each other, and whether all have ended.

    There are none if streams lie side by side, as sound and picture do.
    """
    starts, begun, apart = [], set[bytes](), True
    for page in ogg_pages(file):
        if page.flags & 2:
            apart &= not begun
            starts.append(page.start)
            begun.add(page.head[14:18])
        if page.flags & 4:
            begun.discard(page.head[14:18])
    ends = [*starts[1:], file.seek(0, os.SEEK_END)]
    return list(zip(starts, ends, strict=False)) if apart else [], not begun


def start_of_sound(file: BinaryIO) -> int:
    """Return where a file begins behind ID3v2 tags, blanks and zeros."""
    at = 0
    while len(head := read_at(file, at, 10)) == 10 and head[:3] == b"ID3":
        at += 10 + _syncsafe(head[6:]) + (10 if head[5] & 0x10 else 0)
    blanks = BLANKS.match(read_at(file, at, SHORT_BYTES))
    return at + (blanks.end() if blanks else 0)


def short_format(path: Path) -> str | None:
    """Return FFmpeg's format of a file that is too short to be recognised, by its beginning."""
    content = path.read_bytes() if path.stat().st_size <= SHORT_BYTES else b""
    name = next((name for word, name in SYNC_WORDS.items() if content.startswith(word)), None)
    return None if name == "mpegts" and len(content) % 188 else name


def end_of_sound(file: BinaryIO) -> int:
    """Return where the tags at the end of a file begin: ID3v1, ID3v2.4, APEv2 and Lyrics3v2."""
    end = file.seek(0, os.SEEK_END)
    while end > 0 and (size := _tag_size(read_at(file, max(0, end - 128), min(128, end)))):
        end -= size
    return max(0, end)


def _tag_size(foot: bytes) -> int:
    """Return the length of the tag that ends with these (up to 128) bytes; 0 for none."""
    if foot.startswith(b"TAG") and len(foot) == 128:
        return 128
    if foot.endswith(b"LYRICS200") and foot[-15:-9].isdigit():
        return 15 + int(foot[-15:-9])
    if foot[-10:-7] == b"3DI":
        return 20 + _syncsafe(foot[-4:])
    if foot[-32:-24] == b"APETAGEX":
        return int.from_bytes(foot[-20:-16], "little") + (32 if foot[-9] & 0x80 else 0)
    return 0


def _syncsafe(size: bytes) -> int:
    """Return a size of an ID3v2 tag, which has 7 bits a byte."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(size)))
