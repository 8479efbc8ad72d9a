"""Stages 4 and 5: target magnitudes to a waveform, by Griffin-Lim and weighted overlap-add.

Griffin and Lim (1984) alternate between the spectrogram with the wanted magnitudes and the nearest
one that is the transform of a real signal. Here they run on a sliding buffer of frames, as in RTISI
(Beauregard, Zhu and Wyse, 2005): the past is fixed, and new frames start from the noisy phase,
which is close, or from a random one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rtden.settings import Phase
from rtden.spectral import irfft_into, rfft_into, window_pair
from rtden.types import Array, Spectra

SMALLEST = np.float32(1e-20)
"""Magnitude below which there is no phase."""


class Inverter:
    """Turns frames into samples; exact (the input, delayed) where every gain is one.

    A call takes `new_frames` (without iterations, at most) and makes `iterations` of Griffin-Lim
    (K), which refine the phases of `frames` frames (M): the new ones, and the newest of the older.
    `hop` divides `n_fft`; for `overlap` see :func:`rtden.spectral.window_pair`.
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
        self._iterations, self._phase, self._seed = iterations, phase, seed
        self._context = n_fft // hop - 1  # older frames that reach into the refined ones
        refined = max(frames, new_frames) if iterations else new_frames
        self._spectra = np.zeros((refined, n_fft // 2 + 1), np.complex64)
        self._magnitude = np.zeros(self._spectra.shape, np.float32)
        self._scale = np.zeros(self._spectra.shape, np.float32)
        self._frames = np.zeros((refined, n_fft), np.float32)
        self.older_frames = self._context + refined - new_frames
        """Frames before the new ones that contribute to the next :meth:`push`."""
        self._lay_out(n_fft, hop)
        self._weigh(n_fft, hop, n_fft - hop if overlap is None else overlap, new_frames)
        self._views = {new_frames: self._view(new_frames)}
        self.reset()

    def _lay_out(self, n_fft: int, hop: int) -> None:
        """Make the memory of the windowed frames and of their sum.

        The frames lie hop by hop between empty ones, so that block b of the sum is the sum of part
        j of frame b - j. Behind fewer frames lie those of an earlier push: the synthesis window is
        zero where they reach into completed samples.
        """
        parts, context, total = n_fft // hop, self._context, self._context + len(self._spectra)
        padded = np.zeros((total + 2 * context, parts, hop), np.float32)
        self._parts = padded[context:]
        self._bytes = self._parts.data.cast("B")  # overlapping memory moves by one copy
        self._refined_parts = self._parts.reshape(-1, n_fft)[context:]
        frame, part, sample = padded.strides
        self._overlapping = np.lib.stride_tricks.as_strided(
            self._parts, (total + context, parts, hop), (frame, part - frame, sample)
        )
        self._sum = np.zeros((total + context, hop), np.float32)
        self._flat_sum = self._sum.reshape(-1)
        self._refined_frames = np.lib.stride_tricks.sliding_window_view(self._flat_sum, n_fft)[
            context * hop :: hop
        ][: len(self._spectra)]

    def _weigh(self, n_fft: int, hop: int, overlap: int, new_frames: int) -> None:
        """Compute the weights by which sums of windowed frames are divided."""
        refined, context = len(self._spectra), self._context
        analysis, synthesis = window_pair(n_fft, hop, overlap)
        self._synthesis = synthesis[None]
        product = (analysis * synthesis).reshape(-1, hop)
        weight = np.zeros(self._sum.shape, np.float32)
        for at, part in enumerate(product):
            weight[at : at + context + refined] += part
        weight[:context] = product.sum(axis=0)
        # The sum is divided by the weight, which is smaller at the newest end, where frames are
        # still to come. Samples that a call completes have the same weights at every call.
        self._flat_weight = weight.reshape(-1)
        # New frames complete samples that begin this far behind their own first one.
        self._done_after_samples = n_fft - hop - overlap
        self._done_weight = np.roll(
            np.tile(product.sum(axis=0), new_frames), -(self._done_after_samples % hop)
        )
        positions = np.lib.stride_tricks.sliding_window_view(self._flat_weight, n_fft)[
            context * hop :: hop
        ][:refined]
        self._reframe = np.divide(
            analysis, positions, out=np.zeros(positions.shape, np.float32), where=positions > 1e-12
        )

    def _view(self, new: int) -> _View:
        """Return the parts of the memory that a push of this number of frames works on."""
        refined, context, hop = len(self._spectra), self._context, self._sum.shape[1]
        refined = refined if self._iterations else new
        end = (context + refined) * hop + self._done_after_samples
        first, last = (end - new * hop) // hop, -(-end // hop)
        return _View(
            self._spectra[refined - new : refined],
            self._magnitude[refined - new : refined],
            self._spectra[:refined],
            self._frames[:refined],
            self._refined_parts[:refined],
            self._parts[new : new + context].data.cast("B"),
            self._overlapping[first:last],
            self._sum[first:last],
            self._flat_sum[end - new * hop : end],
            self._done_weight[: new * hop],
        )

    def reset(self) -> None:
        """Forget everything; a random phase starts from its seed again."""
        self._clear()
        self._rng = np.random.default_rng(self._seed)

    def skip(self, frames: int) -> None:
        """Reset to the all-silence state and advance the random generator by `frames` frames."""
        if self._before is not None:
            self._clear()
        if self._phase == "random":
            self._rng.random((frames, self._spectra.shape[1]))

    def _clear(self) -> None:
        for array in (self._spectra, self._magnitude, self._parts, self._sum):
            array[...] = 0.0
        self._before: _View | None = None  # of the last push

    def push(self, spectra: Spectra, gains: Array | Spectra, out: Array) -> None:
        """Take in new frames and write the samples that they complete.

        `spectra` are those of the noisy frames under the analysis window, shape (frames,
        n_fft // 2 + 1), `gains` linear, of the same shape; real numbers of a complex type save a
        conversion. `out`, shape (frames * hop,), gets the next samples, which end `overlap` samples
        before the last new frame does.
        """
        new = len(spectra)
        view = self._views.get(new) or self._views.setdefault(new, self._view(new))
        if self._before is not None:
            moved = self._before.context
            self._bytes[: len(moved)] = moved
        self._before = view
        if self._iterations:
            self._spectra[:-new] = self._spectra[new:]
            self._magnitude[:-new] = self._magnitude[new:]
        np.multiply(spectra, gains, view.newest)
        if self._iterations or self._phase == "random":
            np.abs(view.newest, view.magnitude)
        if self._phase == "random":
            view.newest[...] = view.magnitude * np.exp(
                2j * np.pi * self._rng.random(view.newest.shape)
            )
        for _ in range(self._iterations):
            self._window_frames(view)
            np.add.reduce(self._overlapping, 1, out=self._sum)
            self._make_consistent()
        self._window_frames(view)
        np.add.reduce(view.overlapping, 1, out=view.sum)
        np.divide(view.done, view.weight, out)

    def tail(self) -> Array:
        """Return the samples beyond the last one written by :meth:`push`, shape (overlap,).

        That push must have had `new_frames` frames.
        """
        np.add.reduce(self._overlapping, 1, out=self._sum)
        end = (len(self._sum) - self._context) * self._sum.shape[1] + self._done_after_samples
        rest: Array = self._flat_sum[end:] / np.maximum(self._flat_weight[end:], np.float32(1e-12))
        return rest

    def _window_frames(self, view: _View) -> None:
        irfft_into(view.spectra, view.frames)
        np.multiply(view.frames, self._synthesis, view.parts)

    def _make_consistent(self) -> None:
        np.multiply(self._refined_frames, self._reframe, self._frames)
        rfft_into(self._frames, self._spectra)
        np.abs(self._spectra, self._scale)
        np.maximum(self._scale, SMALLEST, out=self._scale)
        np.divide(self._magnitude, self._scale, self._scale)
        np.multiply(self._spectra, self._scale, self._spectra)


class _View(NamedTuple):
    """Parts of an inverter's memory; slicing at every push would take longer than its sums."""

    newest: Spectra
    magnitude: Array
    spectra: Spectra
    """Of the refined frames, and so on."""
    frames: Array
    parts: Array
    context: memoryview
    """The frames that are the context of the next push, as bytes."""
    overlapping: Array
    sum: Array
    done: Array
    weight: Array
