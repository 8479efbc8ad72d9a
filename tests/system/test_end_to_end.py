"""`rtden live` between two sinks of a real PulseAudio server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from command import RTDEN, ended, rtden, started
from conftest import DATA
from pulse import NULL_SINK, RATE_HZ, PulseServer, Recording
from signals import aligned_si_sdr_db, delay_samples
from waiting import LIMIT_SECONDS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulseServer]:
    pulse = PulseServer(tmp_path_factory.mktemp("pulse"), ("cable", "speaker"))
    yield pulse
    pulse.stop()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray, Path]:
    """Return the bundled clean and noisy recordings at the server's rate, and a file of the noisy
    one.
    """
    clean, noisy = (soxr.resample(*_read(name), RATE_HZ) for name in ("clean", "noisy"))
    path = tmp_path_factory.mktemp("speech") / "noisy.wav"
    soundfile.write(path, noisy, RATE_HZ, subtype="PCM_16")
    return clean, noisy, path


def _read(name: str) -> tuple[np.ndarray, int]:
    samples, rate_hz = soundfile.read(DATA / f"{name}.flac", dtype="float32")
    return samples, rate_hz


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of a minute and a half of a tone of 440 Hz, at half of full scale."""
    path = tmp_path_factory.mktemp("tone") / "tone.wav"
    seconds = np.arange(90 * RATE_HZ) / RATE_HZ
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * seconds), RATE_HZ, subtype="FLOAT")
    return path


def test_devices_are_listed_by_name(server: PulseServer) -> None:
    said = subprocess.run(
        [*RTDEN, "devices", "--all"], env=server.env, capture_output=True, text=True, check=True
    )
    for name in ("cable.monitor", "speaker", "inputs (mic):", "ALSA"):
        assert name in said.stdout
    assert not said.stderr


def test_devices_that_never_played_can_be_summed_up(server: PulseServer) -> None:
    """As after Ctrl-C between the opening of the devices and their start."""
    code = """
from rtden import open_live
engine = open_live("cable.monitor", "speaker")
engine.stop()
assert 10 < engine.latency.total_ms < 500, engine.latency
engine.status()
"""
    ended([sys.executable, "-c", code], env=server.env, check=True)


