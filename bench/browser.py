"""`rtden ui` in its own process with a headless Chromium, for tests and screenshots."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--hide-scrollbars"),
    *("--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream"),
)


class Server:
    """A running `rtden ui`: `address` as it was printed, without the token.

    Raises RuntimeError if it does not start.
    """

    def __init__(self, env: dict[str, str], *options: str) -> None:
        command = [sys.executable, "-m", "rtden", "ui", "--no-browser", "--port", "0", *options]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        self.printed = ""
        while "rtden's page: " not in self.printed:
            line = self.process.stdout.readline() if self.process.stdout else ""
            if not line:
                raise RuntimeError(f"rtden ui did not start: {self.printed}")
            self.printed += line
        found = re.search(r"page: (\S+?)(?:#token=(\S+))?\s*$", self.printed)
        assert found is not None
        self.address, self.token = found[1], found[2]

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.process.terminate()
        return self.process.wait(60)


def open_browser(folder: Path, *flags: str, env: dict[str, str] | None = None) -> Any:
    """Return a Selenium driver of a new Chromium; `folder` is for its profile and downloads.

    Raises RuntimeError if Chromium or its driver is missing.
    """
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        raise RuntimeError("run 'sudo apt install chromium chromium-driver'.")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = str(programs[0])
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}", *flags):
        options.add_argument(flag)
    preferences = {"download.default_directory": str(folder)}
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options, ChromeService(str(programs[1]), env=env))


def cpu_seconds(process: int) -> float:
    """Return the CPU time, user and system, that a process has used so far."""
    user, system = _stat(process)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def descendants(process: int) -> list[int]:
    """Return the ids of a process and of all below it."""
    parents = {
        int(path.name): int(_stat(int(path.name))[1]) for path in Path("/proc").glob("[0-9]*")
    }
    found = [process]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def _stat(process: int) -> list[str]:
    """Return the fields of /proc's stat behind the name."""
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
