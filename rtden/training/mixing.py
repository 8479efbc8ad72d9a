"""Recordings of speech and noise to endless noisy mixtures, as varied as microphones deliver them.

Variety is made: recordings are summed, joined, scattered, stretched, equalised, modulated and
gated; talkers are summed to babble; hum, tones, clicks and noise are synthesised; rooms, codecs,
band limits, overload and drop-outs act on speech and noise alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtden.training import codecs
from rtden.training.corpus import Clips
from rtden.training.sources import NoiseSource, SpeechSource
from rtden.training.synthesis import Synthesis, active_rms, gain, room_responses, unit
from rtden.types import Array

SNR_DB = (-5.0, 5.0, 25.0)  # lowest, most frequent and highest, of active speech
HIGH_SNR_DB, HIGH_SNR_CHANCE = (15.0, 40.0), 0.25  # speech that needs little help
LEVEL_DB = (-80.0, -10.0)  # of the mixture, full scale being zero
KINDS = ("speech alone", "noise alone", "rival", "both")
KIND_CHANCES = (0.09, 0.10, 0.04, 0.77)  # of each; a rival is one softer talker for noise
WHISPER_CHANCE, ROOM_CHANCE = 0.04, 0.25
CODEC_CHANCE, CODED_NOISE_CHANCE = 0.06, 0.5  # of a codec: for a mixture, and for noise alone
FLOOR_CHANCE, CODED_FLOOR_CHANCE = 0.15, 0.7  # of a faint floor: the same, the latter if coded, too
FLOOR_DB = (-75.0, -30.0)  # of that floor relative to the mixture
TAIL = 0.3  # amplitude to which the target lowers the reverberation behind the early reflections
BAND_LIMITS_HZ = (np.inf, 3400.0, 4000.0, 8000.0, 0.0)
BAND_CHANCES = (0.45, 0.03, 0.02, 0.3, 0.2)
"""How often the band ends as a telephone's or that of a 16 kHz recording, or elsewhere (0.0)."""
ANY_LIMIT_HZ = (5000.0, 10500.0)


class Mixture(NamedTuple):
    """Clean and noisy signals, shape (samples,) each, and the upper end of the speech's band."""

    clean: Array
    noisy: Array
    bandwidth_hz: float