@pytest.mark.alone
def test_live_denoises_between_two_devices_at_the_delay_that_it_prints(
    server: PulseServer, speech: tuple[np.ndarray, np.ndarray, Path], tmp_path: Path
) -> None:
    clean, noisy, path = speech
    for attempt in range(3):  # a busy machine, not rtden, may lose a block
        process = live(
            server,
            *("--in", "cable.monitor", "--out", "speaker", "--buffer-ms", "40"),
            *("--record", str(tmp_path / f"kept {attempt}")),
        )
        try:
            printed_ms = float(next_line(process, "total latency").split()[2])
            before, after = server.record("cable"), server.record("speaker")
            after.wait(0.5)
            assert server.play(path, "cable").wait(LIMIT_SECONDS) == 0
            after.wait(1.0)
            heard_in, heard_out = before.stop(), after.stop()
        finally:
            process.send_signal(signal.SIGINT)
            said, complained = process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == 0
        assert "Traceback" not in complained
        if ", 0 xruns" in said:
            break
    else:
        raise AssertionError(said)

    # Cleaner, by at least 3 dB. Piece by piece: to hold the delay, rtden may play a little faster
    # or slower.
    gained_db = mean_si_sdr_db(clean, heard_out) - mean_si_sdr_db(clean, heard_in)
    assert gained_db >= 3.0, said

    # No dropout: the engine counted none, and nowhere that speech is loud does the output fall
    # silent for 20 ms.
    lag = delay_samples(heard_out, clean)
    block = RATE_HZ // 50
    blocks = (len(clean) // block) * block
    loud = np.abs(clean[:blocks]).reshape(-1, block).mean(axis=1) > 0.02
    played = np.abs(heard_out[lag : lag + blocks]).reshape(-1, block).max(axis=1)
    assert loud.sum() > 50
    assert (played[loud] > 1e-3).all()

    # The delay, between the moments at which the server's monitors gave the same sound. PortAudio's
    # figure for each device is an upper bound of 20 ms that the server need not use; parec's own
    # buffers are 5 ms.
    heard_at = after.started_at + lag / RATE_HZ
    measured_ms = 1000.0 * (heard_at - before.started_at - delay_samples(heard_in, noisy) / RATE_HZ)
    assert printed_ms - 50 < measured_ms < printed_ms + 30

    kept = {
        name: soundfile.read(tmp_path / f"kept {attempt}" / f"{name}.wav", dtype="float32")[0]
        for name in ("noisy", "cleaned")
    }
    assert abs(len(kept["noisy"]) - len(kept["cleaned"])) < 0.3 * RATE_HZ


def mean_si_sdr_db(clean: np.ndarray, heard: np.ndarray, *, piece_seconds: float = 2.0) -> float:
    """Return the mean SI-SDR of a recording over pieces, each aligned by itself."""
    start, piece = delay_samples(heard, clean), round(piece_seconds * RATE_HZ)
    pieces = [slice(at, at + piece) for at in range(0, len(clean) - piece, piece)]
    both = [(part, slice(max(0, start + part.start), start + part.stop)) for part in pieces]
    return float(np.mean([aligned_si_sdr_db(clean[ours], heard[of]) for ours, of in both]))


@pytest.mark.real_time
def test_both_ears_get_the_sound(
    server: PulseServer, speech: tuple[np.ndarray, np.ndarray, Path]
) -> None:
    *_, path = speech
    recording = server.record("speaker", channels=2)
    options = ("live", "--in", str(path), "--out", "speaker", "--duration", "3")
    rtden(*options, env=server.env, check=True)
    samples = recording.stop()
    left, right = samples[: len(samples) // 2 * 2].reshape(-1, 2).T
    assert np.abs(left).max() > 0.01
    np.testing.assert_allclose(left, right, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--in", "nonesuch"], "no input device matches 'nonesuch': choose from"),
        (["--out", "cable"], "the monitor of the output, and rtden would record what it plays"),
        (["--out", "null output"], "'null output' means several output devices"),
        (["--latency-ms", "0"], "a latency must be more than 0 ms"),
        (
            ["--latency-ms", "60", "--hops-per-step", "2"],
            "--latency-ms chooses the hops per step; give one of the two",
        ),
        (["--record", "/dev/null/folder"], "the folder /dev/null/folder cannot be made"),
    ],
)
def test_mistakes_end_with_one_sentence(
    server: PulseServer, options: list[str], sentence: str
) -> None:
    command = [*RTDEN, "live", "--in", "cable.monitor", "--out", "speaker", "--duration", "1"]
    command += options
    ended = subprocess.run(
        command, env=server.env, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("rtden: ")
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


def next_line(process: subprocess.Popen[str], *words: str) -> str:
    """Return the next line that has all the words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if all(word in line for word in words):
            return line
    raise AssertionError("".join(lines))


def live(server: PulseServer, *options: str) -> Any:
    return started([*RTDEN, "live", *options], env=server.env)


def tone_level(recording: Recording, seconds: float = 1.5) -> float:
    """Return the amplitude of a tone of 440 Hz in the last half second of those that come."""
    recording.wait(seconds)
    tail = recording.stop()[-RATE_HZ // 2 :]
    return float(
        2 * np.abs(np.mean(tail * np.exp(-2j * np.pi * 440 * np.arange(len(tail)) / RATE_HZ)))
    )


@pytest.mark.real_time
@pytest.mark.parametrize("what", ["the sink", "the server"])
def test_what_goes_away_and_comes_back_is_found_again_at_the_same_delay(
    tmp_path: Path, tone: Path, what: str
) -> None:
    """The only sink is unloaded and loaded, or the server stopped and started, without a word to
    rtden.
    """
    alone = what == "the sink"  # with another sink beside it, the server would move the sound there
    server = PulseServer(tmp_path, ("speaker",) if alone else ("speaker", "cable"))
    players = [] if alone else [server.play(tone, "cable")]
    process = live(
        server,
        *("--in", str(tone) if alone else "cable.monitor", "--out", "speaker"),
        *("--limit-db", "0", "--buffer-ms", "40", "--json", "--status-seconds", "0.5"),
    )
    try:
        before_ms = settled(process)
        if alone:
            (module,) = [
                line.split()[0]
                for line in server.pactl("list", "short", "modules").splitlines()
                if "sink_name=speaker" in line
            ]
            server.pactl("unload-module", module)
        else:
            server.stop()
        assert json.loads(next_line(process, "lost, trying again"))["disconnects"] >= 1
        busy_seconds = cpu_seconds(process.pid)
        time.sleep(3.0)
        assert cpu_seconds(process.pid) - busy_seconds < 1.5
        if alone:
            server.pactl("load-module", *NULL_SINK.format("speaker").split())
        else:
            server.start()
            players.append(server.play(tone, "cable"))
        # Within a step and a block: where in it the sound begins again is chance.
        assert settled(process) == pytest.approx(before_ms, abs=30)
        assert tone_level(server.record("speaker")) > 0.3
    finally:
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=LIMIT_SECONDS)
        server.stop()
        for player in players:
            player.wait(LIMIT_SECONDS)
    assert process.returncode == 0
    assert "Traceback" not in complained


@pytest.mark.alone
def test_programs_that_take_the_processors_are_counted_and_leave_no_delay_behind(
    server: PulseServer, tone: Path
) -> None:
    player = server.play(tone, "cable")
    process = live(
        server,
        *("--in", "cable.monitor", "--out", "speaker"),
        *("--limit-db", "0", "--buffer-ms", "20", "--json", "--status-seconds", "0.5"),
    )
    try:
        before_ms = settled(process)
        busy, count = [sys.executable, "-c", "while True: pass"], 3 * (os.cpu_count() or 1)
        hogs = [subprocess.Popen(busy) for _ in range(count)]
        try:
            time.sleep(3.0)  # a hundred times what is buffered
        finally:  # or an interrupted test would leave a machine without a moment's rest
            for hog in hogs:
                hog.kill()
                hog.wait()
        assert settled(process) == pytest.approx(before_ms, abs=30)
        assert tone_level(server.record("speaker")) > 0.3
    finally:
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=LIMIT_SECONDS)
        player.kill()
        player.wait()
    assert (process.returncode, complained) == (0, "")


def settled(process: subprocess.Popen[str]) -> float:
    """Return the delay in ms after nine seconds without a drop-out or a loss: a null sink that has
    just been loaded rests for two, and rtden settles in five.
    """
    quiet: list[dict[str, Any]] = []
    for _ in range(180):
        status: dict[str, Any] = json.loads(next_line(process, '"state"'))
        if quiet and any(status[name] != quiet[0][name] for name in ("dropouts", "disconnects")):
            quiet = []
        if status["state"] == "running" and status["output_db"] is not None:
            quiet.append(status)
        if len(quiet) == 18:
            return float(status["latency_ms"])
    raise AssertionError("it did not settle within a minute and a half")


@pytest.mark.real_time
def test_another_program_hears_the_virtual_microphone_and_it_goes_with_rtden(
    tmp_path: Path, tone: Path
) -> None:
    server = PulseServer(tmp_path, ("speaker",))
    process = live(
        server, "--in", str(tone), "--out", "virtual-mic", "--limit-db", "0", "--buffer-ms", "40"
    )
    try:
        next_line(process, "choose 'rtden' as the microphone")
        next_line(process, "latency")
        assert tone_level(server.record_source("rtden"), 5.0) > 0.3
    finally:
        process.send_signal(signal.SIGHUP)
        _, complained = process.communicate(timeout=LIMIT_SECONDS)
        left = server.pactl("list", "short", "modules")
        server.stop()
    assert process.returncode == 0
    assert "Traceback" not in complained
    assert "rtden" not in left


@pytest.mark.real_time
def test_stereo_keeps_two_channels(server: PulseServer, tmp_path: Path) -> None:
    seconds = np.arange(8 * RATE_HZ) / RATE_HZ
    both = np.stack(
        [0.4 * np.sin(2 * np.pi * 300 * seconds), 0.4 * np.sin(2 * np.pi * 500 * seconds)], axis=1
    ).astype(np.float32)
    soundfile.write(tmp_path / "both.wav", both, RATE_HZ)
    recording = server.record("speaker", channels=2)
    process = live(
        server,
        *("--in", str(tmp_path / "both.wav"), "--out", "speaker"),
        *("--stereo", "--limit-db", "0", "--duration", "6"),
    )
    _, complained = process.communicate(timeout=LIMIT_SECONDS)
    samples = recording.stop()
    assert (process.returncode, complained) == (0, "")
    frames = samples[: len(samples) // 2 * 2].reshape(-1, 2)
    heard = frames[np.argmax(np.abs(frames).max(axis=1) > 0.1) + RATE_HZ :]
    spectrum = np.abs(np.fft.rfft(heard[:RATE_HZ] * np.hanning(RATE_HZ)[:, None], axis=0)) ** 2
    near_300, near_500 = (spectrum[hz - 50 : hz + 50].sum(axis=0) for hz in (300, 500))
    assert near_300[0] > 100 * near_500[0]
    assert near_500[1] > 100 * near_300[1]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
