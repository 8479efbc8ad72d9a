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
    is then exact. With an `overlap` of very few samples the sum is close to zero where one frame
    takes over from another, and single precision no longer gives -100 dB.
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

    Feed samples until none are missing, then call :meth:`transform`, which moves on by the block of
    all steps that are complete: at most `most_steps`, of `frames` new frames each. The constant
    offset of a microphone is not transformed, and stays in the held input.

    Attributes
    ----------
    block_samples, missing_samples : int
        Length of the newest block; samples to feed before the next step is complete.
    delayed_samples : int
        Samples of the delayed input that the blocks so far have passed, silence included.
    zero_samples : int
        Length of the digital silence at the end of the input, in whole blocks.
    spectra : array, shape (frames, n_fft // 2 + 1)
        Of the newest block's frames, oldest first.
    """

    def __init__(
        self,
        window: Array,
        *,
        hop: int,
        frames: int,
        most_steps: int = 1,
        delay_samples: int = 0,
    ) -> None:
        n_fft, most = len(window), most_steps * frames
        self._hop, self._delay_samples, self._window = hop, delay_samples, window[None]
        self._step_samples, self._older_samples = frames * hop, n_fft - hop
        self._without_offset = OffsetBlocker()
        # The delayed input, followed by the samples fed since the last block.
        self._input = np.zeros(delay_samples + most * hop, np.float32)
        # The newest block behind the older samples of its frames.
        self._held = np.zeros(self._older_samples + most * hop, np.float32)
        self._frames = np.lib.stride_tricks.sliding_window_view(self._held, n_fft)[::hop]
        windowed = np.empty((most, n_fft), np.float32)
        self._spectra = np.empty((most, n_fft // 2 + 1), np.complex64)
        # Views by the number of frames in a block: slicing takes longer than one would think.
        self._views = [
            (self._frames[:count], windowed[:count], self._spectra[:count])
            for count in range(most + 1)
        ]
        self.reset()

    def reset(self) -> None:
        """Forget the stream: silence precedes what follows."""
        self._without_offset.reset()
        for held in (self._input, self._held, self._spectra):
            held[...] = 0.0
        self.spectra = self._spectra[:0]
        self._fed_samples = self.block_samples = 0
        self.missing_samples = self._step_samples
        self.delayed_samples = self.zero_samples = 0

    def feed(self, samples: Array) -> None:
        """Take in samples, at most those that complete `most_steps` steps."""
        if self.block_samples:  # nobody needs the last block any more
            self._slide(self.block_samples)
        at = self._delay_samples + self._fed_samples
        self._input[at : at + len(samples)] = samples
        self._fed_samples += len(samples)
        self.missing_samples -= len(samples)

    def _slide(self, block: int) -> None:
        self._fed_samples -= block
        held = self._delay_samples + self._fed_samples
        self._input[:held] = self._input[block : block + held]
        self._held[: self._older_samples] = self._held[block : block + self._older_samples]
        self.block_samples = 0

    def transform(self) -> Spectra:
        """Return the spectra of the frames that the steps fed complete, as `spectra`."""
        hop, older = self._hop, self._older_samples
        self.block_samples = block = self._fed_samples // self._step_samples * self._step_samples
        self.missing_samples += block
        self.delayed_samples += block
        new = self.newest_input(0, block)
        zero = not new[0] and not new.any()
        self.zero_samples = self.zero_samples + block if zero else 0
        for at in range(0, block, hop):
            self._held[older + at : older + at + hop] = self._without_offset(new[at : at + hop])
        frames, windowed, self.spectra = self._views[block // hop]
        if self.zero_samples > older + block:
            self.spectra[...] = 0.0
        else:
            np.multiply(frames, self._window, windowed)
            rfft_into(windowed, self.spectra)
        return self.spectra

    def newest_input(self, start: int, stop: int) -> Array:
        """Return these samples of the newest block's input."""
        return self._input[self._delay_samples + start : self._delay_samples + stop]

    def delayed_input(self, start: int, stop: int) -> Array:
        """Return these samples of the block's input `delay_samples` before the newest."""
        return self._input[start:stop]
