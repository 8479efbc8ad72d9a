"""Live sound from file to file, in real time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import ended, rtden
from conftest import DATA
from signals import aligned_si_sdr_db, delay_samples
from waiting import until

from rtden import Settings
from rtden.live.engine import LiveEngine
from rtden.live.file_endpoints import FileSink, FileSource

UNITY = Settings(limit_db=0.0)


def finish(engine: LiveEngine) -> None:
    try:
        engine.start()
        until(lambda: not engine.running)
    finally:
        engine.stop()


@pytest.mark.real_time
@pytest.mark.parametrize(("source_hz", "channels"), [(22050, 1), (48000, 2), (16000, 1)])
def test_a_recording_runs_through_at_the_pace_of_the_clock(
    tmp_path: Path, source_hz: int, channels: int
) -> None:
    seconds = np.arange(2 * source_hz) / source_hz
    signal = (0.3 * np.sin(2 * np.pi * (200 + 400 * seconds) * seconds)).astype(np.float32)
    soundfile.write(
        tmp_path / "in.wav", np.stack([signal] * channels, axis=1), source_hz, subtype="FLOAT"
    )
    source = FileSource(tmp_path / "in.wav")
    engine = LiveEngine(
        source,
        FileSink(tmp_path / "out.flac", source.rate_hz),
        settings=UNITY,
        buffer_ms=200.0,
        record=tmp_path / "kept",
    )
    began = time.monotonic()
    finish(engine)
    assert 2.0 < time.monotonic() - began < 10.0
    status = engine.status()
    assert status.xruns == 0, "the machine was too busy for a 200 ms buffer"
    played, rate_hz = soundfile.read(tmp_path / "out.flac", dtype="float32")
    assert rate_hz == source_hz
    delay = delay_samples(played, signal)
    assert abs(1000 * delay / source_hz - engine.latency.total_ms) < 30
    assert aligned_si_sdr_db(signal, played) > 30  # unchanged at gain one
    noisy, cleaned = (
        soundfile.read(tmp_path / "kept" / f"{name}.wav", dtype="float32")[0]
        for name in ("noisy", "cleaned")
    )
    assert len(noisy) == len(cleaned) == len(signal)
    assert delay_samples(cleaned, noisy) / source_hz < 2e-4
    assert aligned_si_sdr_db(noisy, cleaned) > 30


@pytest.mark.parametrize(
    "options", [["--out", "out.wav"], ["--out", "out.wav", "--record", "kept"]]
)
def test_a_full_disk_ends_live_with_a_sentence_and_keeps_what_was_written_until_then(
    tmp_path: Path, options: list[str]
) -> None:
    """The limit on the size of a file makes the write fail for real, as a full disk does."""
    code = (
        "import resource; from rtden.app.main import app; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); app()"
    )
    command = [sys.executable, "-c", code, "live", "--in", str(DATA / "noisy.flac"), *options]
    done = ended(command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("rtden: ")
    assert "could not be written to its end" in done.stderr
    assert done.stderr.count("\n") == 1
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert path.suffix == ".wav"
        samples, rate_hz = soundfile.read(path)
        assert 0.2 * rate_hz < len(samples) <= 20000


def test_a_recording_that_is_damaged_midway_ends_live_with_a_sentence(tmp_path: Path) -> None:
    whole = (DATA / "noisy.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 6])
    done = rtden("live", "--in", "cut.flac", "--out", "out.wav", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("rtden: cut.flac is ")
