"""bench/peers.py and what it needs: drivers of denoisers, processes of their own, turns, tables."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drivers
import numpy as np
import peers
import pytest
import soundfile
import soxr
from command import bench, ended, names
from conftest import DATA
from drivers import AsLive, Copy, Driver, FilePath, Int16Driver, Rtden, RtdenLive
from peer_drivers import PEERS, Peer
from rounds import (
    Cost,
    Spread,
    Worker,
    interleaved,
    measure_costs,
    noisy_speech,
    ratios,
    total_delay_samples,
)

from rtden import Denoiser, Settings, denoise_file
from rtden.errors import ModelError, RtdenError
from rtden.extras import install_command
from rtden.measure import scores as scoring
from rtden.measure.metrics import si_sdr_db

RATE_HZ = 16000
INSTALLED = {name: peer for name, peer in PEERS.items() if peer.is_installed()}
OURS: dict[str, Callable[[], Driver]] = {
    "copy": Copy,
    "rtden": Rtden,
    "hops_per_step 4": functools.partial(Rtden, "seed", 4),
    "live": RtdenLive,
}


class Late(Driver):
    """Gives 0.3 times what it got, later."""

    def __init__(self, delay_samples: int, rate_hz: int) -> None:
        self.rate_hz, self.frame_samples = rate_hz, 160
        self._held = np.zeros(delay_samples, np.float32)

    def feed(self, frame: Any) -> Any:
        self._held = np.concatenate([self._held, 0.3 * frame])
        ready, self._held = self._held[: len(frame)], self._held[len(frame) :]
        return ready


@pytest.fixture
def noisy(recordings: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return recordings[1][22050 : 3 * 22050]


def run_through(driver: Driver, samples: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return what a driver makes of a signal, and how much it gave after each frame."""
    given = [driver.feed(frame) for frame in driver.split(samples)]
    return driver.join(given), [len(driver.join([ready])) for ready in given]


# Drivers


@pytest.mark.parametrize("delay", [0, 1, 384, 1600])
def test_a_peer_is_compared_with_its_delay_taken_off(delay: int, noisy: np.ndarray) -> None:
    at_its_own_rate = Peer(functools.partial(Late, delay, RATE_HZ), "none")(noisy, RATE_HZ)
    np.testing.assert_array_equal(at_its_own_rate, np.float32(0.3) * noisy)
    at_48_khz = Peer(functools.partial(Late, delay, 48000), "none")(noisy, RATE_HZ)
    assert at_48_khz.shape == noisy.shape
    # The resamplers leave out what lies just below half the rate.
    assert si_sdr_db(noisy, at_48_khz) > 30.0


@pytest.mark.parametrize("make", [*OURS.values(), *(peer.driver for peer in INSTALLED.values())])
def test_what_every_driver_gives_is_sound_like_what_it_got(
    make: Callable[[], Driver], noisy: np.ndarray
) -> None:
    driver = make()
    out, given = run_through(driver, noisy)
    assert out.dtype == np.float32
    assert out.shape == (sum(given),)
    assert len(noisy) - 5000 < len(out) <= len(noisy)
    assert 0.2 * noisy.std() < out.std() < 1.2 * noisy.std()
    driver.close()


@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_as_live_a_denoiser_gets_its_own_rate_and_frames(rate_hz: int, noisy: np.ndarray) -> None:
    sound = soxr.resample(noisy, 12000, 48000)  # nothing above 6 kHz
    driver = AsLive(functools.partial(Late, 0, rate_hz))
    blocks = driver.split(sound)
    assert {len(block) for block in blocks} == {480}
    out = drivers.aligned(np.pad(driver.join([*map(driver.feed, blocks)]), (0, 12000)), sound)
    middle = slice(5000, 80000)
    assert si_sdr_db(sound[middle], out[middle]) > 30.0
    assert out[middle].std() == pytest.approx(0.3 * sound[middle].std(), rel=0.01)


def test_bytes_hold_samples_to_16_bits(noisy: np.ndarray) -> None:
    driver = Int16Driver()
    driver.frame_samples = 160
    frames = driver.split(noisy)
    assert {len(frame) for frame in frames} == {320}
    np.testing.assert_allclose(driver.join(frames), noisy[: len(frames) * 160], atol=1 / 65535)
    loud = driver.join(driver.split(np.full(160, 2.0, np.float32)))
    np.testing.assert_allclose(loud, 32767 / 32768)


