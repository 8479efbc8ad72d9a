"""The rules of the page's server: who may ask, what may be sent, and what is answered."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import invoke
from conftest import DATA
from waiting import until

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from rtden import Settings, denoise_file
from rtden.app.web import saved_token
from rtden.errors import SettingsError
from rtden.web import jobs
from rtden.web.choices import DEFAULTS, load_choices, save_choices, settings_folder, settings_of
from rtden.web.server import make_app

HERE, TRIAL = "http://localhost", "ws://localhost/api/trial"
TOKEN = "a-token-of-some-length"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def client() -> Any:
    with TestClient(make_app(most_mb=1), base_url=HERE) as client:
        yield client


@pytest.fixture
def guarded() -> Any:
    with TestClient(make_app(token=TOKEN), base_url="http://192.168.0.9") as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.168.0.9", ""])
def test_a_foreign_host_name_is_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/api/status", "/static/app.js"):
        assert client.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8765", "LOCALHOST"])
def test_the_machine_s_own_names_are_taken(client: TestClient, host: str) -> None:
    assert client.get("/api/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:1234"},
        {"origin": "https://localhost"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    changes = {"strength": 0.5}
    assert client.patch("/api/live", json=changes, headers=headers).status_code == 403
    assert client.post("/api/files?name=a.wav", content=b"x", headers=headers).status_code == 403
    assert client.delete("/api/files", headers=headers).status_code == 403
    assert client.get("/api/devices", headers=headers).status_code == 403
    assert client.get("/", headers=headers).status_code == 200  # a link to the page is no harm
    for path in ("/api/live/levels", "/api/trial"):
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(f"ws://localhost{path}", headers=headers),
        ):
            pass
    assert client.get("/api/live").json()["choices"]["strength"] == 1.0


def test_the_own_page_and_scripts_may(client: TestClient) -> None:
    for headers in ({"origin": HERE, "sec-fetch-site": "same-origin"}, {}):
        answer = client.patch("/api/live", json={"strength": 0.5}, headers=headers)
        assert answer.json()["choices"]["strength"] == 0.5
        with client.websocket_connect("ws://localhost/api/live/levels", headers=headers) as socket:
            assert socket.receive_json()["on"] is False
            socket.send_text("what a visitor says is not heard")
            assert socket.receive_json()["on"] is False


def test_without_the_token_only_the_bare_page_is_given(guarded: TestClient) -> None:
    assert guarded.get("/").status_code == 200
    assert guarded.get("/static/app.js").status_code == 200
    for path in ("/api/status", "/api/live", "/api/files", "/api/devices", "/api/nothing"):
        assert guarded.get(path).status_code == 401
    assert guarded.get("/api/live", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get("/api/live", headers={"cookie": f"rtden={TOKEN}"}).status_code == 401
    with (
        pytest.raises(WebSocketDisconnect),
        guarded.websocket_connect("ws://192.168.0.9/api/live/levels"),
    ):
        pass


def test_the_token_opens_by_cookie_and_as_a_bearer(guarded: TestClient) -> None:
    assert guarded.get("/api/live", headers={"authorization": f"bearer {TOKEN}"}).is_success
    assert guarded.post("/api/login", json={"token": "wrong"}).status_code == 401
    assert guarded.post("/api/login", json={"token": 1}).status_code == 422
    answer = guarded.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/api/live").is_success
    with guarded.websocket_connect("ws://192.168.0.9/api/live/levels") as socket:
        assert socket.receive_json()["on"] is False


def test_the_token_is_made_once_and_kept_private(capsys: pytest.CaptureFixture[str]) -> None:
    token, ending = saved_token()
    assert ending == f"#token={token}"
    assert token in capsys.readouterr().out
    assert saved_token() == (token, "")
    assert token not in capsys.readouterr().out
    assert (settings_folder() / "ui-token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--token", "short"], "16 characters"),
        (["--token", "sixteen letters, ä"], "without accents"),
        (["--certificate", "/no/such.pem"], "No such file"),
        (["--certificate", __file__], "a certificate and its key"),
        (["--host", "203.0.113.1"], "cannot be used"),
        (["--port", "99999"], "99999 is not in the range 0<=x<=65535"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(arguments: list[str], words: str) -> None:
    said = invoke("ui", "--no-browser", "--port", "0", *arguments)
    assert said.exit_code == 2
    assert words in said.stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = invoke("ui", "--no-browser")
    assert said.exit_code == 2
    assert "web" in said.stderr


def test_a_service_without_the_page_s_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    said = invoke("service", "install", "--ui", "--", "--host", "0.0.0.0")
    assert said.exit_code == 2
    assert "needs the package platformdirs" in said.stderr


def test_the_service_starts_the_page() -> None:
    said = invoke("service", "install", "--ui", "--dry-run", "--", "--host", "0.0.0.0")
    assert re.search(r"^ExecStart=.* ui --no-browser --host 0\.0\.0\.0$", said.stdout, re.MULTILINE)
    assert not (settings_folder() / "ui-token").exists()  # a dry run changes nothing


def test_every_answer_forbids_foreign_scripts(guarded: TestClient) -> None:
    for path in ("/", "/static/app.js", "/api/status", "/api/nothing"):
        headers = guarded.get(path).headers
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_no_address_elsewhere() -> None:
    static = Path(jobs.__file__).parent / "static"
    for path in static.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text
        assert not re.search(r"""["'(]//""", text)


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static/"])
def test_static_files_alone_are_given(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/api/sattus", 404), ("POST", "/api/live", 405)]
)
def test_a_request_that_does_not_exist_is_refused_in_a_sentence(
    client: TestClient, method: str, path: str, code: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == code
    assert answer.json()["error"].startswith(f"there is no {method} {path}; /api/openapi.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 2},
        {"strength": None},
        {"strength": True},
        {"limit_db": -1},
        {"limit_db": "3"},
        {"latency_ms": 0},
        {"latency_ms": 10**400},
        {"on": 1},
        {"bypassed": "yes"},
        {"stereo": None},
        {"input": 3},
        {"input": ""},
        {"input": "/etc/passwd.wav"},
        {"output": "../../anything.wav"},
        {"model": "/tmp/model.tflite"},
        {"model": "no such model"},
        {"record": "/tmp"},
        {"anything": 1},
    ],
)
def test_wrong_choices_are_refused_in_a_sentence(client: TestClient, wrong: dict[str, Any]) -> None:
    answer = client.patch("/api/live", json=wrong)
    assert answer.status_code == (404 if "model" in wrong else 422)
    assert len(answer.json()["error"].split()) > 3
    assert client.get("/api/live").json()["choices"] == DEFAULTS


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 9000, b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_refused(client: TestClient, body: bytes) -> None:
    assert client.patch("/api/live", content=body).status_code == 422


