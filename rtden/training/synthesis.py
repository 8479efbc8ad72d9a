"""Synthesised sound and filters: noises, rooms, whispering, and the responses of microphones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rtden.measure.metrics import needed
from rtden.types import Array

ROOM_SECONDS = 0.5
"""Longest room response."""
MADE_ROOMS, MODELLED_ROOMS = 48, 80
"""Number of room responses of decaying noise, and of the image-source method."""


class Synthesis:
    """Synthesises signals of one length; the same generator state gives the same signal."""

    def __init__(self, rate_hz: int, samples: int) -> None:
        self.rate_hz, self.samples = rate_hz, samples
        self._fft_samples = fft.next_fast_len(samples + int(ROOM_SECONDS * rate_hz), real=True)
        bins_hz = np.fft.rfftfreq(self._fft_samples, 1.0 / rate_hz)
        self.bins_hz: NDArray[np.float64] = bins_hz.astype(np.float64)

    def filter(
        self, signal: Array, response: NDArray[np.float64] | None, room: Array | None = None
    ) -> Array:
        """Return a signal filtered by a response at `bins_hz` and by a room's impulse response."""
        spectrum = fft.rfft(signal, self._fft_samples)
        if response is not None:
            spectrum *= response.astype(np.float32)
        if room is not None:
            spectrum *= fft.rfft(room, self._fft_samples)
        filtered: Array = fft.irfft(spectrum, self._fft_samples)[: self.samples]
        return filtered

    def curve(self, rng: np.random.Generator, spread_db: float) -> NDArray[np.float64]:
        """Return a smooth random response, normally distributed in dB at points an octave apart."""
        points_hz = 60.0 * 2.0 ** np.arange(9)
        coarse_hz = np.linspace(0.0, self.bins_hz[-1], 512)
        points_db = rng.normal(0.0, spread_db, len(points_hz))
        curve_db = np.interp(np.log2(coarse_hz + 30.0), np.log2(points_hz), points_db)
        curve: NDArray[np.float64] = np.interp(self.bins_hz, coarse_hz, gain(curve_db))
        return curve

    def tilt(self, db_per_octave: float) -> NDArray[np.float64]:
        """Return a response that rises or falls with frequency about 1 kHz, by 12 dB at most."""
        octaves = np.log2(np.maximum(self.bins_hz, 60.0) / 1000.0)
        response: NDArray[np.float64] = gain(np.clip(db_per_octave * octaves, -12.0, 12.0))
        return response

    def coloured(self, rng: np.random.Generator, spread_db: float) -> Array:
        """Return stationary noise with a random spectrum and an RMS of one."""
        noise = rng.standard_normal(self.samples, np.float32)
        # White to brown, and a random curve: fans, hiss, hum of rooms, amplifiers.
        response = self.curve(rng, spread_db) * self.tilt(rng.uniform(-6.0, 1.0))
        return unit(self.filter(noise, response))

    def tones(self, rng: np.random.Generator, fundamental_hz: float) -> Array:
        """Return harmonics of a fundamental, with an RMS of one: mains hum, motors, alarms."""
        wander = np.cumsum(rng.standard_normal(64)) * rng.choice([0.0, 0.002])
        course = np.interp(np.linspace(0, 63, self.samples), np.arange(64), wander)
        phase = np.cumsum(2.0 * np.pi * fundamental_hz / self.rate_hz * (1.0 + course))
        noise, decay_db = np.zeros(self.samples, np.float32), rng.uniform(1.0, 9.0)
        count = min(12, int(0.45 * self.rate_hz / fundamental_hz))
        for harmonic in range(1, 1 + count):
            level_db = -decay_db * (harmonic - 1) + rng.normal(0.0, 5.0)
            angle = harmonic * phase + rng.uniform(0.0, 2.0 * np.pi)
            noise += gain(level_db) * np.sin(angle.astype(np.float32))
        return unit(noise)

    def clicks(self, rng: np.random.Generator) -> Array:
        """Return runs of short bursts over a faint noise: keyboards, mice, cutlery."""
        return self.strokes(rng, lambda: [self._burst(rng) for _ in range(4)])

    def strokes(self, rng: np.random.Generator, draw: Callable[[], list[Array]]) -> Array:
        """Return the sounds that `draw` returns, as someone types them, over a faint noise."""
        noise: Array = rng.standard_normal(self.samples, np.float32)
        noise *= gain(rng.uniform(-75.0, -35.0))
        sounds = draw()
        for seconds in self._stroke_seconds(rng):
            start = int(seconds * self.rate_hz)
            level = gain(rng.normal(0.0, 5.0))
            sound = sounds[int(rng.integers(len(sounds)))][: self.samples - start]
            noise[start : start + len(sound)] += sound * level
        return unit(noise)

    def _stroke_seconds(self, rng: np.random.Generator) -> list[float]:
        """Return the times of the strokes of someone who types, with pauses."""
        times: list[float] = []
        seconds, rate, run_ends = rng.uniform(0.0, 0.5), 2.0, 0.0
        while seconds < self.samples / self.rate_hz:
            times.append(seconds)
            if seconds >= run_ends:  # a new run, after a pause
                rate = 10.0 ** rng.uniform(0.5, 1.4)
                run_ends = seconds + rng.exponential(1.0)
                seconds += rng.exponential(0.3)
            seconds += rng.gamma(4.0, 0.25 / rate)
        return times

    def _burst(self, rng: np.random.Generator) -> Array:
        """Return a click: a fast decay, a quieter slow one, and a random colour."""
        length = int(0.12 * self.rate_hz)
        ages = np.arange(length, dtype=np.float32) / self.rate_hz
        fast, slow = rng.uniform(0.0005, 0.008), rng.uniform(0.01, 0.04)
        tail = gain(rng.uniform(-30.0, -12.0))
        envelope = np.exp(-ages / np.float32(fast)) + tail * np.exp(-ages / np.float32(slow))
        spectrum = fft.rfft(rng.standard_normal(length, np.float32) * envelope)
        octaves = np.linspace(0.0, 7.5, len(spectrum))
        bins_hz = np.linspace(0.0, self.rate_hz / 2, len(spectrum))
        colour_db = np.interp(octaves, np.arange(8), rng.normal(0.0, 8.0, 8))
        colour_db -= rng.choice([0.0, 25.0]) * (bins_hz < rng.uniform(300.0, 900.0))
        burst = fft.irfft(spectrum * gain(colour_db), length)
        scaled: Array = burst / np.float32(np.abs(burst).max() + 1e-9)
        return scaled

    def level_course(self, rng: np.random.Generator) -> Array:
        """Return an amplitude that steps, swells or gates, shape (samples,)."""
        points = int(rng.integers(2, 12))
        at = np.sort(rng.uniform(0, self.samples, points))
        level_db = rng.normal(0.0, 6.0, points)
        if rng.random() < 0.2:
            level_db[::2] = -60.0
        if rng.random() < 0.5:  # steps, not slopes
            at, level_db = np.repeat(at, 2)[1:], np.repeat(level_db, 2)[:-1]
            at[1::2] += 0.005 * self.rate_hz
        every = 64
        coarse = np.interp(np.arange(0, self.samples + every, every), at, level_db)
        course: Array = np.repeat(gain(coarse), every)
        return course[: self.samples]


