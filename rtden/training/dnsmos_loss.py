"""The DNSMOS loss: the scores of DNSMOS P.835 (Reddy et al., 2022), differentiable.

Its network, convolutions over a spectrum with learned bases, is read from the file in the package
``speechmos`` and rebuilt here. Unlike :func:`rtden.measure.metrics.dnsmos`, it takes sound of any
length at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from rtden.extras import needed
from rtden.measure.metrics import DNSMOS_POLYNOMIALS, SPEECH_RATE_HZ, dnsmos_path

HOP_SAMPLES = 160
SPEECH_LEVEL = 10.0 ** (-25.0 / 20.0)
"""RMS of active speech, relative to full scale, at which signals are scored."""
POOLED_AFTER = (3, 4, 5)  # numbers of the convolutions that a 2 x 2 maximum pooling follows


class DnsmosLoss:
    """Predicts the scores of listeners: speech, background, overall; signals at `rate_hz`."""

    def __init__(self, rate_hz: int) -> None:
        onnx = needed("onnx", "train", "training")
        weights = {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for tensor in onnx.load(dnsmos_path()).graph.initializer
        }
        common = math.gcd(rate_hz, SPEECH_RATE_HZ)
        self._from, self._to = rate_hz // common, SPEECH_RATE_HZ // common
        self._bases = [
            weights[f"time2freq/stft-{part}/kernel:0"][:, :, 0].T for part in ("real", "imag")
        ]
        names = ["conv2d", *(f"conv2d_{number}" for number in range(1, 7))]
        self._convolutions = [
            (weights[f"{name}/kernel:0"].transpose(2, 3, 1, 0), weights[f"{name}/bias:0"])
            for name in names
        ]
        prefix = "mos_estimator_logpow/{}/{}/ReadVariableOp/resource:0"
        self._dense = [
            tuple(weights[prefix.format(name, part)] for part in ("MatMul", "BiasAdd"))
            for name in ("dense", "dense_1", "dense_3")
        ]
        polynomials = np.array(DNSMOS_POLYNOMIALS, np.float32).T
        self._polynomials = [ops.convert_to_tensor(row) for row in polynomials]

    def __call__(self, signal: Any) -> Any:
        """Return SIG, BAK and OVRL, 1 to 5, of signals with full scale +-1.

        Shapes (mixtures, samples) to (mixtures, 3).
        """
        blocks = ops.reshape(self._resampled(signal), (ops.shape(signal)[0], -1, HOP_SAMPLES))
        frames = ops.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=-1)
        power = sum(ops.square(ops.matmul(frames, basis)) for basis in self._bases)
        x = ops.log(ops.maximum(power, 1e-12))[..., None] / math.log(10.0)
        for number, (kernel, bias) in enumerate(self._convolutions):
            x = ops.relu(ops.add(ops.conv(x, kernel, padding="same"), bias))
            if number in POOLED_AFTER:
                x = ops.max_pool(x, 2, strides=2, padding="valid")
        x = ops.max(x, axis=(1, 2))
        for number, (kernel, bias) in enumerate(self._dense):
            x = ops.add(ops.matmul(x, kernel), bias)
            x = ops.relu(x) if number < len(self._dense) - 1 else x
        square, slope, constant = self._polynomials
        return (square * x + slope) * x + constant

    def _resampled(self, signal: Any) -> Any:
        """Return signals at the network's rate, resampled by their spectrum, in whole hops."""
        samples = signal.shape[1]
        padded = -(-samples // self._from) * self._from
        length = padded // self._from * self._to
        spectrum = ops.rfft(ops.pad(signal, ((0, 0), (0, padded - samples))))
        bins = min(length, padded) // 2 + 1
        kept = tuple(part[:, :bins] for part in spectrum)
        resampled = ops.irfft(kept, fft_length=length) * (self._to / self._from)
        return resampled[:, : length // HOP_SAMPLES * HOP_SAMPLES]
