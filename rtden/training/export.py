"""Weights to a model: a full-int8 TFLite file, its sidecar, the weights, and their figures."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from rtden.autoencoder import Autoencoder
from rtden.denoiser import Denoiser
from rtden.errors import ModelError
from rtden.measure.metrics import si_sdr_db
from rtden.model import ModelSpec, load_spec, save_spec
from rtden.quiet import quiet_stderr
from rtden.training.batches import Batch, reference_level, valid_bins
from rtden.training.loss import Loss
from rtden.training.mixing import Mixture
from rtden.training.network import (
    find_network,
    load_weights,
    named_weights,
    trained_network,
)
from rtden.types import Array

PIECE_COLUMNS = 16
"""Columns per call of a stateful network while the ranges of its tensors are measured."""
WEIGHTS_SUFFIX = ".weights.npz"
"""Of the file beside a model with its weights before quantisation, for further training."""


def to_tflite(network: keras.Model, *, calibration: Array | None = None) -> bytes:
    """Convert a network to TFLite, one window, or one piece of a sequence, a call.

    The network is for windows of a fixed size, or stateful. On `calibration`, windows or sequences
    of shape (sequences, n_mels, columns, channels), the ranges of the int8 tensors are measured;
    without it the file stays float32.
    """
    with tempfile.TemporaryDirectory() as saved_model:
        if len(network.inputs) > 1:
            archive = keras.export.ExportArchive()
            archive.track(network)
            signature = {
                name: tf.TensorSpec((1, *tensor.shape[1:]), tf.float32, name=name)
                for name, tensor in network.input.items()
            }
            archive.add_endpoint("serve", network, input_signature=[signature])
            archive.write_out(saved_model, verbose=False)
            keys = ["serve"]
        else:
            window = keras.InputSpec(shape=(1, *network.input_shape[1:]), dtype="float32")
            network.export(saved_model, verbose=False, input_signature=[window])
            keys = None
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=keys)
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _pieces(network, calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        with quiet_stderr():
            return _without_names(converter.convert())


def _without_names(model: bytes) -> bytes:
    """Return a model without the names of its inner tensors; the signature names the others."""
    content = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    for subgraph in content.subgraphs:
        ends = {*subgraph.inputs, *subgraph.outputs}
        for index, tensor in enumerate(subgraph.tensors):
            if index not in ends:
                tensor.name = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))


def _pieces(network: keras.Model, sequences: Array) -> Iterator[Any]:
    """Yield what a network is given call by call, its own memory included."""
    for sequence in sequences:
        if len(network.inputs) == 1:
            yield [sequence[None]]
            continue
        past = {
            name: np.zeros((1, *tensor.shape[1:]), np.float32)
            for name, tensor in network.input.items()
            if name != "mel"
        }
        for start in range(0, sequence.shape[1], PIECE_COLUMNS):
            given = {"mel": sequence[None, :, start : start + PIECE_COLUMNS], **past}
            yield given
            after = network(given)
            past = {
                name: np.asarray(after[name.replace("past_", "seen_", 1)])[:, -array.shape[1] :]
                for name, array in past.items()
            }


def sequences_of(batches: Iterable[Batch], columns: int, count: int, *, seed: int = 0) -> Array:
    """Return sequences from random places of batches, as long as the mixtures at most.

    Shape (count, n_mels, columns, channels).
    """
    rng = np.random.default_rng(seed)
    found = []
    for batch in batches:
        for features in batch.features:
            columns = min(columns, features.shape[1] // PIECE_COLUMNS * PIECE_COLUMNS)
            starts = rng.integers(0, features.shape[1] - columns + 1, 4)
            found += [features[:, start : start + columns] for start in starts]
        if len(found) >= count:
            break
    return np.stack(found[:count])


def export(
    network: keras.Model,
    name: str,
    spec: ModelSpec,
    model_path: Path,
    *,
    calibration: Array,
    check: Array,
) -> dict[str, Any]:
    """Write the int8 file with sidecar and weights, and ``NAME.float.tflite`` to compare it with.

    `name` is the network's, as :func:`rtden.training.network.find_network` knows it; the sidecar
    gets the constants of `spec`. `calibration` are sequences for :func:`to_tflite`, `check` others,
    shape (sequences, n_mels, columns, channels). Returns mean and 99th percentile of the difference
    of both files' masks in the newest frame of each sequence of `check`.
    """
    fixed = find_network(name).for_export(spec)
    load_weights(fixed, named_weights(network))
    spec = dataclasses.replace(spec, training={**spec.training, "network": name})
    float_path = model_path.with_suffix(".float.tflite")
    write_model(to_tflite(fixed), spec, float_path)
    write_model(to_tflite(fixed, calibration=calibration), spec, model_path)
    # Half precision is much finer than int8.
    weights: dict[str, Any] = {n: w.astype(np.float16) for n, w in named_weights(network).items()}
    np.savez_compressed(model_path.with_suffix(WEIGHTS_SUFFIX), **weights)

    precise, quantised = (
        np.stack([_newest(Autoencoder(path), sequence) for sequence in check])
        for path in (float_path, model_path)
    )
    difference = np.abs(precise - quantised)
    parity = {
        "sequences": len(check),
        "share_difference_mean": round(float(difference.mean()), 5),
        "share_difference_p99": round(float(np.quantile(difference, 0.99)), 5),
    }
    written = load_spec(model_path)
    metrics = {**written.metrics, "int8_against_float": parity}
    save_spec(dataclasses.replace(written, metrics=metrics), model_path)
    return parity


def write_model(content: bytes, spec: ModelSpec, path: Path) -> None:
    """Write a converted network and its sidecar."""
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    save_spec(dataclasses.replace(spec, name=path.stem, sha256=sha256), path)


def _newest(network: Autoencoder, sequence: Array) -> Array:
    """Return the mask of a sequence's newest frame."""
    frames = network.spec.frames
    for start in range(0, sequence.shape[1], frames):
        mask = network.infer(sequence[:, start : start + frames])
    newest: Array = mask[:, -1].copy()
    return newest


