from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import DATA
from rig import Rig, SimulatedDevice
from signals import aligned_si_sdr_db, delay_samples
from soak import imbalance, soak

from rtden import Denoiser, Settings
from rtden.denoiser import algorithmic_latency
from rtden.errors import AudioFileError, SettingsError
from rtden.live.delay import EXCESS_SECONDS, TOLERATED_SECONDS
from rtden.live.endpoints import open_sink, open_source
from rtden.live.engine import LiveEngine
from rtden.live.fade import FADE_SECONDS
from rtden.live.plan import live_settings, settings_for_total_latency
from rtden.ring import Ring

RATE_HZ = 22050
UNITY = Settings(limit_db=0.0)


def test_sound_passes_at_the_delay_that_is_stated_and_nothing_is_lost() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=10.0)
    rig.run(8.0)
    status = rig.engine.status()
    assert (status.xruns, status.disconnects, status.lost_ms, status.state) == (
        0,
        0,
        0.0,
        "running",
    )
    assert status.latency_ms == pytest.approx(1000.0 * rig.delay_seconds(), abs=1.0)
    # As planned: what is kept ready is at its highest just after a step, and a step's length lower before it.
    assert rig.engine.latency.total_ms - 30 < status.latency_ms < rig.engine.latency.total_ms + 30


@pytest.mark.parametrize("ppm", [300.0, -300.0])
def test_two_clocks_become_one(ppm: float) -> None:
    """The delay stays within 5 ms, no sample is lost or missing; `bench/soak.py --hours 6 --no-faults` runs for longer."""
    rig = Rig(source_ppm=ppm / 2, sink_ppm=-ppm / 2, buffer_ms=30.0)
    rig.run(10.0)
    first, delays = rig.delay_seconds(), []
    for _ in range(30):
        rig.run(5.0)
        delays.append(rig.delay_seconds())
    assert max(abs(delay - first) for delay in delays) < 0.005
    status, counts = rig.engine.status(), rig.engine.counts
    assert status.drift_ppm == pytest.approx(ppm, abs=10.0)
    assert (status.xruns, counts.skipped, counts.dropped, rig.sink.ring.missing_samples) == (
        0,
        0,
        0,
        0,
    )


def test_a_drift_beyond_what_can_be_played_away_is_cut_now_and_then() -> None:
    rig = Rig(source_ppm=10000.0, buffer_ms=20.0)
    rig.run(30.0)
    status = rig.engine.status()
    assert status.dropouts >= 2
    assert rig.delay_seconds() < rig.engine.latency.total_ms / 1000 + EXCESS_SECONDS + 0.05


@pytest.mark.parametrize("side", ["source", "sink", "worker"])
@pytest.mark.parametrize("late_seconds", [0.05, 0.2])
def test_what_comes_late_is_counted_and_the_delay_does_not_grow(
    side: str, late_seconds: float
) -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=15.0)
    rig.run(6.0)
    before = rig.delay_seconds()
    steepest = rig.loudest_step
    for _ in range(3):
        if side == "worker":
            rig.worker_sleeps_until = rig.now + late_seconds
        else:
            rig.late_until[getattr(rig, side)] = rig.now + late_seconds
        rig.run(4.0)
    assert rig.delay_seconds() < before + EXCESS_SECONDS + 0.01
    status = rig.engine.status()
    if late_seconds > 0.1:
        assert status.dropouts >= 3
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)
    # No click: between two samples the sound moves by no more than a fade of the loudest step does.
    fade_samples = FADE_SECONDS * RATE_HZ
    assert rig.loudest_step < steepest + 1.0 * np.pi / 2 / fade_samples


def test_a_sink_that_rests_has_one_drop_out_however_long() -> None:
    """A sound server may take a second to start."""
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=15.0)
    for times, seconds in ((1, 0.9), (2, 0.5)):
        rig.late_until[rig.sink] = rig.now + seconds
        rig.run(6.0)
        assert rig.engine.status().dropouts == times
    assert rig.engine.status().lost_ms > 1000.0
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)


