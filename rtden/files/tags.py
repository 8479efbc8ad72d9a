"""Tags, pictures, cue points and time codes: copied byte for byte from one file into another.

libsndfile carries over a title and a few more strings. All the rest is copied here, after the
sound has been written: chunks of WAV and AIFF, blocks of FLAC, comments of Ogg, ID3 of MP3.
"""

from __future__ import annotations

import base64
import binascii
import io
import itertools
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import soundfile

from rtden.files.containers import (
    Chunk,
    Window,
    end_of_sound,
    ogg_pages,
    read_at,
    read_chunks,
    start_of_sound,
)

OF_THE_SOUND = frozenset(
    b"fmt |data|fact|ds64|PEAK|JUNK|junk|PAD |FLLR|filr|COMM|SSND|FVER|levl|MD5 |"
    b"VHDR|CHAN|BODY".split(b"|")
)
"""Chunks that describe the samples, or nothing."""
STRINGS = frozenset(
    b"title|copyright|encoder|encoding application|artist|comment|comments|date|recorded date|"
    b"album|license|tracknumber|genre".split(b"|")
)
"""Tags of a CAF that libsndfile copies, or that speak of the encoder."""
AROUND = "left out: ID3 or APE tags around the sound"
CAF_CHUNKS = (b"info", b"chan")  # texts, and the speakers of the channels
TECHNICAL = (
    *("bps", "number_of_", "_statistics", "duration", "encoder", "software"),
    *("language", "creation_time", "displaymatrix", "major_brand", "minor_version"),
    *("compatible_brands", "handler_name", "vendor_id", "wm/encod", "tlen", "tsse", "tsiz"),
)
"""How names of tags begin that describe the encoding, as FFmpeg has them."""
PICTURE = b"METADATA_BLOCK_PICTURE="
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
PAGE_SEGMENTS = 255
MOST_BYTES = 1 << 26  # of a chunk or tag that is kept: it is held in memory


class Tags(NamedTuple):
    """What a file holds beside its sound."""

    kind: str  # 'chunks' with the byte order, 'comments', 'id3', or '' where nothing was found
    parts: list[tuple[bytes, bytes]]
    """Chunks by name; comments b"KEY=VALUE" with no name; FLAC's other blocks by type; ID3 tags."""
    too_large: str = ""  # what was not read for its size, for a sentence
    around: bool = False  # whether ID3 or APE tags that are not its own stand around the rest

    @property
    def names(self) -> str:
        """What there is, for a sentence."""
        if self.kind == "id3":
            return "ID3 or APE tags"
        found = [
            "pictures" if text.startswith(PICTURE) else text.split(b"=")[0].decode("latin-1")
            for name, text in self.parts
            if not name and not text.upper().startswith(b"ENCODER")
        ]
        if self.kind.startswith("chunks"):
            found = [name.decode("latin-1").strip() for name, _ in self.parts]
        return ", ".join(dict.fromkeys(found))


NOTHING = Tags("", [])


def strings_of(path: Path) -> dict[str, str]:
    """Return the tags of a file that libsndfile knows; none of a file without a header."""
    with (
        suppress(soundfile.LibsndfileError, TypeError),
        soundfile.SoundFile(os.fsencode(path)) as file,
    ):
        return dict(file.copy_metadata())
    return {}


def texts_of(container: Any) -> dict[str, str]:
    """Return the tags of a file that PyAV has open, by names in lower case; no technical ones.

    A time code may be that of any stream.
    """
    audio, found = container.streams.audio, [dict(each.metadata) for each in container.streams]
    codes = {k: text for each in found for k, text in each.items() if k.lower() == "timecode"}
    tags = {**codes, **(audio[0].metadata if audio else {}), **container.metadata}
    return {k.lower(): text for k, text in tags.items() if not k.lower().startswith(TECHNICAL)}


