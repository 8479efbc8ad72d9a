from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import rtden, run_python
from pulse import PulseServer

from rtden import list_models
from rtden import model as sidecar
from rtden.app import doctor
from rtden.app.doctor import (
    benchmark,
    examine,
    memory,
    models,
    processor,
    python,
    sound_server,
    system,
)
from rtden.errors import DeviceError
from rtden.live.plan import Preset

NAMES = ["system", "Python", "runtime", *(f"model {name}" for name in list_models())]
NAMES += ["sound files", "PortAudio"]
NAMES += ["sound server", "mic", "speakers", "processor", "real-time", "memory", "benchmark"]


def test_a_whole_machine_is_looked_at_in_this_order() -> None:
    findings = list(examine())
    assert [finding.name for finding in findings] == NAMES
    for finding in findings:
        assert finding.found
        assert (finding.state == "ok") == (not finding.advice), finding
    assert not [finding for finding in findings if finding.state == "fail"]


def test_the_report_with_a_sound_server_is_green_and_names_the_devices_and_their_rates(
    tmp_path: Path,
) -> None:
    server = PulseServer(tmp_path, ("speaker", "cable"))
    try:
        server.pactl("set-default-source", "cable.monitor")
        said = rtden("doctor", env=server.env, check=True)
        server.pactl("set-default-source", "speaker.monitor")
        without = rtden("doctor", env=server.env, check=True)
    finally:
        server.stop()
    lines = {
        line[6:19].strip(): line
        for line in said.stdout.splitlines()
        if line[:4].strip() in ("ok", "warn", "fail")
    }
    assert list(lines) == NAMES
    assert "PulseAudio" in lines["sound server"]
    for name in ("mic", "speakers"):
        assert lines[name].startswith("ok")
        assert "48000 Hz" in lines[name]
    assert "headroom" in lines["benchmark"]
    assert not said.stderr
    assert "mic           none, only Monitor of Null Output [speaker.monitor]" in without.stdout
    assert "connect a microphone" in without.stdout


@pytest.mark.parametrize("command", ["devices", "live", "doctor"])
def test_a_sound_server_that_hangs_is_named_after_some_seconds(
    tmp_path: Path, command: str
) -> None:
    server = PulseServer(tmp_path, ("speaker",))
    (program,) = server._programs
    program.send_signal(signal.SIGSTOP)
    try:
        said = rtden(command, env=server.env)
    finally:
        program.send_signal(signal.SIGCONT)
        server.stop()
    sentence = "the sound server gave no answer in 5 s: restart it and try again.\n"
    assert said.returncode == 2
    if command == "doctor":
        assert f"fail  PortAudio     not asked\n{'':<20}-> {sentence}" in said.stdout
    else:
        assert (said.stdout, said.stderr) == ("", f"rtden: {sentence}")


