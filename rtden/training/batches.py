"""Mixtures to what a network is trained on, drawn ahead in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from rtden.mel import MelFeatures
from rtden.model import ModelSpec
from rtden.spectral import power, stft, window_pair
from rtden.training.corpus import Clips
from rtden.training.mixing import Mixer, Mixture, active_rms
from rtden.types import Array


@dataclass(frozen=True)
class Batch:
    """Mixtures for one training step.

    features : (mixtures, n_mels, columns, channels), what the network sees; every mixture begins as a stream does.
    noisy, clean : (mixtures, columns * hop), relative to the speech's level, preceded by the silence that precedes a stream,
    so that frame t begins at sample t * frame_hop and the loss does not weigh loud recordings more.
    heard : (mixtures, bins), one up to the frequency to which the speech reaches, zero above: what a recording cannot hold
    says nothing about what the network should do there.
    """

    features: Array
    noisy: Array
    clean: Array
    heard: Array

    def target(self) -> dict[str, Array]:
        """Return what the loss compares with."""
        return {"noisy": self.noisy, "clean": self.clean, "heard": self.heard}


def mixture_samples(spec: ModelSpec, seconds: float) -> int:
    """Return the length of mixtures of about `seconds` that fill whole columns."""
    return max(spec.frames, round(seconds * spec.rate_hz / spec.hop)) * spec.hop - (
        spec.n_fft - spec.frame_hop
    )


def to_batch(mixtures: list[Mixture], spec: ModelSpec) -> Batch:
    """Frame mixtures and compute their features, as the Denoiser does in use."""
    lead_in = tail = spec.n_fft - spec.frame_hop
    noisy = np.stack([np.pad(m.noisy, (lead_in, tail)) for m in mixtures])
    frames = np.lib.stride_tricks.sliding_window_view(noisy, spec.n_fft, axis=-1)[
        :, :: spec.frame_hop
    ]
    window, _ = window_pair(spec.n_fft, spec.frame_hop, spec.n_fft - spec.hop)
    frames_power = power(stft(frames[:, : (noisy.shape[1] - tail) // spec.frame_hop], window))
    features = MelFeatures(spec, streams=(len(mixtures),))
    x = np.stack(
        [features.push(frames_power[:, t]).copy() for t in range(frames_power.shape[1])], axis=2
    )
    x = x.reshape(*x.shape[:2], -1, spec.input_channels)

    level = np.array([reference_level(m) for m in mixtures], np.float32)[:, None]
    clean = np.stack([np.pad(m.clean, (lead_in, 0)) for m in mixtures])
    return Batch(
        x,
        noisy[:, : clean.shape[1]] / level,
        clean / level,
        np.stack([heard_bins(m, spec) for m in mixtures]),
    )


def heard_bins(mixture: Mixture, spec: ModelSpec) -> Array:
    """Return one for the bins up to the frequency to which the speech reaches, zero above, shape (n_fft // 2 + 1,)."""
    bins_hz = np.arange(spec.n_fft // 2 + 1) * (spec.rate_hz / spec.n_fft)
    return (mixture.bandwidth_hz * 0.97 > bins_hz).astype(np.float32)


def reference_level(mixture: Mixture) -> float:
    """Return the level of the speech, or of everything where there is next to no speech to compare with."""
    speech, everything = active_rms(mixture.clean), active_rms(mixture.noisy)
    return max(speech if speech > 0.2 * everything else everything, 1e-7)


class BatchSource:
    """Batch number n of a seed, always the same, whichever was asked for before.

    Parameters
    ----------
    speech, noise : Clips
    spec : ModelSpec
    mixtures : int
        Mixtures a batch.
    seconds : float
        Length of a mixture.
    seed : int
    """

    def __init__(
        self,
        speech: Clips,
        noise: Clips,
        spec: ModelSpec,
        *,
        mixtures: int,
        seconds: float,
        seed: int,
    ) -> None:
        self._mixer = Mixer(
            speech, noise, rate_hz=spec.rate_hz, samples=mixture_samples(spec, seconds)
        )
        self._spec, self._mixtures, self._seed = spec, mixtures, seed

    def __call__(self, number: int) -> Batch:
        """Return one batch."""
        return to_batch(self.mixtures(number), self._spec)

    def mixtures(self, number: int) -> list[Mixture]:
        """Return what one batch is made of."""
        rng = np.random.default_rng((self._seed, number))
        return [self._mixer.draw(rng) for _ in range(self._mixtures)]


_source: BatchSource | None = None


def _adopt(source: BatchSource) -> None:
    global _source  # noqa: PLW0603 - what a worker process is for
    _source = source


def _draw(number: int) -> Batch:
    assert _source is not None
    return _source(number)


def draw_ahead(source: BatchSource, numbers: range, *, workers: int = 1) -> Iterator[Batch]:
    """Yield batches in order, drawn by other processes while the caller uses those before."""
    # A forked process would inherit the threads of the network's library; a spawned one starts clean.
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_adopt,
        initargs=(source,),
    ) as pool:
        waiting: deque[Future[Batch]] = deque()
        for number in numbers:
            waiting.append(pool.submit(_draw, number))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
