"""Whether a file has its end: what its container states, and where its last piece ends."""

from __future__ import annotations

import mmap
import os
import re
import struct
from contextlib import suppress
from typing import Any, BinaryIO

from rtden.files.containers import end_of_sound, is_endless, ogg_links, read_at, start_of_sound

STATES_LENGTH = frozenset(
    ["mov", "matroska", "avi", "wav", "w64", "aiff", "asf", "flv", "tta", "wv", "mxf", "rm"]
)
"""FFmpeg's formats with a length in the header; it guesses others from the size. Of a CAF the
chunks show whether it is whole."""
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # how a WMA or WMV begins
END_OF_STREAM_BYTES = 12  # behind the last packet of a WMA, where FFmpeg wrote it
SEGMENT = b"\x18\x53\x80\x67"  # of Matroska, which holds all the rest
PARSED = ("aac", "sbc", "amr", "amrnb", "amrwb")
"""FFmpeg's formats that leave out a part of a frame at the end without a word."""

FILLED_BYTES = 16  # zeros at the end of a file that was filled up

MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MPEG_RATES_HZ = (44100, 48000, 32000)
MP3_SLACK = 160  # bytes that may follow the last frame


def states_length(name: str) -> bool:
    """Return whether a file of FFmpeg's format `name` states its length."""
    return name.split(",", maxsplit=1)[0] in STATES_LENGTH


def seconds_of(stream: Any) -> float:
    """Return how long a stream says that it is; 0 where it does not."""
    return own_seconds(stream) or (stream.container.duration or 0) / 1e6


def own_seconds(stream: Any) -> float:
    """Return the length of a stream apart from the others'; 0 where it is not known."""
    if stream.container.format.name == "avi":  # FFmpeg shortens the duration of one cut off
        return float(stream.frames * stream.time_base) if stream.frames < 1 << 30 else 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    with suppress(ValueError, KeyError):  # Matroska states when it ends, as 01:59:59.9
        parts = enumerate(reversed(stream.metadata["DURATION"].split(":")))
        ended = sum(float(part) * 60.0**power for power, part in parts)
        return ended - float((stream.start_time or 0) * stream.time_base)
    return 0.0


def is_cut_off(name: str, file: BinaryIO, end: int) -> bool:
    """Return whether a part of a file's last piece is missing; its packets end at byte `end`."""
    size = end_of_sound(file)
    if name in ("flv", "mpegts") and not any(read_at(file, size - FILLED_BYTES, FILLED_BYTES)):
        return False
    if find := CUT.get(name):
        return find(file)
    if name == "mpegts":
        return bool(size % 188 and size % 192 and size % 204)
    return name in PARSED and _holds_more(file, end, size)


