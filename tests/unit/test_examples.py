"""The examples, and the README's lines of Python, do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import DATA

ROOT = Path(__file__).parents[2]


def example(name: str, *arguments: str, given: bytes = b"") -> bytes:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True, cwd=ROOT).stdout


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def pauses_db(path: Path) -> float:
    """Return the level of a file's first 100 ms, in which nobody speaks yet."""
    return level_db(soundfile.read(path)[0][:2205])


def test_an_array_comes_out_clean_and_aligned(tmp_path: Path) -> None:
    noisy, _ = soundfile.read(DATA / "noisy.flac", frames=66150)
    soundfile.write(tmp_path / "noisy.flac", noisy, 22050)
    example("numpy_array.py", str(tmp_path / "noisy.flac"), str(tmp_path / "clean.wav"))
    clean, _ = soundfile.read(tmp_path / "clean.wav")
    assert clean.shape == noisy.shape
    assert level_db(clean) < level_db(noisy) - 2
    lags = np.correlate(clean[22050:44100], noisy[22050 - 50 : 44100 + 50], "valid")
    assert np.argmax(lags) == 50


def test_a_microphone_is_a_file_here(tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    printed = example("microphone.py", "1.2", str(DATA / "noisy.flac"), str(out)).decode()
    assert re.match(r"from .*noisy\.flac to .*out\.wav, \d+ ms\n(in .* running\n)+", printed)
    assert soundfile.info(out).duration > 0.5


def test_a_voice_agent_gets_as_many_bytes_as_it_gives() -> None:
    noisy = soundfile.read(DATA / "noisy.flac", dtype="int16")[0][: 22050 * 2]
    clean = np.frombuffer(example("voice_agent.py", given=noisy.tobytes()), np.int16)
    assert len(clean) == len(noisy)
    assert level_db(clean) < level_db(noisy) - 2


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_on_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL):
        exec(compile(block, page, "exec"), names)
    if page == "README.md":
        assert names["clean"].shape == names["noisy"].shape
        lengths = re.findall(r"an utterance of (\S+) s\n", capsys.readouterr().out)
        # The same rule finds these in the clean recording.
        assert list(map(float, lengths)) == pytest.approx([3.44, 4.48, 4.26], abs=0.1)
    else:
        assert names["report"].noise_removed_db > 20
        assert (tmp_path / "clean.wav").exists()
