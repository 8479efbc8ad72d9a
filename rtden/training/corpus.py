"""Folders of speech and noise to endless noisy mixtures, and mixtures to what a network is trained on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from rtden.errors import AudioFileError
from rtden.mel import Array, MelFeatures, hann, mel_filterbank, power, stft
from rtden.sidecar import ModelSpec

_LOGGER = logging.getLogger(__name__)

VALIDATION_SHARE = 0.1
"""Share of the speakers, and of the noise recordings, that is kept for validation."""


@dataclass(frozen=True)
class Clips:
    """Recordings of one folder, end to end in one memory-mapped array.

    `group` is what must not be split between training and validation: a speaker's folder for speech, a recording for noise.
    """

    samples: NDArray[np.int16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    bandwidth_hz: NDArray[np.float32]
    group: NDArray[np.str_]

    def select(self, chosen: NDArray[np.bool_]) -> Clips:
        """Return the chosen recordings; the samples are shared."""
        return Clips(self.samples, self.start[chosen], self.length[chosen], self.bandwidth_hz[chosen], self.group[chosen])

    def split(self) -> tuple[Clips, Clips]:
        """Return a training and a validation part that share no group; the same split for the same folder, always."""
        validation = np.array([_unit_hash(name) < VALIDATION_SHARE for name in self.group])
        if validation.all() or not validation.any():  # too few groups to give any away by chance
            validation = self.group == self.group[0]
        return self.select(~validation), self.select(validation)

    def excerpt(self, index: int, samples: int, rng: np.random.Generator) -> Array:
        """Return up to `samples` samples from a random place of a recording."""
        length = int(self.length[index])
        offset = int(self.start[index]) + int(rng.integers(0, max(1, length - samples + 1)))
        return self.samples[offset : offset + min(samples, length)].astype(np.float32) / 32768.0


def load_clips(folder: Path, cache: Path, *, rate_hz: int, group_depth: int | None, speeds: tuple[float, float] = (1.0, 1.0), seed: int = 0) -> Clips:
    """Decode and resample every recording under a folder, once; later calls map the cached result.

    Parameters
    ----------
    group_depth : int or None
        How many leading folders of a recording's path name its group; None makes each recording its own group.
    speeds : tuple of float
        Half of the recordings are sped up by a factor drawn from this range. Speech recorded at 16 kHz gains content
        above 8 kHz that way, and voices vary more.

    Raises
    ------
    AudioFileError
        If the folder holds no recording that can be read.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix[1:].upper() in {*soundfile.available_formats(), "OPUS", "OGA"} and p.is_file())
    if not paths:
        raise AudioFileError(f"{folder} holds no audio files; give the folder of your recordings.")
    key = hashlib.sha256(repr((rate_hz, speeds, seed, group_depth, [(str(p.relative_to(folder)), p.stat().st_size) for p in paths])).encode())
    stem = cache / f"{folder.name}-{key.hexdigest()[:12]}"
    index_path, samples_path = stem.with_suffix(".index.npz"), stem.with_suffix(".npy")
    if not index_path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        factors = np.where(rng.random(len(paths)) < 0.5, 1.0, rng.uniform(*speeds, len(paths)))
        with ProcessPoolExecutor() as pool:
            decoded = list(pool.map(partial(_decode, rate_hz=rate_hz), paths, factors, chunksize=16))
        lengths = np.array([len(samples) for samples, _ in decoded], np.int64)
        np.save(samples_path, np.concatenate([samples for samples, _ in decoded]))
        parts = [path.relative_to(folder).parts for path in paths]
        groups = ["/".join(p if group_depth is None else p[: min(group_depth, len(p) - 1)]) for p in parts]
        np.savez(
            index_path,
            start=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
            length=lengths,
            bandwidth_hz=np.array([bandwidth for _, bandwidth in decoded], np.float32),
            group=np.array(groups),
        )
        _LOGGER.info("%s: %d recordings, %.2f h, %d groups", folder, len(paths), lengths.sum() / rate_hz / 3600, len(set(groups)))
    index = np.load(index_path)
    return Clips(np.load(samples_path, mmap_mode="r"), index["start"], index["length"], index["bandwidth_hz"], index["group"])


def _decode(path: Path, speed: float, *, rate_hz: int) -> tuple[NDArray[np.int16], float]:
    samples, source_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), source_hz * speed, rate_hz)
    return np.clip(mono * 32767.0, -32768, 32767).astype(np.int16), min(source_hz * speed, rate_hz) / 2.0


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64


@dataclass(frozen=True)
class Mixture:
    """Clean and noisy signals, shape (samples,) each, and the frequency up to which the speech reaches."""

    clean: Array
    noisy: Array
    bandwidth_hz: float


