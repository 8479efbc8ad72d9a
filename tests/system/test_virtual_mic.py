"""The virtual microphone in a real PulseAudio server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import run_python, started
from pulse import RATE_HZ, PulseServer
from waiting import LIMIT_SECONDS, until

from rtden.errors import DeviceError, SettingsError
from rtden.live.virtual_mic import SINK_NAME, SOURCE_NAME, VirtualMicrophone

TONE_HZ, OTHER_HZ = 1000.0, 440.0
HOLD = """
import time
from rtden.live.virtual_mic import VirtualMicrophone
with VirtualMicrophone():
    print("open", flush=True)
    time.sleep(60)
"""
# Plays a tone into the microphone and records the default microphone of the user at the same time.
PLAY = f"""
import select, sys
import numpy as np
from rtden.live.device_endpoints import DeviceSource
from rtden.live.virtual_mic import VirtualMicrophone, VirtualSink
source = DeviceSource("mic")
with VirtualMicrophone() as microphone:
    sink = VirtualSink(microphone)
    seconds = np.arange(sink.rate_hz) / sink.rate_hz
    tone = (0.25 * np.sin(2 * np.pi * {TONE_HZ} * seconds)).astype(np.float32)  # whole periods
    tone = np.repeat(tone[:, None], sink.channels, axis=1)
    heard = np.zeros((source.rate_hz, source.channels), np.float32)
    sink.ring.write(tone)
    sink.start()
    source.start()
    print("playing", flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        if sink.ring.fill_samples < sink.rate_hz // 2:
            sink.ring.write(tone)
    source.ring.read_into(heard)
    np.save(sys.argv[1], heard[:, 0])
    print(source.rate_hz, flush=True)
    sink.stop()
    source.stop()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulseServer]:
    pulse = PulseServer(tmp_path_factory.mktemp("pulse"), ("cable", "speaker"))
    yield pulse
    pulse.stop()


@pytest.fixture
def server(running: PulseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PulseServer]:
    """Return a server that this process talks to; it must be as it was at the end."""
    for name, value in running.env.items():
        monkeypatch.setenv(name, value)
    before = state(running)
    yield running
    assert state(running) == before


def state(server: PulseServer) -> tuple[str, ...]:
    lists = (server.pactl("list", "short", what) for what in ("modules", "sinks"))
    return (*lists, server.pactl("get-default-sink"), *sources(server))


def sources(server: PulseServer) -> list[str]:
    return [line.split("\t")[1] for line in server.pactl("list", "short", "sources").splitlines()]


def described(server: PulseServer, what: str) -> dict[str, str]:
    """Return the description of each sink or source by its name."""
    lines = [line.strip() for line in server.pactl("list", what).splitlines()]
    names = [line.removeprefix("Name: ") for line in lines if line.startswith("Name: ")]
    label = "Description: "
    labels = [line.removeprefix(label) for line in lines if line.startswith(label)]
    return dict(zip(names, labels, strict=True))


@pytest.fixture
def hold(server: PulseServer) -> Iterator[Callable[[], Any]]:
    """Return a function that starts another process which has the microphone open."""
    holders: list[Any] = []

    def start() -> Any:
        process = started([sys.executable, "-c", HOLD], env=server.env)
        holders.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in holders:
        process.kill()
        process.communicate()