def test_a_damaged_model_is_a_failure_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sidecar.models_folder().glob("seed.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "seed.tflite").write_bytes(b"damaged")
    monkeypatch.setattr(sidecar, "models_folder", lambda: tmp_path)
    (finding,) = models()
    assert finding.state == "fail"
    assert "checksum" in finding.advice


def test_a_failure_ends_the_command_with_2(tmp_path: Path) -> None:
    """Without PortAudio, which is where a fresh machine stands."""
    hidden = (
        "import ctypes.util, sys; ctypes.util.find_library = lambda name: None; "
        "from rtden.app.main import app; sys.argv = ['rtden', 'doctor']; app()"
    )
    said = run_python(hidden, check=False)
    assert said.returncode == 2
    assert "fail  PortAudio     missing\n" in said.stdout
    assert "sudo apt install libportaudio2" in said.stdout
    assert "Traceback" not in said.stderr


def test_the_board_and_the_system_are_named(tmp_path: Path) -> None:
    board = tmp_path / "model"
    board.write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    assert system(board).found.endswith("Raspberry Pi 4 Model B Rev 1.4")
    assert os.uname().machine in system().found


def test_the_users_name_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(sys, "executable", "/home/someone/venv/bin/python")
    assert python().found.endswith("~/venv/bin/python")


@pytest.mark.parametrize(
    ("name", "state"),
    [("ondemand", "ok"), ("performance", "ok"), ("powersave", "warn"), (None, "ok")],
)
def test_a_governor_that_keeps_the_processor_slow_is_a_warning(
    name: str | None, state: str, tmp_path: Path
) -> None:
    if name is not None:
        (tmp_path / "cpu0" / "cpufreq").mkdir(parents=True)
        (tmp_path / "cpu0" / "cpufreq" / "scaling_governor").write_text(
            f"{name}\n", encoding="ascii"
        )
    finding = processor(tmp_path)
    assert finding.state == state
    assert (name or "no governor") in finding.found


def test_little_memory_is_a_warning(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(
        "MemTotal:         434000 kB\nMemFree: 1 kB\nMemAvailable:      90000 kB\n",
        encoding="ascii",
    )
    assert memory(meminfo).state == "warn"
    assert memory(meminfo).found == "87 MiB free of 423 MiB"
    assert memory(tmp_path / "none").found == "unknown"
    assert memory().state in ("ok", "warn")


def test_without_a_sound_server_the_devices_must_be_open_to_the_user(tmp_path: Path) -> None:
    devices = tmp_path / "snd"
    devices.mkdir()
    assert sound_server(tmp_path, devices).found == "none, sound goes straight to the devices"
    (tmp_path / "pipewire-0").touch()
    assert "pipewire-pulse" in sound_server(tmp_path, devices).advice


def test_a_server_that_cannot_be_reached_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise DeviceError("missing")

    monkeypatch.setattr(doctor, "load_libpulse", missing)
    (tmp_path / "pulse").mkdir()
    (tmp_path / "pulse" / "native").touch()
    finding = sound_server(tmp_path)
    assert (finding.state, finding.found) == ("fail", "PulseAudio runs, and libpulse is missing")
    assert "libpulse0" in finding.advice
    assert "libasound2-plugins" in finding.advice


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("flags\t: fpu avx2 avx512f avx512_vnni", "AVX2, AVX-512, VNNI, no governor"),
        ("flags\t: fpu avx2", "AVX2, no int8 dot product"),
        ("Features\t: fp asimd crc32", "NEON, no int8 dot product"),
        ("Features\t: fp asimd asimddp", "NEON, dot product, no governor"),
    ],
)
def test_what_the_processor_can_do_is_named(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor: 0\n{line}\n", encoding="utf-8")
    assert words in processor(tmp_path, tmp_path / "cpuinfo").found


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_device_that_the_user_may_not_open_is_a_warning_a_closed_folder_is_none(
    open_folder: Path,
) -> None:
    code = (
        "import os, pathlib\n"
        "from rtden.app.doctor import sound_server\n"
        f"folder = pathlib.Path({str(open_folder)!r})\n"
        "device, closed = folder / 'pcmC0D0p', folder / 'of another user'\n"
        "device.touch(mode=0o600)\n"
        "closed.mkdir(mode=0o700)\n"
        "if os.getuid() == 0:\n    os.setuid(65534)\n"
        "else:\n    os.chmod(device, 0)\n    os.chmod(closed, 0)\n"
        "found = sound_server(closed, folder)\n"
        "print(found.state, found.advice)\n"
    )
    said = run_python(code).stdout
    assert said.startswith("warn ")
    assert "usermod -aG audio" in said


@pytest.mark.parametrize(
    ("hops_per_step", "of_a_core", "advice"),
    [(1, 0.1, ""), (4, 0.3, "--preset auto"), (16, 1.5, "too slow for live sound")],
)
def test_the_benchmark_says_what_the_machine_can_carry(
    hops_per_step: int, of_a_core: float, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "self_test", lambda seconds: Preset(hops_per_step, 15.0))
    monkeypatch.setattr(doctor, "load", lambda model, hops_per_step, seconds: of_a_core)
    found = benchmark()
    assert advice in found.advice
    assert (found.state == "ok") == (not advice)
    assert f"headroom {1 / of_a_core:.1f} x" in found.found
