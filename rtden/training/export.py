"""Weights to a model: a full-int8 TFLite file, its sidecar, the weights, and their figures."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from rtden.denoiser import Denoiser
from rtden.errors import ModelError
from rtden.measure.metrics import si_sdr_db
from rtden.model import ModelSpec, load_spec, save_spec
from rtden.quiet import quiet_stderr
from rtden.training.batches import reference_level, valid_bins
from rtden.training.loss import Loss
from rtden.training.mixing import Mixture
from rtden.training.network import NETWORK, load_weights, named_weights, rtden_network
from rtden.training.ranges import quantised
from rtden.types import Array

WEIGHTS_SUFFIX = ".weights.npz"  # beside a model: its weights before quantisation, to train on


def to_tflite(network: keras.Model) -> bytes:
    """Convert a stateful network to TFLite in float32; the signature names inputs and outputs."""
    inputs = network.input.items()
    tensors = {name: tf.TensorSpec((1, *x.shape[1:]), tf.float32, name) for name, x in inputs}
    call = tf.function(network).get_concrete_function(tensors)
    with quiet_stderr():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call])
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(converter.convert()))
    graph = model.subgraphs[0]
    # A saved model would carry the names, too, but takes as long as all the rest.
    named = [
        [schema.TensorMapT(name=name, tensorIndex=index) for name, index in zip(*pair, strict=True)]
        for pair in ((sorted(tensors), graph.inputs), (sorted(network.output), graph.outputs))
    ]
    signature = schema.SignatureDefT(signatureKey="serve", inputs=named[0], outputs=named[1])
    model.signatureDefs = [signature]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def export(network: keras.Model, spec: ModelSpec, model_path: Path, *, calibration: Array) -> None:
    """Write the int8 file with sidecar and weights, and ``NAME.float.tflite`` to compare it with.

    `calibration` are sequences, shape (sequences, n_mels, columns, channels).
    """
    stateful = rtden_network(spec, stateful=True)
    load_weights(stateful, named_weights(network))
    spec = dataclasses.replace(spec, training={**spec.training, "network": NETWORK})
    content = to_tflite(stateful)
    write_model(content, spec, model_path.with_suffix(".float.tflite"))
    write_model(quantised(content, calibration), spec, model_path)
    # Half precision is much finer than int8.
    weights: dict[str, Any] = {n: w.astype(np.float16) for n, w in named_weights(network).items()}
    np.savez_compressed(model_path.with_suffix(WEIGHTS_SUFFIX), **weights)


def write_model(content: bytes, spec: ModelSpec, path: Path) -> None:
    """Write a converted network and its sidecar."""
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    save_spec(dataclasses.replace(spec, name=path.stem, sha256=sha256), path)


def load_network(model_path: Path) -> tuple[keras.Model, ModelSpec]:
    """Return the network of a model with its weights, and its specification."""
    spec, path = load_spec(model_path), model_path.with_suffix(WEIGHTS_SUFFIX)
    if not path.exists() or spec.training.get("network") != NETWORK:
        raise ModelError(
            f"model '{spec.name}' comes without {path.name}, or with those of a network that rtden "
            "no longer trains; choose another, or start from scratch."
        )
    network = rtden_network(spec)
    with np.load(path) as named:
        load_weights(network, dict(named))
    return network, spec


def judge(
    mixtures: Iterable[Mixture], spec: ModelSpec, loss: Loss, model_path: Path | None
) -> dict[str, float]:
    """Return the "loss" of mixtures that the Denoiser has processed, its parts, and "si_sdr_db".

    Means over the mixtures. Without a model, those of the noisy signals.
    """
    denoiser = None if model_path is None else Denoiser(model_path)
    found = []
    for mixture in mixtures:
        if not mixture.clean.any():
            continue
        output = mixture.noisy
        if denoiser is not None:
            output = np.concatenate([denoiser.feed(mixture.noisy), denoiser.flush()])
        level, valid = reference_level(mixture), valid_bins(mixture, spec)
        parts = loss.parts(output[None] / level, mixture.clean[None] / level, valid[None])
        # Digital silence and untouched clean speech are not infinitely far.
        ratio_db = np.clip(si_sdr_db(mixture.clean, output), -30.0, 60.0)
        found.append({**{name: float(part) for name, part in parts.items()}, "si_sdr_db": ratio_db})
    means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    total = sum(weight * means[name] for name, weight in loss.weights.items())
    return {name: round(value, 5) for name, value in {"loss": total, **means}.items()}
