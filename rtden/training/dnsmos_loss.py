"""The DNSMOS losses: scores of DNSMOS P.835 (Reddy et al., 2022) and P.808 (2021), differentiable.

Their networks, convolutions over a spectrum, are read from the files in the package ``speechmos``
and rebuilt here. Unlike the functions of :mod:`rtden.measure.metrics`, they take sound of any
length at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from rtden.extras import needed
from rtden.measure import metrics
from rtden.measure.metrics import P808_N_FFT, SPEECH_RATE_HZ
from rtden.spectral import hann
from rtden.types import Array

HOP_SAMPLES = metrics.P808_HOP  # of P.835, too
SPEECH_LEVEL = 10.0 ** (-25.0 / 20.0)  # RMS of active speech at which signals are scored


class _Scorer:
    """A network of DNSMOS: convolutions, the maximum over all that is left, dense layers.

    A 2 x 2 maximum pooling follows some of the convolutions, those numbered in `pooled_after`.
    """

    def __init__(
        self, file: str, convolutions: list[str], pooled_after: tuple[int, ...], dense: list[str]
    ) -> None:
        onnx = needed("onnx", "train", "training")
        self.weights: dict[str, Array] = {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for tensor in onnx.load(metrics.dnsmos_path(file)).graph.initializer
        }
        self._pooled_after = pooled_after
        self._convolutions = [
            (self._tensor(f"{name}/kernel:0", (2, 3, 1, 0)), self._tensor(f"{name}/bias:0"))
            for name in convolutions
        ]
        parts = ("MatMul/ReadVariableOp/resource:0", "BiasAdd/ReadVariableOp/resource:0")
        self._dense = [[self._tensor(f"{name}/{part}") for part in parts] for name in dense]

    def _tensor(self, name: str, axes: tuple[int, ...] | None = None) -> Any:
        weight = self.weights[name]
        return ops.convert_to_tensor(weight.transpose(axes) if axes else weight)

    def __call__(self, spectra: Any) -> Any:
        """Return scores, (mixtures, scores), of spectra, (mixtures, frames, bands)."""
        x = spectra[..., None]
        for number, (kernel, bias) in enumerate(self._convolutions):
            x = ops.relu(ops.add(ops.conv(x, kernel, padding="same"), bias))
            if number in self._pooled_after:
                x = ops.max_pool(x, 2, strides=2, padding="valid")
        x = ops.max(x, axis=(1, 2))
        for number, (kernel, bias) in enumerate(self._dense):
            x = ops.add(ops.matmul(ops.relu(x) if number else x, kernel), bias)
        return x


class DnsmosLoss:
    """Predicts the scores of listeners: speech, background, overall; signals at `rate_hz`."""

    def __init__(self, rate_hz: int) -> None:
        names = ["conv2d", *(f"conv2d_{number}" for number in range(1, 7))]
        dense = [f"mos_estimator_logpow/{name}" for name in ("dense", "dense_1", "dense_3")]
        self._rate_hz = rate_hz
        self._network = network = _Scorer(metrics.DNSMOS_P835, names, (3, 4, 5), dense)
        waves = (network.weights[f"time2freq/stft-{part}/kernel:0"] for part in ("real", "imag"))
        self._bases = [ops.convert_to_tensor(wave[:, :, 0].T) for wave in waves]
        polynomials = np.array(metrics.DNSMOS_POLYNOMIALS, np.float32).T
        self._polynomials = [ops.convert_to_tensor(row) for row in polynomials]

    def __call__(self, signal: Any) -> Any:
        """Return SIG, BAK and OVRL, (mixtures, 3), of signals up to +-1, (mixtures, samples)."""
        resampled = _at_speech_rate(signal, self._rate_hz)
        blocks = _hops(resampled)
        frames = ops.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=-1)
        power = sum(ops.square(ops.matmul(frames, basis)) for basis in self._bases)
        x = self._network(ops.log(ops.maximum(power, 1e-12)) / math.log(10.0))
        square, slope, constant = self._polynomials
        return (square * x + slope) * x + constant


class P808Loss:
    """Predicts the overall score of listeners; signals at `rate_hz`."""

    def __init__(self, rate_hz: int) -> None:
        names = [f"conv2d_{number}" for number in range(5, 10)]
        dense = [f"mos_estimator_small_1/dense_{number}" for number in (3, 4, 5)]
        self._rate_hz = rate_hz
        self._network = _Scorer(metrics.DNSMOS_P808, names, (0, 1, 3), dense)
        self._bank = ops.convert_to_tensor(metrics.p808_bank().T.copy())
        # The transform of a windowed frame; its length is odd, which not every backend's takes.
        turns = np.outer(np.arange(P808_N_FFT), np.arange(P808_N_FFT // 2 + 1)) / P808_N_FFT
        waves = (np.cos(2.0 * np.pi * turns), np.sin(2.0 * np.pi * turns))
        window = hann(P808_N_FFT)[:, None]
        self._bases = [ops.convert_to_tensor((window * of).astype(np.float32)) for of in waves]

    def __call__(self, signal: Any) -> Any:
        """Return the score, (mixtures,), of signals, (mixtures, samples), whatever their level."""
        around = P808_N_FFT // 2
        resampled = ops.pad(_at_speech_rate(signal, self._rate_hz), ((0, 0), (around, around)))
        blocks = _hops(resampled)
        frames = [blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:, :1]]  # two hops and a sample
        frames = ops.concatenate(frames, axis=-1)
        power = sum(ops.square(ops.matmul(frames, basis)) for basis in self._bases)
        mels = ops.maximum(ops.matmul(power, self._bank), 1e-10)
        level_db = ops.log(mels) * (10.0 / math.log(10.0))
        loudest_db = ops.max(level_db, axis=(1, 2), keepdims=True)
        level_db = ops.maximum(level_db - loudest_db, -80.0)
        return self._network((level_db + 40.0) / 40.0)[:, 0]


def _hops(signal: Any) -> Any:
    """Return the whole hops of signals, shape (mixtures, hops, HOP_SAMPLES)."""
    whole = signal.shape[1] // HOP_SAMPLES * HOP_SAMPLES
    return ops.reshape(signal[:, :whole], (ops.shape(signal)[0], -1, HOP_SAMPLES))


def _at_speech_rate(signal: Any, rate_hz: int) -> Any:
    """Return signals at the networks' rate, resampled by their spectrum."""
    common = math.gcd(rate_hz, SPEECH_RATE_HZ)
    before, after = rate_hz // common, SPEECH_RATE_HZ // common
    samples = signal.shape[1]
    padded = samples + -samples % before
    length = padded // before * after
    spectrum = ops.rfft(ops.pad(signal, ((0, 0), (0, padded - samples))))
    kept = tuple(part[:, : min(length, padded) // 2 + 1] for part in spectrum)
    return ops.irfft(kept, fft_length=length) * (after / before)
