"""bench/growth.py: its files, the memory of a process of its own, its text."""

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


def step(hops: int) -> BenchResult:
    return BenchResult(
        "rtden", "none", hops, 20.0, 800, {}, TIMES, TIMES, 0.0123, 46.0, 55.0, 1217.0
    )


def carried(streams: int, jobs: int, threads: int, p99_ms: float = 19.0) -> StreamsResult:
    whole = Percentiles(15.0, 18.0, p99_ms)
    return StreamsResult("rtden", streams, jobs, threads, 20.0, TIMES, whole, 20.0, 0.7, 1.25)


def memory(longer_mb: float) -> list[dict[str, float]]:
    return [
        {"audio_seconds": seconds, "processing_seconds": 0.01 * seconds, "peak_mb": mb}
        for seconds, mb in ((60.0, 50.0), (3600.0, longer_mb))
    ]


def test_a_long_file_repeats_the_bundled_recording(tmp_path: Path) -> None:
    growth.write_long(tmp_path / "long.wav", 30.0)
    samples, rate_hz = soundfile.read(tmp_path / "long.wav", dtype="int16")
    bundled, bundled_hz = soundfile.read(DATA / "noisy.flac", dtype="int16")
    assert rate_hz == bundled_hz
    np.testing.assert_array_equal(samples, np.resize(bundled, 30 * rate_hz))


def test_the_memory_is_that_of_a_process_of_its_own() -> None:
    ballast = np.ones(400 << 17)  # 400 MiB that belong to this process alone
    taken = growth.file_memory(3.0, "seed")
    assert len(ballast)
    assert taken["audio_seconds"] == 3.0
    assert 20.0 < taken["peak_mb"] < 300.0
    with pytest.raises(RtdenError, match="denoising 3 s of sound failed"):
        growth.file_memory(3.0, "nosuchmodel")


@pytest.mark.parametrize(("longer_mb", "code"), [(50.4, 0), (79.0, 1)])
def test_growing_memory_is_a_failure(
    longer_mb: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    taken = {of["audio_seconds"]: of for of in memory(longer_mb)}
    monkeypatch.setattr(growth, "measure_apart", lambda _, hops, seconds: step(hops))
    monkeypatch.setattr(growth, "file_memory", lambda seconds, _: taken[seconds])
    found = [carried(40, 1, 1), carried(1, 2, 1, 30.0)]
    monkeypatch.setattr(growth, "carry_streams", lambda *_: found)
    options: dict[str, Any] = {"results": tmp_path / "results"}
    if code:
        with pytest.raises(SystemExit) as caught:
            growth.main(**options)
        assert caught.value.code == code
    else:
        growth.main(**options)
    out, _ = capsys.readouterr()
    assert (tmp_path / "results" / "growth.txt").read_text(encoding="utf-8") == out
    assert "            8   0.300 / 0.500 ms      12.30 ms" in out
    assert "        1              1        40   15.00 / 19.00 ms   0.70 cores   1.2 MiB\n" in out
    assert "(does not hold)" in out
    assert f"   3600 s     {longer_mb:.1f} MiB       36.0 s" in out
    figures = json.loads((tmp_path / "results" / "growth.json").read_bytes())
    assert [each["streams"] for each in figures["streams"]] == [40, 1]
    assert figures["growth_mb"] == pytest.approx(longer_mb - 50.0)


@pytest.mark.parametrize(
    "options", [{"hours": float("nan")}, {"seconds": 1.0}, {"jobs": 0}, {"model": "nosuchmodel"}]
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
