"""`bench/pi/stages.py` on this machine alone: it agrees with itself, and notices features and
sound that are others.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA

STAGES = Path(__file__).parents[2] / "bench" / "pi" / "stages.py"


def stages(task: str, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(STAGES), task, str(DATA / "noisy.flac"), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("features", "sound", "agrees"), [(0.0, 0.0, True), (1e-4, 0.0, False), (0.0, 1e-3, False)]
)
def test_a_machine_agrees_with_itself_and_not_with_others(
    tmp_path: Path, features: float, sound: float, agrees: bool
) -> None:
    file = tmp_path / "stages.npz"
    assert stages("record", file).returncode == 0
    with np.load(file) as recorded:
        np.savez(
            file,
            features=recorded["features"] + np.float32(features),
            out=recorded["out"] + np.float32(sound),
        )
    said = stages("compare", file)
    assert said.returncode == (0 if agrees else 1), said.stderr
    assert ("do not agree" in said.stderr) != agrees
