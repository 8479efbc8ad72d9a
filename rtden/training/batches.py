"""Batches for training, computed ahead in worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import BrokenExecutor, Future, wait
from dataclasses import dataclass

import numpy as np

from rtden.errors import TrainingError
from rtden.files.processes import process_pool, without_interrupts
from rtden.mel import MelFeatures
from rtden.model import ModelSpec
from rtden.spectral import power, stft, window_pair
from rtden.training.corpus import Clips
from rtden.training.mixing import Mixer, Mixture
from rtden.training.synthesis import active_rms
from rtden.types import Array

LIVE_OVERLAP_SAMPLES, LIVE_CHANCE = 405, 0.55  # of live sound, 30 ms late; mixtures that have it
LONGEST_CHANCE, SHORTEST_OVERLAP_SAMPLES = 0.2, 300
"""How many have that of files, the longest; the rest lies between this, 25 ms late, and it."""


@dataclass(frozen=True)
class Batch:
    """Mixtures for one training step."""

    features: Array  # (mixtures, n_mels, columns, channels): every mixture begins like a stream
    # (mixtures, columns * hop), relative to the level of the speech, preceded by the silence that
    # precedes a stream, so that frame t begins at sample t * hop.
    noisy: Array
    clean: Array
    valid_bins: Array  # (mixtures, bins): one up to the end of the speech's band, zero above
    analysis: Array  # (mixtures, n_fft): the windows of the features
    synthesis: Array  # and those of the inversion

    def target(self) -> dict[str, Array]:
        """Return the arguments of the loss."""
        return {name: of for name, of in vars(self).items() if name != "features"}


def mixture_samples(spec: ModelSpec, seconds: float) -> int:
    """Return the length of mixtures of about `seconds` that fill whole frames."""
    frames = max(spec.frames, round(seconds * spec.rate_hz / spec.hop))
    return frames * spec.hop - (spec.n_fft - spec.hop)


def to_batch(
    mixtures: list[Mixture], spec: ModelSpec, overlaps: Sequence[int] | None = None
) -> Batch:
    """Frame mixtures, by default at the longest overlap, and compute features like Denoiser."""
    lead_in = tail = spec.n_fft - spec.hop
    overlaps = overlaps or [spec.longest_overlap] * len(mixtures)
    pairs = [window_pair(spec.n_fft, spec.hop, overlap) for overlap in overlaps]
    analysis, synthesis = (np.stack(each) for each in zip(*pairs, strict=True))
    noisy = np.stack([np.pad(m.noisy, (lead_in, tail)) for m in mixtures])
    frames = np.lib.stride_tricks.sliding_window_view(noisy, spec.n_fft, axis=-1)
    frames = frames[:, :: spec.hop][:, : (noisy.shape[1] - tail) // spec.hop]
    frames_power = power(stft(frames, analysis[:, None]))
    features = MelFeatures(spec, streams=(len(mixtures),))
    columns = [features.push(frames_power[:, t]).copy() for t in range(frames_power.shape[1])]
    x = np.stack(columns, axis=2)

    level = np.array([reference_level(m) for m in mixtures], np.float32)[:, None]
    clean = np.stack([np.pad(m.clean, (lead_in, 0)) for m in mixtures])
    valid = np.stack([valid_bins(m, spec) for m in mixtures])
    noisy = noisy[:, : clean.shape[1]]
    return Batch(x, noisy / level, clean / level, valid, analysis, synthesis)


def draw_overlaps(spec: ModelSpec, count: int, rng: np.random.Generator) -> list[int]:
    """Return random overlaps for one network that serves live sound and files."""
    longest = spec.longest_overlap
    live_overlap = min(LIVE_OVERLAP_SAMPLES, longest)
    kinds = rng.random(count)
    between = rng.integers(min(SHORTEST_OVERLAP_SAMPLES, longest), longest + 1, count)
    live, whole = kinds < LIVE_CHANCE, kinds >= 1.0 - LONGEST_CHANCE
    return [int(n) for n in np.where(live, live_overlap, np.where(whole, longest, between))]


def valid_bins(mixture: Mixture, spec: ModelSpec) -> Array:
    """Return one for the bins up to the end of the speech's band, zero above."""
    bins_hz = np.arange(spec.n_fft // 2 + 1) * (spec.rate_hz / spec.n_fft)
    return (mixture.bandwidth_hz * 0.97 > bins_hz).astype(np.float32)


def reference_level(mixture: Mixture) -> float:
    """Return the level of the speech; of the whole mixture where there is next to no speech."""
    speech, everything = active_rms(mixture.clean), active_rms(mixture.noisy)
    return max(speech if speech > 0.2 * everything else everything, 1e-7)


class BatchSource:
    """Returns batch number n of a seed, which does not depend on the batches drawn before."""

    def __init__(
        self, *clips: Clips, spec: ModelSpec, mixtures: int, seconds: float, seed: int
    ) -> None:
        samples = mixture_samples(spec, seconds)
        self._mixer = Mixer(*clips, rate_hz=spec.rate_hz, samples=samples)
        self._spec, self._mixtures, self._seed = spec, mixtures, seed

    def __call__(self, number: int) -> Batch:
        """Return one batch."""
        mixtures = self.mixtures(number)
        rng = np.random.default_rng((self._seed, number, 1))
        return to_batch(mixtures, self._spec, draw_overlaps(self._spec, len(mixtures), rng))

    def mixtures(self, number: int) -> list[Mixture]:
        """Return the mixtures of one batch."""
        rng = np.random.default_rng((self._seed, number))
        return [self._mixer.draw(rng) for _ in range(self._mixtures)]


_source: BatchSource | None = None


def _adopt(source: BatchSource) -> None:
    global _source  # noqa: PLW0603 - one source for each worker process
    _source = source


def _draw(number: int) -> Batch:
    assert _source is not None
    return _source(number)


def draw_ahead(
    source: BatchSource, numbers: range, *, workers: int = 1
) -> Generator[Batch, None, None]:
    """Yield batches in order, computed ahead by other processes."""
    with process_pool(workers, _adopt, source) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                with without_interrupts():
                    waiting.append(pool.submit(_draw, number))
                if len(waiting) > 3 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenExecutor:
            raise TrainingError(
                "a process that draws mixtures ended early, most likely for lack of memory; the "
                "same command resumes the run."
            ) from None
        finally:
            # The pool would wait for ever for the rest of what a killed process hands over.
            wait([future for future in waiting if not future.cancel()])
