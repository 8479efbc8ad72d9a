"""A model from the mean of weights: `bench/mean.py`."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from conftest import Folders

from rtden.autoencoder import Autoencoder
from rtden.model import find_model
from rtden.training import run
from rtden.training.export import load_network
from rtden.training.network import named_weights

mean = importlib.import_module("mean")
WEIGHTS = find_model("rtden").with_suffix(".weights.npz")


def test_a_mean_of_weights_becomes_a_model_that_runs(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CALIBRATION_COLUMNS", 256)
    with np.load(WEIGHTS) as named:
        shipped = {name: values.astype(np.float32) for name, values in named.items()}
    np.savez(tmp_path / "other.npz", **{name: 3.0 * of for name, of in shipped.items()})
    sources = [f"{WEIGHTS}=0.5", f"{tmp_path / 'other.npz'}=0.5"]
    out = tmp_path / "made.tflite"
    options = {"scale": 0.5, "shift": 0.25, "contrast": 1.5}
    mean.main(sources, folders.speech, folders.noise, out, **options)
    network, spec = load_network(out)
    found = named_weights(network)
    assert found.keys() == shipped.keys()
    for name, values in found.items():
        expected = 2.0 * shipped[name]
        if name.startswith("share/"):
            expected = 0.5 * expected + (0.25 if name == "share/1" else 0.0)
        np.testing.assert_allclose(values, expected, rtol=2e-3, atol=1e-6)
    assert spec.contrast == 1.5
    assert spec.training["weights"].endswith("other.npz=0.5; logits * 0.5 + 0.25")
    columns = np.zeros((spec.n_mels, 1, len(spec.channels)), np.float32)
    assert np.isfinite(Autoencoder(out).infer(columns)).all()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (str(WEIGHTS), "give weights as FILE.npz=SHARE"),
        (f"{WEIGHTS}=half", "give weights as FILE.npz=SHARE"),
        ("missing.npz=1", "No such file"),
        ("empty.npz=1", "the weights lack those of "),
    ],
)
def test_what_is_no_weights_is_refused_in_a_sentence(
    source: str,
    said: str,
    folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("empty.npz", other=np.zeros(1))
    with pytest.raises(SystemExit, match="2"):
        mean.main([source], folders.speech, folders.noise, tmp_path / "out.tflite")
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.tflite").exists()