def test_latency_never_grows_when_the_worker_is_too_slow() -> None:
    """The worker gets a turn every 120 ms only: sound is skipped, what is played is recent."""
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=10.0)
    for _ in range(100):
        rig.worker_sleeps_until = rig.now + 0.105
        rig.run(0.12)
        waiting_ms = 1000.0 * (rig.sink.ring.fill_samples + rig.source.ring.fill_samples) / RATE_HZ
        assert waiting_ms < rig.engine.latency.buffer_ms + 1000 * EXCESS_SECONDS + 220
    assert rig.engine.status().dropouts > 50
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)


def test_the_buffer_grows_with_drop_outs_and_shrinks_in_quiet() -> None:
    rig = Rig(settings=Settings(limit_db=0.0, hops_per_step=8))
    rig.run(6.0)
    assert rig.engine.status().buffer_ms == 15.0
    for _ in range(3):
        rig.worker_sleeps_until = rig.now + 0.3
        rig.run(5.0)
    grown = rig.engine.status().buffer_ms
    assert grown == pytest.approx(15.0 * 1.5**3)
    rig.run(10.0)
    delay = rig.delay_seconds()
    rig.run(390.0)
    assert grown - 15.0 < rig.engine.status().buffer_ms < grown - 8.0
    shrunk_ms = grown - rig.engine.status().buffer_ms
    assert 1000.0 * (delay - rig.delay_seconds()) == pytest.approx(shrunk_ms, abs=3.0)
    assert (
        rig.engine.status().dropouts <= 7
    )  # each sleep one or two, and once the delay was cut back to what it had been


def test_a_buffer_that_is_given_stays() -> None:
    rig = Rig(buffer_ms=20.0)
    for _ in range(3):
        rig.run(4.0)
        rig.worker_sleeps_until = rig.now + 0.3
    rig.run(2.0)
    assert rig.engine.status().dropouts >= 3
    assert rig.engine.status().buffer_ms == 20.0


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_device_that_goes_away_and_comes_back_finds_the_delay_as_it_was(side: str) -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.run(6.0)
    before = rig.delay_seconds()
    getattr(rig, side).go_away(3.0)
    rig.run(1.0)
    word = {"source": "input microphone", "sink": "output loudspeakers"}[side]
    assert rig.engine.status().state.startswith(f"{word} lost, trying again in ")
    rig.run(9.0)
    status = rig.engine.status()
    assert (status.state, status.disconnects) == ("running", 1)
    assert status.buffer_ms == 15.0  # no buffer would have helped
    assert rig.delay_seconds() == pytest.approx(before, abs=0.03)
    assert status.lost_ms == 0.0 if side == "source" else 2500 < status.lost_ms < 6000
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)


def test_both_may_go_away_at_once_and_nothing_stale_is_played_nor_the_delay_larger_for_good() -> (
    None
):
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=40.0)
    rig.run(6.0)
    before = rig.delay_seconds()
    for device in (rig.source, rig.sink):
        device.go_away(2.0)
    rig.run(1.0)
    assert rig.sink.ring.fill_samples == 0
    while rig.engine.status().state != "running":
        rig.run(0.01)
    rig.late_until[rig.sink] = rig.now + 0.045  # it opens at once and plays a little later
    rig.run(12.0)
    status = rig.engine.status()
    assert (status.state, status.disconnects) == ("running", 2)
    assert rig.delay_seconds() == pytest.approx(before, abs=TOLERATED_SECONDS)
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)


def test_a_delay_that_has_grown_is_not_held() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=20.0)
    rig.run(8.0)
    before = rig.delay_seconds()
    rig.sink.ring.write(
        np.zeros(round(0.045 * RATE_HZ), np.float32)
    )  # less than what is dropped at once
    rig.engine._delay.drift.restart()
    rig.run(3.0)
    assert rig.delay_seconds() == pytest.approx(before + 0.045, abs=0.002)
    rig.run(8.0)
    assert rig.delay_seconds() == pytest.approx(before, abs=TOLERATED_SECONDS)
    assert rig.engine.status().dropouts == 1


