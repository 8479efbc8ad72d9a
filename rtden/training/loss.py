"""The loss: the distance of denoised signals from the clean ones, and how the difference sounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from scipy.fft import next_fast_len

from rtden.model import ModelSpec
from rtden.spectral import hann
from rtden.training.dnsmos_loss import SPEECH_LEVEL, DnsmosLoss, P808Loss
from rtden.training.pesq_loss import FRAME_SECONDS as PESQ_SECONDS
from rtden.training.pesq_loss import PesqLoss
from rtden.training.signal_path import SignalPath, Spectra, spectra
from rtden.training.stoi_loss import FRAME_SECONDS as STOI_SECONDS
from rtden.training.stoi_loss import StoiLoss

COMPRESSION = 0.3  # exponent that brings amplitudes nearer to loudness before they are compared
EPSILON = 1e-6  # lowest power of a bin relative to the speech; it keeps gradients finite


class Loss:
    """The distance of denoised signals from the clean ones, and weighted measures of sound.

    The distance is that of compressed magnitudes. Bins count half equally and half by their width
    in mels, because half of the bins lie above 5.5 kHz, where there is little speech. Bins above
    the recording's band do not count. The other parameters are weights: `distortion` of the
    logarithm of each mixture's distortion relative to its speech (SDR), `pesq` of points of raw
    score, `stoi` of one minus extended STOI, `dnsmos` and `p808` of five minus the scores OVRL and
    P.808 of the first `dnsmos_mixtures`: their networks cost more than ours.
    """

    def __init__(self, spec: ModelSpec, dnsmos_mixtures: int = 4, /, **weights: float) -> None:
        self.path = SignalPath(spec)
        self._n_fft, self._hop = spec.n_fft, spec.hop
        used = {name: weight for name, weight in weights.items() if weight}
        self.weights = {"spectral_distance": 1.0, **used}  # of the parts that `parts` returns
        self._pesq = PesqLoss(spec.rate_hz, _fast_n_fft(PESQ_SECONDS * spec.rate_hz))
        self._stoi = StoiLoss(spec.rate_hz, _fast_n_fft(STOI_SECONDS * spec.rate_hz))
        self._few = slice(0, dnsmos_mixtures)
        self._judges: dict[str, Callable[[Any], Any]] = {}
        if "dnsmos" in used:
            dnsmos = DnsmosLoss(spec.rate_hz)
            self._judges["dnsmos"] = lambda signal: dnsmos(SPEECH_LEVEL * signal)[:, 2]
        if "p808" in used:
            self._judges["p808"] = P808Loss(spec.rate_hz)
        bins_hz = np.arange(spec.n_fft // 2 + 1) * (spec.rate_hz / spec.n_fft)
        density = 1.0 / (bins_hz + 700.0)  # of mels per Hz
        weight = (0.5 + 0.5 * density / density.mean()).astype(np.float32)
        self._bin_weight = ops.convert_to_tensor(weight)

    def __call__(self, target: dict[str, Any], mask: Any, *, costly: bool = True) -> Any:
        """Return the mean loss of a batch's `target()`, without both DNSMOS unless `costly`."""
        target = {name: ops.convert_to_tensor(part) for name, part in target.items()}
        denoised = self.path(target["noisy"], mask, target["analysis"], target["synthesis"])
        parts = self.parts(denoised, target["clean"], target["valid_bins"], costly=costly)
        return sum(self.weights[name] * part for name, part in parts.items())

    def parts(
        self, denoised: Any, clean: Any, valid_bins: Any, *, costly: bool = True
    ) -> dict[str, Any]:
        """Return the parts of the loss before they are weighted: means over mixtures (scalars).

        Signals have shape (mixtures, samples) and active speech of RMS one.
        """
        denoised, clean, valid_bins = map(ops.convert_to_tensor, (denoised, clean, valid_bins))
        window = hann(self._n_fft)
        ours, theirs = (spectra(signal, window, self._hop) for signal in (denoised, clean))
        weight = (valid_bins * self._bin_weight)[:, None, :]
        found = {"spectral_distance": self._distance(ours, theirs, weight)}
        if "distortion" in self.weights:
            found["distortion"] = self._log_distortion(ours, theirs, valid_bins[:, None, :])
        if "pesq" in self.weights:
            found["pesq"] = ops.mean(_measure(self._pesq, denoised, clean, valid_bins))
        if "stoi" in self.weights:
            score, known = _measure(self._stoi, denoised, clean, valid_bins)
            found["stoi"] = ops.mean(known * (1.0 - score))
        if self._judges and costly:
            # Listeners judge a mixture without speech by other measures.
            known = ops.cast(ops.max(ops.abs(clean[self._few]), axis=1) > 1.0, "float32")
            for name, judge in self._judges.items():
                found[name] = ops.mean(known * (5.0 - judge(denoised[self._few])))
        return found

    def _log_distortion(self, ours: Spectra, theirs: Spectra, valid_bins: Any) -> Any:
        def energy(parts: Any) -> Any:
            return sum(ops.sum(valid_bins * ops.square(part), axis=(1, 2)) for part in parts)

        difference = energy(a - b for a, b in zip(ours, theirs, strict=True))
        # Without speech, the reference is speech at -20 dB. Below -30 dB nothing is gained.
        quiet = 0.01 * 0.375 * self._n_fft * theirs[0].shape[1]
        reference = ops.maximum(energy(theirs), quiet * ops.sum(valid_bins, axis=(1, 2)))
        return ops.mean(ops.log(difference / reference + 1e-3)) / np.log(10.0)

    def _distance(self, first: Spectra, second: Spectra, weight: Any) -> Any:
        # Over the RMS of a Hann window: a signal at level one has bins of about one.
        scale = 1.0 / (0.375 * self._n_fft)
        ours, theirs = (
            ops.power((ops.square(real) + ops.square(imaginary)) * scale + EPSILON, COMPRESSION / 2)
            for real, imaginary in (first, second)
        )
        return ops.mean(weight * ops.square(ours - theirs))


def _fast_n_fft(samples: float) -> int:
    """Return an even length near `samples` whose transform is fast."""
    return 2 * int(next_fast_len(round(samples / 2), real=True))


def _measure(measure: PesqLoss | StoiLoss, ours: Any, theirs: Any, valid_bins: Any) -> Any:
    """Return a measure of the power spectra of two signals, of Hann windows half overlapped."""
    n_fft, powers = measure.n_fft, []
    for signal in (ours, theirs):
        real, imaginary = spectra(signal, hann(n_fft), n_fft // 2)
        powers.append(ops.square(real) + ops.square(imaginary))
    bins = np.linspace(0, valid_bins.shape[-1] - 1, n_fft // 2 + 1).round().astype(int)
    return measure(powers[0], powers[1], ops.take(valid_bins, bins, axis=-1))
