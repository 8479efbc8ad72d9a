from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import DATA
from signals import aligned_si_sdr_db, delay_samples

from rtden import Settings
from rtden.errors import AudioFileError, DeviceError, SettingsError
from rtden.live import EXCESS_SECONDS, LiveEngine, open_sink, open_source
from rtden.ring import Ring

RATE_HZ = 22050
BLOCK = 221
UNITY = Settings(limit_db=0.0)


class Hand:
    """A device whose callbacks the test makes itself."""

    name = "hand"
    latency_seconds = 0.0
    running = True
    exhausted = False
    flagged_blocks = 0
    block_samples = BLOCK
    channels = 1

    def __init__(self, rate_hz: int = RATE_HZ) -> None:
        self.rate_hz = rate_hz
        self.ring = Ring(2 * rate_hz)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take(self, samples: int = BLOCK) -> np.ndarray:
        """Do what an output callback does."""
        block = np.zeros((samples, 1), np.float32)
        if self.ring.written_samples:
            self.ring.read_into(block)
        return block[:, 0]


@pytest.fixture
def engine() -> LiveEngine:
    """Return an engine that does not run: the test calls what its worker would."""
    return LiveEngine(Hand(), Hand(), settings=UNITY, buffer_ms=10.0)


def work(engine: LiveEngine) -> None:
    """Do what the worker does until nothing waits."""
    ring = engine.source.ring
    while ring.fill_samples:
        engine._skip_backlog(ring)
        engine._process(engine._chunk[: min(ring.fill_samples, len(engine._chunk))])


def ramp(blocks: int, start: int = 0) -> np.ndarray:
    """A signal by which every sample can be told: a slow sweep between -0.5 and 0.5."""
    return 0.5 * np.sin(np.cumsum(np.linspace(0.001, 0.5, (start + blocks) * BLOCK)))[start * BLOCK :].astype(np.float32)


def run(engine: LiveEngine, signal: np.ndarray) -> np.ndarray:
    played = []
    for at in range(0, len(signal), BLOCK):
        engine.source.ring.write(signal[at : at + BLOCK])
        work(engine)
        played.append(engine.sink.take())
    return np.concatenate(played)


def test_sound_passes_at_the_planned_delay_and_nothing_is_lost(engine: LiveEngine) -> None:
    signal = ramp(400)
    played = run(engine, signal)
    delay = delay_samples(played, signal)
    # The engine's clock starts with the first step's block: up to a block of each side may be counted either way.
    assert abs(delay - engine.latency.total_ms * RATE_HZ / 1000) <= 2 * BLOCK
    np.testing.assert_allclose(played[delay:], signal[: len(signal) - delay], atol=1e-5)
    status = engine.status()
    assert status.xruns == 0
    assert status.lost_ms == 0


def test_after_the_output_ran_dry_the_delay_is_as_planned_again(engine: LiveEngine) -> None:
    signal = ramp(600)
    run(engine, signal[: 200 * BLOCK])
    for at in range(200, 215):  # the worker sleeps for 150 ms
        engine.source.ring.write(signal[at * BLOCK : (at + 1) * BLOCK])
        engine.sink.take()
    rest = signal[215 * BLOCK :]
    played = run(engine, rest)
    assert abs(delay_samples(played[100 * BLOCK :], rest[100 * BLOCK :]) - engine.latency.total_ms * RATE_HZ / 1000) <= 2 * BLOCK
    status = engine.status()
    assert status.dropouts >= 1
    assert 60 < status.lost_ms < 200


def test_latency_never_grows_when_the_worker_is_too_slow(engine: LiveEngine) -> None:
    """The worker gets a turn every 12th block only: sound is skipped, what is played is recent."""
    signal, played = ramp(1200), []
    for block in range(1200):
        engine.source.ring.write(signal[block * BLOCK : (block + 1) * BLOCK])
        if block % 12 == 0:
            work(engine)
        played.append(engine.sink.take())
        waiting_ms = 1000.0 * (engine.sink.ring.fill_samples + engine.source.ring.fill_samples) / RATE_HZ
        assert waiting_ms < engine.latency.buffer_ms + 1000 * EXCESS_SECONDS + 12 * 10 + 100
    assert engine.status().dropouts > 50


def test_a_sink_that_is_slower_than_the_source_does_not_pile_up_delay(engine: LiveEngine) -> None:
    signal = ramp(3000)
    for block in range(3000):
        engine.source.ring.write(signal[block * BLOCK : (block + 1) * BLOCK])
        work(engine)
        engine.sink.take(BLOCK - 2)  # a clock 1 % slow
        assert engine.sink.ring.fill_samples < engine._planned_samples + EXCESS_SECONDS * RATE_HZ + 2 * 512
    status = engine.status()
    assert status.dropouts >= 2
    # In = out + what waits + what was counted as lost.
    assert status.lost_ms > 0


def test_every_sample_is_accounted_for(engine: LiveEngine) -> None:
    rng = np.random.default_rng(3)
    engine = LiveEngine(Hand(), Hand(), settings=UNITY, buffer_ms=10.0)
    written = 0
    for _ in range(3000):
        engine.source.ring.write(np.zeros(BLOCK, np.float32))
        written += BLOCK
        if rng.random() < 0.7:
            work(engine)
        engine.sink.take(int(rng.integers(150, 290)))
    work(engine)
    source, sink = engine.source.ring, engine.sink.ring
    stream = engine._stream
    assert written == source.lost_samples + stream._fed_samples
    assert stream._fed_samples - stream._given_samples <= stream.denoisers[0].latency.samples
    padding = sink.written_samples - stream._given_samples
    assert padding >= 0


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="buffer_ms"):
        LiveEngine(Hand(), Hand(), buffer_ms=-1.0)


