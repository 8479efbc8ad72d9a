"""bench/live.py: its measure on signals of known delay, and all of it with a real PulseAudio."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import command
import live as bench
import numpy as np
import pytest
from pipewire import PipeWireServer, unpacked
from pulse import RATE_HZ

from rtden.errors import DeviceError


def late(sound: np.ndarray, delay_ms: float) -> np.ndarray:
    """Return a signal behind silence, later by any fraction of a sample, and a second longer."""
    size = len(sound) + RATE_HZ
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size, 1 / RATE_HZ) * delay_ms / 1000.0)
    return np.fft.irfft(np.fft.rfft(sound, size) * turn, size).astype(np.float32)


def test_clicks_are_within_speech_and_no_two_alike() -> None:
    clicks = bench.make_clicks(20, np.random.default_rng(0))
    power = np.square(np.abs(np.fft.rfft(clicks.sound)))
    hz = np.fft.rfftfreq(len(clicks.sound), 1 / RATE_HZ)
    assert power[(hz > 250) & (hz < 4100)].sum() / power.sum() > 0.99
    assert np.abs(clicks.sound).max() == pytest.approx(0.5)
    one, other = clicks.shapes[:2]
    assert bench.find_click(np.pad(other, 2000), one, 0, 5000)[1] < bench.HEARD
    gaps = np.diff(clicks.starts) / RATE_HZ
    assert gaps.min() >= 0.35
    assert gaps.max() <= 0.45
    assert len(set(gaps)) > 15


@pytest.mark.parametrize("delay_ms", [3.0, 57.113, 121.5078, 700.02])
def test_a_known_delay_is_found_to_a_hundredth_of_a_millisecond(
    delay_ms: float, rng: np.random.Generator
) -> None:
    clicks = bench.make_clicks(5, rng)
    mouth, again, ear = (late(clicks.sound, extra_ms) for extra_ms in (40.0, 10.0, 40.0 + delay_ms))
    ear += 0.01 * rng.standard_normal(len(ear)).astype(np.float32)
    # The recordings began at different times.
    measured = bench.delays(clicks, (mouth, 100.0), (again, 100.03), (ear[RATE_HZ // 5 :], 100.2))
    np.testing.assert_allclose(measured["delays_ms"], delay_ms, atol=0.01)
    np.testing.assert_allclose(measured["same_monitor_ms"], 0.0, atol=0.01)
    assert measured["lost_clicks"] == 0


def test_clicks_that_are_torn_or_missing_are_counted(rng: np.random.Generator) -> None:
    clicks = bench.make_clicks(5, rng)
    mouth, ear = late(clicks.sound, 0.0), late(clicks.sound, 100.0)
    ear[clicks.starts[2] + RATE_HZ // 10 :][:2000] = 0.0
    measured = bench.delays(clicks, (mouth, 0.0), (mouth, 0.0), (ear, 0.0))
    assert measured["lost_clicks"] == 1
    assert len(measured["delays_ms"]) == 4


@pytest.mark.parametrize(
    ("found", "attempts"), [(((), (1.0,)), 2), (((1.0,), ()), 1), (((), ()), bench.ATTEMPTS)]
)
def test_a_server_that_plays_nothing_is_tried_again_and_a_silent_rtden_is_not(
    found: tuple[tuple[float, ...], ...], attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`found` are the offsets in the monitor before rtden, in the first and in later attempts."""
    tried: list[str] = []

    def attempted(*_: object) -> dict[str, object]:
        offsets = found[min(len(tried), 1)]
        tried.append("")
        return {
            "delays_ms": [60.0] if len(tried) == 2 and offsets else [],
            "same_monitor_ms": offsets,
        }

    monkeypatch.setattr(bench, "attempted", attempted)
    server, clicks = bench.servers()["PulseAudio"], bench.make_clicks(2, np.random.default_rng(0))
    if found[1]:
        assert bench.measure(server, clicks, [])["median_ms"] == 60.0
    else:
        with pytest.raises(DeviceError, match="none of the clicks came through"):
            bench.measure(server, clicks, [])
    assert len(tried) == attempts


PATIENT = ("--", "--buffer-ms", "300")
"""So that the other tests beside this one tear no click."""


run = functools.partial(command.bench, bench.__file__)


@pytest.mark.real_time
def test_the_delay_of_rtden_live_is_measured(tmp_path: Path) -> None:
    ended = run("--clicks", "10", "--json", str(tmp_path / "delay.json"), *PATIENT)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads((tmp_path / "delay.json").read_text(encoding="utf-8"))
    assert f"median {figures['median_ms']:.1f} ms" in ended.stdout
    assert len(figures["delays_ms"]) + figures["lost_clicks"] == 10
    assert figures["lost_clicks"] <= 2
    assert figures["min_ms"] <= figures["median_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    # Later than the algorithm alone; not later than planned but for the server's own scheduling.
    planned_ms = figures["planned_ms"]
    assert planned_ms["denoiser"] < figures["median_ms"] < sum(planned_ms.values()) + 30.0
    assert figures["clock_max_ms"] < 5.0


@pytest.mark.real_time
def test_both_ways_to_each_server_are_compared(tmp_path: Path) -> None:
    # PortAudio's way to PipeWire tears clicks on a busy machine; rtden's own streams hold.
    options = ("--compare", "--rounds", "1", "--clicks", "8")
    ended = run(*options, "--json", str(tmp_path / "both.json"), *PATIENT)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads((tmp_path / "both.json").read_text(encoding="utf-8"))
    for server in bench.servers():
        for stream in bench.STREAMS:
            (measured,) = figures[f"{server}, {stream}"]
            assert measured["delays_ms"]
            assert stream != "rtden" or measured["lost_clicks"] <= 4
            assert f"{server}, {stream}" in ended.stdout


@pytest.mark.parametrize("late", ["pipewire", "wireplumber"])
def test_a_pipewire_of_which_a_program_comes_late_starts_all_the_same(
    tmp_path_factory: pytest.TempPathFactory, late: str
) -> None:
    top, folder = unpacked(), tmp_path_factory.mktemp("late")  # short: sockets lie in it
    if top is None:
        pytest.skip("PipeWire's packages cannot be had here")
    programs = folder / "top/usr/bin"
    programs.mkdir(parents=True)
    for path in (*(top / "usr/bin").iterdir(), top / "usr/lib", top / "usr/share"):
        (folder / "top" / path.relative_to(top)).symlink_to(path)
    (programs / late).unlink()
    (programs / late).write_text(f"#!/bin/sh\nsleep 3\nexec {top}/usr/bin/{late}\n")
    (programs / late).chmod(0o755)
    server = PipeWireServer(folder, ("mouth", "ear"), top=folder / "top")
    try:
        assert "Default Sink: mouth" in server.pactl("info")
    finally:
        server.stop()


def test_options_go_to_rtden_live() -> None:
    ended = run("--clicks", "10", "--", "--nonesuch")
    assert ended.returncode == 2
    assert ended.stderr.startswith("bench/live.py: 'rtden live' did not start: ")
    assert "--nonesuch" in ended.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "delay.json").write_text("kept", encoding="utf-8")
    ended = run("--json", str(tmp_path / "delay.json"))
    assert ended.returncode == 2
    assert "exists already" in ended.stderr
    assert (tmp_path / "delay.json").read_text(encoding="utf-8") == "kept"
