from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from command import invoke
from conftest import Folders

from rtden import Denoiser
from rtden.autoencoder import Autoencoder
from rtden.errors import AudioFileError, ModelError
from rtden.model import ModelSpec, find_model, load_spec
from rtden.training import run
from rtden.training.export import judge, load_network
from rtden.training.loss import Loss
from rtden.training.mixing import Mixture
from rtden.training.recipe import Recipe
from rtden.training.run import export_run, load_recipe
from rtden.training.trainer import BEST, load_best


@pytest.fixture(scope="module", autouse=True)
def _less_to_judge_by() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("CALIBRATION_COLUMNS", 256), ("JUDGED_MIXTURES", 6)):
            patch.setattr(run, name, count)
        yield


def chosen(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


# Tests of the trainer take steps with DNSMOS, too; here it would cost as much as all the rest.
FAST = chosen("mixtures=2", "precision=float32", "validation_batches=1", "dnsmos=0", "seconds=2")
SPEC = ModelSpec(name="tiny", mean_db=-30.0)


def both(folders: Folders) -> list[str]:
    return ["--speech", str(folders.speech), "--noise", str(folders.noise)]


def rtden(*words: object) -> tuple[int, str]:
    """Run a command; return its exit code and everything it printed."""
    result = invoke(*words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def own(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Return work folder, model and output of a fine-tuning from the shipped network."""
    top = tmp_path_factory.mktemp("own")
    (top / "data.json").write_text('[{"source": "made", "licence": "CC0"}]')
    files = ["--out", top / "mine.tflite", "--work", top / "work", "--data", top / "data.json"]
    brief = ["--from", find_model("rtden"), "--steps", "6", *chosen("learning_rate=2e-4")]
    code, said = rtden("train", *both(folders), *files, *brief, *FAST)
    assert code == 0, said
    return top / "work", top / "mine.tflite", said


def test_fine_tuning_gives_a_better_model_than_its_start(
    own: tuple[Path, Path, str], noise: np.ndarray
) -> None:
    work, path, said = own
    spec = load_spec(path)
    judged = spec.metrics["held_out_mixtures"]
    assert judged["after"]["loss"] < judged["before"]["loss"]
    assert f"{judged['after']['loss']:.4f}" in said
    assert "step 6: validation loss" in said
    assert spec.training["start"] == "rtden"
    assert spec.training["data"][0] == {"source": "made", "licence": "CC0"}
    assert len(spec.training["data"]) > 1, "the start's sources are still in it"
    assert spec.sha256
    assert spec.sha256 != load_spec(find_model("rtden")).sha256
    denoiser = Denoiser(path)
    assert np.isfinite(denoiser.feed(noise)).all()
    assert (work / "log.csv").read_text().startswith("step,loss,validation_loss")
    assert not list(path.parent.glob(".new-*"))


def test_a_network_that_is_worse_than_ones_own_model_is_refused_and_kept_aside(
    own: tuple[Path, Path, str], tmp_path: Path
) -> None:
    work = shutil.copytree(own[0], tmp_path / "work")
    named = json.loads((work / "folders.json").read_text())
    (work / "folders.json").write_text(json.dumps({**named, "start": str(own[1])}))
    best = dict(np.load(work / BEST))
    opposite = {name: -best[name] for name in ("share/0", "share/1")}
    np.savez(work / BEST, **{**best, **opposite})  # it keeps the noise and mutes the speech
    code, said = rtden("export", "--work", work, "--out", tmp_path / "bad.tflite")
    assert code == 2, said
    assert "worse than model 'mine'" in said
    assert not list(tmp_path.glob("bad.*"))
    kept = load_spec(work / "export" / "bad.tflite")
    assert kept.training["start"] == "mine"
    assert kept.training["data"] == load_spec(own[1]).training["data"]


def test_a_run_can_be_exported_again(
    own: tuple[Path, Path, str], tmp_path: Path, rng: np.random.Generator
) -> None:
    work, path, _ = own
    code, said = rtden("export", "--work", work, "--out", tmp_path / "again.tflite")
    assert code == 0, said
    # The converter numbers its tensors anew each time.
    window = rng.normal(-0.5, 1.0, (128, 16, 3)).astype(np.float32)
    again, first = (Autoencoder(of).infer(window) for of in (tmp_path / "again.tflite", path))
    np.testing.assert_array_equal(again, first)
    both = (tmp_path / "again.weights.npz", path.with_suffix(".weights.npz"))
    ours, theirs = (np.load(weights) for weights in both)
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs.files)


# The files of a model


@pytest.fixture(scope="module")
def exported(own: tuple[Path, Path, str]) -> tuple[Path, keras.Model]:
    """Return the int8 file in the run's folder, beside the float one, and its network."""
    path = own[0] / "export" / "mine.tflite"
    return path, load_best(load_spec(path), own[0])


def test_column_by_column_the_float_file_gives_what_the_network_gives_for_the_sequence(
    exported: tuple[Path, keras.Model], rng: np.random.Generator
) -> None:
    path, network = exported
    sequence = rng.standard_normal((128, 150, 3)).astype(np.float32)
    runner = Autoencoder(path.with_suffix(".float.tflite"))
    masks = [runner.infer(sequence[:, [column]]).copy() for column in range(150)]
    answers = np.concatenate(masks, axis=1)
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
    assert spec.name == "mine"
    assert spec.channels == load_spec(find_model("rtden")).channels


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
    details = (*interpreter.get_input_details(), *interpreter.get_output_details())
    assert {detail["dtype"] for detail in details} == {np.int8}
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
    loss = Loss(SPEC, pesq=0.02, stoi=0.2, dnsmos=0.05, p808=0.05)
    parts = (slice(at, at + 66150) for at in (0, 66150, 132300))
    mixtures = [Mixture(clean[part], noisy[part], 11025.0) for part in parts]
    untouched, denoised = (judge(mixtures, SPEC, loss, of) for of in (None, find_model("seed")))
    assert denoised["si_sdr_db"] > untouched["si_sdr_db"] + 2
    weights = {"spectral_distance": 1.0, "pesq": 0.02, "stoi": 0.2, "dnsmos": 0.05, "p808": 0.05}
    assert set(denoised) == {*weights, "loss", "si_sdr_db"}
    assert all(denoised[name] < untouched[name] for name in weights)
    expected = sum(weight * denoised[name] for name, weight in weights.items())
    assert denoised["loss"] == pytest.approx(expected, abs=1e-4)
    same = judge([Mixture(clean, clean, 11025.0)], SPEC, loss, None)
    assert same["spectral_distance"] == 0.0
    assert same["stoi"] < 1e-3


# What is refused, and recipes


def test_what_cannot_work_is_said_before_the_work(folders: Folders, tmp_path: Path) -> None:
    train, out = ["train", *both(folders)], ["--out", tmp_path / "m.tflite"]
    empty = ["train", "--speech", tmp_path, "--noise", tmp_path, "--work", tmp_path / "w"]
    for words, sentence in (
        (["train"], "give the folders"),
        ([*train, "--out", tmp_path / "model.onnx"], "ends in .tflite"),
        ([*train, "--out", "."], "ends in .tflite"),
        ([*train, "--out", tmp_path / "no" / "m.tflite"], "does not exist or cannot be written"),
        ([*train, "--out", find_model("seed")], "exists already"),
        ([*train, "--from", "nobody", *out], "there is no model 'nobody'"),
        ([*train, "--from", "seed", *out], "comes without seed.weights.npz"),
        ([*train, "--recipe", "other"], "there is no recipe 'other'"),
        (["train", "--recipe", "seed"], "give the folders"),
        ([*train, "--set", "mixtures=two"], "mixtures must be a whole number, not 'two'"),
        ([*train, "--set", "mixture=2"], "no setting mixture"),
        ([*train, "--data", tmp_path / "none.json"], "cannot be read as JSON"),
        ([*empty, *out], "no audio files"),
        (["export", "--work", tmp_path / "none", *out], "holds no training run"),
        ([*train, *out, "--steps", -1], "steps must be 1 or more"),
        ([*train, *out, "--set", "precision=float7"], "precision must be"),
    ):
        code, said = rtden(*words)
        assert code == 2, (words, said)
        assert sentence in said
        assert "Traceback" not in said
    assert not list(tmp_path.glob("*.tflite"))


def test_fine_tuning_is_a_short_and_gentle_recipe() -> None:
    tuned, whole = load_recipe("fine-tune"), load_recipe("rtden")
    gentle: dict[str, Any] = {"steps": 600, "learning_rate": 3e-4, "validate_every": 100}
    assert tuned == replace(whole, **gentle)
    brief = load_recipe("fine-tune", {"steps": 12, "hours": None})
    assert brief == replace(tuned, steps=12, validate_every=12)


def test_a_run_without_recordings_any_more_says_so(tmp_path: Path) -> None:
    folders = {"speech": "/nowhere", "noise": "/nowhere", "start": None}
    (tmp_path / "folders.json").write_text(json.dumps(folders))
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": Recipe().to_dict()}))
    with pytest.raises(AudioFileError, match="holds no audio files"):
        export_run(tmp_path, tmp_path / "m.tflite")


def test_the_notebook_runs_from_the_command_line(folders: Folders, tmp_path: Path) -> None:
    code, said = rtden(
        "train", "--recipe", "seed", "--speech", folders.speech, "--out", tmp_path / "notebook"
    )
    assert code == 2
    assert "recordings" in said  # eight are too few
