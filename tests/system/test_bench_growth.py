"""bench/growth.py: its recordings, its memory of a process of its own, its text and its picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import growth
import numpy as np
import pytest
import soundfile
from conftest import DATA

from rtden.errors import RtdenError
from rtden.measure.cost import BenchResult, Percentiles
from rtden.measure.streams import StreamsResult

TIMES = Percentiles(0.3, 0.4, 0.5)


def step(hops_per_step: int) -> BenchResult:
    return BenchResult(
        "rtden", "none", hops_per_step, 20.0, 800, {}, TIMES, TIMES, 0.0123, 46.0, 55.0, 1217.0
    )


def carried(streams: int, jobs: int, round_p99_ms: float = 20.0) -> StreamsResult:
    return StreamsResult(
        "rtden",
        "none",
        1,
        streams,
        jobs,
        20.0,
        TIMES,
        Percentiles(15.0, 18.0, round_p99_ms),
        23.22,
        0.7 * jobs,
    )


def memory(longer_mb: float) -> list[dict[str, float]]:
    taken = ((60.0, 1, 50.0), (3600.0, 1, 49.0), (3600.0, 2, longer_mb))
    return [
        {
            "audio_seconds": seconds,
            "jobs": jobs,
            "processing_seconds": 0.01 * seconds,
            "peak_mb": mb,
        }
        for seconds, jobs, mb in taken
    ]


def test_a_long_recording_repeats_the_bundled_one(tmp_path: Path) -> None:
    growth.write_long(tmp_path / "long.wav", 30.0)
    samples, rate_hz = soundfile.read(tmp_path / "long.wav", dtype="int16")
    bundled, bundled_hz = soundfile.read(DATA / "noisy.flac", dtype="int16")
    assert rate_hz == bundled_hz
    np.testing.assert_array_equal(samples, np.resize(bundled, 30 * rate_hz))


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_memory_is_that_of_a_process_of_its_own(jobs: int) -> None:
    ballast = np.ones(400 << 17)  # 400 MiB that belong to this process alone
    taken = growth.file_memory(3.0, "seed", jobs)
    assert len(ballast)
    assert taken["audio_seconds"] == 3.0
    assert 0.0 < taken["processing_seconds"] < 30.0
    assert 20.0 < taken["peak_mb"] < 300.0
    with pytest.raises(RtdenError, match="denoising 3 s of sound failed"):
        growth.file_memory(3.0, "nosuchmodel", jobs)


@pytest.mark.parametrize(("longer_mb", "code"), [(50.4, 0), (79.0, 1)])
def test_everything_is_told_and_growing_memory_is_a_failure(
    longer_mb: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    taken = {(of["audio_seconds"], of["jobs"]): of for of in memory(longer_mb)}
    monkeypatch.setattr(
        growth, "measure_apart", lambda _, hops_per_step, seconds: step(hops_per_step)
    )
    monkeypatch.setattr(growth, "file_memory", lambda seconds, _, jobs: taken[seconds, jobs])
    monkeypatch.setattr(
        growth.Streams, "__init__", lambda self, _, jobs: setattr(self, "_pipes", [None] * jobs)
    )
    monkeypatch.setattr(growth.Streams, "__exit__", lambda *_: None)
    monkeypatch.setattr(
        growth.Streams,
        "most",
        lambda self, seconds: carried(40 * len(self._pipes), len(self._pipes)),
    )
    options: dict[str, Any] = {"jobs": 2, "results": tmp_path / "results"}
    if code:
        with pytest.raises(SystemExit) as caught:
            growth.main(**options)
        assert caught.value.code == code
    else:
        growth.main(**options)
    out, err = capsys.readouterr()
    assert ("29.0 MiB more" in err) == bool(code)
    assert (tmp_path / "results" / "growth.txt").read_text(encoding="utf-8") == out
    assert "      8   0.300 / 0.500 ms      12.30 ms" in out
    assert "        2        80   15.00 / 20.00 ms     23.22 ms    1.40" in out
    assert f"   3600 s      2     {longer_mb:.1f} MiB       36.0 s" in out
    figures = json.loads((tmp_path / "results" / "growth.json").read_bytes())
    assert [found["streams"] for found in figures["streams"]] == [40, 80]
    assert figures["growth_mb"] == pytest.approx(longer_mb - 50.0)
    assert (tmp_path / "results" / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_what_does_not_hold_is_said() -> None:
    text = growth.text_of([step(1)], [carried(1, 1, 30.0)], memory(50.0))
    assert "(does not hold)" in text


@pytest.mark.parametrize(
    "options",
    [
        {"hours": 0.0},
        {"hours": float("nan")},
        {"seconds": 1.0},
        {"jobs": 0},
        {"model": "nosuchmodel"},
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        growth.main(**options)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bench/growth.py: ")
    assert err.count("\n") == 1