class Mixer:
    """Draws mixtures of speech and noise.

    SNR -5 to 20 dB against the level of active speech, level -45 to -10 dBFS, random equalisation of both, one or two
    noises at changed speeds; noise is a recording (60 %), stationary noise of a random colour (15 %), babble summed from
    several talkers (15 %), or clicks as of a keyboard (10 %). 5 % of the mixtures are clean speech alone, 5 % noise alone;
    in 10 % a stretch is digital silence.
    """

    def __init__(self, speech: Clips, noise: Clips, *, rate_hz: int, samples: int, seed: int) -> None:
        self._speech, self._noise = speech, noise
        self._rate_hz, self._samples = rate_hz, samples
        self._rng = np.random.default_rng(seed)
        # A long recording is drawn more often, a folder of very many short ones not as often as its number says.
        self._speech_p = _draw_probabilities(speech)
        self._noise_p = np.minimum(noise.length, 60 * rate_hz) / np.minimum(noise.length, 60 * rate_hz).sum()

    def draw(self) -> Mixture:
        """Return one mixture."""
        rng = self._rng
        kind = rng.random()
        clean, bandwidth_hz = self._talk()
        clean = self._equalise(clean, 3.0)
        noise = self._draw_noise()
        if rng.random() < 0.3:
            noise = noise + rng.uniform(0.2, 1.0) * self._draw_noise()
        clean_rms, noise_rms = active_rms(clean), float(np.sqrt(np.mean(noise**2)) + 1e-9)
        noise *= clean_rms / noise_rms * 10.0 ** (-rng.uniform(-5.0, 20.0) / 20.0)
        if kind < 0.05:
            noise = np.zeros_like(noise)
        elif kind < 0.10:
            clean = np.zeros_like(clean)
        if rng.random() < 0.1:
            start = int(rng.integers(0, self._samples))
            gap = slice(start, start + int(rng.uniform(0.05, 1.0) * self._rate_hz))
            clean[gap] = noise[gap] = 0.0
        noisy = clean + noise
        level = 10.0 ** (rng.uniform(-45.0, -10.0) / 20.0) / (np.sqrt(np.mean(noisy**2)) + 1e-9)
        level = min(level, 1.0 / (np.abs(noisy).max() + 1e-9))
        return Mixture(clean * level, noisy * level, bandwidth_hz)

    def _talk(self) -> tuple[Array, float]:
        rng, out, position, bandwidth_hz = self._rng, np.zeros(self._samples, np.float32), 0, np.inf
        while position < self._samples:
            index = int(rng.choice(len(self._speech.length), p=self._speech_p))
            part = self._speech.excerpt(index, self._samples - position, rng)
            out[position : position + len(part)] = part / (active_rms(part) + 1e-6) * 10.0 ** (rng.normal(0.0, 2.0) / 20.0)
            position += len(part) + int(rng.uniform(0.0, 0.4) * self._rate_hz)
            bandwidth_hz = min(bandwidth_hz, float(self._speech.bandwidth_hz[index]))
        return out, bandwidth_hz

    def _draw_noise(self) -> Array:
        rng, kind = self._rng, self._rng.random()
        if kind < 0.60:
            noise = self._recorded_noise()
        elif kind < 0.75:
            noise = self._equalise(rng.standard_normal(self._samples).astype(np.float32), 11.0)
        elif kind < 0.85:
            noise = self._clicks()
        else:
            noise = np.zeros(self._samples, np.float32)
            for _ in range(int(rng.integers(3, 9))):
                noise += self._talk()[0] * 10.0 ** (rng.normal(0.0, 3.0) / 20.0)
        return self._equalise(noise, 4.0)

    def _recorded_noise(self) -> Array:
        rng = self._rng
        speed = rng.uniform(0.75, 1.35)
        needed = int(self._samples * speed) + 2
        index = int(rng.choice(len(self._noise.length), p=self._noise_p))
        source = self._noise.excerpt(index, needed, rng)
        if len(source) < needed:
            source = np.tile(source, -(-needed // len(source)))[:needed]
        noise: Array = np.interp(np.arange(self._samples) * speed, np.arange(needed), source).astype(np.float32)
        noise /= np.float32(np.sqrt(np.mean(noise**2)) + 1e-6)
        return noise

    def _clicks(self) -> Array:
        """Bursts of decaying noise, in pairs as a key gives them, over a faint background."""
        rng = self._rng
        noise = 0.003 * rng.standard_normal(self._samples)
        for start in rng.integers(0, self._samples, max(1, rng.poisson(rng.uniform(3.0, 10.0) * self._samples / self._rate_hz))):
            for offset, level in ((0.0, 1.0), (rng.uniform(0.06, 0.12), 0.5)):
                decay_samples = rng.uniform(0.001, 0.012) * self._rate_hz
                at = start + int(offset * self._rate_hz)
                burst = rng.standard_normal(int(6 * decay_samples)) * np.exp(-np.arange(int(6 * decay_samples)) / decay_samples)
                burst = burst[: max(0, self._samples - at)] * level * 10.0 ** (rng.normal(0.0, 4.0) / 20.0)
                noise[at : at + len(burst)] += burst
        return noise.astype(np.float32)

    def _equalise(self, signal: Array, spread_db: float) -> Array:
        """Filter by a smooth random curve, in dB normally distributed at points an octave apart."""
        bins_hz = np.fft.rfftfreq(len(signal), 1.0 / self._rate_hz)
        points_hz = 60.0 * 2.0 ** np.arange(9)
        curve_db = np.interp(np.log2(bins_hz + 30.0), np.log2(points_hz), self._rng.normal(0.0, spread_db, len(points_hz)))
        return np.fft.irfft(np.fft.rfft(signal) * 10.0 ** (curve_db / 20.0), len(signal)).astype(np.float32)


def active_rms(signal: Array, block_samples: int = 512) -> float:
    """Return the level of the louder parts of a signal: the RMS over its blocks within 30 dB of the loudest."""
    blocks = signal[: len(signal) // block_samples * block_samples].reshape(-1, block_samples) if len(signal) >= block_samples else signal[None]
    levels = np.mean(blocks**2, axis=1)
    return float(np.sqrt(levels[levels >= levels.max() * 1e-3].mean()))


def _draw_probabilities(clips: Clips) -> NDArray[np.float64]:
    """Weigh recordings by length, and sources (the first folder of a group) by the root of their total length."""
    source = np.array([name.split("/")[0] for name in clips.group])
    weight: NDArray[np.float64] = clips.length.astype(np.float64)
    for name in np.unique(source):
        weight[source == name] /= np.sqrt(weight[source == name].sum())
    weight /= weight.sum()
    return weight


@dataclass(frozen=True)
class Batch:
    """Windows for training.

    x : (windows, n_mels, frames, channels), what the network sees; every mixture begins as a stream does, after silence.
    y : (windows, n_mels, frames, 4): amplitude of the noisy and of the clean mel, both relative to the speech's level; the
    share of the noisy cell that is coherent with the speech; the weight of the cell in the loss.
    """

    x: Array
    y: Array


def batches(mixer: Mixer, spec: ModelSpec, *, mixtures: int, stride: int, column_weight: Array) -> Iterator[Batch]:
    """Yield endless batches: `mixtures` drawn at once, cut to windows `stride` columns apart.

    The share is the gain that brings the noisy cell nearest to the clean one in the least-squares sense,
    sum(Re(S conj(X))) / sum(|X|^2) over the cell, clipped to [0, 1].
    """
    basis = np.ascontiguousarray(mel_filterbank(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz).T)
    centres_hz = (basis * np.arange(len(basis))[:, None]).sum(0) / basis.sum(0) * spec.rate_hz / spec.n_fft
    window = hann(spec.n_fft)
    silence = MelFeatures(spec).push(np.zeros(len(basis), np.float32))[:, None]
    rng = np.random.default_rng(0)
    while True:
        drawn = [mixer.draw() for _ in range(mixtures)]
        noisy, clean = (_spectra(np.stack([getattr(m, side) for m in drawn]), spec, window) for side in ("noisy", "clean"))
        noisy_power, clean_power = power(noisy), power(clean)
        noisy_mel, clean_mel = noisy_power @ basis, clean_power @ basis
        share = np.clip((clean.real * noisy.real + clean.imag * noisy.imag) @ basis / (noisy_mel + 1e-12), 0.0, 1.0)

        features = MelFeatures(spec, streams=(mixtures,))
        x = np.stack([features.push(noisy_power[:, t]).copy() for t in range(noisy_power.shape[1])], axis=2)

        # Relative to the level of the speech (of the noise where there is none): the loss must not weigh loud recordings more.
        level = np.array([active_rms(m.clean) or active_rms(m.noisy) for m in drawn])[:, None, None] * np.sqrt(spec.n_fft)
        heard = np.array([m.bandwidth_hz for m in drawn])[:, None, None] * 0.98 > centres_hz
        y = np.stack([np.sqrt(noisy_mel) / level, np.sqrt(clean_mel) / level, share, np.broadcast_to(heard, share.shape)], axis=-1, dtype=np.float32).transpose(
            0, 2, 1, 3
        )

        x = np.concatenate([np.broadcast_to(silence, (*x.shape[:2], spec.frames - 1, x.shape[3])), x], axis=2)
        y = np.concatenate([np.zeros((*y.shape[:2], spec.frames - 1, y.shape[3]), np.float32), y], axis=2)
        starts = range(int(rng.integers(stride)), x.shape[2] - spec.frames + 1, stride)
        windows_x = np.concatenate([x[:, :, s : s + spec.frames] for s in starts])
        windows_y = np.concatenate([y[:, :, s : s + spec.frames] for s in starts])
        windows_y[..., 3] *= column_weight
        yield Batch(windows_x, windows_y)


def _spectra(signals: Array, spec: ModelSpec, window: Array) -> NDArray[np.complex64]:
    frames = np.lib.stride_tricks.sliding_window_view(signals, spec.n_fft, axis=-1)[:, :: spec.hop]
    return stft(frames, window)
