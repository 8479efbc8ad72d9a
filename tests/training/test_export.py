from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rtden import Denoiser
from rtden.autoencoder import Autoencoder
from rtden.errors import ModelError
from rtden.model import ModelSpec, find_model, load_spec
from rtden.training.export import export, judge, load_network
from rtden.training.loss import Loss
from rtden.training.mixing import Mixture
from rtden.training.network import rtden_network

SEED = ModelSpec(name="tiny", mean_db=-30.0, training={"data": [{"source": "made"}]})
CHANNELS = ("relative_mel", "above_floor", "above_mean")
SPEC = ModelSpec(name="tiny", mean_db=-30.0, channels=CHANNELS)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, keras.Model]:
    keras.utils.set_random_seed(0)
    network = rtden_network(SPEC)
    sequences = np.random.default_rng(0).normal(0.0, 1.0, (4, 128, 48, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("export") / "own.tflite"
    export(network, SPEC, path, calibration=sequences)
    return path, network


def test_column_by_column_the_float_file_gives_what_the_network_gives_for_the_sequence(
    exported: tuple[Path, keras.Model], rng: np.random.Generator
) -> None:
    path, network = exported
    sequence = rng.standard_normal((128, 150, 3)).astype(np.float32)
    runner = Autoencoder(path.with_suffix(".float.tflite"))
    answers = np.concatenate(
        [runner.infer(sequence[:, [column]]).copy() for column in range(150)], axis=1
    )
    np.testing.assert_allclose(answers, np.asarray(network(sequence[None]))[0, :, :, 0], atol=1e-5)


def test_the_int8_file_is_a_quarter_and_nearly_the_same(
    exported: tuple[Path, keras.Model], rng: np.random.Generator
) -> None:
    path, _ = exported
    assert path.stat().st_size < 0.3 * path.with_suffix(".float.tflite").stat().st_size
    assert path.stat().st_size < 1.6e6
    sequence = rng.normal(0.0, 1.0, (128, 16, 3)).astype(np.float32)
    masks = [Autoencoder(of).infer(sequence) for of in (path, path.with_suffix(".float.tflite"))]
    assert 0 < np.abs(masks[0] - masks[1]).mean() < 0.02
    spec = load_spec(path)
    assert spec.name == "own"
    assert spec.channels == SPEC.channels


def test_both_files_run_in_the_denoiser(
    exported: tuple[Path, keras.Model], noise: np.ndarray
) -> None:
    outputs = []
    for file in (exported[0], exported[0].with_suffix(".float.tflite")):
        denoiser = Denoiser(file)
        outputs.append(np.concatenate([denoiser.feed(noise), denoiser.flush()]))
    assert np.abs(outputs[0] - outputs[1]).max() < 0.05 * np.abs(outputs[1]).max() + 0.01


def test_no_transposed_convolution_and_nothing_in_float(exported: tuple[Path, keras.Model]) -> None:
    interpreter = tf.lite.Interpreter(str(exported[0]))
    assert {
        d["dtype"] for d in (*interpreter.get_input_details(), *interpreter.get_output_details())
    } == {np.int8}
    names = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "TRANSPOSE_CONV" not in names
    assert not names & {"QUANTIZE", "DEQUANTIZE"}


def test_the_weights_come_back_in_half_precision(exported: tuple[Path, keras.Model]) -> None:
    path, network = exported
    loaded, spec = load_network(path)
    assert spec == load_spec(path)
    for ours, theirs in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_a_model_without_weights_is_named(
    exported: tuple[Path, keras.Model], tmp_path: Path
) -> None:
    path = tmp_path / "bare.tflite"
    for suffix in (".tflite", ".json"):
        path.with_suffix(suffix).write_bytes(exported[0].with_suffix(suffix).read_bytes())
    with pytest.raises(ModelError, match=r"comes without bare\.weights\.npz"):
        load_network(path)


def test_judging_hears_the_difference_in_all_that_the_loss_is_made_of(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = recordings
    loss = Loss(SEED, pesq=0.02, stoi=0.2, dnsmos=0.05)
    mixtures = [
        Mixture(clean[at : at + 66150], noisy[at : at + 66150], 11025.0)
        for at in (0, 66150, 132300)
    ]
    untouched, denoised = (
        judge(mixtures, SEED, loss, None),
        judge(mixtures, SEED, loss, find_model("seed")),
    )
    assert denoised["si_sdr_db"] > untouched["si_sdr_db"] + 2
    weights = {"spectral_distance": 1.0, "pesq": 0.02, "stoi": 0.2, "dnsmos": 0.05}
    assert set(denoised) == {*weights, "loss", "si_sdr_db"}
    assert all(denoised[name] < untouched[name] for name in weights)
    expected = sum(weight * denoised[name] for name, weight in weights.items())
    assert denoised["loss"] == pytest.approx(expected, abs=1e-4)
    same = judge([Mixture(clean, clean, 11025.0)], SEED, loss, None)
    assert same["spectral_distance"] == 0.0
    assert same["stoi"] < 1e-3