@pytest.mark.parametrize("again", [False, True])
def test_what_a_start_by_fits_leaves_before_the_sink_is_cut_once(again: bool) -> None:
    """Where it is there again the device needs it: there is no cutting without end."""
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=20.0)
    rig.run(1.0)
    excess_seconds = 0.03
    rig.sink.ring.write(np.zeros(round(excess_seconds * RATE_HZ), np.float32))
    rig.engine._delay.drift.restart()
    for _ in range(80):  # eight seconds; it is held after five
        rig.run(0.1)
        if rig.engine.status().dropouts:
            break
    if again:
        rig.sink.ring.write(np.zeros(round(excess_seconds * RATE_HZ), np.float32))
    rig.run(15.0)
    assert rig.engine.status().dropouts == 1
    assert rig.delay_seconds() == pytest.approx(
        rig.engine.latency.total_ms / 1000.0 + excess_seconds * again, abs=0.002
    )


def test_a_device_may_come_back_with_another_rate() -> None:
    rig = Rig(source_hz=16000, sink_hz=RATE_HZ)
    rig.run(5.0)
    rig.source.go_away(1.0)
    rig.source.rate_hz = 8000
    rig.source.block_samples //= 2
    rig.source.ring = Ring(2 * 8000)
    rig.run(8.0)
    assert rig.engine.status().state == "running"
    assert 0.05 < rig.delay_seconds() < 0.25


@pytest.mark.parametrize("wish_ms", [70.0, 90.0, 150.0, 400.0])
def test_a_wished_latency_is_what_one_gets(wish_ms: float) -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    settings, buffer_ms = settings_for_total_latency(wish_ms, rig.source, rig.sink, settings=UNITY)
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, settings=settings, buffer_ms=buffer_ms)
    rig.run(6.0)
    assert rig.engine.latency.total_ms == pytest.approx(wish_ms, abs=2.0)
    # The plan is for blocks and steps that meet at their worst; at their best a step and a block less will do.
    best_ms = wish_ms - 1000.0 * (settings.hops_per_step * 512 / RATE_HZ + rig.sink.block_seconds)
    assert best_ms - 2.0 < 1000.0 * rig.delay_seconds() < wish_ms + 2.0


def test_a_wish_beyond_reach_gets_the_least_there_is_and_one_for_the_buffer_is_kept() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    settings, buffer_ms = settings_for_total_latency(10.0, rig.source, rig.sink)
    assert (settings.hops_per_step, settings.overlap_samples, buffer_ms) == (1, 32, 5.0)
    assert settings_for_total_latency(200.0, rig.source, rig.sink, buffer_ms=33.0)[1] == 33.0


def test_live_sound_takes_30_ms_of_the_algorithm_where_a_step_is_one_frame() -> None:
    assert algorithmic_latency(Denoiser().spec, live_settings()).seconds == pytest.approx(
        0.030, abs=1e-4
    )
    assert live_settings(Settings(hops_per_step=4)).overlap_samples is None


def test_bypass_mute_and_strength_act_while_running() -> None:
    # Of a tone of 2 Hz the network leaves next to nothing, by chance a little more or less: the limit says how much is to be heard.
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, settings=Settings(limit_db=20.0))
    rig.run(4.0)
    engine = rig.engine
    removed = rig.heard_rms()
    engine.bypassed = True
    steepest = rig.loudest_step
    rig.run(4.0)
    assert rig.heard_rms() == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert removed < 0.5 * rig.heard_rms()  # 2 Hz is no speech
    assert rig.delay_seconds() == pytest.approx(engine.status().latency_ms / 1000, abs=0.001)
    assert rig.loudest_step < steepest + 0.02
    engine.muted = True
    rig.run(4.0)
    assert rig.heard_rms() == 0.0
    engine.muted = engine.bypassed = False
    engine.strength = 2.0
    assert engine.strength == 1.0
    rig.run(4.0)
    assert rig.heard_rms() == pytest.approx(removed, rel=0.02)


