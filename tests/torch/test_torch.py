"""Training on PyTorch: the same steps as on TensorFlow give about the same losses.

PyTorch is large, so that it is installed for this test alone: run `make torch`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import few_steps
import numpy as np
from conftest import Folders

from rtden.model import find_model, load_spec
from rtden.training.export import load_network
from rtden.training.network import named_weights
from rtden.training.trainer import load_best

BENCH = Path(__file__).parents[2] / "bench"


def test_training_on_torch_is_training_on_tensorflow(folders: Folders, tmp_path: Path) -> None:
    assert importlib.util.find_spec("torch"), "PyTorch is missing: 'make torch' installs it"
    runs = []
    for backend in ("tensorflow", "torch"):
        words = [few_steps.__file__, *map(str, (folders.speech, folders.noise, tmp_path / backend))]
        env = {**os.environ, "KERAS_BACKEND": backend}
        runs.append(
            subprocess.Popen([sys.executable, *words], env=env, stdout=subprocess.PIPE, text=True)
        )
    losses = [json.loads(run.communicate()[0]) for run in runs]
    assert len(losses[0]) == few_steps.RECIPE.steps + 1
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)


def run_on_gpu(script: Path, *words: str | Path) -> str:
    """Run a script with the modules of bench/ and return what it printed."""
    env = {**os.environ, "KERAS_BACKEND": "torch"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(BENCH), env.get("PYTHONPATH"))))
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_batches_made_on_the_gpu_are_those_of_training(folders: Folders, tmp_path: Path) -> None:
    script = Path(few_steps.__file__).with_name("gpu_batch.py")
    found = json.loads(run_on_gpu(script, folders.speech, folders.noise, tmp_path))
    signals = {"noisy", "clean", "valid_bins", "analysis", "synthesis"}
    assert found.keys() == {"features", "alone", "kept", *signals}
    assert max(found.values()) < 1e-3, found


def test_a_step_on_the_gpu_can_become_a_graph() -> None:
    found = json.loads(run_on_gpu(Path(few_steps.__file__).with_name("gpu_step.py")))
    assert found["count"] > 1000
    assert not found["refused"], found


def test_training_on_the_gpu_leaves_a_run_to_export(folders: Folders, tmp_path: Path) -> None:
    settings = {"precision": "float32", "seconds": 1.5, "copies": 0, "dnsmos_every": 2}
    (tmp_path / "recipe.json").write_text(json.dumps(settings), encoding="utf-8")
    paths = {"speech": folders.speech, "noise": folders.noise, "work": tmp_path / "run"}
    options = {"recipe": tmp_path / "recipe.json", "start": "rtden", "minutes": 0.4}
    options |= {"mixtures": 2, "pool": 64, "workers": 1}
    words = [f"--{name}={value}" for name, value in {**paths, **options}.items()]
    said = run_on_gpu(BENCH / "gpu.py", *words)
    assert "step 8, " in said, said
    network = load_best(load_spec(None), tmp_path / "run")
    before, _ = load_network(find_model("rtden"))
    start, trained = named_weights(before), named_weights(network)
    far = [float(np.abs(trained[name] - start[name]).max()) for name in start]
    assert np.isfinite(far).all()
    assert max(far) > 1e-5
