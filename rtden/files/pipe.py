"""From one pipe to another as the sound comes: raw PCM, or a WAV without an end."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtden.denoiser import settings_for_latency
from rtden.errors import AudioFileError, InputError
from rtden.files.containers import PIPE_SIZES, PIPE_SLACK
from rtden.settings import Settings
from rtden.stream import StreamDenoiser
from rtden.types import Array

LATENCY_MS = 30.0
FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}
READ_BYTES = 1 << 16
WAV_FORMATS = {(1, 16): "s16le", (1, 32): "s32le", (3, 32): "f32le"}


@dataclass
class Pcm:
    """Interleaved samples on a pipe.

    Raises
    ------
    InputError
        If the format has no such name.
    """

    rate_hz: int
    channels: int
    format: str
    left: float = float("inf")
    """Bytes until the sound ends."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            names = ", ".join([*FORMATS, "wav"])
            raise InputError(f"a pipe cannot carry '{self.format}'; choose one of {names}.")
        self._dtype = np.dtype(FORMATS[self.format])

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        return self._dtype.itemsize * self.channels

    def decode(self, content: bytes) -> Array:
        """Return samples as float32, shape (samples, channels)."""
        values = np.frombuffer(content, self._dtype).reshape(-1, self.channels)
        if self._dtype.kind == "f":
            return np.asarray(values, np.float32)
        return np.asarray(values / (np.iinfo(self._dtype).max + 1.0), np.float32)

    def encode(self, samples: Array) -> bytes:
        """Return samples, shape (samples, channels), as bytes."""
        if self._dtype.kind == "f":
            return samples.astype(self._dtype).tobytes()
        full = np.iinfo(self._dtype).max + 1.0
        rounded = np.rint(samples.astype(np.float64) * full).clip(-full, full - 1.0)
        return rounded.astype(self._dtype).tobytes()


def denoise_pipe(
    source: int,
    sink: int,
    pcm: Pcm | None,
    *,
    model: str | Path | None = None,
    settings: Settings | None = None,
    full_band: bool = True,
) -> int:
    """Denoise from one file descriptor to another until the first ends; return the frames written.

    Each block is denoised and written as soon as it is read; the output lags by 30 ms, is aligned
    with the input and as long.

    Parameters
    ----------
    pcm : Pcm or None
        What `source` carries; None for a WAV, whose header says it, and which then goes out, too.

    Raises
    ------
    AudioFileError
        If the WAV's header cannot be read.
    InputError, ModelError
        If the rate, the channels or the model cannot be used.
    BrokenPipeError
        If nobody reads `sink` any more.
    """
    if pcm is None:
        pcm = _read_header(lambda size: _read_exactly(source, size))
        _write(sink, _header(pcm))
    chosen, _ = settings_for_latency(LATENCY_MS, model=model, settings=settings or Settings())
    options = {"rate_hz": pcm.rate_hz, "channels": pcm.channels}
    stream = StreamDenoiser(model, chosen, low_delay=True, full_band=full_band, **options)
    frames, rest = 0, b""
    while pcm.left and (content := os.read(source, int(min(READ_BYTES, pcm.left)))):
        pcm.left -= len(content)
        content = rest + content
        whole = len(content) // pcm.frame_bytes * pcm.frame_bytes
        rest = content[whole:]
        out = stream.feed(pcm.decode(content[:whole]))
        _write(sink, pcm.encode(out))
        frames += len(out)
    out = stream.flush()
    _write(sink, pcm.encode(out))
    return frames + len(out)


def _write(sink: int, content: bytes) -> None:
    while content:
        content = content[os.write(sink, content) :]


def _read_exactly(source: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (part := os.read(source, size - len(content))):
        content += part
    if len(content) < size:
        raise AudioFileError(
            "what comes is no WAV, or ended before its sound; for PCM without a header give "
            "--rate, --channels and --format s16le."
        )
    return content


def _read_header(read: Callable[[int], bytes]) -> Pcm:
    """Read a WAV's header up to its sound.

    Raises
    ------
    AudioFileError
        If it is none, or of samples that a pipe does not carry.
    """
    known, head = None, read(12)
    while head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        name, size = struct.unpack("<4sI", read(8))
        if name == b"data":
            break
        content = read(size + size % 2)
        if name == b"fmt ":
            tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", content[:16])
            tag = struct.unpack("<H", content[24:26])[0] if tag == 0xFFFE else tag
            known = (tag, bits), channels, rate_hz
    if known is None or known[0] not in WAV_FORMATS:
        raise AudioFileError(
            "what comes is no WAV of 16 or 32-bit samples; convert it, for instance with sox."
        )
    endless = not size or any(abs(size - pipe) <= PIPE_SLACK for pipe in PIPE_SIZES)
    left = float("inf") if endless else float(size)
    return Pcm(known[2], known[1], WAV_FORMATS[known[0]], left)


def _header(pcm: Pcm) -> bytes:
    """Return a WAV header without a length."""
    tag, bits = next(key for key, name in WAV_FORMATS.items() if name == pcm.format)
    byte_rate = pcm.rate_hz * pcm.frame_bytes
    known = struct.pack("<HHIIHH", tag, pcm.channels, pcm.rate_hz, byte_rate, pcm.frame_bytes, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + known + b"data\xff\xff\xff\xff"
