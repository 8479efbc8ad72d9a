"""The frames of MP3s: how many there are, and how many were counted when it was written."""

from __future__ import annotations

import mmap
from typing import BinaryIO

from rtden.files.containers import end_of_sound, holds_more, id3_size

MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MPEG_RATES_HZ = (44100, 48000, 32000)
SLACK = 160
"""Bytes that may follow the last frame."""


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
    then the length that libsndfile gives is a guess. Not so of free format, which FFmpeg does not
    read: its frames are equally long.
    """
    at, end = id3_size(file), end_of_sound(file)
    file.seek(at)
    frame = file.read(256)
    xing = max(frame.find(b"Xing"), frame.find(b"Info"))
    counted = int.from_bytes(frame[xing + 8 : xing + 12], "big")
    counts = xing >= 0 and frame[xing + 7] & 1 and counted
    is_free = 0 < mp3_frame_size(frame) <= 2
    if not (counts or is_free):
        return None
    frames = -1 if counts else 0  # the first is the header
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        free = _free_size(content, at)
        while at < end and (size := mp3_frame_size(content[at : at + 4])):
            at += size if size > 2 else size + free
            frames += at <= end
    if (at < end - SLACK and holds_more(file, at, end)) or (counts and frames > counted):
        return None
    counted = counted if counts else frames + (at > end)
    whole = at <= end and frames == counted - 1  # some count their header
    return 1.0 if whole else frames / counted
