"""The path after the network, in Keras operations through which a gradient runs, and the loss at its end.

Shares of mels become gains of bins, gains meet the noisy spectra, Griffin-Lim makes them consistent, frames are
overlap-added; what comes out is compared with the clean signal. It gives what :class:`rtden.Denoiser` gives (with
Griffin-Lim over the whole signal rather than over the newest frames), which a test shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from rtden.mel import BandSpread
from rtden.model import ModelSpec
from rtden.spectral import hann, window_pair
from rtden.training.intelligibility import FRAME_SECONDS as INTELLIGIBILITY_SECONDS
from rtden.training.intelligibility import Intelligibility
from rtden.training.loudness import FRAME_SECONDS as LOUDNESS_SECONDS
from rtden.training.loudness import LoudnessDisturbance
from rtden.training.opinion import SPEECH_LEVEL, Opinion
from rtden.types import Array

COMPRESSION = 0.3
"""Exponent that brings amplitudes nearer to loudness before they are compared."""
EPSILON = 1e-6
"""Power, relative to the speech's, below which a difference is not heard; it keeps gradients finite."""
OPINIONS = 4
"""Mixtures of a batch that DNSMOS is asked about: its network costs more than ours."""

Spectra = tuple[Any, Any]
"""Real and imaginary parts, shape (mixtures, columns, bins) each."""


