"""A systemd user manager of the tests' own, with a journal, in namespaces: the machine's own
systemd, if it has one, is not touched.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from waiting import LIMIT_SECONDS, until

# /run is ours, so that the manager finds no other one; systemd only runs where it believes that the
# machine was booted by it.
START = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/systemd/journal /run/log/journal "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
/lib/systemd/systemd-journald &
for _ in $(seq 1000); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.05; done
/lib/systemd/systemd --user --log-target=journal  # not as process 1, which no user manager is
"""


class UserManager:
    """A user manager with a home of its own; needs root, for its namespaces."""

    def __init__(self, folder: Path) -> None:
        home = folder / "home"
        home.mkdir()
        self.env = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("XDG_", "DBUS_"))
            },
            "HOME": str(home),
            "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}",
        }
        self.log = folder / "manager.log"
        self._process = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--pid",
                "--cgroup",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                START,
            ],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        try:
            until(self._started, lambda: self.log.read_text(encoding="utf-8", errors="replace"))
        except AssertionError:
            self.stop()
            raise

    def _started(self) -> bool:
        said = self.run("systemctl", "--user", "is-system-running").stdout.strip()
        return said in ("running", "degraded")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as a login of the user would."""
        children = (
            Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            .read_text(encoding="ascii")
            .split()
        )
        if not children:
            return subprocess.CompletedProcess(command, 1, "", "not started")
        inside = ["nsenter", "--target", children[0], "--mount", "--pid", "--cgroup"]
        return subprocess.run(
            [*inside, *command],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End it and all that it started."""
        self.run("systemctl", "--user", "exit")  # which removes its control groups
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._process.wait(LIMIT_SECONDS)
