"""What watching live sound costs: no view, the terminal's, and the page in a real Chromium.

    python bench/page.py [--rounds 3] [--seconds 30] [--results FOLDER]

A private PulseAudio plays the bundled noisy recording over and over. In turns, `rtden live` without
a view, `rtden live` in a terminal of 100 x 30, and `rtden ui` with its page open clean it. Prints
the CPU time of rtden's whole process over the time, in percent of a core, and the xruns that it
reported; Chromium's own CPU time stands apart. Leaves with 1 if the page costs rtden more than the
terminal's view, or has more xruns. FOLDER gets page.txt.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import soundfile
import typer
from browser import Server, cpu_seconds, descendants, open_browser
from common import ForceOption, one_sentence
from pulse import PulseServer
from rounds import noisy_speech, processor_name

from rtden.errors import ControlError
from rtden.files.atomic import check_target, write_whole
from rtden.live.control import ask

LIVE = (sys.executable, "-m", "rtden", "live", "--in", "desk", "--out", "speaker")
ROWS, COLUMNS = 30, 100
SETTLE_SECONDS = 8.0
"""Not measured at first: devices, delay and page settle."""

View = Callable[[dict[str, str]], AbstractContextManager[tuple[int, list[int]]]]
"""Runs live sound; yields the process ids of rtden and of what shows it."""


@contextlib.contextmanager
def no_view(env: dict[str, str]) -> Iterator[tuple[int, list[int]]]:
    """Run `rtden live` as a service does."""
    with subprocess.Popen(
        [*LIVE, "--status-seconds", "0"], env=env, stdout=subprocess.DEVNULL
    ) as process:
        yield process.pid, []
        process.terminate()


@contextlib.contextmanager
def terminal(env: dict[str, str]) -> Iterator[tuple[int, list[int]]]:
    """Run `rtden live` in a terminal that reads all that is drawn."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(LIVE, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        yield process.pid, []
        process.terminate()


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):  # closed at the other end
        while os.read(terminal, 1 << 16):
            pass


@contextlib.contextmanager
def page(env: dict[str, str]) -> Iterator[tuple[int, list[int]]]:
    """Run `rtden ui` with its page in the foreground of a Chromium."""
    server = Server(env)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        driver = open_browser(Path(folder), "--window-size=1120,760", env=env)
        stack.callback(driver.quit)
        driver.get(server.address)
        body = json.dumps({"on": True, "input": "desk", "output": "speaker"}).encode()
        url = f"{server.address}api/live"
        with urllib.request.urlopen(urllib.request.Request(url, body, method="PATCH")):
            pass
        yield server.process.pid, descendants(driver.service.process.pid)


VIEWS: dict[str, View] = {"no view": no_view, "terminal": terminal, "page": page}


def measure(view: View, env: dict[str, str], seconds: float) -> dict[str, float]:
    """Return CPU time over time of rtden and of what shows it, and the xruns meanwhile."""
    with view(env) as (rtden, watching):
        time.sleep(SETTLE_SECONDS)
        before = status()["xruns"]
        began, used, shown = time.monotonic(), cpu_seconds(rtden), sum(map(cpu_seconds, watching))
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        return {
            "cpu": (cpu_seconds(rtden) - used) / elapsed,
            "browser": (sum(map(cpu_seconds, watching)) - shown) / elapsed,
            "xruns": status()["xruns"] - before,
        }


def status() -> dict[str, Any]:
    """Return the state of the one live stream that runs, once it does."""
    for _ in range(300):
        with contextlib.suppress(ControlError):
            return ask({"command": "status"})
        time.sleep(0.1)
    return ask({"command": "status"})


def text_of(found: dict[str, list[dict[str, float]]], seconds: float) -> str:
    """Return the figures as text."""
    lines = [f"{processor_name()}; {seconds:g} s each, in turns; % of a core, each round"]
    for name, rounds in found.items():
        cpu = [100.0 * one["cpu"] for one in rounds]
        xruns, each = sum(one["xruns"] for one in rounds), ", ".join(f"{one:.1f}" for one in cpu)
        line = f"{name:<10} {statistics.median(cpu):5.1f} % ({each})   xruns {xruns:.0f}"
        shown = 100.0 * statistics.median(one["browser"] for one in rounds)
        lines.append(f"{line}   Chromium itself {shown:.0f} %" if shown else line)
    return "\n".join(lines)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 3,
    seconds: Annotated[float, typer.Option(min=1.0, help="Time measured in each turn.")] = 30.0,
    results: Annotated[Path | None, typer.Option(help="Folder to write page.txt into.")] = None,
    force: ForceOption = False,
) -> None:
    """Compare the cost of live sound with the views of it."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VIEWS}
    with one_sentence("page", RuntimeError):
        if results is not None:
            check_target(results / "page.txt", force=force)
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            pulse = PulseServer(Path(folder), ("speaker", "cable"))
            stack.callback(pulse.stop)
            pulse.plug_in("desk", "Desk", "cable")
            os.environ["XDG_RUNTIME_DIR"] = pulse.env["XDG_RUNTIME_DIR"]  # for the statuses
            sound = Path(folder) / "noisy.wav"
            # A turn also takes what starting and ending need.
            noisy, rate_hz = noisy_speech(rounds * len(VIEWS) * (SETTLE_SECONDS + seconds + 30.0))
            soundfile.write(sound, noisy, rate_hz)
            stack.callback(pulse.play(sound, "cable").terminate)
            for _ in range(rounds):
                for name, view in VIEWS.items():
                    found[name].append(measure(view, pulse.env, seconds))
    text = text_of(found, seconds)
    print(text)
    if results is not None:
        write_whole(results / "page.txt", f"{text}\n".encode(), force=force)
    cpu = {name: statistics.median(one["cpu"] for one in found[name]) for name in VIEWS}
    xruns = {name: sum(one["xruns"] for one in found[name]) for name in VIEWS}
    sys.exit(cpu["page"] > cpu["terminal"] or xruns["page"] > xruns["terminal"])


if __name__ == "__main__":
    typer.run(main)