def whisper(speech: Array, rng: np.random.Generator) -> Array:
    """Return speech as whispering: noise with the envelope of the speech, without low harmonics.

    The envelope is each frame's spectrum smoothed through its cepstrum.
    """
    size, hop = 512, 128
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(speech, (size, size + -len(speech) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    log_power = np.log(np.abs(fft.rfft(frames)) ** 2 + 1e-6)
    cepstrum = fft.irfft(log_power)
    cepstrum[:, 30:-29] = 0.0  # pitch up to 700 Hz lies beyond
    envelope = np.exp(0.5 * fft.rfft(cepstrum).real)
    envelope *= np.minimum(1.0, 0.1 + np.arange(envelope.shape[1]) / 30.0)  # no voice below 1 kHz
    noise = rng.standard_normal(len(padded), np.float32)
    noises = fft.rfft(np.lib.stride_tricks.sliding_window_view(noise, size)[::hop] * window)
    shaped = fft.irfft(noises * envelope.astype(np.float32)) * window
    out = np.zeros(len(padded), np.float32)
    for part in range(size // hop):
        rows = shaped[part :: size // hop].reshape(-1)
        out[part * hop : part * hop + len(rows)] += rows
    return out[size : size + len(speech)]


def gain(level_db: Any) -> Any:
    """Return the amplitude of a level in dB, float32."""
    return np.float32(10.0 ** (np.asarray(level_db) / 20.0))


def unit(signal: Array) -> Array:
    """Return a signal with an RMS of one."""
    scaled: Array = signal / np.float32(np.sqrt(np.mean(signal**2)) + 1e-6)
    return scaled


def active_rms(signal: Array, block_samples: int = 512) -> float:
    """Return the level of the louder parts: the RMS over blocks within 30 dB of the loudest."""
    blocks = signal[None]
    if len(signal) >= block_samples:
        blocks = signal[: len(signal) // block_samples * block_samples].reshape(-1, block_samples)
    levels = np.mean(blocks**2, axis=1)
    return float(np.sqrt(levels[levels >= levels.max() * 1e-3].mean()))


def low_pass(bins_hz: NDArray[np.float64], edge_hz: float, width_hz: float) -> NDArray[np.float64]:
    """Return a response that falls from one to zero about an edge."""
    return 1.0 / (1.0 + np.exp(np.clip(8.0 * (bins_hz - edge_hz) / width_hz, -50.0, 50.0)))


@functools.cache
def room_responses(rate_hz: int, seed: int = 0) -> list[tuple[Array, Array]]:
    """Return pairs of responses, shape (samples,) each: of a talker, and of a noise in the room."""
    rng = np.random.default_rng(seed)
    rooms = []
    for _ in range(MADE_ROOMS):
        seconds, near, far = rng.uniform(0.1, 0.8), rng.uniform(-3.0, 15.0), rng.uniform(-9.0, 6.0)
        talker = decaying_noise(rng, rate_hz, seconds, near)
        rooms.append((talker, decaying_noise(rng, rate_hz, seconds, far)))
    return rooms + [_image_sources(rng, rate_hz) for _ in range(MODELLED_ROOMS)]


def decaying_noise(
    rng: np.random.Generator, rate_hz: int, reverberation_seconds: float, direct_db: float
) -> Array:
    """Return a response of the direct sound and noise that decays faster at high frequencies.

    After Polack (1988). `direct_db` is the ratio of direct to reverberant energy.
    """
    samples = int(ROOM_SECONDS * rate_hz)
    seconds = np.arange(samples) / rate_hz
    tail = np.zeros(samples)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    bins_hz = np.fft.rfftfreq(samples, 1.0 / rate_hz)
    for low_hz, high_hz, part in ((0.0, 1e3, 1.0), (1e3, 4e3, 0.85), (4e3, np.inf, 0.6)):
        band = np.where((bins_hz >= low_hz) & (bins_hz < high_hz), spectrum, 0.0)
        decay = 10.0 ** (-3.0 * seconds / (reverberation_seconds * part))
        tail += np.fft.irfft(band, samples) * decay
    tail[: int(rng.uniform(0.001, 0.01) * rate_hz)] = 0.0
    tail *= gain(-direct_db) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail.astype(np.float32)


def _image_sources(rng: np.random.Generator, rate_hz: int) -> tuple[Array, Array]:
    """Return the responses of a talker and of a noise in a shoebox room, direct sound first."""
    pyroomacoustics = needed("pyroomacoustics", "train")
    size = rng.uniform((2.0, 2.0, 2.2), (8.0, 6.0, 3.5))
    absorption = rng.uniform(0.15, 0.7)
    room = pyroomacoustics.ShoeBox(
        size, fs=rate_hz, max_order=12, materials=pyroomacoustics.Material(absorption)
    )
    inside = [rng.uniform(0.1, 0.9, 3) * size for _ in range(3)]
    reach = rng.uniform(0.3, 1.0)  # far talkers are harder, and not the rule
    inside[0] = inside[2] + reach * (inside[0] - inside[2])
    for source in inside[:2]:
        room.add_source(source)
    room.add_microphone(inside[2])
    room.compute_rir()
    responses = []
    for response in room.rir[0]:
        start = int(np.argmax(np.abs(response) > 0.3 * np.abs(response).max()))
        cut = response[start : start + int(ROOM_SECONDS * rate_hz)]
        cut = np.pad(cut, (0, int(ROOM_SECONDS * rate_hz) - len(cut))) / np.abs(cut).max()
        responses.append(cut.astype(np.float32))
    return responses[0], responses[1]