def lost_texts(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return a note that names the tags which a new file lacks, or none."""
    lost = [
        key for key, text in before.items() if {key, text}.isdisjoint([*after, *after.values()])
    ]
    return [f"left out of its tags: {', '.join(lost)}"] if lost else []


def kind_of(container: str) -> str:
    """Return the kind of tags that a container takes, by libsndfile's name of it."""
    kinds = {"AIFF": "chunks >", "FLAC": "comments", "OGG": "comments", "MP3": "id3"}
    return "chunks <" if container in ("WAV", "WAVEX", "RF64") else kinds.get(container, "-")


def read_tags(path: Path) -> Tags:
    """Return the metadata of a sound file; nothing for other kinds of files."""
    with path.open("rb") as file:
        start, end, size = start_of_sound(file), end_of_sound(file), path.stat().st_size
        with Window(path.open("rb"), start, end) as inner:
            tags = _inner_tags(cast(BinaryIO, inner))
        if tags is not None:
            return tags._replace(around=start > 0 or end < size)
        places = Chunk(b"ID3", 0, start), Chunk(b"APE", end, size - end)
        return _tags_at(file, "id3", [place for place in places if place.size])


def _inner_tags(file: BinaryIO) -> Tags | None:
    """Return the metadata that a container has of its own; None where tags stand around sound."""
    head, chunks = read_at(file, 0, 4), read_chunks(file)
    if head in (b"caff", b".snd"):
        return _rare_tags(file, chunks.found if chunks else {})
    if chunks is not None:
        # CHAN has the speakers of an AIFF, and says which samples an 8SVX has.
        ours = OF_THE_SOUND - {b"CHAN"} if b"COMM" in chunks.found else OF_THE_SOUND
        found = [chunk for chunk in chunks.every if chunk.name not in ours]
        order = "w64" if chunks.magic == b"riff" else chunks.order  # which takes no more chunks
        return _tags_at(file, f"chunks {order}", found)
    if head == b"fLaC":
        return Tags("comments", list(_flac_tags(file)))
    if head == b"OggS":
        packet = b"".join(_packets(file, 2)[1:])
        for name in (b"\3vorbis", b"OpusTags"):
            if packet.startswith(name):
                return Tags("comments", [(b"", c) for c in _split(packet[len(name) :])])
        return NOTHING
    return None


def _tags_at(file: BinaryIO, kind: str, places: list[Chunk]) -> Tags:
    """Return the tags at these places of a file; none of the largest."""
    length = file.seek(0, os.SEEK_END)
    places = [c._replace(size=min(c.size, length - c.start)) for c in places]
    parts = [(c.name, read_at(file, *c[1:])) for c in places if c.size <= MOST_BYTES]
    large = [f"{c.name.decode()} of {c.size >> 20} MiB" for c in places if c.size > MOST_BYTES]
    return Tags(kind if parts else "", parts, ", ".join(large))


def _rare_tags(file: BinaryIO, found: dict[bytes, Chunk]) -> Tags:
    """Return what a CAF has beside what libsndfile copies, or the annotation of an AU."""
    if not found:
        at = int.from_bytes(read_at(file, 4, 4), "big")  # of its sound
        note = read_at(file, 24, at - 24).strip(b"\0")
        return Tags("au", [(b"", b"annotation=" + note)]) if note else NOTHING
    contents = [read_at(file, *found[name][1:]) if name in found else b"" for name in CAF_CHUNKS]
    texts = contents[0][4:].split(b"\0")
    pairs = zip(texts[::2], texts[1::2], strict=False)
    parts = [(b"", k + b"=" + v) for k, v in pairs if k.lower() not in STRINGS]
    return Tags("caf", [*parts, *([(b"chan", contents[1])] if contents[1] else [])])


def write_tags(tags: Tags, path: Path) -> str:
    """Write tags into a file that has its sound; return those that it cannot hold."""
    new = path.with_name(f"{path.name}2")
    try:
        with path.open("r+b") as file, new.open("wb") as out:
            left_out = _write_tags(tags, file, out)
        if new.stat().st_size:
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return left_out


def _write_tags(tags: Tags, file: BinaryIO, out: BinaryIO) -> str:
    """Put tags into `file` itself, or write it with them to `out`."""
    head = file.read(4)
    chunks = read_chunks(file)
    if chunks is not None and tags.kind == f"chunks {chunks.order}":
        _append_chunks(file, tags)
    elif tags.kind == "id3" and (head[:3] == b"ID3" or head[:1] == b"\xff"):
        out.write(b"".join(content for name, content in tags.parts if name == b"ID3"))
        file.seek(start_of_sound(file))
        shutil.copyfileobj(file, out, 1 << 20)
        out.write(b"".join(content for name, content in tags.parts if name == b"APE"))
    elif tags.kind == "au" and head == b".snd":
        note = tags.parts[0][1].removeprefix(b"annotation=")
        note += bytes(8 - len(note) % 8)
        at = int.from_bytes(read_at(file, 4, 4), "big")  # of its sound
        out.write(head + (24 + len(note)).to_bytes(4, "big") + read_at(file, 8, 16) + note)
        file.seek(at)
        shutil.copyfileobj(file, out, 1 << 20)
    elif chunks is not None and tags.kind == "caf" and head == b"caff":
        speakers = b"".join(content for name, content in tags.parts if name)
        chunk = b"chan" + struct.pack(">q", len(speakers)) + speakers
        file.seek(0)
        out.write(file.read(sum(chunks.found[b"desc"][1:])) + (chunk if speakers else b""))
        shutil.copyfileobj(file, out, 1 << 20)
        return tags.names
    elif tags.kind == "comments" and head == b"fLaC":
        stream_info = _flac_blocks(file)[0][1]
        blocks = [b"\0" + len(stream_info).to_bytes(3, "big") + stream_info, *_as_flac(tags)]
        blocks[-1] = bytes([blocks[-1][0] | 0x80]) + blocks[-1][1:]
        out.write(b"fLaC" + b"".join(blocks))
        shutil.copyfileobj(file, out, 1 << 20)
    elif tags.kind == "comments" and head == b"OggS":
        _write_ogg(file, out, tags)
        return "the cue sheet" if any(name for name, _ in tags.parts) else ""
    else:
        return tags.names
    return ""


def _append_chunks(file: BinaryIO, tags: Tags) -> None:
    """Add chunks at the end of WAV, RF64 or AIFF, and their size to the size in the header."""
    order = tags.kind[-1]
    end = file.seek(0, os.SEEK_END)
    file.write(b"\0" * (end % 2))
    for name, content in tags.parts:
        file.write(struct.pack(f"{order}4sI", name, len(content)) + content)
        file.write(b"\0" * (len(content) % 2))
    size = file.tell() - 8
    file.seek(0)
    if file.read(4) in (b"RF64", b"BW64"):
        file.seek(20)
        file.write(struct.pack("<Q", size))
    else:
        file.write(struct.pack(f"{order}I", min(size, 0xFFFFFFFF)))


def _flac_blocks(file: BinaryIO) -> list[tuple[int, bytes]]:
    """Return type and content of FLAC's metadata blocks; the next byte is the first frame's."""
    file.seek(start_of_sound(file) + 4)
    blocks, last = [], False
    while not last and len(head := file.read(4)) == 4:
        last = bool(head[0] & 0x80)
        blocks.append((head[0] & 0x7F, file.read(int.from_bytes(head[1:], "big"))))
    return blocks


def _flac_tags(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    for kind, content in _flac_blocks(file):
        if kind == 4:
            yield from ((b"", comment) for comment in _split(content))
        elif kind == 6:
            yield b"", PICTURE + base64.b64encode(content)
        elif kind in (2, 5):
            yield bytes([kind]), content


def _as_flac(tags: Tags) -> list[bytes]:
    """Return FLAC blocks: the comments, then pictures and whatever else was a block."""
    comments, others = list[bytes](), list[tuple[bytes, bytes]]()
    for name, content in tags.parts:
        with suppress(binascii.Error):  # a damaged picture stays a comment
            if not name and content.startswith(PICTURE):
                others.append((b"\6", base64.b64decode(content[len(PICTURE) :])))
                continue
        if name:
            others.append((name, content))
        else:
            comments.append(content)
    blocks = [(b"\4", _join(comments)), *others]
    return [name + len(content).to_bytes(3, "big") + content for name, content in blocks]


def _split(content: bytes) -> list[bytes]:
    """Return the comments of a Vorbis comment header (xiph.org, vorbis-spec, section 5)."""
    fields, at = [], 4 + int.from_bytes(content[:4], "little") + 4
    for _ in range(int.from_bytes(content[at - 4 : at], "little")):
        if at >= len(content):  # damaged
            break
        size = int.from_bytes(content[at : at + 4], "little")
        fields.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    return fields


def _join(comments: list[bytes]) -> bytes:
    sized = b"".join(len(text).to_bytes(4, "little") + text for text in comments)
    return b"\5\0\0\0rtden" + len(comments).to_bytes(4, "little") + sized


def _packets(file: BinaryIO, count: int) -> list[bytes]:
    """Return the first packets of an Ogg file; the file then stands behind their last page."""
    packets, part = [], b""
    for page in ogg_pages(file):
        content = io.BytesIO(page.body(file))
        for size in page.head[27:]:
            part += content.read(size)
            if size < PAGE_SEGMENTS:
                packets.append(part)
                part = b""
        if len(packets) >= count:
            break
    return packets[:count]


def _write_ogg(file: BinaryIO, out: BinaryIO, tags: Tags) -> None:
    """Write an Ogg file of one Vorbis or Opus stream with other comments; number its pages anew."""
    vorbis = _packets(file, 1)[0][:7] == b"\1vorbis"
    ident, _, *setup = _packets(file, 3 if vorbis else 2)
    sound_from = file.tell()
    comments = _join([text for name, text in tags.parts if not name])
    packet = b"\3vorbis" + comments + b"\1" if vorbis else b"OpusTags" + comments
    serial = read_at(file, 14, 4)
    sound = (
        (page.flags, page.head[6:14], page.head[27:], page.body(file))
        for page in ogg_pages(file)
        if page.start >= sound_from
    )
    pages = itertools.chain(_paged([ident], flags=2), _paged([packet, *setup], flags=0), sound)
    for number, (flags, position, table, body) in enumerate(pages):
        place = bytes([flags]) + position + serial + number.to_bytes(4, "little")
        out.write(_page(b"OggS\0" + place, table, body))


def _paged(packets: list[bytes], *, flags: int) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """Yield flags, position, table of segments and body of the pages that hold header packets."""
    table = b"".join(b"\xff" * (len(p) // PAGE_SEGMENTS) + bytes([len(p) % 255]) for p in packets)
    body = b"".join(packets)
    while table:
        now, table = table[:PAGE_SEGMENTS], table[PAGE_SEGMENTS:]
        yield flags, bytes(8), now, body[: sum(now)]
        body, flags = body[sum(now) :], int(now[-1] == PAGE_SEGMENTS)


def _page(head: bytes, table: bytes, body: bytes) -> bytes:
    """Return a page with its checksum (RFC 3533): a CRC-32 like zlib's, with all bits reversed."""
    rest = bytes([len(table)]) + table
    content = (head + bytes(4) + rest + body).translate(REVERSED)
    crc = zlib.crc32(content, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return head + int(f"{crc:032b}"[::-1], 2).to_bytes(4, "little") + rest + body