def level_db(samples: np.ndarray, tone_hz: float, rate_hz: int) -> float:
    """Return the level of a tone in a signal, relative to full scale of a sine: the median of
    pieces of 50 ms.

    Where a busy machine leaves a gap, the pieces beside it are wrong, and the median is not.
    """
    piece = rate_hz // 20
    pieces = samples[: len(samples) // piece * piece].reshape(-1, piece)
    window = np.hanning(piece) * np.exp(-2j * np.pi * tone_hz * np.arange(piece) / rate_hz)
    level = np.median(2 * np.abs(pieces @ window)) / np.hanning(piece).sum()
    return float(20 * np.log10(level + 1e-9))


def test_other_programs_list_a_microphone_and_the_default_output_stays(server: PulseServer) -> None:
    before = server.pactl("get-default-sink")
    with VirtualMicrophone():
        assert described(server, "sinks")[SINK_NAME] == "rtden output"
        assert described(server, "sources")[SOURCE_NAME] == "rtden"
        listed = server.pactl("list", "short", "sources").split(SOURCE_NAME)[-1]
        assert "module-remap-source.c" in listed
        assert server.pactl("get-default-sink") == before
    assert SINK_NAME not in described(server, "sinks")
    assert SOURCE_NAME not in described(server, "sources")


@pytest.mark.real_time
def test_what_rtden_plays_into_it_another_program_records(
    server: PulseServer, tmp_path: Path
) -> None:
    seconds = np.arange(LIMIT_SECONDS * RATE_HZ) / RATE_HZ
    soundfile.write(tmp_path / "other.wav", 0.25 * np.sin(2 * np.pi * OTHER_HZ * seconds), RATE_HZ)
    # The monitor of this sink is the user's default microphone.
    room = server.play(tmp_path / "other.wav", "cable")
    command = [sys.executable, "-c", PLAY, str(tmp_path / "heard.npy")]
    player = started(command, env=server.env, stdin=subprocess.PIPE)
    try:
        assert player.stdout.readline() == "playing\n"
        speaker, program = server.record("speaker"), server.record_source(SOURCE_NAME)
        # Until a program records, the sink wakes every two seconds: the first may be lost.
        program.wait(3.0)
        speaker.wait(1.0)
        from_microphone, from_speaker = program.stop(), speaker.stop()
        rate_hz = int(player.communicate("enough", timeout=LIMIT_SECONDS)[0])
    finally:
        player.kill()
        room.terminate()
        room.wait()
    assert player.returncode == 0
    heard = np.load(tmp_path / "heard.npy")
    loud_db = 20 * np.log10(0.25)
    middle = from_microphone[RATE_HZ // 2 : -RATE_HZ // 10]
    assert len(middle) > 0.5 * RATE_HZ
    assert level_db(middle, TONE_HZ, RATE_HZ) == pytest.approx(loud_db, abs=0.5)
    assert level_db(middle, OTHER_HZ, RATE_HZ) < -60
    assert len(from_speaker) > RATE_HZ
    assert not from_speaker.any()
    assert level_db(heard, OTHER_HZ, rate_hz) == pytest.approx(loud_db, abs=0.5)
    assert level_db(heard, TONE_HZ, rate_hz) < -60


def test_an_error_inside_removes_it(server: PulseServer) -> None:
    with pytest.raises(ZeroDivisionError), VirtualMicrophone():
        raise ZeroDivisionError


def test_an_interrupt_removes_it(
    server: PulseServer, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    process = hold()
    assert SOURCE_NAME in sources(server)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=LIMIT_SECONDS)[1]
    assert SOURCE_NAME not in sources(server)


def test_what_a_killed_owner_left_is_removed(
    server: PulseServer, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    process = hold()
    process.kill()
    process.wait()
    assert SOURCE_NAME in sources(server)
    with VirtualMicrophone():
        assert sources(server).count(SOURCE_NAME) == 1
        modules = server.pactl("list", "short", "modules")
        assert modules.count("rtden.owner=") == 2
        assert f"rtden.owner={os.getpid()}-" in modules


def test_a_process_that_got_the_id_of_a_dead_owner_is_not_taken_for_it(server: PulseServer) -> None:
    owner = f'sink_properties="rtden.owner={os.getppid()}-1"'
    server.pactl("load-module", "module-null-sink", f"sink_name={SINK_NAME}", owner)
    with VirtualMicrophone():
        assert described(server, "sinks")[SINK_NAME] == "rtden output"


def test_a_living_owner_keeps_it(
    server: PulseServer, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    process = hold()
    before = state(server)
    with pytest.raises(
        DeviceError,
        match=f"another rtden \\(process {process.pid}\\) already gives the microphone "
        "'rtden': end that one first",
    ):
        VirtualMicrophone().open()
    assert state(server) == before
    process.send_signal(signal.SIGINT)
    process.wait(LIMIT_SECONDS)


@pytest.mark.parametrize("_attempt", range(2))
def test_of_two_at_once_one_wins(server: PulseServer, _attempt: int) -> None:
    begin = time.time() + 1.5  # both load first, then wait, and at last do nothing but look
    at_once = f"import time\ntime.sleep(max(0.0, {begin - 0.05} - time.time()))\n"
    at_once += f"while time.time() < {begin}: pass\n"
    code = HOLD.replace("with ", at_once + "with ", 1)
    both = [started([sys.executable, "-c", code], env=server.env) for _ in range(2)]
    try:
        until(lambda: any(process.poll() is not None for process in both))
        won = [process for process in both if process.poll() is None]
        assert len(won) == 1
        assert won[0].stdout.readline() == "open\n"
        found = [name for name in sources(server) if "rtden" in name]
        assert found == [f"{SINK_NAME}.monitor", SOURCE_NAME]
        won[0].send_signal(signal.SIGINT)
        complaints = [process.communicate(timeout=LIMIT_SECONDS)[1] for process in both]
        wanted = f"another rtden (process {won[0].pid}) already gives"
        assert sum(wanted in complaint for complaint in complaints) == 1
    finally:
        for process in both:
            process.kill()
            process.communicate()


def test_a_lock_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, server: PulseServer, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(
        DeviceError,
        match=r"rtden-\d+\.lock cannot be made \(No such file or directory\): make its "
        r"folder writable",
    ):
        VirtualMicrophone().open()


def test_one_object_may_be_opened_again_and_closed_twice(server: PulseServer) -> None:
    microphone = VirtualMicrophone()
    for _ in range(2):
        microphone.open()
        assert SOURCE_NAME in sources(server)
        microphone.close()
        microphone.close()
        assert SOURCE_NAME not in sources(server)


def test_a_second_one_in_the_same_process_leaves_the_first_alone(server: PulseServer) -> None:
    with VirtualMicrophone():
        with pytest.raises(DeviceError, match=f"process {os.getpid()}"):
            VirtualMicrophone().open()
        assert SOURCE_NAME in sources(server)


@pytest.mark.parametrize(("kind", "name"), [("sink", SINK_NAME), ("sink", SOURCE_NAME)])
def test_a_sink_of_the_users_with_such_a_name_is_left_alone(
    server: PulseServer, kind: str, name: str
) -> None:
    module = server.pactl("load-module", "module-null-sink", f"sink_name={name}").strip()
    try:
        before = state(server)
        with pytest.raises(
            DeviceError, match=f"already has a {kind} '{name}' that rtden did not make"
        ):
            VirtualMicrophone().open()
        assert state(server) == before
    finally:
        server.pactl("unload-module", module)


def test_modules_that_are_gone_already_are_no_trouble(server: PulseServer) -> None:
    with VirtualMicrophone():
        for line in reversed(server.pactl("list", "short", "modules").splitlines()):
            if "rtden.owner" in line:
                server.pactl("unload-module", line.split("\t")[0])


def test_a_second_microphone_has_a_name_of_its_own(server: PulseServer) -> None:
    with VirtualMicrophone(), VirtualMicrophone("desk"):
        names = described(server, "sources")
        assert {"rtden", "desk"} <= set(names.values())
        assert {"rtden_sink", "rtden_sink.desk"} <= set(described(server, "sinks"))
    with pytest.raises(SettingsError, match="'a b' is no name for a microphone"):
        VirtualMicrophone("a b")


def test_without_a_server_a_command_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path / 'nothing'}")
    with pytest.raises(
        DeviceError,
        match=r"no sound server answers \(Connection refused\): start it with 'systemctl "
        r"--user start pipewire-pulse'",
    ):
        VirtualMicrophone().open()


NO_MORE_FILES = """
import os, resource
from rtden.live.libpulse import load_libpulse
from rtden.live.pulse import Connection
load_libpulse()
resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), 100))
Connection()
"""


def test_too_many_open_files_do_not_end_the_process(server: PulseServer) -> None:
    """A library aborts where it lacks a file; a program that rtden runs in must not."""
    ended = run_python(NO_MORE_FILES, check=False)
    assert ended.returncode == 1
    assert "DeviceError: libpulse does not start: too many files are open" in ended.stderr


def test_a_server_that_refuses_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    strict = PulseServer(tmp_path, ("cable",), ("--disallow-module-loading",))
    try:
        for name, value in strict.env.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(
            DeviceError,
            match=r"the sound server refused module-null-sink \(Module initialization "
            r"failed\): see that it may load modules",
        ):
            VirtualMicrophone().open()
    finally:
        strict.stop()


def test_a_server_that_goes_away_leaves_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    passing = PulseServer(tmp_path, ("cable",))
    for name, value in passing.env.items():
        monkeypatch.setenv(name, value)
    microphone = VirtualMicrophone()
    try:
        microphone.open()
    finally:
        passing.stop()
    microphone.close()
