"""Weights to a shipped model: a full-int8 TFLite file, its sidecar, and how far the two precisions part."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rtden.autoencoder import Autoencoder
from rtden.mel import Array
from rtden.sidecar import ModelSpec, save_spec

_LOGGER = logging.getLogger(__name__)


def to_tflite(network: keras.Model, *, calibration: Array | None = None) -> bytes:
    """Convert a network to TFLite for one window a call.

    Parameters
    ----------
    calibration : array, shape (windows, n_mels, frames, channels), optional
        Windows from which the ranges of the int8 tensors are read; without them the file stays float32.
    """
    with tempfile.TemporaryDirectory() as saved_model:
        network.export(saved_model, verbose=False, input_signature=[keras.InputSpec(shape=(1, *network.input_shape[1:]), dtype="float32")])
        return _convert(saved_model, calibration)


def _convert(saved_model: str, calibration: Array | None) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([window[None]] for window in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def export(network: keras.Model, spec: ModelSpec, model_path: Path, *, calibration: Array, check: Array) -> dict[str, Any]:
    """Write the int8 file, its sidecar and, as ``NAME.float.tflite``, the float file it is to be measured against.

    Returns
    -------
    dict
        Parity on the windows `check`, newest used column: mean and 99th percentile of the absolute difference of the share.
    """
    float_path = model_path.with_suffix(".float.tflite")
    for path, content in ((float_path, to_tflite(network)), (model_path, to_tflite(network, calibration=calibration))):
        path.write_bytes(content)
        file_spec = dataclasses.replace(spec, name=path.stem, sha256=hashlib.sha256(content).hexdigest())
        save_spec(file_spec, path)
    column = spec.frames - 1 - spec.lookahead
    precise, quantised = (Autoencoder(path) for path in (float_path, model_path))
    difference = np.array([np.abs(precise.infer(w)[:, column] - quantised.infer(w)[:, column]) for w in check])
    parity = {"windows": len(check), "share_difference_mean": _rounded(difference.mean()), "share_difference_p99": _rounded(np.quantile(difference, 0.99))}
    save_spec(
        dataclasses.replace(spec, sha256=hashlib.sha256(model_path.read_bytes()).hexdigest(), metrics={**spec.metrics, "int8_against_float": parity}),
        model_path,
    )
    _LOGGER.info("%s: %d bytes, int8 against float: %s", model_path, model_path.stat().st_size, parity)
    return parity


def _rounded(value: Any) -> float:
    return round(float(value), 5)
