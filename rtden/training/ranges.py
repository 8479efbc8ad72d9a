"""Ranges of a network's int8 tensors, narrowed to those with the least error.

TFLite takes the lowest and the highest value of the calibration. A few outliers, or values that the
following ReLU removes, then leave a tenth of the 256 steps to all others. So the ranges are those
that minimise the error of rounding and clipping together, as in Banner et al. (2019, "Post training
4-bit quantization of convolutional networks for rapid-deployment").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.tools import flatbuffer_utils

from rtden.interpreter import named_tensors

BINS, STEPS = 4096, 255
EXPONENT = 1.5
"""Of the error. The squared one clips too little, the absolute one too much: relative to float32
the masks of noisy speech are off by 0.020 (RMS), with those by 0.024 and 0.035."""
SHARES = np.geomspace(1.0, 0.1, 24)
"""Shares of the whole range, below and above zero, that are tried."""


def quantised(calibrated: bytes, pieces: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a float32 network with calibrated ranges as int8, the ranges narrowed.

    `pieces` are the inputs of its calls by name; the values of the tensors in them set the ranges.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(calibrated))
    ranges = {
        index: tensor.quantization
        for index, tensor in enumerate(model.subgraphs[0].tensors)
        if tensor.quantization is not None and tensor.quantization.min is not None
    }
    limits = {index: (float(of.min[0]), float(of.max[0])) for index, of in ranges.items()}
    for index, counts in _histograms(calibrated, pieces, limits).items():
        low, high = narrowed(*limits[index], counts)
        ranges[index].min, ranges[index].max = [low], [high]
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    int8 = {"input_data_type": tf.int8, "output_data_type": tf.int8}
    return bytes(mlir_quantize(content, **int8))


def narrowed(low: float, high: float, counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the range around zero with the least error; `counts` is a histogram."""
    edges = np.linspace(low, high, len(counts) + 1)
    values = (edges[1:] + edges[:-1]) / 2.0
    lows, highs = min(low, 0.0) * SHARES, max(high, 0.0) * SHARES
    below, above = (
        [counts @ np.maximum(beyond, 0.0) ** EXPONENT / counts.sum() for beyond in clipped]
        for clipped in (lows[:, None] - values, values - highs[:, None])
    )
    half_step = (highs - lows[:, None]) / STEPS / 2.0
    rounded = half_step**EXPONENT / (EXPONENT + 1.0)  # the mean up to half a step
    best = np.argmin(np.add.outer(below, above) + rounded)
    return float(lows[best // len(highs)]), float(highs[best % len(highs)])


def _histograms(
    content: bytes,
    pieces: Iterable[Mapping[str, Any]],
    limits: Mapping[int, tuple[float, float]],
) -> dict[int, NDArray[np.int64]]:
    """Return how often a network's tensors have which values between their limits."""
    inputs, _ = named_tensors(Interpreter(model_content=content))
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # the others keep no tensors
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=kernels,
    )
    counts = {index: np.zeros(BINS, np.int64) for index in limits}
    for piece in pieces:
        # A single input has no name of its own.
        given = piece if len(inputs) > 1 else dict(zip(inputs, piece.values(), strict=True))
        for name, index in inputs.items():
            interpreter.resize_tensor_input(index, np.shape(given[name]))
        interpreter.allocate_tensors()
        for name, index in inputs.items():
            interpreter.set_tensor(index, np.asarray(given[name], np.float32))
        interpreter.invoke()
        for index, (low, high) in limits.items():
            bins = (interpreter.get_tensor(index).ravel() - low) * (BINS / max(high - low, 1e-9))
            bins = np.clip(bins, 0, BINS - 1).astype(np.intp)  # numpy's histogram is slow
            counts[index] += np.bincount(bins, minlength=BINS)
    return counts