def test_a_body_beyond_all_measure_is_refused(client: TestClient) -> None:
    assert client.patch("/api/live", content=b" " * 20_000).status_code == 413


def test_choices_are_remembered(client: TestClient) -> None:
    client.patch("/api/live", json={"strength": 0.75, "limit_db": 12, "input": "USB"})
    saved = load_choices()
    assert saved == {**DEFAULTS, "strength": 0.75, "limit_db": 12, "input": "USB"}
    assert settings_of(saved) == Settings(strength=0.75, limit_db=12)
    assert (settings_folder() / "live.json").stat().st_mode & 0o777 == 0o600
    with TestClient(make_app(), base_url=HERE) as later:
        assert later.get("/api/live").json()["choices"]["input"] == "USB"


def test_without_saved_choices_the_defaults_hold() -> None:
    assert load_choices() == DEFAULTS
    assert settings_of(DEFAULTS) == Settings(limit_db=math.inf)


@pytest.mark.parametrize("text", ["", "{", '{"strength": 3}', '{"unknown": 1}', "[" * 99999])
def test_damaged_saved_choices_are_named(text: str) -> None:
    save_choices(DEFAULTS)
    (settings_folder() / "live.json").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"live\.json cannot be used"):
        load_choices()
    with TestClient(make_app(), base_url=HERE) as client:
        assert "live.json" in client.get("/api/live").json()["error"]