def test_a_file_path_reads_and_writes_files(noisy: np.ndarray, tmp_path: Path) -> None:
    driver = FilePath(drivers.rtden_file, 22050)
    for _ in range(2):  # it overwrites its own result
        out, given = run_through(driver, noisy)
    assert given == [len(noisy)]
    soundfile.write(tmp_path / "noisy.wav", noisy, 22050)
    denoise_file(tmp_path / "noisy.wav", tmp_path / "denoised.wav")
    expected, _ = soundfile.read(tmp_path / "denoised.wav", dtype="float32")
    np.testing.assert_array_equal(out, expected)
    driver.close()


def test_a_denoiser_starts_without_the_libraries_of_others() -> None:
    code = "import sys, drivers; drivers.Copy(); print(*sys.modules)"
    run = ended([sys.executable, "-c", code], cwd=Path(drivers.__file__).parent, check=True)
    assert not {"rtden", "soxr", "typer", "onnxruntime", "scipy"} & set(run.stdout.split())


# Delay


def test_a_delay_is_that_of_the_sound_and_that_of_the_frames(noisy: np.ndarray) -> None:
    out, given = run_through(Late(384, RATE_HZ), noisy)
    assert total_delay_samples(noisy, out, 160, given, RATE_HZ) == 384 + 160


@pytest.mark.parametrize("hops_per_step", [1, 4])
def test_the_delay_of_rtden_is_what_it_says(hops_per_step: int, noisy: np.ndarray) -> None:
    driver = Rtden("seed", hops_per_step)
    out, given = run_through(driver, noisy)
    latency = Denoiser("seed", Settings(hops_per_step=hops_per_step)).latency.samples
    assert total_delay_samples(noisy, out, driver.frame_samples, given, 22050) == latency


# Turns


def test_every_round_begins_with_another_one() -> None:
    called: list[str] = []
    seen: list[tuple[int, int]] = []

    def turn(name: str) -> int:
        called.append(name)
        return len(called)

    turns = {name: functools.partial(turn, name) for name in "abc"}
    found = interleaved(turns, 4, lambda done, total: seen.append((done, total)))
    assert "".join(called) == "abcbcacababc"
    assert found == {"a": [1, 6, 8, 10], "b": [2, 4, 9, 11], "c": [3, 5, 7, 12]}
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_ratios_are_taken_round_by_round() -> None:
    slow_rounds = [1.0, 3.0, 1.0, 1.0, 5.0]
    found = ratios([2.0 * seconds for seconds in slow_rounds], slow_rounds)
    assert found == Spread(2.0, 2.0, 2.0, 2.0, 2.0, 0.0)
    spread = Spread(median=3.0, low=2.0, high=4.0, least=1.0, most=10.0, mad=1.0)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 10.0]) == spread


