"""Stage 2: frames to spectra and back.

Windows, transforms and powers, in single precision; both directions lie together, so that the round trip is tested where its
constants are.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rtden.types import Array, Spectra


def hann(n_fft: int) -> Array:
    """Return the periodic Hann window, shape (n_fft,)."""
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)


def window_pair(n_fft: int, hop: int, overlap: int) -> tuple[Array, Array]:
    """Return an analysis and a synthesis window, shape (n_fft,) each, whose frames are complete `overlap` samples before their end.

    With the longest overlap, n_fft - hop, both are Hann windows. With a shorter one they are asymmetric, as Mauler and
    Gerkmann (2007, "A low delay, variable resolution, perfect reconstruction spectral analysis-synthesis system for speech
    enhancement") have them: the analysis window rises slowly, so that it resolves frequencies almost as well, and falls fast, so that it
    hears what is new; the synthesis window covers the last hop + overlap samples alone. Slopes of the analysis window are
    quarter periods of a sine; its energy is that of Hann's window, so that noise has the same power under both.

    The product of the two, summed over the frames, is not one: overlap-add divides by that sum, and is then exact.

    Parameters
    ----------
    n_fft, hop : int
        Frame length and distance in samples.
    overlap : int
        Samples by which the synthesis windows of neighbouring frames overlap, 1 to n_fft - hop. With a few only, the sum comes
        close to nothing where one frame takes over from another, and single precision no longer gives -100 dB.
    """
    symmetric = hann(n_fft)
    if overlap == n_fft - hop:
        return symmetric, symmetric
    fall = min(hop + overlap, n_fft) // 2  # on the development pairs better than less or more
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


if np.lib.NumpyVersion(np.__version__) >= "2.0.0":

    def rfft_into(frames: Array, out: Spectra) -> None:
        """Write the spectra of frames, shapes (..., n_fft) to (..., n_fft // 2 + 1)."""
        np.fft.rfft(frames, axis=-1, out=cast(Any, out))

    def irfft_into(spectra: Spectra, out: Array) -> None:
        """Write the frames of spectra, shapes (..., n_fft // 2 + 1) to (..., n_fft)."""
        np.fft.irfft(spectra, axis=-1, out=cast(Any, out))

else:  # in double precision, and nowhere to write to

    def rfft_into(frames: Array, out: Spectra) -> None:
        """Write the spectra of frames, shapes (..., n_fft) to (..., n_fft // 2 + 1)."""
        out[...] = np.fft.rfft(frames, axis=-1)

    def irfft_into(spectra: Spectra, out: Array) -> None:
        """Write the frames of spectra, shapes (..., n_fft // 2 + 1) to (..., n_fft)."""
        out[...] = np.fft.irfft(spectra, axis=-1)


def stft(frames: Array, window: Array) -> Spectra:
    """Return the spectra of frames, shapes (..., n_fft) to (..., n_fft // 2 + 1)."""
    return np.fft.rfft(frames * window, axis=-1).astype(np.complex64, copy=False)


def power(spectra: Spectra) -> Array:
    """Return the squared magnitude of spectra, same shape."""
    squares = np.square(spectra.view(np.float32))  # real and imaginary parts lie in turn
    both: Array = squares[..., ::2] + squares[..., 1::2]
    return both