class Inversion:
    """Spectra and shares to a signal, and a signal to spectra.

    Parameters
    ----------
    spec : ModelSpec
    iterations : int
        Griffin-Lim iterations over the whole signal, from the noisy phase.
    """

    def __init__(self, spec: ModelSpec, *, iterations: int) -> None:
        self._hop, self._parts, self._iterations = (
            spec.frame_hop,
            spec.n_fft // spec.frame_hop,
            iterations,
        )
        self._analysis, self._synthesis = window_pair(
            spec.n_fft, spec.frame_hop, spec.n_fft - spec.hop
        )
        self._product = (self._analysis * self._synthesis).reshape(self._parts, self._hop)
        spread = np.empty((spec.n_mels, spec.n_fft // 2 + 1), np.float32)
        BandSpread(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)(
            np.eye(spec.n_mels, dtype=np.float32), spread
        )
        self._spread = spread

    def spectra(self, signal: Any) -> Spectra:
        """Return the spectra of the frames that lie inside a signal, shape (mixtures, samples)."""
        return _spectra(signal, self._analysis, self._hop)

    def overlap_add(self, spectra: Spectra) -> Any:
        """Return the weighted sum of frames, shape (mixtures, (frames + parts - 1) * hop), exact for spectra of a signal."""
        hop, parts = self._hop, self._parts
        frames = ops.irfft(spectra, fft_length=parts * hop) * self._synthesis
        mixtures, count = ops.shape(frames)[0], frames.shape[1]
        split = ops.reshape(frames, (mixtures, count, parts, hop))
        total = sum(
            ops.pad(split[:, :, part], ((0, 0), (part, parts - 1 - part), (0, 0)))
            for part in range(parts)
        )
        weight = np.zeros((count + parts - 1, hop), np.float32)
        for part in range(parts):
            weight[part : part + count] += self._product[part]
        # Before the first frame lies silence, whose frames count, as in use: dividing by a window's first samples would blow up.
        weight[: parts - 1] = self._product.sum(axis=0)
        return ops.reshape(total / np.maximum(weight, 1e-6), (mixtures, (count + parts - 1) * hop))

    def __call__(self, noisy: Any, share: Any) -> Any:
        """Return denoised signals; shapes (mixtures, samples) and (mixtures, n_mels, columns, frames_per_column) to (mixtures, samples)."""
        share = ops.reshape(share, (ops.shape(share)[0], share.shape[1], -1))
        gains = ops.matmul(ops.transpose(share, (0, 2, 1)), self._spread)
        # The frames that reach beyond the end are there in use, filled with what follows; here with silence.
        rest = (self._parts - 1) * self._hop
        real, imaginary = self.spectra(ops.pad(noisy, ((0, 0), (0, rest))))
        real, imaginary = real * gains, imaginary * gains
        magnitude = (
            ops.sqrt(ops.square(real) + ops.square(imaginary) + EPSILON**2)
            if self._iterations
            else None
        )
        for _ in range(self._iterations):
            real, imaginary = self.spectra(self.overlap_add((real, imaginary)))
            scale = magnitude / ops.sqrt(ops.square(real) + ops.square(imaginary) + EPSILON**2)
            real, imaginary = real * scale, imaginary * scale
        return self.overlap_add((real, imaginary))[:, : noisy.shape[1]]


class Loss:
    """How far denoised signals are from the clean ones, and how that sounds.

    It is a distance of compressed magnitudes and, if wanted, of compressed complex spectra (Braun and Tashev, 2021), to which
    weighted measures of other kinds may come. Bins count as the ear spaces them, half and half with equal counting: half of
    the bins lie above 5.5 kHz, where little of speech is. Differences beyond what the recording holds do not count.

    Parameters
    ----------
    spec : ModelSpec
    iterations : int
        Griffin-Lim iterations in the path that is trained through.
    complex_share : float
        Share of the distance that is of complex spectra.
    distortion : float
        Weight of the logarithm of each mixture's distortion relative to its speech, which is what SI-SDR measures.
    resolutions : tuple of int
        Further frame lengths in samples at which magnitudes are compared, multi-resolution (Yamamoto et al., 2020).
    loudness : float
        Weight of the audible disturbance, in points of raw PESQ score (:mod:`rtden.training.loudness`).
    intelligibility : float
        Weight of what extended STOI lacks to one (:mod:`rtden.training.intelligibility`).
    opinion : float
        Weight of what DNSMOS OVRL lacks to five, in points, of a few mixtures (:mod:`rtden.training.opinion`).

    Raises
    ------
    MissingPackageError
        If DNSMOS is wanted and not installed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        iterations: int,
        complex_share: float = 0.0,
        distortion: float = 0.0,
        resolutions: tuple[int, ...] = (),
        loudness: float = 0.0,
        intelligibility: float = 0.0,
        opinion: float = 0.0,
    ) -> None:
        self.invert = Inversion(spec, iterations=iterations)
        self._n_fft, self._overlap = spec.n_fft, spec.n_fft // spec.hop
        self._complex_share, self._resolutions = complex_share, resolutions
        weights = {
            "distortion": distortion,
            "disturbance": loudness,
            "unintelligible": intelligibility,
            "disapproval": opinion,
        }
        self.weights = {
            "spectral_distance": 1.0,
            **{name: weight for name, weight in weights.items() if weight},
        }
        """Of the parts that :meth:`parts` gives."""
        self._loudness_n_fft, self._intelligibility_n_fft = (
            2 * round(seconds * spec.rate_hz / 2)
            for seconds in (LOUDNESS_SECONDS, INTELLIGIBILITY_SECONDS)
        )
        self._disturbance = LoudnessDisturbance(spec.rate_hz, self._loudness_n_fft)
        self._intelligibility = Intelligibility(spec.rate_hz, self._intelligibility_n_fft)
        self._opinion = Opinion(spec.rate_hz) if opinion else None
        bins_hz = np.arange(spec.n_fft // 2 + 1) * (spec.rate_hz / spec.n_fft)
        density = 1.0 / (bins_hz + 700.0)  # of mels per Hz
        self._bin_weight = (0.5 + 0.5 * density / density.mean()).astype(np.float32)

    def __call__(self, noisy: Any, clean: Any, heard: Any, share: Any) -> Any:
        """Return the mean loss over a batch (a scalar); arguments as :class:`rtden.training.batches.Batch` says."""
        parts = self.parts(self.invert(noisy, share), clean, heard)
        return sum(weight * parts[name] for name, weight in self.weights.items())

    def parts(self, denoised: Any, clean: Any, heard: Any) -> dict[str, Any]:
        """Return what the loss is made of, means over mixtures (scalars) before they are weighted.

        Signals, shape (mixtures, samples), whose active speech has an RMS of one, and which bins count, (mixtures, bins).
        """
        weight = (heard * self._bin_weight)[:, None, :]
        ours, theirs = (self._spectra(signal, self._n_fft) for signal in (denoised, clean))
        distance = self._distance(
            ours, theirs, weight, self._n_fft, complex_share=self._complex_share
        )
        for n_fft in self._resolutions:
            first, second = (self._spectra(signal, n_fft) for signal in (denoised, clean))
            distance += self._distance(first, second, _at_bins(weight, n_fft), n_fft)
        found = {"spectral_distance": distance / (1 + len(self._resolutions))}
        if "distortion" in self.weights:
            found["distortion"] = self._log_distortion(ours, theirs, heard[:, None, :])
        if "disturbance" in self.weights:
            powers = _powers(denoised, clean, self._loudness_n_fft)
            found["disturbance"] = ops.mean(
                self._disturbance(*powers, _at_bins(heard, self._loudness_n_fft))
            )
        if "unintelligible" in self.weights:
            powers = _powers(denoised, clean, self._intelligibility_n_fft)
            understood, known = self._intelligibility(
                *powers, _at_bins(heard, self._intelligibility_n_fft)
            )
            found["unintelligible"] = ops.mean(known * (1.0 - understood))
        if self._opinion is not None:
            # Of a mixture without speech listeners would say something else.
            known = ops.cast(ops.max(ops.abs(clean[:OPINIONS]), axis=1) > 1.0, "float32")
            found["disapproval"] = ops.mean(
                known * (5.0 - self._opinion(SPEECH_LEVEL * denoised[:OPINIONS])[:, 2])
            )
        return found

    def _spectra(self, signal: Any, n_fft: int) -> Spectra:
        return _spectra(signal, hann(n_fft), n_fft // self._overlap)

    def _log_distortion(self, ours: Spectra, theirs: Spectra, heard: Any) -> Any:
        difference = sum(
            ops.sum(heard * ops.square(a - b), axis=(1, 2))
            for a, b in zip(ours, theirs, strict=True)
        )
        speech = sum(ops.sum(heard * ops.square(part), axis=(1, 2)) for part in theirs)
        # Where there is no speech, distortion is told against speech at -20 dB; below -30 dB there is nothing to gain.
        reference = ops.maximum(
            speech, 0.01 * 0.375 * self._n_fft * ops.sum(heard, axis=(1, 2)) * theirs[0].shape[1]
        )
        return ops.mean(ops.log(difference / reference + 1e-3)) / np.log(10.0)

    def _distance(
        self,
        first: Spectra,
        second: Spectra,
        weight: Any,
        n_fft: int,
        *,
        complex_share: float = 0.0,
    ) -> Any:
        scale = 1.0 / np.sqrt(
            0.375 * n_fft
        )  # the RMS of a Hann window: a signal at level one has bins of about one
        compressed = []
        for real, imaginary in (first, second):
            power = (ops.square(real) + ops.square(imaginary)) * scale**2 + EPSILON
            magnitude = ops.power(power, COMPRESSION / 2.0)
            bend = scale * ops.power(power, (COMPRESSION - 1.0) / 2.0)
            compressed.append((magnitude, real * bend, imaginary * bend))
        (magnitude, real, imaginary), (clean_magnitude, clean_real, clean_imaginary) = compressed
        distance = (1.0 - complex_share) * ops.square(magnitude - clean_magnitude)
        if complex_share:
            distance += complex_share * (
                ops.square(real - clean_real) + ops.square(imaginary - clean_imaginary)
            )
        return ops.mean(weight * distance)


def _spectra(signal: Any, window: Array, hop: int) -> Spectra:
    """Return the spectra of the frames that lie inside a signal, shape (mixtures, samples)."""
    blocks = ops.reshape(signal[:, : signal.shape[1] // hop * hop], (ops.shape(signal)[0], -1, hop))
    parts = len(window) // hop
    count = blocks.shape[1] - parts + 1
    frames = ops.concatenate([blocks[:, part : part + count] for part in range(parts)], axis=-1)
    # Real, imaginary: complex tensors have no gradient on some backends.
    real, imaginary = ops.rfft(frames * window)
    return real, imaginary


def _powers(ours: Any, theirs: Any, n_fft: int) -> tuple[Any, Any]:
    """Return the power spectra of two signals, of Hann windows half overlapped."""
    first, second = (_spectra(signal, hann(n_fft), n_fft // 2) for signal in (ours, theirs))
    return ops.square(first[0]) + ops.square(first[1]), ops.square(second[0]) + ops.square(
        second[1]
    )


def _at_bins(values: Any, n_fft: int) -> Any:
    """Take what is given for the bins of one frame length, on the last axis, for those of another."""
    return ops.take(
        values, np.linspace(0, values.shape[-1] - 1, n_fft // 2 + 1).round().astype(int), axis=-1
    )
