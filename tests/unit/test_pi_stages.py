"""`bench/pi/stages.py` on this machine alone: it agrees with itself, and notices features and
sound that are others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from command import ended
from conftest import DATA

STAGES = Path(__file__).parents[2] / "bench" / "pi" / "stages.py"


def stages(task: str, file: Path) -> Any:
    return ended([sys.executable, STAGES, task, file.with_name("noisy.flac"), file])


def test_a_machine_agrees_with_itself_and_not_with_others(tmp_path: Path) -> None:
    file = tmp_path / "stages.npz"
    samples, rate_hz = soundfile.read(DATA / "noisy.flac", frames=44100)
    soundfile.write(tmp_path / "noisy.flac", samples, rate_hz)
    assert stages("record", file).returncode == 0
    with np.load(file) as recorded:
        own = dict(recorded)
    for name, change in (("features", 0.0), ("features", 1e-4), ("out", 1e-3)):
        np.savez(file, **{**own, name: own[name] + np.float32(change)})
        said = stages("compare", file)
        assert said.returncode == (1 if change else 0), said.stderr
        assert ("do not agree" in said.stderr) == bool(change)
