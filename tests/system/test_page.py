"""`rtden ui` in a real Chromium, with live sound between two sinks of a real PulseAudio server."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import soxr
from browser import Server, open_browser
from conftest import DATA
from pulse import RATE_HZ, PulseServer
from signals import aligned_si_sdr_db, delay_samples
from waiting import LIMIT_SECONDS, until

from rtden.measure.metrics import si_sdr_db

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = pytest.mark.xdist_group("page")  # one browser

TOKEN = "token-of-the-living-room"


def sound(name: str) -> np.ndarray:
    samples, rate_hz = soundfile.read(DATA / f"{name}.flac", dtype="float32")
    return np.asarray(soxr.resample(samples, rate_hz, RATE_HZ))


CLEAN, NOISY = sound("clean"), sound("noisy")


@pytest.fixture(scope="module")
def pulse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulseServer]:
    started = PulseServer(tmp_path_factory.mktemp("pulse"), ("speaker", "cable"))
    started.plug_in("desk", "Desk", "cable")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def noisy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "a talk.wav"
    soundfile.write(path, NOISY, RATE_HZ, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def server(pulse: PulseServer) -> Iterator[Server]:
    started = Server(pulse.env, "--max-mb", "3")
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def chromium(
    pulse: PulseServer, noisy_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    driver = open_browser(
        tmp_path_factory.mktemp("browser"),
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={noisy_file}",
        env=pulse.env,
    )
    yield driver
    driver.quit()


class Page:
    """The page as a visitor uses it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address
        if driver.current_url.startswith(address):  # elsewhere there is nothing of it
            driver.execute_script("sessionStorage.clear()")
        driver.get(address)
        self.until(lambda: self.find("input").find_elements(By.TAG_NAME, "option"))

    def find(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return str(self.find(name).text)

    def click(self, name: str) -> None:
        self.find(name).click()

    def select(self, name: str, value: str) -> None:
        self.until(lambda: value in self.options(name))
        Select(self.find(name)).select_by_value(value)

    def options(self, name: str) -> list[str]:
        script = "return [...arguments[0].options].map((option) => option.value)"
        return list(self.driver.execute_script(script, self.find(name)))

    def until(self, what: Callable[[], Any]) -> Any:
        return until(what, lambda: self.driver.find_element(By.TAG_NAME, "body").text)

    def call(self, method: str, path: str, body: str = "null") -> Any:
        script = """const [method, path, body, done] = arguments;
            fetch(path, {method, body}).then(async (answer) => done([answer.status,
            await answer.text()]))"""
        body_or_none = None if body == "null" else body
        return self.driver.execute_async_script(script, method, path, body_or_none)

    def drop(self, *paths: Path) -> None:
        """Drop files as a file manager does: a script may not make files, an input may."""
        carrier = self.driver.execute_script(
            "const i = document.createElement('input'); i.type = 'file'; i.multiple = true;"
            "document.body.append(i); return i"
        )
        carrier.send_keys("\n".join(map(str, paths)))
        self.driver.execute_script(
            "const d = new DataTransfer(); for (const f of arguments[0].files) d.items.add(f);"
            "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: d, bubbles: true,"
            " cancelable: true})); arguments[0].remove()",
            carrier,
        )

    def job(self, name: str) -> str:
        """Return what the page says of a recording once it is ready or has failed."""
        script = """return [...document.querySelectorAll('#queue .ready, #queue .failed')]
            .map((row) => row.innerText).filter((text) => text.includes(arguments[0])).join()"""
        return str(self.until(lambda: self.driver.execute_script(script, name)))

    def log(self) -> list[str]:
        """Return what went wrong in the page, but for requests that were refused."""
        messages = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]
        return [text for text in messages if not re.search(r"status of 4\d\d", text)]


@pytest.fixture
def page(chromium: Any, server: Server) -> Iterator[Page]:
    opened = Page(chromium, server.address)
    opened.log()  # drops the complaints of a page before it, whose server had ended
    yield opened
    opened.call("PATCH", "/api/live", '{"on": false}')
    opened.call("DELETE", "/api/files")
    assert not opened.log()