def test_a_device_that_stops_ends_the_engine_with_a_sentence() -> None:
    sink = Hand()
    engine = LiveEngine(Hand(), sink, settings=UNITY)
    engine.start()
    try:
        assert engine.running
        sink.running = False
        with pytest.raises(DeviceError, match="output device hand has stopped"):
            _ = engine.running
    finally:
        engine.stop()


def finish(engine: LiveEngine, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    try:
        engine.start()
        while engine.running:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        engine.stop()


@pytest.mark.parametrize(("source_hz", "channels"), [(22050, 1), (48000, 2), (16000, 1)])
def test_a_recording_runs_through_at_the_pace_of_the_clock(tmp_path: Path, source_hz: int, channels: int) -> None:
    seconds = np.arange(2 * source_hz) / source_hz
    signal = (0.3 * np.sin(2 * np.pi * (200 + 400 * seconds) * seconds)).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", np.stack([signal] * channels, axis=1), source_hz, subtype="FLOAT")
    source = open_source(str(tmp_path / "in.wav"))
    engine = LiveEngine(source, open_sink(str(tmp_path / "out.flac"), rate_hz=source.rate_hz), settings=UNITY, buffer_ms=200.0, record=tmp_path / "kept")
    began = time.monotonic()
    finish(engine)
    assert 2.0 < time.monotonic() - began < 10.0
    status = engine.status()
    assert status.xruns == 0, "the machine was too busy for a 200 ms buffer"
    played, rate_hz = soundfile.read(tmp_path / "out.flac", dtype="float32")
    assert rate_hz == source_hz
    delay = delay_samples(played, signal)
    assert abs(1000 * delay / source_hz - engine.latency.total_ms) < 20
    assert aligned_si_sdr_db(signal, played) > 30  # unchanged at gain one
    noisy, cleaned = (soundfile.read(tmp_path / "kept" / f"{name}.wav", dtype="float32")[0] for name in ("noisy", "cleaned"))
    assert len(noisy) == len(cleaned) == len(signal)
    assert delay_samples(cleaned, noisy) / source_hz < 2e-4
    assert aligned_si_sdr_db(noisy, cleaned) > 30


def test_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.wav").write_bytes(b"precious")
    with pytest.raises(AudioFileError, match="exists already"):
        open_sink(str(tmp_path / "out.wav"), rate_hz=RATE_HZ)
    assert (tmp_path / "out.wav").read_bytes() == b"precious"


def test_an_engine_that_never_ran_leaves_no_file(tmp_path: Path) -> None:
    sink = open_sink(str(tmp_path / "out.wav"), rate_hz=RATE_HZ)
    sink.stop()
    assert not list(tmp_path.iterdir())


def test_a_missing_recording_is_named() -> None:
    with pytest.raises(AudioFileError, match=r"no file nonesuch\.wav"):
        open_source("nonesuch.wav")


@pytest.mark.parametrize("options", [["--out", "out.wav"], ["--out", "out.wav", "--record", "kept"]])
def test_a_full_disk_ends_live_with_a_sentence_and_keeps_what_was_written_until_then(tmp_path: Path, options: list[str]) -> None:
    """The limit on the size of a file makes the write fail for real, as a full disk does."""
    code = "import resource; from rtden.cli import app; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); app()"
    command = [sys.executable, "-c", code, "live", "--in", str(DATA / "noisy.flac"), *options]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("rtden: ")
    assert "could not be written to its end" in ended.stderr
    assert ended.stderr.count("\n") == 1
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert path.suffix == ".wav"
        samples, rate_hz = soundfile.read(path)
        assert 0.2 * rate_hz < len(samples) <= 20000


def test_a_recording_that_is_damaged_midway_ends_live_with_a_sentence(tmp_path: Path) -> None:
    whole = (DATA / "noisy.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 6])
    command = [sys.executable, "-m", "rtden.cli", "live", "--in", "cut.flac", "--out", "out.wav"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("rtden: cut.flac is ")


@pytest.mark.parametrize("options", [["--out", "in.flac"], ["--out", "kept/cleaned.wav", "--record", "kept"]])
def test_no_file_is_both_read_and_written_or_written_twice(tmp_path: Path, options: list[str]) -> None:
    original = (DATA / "noisy.flac").read_bytes()
    (tmp_path / "in.flac").write_bytes(original)
    command = [sys.executable, "-m", "rtden.cli", "live", "--in", "in.flac", "--force", *options]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "are one file" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.flac"]
    assert (tmp_path / "in.flac").read_bytes() == original


def test_what_a_source_wrote_before_it_ended_is_processed() -> None:
    """The last block arrives between the worker's look at the ring and its look at the source."""
    engine = LiveEngine(LastMoment(), Hand(), settings=UNITY)
    engine.sink.ring = Ring(4 * RATE_HZ)
    engine._drain = lambda: None
    engine._run()
    assert engine._error is None
    assert engine.source.ring.fill_samples == 0
    assert engine.sink.ring.written_samples >= 3000


class LastMoment(Hand):
    """A source that writes its only block, and ends, at the moment at which it is asked whether it has ended."""

    @property
    def exhausted(self) -> bool:
        if not self.ring.written_samples:
            self.ring.write(ramp(20)[:3000])
        return True