def _holds_more(file: BinaryIO, at: int, end: int) -> bool:
    """Return whether other bytes than zeros, which fill up some files, lie from `at` to `end`."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return at < end and re.compile(b"[^\0]").search(content, at, end) is not None


def goes_on(name: str, file: BinaryIO, end: int) -> bool:
    """Return whether a Flash video, TTA or WavPack begins once more behind its packets."""
    if name not in ("flv", "tta", "wv"):
        return False
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(content[:4], end) > 0


def promised_end(file: BinaryIO) -> int:
    """Return where a file is to end by its header, or its sound; 0 for formats without that."""
    head = read_at(file, 0, 1024).ljust(32, b"\0")  # it may be shorter than its header
    if head[:4] + head[8:12] == b"RIFFAVI ":
        return _end_of_avi(file)
    if head[:16] == ASF:
        return _asf_properties(file)[0]
    if head[:4] == b".snd":
        start, size = struct.unpack(">II", head[4:12])
        return 0 if is_endless(size) else int(start + size)
    held = 0
    if head[:4] == b".SoX":
        start, samples = struct.unpack("<IQ", head[4:16])
        held = samples and 4 + start + 4 * samples
    elif head[:4] == b"2BIT":  # AVR
        channels, bits, frames = struct.unpack(">12xHH10xI", head[:30])
        held = 128 + frames * bits // 8 * (2 if channels else 1)
    elif head[:7] == b"NIST_1A" and b",embedded" not in head:
        names = b"sample_count", b"channel_count", b"sample_n_bytes"
        found = [re.search(name + rb" -i (\d+)", head) for name in names]
        frames, channels, width = (int(match[1]) if match else 0 for match in found)
        held = 1024 + frames * channels * width
    return int(held)


def _end_of_avi(file: BinaryIO) -> int:
    """Return where the last RIFF of an AVI ends, of which it has one for each GiB or two."""
    length, at = file.seek(0, os.SEEK_END), 0
    while at < length:
        name, size = struct.unpack("<4sI", read_at(file, at, 8).ljust(8, b"\0"))
        if name != b"RIFF" or is_endless(size):  # the latter came through a pipe
            break
        at += 8 + size + size % 2
    return at


def is_joined(name: str, file: BinaryIO) -> bool:
    """Return whether an MP4, QuickTime, WMA, RealMedia or Flash file begins once more."""
    if name in ("asf", "rm", "swf"):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if name != "swf":
                start = ASF if name == "asf" else content[:8]
                return content.find(start, content.find(start) + 1) > 0
            if content[:3] == b"FWS":
                return re.compile(rb"[FC]WS").match(content, _end_of_swf(content)) is not None
            return len(re.findall(rb"(?s)CWS.{5}x[\x01\x5e\x9c\xda]", content)) > 1
    return "mp4" in name and _starts_of_mp4(file) > 1


def _end_of_swf(content: mmap.mmap) -> int:
    """Return where the tags of a Flash file end: of sound alone FFmpeg states a wrong length."""
    code, at = 1, 13 + (content[8] // 8 * 4 + 4) // 8
    while code and at < len(content):
        code, size = divmod(int.from_bytes(content[at : at + 2], "little"), 64)
        long = int.from_bytes(content[at + 2 : at + 6], "little")
        at += 2 + (4 + long if size == 63 else size)
    return at


def _starts_of_mp4(file: BinaryIO) -> int:
    length, at, starts = file.seek(0, os.SEEK_END), 0, 0
    while at + 8 <= length:
        size, name, large = struct.unpack(">I4sQ", read_at(file, at, 16).ljust(16, b"\0"))
        starts += name == b"ftyp"
        size = large if size == 1 else size
        at += size if size >= 8 else length  # 0 is all the rest
    return starts


def _is_cut_flv(file: BinaryIO) -> bool:
    """Return whether the last tag of a Flash video is not whole: its size stands behind it."""
    end = end_of_sound(file) - 4
    size = int.from_bytes(read_at(file, end, 4), "big")
    return int.from_bytes(read_at(file, max(0, end - size), 4)[1:], "big") != size - 11


def _is_cut_matroska(file: BinaryIO) -> bool:
    """Return whether the last element of a Matroska or WebM file is not whole (RFC 8794)."""
    length, at = end_of_sound(file), 0
    while at < length:
        head = read_at(file, at, 12).ljust(12, b"\1")
        name_size = 9 - head[0].bit_length()
        size_size = 9 - head[name_size % 9].bit_length()
        if name_size > 4 or size_size > 8:  # no element begins so
            return False
        number = int.from_bytes(head[name_size : name_size + size_size], "big")
        size, unknown = number - (1 << 7 * size_size), (1 << 7 * size_size) - 1
        at += name_size + size_size
        if size != unknown:  # the others are looked into
            at += size
            if head[:name_size] == SEGMENT:  # behind it anything may follow
                break
    return at > length


def _asf_properties(file: BinaryIO) -> tuple[int, int]:
    """Return what a WMA or WMV states as its own size, and as that of its packets.

    The former is 0 if it came from a pipe, and has no length.
    """
    head = read_at(file, 0, 1 << 16)
    at = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))  # its File Properties
    if not 0 < at < len(head) - 96:
        return 0, 0
    size, flags, packet_bytes = struct.unpack_from("<Q40xII", head, at + 40)
    return (0 if flags & 1 else size), packet_bytes


def _is_cut_asf(file: BinaryIO) -> bool:
    (stated, packet_bytes), length = _asf_properties(file), end_of_sound(file)
    data_from = int.from_bytes(read_at(file, 16, 8), "little") + 50
    if stated or not packet_bytes:
        return False
    return (length - data_from) % packet_bytes not in (0, END_OF_STREAM_BYTES)


def _is_cut_swf(file: BinaryIO) -> bool:
    """Return whether a Flash file lacks its last tag, or up to 4 KiB that FFmpeg does not read."""
    end = end_of_sound(file)
    return read_at(file, 0, 3) == b"CWS" or read_at(file, end - 2, 2) != b"\0\0"


CUT = {
    **{"flv": _is_cut_flv, "matroska,webm": _is_cut_matroska, "asf": _is_cut_asf},
    **{"ogg": lambda file: not ogg_links(file)[1], "swf": _is_cut_swf},
}
"""What tells whether a file is cut off, by FFmpeg's format."""


