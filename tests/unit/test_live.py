from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rig import Rig, SimulatedDevice
from soak import imbalance, soak

from rtden import Denoiser, Settings
from rtden.denoiser import algorithmic_latency
from rtden.errors import AudioFileError, SettingsError
from rtden.live.delay import EXCESS_SECONDS, LONGEST_BUFFER_SECONDS, TOLERATED_SECONDS
from rtden.live.endpoint import FADE_SECONDS, Endpoint
from rtden.live.engine import LiveEngine
from rtden.live.file_endpoints import FileSink, FileSource
from rtden.live.path import Controls, SoundPath
from rtden.live.plan import live_settings, settings_for_total_latency
from rtden.live.recorder import Recorder
from rtden.live.worker import REST_SECONDS
from rtden.ring import Ring

RATE_HZ = 22050
UNITY = Settings(limit_db=0.0)


@pytest.fixture(autouse=True)
def _small_network(carried_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gain but one is heard here: what a network does matters little, its frames do."""
    monkeypatch.setattr("rtden.model.DEFAULT_MODEL", str(carried_model))


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
    # As planned: what is kept ready is at its highest just after a step, and a step's length lower
    # before it.
    assert rig.engine.latency.total_ms - 30 < status.latency_ms < rig.engine.latency.total_ms + 30


def test_two_clocks_become_one() -> None:
    """test_delay.py runs the policy for an hour, `bench/soak.py --hours 6 --no-faults`
    all of it.
    """
    ppm = 300.0
    rig = Rig(source_ppm=ppm / 2, sink_ppm=-ppm / 2, buffer_ms=30.0)
    rig.run(10.0)
    first, delays = rig.delay_seconds(), []
    for _ in range(8):
        rig.run(5.0)
        delays.append(rig.delay_seconds())
    assert max(abs(delay - first) for delay in delays) < 0.005
    status, counts = rig.engine.status(), rig.engine.counts
    assert status.drift_ppm == pytest.approx(ppm, abs=50.0)
    assert (status.xruns, counts.skipped, counts.dropped, rig.sink.ring.missing_samples) == (
        0,
        0,
        0,
        0,
    )


def test_a_drift_beyond_what_can_be_played_away_is_cut_now_and_then() -> None:
    rig = Rig(source_ppm=10000.0, buffer_ms=20.0)
    rig.run(15.0)
    status = rig.engine.status()
    assert status.dropouts >= 2
    assert rig.delay_seconds() < rig.engine.latency.total_ms / 1000 + EXCESS_SECONDS + 0.05


@pytest.mark.parametrize("side", ["source", "sink", "worker"])
def test_what_comes_late_is_counted_and_the_delay_does_not_grow(side: str) -> None:
    late_seconds = 0.2
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, buffer_ms=15.0)
    rig.run(4.0)
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
    assert status.dropouts >= 3
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)
    # No click: between two samples the sound moves by no more than a fade of the loudest step does.
    fade_samples = FADE_SECONDS * RATE_HZ
    assert rig.loudest_step < steepest + 1.0 * np.pi / 2 / fade_samples


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_device_that_goes_away_and_comes_back_finds_the_delay_as_it_was(side: str) -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.run(4.0)
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


def test_a_device_may_come_back_with_another_rate() -> None:
    rig = Rig(source_hz=16000, sink_hz=RATE_HZ)
    rig.late_until[rig.sink] = 1.0  # what waits for it meanwhile is not lost
    rig.run(5.0)
    assert rig.engine.counts.dropped > 0.5 * RATE_HZ
    rig.source.go_away(1.0)
    rig.source.rate_hz = 8000
    rig.source.block_samples //= 2
    rig.source.ring = Ring(2 * 8000)
    rig.run(8.0)
    status = rig.engine.status()
    assert (status.state, status.lost_ms) == ("running", 0.0)
    assert 0.05 < rig.delay_seconds() < 0.25


def test_a_recording_goes_on_though_a_device_comes_back_with_other_rates_and_channels(
    tmp_path: Path,
) -> None:
    recorder = Recorder(tmp_path, 48000, 44100, channels=2)
    for rate_hz, channels in ((48000, 2), (16000, 1), (48000, 2)):
        source, sink = (Endpoint(name, rate_hz, channels) for name in ("source", "sink"))
        path = SoundPath(source, sink, Controls(), channels=2)
        assert path.channels == channels
        tone = np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz).astype(np.float32)
        mixed = path.mix(np.repeat(tone[:, None], channels, axis=1))
        recorder.put("noisy", mixed, rate_hz)
        recorder.put("cleaned", mixed, rate_hz)
    recorder.stop()
    for name, rate_hz in (("noisy", 48000), ("cleaned", 44100)):
        samples, kept_hz = soundfile.read(tmp_path / f"{name}.wav", always_2d=True)
        assert (kept_hz, samples.shape[1]) == (rate_hz, 2)
        assert len(samples) == pytest.approx(3 * rate_hz, abs=0.01 * rate_hz)
        tones = np.abs(np.fft.rfft(samples[:, 1]))
        assert np.argmax(tones) / (len(samples) / rate_hz) == pytest.approx(440, abs=1.0)
    assert recorder.error is None


@pytest.mark.parametrize("wish_ms", [70.0, 90.0, 150.0, 400.0])
def test_a_wished_latency_is_what_one_gets(wish_ms: float) -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    settings, buffer_ms = settings_for_total_latency(wish_ms, rig.source, rig.sink, settings=UNITY)
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, settings=settings, buffer_ms=buffer_ms)
    rig.run(4.0)
    assert rig.engine.latency.total_ms == pytest.approx(wish_ms, abs=2.0)
    # The plan is for blocks and steps that meet at their worst; at their best a step and a block
    # less will do.
    best_ms = wish_ms - 1000.0 * (settings.hops_per_step * 512 / RATE_HZ + rig.sink.block_seconds)
    assert best_ms - 2.0 < 1000.0 * rig.delay_seconds() < wish_ms + 2.0


def test_a_wish_beyond_reach_gets_the_least_there_is_and_one_for_the_buffer_is_kept() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    settings, buffer_ms = settings_for_total_latency(10.0, rig.source, rig.sink)
    assert (settings.hops_per_step, settings.overlap_samples, buffer_ms) == (1, 32, 5.0)
    assert settings_for_total_latency(200.0, rig.source, rig.sink, buffer_ms=33.0)[1] == 33.0


def test_a_wish_beyond_the_longest_buffer_is_refused() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    for wish_ms in (math.inf, 5000.0):
        with pytest.raises(SettingsError, match=f"most, not {wish_ms:g} ms; give less") as refused:
            settings_for_total_latency(wish_ms, rig.source, rig.sink)
    most_ms = float(str(refused.value).split(" is ")[1].split(" ms")[0])
    buffer_ms = settings_for_total_latency(most_ms - 1.0, rig.source, rig.sink)[1]
    assert buffer_ms == pytest.approx(1000.0 * LONGEST_BUFFER_SECONDS, abs=2.0)
    with pytest.raises(SettingsError, match="give less"):
        settings_for_total_latency(most_ms + 1.0, rig.source, rig.sink)


def test_live_sound_takes_30_ms_of_the_algorithm_where_a_step_is_one_frame() -> None:
    assert algorithmic_latency(Denoiser().spec, live_settings()).seconds == pytest.approx(
        0.030, abs=1e-4
    )
    assert live_settings(Settings(hops_per_step=4)).overlap_samples is None


@pytest.mark.parametrize("rates", [(16000, 48000), (48000, 16000), (8000, 22050), (44100, 48000)])
def test_two_rates_take_one_way_down_and_one_up_where_they_allow_it(rates: tuple[int, int]) -> None:
    """The delay is the planned one, and drift between the clocks is followed at any pair
    of rates.
    """
    source_hz, sink_hz = rates
    rig = Rig(source_hz=source_hz, sink_hz=sink_hz, settings=UNITY, sink_ppm=-100.0)
    rig.run(4.0)
    status, engine = rig.engine.status(), rig.engine
    assert (status.xruns, status.lost_ms) == (0, 0.0)
    assert status.latency_ms == pytest.approx(1000.0 * rig.delay_seconds(), abs=1.5)
    assert engine.latency.total_ms - 30 < status.latency_ms < engine.latency.total_ms + 30
    assert rig.heard_rms() == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert engine.worker.path.resampling_seconds < (0.006 if 44100 in rates else 0.0055)
    rest = engine.worker.path.flush()
    counts = engine.counts
    owed = counts.taken * sink_hz / source_hz - counts.returned
    assert len(rest) == pytest.approx(owed, abs=4 + 100e-6 * counts.returned)
    assert np.abs(rest).max() < 0.55


def test_bypass_mute_and_strength_act_while_running() -> None:
    # Of a tone of 2 Hz the network leaves next to nothing, by chance a little more or less: the
    # limit says how much is to be heard.
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ, settings=Settings(limit_db=20.0), model="rtden")
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
    engine.strength = 1.0
    rig.run(4.0)
    assert rig.heard_rms() == pytest.approx(removed, rel=0.02)


def test_a_minute_with_faults_leaves_every_sample_accounted_for() -> None:
    # Of this seed, half a minute without a device, a late sink, and a late worker, twice
    rig, spans = soak(0.02, seed=1987, drift_ppm=100.0, faults=True, hops_per_step=8)
    assert sum(span.faults for span in spans) == 4
    assert spans[-1].disconnects == 1
    assert not imbalance(rig.engine.counts, inside=rig.source.rate_hz)


def test_samples_that_are_not_finite_or_absurd_are_silence() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.run(3.0)
    for fault in (np.inf, -np.inf, np.nan, 1e30):
        rig.source.ring.write(np.full(50, fault, np.float32))
        rig.run(0.5)
        status = rig.engine.status()
        assert status.input_peak_db < 0.0
        assert np.isfinite([status.input_db, status.output_db]).all()
    rig.run(3.0)
    assert rig.heard_rms() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)  # as before
    assert np.isfinite(rig.engine.status().noise_removed_db)


def test_digital_silence_is_passed_on_without_work_and_the_delay_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.run(4.0)
    before, path = rig.delay_seconds(), rig.engine.worker.path
    rig.level = 0.0
    rig.run(7.0)
    assert path.idle
    with monkeypatch.context() as patch:
        patch.setattr(path.denoisers[0], "feed", lambda _: pytest.fail("silence was denoised"))
        turns = count_turns(rig, patch)
        rig.run(20.0)
    assert len(turns) <= 20.0 / REST_SECONDS + 2
    assert rig.heard_rms() == 0.0
    rig.level = 0.5
    rig.run(rig.source.block_seconds)
    rig.level = 0.0
    rig.run(0.5 * REST_SECONDS)
    assert rig.heard_rms() > 0.0  # a single block ends the rest
    rig.run(7.0)
    rig.level = 0.5
    rig.run(4.0)
    assert not path.idle
    assert rig.delay_seconds() == pytest.approx(before, abs=0.003)
    assert (rig.engine.status().xruns, rig.engine.status().lost_ms) == (0, 0.0)
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)


def test_a_worker_that_is_late_in_digital_silence_rests_as_soon_as_otherwise() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.level = 0.0
    rig.run(4.0)
    rig.worker_sleeps_until = rig.now + 0.3
    rig.run(2.0)
    assert rig.engine.status().lost_ms > 0.0
    assert rig.engine.worker.path.idle


@pytest.mark.parametrize("side", ["source", "sink", "late sink"])
def test_what_befalls_a_device_in_digital_silence_is_over_when_sound_comes(side: str) -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.run(4.0)
    before = rig.delay_seconds()
    rig.level = 0.0
    rig.run(7.0)
    if side == "late sink":
        rig.late_until[rig.sink] = rig.now + 0.2
    else:
        getattr(rig, side).go_away(3.0)
    rig.run(7.0)
    rig.level = 0.5
    rig.run(4.0)
    assert rig.engine.status().state == "running"
    assert rig.delay_seconds() == pytest.approx(before, abs=0.03)
    assert not imbalance(rig.engine.counts, inside=RATE_HZ)


def count_turns(rig: Rig, patch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the time of each turn of the worker from now on."""
    turns: list[float] = []
    work = rig.engine.worker.work

    def noted() -> bool:
        worked = work()
        turns.extend([rig.now] * worked)
        return worked

    patch.setattr(rig.engine.worker, "work", noted)
    return turns


@pytest.mark.parametrize("source_hz", [48000, 16000])
def test_the_worker_has_a_turn_for_every_step_and_then_for_every_other(
    source_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(source_hz=source_hz, sink_hz=48000)
    noted = count_turns(rig, monkeypatch)
    rig.run(7.0)
    turns = np.array(noted)
    # Three seconds show that the sink's ring can spare a step: then a turn takes two.
    single, paired = turns[turns < 3.0], turns[turns > 4.0]
    assert len(single) == pytest.approx(3.0 * RATE_HZ / 256, rel=0.05)
    assert len(paired) == pytest.approx(3.0 * RATE_HZ / 512, rel=0.02)
    for kind, step in ((single, 256), (paired, 512)):
        assert (
            max(np.diff(kind)) < step / RATE_HZ + 0.011
        )  # no later than the block that completes it


@pytest.mark.parametrize(("source_hz", "phase_ms"), [(48000, 1.0), (22050, 5.0), (48000, 9.0)])
def test_the_delay_is_the_plan_and_the_phase_of_the_devices_blocks(
    source_hz: int, phase_ms: float
) -> None:
    """The sound of three blocks of 10 ms completes the first output; 35 ms are kept ready."""
    rig = Rig(
        source_hz=source_hz,
        sink_hz=48000,
        phase_seconds=0.001 * phase_ms,
        settings=live_settings(UNITY),
    )
    rig.run(5.0)
    assert 1000.0 * rig.delay_seconds() == pytest.approx(65.0 + phase_ms, abs=0.2)
    assert rig.engine.status().dropouts == 0


def test_a_source_need_not_hand_over_less_than_a_step() -> None:
    """With what it wants the next step is complete, and with a sample less it is not."""
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.run(3.0)
    source, worker = rig.source, rig.engine.worker
    wanted = source.wanted_samples()
    assert 0 < wanted <= 256
    source.ring.write(np.zeros(wanted - 1, np.float32))
    assert source.wanted_samples() == 1
    assert not worker.work()
    source.ring.write(np.zeros(1, np.float32))
    assert worker.work()
    assert source.wanted_samples() == 256


@pytest.mark.parametrize("stereo", [False, True])
def test_mono_goes_to_every_channel_of_a_device_and_stereo_channel_for_channel(
    stereo: bool,
) -> None:
    source, sink = (
        SimulatedDevice(name, RATE_HZ, 220, time.perf_counter) for name in ("input", "output")
    )
    for side, channels in ((source, 2), (sink, 4)):
        side.channels = channels
        side.make_ring()
    engine = LiveEngine(source, sink, settings=UNITY, stereo=stereo)
    tone = np.sin(0.1 * np.arange(4000, dtype=np.float32))
    for block in np.split(np.stack([0.5 * tone, -0.25 * tone], axis=1), 20):
        source.captured(block)
        engine.worker.work()
    left, right, *rest = sink.ring.view(0, sink.ring.written_samples).T
    assert np.abs(left).max() > 0.1
    if stereo:
        np.testing.assert_allclose(right, -0.5 * left, atol=1e-3)
        assert not np.any(rest)
    else:
        np.testing.assert_array_equal([right, *rest], [left] * 3)


def test_meters_say_what_was_played() -> None:
    rig = Rig(source_hz=RATE_HZ, sink_hz=RATE_HZ)
    rig.run(5.0)
    rig.engine.status()
    rig.run(2.0)
    status = rig.engine.status()
    assert status.input_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    assert status.input_peak_db == pytest.approx(20 * np.log10(0.5), abs=0.05)
    assert status.output_db == pytest.approx(status.input_db, abs=0.1)
    assert (status.seconds, status.buffer_ms) == pytest.approx((7.0, 15.0))
    assert 0.0 < status.load < 1e6
    assert rig.engine.status().input_db == -np.inf  # nothing since


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="buffer_ms"):
        Rig(buffer_ms=-1.0)


def test_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.wav").write_bytes(b"precious")
    with pytest.raises(AudioFileError, match="exists already"):
        FileSink(tmp_path / "out.wav", RATE_HZ)
    assert (tmp_path / "out.wav").read_bytes() == b"precious"


def test_an_engine_that_never_ran_leaves_no_file(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.wav", RATE_HZ)
    sink.stop()
    assert not list(tmp_path.iterdir())


def test_a_missing_recording_is_named() -> None:
    with pytest.raises(AudioFileError, match=r"no file nonesuch\.wav"):
        FileSource(Path("nonesuch.wav"))


def test_what_a_source_wrote_before_it_ended_is_processed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block arrives between the worker's look at the ring and its look at the source."""
    source, sink = (
        LastMoment("microphone", RATE_HZ, 220, time.perf_counter),
        SimulatedDevice("loudspeakers", RATE_HZ, 220, time.perf_counter),
    )
    engine = LiveEngine(source, sink, settings=UNITY)
    monkeypatch.setattr(engine, "_drain", lambda: None)
    engine._run()
    assert engine.source.ring.fill_samples == 0
    assert engine.sink.ring.written_samples >= 3000


class LastMoment(SimulatedDevice):
    """A source that writes its only block, and ends, at the moment at which it is asked whether it
    has ended.
    """

    @property  # type: ignore[misc]
    def exhausted(self) -> bool:
        if not self.ring.written_samples:
            self.ring.write(np.full(3000, 0.1, np.float32))
        return True

    @exhausted.setter
    def exhausted(self, _: bool) -> None:
        pytest.fail("only a source says that it has ended")
