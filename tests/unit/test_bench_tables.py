"""Tables of the benchmarks: what `bench/all.py` reads out of results, and comparisons of scores."""

from __future__ import annotations

import importlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from common import changes_table, markdown
from remix import remix
from rich.console import Console

from rtden.measure.evaluation import Evaluation
from rtden.measure.tables import to_json

every = importlib.import_module("all")
SYSTEMS, METRICS = ("noisy", "rtden", "rtden live"), ("PESQ-WB", "ESTOI", "SI-SDR (dB)", "P.808")


def evaluation(metrics: tuple[str, ...] = METRICS) -> Evaluation:
    """Return scores of three systems on two pairs: 1, 2 and 3 of the first metric, and so on."""
    scores = np.arange(1.0, 4.0)[None, :, None] + np.zeros((2, 1, len(metrics)))
    names = ("0_babble_+5dB.flac", "1_cafe_+5dB.flac")
    return Evaluation(
        *("dev", names, SYSTEMS, metrics, scores, np.array([5.0, 5.0]), ("babble", "cafe"), {})
    )


def test_changes_are_against_the_first_system() -> None:
    shown = io.StringIO()
    Console(file=shown, width=200).print(changes_table(evaluation(), "Name", Note=["a", "b"]))
    lines = shown.getvalue().splitlines()
    assert re.search(r"Name +Note +PESQ-WB\* +ESTOI\* +SI-SDR \(dB\) +P\.808", lines[0])
    assert re.search(r"^ noisy +1\.000 +1\.000", lines[1])
    assert re.search(r"^ rtden +a +2\.000 +2\.000", lines[2])
    assert re.search(r"^ rtden live +b +3\.000 \(\+1\.000 ± 0\.000\)", lines[3])


@pytest.mark.parametrize("name", every.TABLES)
def test_the_tables_of_the_documentation_are_those_of_the_results(name: str) -> None:
    result = every.RESULTS / every.FILES.get(name, f"{name}.txt")
    table = markdown(every.TABLES[name](result.read_text("utf-8")))
    pages = "".join((every.DOCS / page).read_text("utf-8") for page in ("benchmarks.md", "pi.md"))
    assert f"<!-- {name} -->\n{table}\n<!-- end -->" in pages


def test_the_readme_has_the_same_scores() -> None:
    (_, *metrics), *rows = every.quality_rows(
        (every.RESULTS / every.FILES["quality"]).read_text("utf-8")
    )
    scores = {row[0]: [cell.split()[0] for cell in row[1:]] for row in rows}
    readme = (every.DOCS.parent / "README.md").read_text("utf-8")
    header = re.search(r"^\| \| (.*?) \| delay", readme, re.MULTILINE)
    assert header
    wanted = [metrics.index(name) for name in header[1].split(" | ")]
    names = {"**rtden**, files": "rtden", "**rtden**, live": "rtden live"}
    for name in ("noisy", *names, "RNNoise", "DTLN", "DeepFilterNet3"):
        row = [scores[names.get(name, name)][column] for column in wanted]
        assert f"| {name} | {' | '.join(row)} |" in readme


def test_quality_and_noises_come_from_the_json() -> None:
    text = to_json(evaluation()).decode()
    assert every.quality_rows(text) == [
        ["", "PESQ-WB*", "ESTOI*", "SI-SDR (dB)", "P.808*"],
        ["noisy", "1.00", "1.000", "1.0", "1.00"],
        ["rtden", *(f"{m} (+{g} ± {h})" for m, g, h in DIGITS_OF_TWO)],
        ["rtden live", *(f"{m} (+{g} ± {h})" for m, g, h in DIGITS_OF_THREE)],
    ]
    rows = every.noise_rows(text)
    assert [row[0] for row in rows[1:4]] == ["babble, noisy", "babble, rtden", "babble, rtden live"]
    assert rows[4] == ["cafe, noisy", "1.00", "1.000", "1.0", "1.00"]
    assert json.loads(text)["in_the_training_loss"] == ["PESQ-WB", "ESTOI", "P.808"]


DIGITS = ((2, "0.00"), (3, "0.000"), (1, "0.0"), (2, "0.00"))
DIGITS_OF_TWO = [(f"{2:.{n}f}", f"{1:.{n}f}", none) for n, none in DIGITS]
DIGITS_OF_THREE = [(f"{3:.{n}f}", f"{2:.{n}f}", none) for n, none in DIGITS]


def test_pairs_with_less_noise_have_the_same_speech_at_a_higher_snr(tmp_path: Path) -> None:
    rng, pairs = np.random.default_rng(0), tmp_path / "dev"
    clean, noise = rng.standard_normal((2, 8000)) * [[0.2], [0.1]]
    for side, samples in (("clean", clean), ("noisy", clean + noise)):
        (pairs / side).mkdir(parents=True)
        soundfile.write(pairs / side / "0_fan_+5dB.wav", samples, 16000, subtype="FLOAT")
    made = remix(pairs, tmp_path, noise_db=-15.0)
    assert made == tmp_path / "dev-15dB"
    heard = [soundfile.read(made / side / "0_fan_+20dB.flac")[0] for side in ("clean", "noisy")]
    level = np.std(heard[0]) / np.std(clean)
    np.testing.assert_allclose(heard[0], level * clean, atol=1e-6)
    np.testing.assert_allclose(heard[1] - heard[0], level * noise * 10 ** (-15 / 20), atol=1e-6)


def test_pairs_at_another_rate_have_the_same_sound_below_half_of_it(tmp_path: Path) -> None:
    seconds, pairs = np.arange(16000) / 16000, tmp_path / "dev"
    low, high = (0.2 * np.sin(2 * np.pi * hz * seconds) for hz in (1000, 5000))
    for side, samples in (("clean", low), ("noisy", low + high)):
        (pairs / side).mkdir(parents=True)
        soundfile.write(pairs / side / "0_fan_+5dB.wav", samples, 16000, subtype="FLOAT")
    made = remix(pairs, tmp_path, to_hz=8000)
    assert made == tmp_path / "dev-8kHz"
    for side in ("clean", "noisy"):
        heard, rate_hz = soundfile.read(made / side / "0_fan_+5dB.flac")
        assert rate_hz == 8000
        np.testing.assert_allclose(heard[400:-400], low[::2][400:-400], atol=1e-3)


def test_a_table_in_markdown_is_lined_up() -> None:
    assert markdown([["", "a"], ["one", "10"]]) == "|     |  a |\n|-----|---:|\n| one | 10 |"