@pytest.mark.real_time
def test_the_switch_cleans_a_microphone(
    page: Page, pulse: PulseServer, noisy_file: Path, tmp_path: Path
) -> None:
    page.select("input", "desk")
    page.select("output", "speaker")
    assert page.find("before-meter").get_property("value") == -60  # off, the meters are empty
    page.driver.find_element(By.TAG_NAME, "summary").click()
    page.select("latency_ms", "250")
    page.click("record")
    page.click("switch")
    page.until(lambda: page.text("switch-label") == "Live sound is on")
    recording = pulse.record("speaker")
    recording.wait(0.1)  # the server takes up to 2 s at times
    pulse.play(noisy_file, "cable")
    page.until(lambda: page.find("before-meter").get_property("value") > -50)
    page.until(lambda: picture(page, "before").mean() > picture(page, "after").mean() + 5)
    recording.wait_for_sound()
    recording.wait(5.0)
    assert "ms" in page.text("latency")
    assert "denoiser" in page.text("parts")
    assert "%" in page.text("load")
    heard = recording.stop()
    page.click("switch")
    page.until(lambda: page.text("switch-label") == "Live sound is off")
    page.until(lambda: "before, after" in page.text("recorded"))
    page.click("record")
    page.select("latency_ms", "")
    links = page.find("recorded").find_elements(By.TAG_NAME, "a")
    noisy, cleaned = (fetched(link.get_attribute("href"), tmp_path) for link in links)
    gains, arrived = judged(noisy, cleaned, heard)
    assert np.median(gains) > 3
    assert any(arrived)  # drop-outs of a busy machine spoil some, not all


