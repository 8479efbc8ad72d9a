"""Speech and noise as a mixture needs them: recordings drawn by category, joined or scattered."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from rtden.training.corpus import Clips
from rtden.training.synthesis import Synthesis, active_rms, gain, unit, whisper
from rtden.types import Array

LONGEST_SECONDS = 60.0  # a noise counts by its length up to this
SHORT_SECONDS = 0.8  # shorter recordings are single events: strokes, knocks, drips
KEYBOARDS = "keyboards"  # a category of noise: recorded strokes
KIND_CHANCES = (0.56, 0.10, 0.08, 0.06, 0.04, 0.16)
"""How often a noise is recorded, coloured, clicks, keystrokes, tones, and babble."""


class _Recordings:
    """Recordings, drawn by weight.

    A recording weighs its length to a power, and a category the sum of these to another: by length
    alone, a clip of 3 s would be drawn a thirtieth as often as a loop of 90 s.
    """

    def __init__(
        self, clips: Clips, longest: float, length_power: float, category_power: float
    ) -> None:
        self.clips, self.category = clips, clips.categories()
        weight = np.minimum(clips.length, longest) ** length_power
        for name in np.unique(self.category):
            of = self.category == name
            weight[of] *= weight[of].sum() ** (category_power - 1.0)
        self.cumulative: NDArray[np.float64] = np.cumsum(weight)

    def draw(self, rng: np.random.Generator) -> int:
        at = rng.random() * self.cumulative[-1]
        return int(np.searchsorted(self.cumulative, at, side="right"))


class SpeechSource:
    """Talkers, at an active level of about one."""

    def __init__(self, clips: Clips, synthesis: Synthesis) -> None:
        self._recordings, self._synthesis = _Recordings(clips, np.inf, 1.0, 0.5), synthesis

    def talk(self, rng: np.random.Generator) -> tuple[Array, float]:
        """Return speech from one recording after another, with pauses, and its bandwidth in Hz."""
        samples, clips = self._synthesis.samples, self._recordings.clips
        out, position, bandwidth_hz = np.zeros(samples, np.float32), 0, np.inf
        while position < samples:
            index = self._recordings.draw(rng)
            part = clips.excerpt(index, samples - position, rng)
            level = gain(rng.normal(0.0, 2.0)) / np.float32(active_rms(part) + 1e-6)
            out[position : position + len(part)] = part * level
            position += len(part) + int(rng.uniform(0.0, 0.6) * self._synthesis.rate_hz)
            bandwidth_hz = min(bandwidth_hz, float(clips.bandwidth_hz[index]))
        return out, bandwidth_hz

    def whisper(self, rng: np.random.Generator) -> tuple[Array, float]:
        """Return the same as whispering."""
        speech, bandwidth_hz = self.talk(rng)
        whispered = whisper(speech, rng)
        return whispered / np.float32(active_rms(whispered) + 1e-6), bandwidth_hz

    def babble(self, rng: np.random.Generator) -> Array:
        """Return the sum of three to eight talkers."""
        talkers = [self.talk(rng)[0] for _ in range(rng.integers(3, 9))]
        return gain(rng.normal(0.0, 3.0, len(talkers))) @ np.stack(talkers)


class NoiseSource:
    """Noises, at an RMS of one: recordings as they are or processed, and synthesised sound."""

    def __init__(self, clips: Clips, speech: SpeechSource, synthesis: Synthesis) -> None:
        longest = LONGEST_SECONDS * synthesis.rate_hz
        self._recordings = _Recordings(clips, longest, 0.3, 0.4)
        self._clips, self._speech, self._synthesis = clips, speech, synthesis
        short = clips.length < SHORT_SECONDS * synthesis.rate_hz
        self._keys = np.flatnonzero((self._recordings.category == KEYBOARDS) & short)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return a noise."""
        coloured = functools.partial(self._synthesis.coloured, spread_db=8.0)
        recorded = (self._recorded, coloured, self._synthesis.clicks, self._keystrokes)
        kinds = (*recorded, self._tones, self._speech.babble)
        return unit(kinds[rng.choice(len(kinds), p=KIND_CHANCES)](rng))

    def hum(self, rng: np.random.Generator) -> Array:
        """Return mains hum."""
        return self._synthesis.tones(rng, float(rng.choice([50.0, 60.0])))

    def _tones(self, rng: np.random.Generator) -> Array:
        """Return a motor or an alarm over stationary noise."""
        noise = self._synthesis.tones(rng, float(10.0 ** rng.uniform(1.6, 3.3)))
        noise += np.float32(rng.uniform(0.05, 1.0)) * self._synthesis.coloured(rng, 8.0)
        return noise

    def _recorded(self, rng: np.random.Generator) -> Array:
        """Return one recording, or two one after the other, at other speeds, reversed or moved."""
        samples = self._synthesis.samples
        cut = int(rng.integers(samples)) if rng.random() < 0.25 else samples
        parts = [self._processed(rng, length) for length in (cut, samples - cut) if length]
        return np.concatenate(parts)

    def _processed(self, rng: np.random.Generator, samples: int) -> Array:
        speed = rng.uniform(0.65, 1.5)
        source = self._of_length(rng, int(samples * speed) + 2)
        part = np.interp(np.arange(samples) * speed, np.arange(len(source)), source)
        if rng.random() < 0.25:
            part = part[::-1]
        if rng.random() < 0.08:  # every frequency moves by the same amount
            turn = 2.0 * np.pi * rng.uniform(50.0, 2000.0) / self._synthesis.rate_hz
            part = part * np.cos(np.arange(samples) * turn)
        return unit(part.astype(np.float32))

    def _of_length(self, rng: np.random.Generator, samples: int) -> Array:
        """Return an excerpt; where recordings are shorter, several of a kind with gaps between."""
        index, rate_hz = self._recordings.draw(rng), self._synthesis.rate_hz
        excerpt = self._clips.excerpt(index, samples, rng)
        if len(excerpt) >= samples:
            return excerpt
        # Neighbours by name are recordings of the same kind.
        kind = np.flatnonzero(self._recordings.category == self._recordings.category[index])
        out: Array = rng.standard_normal(samples, np.float32)
        out *= gain(rng.uniform(-70.0, -30.0) if rng.random() < 0.7 else -120.0)
        gap_seconds, position = 10.0 ** rng.uniform(-1.3, 0.2), int(rng.uniform(0.0, 0.3) * rate_hz)
        while position < samples:
            part = _faded(excerpt[: samples - position])
            part *= gain(rng.normal(0.0, 4.0)) / np.float32(active_rms(excerpt) + 1e-4)
            out[position : position + len(part)] += part
            position += len(part) + int(rng.exponential(gap_seconds) * rate_hz)
            place = np.searchsorted(kind, index) + rng.choice([-3, -2, -1, 1, 2, 3])
            index = int(kind[place % len(kind)])
            excerpt = self._clips.excerpt(index, samples, rng)
        return out

    def _keystrokes(self, rng: np.random.Generator) -> Array:
        """Return someone typing on one of the recorded keyboards."""
        if not len(self._keys):
            return self._synthesis.clicks(rng)
        near = self._keys[(rng.integers(len(self._keys)) + np.arange(6)) % len(self._keys)]
        sounds = [self._clips.excerpt(int(key), self._synthesis.rate_hz, rng) for key in near]
        louder = [sound / np.float32(np.abs(sound).max() + 1e-4) for sound in sounds]
        return self._synthesis.strokes(rng, louder)


def _faded(part: Array, samples: int = 64) -> Array:
    """Return a part whose ends are faded, so that a cut is no click."""
    ends = np.minimum(np.arange(len(part)), np.arange(len(part))[::-1])
    return part * np.minimum(1.0, ends / samples).astype(np.float32)
