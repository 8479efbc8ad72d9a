from __future__ import annotations

import json
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import invoke
from conftest import DATA
from waiting import until

from rtden.errors import ControlError
from rtden.live import LiveEngine, open_live
from rtden.live.control import ControlServer, ask, running_names, socket_path

if not hasattr(socket, "AF_UNIX"):
    pytest.skip("this system has no Unix sockets", allow_module_level=True)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LiveEngine]:
    with open_live(str(DATA / "noisy.flac"), str(tmp_path / "heard.wav"), realtime=False) as made:
        yield made


def test_a_running_stream_is_switched_from_outside(engine: LiveEngine) -> None:
    with ControlServer(engine):
        assert stat.S_IMODE(socket_path("live").stat().st_mode) == 0o600
        status = ask({"command": "status"})
        assert (status["name"], status["state"], status["bypassed"]) == ("live", "running", False)
        assert status["limit_db"] is None
        assert ask({"command": "set", "strength": 0.5, "limit_db": 12})["strength"] == 0.5
        assert (engine.strength, engine.limit_db) == (0.5, 12.0)
        assert ask({"command": "toggle", "name": "muted"})["muted"]
        assert not ask({"command": "toggle", "name": "muted"})["muted"]
        ask({"command": "stop"})
        until(lambda: not engine.running)
    assert not running_names()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"command": "explode"}, "no command 'explode'"),
        ({"command": "set", "limit_db": -1}, "limit_db"),
        ({"command": "set", "strength": "much"}, "much"),
        ({"command": "toggle", "name": "resources"}, "no command 'toggle'"),
        ({}, "command"),
    ],
)
def test_what_cannot_be_done_is_refused_and_the_stream_goes_on(
    engine: LiveEngine, request_: dict[str, object], words: str
) -> None:
    with ControlServer(engine):
        with pytest.raises(ControlError, match=words):
            ask(request_)
        assert ask({"command": "status"})["state"] == "running"


def test_a_line_that_is_no_json_gets_an_answer(engine: LiveEngine) -> None:
    with ControlServer(engine), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(socket_path("live")))
        client.sendall(b'nonsense\n[1]\n{"command": "status"}\n')
        lines = client.makefile()
        assert [json.loads(lines.readline())["ok"] for _ in range(3)] == [False, False, True]


def test_several_streams_have_names(engine: LiveEngine) -> None:
    with ControlServer(engine) as first, ControlServer(engine) as second:
        assert (first.name, second.name) == ("live", "live-2")
        assert running_names() == ["live", "live-2"]
        with pytest.raises(
            ControlError, match="several live streams run: give --name live or live-2"
        ):
            ask({"command": "status"})
        assert ask({"command": "status"}, "live-2")["name"] == "live-2"
        with pytest.raises(ControlError, match="a live stream 'live' runs already"):
            ControlServer(engine, "live")
        with pytest.raises(ControlError, match="x' is no name"):
            ControlServer(engine, "../x")


def test_the_socket_of_a_killed_process_is_replaced(engine: LiveEngine) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path("live")))
    assert not running_names()
    with ControlServer(engine) as server:
        assert server.name == "live"


def test_the_command_line(engine: LiveEngine) -> None:
    def said(*arguments: str) -> str:
        result = invoke("ctl", *arguments)
        assert result.exit_code in (0, 2)
        return result.output

    assert "no live stream runs: start one with 'rtden live'" in said("status")
    with ControlServer(engine):
        assert "live: running, " in said("status")
        assert "bypass on" in said("bypass")
        assert "bypass off" in said("bypass", "off")
        assert "strength 0.8, limit none" in said("strength", "0.8")
        assert "limit 12 dB" in said("limit", "12")
        assert "mute on" in said("mute")
        assert json.loads(said("status", "--json"))["muted"]
        assert "takes on or off, not 'maybe'" in said("mute", "maybe")
        assert "needs a number" in said("strength")
        assert "live stops" in said("stop")


def test_without_a_runtime_folder_there_is_a_private_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = socket_path("live").parent
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