def test_a_quarter_of_an_hour_with_faults_leaves_every_sample_accounted_for() -> None:
    rig, spans = soak(0.25, seed=3, drift_ppm=100.0, faults=True, hops_per_step=8)
    assert sum(span.faults for span in spans) >= 3
    assert not imbalance(rig.engine.counts, inside=rig.source.rate_hz)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="buffer_ms"):
        Rig(buffer_ms=-1.0)


def finish(engine: LiveEngine, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    try:
        engine.start()
        while engine.running:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        engine.stop()


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("source_hz", "channels"),
    [(22050, 1), (48000, 2), (16000, 1), (8000, 1), (32000, 1), (44100, 2), (96000, 1)],
)
def test_a_recording_runs_through_at_the_pace_of_the_clock(
    tmp_path: Path, source_hz: int, channels: int
) -> None:
    seconds = np.arange(2 * source_hz) / source_hz
    signal = (0.3 * np.sin(2 * np.pi * (200 + 400 * seconds) * seconds)).astype(np.float32)
    soundfile.write(
        tmp_path / "in.wav", np.stack([signal] * channels, axis=1), source_hz, subtype="FLOAT"
    )
    source = open_source(str(tmp_path / "in.wav"))
    engine = LiveEngine(
        source,
        open_sink(str(tmp_path / "out.flac"), rate_hz=source.rate_hz),
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
    assert abs(1000 * delay / source_hz - engine.latency.total_ms) < 20
    assert aligned_si_sdr_db(signal, played) > 30  # unchanged at gain one
    noisy, cleaned = (
        soundfile.read(tmp_path / "kept" / f"{name}.wav", dtype="float32")[0]
        for name in ("noisy", "cleaned")
    )
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


@pytest.mark.real_time
@pytest.mark.parametrize(
    "options", [["--out", "out.wav"], ["--out", "out.wav", "--record", "kept"]]
)
def test_a_full_disk_ends_live_with_a_sentence_and_keeps_what_was_written_until_then(
    tmp_path: Path, options: list[str]
) -> None:
    """The limit on the size of a file makes the write fail for real, as a full disk does."""
    code = "import resource; from rtden.app.main import app; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); app()"
    command = [sys.executable, "-c", code, "live", "--in", str(DATA / "noisy.flac"), *options]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
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


@pytest.mark.real_time
def test_a_recording_that_is_damaged_midway_ends_live_with_a_sentence(tmp_path: Path) -> None:
    whole = (DATA / "noisy.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 6])
    command = [
        sys.executable,
        "-m",
        "rtden",
        "live",
        "--in",
        "cut.flac",
        "--out",
        "out.wav",
    ]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("rtden: cut.flac is ")


@pytest.mark.parametrize(
    "options", [["--out", "in.flac"], ["--out", "kept/cleaned.wav", "--record", "kept"]]
)
def test_no_file_is_both_read_and_written_or_written_twice(
    tmp_path: Path, options: list[str]
) -> None:
    original = (DATA / "noisy.flac").read_bytes()
    (tmp_path / "in.flac").write_bytes(original)
    command = [
        sys.executable,
        "-m",
        "rtden",
        "live",
        "--in",
        "in.flac",
        "--force",
        *options,
    ]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "are one file" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.flac"]
    assert (tmp_path / "in.flac").read_bytes() == original


def test_what_a_source_wrote_before_it_ended_is_processed() -> None:
    """The last block arrives between the worker's look at the ring and its look at the source."""
    source, sink = (
        LastMoment("microphone", RATE_HZ, 220, time.perf_counter),
        SimulatedDevice("loudspeakers", RATE_HZ, 220, time.perf_counter),
    )
    engine = LiveEngine(source, sink, settings=UNITY)
    engine._drain = lambda: None
    engine._run()
    assert engine._error is None
    assert engine.source.ring.fill_samples == 0
    assert engine.sink.ring.written_samples >= 3000


class LastMoment(SimulatedDevice):
    """A source that writes its only block, and ends, at the moment at which it is asked whether it has ended."""

    @property
    def exhausted(self) -> bool:
        if not self.ring.written_samples:
            self.ring.write(np.full(3000, 0.1, np.float32))
        return True
