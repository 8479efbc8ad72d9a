"""Screenshots of the page for the documentation: desktop, phone, dark, recordings.

Run ``python bench/screenshots.py docs/images``: a private PulseAudio server plays the bundled noisy
recording to `rtden ui`, and a headless Chromium looks at it.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from browser import Server, open_browser
from PIL import Image
from pulse import RATE_HZ, PulseServer
from rounds import RECORDING

VIEWS = {"desktop": (1120, 760, False), "dark": (1120, 760, True), "phone": (360, 1190, False)}
FILL_SECONDS = 20.0
"""Until the scrolling spectrograms are full."""
TRIES = 5
"""Pictures show live sound without drop-outs."""


def main(folder: Path) -> None:
    """Write the screenshots into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        talk = home / "talk in the kitchen.flac"
        samples, rate_hz = soundfile.read(RECORDING, dtype="float32")
        once = soxr.resample(samples, rate_hz, RATE_HZ)
        soundfile.write(talk, once, RATE_HZ)
        soundfile.write(home / "noisy.wav", np.tile(once, 20), RATE_HZ)
        pulse = PulseServer(home, ("cable",))
        pulse.plug_in("desk", "Desk microphone", "cable")
        described = "sink_properties=device.description=Headphones"
        pulse.pactl("load-module", "module-null-sink", "sink_name=headphones", described)
        pulse.pactl("set-default-sink", "headphones")
        server = Server(pulse.env)
        driver = open_browser(home / "browser", env=pulse.env)
        try:
            driver.get(server.address)
            playing = pulse.play(home / "noisy.wav", "cable")
            _live(driver, server, folder)
            playing.terminate()
            _recordings(driver, folder, talk)
        finally:
            driver.quit()
            server.stop()
            pulse.stop()


def _live(driver: Any, server: Server, folder: Path) -> None:
    time.sleep(2)
    driver.execute_script(
        "const o = document.getElementById('input'); o.value = 'desk';"
        "o.dispatchEvent(new Event('change'))"
    )
    for _ in range(TRIES):
        time.sleep(2)
        driver.execute_script("document.getElementById('switch').click()")
        time.sleep(FILL_SECONDS)
        status = json.load(urllib.request.urlopen(f"{server.address}api/live"))["status"]
        if not status["dropouts"] and not status["flagged_blocks"]:
            break
        driver.execute_script("document.getElementById('switch').click()")
    else:
        raise RuntimeError("this machine is too busy: live sound had drop-outs each time.")
    for name, (width, height, dark) in VIEWS.items():
        _show(driver, width, height, dark=dark)
        time.sleep(1)
        _save(driver, folder / f"page-{name}.png")


def _recordings(driver: Any, folder: Path, talk: Path) -> None:
    _show(driver, 1120, 860, dark=False)
    driver.execute_script("document.getElementById('switch').click()")
    driver.find_element("id", "tab-recordings").click()
    driver.find_element("id", "files").send_keys(str(talk))
    while not driver.find_element("id", "playing").text:
        time.sleep(0.2)
    time.sleep(1)
    driver.execute_script("document.getElementById('audio').play()")
    time.sleep(3)
    _save(driver, folder / "page-recordings.png")


def _save(driver: Any, path: Path) -> None:
    """Write what the browser shows in 256 colours: a third of the bytes."""
    shown = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    shown.quantize(256).save(path, optimize=True)


def _show(driver: Any, width: int, height: int, *, dark: bool) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