def mp3_frame_size(head: bytes) -> int:
    """Return the length of the frame of MPEG audio, layer III, by its header; 0 for none.

    Of a frame of free format that is 1, or 2 with padding.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[1] & 0x18 == 0x08:
        return 0
    first = head[1] & 0x18 == 0x18  # MPEG 1
    kbps, rate = head[2] >> 4, head[2] >> 2 & 3
    if kbps == 15 or rate == 3:
        return 0
    rate_hz = MPEG_RATES_HZ[rate] >> (0 if first else 1 if head[1] & 0x10 else 2)
    bits = 1000 * (MPEG1_KBPS if first else MPEG2_KBPS)[kbps] * (144 if first else 72)
    return (bits // rate_hz or 1) + (head[2] >> 1 & 1)


def is_mp3(file: BinaryIO, at: int) -> bool:
    """Return whether two frames of MPEG audio, layer III, follow each other from an offset on."""
    head = read_at(file, at, 4)
    size = mp3_frame_size(head)
    after = read_at(file, at + size, 4)
    return size > 2 and mp3_frame_size(after) > 2 and head[:2] == after[:2]


def _free_size(content: mmap.mmap, at: int) -> int:
    """Return what :func:`mp3_frame_size` lacks for free format: as far as to the next frame."""
    head, found, end = content[at : at + 4], at, len(content) - 1
    while (found := content.find(head[:2], found + 4, end)) > 0:
        if content[found + 2] & 0xFC == head[2] & 0xFC:
            return found - at - mp3_frame_size(head)
    return 0


def mp3_held(file: BinaryIO) -> float | None:
    """Return which part of the frames that an MP3's first frame counts is there, 1 for all.

    None without such a Xing or Info header, and where more follows (another MP3) or lies between:
    then the length that libsndfile gives is a guess. So it is with a VBRI header, and None if all
    is there. Not so of free format, which FFmpeg does not read: its frames are equally long.
    """
    at, end = start_of_sound(file), end_of_sound(file)
    frame = read_at(file, at, 256).ljust(300, b"\0")
    xing, vbri = max(frame.find(b"Xing"), frame.find(b"Info")), frame.find(b"VBRI")
    counted = int.from_bytes(frame[vbri + 14 :][:4] if vbri > 0 else frame[xing + 8 :][:4], "big")
    counts = (vbri > 0 or (xing >= 0 and frame[xing + 7] & 1)) and counted
    is_free = 0 < mp3_frame_size(frame) <= 2
    if not (counts or is_free):
        return None
    frames = -1 if counts else 0  # the first is the header
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        free = _free_size(content, at)
        while at < end and (size := mp3_frame_size(content[at : at + 4])):
            at += size if size > 2 else size + free
            frames += at <= end
    if (at < end - MP3_SLACK and _holds_more(file, at, end)) or (counts and frames > counted):
        return None
    counted = counted if counts else frames + (at > end)
    held = 1.0 if at <= end and frames == counted - 1 else frames / counted  # or with the header
    return None if vbri > 0 and held == 1.0 else held
