"""Recordings of speech and noise to endless noisy mixtures, as varied as what microphones meet.

Recorded noise is scarce, so variety is made: recordings are summed, spliced, stretched, equalised, modulated and gated,
talkers are summed to babble, and hum, machine tones, clicks and coloured noise are synthesised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rtden.training.corpus import Clips
from rtden.types import Array

SNR_DB = (-5.0, 25.0)
LEVEL_DB = (-45.0, -10.0)
ROOM_SECONDS = 0.5
"""Longest room response."""
ROOMS = 64
BAND_LIMITS_HZ = {3400.0: 0.03, 4000.0: 0.03, 5500.0: 0.03, 7000.0: 0.03, 8000.0: 0.45}
"""Upper ends of the bands of lines, files and poor microphones, and how often each is met: telephone, AM radio, and, by far the most, 16 kHz."""


@dataclass(frozen=True)
class Mixture:
    """Clean and noisy signals, shape (samples,) each, and the frequency up to which the speech reaches."""

    clean: Array
    noisy: Array
    bandwidth_hz: float


class Mixer:
    """Draws mixtures of speech and noise; the same generator state gives the same mixture.

    SNR -5 to 25 dB against the level of active speech, level -45 to -10 dBFS. The speech may come through a room; both are
    equalised; the microphone may limit the band or clip; a stretch, or the beginning, may be digital silence. 5 % of
    the mixtures are clean speech alone, 5 % noise alone. What comes through a bad microphone is also the target: the network
    is to take noise away, not to repair. Of a room, the early reflections are the target, the tail is not.
    """

    def __init__(self, speech: Clips, noise: Clips, *, rate_hz: int, samples: int) -> None:
        self._speech, self._noise = speech, noise
        self._rate_hz, self._samples = rate_hz, samples
        # A long recording is drawn more often, a folder of very many short ones not as often as its number says.
        self._speech_p = np.cumsum(_draw_probabilities(speech))
        noise_length = np.minimum(noise.length, 60 * rate_hz)
        self._noise_p = np.cumsum(noise_length / noise_length.sum())
        self._fft_samples = fft.next_fast_len(samples + int(ROOM_SECONDS * rate_hz), real=True)
        self._bins_hz: NDArray[np.float64] = np.fft.rfftfreq(
            self._fft_samples, 1.0 / rate_hz
        ).astype(np.float64)
        rng = np.random.default_rng(0)
        # What follows the direct sound within 50 ms helps to understand speech; the tail behind it is noise like any other.
        self._early = np.clip(
            1.0 - (np.arange(int(ROOM_SECONDS * rate_hz)) / rate_hz - 0.05) / 0.02, 0.0, 1.0
        ).astype(np.float32)
        self._rooms = [_room_response(rng, rate_hz) for _ in range(ROOMS)]

    def draw(self, rng: np.random.Generator) -> Mixture:
        """Return one mixture."""
        clean, bandwidth_hz = self._talk(rng)
        noise = self._draw_noise(rng)
        if rng.random() < 0.4:
            noise += np.float32(rng.uniform(0.1, 1.0)) * self._draw_noise(rng)
        if rng.random() < 0.1:
            noise += np.float32(10.0 ** (rng.uniform(-20.0, 3.0) / 20.0)) * self._tones(
                rng, float(rng.choice([50.0, 60.0]))
            )
        if rng.random() < 0.2:
            noise *= self._level_steps(rng)

        microphone = self._curve(rng, 2.0)
        limit_hz = _choose(rng, BAND_LIMITS_HZ)
        if limit_hz is not None:
            bandwidth_hz = min(bandwidth_hz, limit_hz)
            microphone *= _slope(self._bins_hz, limit_hz, rng.uniform(0.01, 0.05) * limit_hz)
        if rng.random() < 0.3:
            lowest_hz = rng.uniform(40.0, 300.0)
            microphone *= 1.0 - _slope(self._bins_hz, lowest_hz, 0.3 * lowest_hz)
        response = microphone * self._curve(rng, 3.0)
        reverberant = clean = self._filter(clean, response)
        if rng.random() < 0.2:
            room = self._rooms[int(rng.integers(len(self._rooms)))]
            reverberant = self._filter(clean, np.ones(len(response)), room)
            clean = self._filter(clean, np.ones(len(response)), room * self._early)
        around = microphone * self._curve(rng, 4.0)
        if rng.random() < 0.5:
            # Noise often reaches higher than recorded speech. A network that may rely on this keeps all that ends where speech does.
            around *= _slope(
                self._bins_hz,
                bandwidth_hz,
                rng.uniform(0.01, 0.05) * min(bandwidth_hz, self._bins_hz[-1]),
            )
        noise = self._filter(noise, around)

        kind = rng.random()
        snr_db = rng.triangular(SNR_DB[0], 5.0, SNR_DB[1])  # most where there is most to learn
        noise *= np.float32(
            active_rms(clean) / (np.sqrt(np.mean(noise**2)) + 1e-9) * 10.0 ** (-snr_db / 20.0)
        )
        if kind < 0.05:
            noise[:] = 0.0
        elif kind < 0.10:
            clean = reverberant = np.zeros_like(clean)
        noisy = reverberant + noise
        level = 10.0 ** (rng.uniform(*LEVEL_DB) / 20.0) / (np.sqrt(np.mean(noisy**2)) + 1e-9)
        level = np.float32(min(level, 1.0 / (np.abs(noisy).max() + 1e-9)))
        clean, noisy = clean * level, noisy * level
        if rng.random() < 0.05:
            ceiling = np.float32(rng.uniform(0.2, 0.9) * np.abs(noisy).max())
            clean, noisy = np.clip(clean, -ceiling, ceiling), np.clip(noisy, -ceiling, ceiling)
        for chance, at in ((0.15, 0.0), (0.1, rng.random())):
            if rng.random() < chance:
                start = int(at * self._samples)
                gap = slice(start, start + int(rng.uniform(0.05, 1.0) * self._rate_hz))
                clean[gap] = noisy[gap] = 0.0
        return Mixture(clean, noisy, bandwidth_hz)

    def _talk(self, rng: np.random.Generator) -> tuple[Array, float]:
        """Return speech from one recording after another, with pauses, at an active level of about one, and its bandwidth."""
        out, position, bandwidth_hz = np.zeros(self._samples, np.float32), 0, np.inf
        while position < self._samples:
            index = int(np.searchsorted(self._speech_p, rng.random() * self._speech_p[-1]))
            part = self._speech.excerpt(index, self._samples - position, rng)
            out[position : position + len(part)] = part * np.float32(
                10.0 ** (rng.normal(0.0, 2.0) / 20.0) / (active_rms(part) + 1e-6)
            )
            position += len(part) + int(rng.uniform(0.0, 0.6) * self._rate_hz)
            bandwidth_hz = min(bandwidth_hz, float(self._speech.bandwidth_hz[index]))
        return out, bandwidth_hz

    def _draw_noise(self, rng: np.random.Generator) -> Array:
        """Return a noise with an RMS of one."""
        kind = rng.random()
        if kind < 0.55:
            noise = self._recorded_noise(rng)
        elif kind < 0.63:
            noise = self._filter(
                rng.standard_normal(self._samples, np.float32), self._curve(rng, 11.0)
            )
        elif kind < 0.81:
            noise = self._clicks(rng)
        elif kind < 0.86:
            noise = self._tones(rng, float(10.0 ** rng.uniform(1.6, 3.3)))
            noise += np.float32(rng.uniform(0.05, 1.0)) * self._filter(
                rng.standard_normal(self._samples, np.float32), self._curve(rng, 8.0)
            )
        else:
            noise = np.zeros(self._samples, np.float32)
            for _ in range(int(rng.integers(3, 9))):
                noise += self._talk(rng)[0] * np.float32(10.0 ** (rng.normal(0.0, 3.0) / 20.0))
            if rng.random() < 0.5:
                noise = self._filter(
                    noise,
                    np.ones(len(self._bins_hz)),
                    self._rooms[int(rng.integers(len(self._rooms)))],
                )
        noise /= np.float32(np.sqrt(np.mean(noise**2)) + 1e-6)
        return noise

    def _recorded_noise(self, rng: np.random.Generator) -> Array:
        parts, cut = [], int(rng.integers(self._samples)) if rng.random() < 0.3 else self._samples
        for samples in (cut, self._samples - cut):
            speed = rng.uniform(0.65, 1.5)
            needed = int(samples * speed) + 2
            index = int(np.searchsorted(self._noise_p, rng.random() * self._noise_p[-1]))
            source = self._noise.excerpt(index, needed, rng)
            if len(source) < needed:
                source = np.tile(source, -(-needed // len(source)))[:needed]
            part = np.interp(np.arange(samples) * speed, np.arange(needed), source).astype(
                np.float32
            )
            if rng.random() < 0.3:
                part = part[::-1]
            if rng.random() < 0.1:  # every frequency moves by the same amount
                part = part * np.cos(
                    np.arange(samples, dtype=np.float32)
                    * np.float32(2.0 * np.pi * rng.uniform(50.0, 2000.0) / self._rate_hz)
                )
            parts.append(part / np.float32(np.sqrt(np.mean(part**2)) + 1e-6) if samples else part)
        return np.concatenate(parts)

    def _clicks(self, rng: np.random.Generator) -> Array:
        """Keyboards, mice, cutlery: runs of short bursts with a few colours, each with a thud's or a room's quieter tail."""
        noise: Array = np.float32(10.0 ** (rng.uniform(-75.0, -35.0) / 20.0)) * rng.standard_normal(
            self._samples, np.float32
        )
        length = int(0.12 * self._rate_hz)
        ages = np.arange(length, dtype=np.float32) / self._rate_hz
        bursts = []
        for _ in range(4):
            fast, slow = rng.uniform(0.0005, 0.008), rng.uniform(0.01, 0.04)
            envelope = np.exp(-ages / np.float32(fast)) + np.float32(
                10.0 ** (rng.uniform(-30.0, -12.0) / 20.0)
            ) * np.exp(-ages / np.float32(slow))
            spectrum = fft.rfft(rng.standard_normal(length, np.float32) * envelope)
            colour_db = np.interp(
                np.linspace(0.0, 7.5, len(spectrum)), np.arange(8), rng.normal(0.0, 8.0, 8)
            ) - rng.choice([0.0, 25.0]) * (
                np.linspace(0.0, self._rate_hz / 2, len(spectrum)) < rng.uniform(300.0, 900.0)
            )
            burst = fft.irfft(spectrum * (10.0 ** (colour_db / 20.0)).astype(np.float32), length)
            bursts.append(burst / np.float32(np.abs(burst).max() + 1e-9))
        seconds, rate, run_ends = 0.0, 2.0, 0.0
        while (start := int(seconds * self._rate_hz)) < self._samples:
            burst = bursts[int(rng.integers(len(bursts)))] * np.float32(
                10.0 ** (rng.normal(0.0, 5.0) / 20.0)
            )
            noise[start : start + length] += burst[: self._samples - start]
            if seconds >= run_ends:  # a new run, after a pause
                rate, run_ends = 10.0 ** rng.uniform(0.5, 1.6), seconds + rng.exponential(1.0)
                seconds += rng.exponential(0.3)
            seconds += rng.gamma(4.0, 0.25 / rate)
        return noise

    def _tones(self, rng: np.random.Generator, fundamental_hz: float) -> Array:
        """Harmonics of a fundamental, with an RMS of one: mains hum, motors, alarms."""
        wander = np.cumsum(rng.standard_normal(64)) * rng.choice([0.0, 0.002])
        rate = (
            2.0
            * np.pi
            * fundamental_hz
            / self._rate_hz
            * (1.0 + np.interp(np.linspace(0, 63, self._samples), np.arange(64), wander))
        )
        phase, noise = np.cumsum(rate), np.zeros(self._samples, np.float32)
        decay_db = rng.uniform(1.0, 9.0)
        for harmonic in range(1, 1 + min(12, int(0.45 * self._rate_hz / fundamental_hz))):
            amplitude = 10.0 ** ((-decay_db * (harmonic - 1) + rng.normal(0.0, 5.0)) / 20.0)
            noise += np.float32(amplitude) * np.sin(
                (harmonic * phase + rng.uniform(0.0, 2.0 * np.pi)).astype(np.float32)
            )
        noise /= np.float32(np.sqrt(np.mean(noise**2)) + 1e-6)
        return noise

    def _level_steps(self, rng: np.random.Generator) -> Array:
        """Return an amplitude that steps, swells or gates, shape (samples,)."""
        points = int(rng.integers(2, 12))
        at = np.sort(rng.uniform(0, self._samples, points))
        level_db = rng.normal(0.0, 6.0, points)
        if rng.random() < 0.2:
            level_db[::2] = -60.0
        if rng.random() < 0.5:  # steps, not slopes
            at, level_db = np.repeat(at, 2)[1:], np.repeat(level_db, 2)[:-1]
            at[1::2] += 0.005 * self._rate_hz
        every = 64
        coarse = np.interp(np.arange(0, self._samples + every, every), at, level_db)
        fine: Array = np.repeat(10.0 ** (coarse / 20.0), every)[: self._samples].astype(np.float32)
        return fine

    def _curve(self, rng: np.random.Generator, spread_db: float) -> NDArray[np.float64]:
        """Return a smooth random response, in dB normally distributed at points an octave apart."""
        points_hz = 60.0 * 2.0 ** np.arange(9)
        coarse_hz = np.linspace(0.0, self._bins_hz[-1], 512)
        curve_db = np.interp(
            np.log2(coarse_hz + 30.0),
            np.log2(points_hz),
            rng.normal(0.0, spread_db, len(points_hz)),
        )
        response: NDArray[np.float64] = np.interp(
            self._bins_hz, coarse_hz, 10.0 ** (curve_db / 20.0)
        )
        return response

    def _filter(
        self, signal: Array, response: NDArray[np.float64], room: Array | None = None
    ) -> Array:
        spectrum = fft.rfft(signal, self._fft_samples)
        spectrum *= response.astype(np.float32)
        if room is not None:
            spectrum *= fft.rfft(room, self._fft_samples)
        filtered: Array = fft.irfft(spectrum, self._fft_samples)[: self._samples]
        return filtered


def active_rms(signal: Array, block_samples: int = 512) -> float:
    """Return the level of the louder parts of a signal: the RMS over its blocks within 30 dB of the loudest."""
    blocks = (
        signal[: len(signal) // block_samples * block_samples].reshape(-1, block_samples)
        if len(signal) >= block_samples
        else signal[None]
    )
    levels = np.mean(blocks**2, axis=1)
    return float(np.sqrt(levels[levels >= levels.max() * 1e-3].mean()))


def _choose(rng: np.random.Generator, chances: dict[float, float]) -> float | None:
    """Return one of the keys, each with its probability, or none."""
    which = int(np.searchsorted(np.cumsum(list(chances.values())), rng.random(), side="right"))
    return [*chances, None][which]


def _slope(bins_hz: NDArray[np.float64], edge_hz: float, width_hz: float) -> NDArray[np.float64]:
    """Return a low-pass response that falls from one to zero about an edge."""
    return 1.0 / (1.0 + np.exp(np.clip(8.0 * (bins_hz - edge_hz) / width_hz, -50.0, 50.0)))


def _room_response(rng: np.random.Generator, rate_hz: int) -> Array:
    """Return a made room response: the direct sound, and noise that decays, faster at high frequencies (Polack, 1988)."""
    samples = int(ROOM_SECONDS * rate_hz)
    seconds = np.arange(samples) / rate_hz
    reverberation_seconds = rng.uniform(0.1, 0.8)
    tail = np.zeros(samples)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    bins_hz = np.fft.rfftfreq(samples, 1.0 / rate_hz)
    for low_hz, high_hz, share in (
        (0.0, 1000.0, 1.0),
        (1000.0, 4000.0, 0.85),
        (4000.0, np.inf, 0.6),
    ):
        band = np.fft.irfft(
            np.where((bins_hz >= low_hz) & (bins_hz < high_hz), spectrum, 0.0), samples
        )
        tail += band * 10.0 ** (-3.0 * seconds / (reverberation_seconds * share))
    tail[: int(rng.uniform(0.001, 0.01) * rate_hz)] = 0.0
    direct_to_reverberant_db = rng.uniform(-3.0, 15.0)
    tail *= 10.0 ** (-direct_to_reverberant_db / 20.0) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail.astype(np.float32)


def _draw_probabilities(clips: Clips) -> NDArray[np.float64]:
    """Weigh recordings by length, and sources (the first folder of a group) by the root of their total length."""
    source = np.array([name.split("/")[0] for name in clips.group])
    weight: NDArray[np.float64] = clips.length.astype(np.float64)
    for name in np.unique(source):
        weight[source == name] /= np.sqrt(weight[source == name].sum())
    weight /= weight.sum()
    return weight
