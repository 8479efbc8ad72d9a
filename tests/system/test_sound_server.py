"""Live sound in a real PulseAudio and a real PipeWire: what a user does to the devices
meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import open_browser
from conftest import DATA
from pipewire import PipeWireServer, unpacked
from pulse import RATE_HZ, PulseServer, Recording
from waiting import LIMIT_SECONDS

RTDEN = [sys.executable, "-m", "rtden"]
YETI = ("module-remap-source", "master=cable.monitor", "source_name=alsa_input.yeti")
YETI_NAME = "source_properties=\"device.description='Blue Yeti'\""
HEADSET = ("module-null-sink", "sink_name=alsa_output.headset", "rate=48000", "channels=2")
HEADSET_NAME = "sink_properties=\"device.description='USB headset'\""


STRETCH_SECONDS, PERIOD_SECONDS = 2.8, 2.0
"""Begin and length of what somebody says again and again: three quarters speech, then a pause.
Levels are measured over whole periods, so that it does not matter when one begins."""


class Live:
    """`rtden live --json` in the background, with its newest status."""

    def __init__(self, server: PulseServer, *options: str) -> None:
        self._process = subprocess.Popen(
            [*RTDEN, "live", "--json", "--status-seconds", "0.25", *options],
            env=server.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.status: dict[str, Any] = self.next()

    def next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        self.status = json.loads(line)
        return self.status

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        ends_at = time.monotonic() + LIMIT_SECONDS
        while not condition(self.next()):
            assert time.monotonic() < ends_at, self.status

    def until_recorded(self, recording: Recording, seconds: float) -> None:
        """Wait until so much more sound is recorded of what it plays."""
        wanted_seconds = recording.seconds + seconds
        self.wait_for(lambda _: recording.seconds > wanted_seconds)

    def stop(self) -> str:
        """End it and return what it said on standard error."""
        self._process.send_signal(2)
        said = self._process.communicate(timeout=LIMIT_SECONDS)[1]
        assert self._process.returncode == 0, said
        return said

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


ONE_OR_THE_OTHER = [
    pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("PulseAudio", "PipeWire")
]


class Room:
    """A server with the microphone "Blue Yeti", into which somebody speaks, and two outputs."""

    def __init__(self, start: Callable[[], PulseServer], speech: Path) -> None:
        self._start, self._speech = start, speech
        self.open()

    def open(self) -> None:
        self.server = self._start()
        self.server.pactl("load-module", *YETI, YETI_NAME)
        self.server.pactl("set-default-source", "alsa_input.yeti")
        self.server.pactl("set-default-sink", "speaker")
        self._player = self.server.play(self._speech, "cable")

    def close(self) -> None:
        self._player.kill()
        self._player.wait()
        self.server.stop()

    def is_heard(self) -> bool:
        """Return whether the microphone gives sound; a server that hangs gives none."""
        recording = self.server.record_source("alsa_input.yeti")
        try:
            recording.wait_for_sound()
        except RuntimeError:
            return False
        finally:
            recording.stop()
        return True


@pytest.fixture(scope="module", params=ONE_OR_THE_OTHER)
def room(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Room]:
    top = unpacked() if request.param == "PipeWire" else None
    if request.param == "PipeWire" and top is None:
        pytest.skip("Debian's packages of PipeWire cannot be downloaded")

    def start() -> PulseServer:
        folder, sinks = tmp_path_factory.mktemp(request.param), ("cable", "speaker")
        return PipeWireServer(folder, sinks, top=top) if top else PulseServer(folder, sinks)

    speech, rate_hz = soundfile.read(DATA / "noisy.flac")
    begin, period = round(STRETCH_SECONDS * rate_hz), round(PERIOD_SECONDS * rate_hz)
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.tile(speech[begin : begin + period], 500), rate_hz)
    opened = Room(start, path)
    yield opened
    opened.close()


@pytest.fixture
def server(room: Room) -> Iterator[PulseServer]:
    """Return the server of the room; a test that leaves it silent fails, and not those after it."""
    yield room.server
    if not room.is_heard():
        room.close()
        room.open()
        pytest.fail("the test left a sound server that gives no sound; a new one was started.")


@pytest.fixture
def live(server: PulseServer) -> Iterator[Callable[..., Live]]:
    """Return a function that starts `rtden live`."""
    started: list[Live] = []

    def start(*options: str) -> Live:
        started.append(Live(server, *options))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def level_db(samples: np.ndarray) -> float:
    """Return the level of a recording over the last period of what is said."""
    period = round(PERIOD_SECONDS * RATE_HZ)
    assert len(samples) >= period
    return float(10 * np.log10(np.mean(samples[-period:] ** 2) + 1e-12))


def loud(status: dict[str, Any]) -> bool:
    """Return whether somebody speaks into the microphone of rtden."""
    return (status["input_db"] or -99.0) > -45.0


def recorded_from(server: PulseServer) -> set[str]:
    """Return the names of the sources that programs record from."""
    known = dict(
        line.split("\t")[:2] for line in server.pactl("list", "short", "sources").splitlines()
    )
    rows = server.pactl("list", "source-outputs").splitlines()
    return {known.get(row.split(": ")[1], "?") for row in rows if row.startswith("\tSource: ")}


@pytest.mark.real_time
@pytest.mark.parametrize("options", [(), ("--in", "yeti")], ids=["default", "by name"])
def test_choosing_rtden_as_the_systems_microphone_leaves_the_sound_alone(
    server: PulseServer, live: Callable[..., Live], tmp_path: Path, options: tuple[str, ...]
) -> None:
    # ALSA without its plugin for PulseAudio, as on a fresh Debian.
    (tmp_path / "alsa.conf").write_text("pcm.!default { type null }\n", encoding="utf-8")
    server.env["ALSA_CONFIG_PATH"] = str(tmp_path / "alsa.conf")
    running = live("--out", "virtual-mic", *options)
    del server.env["ALSA_CONFIG_PATH"]
    call = server.record_source("rtden")
    call.wait_for_sound()
    running.until_recorded(call, 3.0)
    before_db = level_db(call.stop())
    call = server.record_source("rtden")
    call.wait_for_sound()
    server.pactl("set-default-source", "rtden")
    running.until_recorded(call, 4.0)
    after_db = level_db(call.stop())
    sources = recorded_from(server)
    running.stop()
    server.pactl("set-default-source", "alsa_input.yeti")
    # An rtden that records itself falls below -90 dB.
    assert before_db > -40.0
    assert after_db == pytest.approx(before_db, abs=6.0)
    assert loud(running.status)
    assert running.status["state"] == "running"
    assert "alsa_input.yeti" in sources


@pytest.mark.real_time
def test_the_microphone_stays_the_default_over_a_restart(
    server: PulseServer, live: Callable[..., Live]
) -> None:
    """A desktop remembers the choice: the next rtden must not record itself, and must
    not undo it.
    """
    first = live("--out", "virtual-mic")
    server.pactl("set-default-source", "rtden")
    first.stop()
    second = live("--out", "virtual-mic")
    second.wait_for(loud)
    assert server.pactl("get-default-source").strip() == "rtden"
    second.stop()
    server.pactl("set-default-source", "alsa_input.yeti")


def test_people_find_their_devices_by_the_names_that_they_know(server: PulseServer) -> None:
    def said(*arguments: str) -> str:
        ended = subprocess.run(
            [*RTDEN, *arguments],
            env={**server.env, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.stdout + ended.stderr

    listed = said("devices")
    assert "Blue Yeti" in listed
    assert "alsa_input.yeti" in listed
    assert "cable.monitor" not in listed
    everything = said("devices", "--all")
    assert "cable.monitor" in everything
    assert "ALSA" in everything
    assert "means several output devices" in said("live", "--out", "e")
    assert "no input device matches 'airpods': choose from Blue Yeti" in said(
        "live", "--in", "airpods"
    )


def test_a_monitor_of_the_output_is_refused_as_microphone(server: PulseServer) -> None:
    ended = subprocess.run(
        [*RTDEN, "live", "--in", "speaker.monitor", "--out", "speakers", "--duration", "1"],
        env=server.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "rtden would record what it plays" in ended.stderr


@contextlib.contextmanager
def connected(server: PulseServer, *module: str) -> Iterator[None]:
    """Load a module of the server, a device, and unload it at the end."""
    loaded = server.pactl("load-module", *module).strip()
    yield
    server.pactl("unload-module", loaded)


def assert_headset_plays(server: PulseServer, running: Live) -> None:
    heard = server.record("alsa_output.headset")
    heard.wait_for_sound()  # the server moves a stream when it comes to that
    running.until_recorded(heard, 3.0)
    assert level_db(heard.stop()) > -45.0


@pytest.mark.real_time
def test_an_output_that_is_unplugged_is_followed_and_returned_to(
    server: PulseServer, live: Callable[..., Live]
) -> None:
    with connected(server, *HEADSET, HEADSET_NAME):
        running = live("--out", "headset")
        running.wait_for(loud)
    running.wait_for(lambda status: "USB headset" in json.dumps(status))
    with connected(server, *HEADSET, HEADSET_NAME):
        running.wait_for(lambda status: "USB headset" not in json.dumps(status))
        assert_headset_plays(server, running)
        running.stop()


@pytest.mark.real_time
def test_a_microphone_that_is_unplugged_is_found_again_by_its_name(
    server: PulseServer, live: Callable[..., Live]
) -> None:
    usb = ("module-remap-source", "master=cable.monitor", "source_name=alsa_input.usb")
    with connected(server, *usb):
        running = live("--in", "alsa_input.usb", "--out", "speaker")
        running.wait_for(loud)
    running.wait_for(lambda status: "alsa_input.usb" in status["state"])
    with connected(server, *usb):
        running.wait_for(lambda status: status["state"] == "running")
        running.wait_for(loud)
        running.stop()


@pytest.mark.real_time
def test_a_muted_and_a_silent_microphone_are_told_with_what_helps(
    server: PulseServer, live: Callable[..., Live]
) -> None:
    running = live("--in", "yeti", "--out", "speaker")
    running.wait_for(loud)
    assert running.status["warnings"] == []
    server.pactl("set-source-mute", "alsa_input.yeti", "1")
    command = "run 'pactl set-source-mute alsa_input.yeti 0'"
    running.wait_for(lambda status: command in "".join(status["warnings"]))
    server.pactl("set-source-mute", "alsa_input.yeti", "0")
    running.wait_for(lambda status: not status["warnings"])
    running.stop()
    quiet = ("module-remap-source", "master=nobody.monitor", "source_name=alsa_input.quiet")
    with connected(server, "module-null-sink", "sink_name=nobody"), connected(server, *quiet):
        running = live("--in", "alsa_input.quiet", "--out", "speaker")
        running.wait_for(lambda status: "gives digital silence" in "".join(status["warnings"]))
        running.stop()


@pytest.mark.real_time
def test_another_default_output_is_followed(server: PulseServer, live: Callable[..., Live]) -> None:
    with connected(server, *HEADSET, HEADSET_NAME):
        running = live("--in", "yeti")
        running.wait_for(loud)
        server.pactl("set-default-sink", "alsa_output.headset")
        assert_headset_plays(server, running)
        running.stop()
        server.pactl("set-default-sink", "speaker")


@pytest.mark.real_time
def test_another_default_microphone_is_followed(
    server: PulseServer, live: Callable[..., Live]
) -> None:
    usb = ("module-remap-source", "master=speaker.monitor", "source_name=alsa_input.usb")
    with connected(server, *usb):
        running = live("--out", "virtual-mic")
        running.wait_for(loud)
        server.pactl("set-default-source", "alsa_input.usb")  # nobody speaks into this one
        running.wait_for(lambda status: (status["input_db"] or -99.0) < -80.0)
        server.pactl("set-default-source", "alsa_input.yeti")
        running.wait_for(loud)
        running.stop()


LISTEN = """
const [label, done] = arguments;
(async () => {
  const plain = {noiseSuppression: false, echoCancellation: false, autoGainControl: false};
  const asked = await navigator.mediaDevices.getUserMedia({audio: true});
  asked.getTracks().forEach(track => track.stop());
  const known = await navigator.mediaDevices.enumerateDevices();
  const found = known.find(one => one.kind === "audioinput" && one.label === label);
  const audio = {deviceId: {exact: found.deviceId}, ...plain};
  const context = new AudioContext(), levels = [];
  const microphone = await navigator.mediaDevices.getUserMedia({audio});
  const source = context.createMediaStreamSource(microphone);
  const tap = context.createScriptProcessor(4096, 1, 1);
  tap.onaudioprocess = event => {
    const samples = event.inputBuffer.getChannelData(0);
    levels.push(10 * Math.log10(samples.reduce((sum, x) => sum + x * x, 1e-12) / samples.length));
    if (levels.length * 4096 < 5.5 * context.sampleRate) return;
    context.close();
    done({levels, rate: context.sampleRate});
  };
  source.connect(tap);
  tap.connect(context.destination);
})().catch(error => done({error: String(error)}));
"""


@pytest.mark.real_time
def test_a_call_in_chromium_hears_the_cleaned_voice(
    server: PulseServer, live: Callable[..., Live], tmp_path: Path
) -> None:
    pytest.importorskip("selenium")
    (tmp_path / "index.html").write_text("<title>A call</title>", encoding="utf-8")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    running = live("--out", "virtual-mic")
    server.pactl("set-default-source", "rtden")
    driver = open_browser(tmp_path, env=server.env)
    try:
        driver.set_script_timeout(LIMIT_SECONDS)
        driver.get(f"http://127.0.0.1:{web.server_port}/")
        heard = {name: driver.execute_async_script(LISTEN, name) for name in ("rtden", "Blue Yeti")}
    finally:
        driver.quit()
        web.shutdown()
    running.stop()
    server.pactl("set-default-source", "alsa_input.yeti")
    assert not [found["error"] for found in heard.values() if "error" in found]
    blocks = round(2 * PERIOD_SECONDS * heard["rtden"]["rate"] / 4096)
    cleaned, noisy = (np.array(heard[name]["levels"])[-blocks:] for name in ("rtden", "Blue Yeti"))
    pauses_db, voice_db = (np.percentile(noisy, at) - np.percentile(cleaned, at) for at in (10, 90))
    assert abs(voice_db) < 6.0
    assert pauses_db > 10.0, (pauses_db, voice_db)