class Mixer:
    """Draws mixtures of a length; the same generator state gives the same mixture.

    Microphone, codec, band limit and overload act on the target as well: the network removes noise
    and does not repair. Of a room, the early reflections are the target; the tail is lowered.
    """

    def __init__(self, speech: Clips, noise: Clips, *, rate_hz: int, samples: int) -> None:
        self._rate_hz, self._samples = rate_hz, samples
        self._synthesis = Synthesis(rate_hz, samples)
        self._speech = SpeechSource(speech, self._synthesis)
        self._noise = NoiseSource(noise, self._speech, self._synthesis)
        self._rooms = room_responses(rate_hz)
        # Reflections within 50 ms help to understand speech; the tail behind them is noise.
        seconds = np.arange(len(self._rooms[0][0])) / rate_hz
        self._early = np.interp(seconds, (0.05, 0.07), (1.0, TAIL)).astype(np.float32)

    def draw(self, rng: np.random.Generator) -> Mixture:
        """Return one mixture."""
        whispers = rng.random() < WHISPER_CHANCE
        speech, bandwidth_hz = (self._speech.whisper if whispers else self._speech.talk)(rng)
        kind = rng.choice(KINDS, p=KIND_CHANCES)
        noise = self._speech.talk(rng)[0] if kind == "rival" else self._draw_noise(rng)
        microphone, limit_hz = self._microphone(rng)
        bandwidth_hz = min(bandwidth_hz, limit_hz)
        clean, reverberant, noise = self._place(rng, speech, noise, microphone, bandwidth_hz)
        noise *= np.float32(self._noise_gain(rng, clean, noise, rival=kind == "rival"))
        if kind == "speech alone":
            noise[:] = 0.0
        elif kind == "noise alone":
            clean = reverberant = np.zeros_like(clean)
        if rng.random() < 0.15:  # recordings have a faint floor of their own, which may stay
            floor = self._synthesis.filter(self._synthesis.coloured(rng, 4.0), microphone)
            floor *= np.float32(active_rms(clean)) * gain(rng.uniform(-55.0, -40.0))
            clean, reverberant = clean + floor, reverberant + floor
        noisy, alone = reverberant + noise, kind == "noise alone"
        coded = rng.random() < (CODED_NOISE_CHANCE if alone else CODEC_CHANCE)
        if coded:
            codec = codecs.CODECS[rng.choice(len(codecs.CODECS), p=codecs.CHANCES)]
            clean, noisy = codecs.code([clean, noisy], codec, self._rate_hz, rng)
            bandwidth_hz = min(bandwidth_hz, codec.bandwidth_hz)
        if rng.random() < (CODED_FLOOR_CHANCE if coded or alone else FLOOR_CHANCE):
            noisy = noisy + self._floor(rng, noisy)
        return Mixture(*self._record(rng, clean, noisy), bandwidth_hz)

    def _draw_noise(self, rng: np.random.Generator) -> Array:
        noise = self._noise.draw(rng)
        if rng.random() < 0.4:
            noise += np.float32(rng.uniform(0.1, 1.0)) * self._noise.draw(rng)
        if rng.random() < 0.1:
            noise += gain(rng.uniform(-20.0, 3.0)) * self._noise.hum(rng)
        if rng.random() < 0.2:
            noise *= self._synthesis.level_course(rng)
        return noise

    def _floor(self, rng: np.random.Generator, noisy: Array) -> Array:
        """Return what converters and resamplers leave, above the end of the band, too."""
        tilt = self._synthesis.tilt(rng.uniform(-4.0, 2.0) if rng.random() < 0.4 else 0.0)
        floor = unit(self._synthesis.filter(rng.standard_normal(self._samples, np.float32), tilt))
        floor *= np.sqrt(np.mean(noisy**2)) * gain(rng.uniform(*FLOOR_DB))
        return floor

    def _microphone(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
        """Return the response of a microphone and its line, and the upper end of its band."""
        synthesis = self._synthesis
        response = synthesis.curve(rng, 2.0)
        limit_hz = float(rng.choice(BAND_LIMITS_HZ, p=BAND_CHANCES)) or rng.uniform(*ANY_LIMIT_HZ)
        if np.isfinite(limit_hz):
            response = response * synthesis.low_pass(limit_hz, _edge_width(rng))
        if rng.random() < 0.3:
            response = response * (1.0 - synthesis.low_pass(rng.uniform(40.0, 300.0), 0.3))
        return response, limit_hz

    def _place(
        self,
        rng: np.random.Generator,
        speech: Array,
        noise: Array,
        microphone: NDArray[np.float64],
        bandwidth_hz: float,
    ) -> tuple[Array, Array, Array]:
        """Return the target, the speech in its room, and the noise, as a microphone has them."""
        synthesis = self._synthesis
        response = microphone * synthesis.curve(rng, 3.0)
        if rng.random() < 0.5:  # darker and brighter voices
            response = response * synthesis.tilt(rng.uniform(-3.0, 3.0))
        around = microphone * synthesis.curve(rng, 4.0)
        if rng.random() < 0.5:
            # Noise often reaches higher than recorded speech. A network that may rely on this
            # keeps all noise that ends where speech does.
            edge_hz = min(bandwidth_hz, synthesis.bins_hz[-1])
            around = around * synthesis.low_pass(edge_hz, _edge_width(rng))
        if rng.random() >= ROOM_CHANCE:
            clean = synthesis.filter(speech, response)
            return clean, clean, synthesis.filter(noise, around)
        talker, other = self._rooms[rng.integers(len(self._rooms))]
        clean = synthesis.filter(speech, response, talker * self._early)
        reverberant = synthesis.filter(speech, response, talker)
        return clean, reverberant, synthesis.filter(noise, around, other)

    @staticmethod
    def _noise_gain(rng: np.random.Generator, clean: Array, noise: Array, *, rival: bool) -> float:
        if rival:
            snr_db = rng.uniform(6.0, 20.0)
        elif rng.random() < HIGH_SNR_CHANCE:
            snr_db = rng.uniform(*HIGH_SNR_DB)
        else:
            snr_db = rng.triangular(*SNR_DB)  # most where there is most to learn
        level = float(np.sqrt(np.mean(noise**2))) + 1e-9
        return float(active_rms(clean) / level * gain(-snr_db))

    def _record(self, rng: np.random.Generator, clean: Array, noisy: Array) -> tuple[Array, Array]:
        """Return both at a random level, at times overloaded, in 16 bits, or with gaps."""
        level = gain(rng.uniform(*LEVEL_DB)) / (np.sqrt(np.mean(noisy**2)) + 1e-9)
        level = np.float32(min(level, 1.0 / (np.abs(noisy).max() + 1e-9)))
        clean, noisy = clean * level, noisy * level
        if rng.random() < 0.05:
            ceiling = np.float32(rng.uniform(0.2, 0.9) * np.abs(noisy).max())
            clean, noisy = np.clip((clean, noisy), -ceiling, ceiling)
        if rng.random() < 0.2 and np.sqrt(np.mean(noisy**2)) > 3e-4:
            noisy = np.round(noisy * np.float32(32768.0)) / np.float32(32768.0)
        for chance, at in ((0.15, 0.0), (0.1, rng.random())):
            if rng.random() < chance:
                start = int(at * self._samples)
                gap = slice(start, start + int(rng.uniform(0.05, 1.0) * self._rate_hz))
                clean[gap] = noisy[gap] = 0.0
        return clean, noisy


def _edge_width(rng: np.random.Generator) -> float:
    """Return the width of a band's edge, relative to it: steep as a codec's, or gentle."""
    return float(10.0 ** rng.uniform(-2.7, -1.3))
