"""Stages 4 and 5: target magnitudes to a waveform, by Griffin-Lim and weighted overlap-add.

Griffin and Lim (1984) alternate between the spectrogram with the wanted magnitudes and the nearest
one that is the transform of a real signal. Here they run on a sliding buffer of frames, as in RTISI
(Beauregard, Zhu and Wyse, 2005): the past is fixed, and new frames start from the noisy phase,
which is close, or from a random one.
"""

from __future__ import annotations

import numpy as np

from rtden.settings import Phase
from rtden.spectral import irfft_into, rfft_into, window_pair
from rtden.types import Array, Spectra

SMALLEST = np.float32(1e-20)
"""Magnitude below which there is no phase."""


class Inverter:
    """Turns frames into samples; exact (the input, delayed) where every gain is one.

    Parameters
    ----------
    n_fft, hop : int
        Frame length and distance in samples; hop divides n_fft.
    new_frames : int
        New frames per call; without iterations, at most.
    iterations : int
        Griffin-Lim iterations per call (K). Zero keeps the starting phase.
    frames : int
        Frames whose phases the iterations refine (M): the new ones, and the newest of the older.
    phase : "warm" or "random"
        Where a new frame starts.
    seed : int
        Seed of the random phase.
    overlap : int, optional
        Samples by which the synthesis windows of neighbouring frames overlap; n_fft - hop, the
        most, if None. It chooses the windows (:func:`rtden.spectral.window_pair`).
    """

    def __init__(
        self,
        *,
        n_fft: int,
        hop: int,
        new_frames: int,
        iterations: int,
        frames: int,
        phase: Phase = "warm",
        seed: int = 0,
        overlap: int | None = None,
    ) -> None:
        self._hop, self._iterations, self._phase, self._seed = hop, iterations, phase, seed
        parts = n_fft // hop
        self._context = parts - 1  # older frames that reach into the refined ones
        refined = max(frames, new_frames) if iterations else new_frames
        self._spectra = np.zeros((refined, n_fft // 2 + 1), np.complex64)
        self._magnitude = np.zeros(self._spectra.shape, np.float32)
        self._scale = np.zeros(self._spectra.shape, np.float32)
        # Windowed frames by hop, between empty ones, and their sum: block b of `_sum` is the sum of
        # part j of frame b - j.
        total = self._context + refined
        padded = np.zeros((total + 2 * self._context, parts, hop), np.float32)
        self._parts = padded[self._context :]
        self._refined_parts = self._parts.reshape(-1, n_fft)[self._context :]
        frame, part, sample = padded.strides
        self._meeting = np.lib.stride_tricks.as_strided(
            self._parts, (total + self._context, parts, hop), (frame, part - frame, sample)
        )
        self._frames = np.zeros((refined, n_fft), np.float32)
        self._sum = np.zeros((total + self._context, hop), np.float32)
        self._older = self._context + refined - new_frames
        self._refined_frames = np.lib.stride_tricks.sliding_window_view(
            self._sum.reshape(-1), n_fft
        )[self._context * hop :: hop][:refined]

        self._weigh(n_fft, n_fft - hop if overlap is None else overlap, new_frames)
        self.reset()

    def _weigh(self, n_fft: int, overlap: int, new_frames: int) -> None:
        """Compute what sums of windowed frames are divided by."""
        hop, parts = self._hop, self._context + 1
        total, refined = self._context + len(self._spectra), len(self._spectra)
        analysis, self._synthesis = window_pair(n_fft, hop, overlap)
        product = (analysis * self._synthesis).reshape(parts, hop)
        weight = np.zeros(self._sum.shape, np.float32)
        for at in range(parts):
            weight[at : at + total] += product[at]
        weight[: self._context] = product.sum(axis=0)
        # The sum is divided by the weight, which is smaller at the newest end, where frames are
        # still to come. Samples that a call completes have the same weights at every call.
        self._flat_sum, self._flat_weight = self._sum.reshape(-1), weight.reshape(-1)
        # New frames complete samples that begin this far behind their own first one.
        self._done_after_samples = n_fft - hop - overlap
        self._done_weight = np.roll(
            np.tile(product.sum(axis=0), new_frames), -(self._done_after_samples % hop)
        )
        positions = np.lib.stride_tricks.sliding_window_view(weight.reshape(-1), n_fft)[
            self._context * hop :: hop
        ][:refined]
        self._reframe = np.divide(
            analysis, positions, out=np.zeros(positions.shape, np.float32), where=positions > 1e-12
        )

    @property
    def older_frames(self) -> int:
        """Frames before the new ones that contribute to the next :meth:`push`."""
        return self._older

    def reset(self) -> None:
        """Forget everything; a random phase starts from its seed again."""
        self._clear()
        self._rng = np.random.default_rng(self._seed)

    def skip(self, frames: int) -> None:
        """Reset to the all-silence state and advance the random generator by `frames` frames."""
        if not self._cleared:
            self._clear()
        if self._phase == "random":
            self._rng.random((frames, self._spectra.shape[1]))

    def _clear(self) -> None:
        for array in (self._spectra, self._magnitude, self._parts, self._sum):
            array[...] = 0.0
        self._cleared = True
        self._pushed = 0  # frames of the last push, which still lie behind their context

    def push(self, spectra: Spectra, gains: Array, out: Array) -> None:
        """Take in new frames and write the samples that they complete.

        Parameters
        ----------
        spectra : array, shape (frames, n_fft // 2 + 1)
            Spectra of the noisy frames, under the analysis window: `new_frames`, or fewer without
            iterations.
        gains : array, same shape
            Linear gains: the target magnitude is gain x noisy magnitude.
        out : array, shape (frames * hop,)
            The next samples, which end `overlap` samples before the last new frame does.
        """
        self._parts[: self._context] = self._parts[self._pushed : self._pushed + self._context]
        self._pushed, self._cleared = len(spectra), False
        new = self._pushed
        refined = len(self._spectra) if self._iterations else new
        if new < refined:
            self._spectra[:-new] = self._spectra[new:]
            self._magnitude[:-new] = self._magnitude[new:]
        newest = self._spectra[refined - new : refined]
        np.multiply(spectra, gains, out=newest)
        if self._iterations or self._phase == "random":
            np.abs(newest, out=self._magnitude[refined - new : refined])
        if self._phase == "random":
            newest[...] = self._magnitude[refined - new : refined] * np.exp(
                2j * np.pi * self._rng.random(newest.shape)
            )
        for _ in range(self._iterations):
            self._window_frames(refined)
            self._add_up(self._context, self._context + refined + self._context)
            self._make_consistent()
        self._window_frames(refined)
        end = (self._context + refined) * self._hop + self._done_after_samples
        self._add_up((end - len(out)) // self._hop, -(-end // self._hop))
        np.divide(self._flat_sum[end - len(out) : end], self._done_weight[: len(out)], out=out)

    def tail(self) -> Array:
        """Return the samples beyond the last one written by :meth:`push`, shape (overlap,).

        That push must have had `new_frames` frames.
        """
        self._add_up(self._context, len(self._sum))
        end = (len(self._sum) - self._context) * self._hop + self._done_after_samples
        rest: Array = self._flat_sum[end:] / np.maximum(self._flat_weight[end:], np.float32(1e-12))
        return rest

    def _window_frames(self, refined: int) -> None:
        irfft_into(self._spectra[:refined], self._frames[:refined])
        np.multiply(self._frames[:refined], self._synthesis, out=self._refined_parts[:refined])
        if refined < len(self._spectra):  # remains of an earlier push with more frames
            self._refined_parts[refined : refined + self._context] = 0.0

    def _add_up(self, first: int, last: int) -> None:
        """Overlap-add a range of hops."""
        np.add.reduce(self._meeting[first:last], axis=1, out=self._sum[first:last])

    def _make_consistent(self) -> None:
        np.multiply(self._refined_frames, self._reframe, out=self._frames)
        rfft_into(self._frames, self._spectra)
        np.abs(self._spectra, out=self._scale)
        np.maximum(self._scale, SMALLEST, out=self._scale)
        np.divide(self._magnitude, self._scale, out=self._scale)
        np.multiply(self._spectra, self._scale, out=self._spectra)
