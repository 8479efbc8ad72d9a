"""Speech codecs of headsets, telephones and calls, for sound that came through one.

A codec leaves a steep edge at the end of its band. It is applied to noise as often as to speech: a
network that meets such edges on speech alone takes noise with an edge for speech.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import soxr

from rtden.extras import needed
from rtden.types import Array

PEAK = 0.5  # at which the louder of two signals is coded, relative to full scale
FRAME_SAMPLES = 320  # passed to an encoder at once where it sets no frame length


class Codec(NamedTuple):
    """A codec as FFmpeg has it."""

    name: str
    rate_hz: int
    bandwidth_hz: float
    bit_rates: tuple[int, ...] = (0,)
    option: tuple[str, str] | None = None
    sample_format: str = "s16"


CODECS = (
    Codec("sbc", 16000, 7600.0, option=("msbc", "1")),  # Bluetooth hands-free, wide band
    Codec("g722", 16000, 7000.0),
    Codec("libopus", 16000, 8000.0, (12000, 16000, 24000), ("compression_level", "0")),
    Codec("libmp3lame", 22050, 9500.0, (24000, 32000, 48000), sample_format="s16p"),
)
CHANCES = (0.35, 0.35, 0.15, 0.15)  # how often each is drawn


def code(signals: list[Array], codec: Codec, rate_hz: int, rng: np.random.Generator) -> list[Array]:
    """Return signals, shape (samples,) each, as a codec returns them, aligned with the input."""
    bit_rate = int(rng.choice(codec.bit_rates))
    scale = np.float32(PEAK / max(float(np.abs(signals).max()), 1e-9))
    coded = []
    for signal in signals:
        resampled = soxr.resample(signal * scale, rate_hz, codec.rate_hz)
        decoded = _through(resampled, codec, bit_rate)[_delay(codec, bit_rate) :]
        back = soxr.resample(decoded, codec.rate_hz, rate_hz)[: len(signal)] / scale
        coded.append(np.pad(back, (0, len(signal) - len(back))).astype(np.float32))
    return coded


def _through(signal: Array, codec: Codec, bit_rate: int) -> Array:
    """Return a signal at the codec's rate encoded and decoded, late by the codec's delay."""
    av = needed("av", "train", "training")
    av.logging.set_level(None)
    encoder = av.CodecContext.create(codec.name, "w")
    encoder.sample_rate, encoder.layout, encoder.format = codec.rate_hz, "mono", codec.sample_format
    encoder.bit_rate = bit_rate or encoder.bit_rate
    encoder.options = dict([codec.option] if codec.option else [])
    encoder.open()
    size, packets = encoder.frame_size or FRAME_SAMPLES, list[Any]()
    # A tail of silence brings out what the codec holds back.
    padded = np.pad(signal, (0, -len(signal) % size + 8 * size))
    integers = np.clip(padded * 32767.0, -32768, 32767).astype(np.int16)
    for start in range(0, len(integers), size):
        block = integers[None, start : start + size]
        frame = av.AudioFrame.from_ndarray(block, codec.sample_format, "mono")
        frame.sample_rate, frame.pts = codec.rate_hz, start
        packets += encoder.encode(frame)
    decoder = av.CodecContext.create(encoder.codec.canonical_name, "r")
    decoder.sample_rate, decoder.layout = codec.rate_hz, "mono"
    decoder.extradata = encoder.extradata or decoder.extradata
    sent = [*packets, *encoder.encode(None), None]
    frames = [frame for packet in sent for frame in decoder.decode(packet)]
    samples: Array = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    if samples.dtype.kind == "i":
        samples = samples / np.float32(32768.0)
    resampled: Array = soxr.resample(samples, frames[0].sample_rate, codec.rate_hz)
    return resampled.astype(np.float32)


@functools.cache
def _delay(codec: Codec, bit_rate: int) -> int:
    """Return the delay of a codec in samples at its rate, found by correlation."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(codec.rate_hz).astype(np.float32)
    smooth = np.convolve(noise, np.hanning(17) / 8.0, mode="same").astype(np.float32)
    decoded = _through(smooth, codec, bit_rate)
    size = 2 * len(decoded)
    product = np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(smooth, size))
    return int(np.argmax(np.fft.irfft(product)[: codec.rate_hz // 4]))
