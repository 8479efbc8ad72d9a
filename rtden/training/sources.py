"""Speech and noise as a mixture needs them: recordings drawn by category, joined or scattered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtden.training.corpus import Clips
from rtden.training.synthesis import Synthesis, active_rms, gain, unit, whisper
from rtden.types import Array

CATEGORY_POWER = 0.4
"""A category of n recordings is drawn in proportion to n to this power."""
LENGTH_POWER, LONGEST_SECONDS = 0.3, 60.0
"""Inside a category, a recording counts by its length up to a limit to this power."""
SHORT_SECONDS = 0.8
"""Shorter recordings are single events: strokes, knocks, drips."""
KEYBOARDS = "keyboards"
"""Category of noise that is also drawn where synthesised clicks are."""


class SpeechSource:
    """Talkers, at an active level of about one."""

    def __init__(self, clips: Clips, synthesis: Synthesis) -> None:
        self._clips, self._synthesis = clips, synthesis
        self._cumulative = np.cumsum(_speech_weights(clips))

    def talk(self, rng: np.random.Generator) -> tuple[Array, float]:
        """Return speech from one recording after another, with pauses, and its bandwidth in Hz."""
        samples, rate_hz = self._synthesis.samples, self._synthesis.rate_hz
        out, position, bandwidth_hz = np.zeros(samples, np.float32), 0, np.inf
        while position < samples:
            index = _draw(self._cumulative, rng)
            part = self._clips.excerpt(index, samples - position, rng)
            level = gain(rng.normal(0.0, 2.0)) / np.float32(active_rms(part) + 1e-6)
            out[position : position + len(part)] = part * level
            position += len(part) + int(rng.uniform(0.0, 0.6) * rate_hz)
            bandwidth_hz = min(bandwidth_hz, float(self._clips.bandwidth_hz[index]))
        return out, bandwidth_hz

    def whisper(self, rng: np.random.Generator) -> tuple[Array, float]:
        """Return the same as whispering."""
        speech, bandwidth_hz = self.talk(rng)
        whispered = whisper(speech, rng)
        return whispered / np.float32(active_rms(whispered) + 1e-6), bandwidth_hz

    def babble(self, rng: np.random.Generator) -> Array:
        """Return the sum of three to eight talkers."""
        total = np.zeros(self._synthesis.samples, np.float32)
        for _ in range(int(rng.integers(3, 9))):
            total += self.talk(rng)[0] * gain(rng.normal(0.0, 3.0))
        return total


class NoiseSource:
    """Noises, at an RMS of one: recordings as they are or processed, and synthesised sound."""

    def __init__(self, clips: Clips, speech: SpeechSource, synthesis: Synthesis) -> None:
        self._clips, self._speech, self._synthesis = clips, speech, synthesis
        weights, category = _noise_weights(clips)
        self._cumulative = np.cumsum(weights)
        # Neighbours by name are recordings of the same kind.
        self._members = {name: np.flatnonzero(category == name) for name in np.unique(category)}
        self._category = category
        keys = self._members.get(KEYBOARDS, np.empty(0, int))
        self._keys = keys[clips.length[keys] < SHORT_SECONDS * synthesis.rate_hz]

    def draw(self, rng: np.random.Generator) -> Array:
        """Return a noise."""
        kind = rng.random()
        if kind < 0.56:
            noise = self._recorded(rng)
        elif kind < 0.66:
            noise = self._synthesis.coloured(rng, 8.0)
        elif kind < 0.74:
            noise = self._synthesis.clicks(rng)
        elif kind < 0.80:
            noise = self._keystrokes(rng)
        elif kind < 0.84:
            noise = self._synthesis.tones(rng, float(10.0 ** rng.uniform(1.6, 3.3)))
            noise += np.float32(rng.uniform(0.05, 1.0)) * self._synthesis.coloured(rng, 8.0)
        else:
            noise = self._speech.babble(rng)
        return unit(noise)

    def hum(self, rng: np.random.Generator) -> Array:
        """Return mains hum."""
        return self._synthesis.tones(rng, float(rng.choice([50.0, 60.0])))

    def _recorded(self, rng: np.random.Generator) -> Array:
        """Return one recording, or two one after the other, at other speeds, reversed or moved."""
        samples = self._synthesis.samples
        cut = int(rng.integers(samples)) if rng.random() < 0.25 else samples
        parts = [self._processed(rng, length) for length in (cut, samples - cut) if length]
        return np.concatenate(parts)

    def _processed(self, rng: np.random.Generator, samples: int) -> Array:
        speed = rng.uniform(0.65, 1.5)
        needed = int(samples * speed) + 2
        source = self._of_length(rng, needed)
        part = np.interp(np.arange(samples) * speed, np.arange(needed), source)
        part = part.astype(np.float32)
        if rng.random() < 0.25:
            part = part[::-1]
        if rng.random() < 0.08:  # every frequency moves by the same amount
            turn = 2.0 * np.pi * rng.uniform(50.0, 2000.0) / self._synthesis.rate_hz
            part = part * np.cos(np.arange(samples, dtype=np.float32) * np.float32(turn))
        return unit(part)

    def _of_length(self, rng: np.random.Generator, needed: int) -> Array:
        """Return an excerpt; where recordings are shorter, several of a kind with gaps between."""
        index = _draw(self._cumulative, rng)
        excerpt = self._clips.excerpt(index, needed, rng)
        if len(excerpt) >= needed:
            return excerpt
        floor_db = rng.uniform(-70.0, -30.0) if rng.random() < 0.7 else -120.0
        out: Array = rng.standard_normal(needed, np.float32)
        out *= gain(floor_db)
        gap_seconds = 10.0 ** rng.uniform(-1.3, 0.2)
        rate_hz = self._synthesis.rate_hz
        position = int(rng.uniform(0.0, 0.3) * rate_hz)
        while position < needed:
            level = gain(rng.normal(0.0, 4.0)) / np.float32(active_rms(excerpt) + 1e-4)
            part = _faded(excerpt[: needed - position]) * level
            out[position : position + len(part)] += part
            position += len(part) + int(rng.exponential(gap_seconds) * rate_hz)
            index = self._neighbour(rng, index)
            excerpt = self._clips.excerpt(index, needed, rng)
        return out

    def _neighbour(self, rng: np.random.Generator, index: int) -> int:
        """Return another recording of the same category, near in the alphabet."""
        members = self._members[self._category[index]]
        if len(members) < 3:
            return _draw(self._cumulative, rng)
        place = int(np.searchsorted(members, index)) + int(rng.choice([-3, -2, -1, 1, 2, 3]))
        return int(members[place % len(members)])

    def _keystrokes(self, rng: np.random.Generator) -> Array:
        """Return someone typing on one of the recorded keyboards."""
        if not len(self._keys):
            return self._synthesis.clicks(rng)

        def keys() -> list[Array]:
            first = int(rng.integers(len(self._keys)))
            near = self._keys[np.arange(first, first + 6) % len(self._keys)]
            sounds = [self._clips.excerpt(int(key), self._synthesis.rate_hz, rng) for key in near]
            return [sound / np.float32(np.abs(sound).max() + 1e-4) for sound in sounds]

        return self._synthesis.strokes(rng, keys)


def _faded(part: Array, samples: int = 64) -> Array:
    """Return a part whose ends are faded, so that a cut is no click."""
    faded: Array = part.copy()
    fade = np.linspace(0.0, 1.0, min(samples, len(part)), dtype=np.float32)
    faded[: len(fade)] *= fade
    faded[len(faded) - len(fade) :] *= fade[::-1]
    return faded


def _draw(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _speech_weights(clips: Clips) -> NDArray[np.float64]:
    """Weigh recordings by length, and categories by the root of their total length."""
    category, weight = clips.categories(), clips.length.astype(np.float64)
    for name in np.unique(category):
        weight[category == name] /= np.sqrt(weight[category == name].sum())
    return weight


def _noise_weights(clips: Clips) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Weigh by category and recording; return the categories as well.

    Weighing by length would draw a clip of 3 s a thirtieth as often as a loop of 90 s.
    """
    category, longest = clips.categories(), LONGEST_SECONDS * 22050
    weight = np.minimum(clips.length, longest).astype(np.float64) ** LENGTH_POWER
    for name in np.unique(category):
        of = category == name
        weight[of] *= of.sum() ** CATEGORY_POWER / weight[of].sum()
    return weight / weight.sum(), category
