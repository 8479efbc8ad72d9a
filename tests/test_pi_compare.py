"""What `bench/pi/compare.py` takes for rounding and what not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

COMPARE = Path(__file__).parent.parent / "bench" / "pi" / "compare.py"
RATE_HZ = 22050


@pytest.mark.parametrize(
    ("difference_db", "spans", "passes"),
    [
        (-200.0, [], True),
        (-90.0, [(0.0, 10.0)], True),
        (-70.0, [(0.0, 10.0)], False),  # all of it: no two numbers do that
        (-45.0, [(0.0, 2.5)], True),
        (-45.0, [(0.0, 2.5), (6.0, 8.0)], True),
        (-45.0, [(0.0, 2.5), (3.0, 4.0), (6.0, 8.0)], False),
        (-45.0, [(1.0, 6.5)], False),  # longer than two memories
        (-20.0, [(1.0, 2.0)], False),
    ],
)
def test_a_tipped_number_is_told_from_machines_that_disagree(tmp_path: Path, difference_db: float, spans: list[tuple[float, float]], passes: bool) -> None:
    rng = np.random.default_rng(0)
    native = 0.1 * rng.standard_normal(10 * RATE_HZ)
    emulated = native.copy()
    for start, stop in spans:
        span = slice(round(start * RATE_HZ), round(stop * RATE_HZ))
        emulated[span] += 0.1 * 10 ** (difference_db / 20) * rng.standard_normal(len(emulated[span]))
    for name, sound in (("native", native), ("emulated", emulated)):
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE_HZ, subtype="DOUBLE")
    command = [sys.executable, str(COMPARE), str(tmp_path / "native.wav"), str(tmp_path / "emulated.wav"), "--bound-db=-80", "--tips=2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == (0 if passes else 1), ended.stdout + ended.stderr
    assert ("do not agree" in ended.stderr) != passes