def judged(
    noisy: np.ndarray, cleaned: np.ndarray, heard: np.ndarray
) -> tuple[list[float], list[bool]]:
    """Return the gain in SI-SDR of each loud piece, and whether it was heard as it was cleaned."""
    gains, arrived = [], []
    for start in range(RATE_HZ, 5 * RATE_HZ, RATE_HZ // 2):
        piece = slice(start, start + RATE_HZ // 2)
        at = delay_samples(noisy, NOISY[piece])
        same = slice(at, at + RATE_HZ // 2)
        if at < 0 or len(cleaned[same]) < RATE_HZ // 2 or cleaned[same].std() < 0.01:
            continue  # recorded no longer, or a pause
        if aligned_si_sdr_db(NOISY[piece], noisy[same]) > 15:  # it reached rtden as it was played
            was, became = (aligned_si_sdr_db(CLEAN[piece], side[same]) for side in (noisy, cleaned))
            gains.append(became - was)
            arrived.append(aligned_si_sdr_db(cleaned[same], heard) > 15)
    return gains, arrived


def fetched(address: str, folder: Path) -> np.ndarray:
    """Return the sound that a link of the page gives."""
    with urllib.request.urlopen(address) as answer:
        (folder / "fetched.wav").write_bytes(answer.read())
    samples, rate_hz = soundfile.read(folder / "fetched.wav", dtype="float32")
    assert rate_hz == RATE_HZ
    return np.asarray(samples)


def picture(page: Page, name: str) -> np.ndarray:
    """Return how bright the newest columns of a spectrogram are."""
    script = """const c = arguments[0];
        return [...c.getContext('2d').getImageData(c.width - 40, 0, 40, c.height).data]"""
    return np.array(page.driver.execute_script(script, page.find(name)))


@pytest.mark.real_time
def test_hold_to_compare_lets_the_original_through(page: Page) -> None:
    page.select("input", "desk")
    page.click("switch")
    page.until(lambda: page.find("compare").is_enabled())
    hold = webdriver.ActionChains(page.driver).click_and_hold(page.find("compare"))
    hold.perform()
    page.until(lambda: '"bypassed":true' in page.call("GET", "/api/live")[1])
    webdriver.ActionChains(page.driver).release().perform()
    page.until(lambda: '"bypassed":false' in page.call("GET", "/api/live")[1])


@pytest.mark.real_time
def test_one_click_makes_a_microphone_for_calls(page: Page, pulse: PulseServer) -> None:
    page.select("input", "desk")
    page.click("calls")
    page.until(lambda: "Choose rtden as the microphone" in page.text("calls-help"))
    assert "\trtden\t" in pulse.pactl("list", "short", "sources")
    page.click("switch")
    page.until(lambda: page.text("switch-label") == "Live sound is off")
    assert "\trtden\t" not in pulse.pactl("list", "short", "sources")
    page.select("output", "")


@pytest.mark.real_time
def test_choices_survive_the_server_and_serve_the_command_line(
    page: Page, pulse: PulseServer
) -> None:
    page.select("input", "desk")
    slider = page.find("strength")
    slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 16)
    page.until(lambda: '"strength":0.8' in page.call("GET", "/api/live")[1])
    command = [sys.executable, "-m", "rtden", "live", "--saved", "--duration", "1", "--json"]
    said = subprocess.run(command, env=pulse.env, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    again = Server(pulse.env)
    try:
        page.driver.get(again.address)
        page.until(lambda: page.text("strength-text") == "80 %")
        page.until(lambda: page.find("input").get_attribute("value") == "desk")
    finally:
        page.driver.get(page.address)
        again.stop()


@pytest.mark.real_time
def test_a_device_that_vanishes_is_named_and_comes_back(page: Page, pulse: PulseServer) -> None:
    page.select("input", "desk")
    page.click("switch")
    page.until(lambda: page.text("switch-label") == "Live sound is on")
    pulse.pactl("unload-module", "module-remap-source")
    page.until(lambda: "Desk" in page.text("live-error"))
    page.until(lambda: "not there now" in page.text("input"))
    pulse.plug_in("desk", "Desk", "cable")
    page.until(lambda: not page.text("live-error"))
    page.until(lambda: "not there now" not in page.text("input"))


def test_a_microphone_that_a_program_chose_by_a_part_of_its_name_is_shown(page: Page) -> None:
    page.call("PATCH", "/api/live", '{"on": true, "input": "des"}')
    page.until(lambda: page.text("switch-label") == "Live sound is on")
    page.until(lambda: page.find("input").get_attribute("value") == "desk")


@pytest.mark.real_time
def test_a_second_window_sees_the_same_sound(page: Page, server: Server) -> None:
    page.select("input", "desk")
    page.select("output", "")
    page.click("switch")
    page.until(lambda: page.text("switch-label") == "Live sound is on")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    second = Page(page.driver, server.address)
    second.until(lambda: "another window" in second.text("elsewhere"))
    second.select("output", "speaker")  # takes a new start: not from here
    second.until(lambda: "already" in second.text("live-error"))
    second.click("switch")
    second.until(lambda: second.text("switch-label") == "Live sound is off")
    page.driver.close()
    page.driver.switch_to.window(first)
    page.until(lambda: page.text("switch-label") == "Live sound is off")


def test_dropped_recordings_come_back_clean(page: Page, noisy_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "letter.wav"
    text.write_text("Dear reader,\n" * 99, encoding="utf-8")
    page.drop(text, noisy_file)
    assert "letter.wav" in page.job("letter.wav")
    assert "dB quieter" in page.job("a talk.wav")
    page.until(lambda: picture(page, "file-after").any())  # fetched after the row is ready
    before, after = (picture(page, name) for name in ("file-before", "file-after"))
    assert before.mean() > after.mean() + 5
    got = {}
    for strength in ("1", "0"):
        address = page.find("download").get_attribute("href")
        got[strength] = fetched(address.replace("strength=1", f"strength={strength}"), tmp_path)
    assert len(got["1"]) == len(NOISY)
    assert si_sdr_db(CLEAN, got["1"]) > si_sdr_db(CLEAN, NOISY) + 3
    np.testing.assert_allclose(got["0"], NOISY, atol=2**-14)


TAP = """
const connect = AudioNode.prototype.connect;
const create = AudioContext.prototype.createMediaElementSource;
AudioContext.prototype.createMediaElementSource = function (element) {
  const source = create.call(this, element), splitter = this.createChannelSplitter(2);
  const tap = this.createScriptProcessor(1024, 3, 1);
  this.tapped = this.createChannelMerger(3);
  window.heard = [];
  tap.onaudioprocess = ({ inputBuffer }) =>
    heard.push([0, 1, 2].map((channel) => [...inputBuffer.getChannelData(channel)]));
  connect.call(source, splitter);
  for (const side of [0, 1]) connect.call(splitter, this.tapped, side, side);
  connect.call(connect.call(this.tapped, tap), this.destination);
  return source;
};
AudioNode.prototype.connect = function (target, ...rest) {
  if (target === this.context.destination) connect.call(this, this.context.tapped, 0, 2);
  return connect.call(this, target, ...rest);
};
"""
"""Collects before, after and what the page plays, of the same samples."""


@pytest.mark.real_time
def test_before_and_after_switch_without_a_gap(
    page: Page, pulse: PulseServer, noisy_file: Path
) -> None:
    command = "Page.addScriptToEvaluateOnNewDocument"
    script = page.driver.execute_cdp_cmd(command, {"source": TAP})
    page.driver.get(page.address)
    recording = pulse.record("speaker")
    page.drop(noisy_file)
    page.job("a talk.wav")
    page.driver.execute_script("document.all.audio.play()")
    recording.wait_for_sound()
    page.until(lambda: position(page) > 2)
    page.click("hear-before")
    page.until(lambda: position(page) > 4)
    page.driver.execute_script("document.all.audio.pause()")
    before, after, played = np.concatenate(
        page.driver.execute_script("return heard"), axis=1, dtype=np.float32
    )
    page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    sounding = np.flatnonzero(np.abs(before) > 1e-4)
    first, last = sounding[0] + RATE_HZ // 2, sounding[-1] - RATE_HZ // 2
    np.testing.assert_allclose(played[sounding[0] : first], after[sounding[0] : first], atol=1e-4)
    np.testing.assert_allclose(played[last : sounding[-1]], before[last : sounding[-1]], atol=1e-4)
    assert (played >= np.minimum(before, after) - 1e-4).all()  # it is always a mix of the two,
    assert (played <= np.maximum(before, after) + 1e-4).all()  # never silence or another sample
    assert np.abs(before - after).max() > 0.01
    recording.stop()


def position(page: Page) -> float:
    return float(page.driver.execute_script("return document.all.audio.currentTime"))


def test_a_huge_upload_is_refused_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    huge = tmp_path / "huge.wav"
    with huge.open("wb") as file:
        file.truncate(4_000_000)
    page.drop(huge)
    page.until(lambda: "up to 3 MB" in page.text("files-error"))
    assert page.call("POST", "/api/files?name=huge.wav", "x" * 3_000_001)[0] == 413


def test_a_folder_is_taken_with_what_is_in_it(page: Page, noisy_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "week" / "monday"
    folder.mkdir(parents=True)
    for path in (folder / "one.flac", folder.parent / "two.flac"):
        soundfile.write(path, CLEAN[:RATE_HZ], RATE_HZ)
    page.click("tab-recordings")
    page.find("folder").send_keys(str(folder.parent))
    for name in ("one.flac", "two.flac"):
        assert page.job(name)


@pytest.mark.real_time
def test_the_browser_s_microphone_comes_back_clean(page: Page, pulse: PulseServer) -> None:
    page.click("tab-trial")
    recording = pulse.record("speaker")
    page.click("trial-switch")
    page.until(lambda: "denoiser delays by" in page.text("trial-state"))
    recording.wait(5.0)
    heard = recording.stop()
    page.click("trial-switch")
    page.until(lambda: page.text("trial-state") == "Off")
    loudness = np.abs(heard[-4 * RATE_HZ :]).reshape(-1, RATE_HZ // 50).mean(axis=1)
    noisy = np.abs(NOISY[: 4 * RATE_HZ]).reshape(-1, RATE_HZ // 50).mean(axis=1)
    assert np.percentile(loudness, 90) > 0.3 * np.percentile(noisy, 90)  # the voice
    assert np.percentile(loudness, 20) < 0.3 * np.percentile(noisy, 20)  # the pauses


def test_the_network_sees_nothing_without_the_token(chromium: Any, pulse: PulseServer) -> None:
    guarded = Server(pulse.env, "--host", "0.0.0.0", "--token", TOKEN)
    address = re.sub(r"//[^:]+", "//127.0.0.1", guarded.address)
    try:
        chromium.get(f"{address}#token=wrong-token-of-some-length")
        login = chromium.find_element(By.ID, "login")
        until(lambda: "not the token" in login.text)
        chromium.find_element(By.ID, "token").send_keys(TOKEN, Keys.ENTER)
        until(lambda: chromium.find_elements(By.CSS_SELECTOR, "#model option"))
        cookie = chromium.get_cookie("rtden")
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert chromium.execute_script("return document.cookie") == ""
        assert TOKEN not in chromium.current_url
    finally:
        guarded.stop()


def test_systemd_hears_that_the_page_is_ready_and_alive(pulse: PulseServer, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LIMIT_SECONDS)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        service = Server({**pulse.env, **env})
        heard = [systemd.recv(64) for _ in range(3)]
        assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        assert service.stop() == 0
        while systemd.recv(64) != b"STOPPING=1":
            pass


def test_another_site_reaches_nothing(page: Page, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("another site", encoding="utf-8")
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page.driver.get(f"http://127.0.0.1:{other.server_port}/")
        script = """const [target, done] = arguments, said = [];
            const socket = new WebSocket(target.replace('http', 'ws') + 'api/live/levels');
            socket.onopen = () => said.push('open');
            socket.onclose = async () => {
              const options = {method: 'POST', body: 'x', mode: 'no-cors'};
              await fetch(target + 'api/files?name=a.wav', options).catch(() => 0);
              await fetch(target + 'api/status').then(() => said.push('read'), () => 0);
              done(said);
            }"""
        assert page.driver.execute_async_script(script, page.address) == []
        assert page.log()  # which the next page would have to answer for
        page.driver.get(page.address)
        other.shutdown()
    assert page.call("GET", "/api/files")[1] == '{"files":[]}'


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("view", ["live", "recordings", "trial"])
def test_the_page_fits_a_small_phone_and_works_by_keyboard(page: Page, view: str) -> None:
    page.driver.set_window_size(500, 800)  # Chromium's least; the frame below is narrower
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        page.find("tab-trial").send_keys(Keys.ENTER)
        page.find(f"tab-{view}").send_keys(Keys.ENTER)
        page.until(lambda: page.find(f"view-{view}").is_displayed())
        wide = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 360
        unnamed = page.driver.execute_script("""
            const controls = 'button, input, select, canvas, audio, meter';
            return [...document.querySelectorAll(controls)]
              .filter((e) => e.checkVisibility() && !e.textContent.trim() && !e.labels?.length
                && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby'))
              .map((e) => e.id)""")
        assert unnamed == []
        if view != "trial":
            page.driver.back()
            page.until(lambda: page.find("view-trial").is_displayed())
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.set_window_size(1280, 900)


@pytest.mark.real_time
def test_a_page_survives_a_restart_of_the_server(
    page: Page, pulse: PulseServer, noisy_file: Path
) -> None:
    first = Server(pulse.env)
    port = str(urlsplit(first.address).port)
    opened = Page(page.driver, first.address)
    opened.drop(noisy_file)
    opened.job("a talk.wav")
    opened.click("tab-live")
    first.stop()
    opened.until(lambda: opened.find("offline").is_displayed())
    again = Server(pulse.env, "--port", port)
    try:
        opened.until(lambda: not opened.find("offline").is_displayed())
        opened.click("tab-recordings")
        opened.until(lambda: not opened.text("queue"))
        assert not opened.find("player").is_displayed()
    finally:
        assert opened.log()  # of the time without a server
        page.driver.get(page.address)
        again.stop()


@pytest.mark.real_time
def test_a_page_that_is_left_lets_go_of_the_bypass(page: Page) -> None:
    page.select("input", "desk")
    page.click("switch")
    page.until(lambda: page.find("compare").is_enabled())
    webdriver.ActionChains(page.driver).click_and_hold(page.find("compare")).perform()
    page.until(lambda: '"bypassed":true' in page.call("GET", "/api/live")[1])
    page.driver.get(page.address)
    page.until(lambda: '"bypassed":false' in page.call("GET", "/api/live")[1])
    page.until(lambda: page.text("switch-label") == "Live sound is on")
    webdriver.ActionChains(page.driver).release().perform()


def test_a_certificate_of_one_s_own_serves_https(pulse: PulseServer, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    both, name = tmp_path / "own.pem", socket.gethostname()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    parts = [tmp_path / "key.pem", tmp_path / "certificate.pem"]
    command += ["-keyout", str(parts[0]), "-out", str(parts[1])]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text("".join(part.read_text() for part in parts), encoding="utf-8")
    options = ("--host", "0.0.0.0", "--token", TOKEN, "--certificate", str(both))
    secured = Server(pulse.env, *options)
    driver = open_browser(tmp_path, "--ignore-certificate-errors", env=pulse.env)
    try:
        port = urlsplit(secured.address).port
        context = ssl.create_default_context(cafile=both)
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/", context=context) as answer:
            assert b"rtden" in answer.read()
        address = f"https://127.0.0.1:{port}/"
        driver.get(f"{address}#token={TOKEN}")
        page = Page(driver, address)  # with the cookie alone
        assert driver.get_cookie("rtden")["secure"]
        page.until(lambda: page.call("PATCH", "/api/live", '{"strength": 0.5}')[0] == 200)
        page.until(lambda: page.text("strength-text") == "50 %")  # by the WebSocket
        page.call("PATCH", "/api/live", '{"strength": 1}')
    finally:
        driver.quit()
        secured.stop()


def test_the_description_holds(server: Server, tmp_path: Path) -> None:
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("schemathesis is not installed")
    command = [program, "run", f"{server.address}api/openapi.json", "--checks", "all"]
    command += ["--max-examples", "3", "--phases", "examples,fuzzing", "--no-color"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)  # noqa: PLW1510
    assert said.returncode == 0, said.stdout
