"""Files of noise, and how their sound is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtden.files.audio_file import open_recording, read_blocks

RATE_HZ = 44100
FRAMES = 30001


class Untouched:
    """A stream that returns what it is fed, some samples later."""

    def __init__(self, _: int, channels: int) -> None:
        self._held = np.zeros((0, channels), np.float32)

    def feed(self, block: np.ndarray) -> np.ndarray:
        held = np.concatenate([self._held, block])
        out, self._held = held[:-700], held[-700:]
        return out

    def flush(self) -> np.ndarray:
        return self._held


def noise(frames: int = FRAMES, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(5)
    return (0.1 * rng.standard_normal((frames, channels))).astype(np.float32)


def sound_of(path: Path) -> np.ndarray:
    with open_recording(path) as recording:
        return np.concatenate([*read_blocks(recording)])


def encoded(
    path: Path,
    *codecs: str,
    rate_hz: int = 48000,
    frames: int = 48000,
    container: dict[str, str] | None = None,
    **options: str,
) -> None:
    """Encode noise by FFmpeg, once for each codec."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=container or {}) as out:
        streams = [out.add_stream(codec, rate=rate_hz, layout="stereo") for codec in codecs]
        for stream in streams:
            stream.codec_context.options = options
            stream.codec_context.bit_rate = 0 if options else 320000
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(noise(frames).T), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.pts = rate_hz, 0
            out.mux([*stream.encode(frame), *stream.encode(None)])