def load_network(model_path: Path) -> tuple[keras.Model, ModelSpec]:
    """Return the network of a model with its weights, and its specification."""
    spec, path = load_spec(model_path), model_path.with_suffix(WEIGHTS_SUFFIX)
    if not path.exists() or "network" not in spec.training:
        raise ModelError(
            f"model '{spec.name}' comes without {path.name}, so that no training can start with "
            "it; choose another, or start from scratch."
        )
    return trained_network(spec.training["network"], spec, path), spec


class Outcome(NamedTuple):
    """The loss of denoised mixtures, and their SI-SDR."""

    loss: float
    parts: dict[str, float]
    """Its parts, as :meth:`rtden.training.loss.Loss.parts` returns them."""
    si_sdr_db: float

    def to_dict(self) -> dict[str, float]:
        """Return everything, for the sidecar."""
        figures = {"loss": self.loss, **self.parts, "si_sdr_db": self.si_sdr_db}
        return {name: round(value, 5) for name, value in figures.items()}


def judge(
    mixtures: Iterable[Mixture], spec: ModelSpec, loss: Loss, model_path: Path | None
) -> Outcome:
    """Compare mixtures that the Denoiser has processed with their clean signals.

    Without a model, the noisy signals are compared.
    """
    denoiser = None if model_path is None else Denoiser(model_path)
    parts, ratios_db = [], []
    for mixture in mixtures:
        if not mixture.clean.any():
            continue
        output = mixture.noisy
        if denoiser is not None:
            output = np.concatenate([denoiser.feed(mixture.noisy), denoiser.flush()])
        level, valid = reference_level(mixture), valid_bins(mixture, spec)
        parts.append(loss.parts(output[None] / level, mixture.clean[None] / level, valid[None]))
        # Digital silence and untouched clean speech are not infinitely far.
        ratios_db.append(np.clip(si_sdr_db(mixture.clean, output), -30.0, 60.0))
    means = {name: float(np.mean([float(found[name]) for found in parts])) for name in loss.weights}
    total = sum(weight * means[name] for name, weight in loss.weights.items())
    return Outcome(total, means, float(np.mean(ratios_db)))
