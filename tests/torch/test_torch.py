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
