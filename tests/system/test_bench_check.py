"""bench/check.py: when a ratio of times counts as worse than the recorded one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import check
import numpy as np
import pytest
from drivers import NumpyWork
from rounds import Spread


def spread(median: float, mad: float = 0.0) -> Spread:
    return Spread(median, median - mad, median + mad, median - 2.0 * mad, median + 2.0 * mad, mad)


@pytest.mark.parametrize(
    ("recorded", "found", "worse"),
    [
        (spread(2.0), spread(2.0), False),
        (spread(2.0), spread(1.0), False),  # faster
        (spread(2.0), spread(2.29), False),  # by less than 15 %
        (spread(2.0), spread(2.31), True),
        (spread(2.0, 0.01), spread(2.31), True),
        (spread(2.0, 0.2), spread(2.59), False),  # within 3 MAD of the recorded ones
        (spread(2.0, 0.2), spread(2.61), True),
        (spread(2.0), spread(2.59, 0.2), False),  # within 3 MAD of the measured ones
        (spread(2.0, 0.1), spread(2.61, 0.2), True),
        (spread(0.02), spread(0.0229), False),
        (spread(0.02), spread(0.0231), True),
    ],
)
def test_a_ratio_is_worse_beyond_15_percent_and_beyond_its_noise(
    recorded: Spread, found: Spread, worse: bool
) -> None:
    said = check.compare({"rtden / numpy": recorded}, {"rtden / numpy": found})
    assert len(said) == worse
    if worse:
        assert said[0].startswith(
            f"rtden / numpy is {found.median:.3f}; recorded was {recorded.median:.3f}"
        )


def test_each_worse_ratio_is_told_and_what_was_not_recorded_is_not_compared() -> None:
    recorded = {name: spread(1.0) for name in ("a", "b", "c", "gone")}
    found = {"a": spread(2.0), "b": spread(1.1), "c": spread(3.0), "new": spread(9.0)}
    assert [sentence.split()[0] for sentence in check.compare(recorded, found)] == ["a", "c"]


def test_a_recorded_file_says_what_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ratios = {"rtden / numpy": spread(2.0, 0.01), "rtden live / DTLN live": spread(0.9)}
    monkeypatch.setattr(check, "measure", lambda *, seconds, rounds: ratios)
    file = tmp_path / "check.json"
    check.main(record=True, file=file)
    assert json.loads(file.read_bytes())["ratios"]["rtden / numpy"]["median"] == 2.0
    check.main(file=file)
    assert capsys.readouterr().err == ""
    # Slower, and a package is no longer installed.
    monkeypatch.setattr(check, "measure", lambda *, seconds, rounds: {"rtden / numpy": spread(3.0)})
    with pytest.raises(SystemExit) as caught:
        check.main(file=file)
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert "3.000" in out
    absent, worse = err.splitlines()
    assert absent == "Not compared, for a package is not installed: rtden live / DTLN live."
    assert "rtden / numpy is 3.000; recorded was 2.000, and up to 2.300 would be noise." in worse
    # Elsewhere.
    monkeypatch.setattr(check, "processor_name", lambda: "another processor")
    with pytest.raises(SystemExit):
        check.main(file=file)
    assert "The recorded ratios are of another processor" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"processor": "p", "ratios": {"a": {"median": 1}}}']
)
def test_a_file_that_holds_no_ratios_is_told_in_one_sentence(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "check.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        check.main(file=file)
    assert caught.value.code == 2
    advice = "make it with 'python bench/check.py --record'.\n"
    said = f"bench/check.py: {file} holds no recorded ratios; {advice}"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("seconds", "rounds"), [(0.5, 15), (math.nan, 15), (10.0, 2)])
def test_too_little_is_not_measured(
    seconds: float, rounds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        check.main(record=True, seconds=seconds, rounds=rounds, file=tmp_path / "check.json")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("bench/check.py: --seconds must be 1 or more")


def test_the_work_in_numpy_is_always_the_same() -> None:
    frame = np.random.default_rng(1).standard_normal(512).astype(np.float32)
    first, second = NumpyWork().feed(frame), NumpyWork().feed(frame)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert first.any()


def test_ratios_are_measured() -> None:
    found = check.measure(seconds=1.0, rounds=3)
    ours = ("rtden", "rtden, hops_per_step 4", "rtden live", "rtden file")
    assert list(found)[:4] == [f"{name} / numpy" for name in ours]
    assert all(0.0 < known.least <= known.median <= known.most < 1000.0 for known in found.values())
    assert found["rtden, hops_per_step 4 / numpy"].median < found["rtden / numpy"].median
