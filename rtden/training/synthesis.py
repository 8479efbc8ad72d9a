"""Synthesised sound and filters: noises, rooms, whispering, and the responses of microphones."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from rtden.extras import needed
from rtden.types import Array

ROOM_SECONDS = 0.5  # the longest room response
MADE_ROOMS, MODELLED_ROOMS = 48, 80  # of decaying noise, and of the image-source method


class Synthesis:
    """Synthesises signals of one length; the same generator state gives the same signal."""

    def __init__(self, rate_hz: int, samples: int) -> None:
        self.rate_hz, self.samples = rate_hz, samples
        self._fft_samples = fft.next_fast_len(samples + int(ROOM_SECONDS * rate_hz), real=True)
        self.bins_hz: NDArray[np.floating[Any]] = np.fft.rfftfreq(self._fft_samples, 1.0 / rate_hz)

    def filter(self, sound: Array, response: Any, room: Array | None = None) -> Array:
        """Return a signal filtered by a response at `bins_hz` and by a room's impulse response."""
        spectrum = fft.rfft(sound, self._fft_samples) * np.float32(response)
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

    def tilt(self, db_per_octave: float) -> Any:
        """Return a response that rises or falls with frequency about 1 kHz, by 12 dB at most."""
        octaves = np.log2(np.maximum(self.bins_hz, 60.0) / 1000.0)
        return gain(np.clip(db_per_octave * octaves, -12.0, 12.0))

    def low_pass(self, edge_hz: float, width: float) -> NDArray[np.float64]:
        """Return a response that falls from one to zero about an edge, over a part of it."""
        steps = (self.bins_hz - edge_hz) / (width * edge_hz)
        response: NDArray[np.float64] = 1.0 / (1.0 + np.exp(np.clip(8.0 * steps, -50.0, 50.0)))
        return response

    def coloured(self, rng: np.random.Generator, spread_db: float) -> Array:
        """Return stationary noise with a random spectrum, white to brown, and an RMS of one."""
        response = self.curve(rng, spread_db) * self.tilt(rng.uniform(-6.0, 1.0))
        return unit(self.filter(rng.standard_normal(self.samples, np.float32), response))

    def tones(self, rng: np.random.Generator, fundamental_hz: float) -> Array:
        """Return harmonics of a fundamental, with an RMS of one: mains hum, motors, alarms."""
        wander = np.cumsum(rng.standard_normal(64)) * rng.choice([0.0, 0.002])
        course = np.interp(np.linspace(0, 63, self.samples), np.arange(64), wander)
        phase = np.cumsum(2.0 * np.pi * fundamental_hz / self.rate_hz * (1.0 + course))
        noise, decay_db = np.zeros(self.samples, np.float32), rng.uniform(1.0, 9.0)
        for harmonic in range(1, 1 + min(12, int(0.45 * self.rate_hz / fundamental_hz))):
            level_db = -decay_db * (harmonic - 1) + rng.normal(0.0, 5.0)
            angle = harmonic * phase + rng.uniform(0.0, 2.0 * np.pi)
            noise += gain(level_db) * np.sin(angle.astype(np.float32))
        return unit(noise)

    def clicks(self, rng: np.random.Generator) -> Array:
        """Return runs of short bursts over a faint noise: keyboards, mice, cutlery."""
        return self.strokes(rng, [self._burst(rng) for _ in range(4)])

    def strokes(self, rng: np.random.Generator, sounds: list[Array]) -> Array:
        """Return sounds as someone types them, with pauses, over a faint noise."""
        noise: Array = rng.standard_normal(self.samples, np.float32)
        noise *= gain(rng.uniform(-75.0, -35.0))
        rate, count = 10.0 ** rng.uniform(0.5, 1.4), 1 + 30 * self.samples // self.rate_hz
        pauses = rng.exponential(0.3, count) * (rng.random(count) < 1.0 / rate)
        seconds = rng.uniform(0.0, 0.5) + np.cumsum(rng.gamma(4.0, 0.25 / rate, count) + pauses)
        for start in (seconds * self.rate_hz).astype(int):
            sound = sounds[int(rng.integers(len(sounds)))][: max(0, self.samples - start)]
            noise[start : start + len(sound)] += sound * gain(rng.normal(0.0, 5.0))
        return unit(noise)

    def _burst(self, rng: np.random.Generator) -> Array:
        """Return a click: a fast decay, a quieter slow one, and a random colour."""
        length = int(0.12 * self.rate_hz)
        ages = np.arange(length, dtype=np.float32) / self.rate_hz
        fast, slow = rng.uniform(0.0005, 0.008), rng.uniform(0.01, 0.04)
        envelope = np.exp(-ages / fast) + gain(rng.uniform(-30.0, -12.0)) * np.exp(-ages / slow)
        noise = np.float32(rng.standard_normal(length) * envelope)
        burst = self.filter(noise, self.curve(rng, 8.0))[:length]
        burst /= np.abs(burst).max() + 1e-9
        return burst

    def level_course(self, rng: np.random.Generator) -> Array:
        """Return an amplitude that steps, swells or gates, shape (samples,)."""
        points = int(rng.integers(2, 12))
        at, level_db = np.sort(rng.uniform(0, self.samples, points)), rng.normal(0.0, 6.0, points)
        if rng.random() < 0.2:
            level_db[::2] = -60.0
        if rng.random() < 0.5:  # steps, not slopes
            at, level_db = np.repeat(at, 2)[1:], np.repeat(level_db, 2)[:-1]
            at[1::2] += 0.005 * self.rate_hz
        coarse = np.interp(np.arange(0, self.samples + 64, 64), at, level_db)
        return np.repeat(gain(coarse), 64)[: self.samples]


