from __future__ import annotations

import functools
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import RTDEN, ended, invoke
from conftest import DATA
from usermanager import UserManager
from waiting import until

from rtden.app.service import NAME, this_program, unit_path, unit_text


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


run = functools.partial(invoke, "service")


def verified(text: str, folder: Path) -> str:
    """What systemd says about a unit."""
    path = folder / NAME
    path.write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--user", "--man=no", str(path)]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    return str(ended(command, env=env, check=True).stderr)


@pytest.mark.parametrize(
    "options",
    [(), ("--in", 'USB 50% "$mic"; \\x', "--out", "it's"), ("--in", "", "--limit-db", "12")],
)
def test_systemd_accepts_the_unit(options: tuple[str, ...], tmp_path: Path) -> None:
    text = unit_text(*this_program(), "live", *options)
    assert NAME not in verified(text, tmp_path)


def test_systemd_would_find_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        verified(unit_text("/no/such/rtden"), tmp_path)
    text = unit_text(*this_program(), "live").replace("Restart=", "Restrat=")
    assert "Restrat" in verified(text, tmp_path)


def test_a_dry_run_prints_the_unit_and_the_commands_and_writes_nothing(tmp_path: Path) -> None:
    given = ("--in", "usb mic", "--limit-db", "12", "--preset", "pi4", "--model", "seed")
    said = run("install", "--dry-run", "--", *given)
    assert said.exit_code == 0
    line = next(line for line in said.stdout.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(line.removeprefix("ExecStart="))
    assert words[: len(this_program()) + 1] == [*this_program(), "live"]
    options = words[len(this_program()) + 1 :]
    wanted = ["--preset", "auto", "--status-seconds", "600", "--realtime", *given]
    assert options == wanted
    for line in (
        "Restart=on-failure",
        "Type=notify",
        "WatchdogSec=30",
        "After=pipewire",
        "enable rtden.service",
        "enable-linger",
    ):
        assert line in said.stdout
    assert NAME not in verified(said.stdout, tmp_path)
    assert not (tmp_path / ".config").exists()


def test_paths_are_those_of_the_folder_of_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA / "models")
    own = next(path for path in (DATA / "models").glob("*.tflite"))
    said = run("install", "--dry-run", "--", "--model", own.name).stdout
    assert f"--model {own.name}" in said
    assert f"WorkingDirectory=-{DATA / 'models'}" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status"], "run 'rtden service install' first"),
        (["logs"], "run 'rtden service install' first"),
        (["uninstall"], "run 'rtden service install' first"),
        (["logs", "--lines", "-1"], "--lines must be 0 or more"),
        (["install"], "systemd runs no services for this user in this session"),
        (["install", "--", "--model", "nonesuch"], "no model 'nonesuch'"),
        (["install", "--", "--hops-per-step", "3"], "hops_per_step must be one of"),
        (["install", "--", "--preset", "pi3"], "no preset 'pi3'"),
        (["install", "--", "--inn", "usb"], "'rtden live' refuses its options: No such option"),
        (["install", "--inn", "usb"], "'rtden live' refuses its options: No such option: --inn"),
    ],
    ids=lambda value: "-".join(value)[:20],
)
def test_mistakes_are_told_in_one_sentence_and_nothing_is_written(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    said = run(*arguments)
    assert said.exit_code == 2
    assert said.stderr.startswith("rtden: ")
    assert words in said.stderr
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / ".config").exists()


def test_a_machine_without_systemd_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "has no systemd" in run("install").stderr
    unit_path().parent.mkdir(parents=True)
    unit_path().write_text("")
    assert "has no systemd" in run("status").stderr
    assert "journalctl is missing" in run("logs").stderr


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[UserManager]:
    if os.getuid() != 0:
        pytest.skip("a systemd of the test's own needs root, for its namespaces")
    manager = UserManager(tmp_path)
    yield manager
    manager.stop()


def wait_until_active(manager: UserManager, *, restarts: int) -> dict[str, str]:
    wanted = "--property=ActiveState,SubState,MainPID,NRestarts"

    def active() -> dict[str, str] | None:
        shown = manager.run("systemctl", "--user", "show", NAME, wanted).stdout
        known = dict(line.split("=", 1) for line in shown.splitlines())
        runs = known.get("SubState") == "running" and int(known["NRestarts"]) >= restarts
        return known if runs else None

    known = until(active, lambda: manager.run("journalctl", "--no-pager").stdout)
    assert known is not None
    return known


def test_the_service_runs_says_so_comes_back_after_a_crash_and_goes(
    manager: UserManager, tmp_path: Path
) -> None:
    rtden = [*RTDEN, "service"]
    heard, speech = tmp_path / "heard.wav", tmp_path / "speech.wav"
    noisy, rate_hz = soundfile.read(DATA / "noisy.flac")
    soundfile.write(speech, np.tile(noisy, 20), rate_hz)  # it lasts longer than the test
    options = ("--preset", "desktop", "--status-seconds", "1")
    places = ("--in", str(speech), "--out", str(heard))
    installed = manager.run(*rtden, "install", "--", *places, *options)
    assert installed.returncode == 0, installed.stderr
    assert "rtden service status" in installed.stdout

    known = wait_until_active(manager, restarts=0)  # Type=notify: rtden has said that it is ready
    said = manager.run(*rtden, "status")
    assert said.returncode == 0
    assert "Active: active (running) since " in said.stdout
    assert f"Main PID: {known['MainPID']} " in said.stdout
    assert "; enabled;" in said.stdout  # at boot
    until(lambda: "load" in manager.run(*rtden, "logs").stdout)
    logs = manager.run(*rtden, "logs").stdout
    assert "total latency" in logs
    assert "\x1b" not in logs

    manager.run("kill", "-KILL", known["MainPID"])
    heard.unlink(missing_ok=True)
    again = wait_until_active(manager, restarts=1)
    assert again["MainPID"] != known["MainPID"]

    logs = manager.run(*rtden, "logs").stdout
    assert "code=killed" in logs  # systemd's own words about it
    assert logs.count("total latency") >= 2

    gone = manager.run(*rtden, "uninstall")
    assert gone.returncode == 0, gone.stderr
    assert manager.run("systemctl", "--user", "is-active", NAME).stdout.strip() == "inactive"
    assert not list(Path(manager.env["HOME"]).rglob(NAME))
    assert heard.exists()  # the stop was tidy: the recording is whole
    assert manager.run(*rtden, "status").returncode == 2


def test_an_installation_that_systemd_refuses_leaves_what_was_there(manager: UserManager) -> None:
    unit = Path(manager.env["HOME"]) / ".config" / "systemd" / "user" / NAME
    masked = unit.parent / NAME
    masked.parent.mkdir(parents=True)
    masked.symlink_to("/dev/null")  # masked by the user: systemd will not enable it
    refused = manager.run(*RTDEN, "service", "install")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert masked.is_symlink()