def finished(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        answer: dict[str, Any] = client.get(f"/api/files/{job['id']}").json()
        return answer

    until(lambda: found()["state"] in {"ready", "failed"}, found)
    return found()


def sent(client: TestClient, path: Path, name: str) -> dict[str, Any]:
    answer = client.post("/api/files", params={"name": name}, content=path.read_bytes())
    assert answer.status_code == 201
    return finished(client, answer.json())


def test_a_recording_comes_back_as_the_command_line_gives_it(
    client: TestClient, tmp_path: Path
) -> None:
    noisy = tmp_path / "noisy.flac"
    soundfile.write(noisy, soundfile.read(DATA / "noisy.flac")[0][:60000], 22050)
    job = sent(client, noisy, "a talk.flac")
    assert job["state"] == "ready"
    assert job["noise_removed_db"] > 5
    url = f"/api/files/{job['id']}"
    answer = client.get(f"{url}/download")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "a%20talk.denoised.flac" in answer.headers["content-disposition"]
    denoise_file(noisy, tmp_path / "expected.flac")
    (tmp_path / "got.flac").write_bytes(answer.content)
    expected, _ = soundfile.read(tmp_path / "expected.flac")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "got.flac")[0], expected)

    half = client.get(f"{url}/download", params={"strength": "0.5"})
    (tmp_path / "half.flac").write_bytes(half.content)
    denoise_file(noisy, tmp_path / "expected half.flac", settings=Settings(strength=0.5))
    expected_half = soundfile.read(tmp_path / "expected half.flac")[0]
    np.testing.assert_allclose(soundfile.read(tmp_path / "half.flac")[0], expected_half, atol=1e-3)
    assert not list(tmp_path.glob("rtden-ui-*/*/mix-*"))  # the mix is not kept

    (tmp_path / "preview.flac").write_bytes(client.get(f"{url}/preview").content)
    preview = soundfile.read(tmp_path / "preview.flac")[0]
    original = soundfile.read(noisy)[0]
    np.testing.assert_allclose(preview[:, 0], original, atol=1e-4)
    np.testing.assert_allclose(preview[:, 1], expected, atol=1e-4)
    assert client.get(f"{url}/preview", headers={"range": "bytes=0-9"}).status_code == 206

    picture = np.frombuffer(client.get(f"{url}/picture").content, np.uint8)
    before, after = picture.reshape(2, -1, client.get("/api/status").json()["bands"]).astype(float)
    assert before.mean() > after.mean() + 5
    assert 100 < len(before) < 1200


@pytest.fixture
def brief(tmp_path: Path) -> Path:
    """Return a recording of a second."""
    samples, rate_hz = soundfile.read(DATA / "clean.flac", frames=22050)
    soundfile.write(tmp_path / "brief.flac", samples, rate_hz)
    return tmp_path / "brief.flac"


def test_what_is_no_recording_is_named(client: TestClient, tmp_path: Path, brief: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is text\n" * 100, encoding="utf-8")
    job = sent(client, text, "text.wav")
    assert job["state"] == "failed"
    assert "text.wav" in job["error"]
    assert "rtden-ui" not in job["error"]
    for part in ("preview", "picture", "download"):
        assert client.get(f"/api/files/{job['id']}/{part}").status_code == 409
    good = sent(client, brief, "brief.flac")  # the next one is not harmed
    assert good["state"] == "ready"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\talk.wav", "talk.wav"),
        ("a\x00\nb.wav", "ab.wav"),
        ("..", "recording"),
        ("x" * 300 + ".flac", "x" * 100 + ".flac"),
        ("Übung 1.mp3", "Übung 1.mp3"),
        ("<script>.wav", "<script>.wav"),
    ],
)
def test_names_are_shown_and_never_become_paths(
    client: TestClient, tmp_path: Path, name: str, shown: str
) -> None:
    job = client.post("/api/files", params={"name": name}, content=b"x").json()
    assert job["name"] == shown
    (folder,) = tmp_path.glob("rtden-ui-*")
    assert {path.parent.name for path in folder.rglob("source*")} == {job["id"]}