def test_costs_are_measured_in_processes_of_their_own() -> None:
    ballast = np.ones(300 << 17)  # 300 MiB that belong to this process alone
    noisy, rate_hz = noisy_speech(2.0)
    made: dict[str, Callable[[], Driver]] = {"rtden": functools.partial(Rtden, "seed")}
    costs = measure_costs(made | {"copy": Copy}, noisy, rate_hz, rounds=3, starts=2)
    assert len(ballast)
    ours, copy = costs["rtden"], costs["copy"]
    for cost in (ours, copy):
        assert len(cost.seconds) == len(cost.processor_seconds) == 3
        assert len(cost.start_seconds) == 2
        assert 0.02 < min(cost.start_seconds) < 30.0
        assert 10.0 < cost.peak_mb < 250.0
        assert cost.audio_seconds == pytest.approx(2.0, abs=0.03)
    assert copy.peak_mb < ours.peak_mb
    assert (ours.rate_hz, ours.frame_samples) == (22050, 512)
    assert (copy.rate_hz, copy.frame_samples) == (48000, 480)
    assert ours.delay_ms == pytest.approx(1000 * 1024 / 22050)
    assert copy.delay_ms == 10.0
    assert np.median(copy.cpu_per_second) < 0.2 * np.median(ours.cpu_per_second) < 1.0
    assert 0.0 < ours.cores < 1.5


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (functools.partial(Rtden, "nosuchmodel"), ModelError, "there is no model 'nosuchmodel'"),
        (functools.partial(int, "three"), RtdenError, "it does not run: ValueError: .*three"),
        (functools.partial(os._exit, 3), RtdenError, r"the process of it ended early \(code 3\)"),
    ],
)
def test_a_denoiser_that_does_not_run_is_told_in_one_sentence(
    make: Callable[[], Driver], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        Worker("it", make, np.zeros(22050, np.float32))


# The command


def made_up(factor: float, *, delay_ms: float | None = 30.0, cores: float = 1.0) -> Cost:
    seconds = [20.0 * factor * slow for slow in (1.0, 1.1, 0.9)]
    frame = 480 if delay_ms is not None else 0
    cpu, starts = [cores * second for second in seconds], [0.2, 0.3, 0.1]
    return Cost(48000, frame, 20.0, seconds, cpu, starts, 50.0, delay_ms)


def test_the_tables_show_all_figures_those_of_live_sound_first() -> None:
    costs = {"rtden": made_up(0.01), "RNNoise": made_up(0.03)}
    whole = {**costs, "noisereduce": made_up(0.005, delay_ms=None)}
    found: dict[str, Any] = {"processor": "a processor", "seconds": 20.0, "rounds": 3, "starts": 3}
    for kind, part in (("live", costs), ("streams", whole), ("files", whole)):
        found[kind] = peers.figures_of(part)
    for cost, kb in zip(found["streams"].values(), (1217.0, 14000.0, 0.0), strict=True):
        cost["model_kb"] = kb
    lines = peers.cost_text({**found, "notes": ["a note."]}).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    assert rows[2] == ["rtden", "10.0 ms", "1", "50 MiB"]
    assert rows[3] == ["RNNoise", "30.0 ms", "3 (3–3)", "50 MiB"]
    same, offline = ["48 kHz", "10.0 ms"], ["5.0 ms", "0.5 (0.5–0.5)", "offline"]
    assert rows[6:9] == [
        ["rtden", *same, "10.0 ms", "1", "30.0 ms", "0.20 s", "50 MiB", "1217"],
        ["RNNoise", *same, "30.0 ms", "3 (3–3)", "30.0 ms", "0.20 s", "50 MiB", "14000"],
        ["noisereduce", "48 kHz", "whole", *offline, "0.20 s", "50 MiB", "–"],
    ]
    assert rows[-2] == ["RNNoise", "48 kHz", "30.0 ms", "33 x", "3 (3–3)"]
    assert lines[-1] == "a note."


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with one pair."""
    for side in ("clean", "noisy"):
        samples, rate_hz = soundfile.read(DATA / f"{side}.flac")
        (tmp_path / "made" / side).mkdir(parents=True)
        path = tmp_path / "made" / side / "1_noise_5dB.flac"
        soundfile.write(path, samples[22050:66150], rate_hz)
    return tmp_path / "made"


def test_quality_and_cost_are_printed_and_written(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "PEERS", {"Nobody": Peer(Copy, "no-such-package")})
    monkeypatch.setattr(scoring, "METERS", scoring.METERS[:1])
    results = tmp_path / "results"
    options: dict[str, Any] = {"model": ["seed"], "processes": 1, "results": results}
    options |= {"seconds": 1.0, "rounds": 2, "starts": 1}
    peers.main(pair, **options)
    out, err = capsys.readouterr()
    assert (
        err == "Nobody is left out, the package no-such-package is not installed: "
        f"run {install_command('peers')}\n"
    )
    assert names(results) == ["peers-cost.json", "peers-cost.txt", "peers-made.json"]
    systems = json.loads((results / "peers-made.json").read_bytes())["systems"]
    assert list(systems) == ["noisy", "rtden seed", "rtden seed live"]
    costs = json.loads((results / "peers-cost.json").read_bytes())
    assert list(costs["live"]) == ["rtden seed", "rtden seed, each step alone", "nothing"]
    assert list(costs["streams"]) == ["rtden seed", "rtden seed, hops_per_step 4", "nothing"]
    assert list(costs["files"]) == ["rtden file"]
    assert costs["notes"] == ["not installed: Nobody."]
    assert costs["streams"]["rtden seed"]["model_kb"] == pytest.approx(82, abs=1)
    assert (results / "peers-cost.txt").read_text(encoding="utf-8") in out

    with pytest.raises(SystemExit) as caught:
        peers.main(pair, **options)
    assert caught.value.code == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a folder of pairs"),
        (["--pairs", ".", "--cost-only"], "give a folder of pairs"),
        (["--cost-only", "--seconds", "nan"], "must be 1 or more"),
        (["--cost-only", "--rounds", "0"], "must be 1 or more"),
        (["--cost-only", "--model", "nosuchmodel"], "no model 'nosuchmodel'"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(arguments: list[str], said: str) -> None:
    ended = bench(peers.__file__, *arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("bench/peers.py: ")
    assert said in last
