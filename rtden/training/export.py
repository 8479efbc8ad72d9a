"""Weights to a model: a full-int8 TFLite file, its sidecar, the weights, and their figures."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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

PIECE_COLUMNS = 16  # per call of the network while the ranges of its tensors are measured
WEIGHTS_SUFFIX = ".weights.npz"
"""Of the file beside a model with its weights before quantisation, for further training."""


def to_tflite(network: keras.Model, *calibrations: Array | None) -> list[bytes]:
    """Convert a stateful network to TFLite, once for each calibration.

    On a calibration, sequences of shape (sequences, n_mels, columns, channels), the ranges of the
    int8 tensors are measured (:mod:`rtden.training.ranges`); with None the file stays float32.
    """
    archive, files = keras.export.ExportArchive(), []
    archive.track(network)
    signature = {
        name: tf.TensorSpec((1, *tensor.shape[1:]), tf.float32, name=name)
        for name, tensor in network.input.items()
    }
    archive.add_endpoint("serve", network, input_signature=[signature])
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        archive.write_out(folder, verbose=False)
        for calibration in calibrations:
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
            if calibration is None:
                files.append(bytes(converter.convert()))
                continue
            pieces = list(_pieces(network, calibration))
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = functools.partial(iter, pieces)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter._experimental_calibrate_only = True
            files.append(quantised(converter.convert(), pieces))
    return files


def _pieces(network: keras.Model, sequences: Array) -> Iterator[Any]:
    """Yield what a network is given call by call, its own memory included."""
    states = {name: tensor for name, tensor in network.input.items() if name != "mel"}
    compute = tf.function(network)  # Keras' own calls take longer than the network
    for sequence in sequences:
        past = {name: np.zeros((1, *of.shape[1:]), np.float32) for name, of in states.items()}
        for start in range(0, sequence.shape[1], PIECE_COLUMNS):
            given = {"mel": sequence[None, :, start : start + PIECE_COLUMNS], **past}
            yield given
            after = compute(given)
            past = {
                name: np.asarray(after[name.replace("past_", "seen_", 1)])[:, -array.shape[1] :]
                for name, array in past.items()
            }


def export(network: keras.Model, spec: ModelSpec, model_path: Path, *, calibration: Array) -> None:
    """Write the int8 file with sidecar and weights, and ``NAME.float.tflite`` to compare it with.

    `calibration` are sequences, see :func:`to_tflite`.
    """
    stateful = rtden_network(spec, stateful=True)
    load_weights(stateful, named_weights(network))
    spec = dataclasses.replace(spec, training={**spec.training, "network": NETWORK})
    for content, suffix in zip(
        to_tflite(stateful, None, calibration), (".float.tflite", ".tflite"), strict=True
    ):
        write_model(content, spec, model_path.with_suffix(suffix))
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