def whisper(speech: Array, rng: np.random.Generator) -> Array:
    """Return speech as whispering: noise with the envelope of the speech, without low harmonics."""
    from scipy import signal  # few mixtures whisper, and it takes a second

    hiss = rng.standard_normal(len(speech), np.float32)
    spectra, noise = (signal.stft(x, nperseg=512, noverlap=384)[2] for x in (speech, hiss))
    cepstrum = fft.irfft(np.log(np.abs(spectra) ** 2 + 1e-10), axis=0)
    cepstrum[30:-29] = 0.0  # pitch up to 700 Hz lies beyond
    envelope = np.exp(0.5 * fft.rfft(cepstrum, axis=0).real)
    envelope *= np.minimum(1.0, 0.1 + np.arange(len(envelope)) / 30.0)[:, None]  # no voice < 1 kHz
    whispered: Array = signal.istft(noise * envelope, nperseg=512, noverlap=384)[1]
    return whispered[: len(speech)].astype(np.float32)


def gain(level_db: ArrayLike) -> Array:
    """Return the amplitude of a level in dB."""
    return np.asarray(10.0 ** (np.asarray(level_db) / 20.0), np.float32)


def unit(sound: Array) -> Array:
    """Return a signal with an RMS of one."""
    scaled: Array = sound / np.float32(np.sqrt(np.mean(sound**2)) + 1e-6)
    return scaled


def active_rms(sound: Array, block_samples: int = 512) -> float:
    """Return the level of the louder parts: the RMS over blocks within 30 dB of the loudest."""
    blocks = sound[None]
    if len(sound) >= block_samples:
        blocks = sound[: len(sound) // block_samples * block_samples].reshape(-1, block_samples)
    levels = np.mean(blocks**2, axis=1)
    return float(np.sqrt(levels[levels >= levels.max() * 1e-3].mean()))


@functools.cache
def room_responses(rate_hz: int) -> list[tuple[Array, ...]]:
    """Return pairs of responses, shape (samples,) each: of a talker, and of a noise in the room."""
    rng, rooms = np.random.default_rng(0), list[tuple[Array, ...]]()
    for _ in range(MADE_ROOMS):
        seconds, direct_db = rng.uniform(0.1, 0.8), rng.uniform((-3.0, -9.0), (15.0, 6.0))
        rooms.append(tuple(decaying_noise(rng, rate_hz, seconds, of_db) for of_db in direct_db))
    return rooms + [_image_sources(rng, rate_hz) for _ in range(MODELLED_ROOMS)]


def decaying_noise(
    rng: np.random.Generator, rate_hz: int, reverberation_seconds: float, direct_db: float
) -> Array:
    """Return the direct sound, and noise that decays faster at high frequencies (Polack, 1988).

    `direct_db` is the ratio of direct to reverberant energy.
    """
    samples = int(ROOM_SECONDS * rate_hz)
    seconds, tail = np.arange(samples) / rate_hz, np.zeros(samples)
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


def _image_sources(rng: np.random.Generator, rate_hz: int) -> tuple[Array, ...]:
    """Return the responses of a talker and of a noise in a shoebox room, direct sound first."""
    pyroomacoustics = needed("pyroomacoustics", "train", "training")
    size = rng.uniform((2.0, 2.0, 2.2), (8.0, 6.0, 3.5))
    walls = pyroomacoustics.Material(rng.uniform(0.15, 0.7))
    room = pyroomacoustics.ShoeBox(size, fs=rate_hz, max_order=12, materials=walls)
    talker, noise, microphone = rng.uniform(0.1, 0.9, (3, 3)) * size
    reach = rng.uniform(0.3, 1.0)  # far talkers are harder, and not the rule
    room.add_source(microphone + reach * (talker - microphone))
    room.add_source(noise)
    room.add_microphone(microphone)
    room.compute_rir()
    responses = []
    for response in room.rir[0]:
        start = int(np.argmax(np.abs(response) > 0.3 * np.abs(response).max()))
        whole = np.pad(response[start:], (0, int(ROOM_SECONDS * rate_hz)))
        cut = whole[: int(ROOM_SECONDS * rate_hz)]
        responses.append(np.float32(cut / np.abs(cut).max()))
    return tuple(responses)
