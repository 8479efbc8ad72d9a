"""Ranges of a network's int8 tensors, narrowed to those with the least error.

TFLite takes the lowest and the highest value of the calibration. A few outliers, or values that the
following ReLU removes, then leave a tenth of the 256 steps to all others. So the ranges are those
that minimise the error of rounding and clipping together, as in Banner et al. (2019, "Post training
4-bit quantization of convolutional networks for rapid-deployment").
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.tools import flatbuffer_utils

from rtden.interpreter import named_tensors
from rtden.quiet import quiet_stderr
from rtden.types import Array

PIECE_COLUMNS = 16  # per call
BINS, STEPS = 4096, 255
EXPONENT = 1.5
"""Of the error. The squared one clips too little, the absolute one too much: relative to float32
the masks of noisy speech are off by 0.020 (RMS), with those by 0.024 and 0.035."""
SHARES = np.geomspace(1.0, 0.1, 24)  # of the range below and above zero, that are tried


@quiet_stderr()  # TensorFlow's
def quantised(content: bytes, sequences: Array) -> bytes:
    """Return a float32 network as int8, with the ranges of least error on sequences.

    Shape of `sequences`: (sequences, n_mels, columns, channels).
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    tensors = {
        index: tensor
        for index, tensor in enumerate(model.subgraphs[0].tensors)
        if tensor.type == schema.TensorType.FLOAT32 and model.buffers[tensor.buffer].data is None
    }
    limits = dict.fromkeys(tensors, (math.inf, -math.inf))
    for interpreter in _calls(content, sequences):
        for index, (low, high) in limits.items():
            values = interpreter.get_tensor(index)
            limits[index] = min(low, float(values.min())), max(high, float(values.max()))
    counts = {index: np.zeros(BINS, np.int64) for index in tensors}
    for interpreter in _calls(content, sequences):
        for index, (low, high) in limits.items():
            values = interpreter.get_tensor(index).ravel()
            bins = (values - low) * (BINS / max(high - low, 1e-9))
            bins = np.clip(bins, 0, BINS - 1).astype(np.intp)  # numpy's histogram is slow
            counts[index] += np.bincount(bins, minlength=BINS)
    for index, tensor in tensors.items():
        low, high = narrowed(*limits[index], counts[index])
        tensor.quantization = schema.QuantizationParametersT(min=[low], max=[high])
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


def _calls(content: bytes, sequences: Array) -> Iterator[Interpreter]:
    """Yield an interpreter after each call over sequences; it keeps the values of all tensors."""
    inputs, outputs = named_tensors(Interpreter(model_content=content))
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # the others keep no tensors
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=kernels,
    )
    mel, *states = sorted(inputs, key=lambda name: name.startswith("past_"))
    for sequence in sequences:
        past = {name: np.float32(0.0) for name in states}
        for start in range(0, sequence.shape[1], PIECE_COLUMNS):
            piece = sequence[None, :, start : start + PIECE_COLUMNS]
            interpreter.resize_tensor_input(inputs[mel], piece.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(inputs[mel], piece)
            for name in states:
                interpreter.tensor(inputs[name])()[...] = past[name]
            interpreter.invoke()
            yield interpreter
            for name in states:
                held = interpreter.tensor(inputs[name])().shape[1]
                seen = outputs[name.replace("past_", "seen_", 1)]
                past[name] = interpreter.get_tensor(seen)[:, -held:]