def test_uploads_are_limited_in_size_and_number(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unannounced = (b"x" * 100_000 for _ in range(30))  # without a Content-Length
    for content in (b"x" * 1_000_001, unannounced):
        answer = client.post("/api/files?name=big.wav", content=content)
        assert answer.status_code == 413
        assert "1 MB" in answer.json()["error"]
    assert client.post("/api/files?name=none.wav", content=b"").status_code == 422
    assert client.get("/api/files").json() == {"files": []}
    assert not list(tmp_path.glob("rtden-ui-*/*"))
    with monkeypatch.context() as full:
        full.setattr(jobs, "SPARE_BYTES", 1 << 62)
        answer = client.post("/api/files?name=a.wav", content=b"x")
        assert answer.status_code == 413
        assert "disk" in answer.json()["error"]
    monkeypatch.setattr(jobs, "MOST_FILES", 2)
    codes = [client.post("/api/files?name=a.wav", content=b"x").status_code for _ in range(3)]
    assert codes == [201, 201, 413]
    assert client.delete("/api/files").status_code == 204
    assert not list(tmp_path.glob("rtden-ui-*/*"))


def test_removing_a_recording_ends_the_work_on_it(
    client: TestClient, tmp_path: Path, brief: Path
) -> None:
    long = tmp_path / "long.flac"
    soundfile.write(long, np.zeros(300 * 48000, np.int16), 48000)
    job = client.post("/api/files?name=long.flac", content=long.read_bytes()).json()
    until(lambda: client.get(f"/api/files/{job['id']}").json()["state"] == "working")
    assert client.delete(f"/api/files/{job['id']}").status_code == 204
    assert client.get(f"/api/files/{job['id']}").status_code == 404
    assert sent(client, brief, "brief.flac")["state"] == "ready"


def test_work_on_a_removed_recording_has_ended() -> None:
    """A process that outlived the event loop would complain of it."""

    async def blocks() -> AsyncIterator[bytes]:
        yield (DATA / "clean.flac").read_bytes()

    async def remove_one_that_is_worked_on() -> None:
        recordings = jobs.Jobs(most_bytes=10_000_000)
        job = await recordings.add("clean.flac", blocks(), 0)
        while job.state != "working":
            await asyncio.sleep(0.01)
        await recordings.remove(job)
        assert job.task is not None
        assert job.task.done()
        await recordings.close()

    asyncio.run(remove_one_that_is_worked_on())


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    killed = tmp_path / f"{jobs.FOLDER_PREFIX}4194999-abcd"  # beyond any process id
    killed.mkdir()
    (tmp_path / f"{jobs.FOLDER_PREFIX}name-abcd").mkdir()
    with TestClient(make_app(), base_url=HERE) as client:
        assert not killed.exists()
        client.post("/api/files?name=a.wav", content=b"x")
        assert len(list(tmp_path.glob(f"{jobs.FOLDER_PREFIX}*"))) == 2
    assert [path.name for path in tmp_path.glob("rtden-ui-*")] == ["rtden-ui-name-abcd"]
    shutil.rmtree(tmp_path / "rtden-ui-name-abcd")


def test_a_microphone_of_the_browser_comes_back_clean(client: TestClient) -> None:
    noisy, rate_hz = soundfile.read(DATA / "noisy.flac", dtype="int16")
    size = rate_hz // 50
    with client.websocket_connect(f"{TRIAL}?rate_hz={rate_hz}") as socket:
        assert 10 < socket.receive_json()["latency_ms"] < 100
        got = b""
        for start in range(0, 100 * size, size):
            block = noisy[start : start + size].tobytes()
            socket.send_bytes(block)
            got += socket.receive_bytes()
            assert len(got) == 2 * (start + size)
    cleaned = np.frombuffer(got, np.int16).astype(float)
    quiet_before = np.sort(np.abs(noisy[size : 100 * size].astype(float)))
    assert np.median(np.abs(cleaned)) < 0.5 * np.median(quiet_before)


@pytest.mark.parametrize(
    "query", ["", "?rate_hz=", "?rate_hz=x", "?rate_hz=1", f"?rate_hz={9**99}"]
)
def test_a_wrong_rate_ends_the_trial(client: TestClient, query: str) -> None:
    connecting = client.websocket_connect(f"{TRIAL}{query}")
    with connecting as socket, pytest.raises(WebSocketDisconnect) as ended:
        socket.receive_json()
    assert ended.value.code == 4400


def test_trials_are_limited_in_number(client: TestClient) -> None:
    connect = client.websocket_connect
    trial = f"{TRIAL}?rate_hz=16000"
    with connect(trial), connect(trial), connect(trial) as third:
        with pytest.raises(WebSocketDisconnect) as ended:
            third.receive_json()
        assert ended.value.code == 4409


def test_the_description_names_every_route(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()["paths"]
    routes = {
        (route.path, method.lower())
        for route in client.app.routes  # type: ignore[attr-defined]
        if route.path.startswith("/api/") and getattr(route, "methods", None)
        for method in route.methods - {"HEAD"}
    }
    assert routes == {(path, method) for path, item in described.items() for method in item}
    assert json.dumps(described)
