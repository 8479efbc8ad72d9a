"""The loss: the distance of denoised signals from the clean ones, and how the difference sounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from scipy.fft import next_fast_len

from rtden.model import ModelSpec
from rtden.spectral import hann
from rtden.training.dnsmos_loss import SPEECH_LEVEL, DnsmosLoss
from rtden.training.pesq_loss import FRAME_SECONDS as PESQ_SECONDS
from rtden.training.pesq_loss import PesqLoss
from rtden.training.signal_path import SignalPath, Spectra, spectra
from rtden.training.stoi_loss import FRAME_SECONDS as STOI_SECONDS
from rtden.training.stoi_loss import StoiLoss

COMPRESSION = 0.3
"""Exponent that brings amplitudes nearer to loudness before they are compared."""
EPSILON = 1e-6
"""Lowest power of a bin relative to the speech; it keeps gradients finite."""
DNSMOS_MIXTURES = 4
"""Mixtures of a batch that DNSMOS scores: its network costs more than ours."""


class Loss:
    """The distance of denoised signals from the clean ones, and weighted measures of sound.

    The distance is that of compressed magnitudes and, if wanted, of compressed complex spectra
    (Braun and Tashev, 2021). Bins count half equally and half by their width in mels, because half
    of the bins lie above 5.5 kHz, where there is little speech. Bins above the recording's band do
    not count.

    Parameters
    ----------
    spec : ModelSpec
    iterations : int
        Griffin-Lim iterations in the path.
    complex_share : float
        Share of complex spectra in the distance.
    distortion : float
        Weight of the logarithm of each mixture's distortion relative to its speech (SDR).
    resolutions : tuple of int
        Further frame lengths in samples at which magnitudes are compared (Yamamoto et al., 2020).
    pesq : float
        Weight of the PESQ-style loss, in points of raw score (:mod:`rtden.training.pesq_loss`).
    stoi : float
        Weight of one minus extended STOI (:mod:`rtden.training.stoi_loss`).
    dnsmos : float
        Weight of five minus DNSMOS OVRL, of a few mixtures (:mod:`rtden.training.dnsmos_loss`).

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
        pesq: float = 0.0,
        stoi: float = 0.0,
        dnsmos: float = 0.0,
    ) -> None:
        self.path = SignalPath(spec, iterations=iterations)
        self._n_fft, self._overlap = spec.n_fft, spec.n_fft // spec.hop
        self._complex_share, self._resolutions = complex_share, resolutions
        weights = {"distortion": distortion, "pesq": pesq, "stoi": stoi, "dnsmos": dnsmos}
        used = {name: weight for name, weight in weights.items() if weight}
        self.weights = {"spectral_distance": 1.0, **used}
        """Weights of the parts that :meth:`parts` returns."""
        self._pesq_n_fft, self._stoi_n_fft = (
            2 * next_fast_len(round(seconds * spec.rate_hz / 2), real=True)
            for seconds in (PESQ_SECONDS, STOI_SECONDS)
        )
        self._pesq = PesqLoss(spec.rate_hz, self._pesq_n_fft)
        self._stoi = StoiLoss(spec.rate_hz, self._stoi_n_fft)
        self._dnsmos = DnsmosLoss(spec.rate_hz) if dnsmos else None
        bins_hz = np.arange(spec.n_fft // 2 + 1) * (spec.rate_hz / spec.n_fft)
        density = 1.0 / (bins_hz + 700.0)  # of mels per Hz
        self._bin_weight = (0.5 + 0.5 * density / density.mean()).astype(np.float32)

    def __call__(self, target: dict[str, Any], mask: Any, *, costly: bool = True) -> Any:
        """Return the mean loss over a batch (a scalar).

        `target` is :meth:`rtden.training.batches.Batch.target`; without `costly`, DNSMOS is left
        out.
        """
        denoised = self.path(target["noisy"], mask, target["analysis"], target["synthesis"])
        parts = self.parts(denoised, target["clean"], target["valid_bins"], costly=costly)
        return sum(self.weights[name] * part for name, part in parts.items())

    def parts(
        self, denoised: Any, clean: Any, valid_bins: Any, *, costly: bool = True
    ) -> dict[str, Any]:
        """Return the parts of the loss before they are weighted: means over mixtures (scalars).

        Signals, shape (mixtures, samples), whose active speech has an RMS of one; valid bins,
        (mixtures, bins).
        """
        weight = (valid_bins * self._bin_weight)[:, None, :]
        ours, theirs = (self._spectra(signal, self._n_fft) for signal in (denoised, clean))
        distance = self._distance(
            ours, theirs, weight, self._n_fft, complex_share=self._complex_share
        )
        for n_fft in self._resolutions:
            first, second = (self._spectra(signal, n_fft) for signal in (denoised, clean))
            distance += self._distance(first, second, _at_bins(weight, n_fft), n_fft)
        found = {"spectral_distance": distance / (1 + len(self._resolutions))}
        if "distortion" in self.weights:
            found["distortion"] = self._log_distortion(ours, theirs, valid_bins[:, None, :])
        if "pesq" in self.weights:
            powers = _powers(denoised, clean, self._pesq_n_fft)
            found["pesq"] = ops.mean(self._pesq(*powers, _at_bins(valid_bins, self._pesq_n_fft)))
        if "stoi" in self.weights:
            powers = _powers(denoised, clean, self._stoi_n_fft)
            score, known = self._stoi(*powers, _at_bins(valid_bins, self._stoi_n_fft))
            found["stoi"] = ops.mean(known * (1.0 - score))
        if self._dnsmos is not None and costly:
            # Listeners judge a mixture without speech by other measures.
            few = slice(0, DNSMOS_MIXTURES)
            known = ops.cast(ops.max(ops.abs(clean[few]), axis=1) > 1.0, "float32")
            score = self._dnsmos(SPEECH_LEVEL * denoised[few])[:, 2]
            found["dnsmos"] = ops.mean(known * (5.0 - score))
        return found

    def _spectra(self, signal: Any, n_fft: int) -> Spectra:
        return spectra(signal, hann(n_fft), n_fft // self._overlap)

    def _log_distortion(self, ours: Spectra, theirs: Spectra, valid_bins: Any) -> Any:
        difference = sum(
            ops.sum(valid_bins * ops.square(a - b), axis=(1, 2))
            for a, b in zip(ours, theirs, strict=True)
        )
        speech = sum(ops.sum(valid_bins * ops.square(part), axis=(1, 2)) for part in theirs)
        # Without speech, the reference is speech at -20 dB. Below -30 dB nothing is gained.
        reference = ops.maximum(
            speech,
            0.01 * 0.375 * self._n_fft * ops.sum(valid_bins, axis=(1, 2)) * theirs[0].shape[1],
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


def _powers(ours: Any, theirs: Any, n_fft: int) -> tuple[Any, Any]:
    """Return the power spectra of two signals, of Hann windows half overlapped."""
    first, second = (spectra(signal, hann(n_fft), n_fft // 2) for signal in (ours, theirs))
    return ops.square(first[0]) + ops.square(first[1]), ops.square(second[0]) + ops.square(
        second[1]
    )


def _at_bins(values: Any, n_fft: int) -> Any:
    """Return values of the bins of one frame length, on the last axis, for another's."""
    return ops.take(
        values, np.linspace(0, values.shape[-1] - 1, n_fft // 2 + 1).round().astype(int), axis=-1
    )
