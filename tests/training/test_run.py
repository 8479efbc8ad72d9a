from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Folders
from typer.testing import CliRunner

from rtden import Denoiser
from rtden.app.main import app
from rtden.autoencoder import Autoencoder
from rtden.errors import AudioFileError, TrainingError
from rtden.model import find_model, load_spec
from rtden.training import run
from rtden.training.recipe import Recipe
from rtden.training.run import export_run, load_recipe, train_model


@pytest.fixture(scope="module", autouse=True)
def _less_to_judge_by() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("CALIBRATION_COLUMNS", 768), ("JUDGED_MIXTURES", 6)):
            patch.setattr(run, name, count)
        yield


FAST = ["--set", "mixtures=2", "--set", "precision=float32", "--set", "validation_batches=2"]
SHORT = ["--set", "seconds=2", "--set", "pesq=0", "--set", "stoi=0", "--set", "dnsmos=0"]


def both(folders: Folders) -> list[str]:
    return ["--speech", str(folders.speech), "--noise", str(folders.noise)]


def rtden(*words: object) -> tuple[int, str]:
    """Run a command; return its exit code and everything it printed."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def own(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Return work folder, model and output of a fine-tuning from the shipped network."""
    top = tmp_path_factory.mktemp("own")
    (top / "data.json").write_text('[{"source": "made", "licence": "CC0"}]')
    files = ["--out", top / "mine.tflite", "--work", top / "work", "--data", top / "data.json"]
    brief = ["--from", "rtden", "--steps", "12", "--set", "learning_rate=2e-4"]
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
    assert "step 12: validation loss" in said
    assert spec.training["start"] == "rtden"
    assert spec.training["data"][0] == {"source": "made", "licence": "CC0"}
    assert len(spec.training["data"]) > 1, "the start's sources are still in it"
    assert spec.sha256
    assert spec.sha256 != load_spec(find_model("rtden")).sha256
    denoiser = Denoiser(path)
    assert np.isfinite(denoiser.feed(noise)).all()
    assert (work / "log.csv").read_text().startswith("step,loss,validation_loss")
    assert not list(path.parent.glob(".new-*"))


def test_one_may_go_on_from_ones_own_model(
    own: tuple[Path, Path, str], folders: Folders, tmp_path: Path
) -> None:
    recipe = Recipe(
        precision="float32",
        steps=2,
        mixtures=2,
        seconds=2.0,
        validate_every=2,
        validation_batches=1,
        learning_rate=1e-12,
        pesq=0.0,
        stoi=0.0,
        dnsmos=0.0,
    )
    mine: dict[str, Any] = {
        "speech": folders.speech,
        "noise": folders.noise,
        "work": tmp_path / "work",
        "recipe": recipe,
        "start": own[1],
    }
    with contextlib.suppress(
        TrainingError
    ):  # with next to no step it is the same network, and chance decides which is better
        train_model(tmp_path / "next.tflite", **mine)
    judged = load_spec(tmp_path / "work" / "export" / "next.tflite").metrics["held_out_mixtures"]
    assert abs(judged["after"]["spectral_distance"] - judged["before"]["spectral_distance"]) < 0.02


def test_a_worse_model_is_refused_and_kept_aside(folders: Folders, tmp_path: Path) -> None:
    files = ["--out", tmp_path / "bad.tflite", "--work", tmp_path / "work"]
    rash = ["--from", "rtden", "--steps", "4", "--set", "learning_rate=0.5"]
    code, said = rtden("train", *both(folders), *files, *rash, *FAST, *SHORT)
    assert code == 2, said
    assert "worse than model 'rtden'" in said
    assert not list(tmp_path.glob("bad.*"))
    assert (tmp_path / "work" / "export" / "bad.tflite").exists()


def test_a_run_can_be_exported_again(
    own: tuple[Path, Path, str], tmp_path: Path, rng: np.random.Generator
) -> None:
    work, path, _ = own
    code, said = rtden("export", "--work", work, "--out", tmp_path / "again.tflite")
    assert code == 0, said
    window = rng.normal(-0.5, 1.0, (128, 16, 3)).astype(
        np.float32
    )  # the converter numbers its tensors anew each time
    np.testing.assert_array_equal(
        Autoencoder(tmp_path / "again.tflite").infer(window), Autoencoder(path).infer(window)
    )
    with (
        np.load(tmp_path / "again.weights.npz") as ours,
        np.load(path.with_suffix(".weights.npz")) as theirs,
    ):
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs.files)


def test_what_cannot_work_is_said_before_the_work(folders: Folders, tmp_path: Path) -> None:
    train, out = ["train", *both(folders)], ["--out", tmp_path / "m.tflite"]
    empty = ["train", "--speech", tmp_path, "--noise", tmp_path, "--work", tmp_path / "w"]
    for words, sentence in (
        (["train"], "give the folders"),
        ([*train, "--out", tmp_path / "model.onnx"], "ends in .tflite"),
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
