"""Stage 2: samples to frames, and frames to spectra and back.

Windows, transforms and powers, in single precision. Both directions lie together, so that the round
trip is tested where its constants are.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from rtden.offset import OffsetBlocker
from rtden.types import Array, Spectra


def hann(n_fft: int) -> Array:
    """Return the periodic Hann window, shape (n_fft,)."""
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)


@functools.lru_cache(maxsize=32)
def window_pair(n_fft: int, hop: int, overlap: int) -> tuple[Array, Array]:
    """Return an analysis and a synthesis window, shape (n_fft,) each.

    The samples of a frame are complete `overlap` samples before its end. With the longest overlap,
    n_fft - hop, both are Hann windows. With a shorter one they are asymmetric, as in Mauler and
    Gerkmann (2007, "A low delay, variable resolution, perfect reconstruction spectral
    analysis-synthesis system for speech enhancement"): the analysis window rises slowly, so that it
    resolves frequencies almost as well, and falls fast, so that it weights the newest samples more;
    the synthesis window covers only the last hop + overlap samples. Slopes of the analysis window
    are quarter periods of a sine. Its energy is that of Hann's window, so that noise has the same
    power under both.

    The product of the two, summed over the frames, is not one: overlap-add divides by that sum, and
    is then exact.

    Parameters
    ----------
    n_fft, hop : int
        Frame length and distance in samples.
    overlap : int
        Samples by which the synthesis windows of neighbouring frames overlap, 1 to n_fft - hop.
        With very few the sum is close to zero where one frame takes over from another, and single
        precision no longer gives -100 dB.
    """
    symmetric = hann(n_fft)
    if overlap == n_fft - hop:
        return symmetric, symmetric
    fall = min(hop + overlap, n_fft) // 2  # better on the development pairs than less or more
    analysis = np.concatenate([_rise(n_fft - fall), _rise(fall + 1)[:0:-1]]) ** 0.5
    analysis *= np.sqrt(np.sum(np.square(symmetric, dtype=np.float64)) / np.sum(analysis**2))
    rise = min(overlap, fall)
    synthesis = np.zeros(n_fft)
    synthesis[n_fft - hop - overlap :] = 1.0
    synthesis[n_fft - hop - overlap :][:rise] = _rise(rise)
    synthesis[n_fft - fall :] *= _rise(fall + 1)[:0:-1] ** 0.5
    return analysis.astype(np.float32), synthesis.astype(np.float32)


def _rise(samples: int) -> NDArray[np.float64]:
    """Return the rising half of a Hann window."""
    return 0.5 - 0.5 * np.cos(np.pi * np.arange(samples) / samples)


def rfft_into(frames: Array, out: Spectra) -> None:
    """Write the spectra of frames, shapes (..., n_fft) to (..., n_fft // 2 + 1); n_fft is even."""
    _kernels.rfft_n_even(frames, 1, out)  # in double precision: 1 is an integer


def irfft_into(spectra: Spectra, out: Array) -> None:
    """Write the frames of spectra, shapes (..., n_fft // 2 + 1) to (..., n_fft)."""
    _kernels.irfft(spectra, _reciprocal(out.shape[-1]), out)


@functools.cache
def _reciprocal(n_fft: int) -> Array:
    return np.reciprocal(np.array(n_fft, np.float32))


class _Transforms:
    """What numpy 1 has of `_kernels`: it transforms in double precision and has no `out`."""

    @staticmethod
    def rfft_n_even(frames: Array, _: int, out: Spectra) -> None:
        out[...] = np.fft.rfft(frames, axis=-1)

    @staticmethod
    def irfft(spectra: Spectra, _: Array, out: Array) -> None:
        out[...] = np.fft.irfft(spectra, axis=-1)


try:  # what np.fft calls: its checks and conversions take half as long as a transform
    from numpy.fft import _pocketfft_umath as _kernels  # type: ignore[attr-defined]
except ImportError:
    _kernels = _Transforms


def stft(frames: Array, window: Array) -> Spectra:
    """Return the spectra of frames, shapes (..., n_fft) to (..., n_fft // 2 + 1)."""
    return np.fft.rfft(frames * window, axis=-1).astype(np.complex64, copy=False)


def power(spectra: Spectra) -> Array:
    """Return the squared magnitude of spectra, same shape."""
    squares = np.square(spectra.view(np.float32))  # real and imaginary parts alternate
    both: Array = squares[..., ::2] + squares[..., 1::2]
    return both


class Frames:
    """The newest frames of a stream and their spectra; it holds the input until it is mixed in.

    Feed samples until none are missing, then call :meth:`transform`, which moves on by a block of
    `frames` frames.

    Parameters
    ----------
    window : array, shape (n_fft,)
        Analysis window.
    hop : int
        Distance of frames in samples.
    frames : int
        New frames per block.
    delay_samples : int
        Samples from the input of :meth:`delayed_input` to the newest block.
    prefilter : OffsetBlocker, optional
        Takes every `hop` new samples and returns what is transformed in their place. The held input
        stays as it was.

    Attributes
    ----------
    missing_samples : int
        Samples to feed before the next block can be transformed.
    delayed_samples : int
        Samples of the delayed input that the blocks so far have passed, silence included.
    zero_samples : int
        Length of the digital silence at the end of the input, in whole blocks.
    spectra : array, shape (frames, n_fft // 2 + 1)
        Of the newest frames, oldest first.
    """

    def __init__(
        self,
        window: Array,
        *,
        hop: int,
        frames: int,
        delay_samples: int = 0,
        prefilter: OffsetBlocker | None = None,
    ) -> None:
        n_fft, self.block_samples = len(window), frames * hop
        self._hop, self._delay_samples, self._window = hop, delay_samples, window
        self.prefilter = prefilter
        # The delayed input, up to the newest block, and behind it what has been fed since.
        self._input = np.zeros(delay_samples + 2 * self.block_samples, np.float32)
        self._held = np.zeros(n_fft - hop + self.block_samples, np.float32)
        self._frames = np.lib.stride_tricks.sliding_window_view(self._held, n_fft)[::hop]
        self._windowed = np.empty((frames, n_fft), np.float32)
        self.spectra = np.empty((frames, n_fft // 2 + 1), np.complex64)
        self.reset()

    def reset(self) -> None:
        """Forget the stream: silence precedes what follows."""
        if self.prefilter is not None:
            self.prefilter.reset()
        for held in (self._input, self._held, self.spectra):
            held[...] = 0.0
        self.missing_samples = self.block_samples
        self.delayed_samples = self.zero_samples = 0

    def feed(self, samples: Array) -> None:
        """Take in at most `missing_samples` samples."""
        at = len(self._input) - self.missing_samples
        self._input[at : at + len(samples)] = samples
        self.missing_samples -= len(samples)

    def transform(self) -> Spectra:
        """Return the spectra of the next block's frames, shape (frames, n_fft // 2 + 1)."""
        block, held, hop = self.block_samples, self._held, self._hop
        self._input[:-block] = self._input[block:]
        self.missing_samples, self.delayed_samples = block, self.delayed_samples + block
        new = self.newest_input(0, block)
        zero = not new[0] and not new.any()
        self.zero_samples = self.zero_samples + block if zero else 0
        held[:-block] = held[block:]
        if self.prefilter is None:
            held[-block:] = new
        else:
            start = len(held) - block
            for at in range(0, block, hop):
                held[start + at : start + at + hop] = self.prefilter(new[at : at + hop])
        if self.zero_samples > len(held):
            self.spectra[...] = 0.0
        else:
            np.multiply(self._frames, self._window, self._windowed)
            rfft_into(self._windowed, self.spectra)
        return self.spectra

    def newest_input(self, start: int, stop: int) -> Array:
        """Return these samples of the newest block's input."""
        return self._input[self._delay_samples + start : self._delay_samples + stop]

    def delayed_input(self, start: int, stop: int) -> Array:
        """Return these samples of the block's input `delay_samples` before the newest."""
        return self._input[start:stop]
