"""From one pipe to another as the sound comes: raw PCM, or a WAV without an end."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from rtden.denoiser import settings_for_latency
from rtden.errors import AudioFileError, InputError
from rtden.files.containers import PIPE_SLACK, is_endless, wav_format
from rtden.files.listing import HEADERS, Raw
from rtden.samples import from_float, to_float
from rtden.settings import Settings
from rtden.stream import StreamDenoiser

LATENCY_MS = 30.0
FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}
READ_BYTES = 1 << 16
IN_WAV = {"PCM_16": ("s16le", 1), "PCM_32": ("s32le", 1), "FLOAT": ("f32le", 3)}
"""Formats by libsndfile's name, with the tag in a WAV."""


def denoise_pipe(
    source: int,
    sink: int,
    pcm: Raw | None,
    *,
    model: str | Path | None = None,
    settings: Settings | None = None,
    full_band: bool = True,
) -> tuple[int, bool]:
    """Denoise from one file descriptor to another until the first ends.

    Each block is denoised and written as soon as it is read; the output lags by 30 ms, is aligned
    with the input and as long. With `pcm` None a WAV is read, whose header then goes out, too.

    Returns the frames written, and whether the input's end is missing: the rest of its last frame,
    which is left out, or of the length in a WAV's header.

    Raises AudioFileError if that header cannot be read, if PCM begins with one, or if sound follows
    behind what it states; BrokenPipeError if nobody reads `sink` any more; InputError or ModelError
    if the rate, the channels or the model cannot be used.
    """
    wav, left = pcm is None, float("inf")
    if pcm is None:
        pcm, left = _read_header(source)
    if pcm.format not in FORMATS:
        names = ", ".join([*FORMATS, "wav"])
        raise InputError(f"a pipe cannot carry '{pcm.format}'; choose one of {names}.")
    dtype = np.dtype(FORMATS[pcm.format])
    chosen, _ = settings_for_latency(LATENCY_MS, model=model, settings=settings or Settings())
    options = {"rate_hz": pcm.rate_hz, "channels": pcm.channels}
    stream = StreamDenoiser(model, chosen, low_delay=True, full_band=full_band, **options)
    frames, rest, ended = 0, b"" if wav else _read_up_to(source, 4), False
    if rest in HEADERS:
        raise AudioFileError(
            "what comes is a sound file with a header, no PCM: give --format wav if it is a WAV, "
            "or use 'rtden file -'."
        )
    _write(sink, _header(pcm) if wav else b"")
    while not ended:
        content = os.read(source, int(min(READ_BYTES, left)))
        left -= len(content)
        ended = not content
        content = rest + content
        whole = len(content) // pcm.frame_bytes * pcm.frame_bytes
        rest = content[whole:]
        samples = np.frombuffer(content[:whole], dtype).reshape(-1, pcm.channels)
        for out in (stream.feed(to_float(samples)), *([stream.flush()] if ended else [])):
            _write(sink, from_float(out, dtype).tobytes())
            frames += len(out)
    if left == 0 and _goes_on(source):
        raise AudioFileError(
            "what came behind the sound that the WAV's header states, such as another WAV, was "
            "left out; send one file at a time, or PCM with --rate and --channels."
        )
    return frames, bool(rest) or 0 < left < float("inf")


def _goes_on(source: int) -> bool:
    """Read what follows a WAV's sound, lest its writer fail; return whether it is no chunk."""
    head, size = b"", 0
    while content := os.read(source, READ_BYTES):
        head = (head + content)[:8]
        size += len(content)
    name = head.lstrip(b"\0")[:4]  # behind an odd number of bytes stands a zero
    is_chunk = name.isascii() and name.decode().isprintable()
    return name in (b"RIFF", b"RF64") or (size > PIPE_SLACK and not is_chunk)


def _write(sink: int, content: bytes) -> None:
    while content:
        content = content[os.write(sink, content) :]


def _read_up_to(source: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (part := os.read(source, size - len(content))):
        content += part
    return content


def _read(source: int, size: int) -> bytes:
    content = _read_up_to(source, size)
    if len(content) < size:
        raise AudioFileError(
            "what comes is no WAV, or ended before its sound; for PCM without a header give "
            "--rate, --channels and --format s16le."
        )
    return content


def _read_header(source: int) -> tuple[Raw, float]:
    """Read a WAV's header up to its sound; return what that is, and how many bytes it has."""
    known, head = None, _read(source, 12)
    while head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        name, size = struct.unpack("<4sI", _read(source, 8))
        if name == b"data":
            break
        content = _read(source, size + size % 2)
        known = wav_format(content, "<") if name == b"fmt " else known
    if known is None or known[2] not in IN_WAV:
        raise AudioFileError(
            "what comes is no WAV of 16 or 32-bit samples; convert it, for instance with sox."
        )
    return Raw(*known[:2], IN_WAV[known[2]][0]), float("inf") if is_endless(size) else size


def _header(pcm: Raw) -> bytes:
    """Return a WAV header without a length."""
    tag = dict(IN_WAV.values())[pcm.format]
    rates = pcm.rate_hz, pcm.rate_hz * pcm.frame_bytes
    known = struct.pack(
        "<HHIIHH", tag, pcm.channels, *rates, pcm.frame_bytes, 8 * pcm.frame_bytes // pcm.channels
    )
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + known + b"data\xff\xff\xff\xff"
