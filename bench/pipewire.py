"""A private PipeWire server, from Debian's packages unpacked into a cache folder.

Installed, pipewire-pulse would displace pulseaudio; unpacked, both are there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from pulse import PulseServer

PACKAGES = (
    *("pipewire", "pipewire-bin", "pipewire-pulse", "wireplumber", "libwireplumber-0.4-0"),
    *("libpipewire-0.3-0", "libpipewire-0.3-modules", "libspa-0.2-modules", "liblua5.3-0"),
)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtden-tests"
PROGRAMS = ("pipewire", "wireplumber", "pipewire-pulse")


def unpacked() -> Path | None:
    """Return the folder with the unpacked packages, or None where they cannot be had."""
    folder = CACHE / "pipewire"
    if (folder / "usr/bin/wireplumber").exists():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dbus-run-session") is None:
        return None
    packages = CACHE / "debs"
    packages.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # several processes of the tests may ask
        fcntl.flock(lock, fcntl.LOCK_EX)
        return folder if (folder / "usr/bin/wireplumber").exists() else _unpack(packages, folder)


def _unpack(packages: Path, folder: Path) -> Path | None:
    """Download the packages and unpack them into a folder, whole or not at all."""
    download = ["apt-get", "download", "-qq", *PACKAGES]
    if subprocess.run(download, cwd=packages, capture_output=True, check=False).returncode:
        # The lists of packages are missing, or old.
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
        if subprocess.run(download, cwd=packages, capture_output=True, check=False).returncode:
            return None
    part = folder.with_suffix(".part")
    for old in (part, folder):  # of a run that was killed
        shutil.rmtree(old, ignore_errors=True)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, part], check=True)
    return part.rename(folder)


class PipeWireServer(PulseServer):
    """PipeWire in the place of PulseAudio: the same sinks, and the same interface.

    Raises RuntimeError if it does not start.
    """

    def __init__(self, folder: Path, sinks: tuple[str, ...], *, top: Path) -> None:
        self._top, self._sinks = top, sinks
        self._programs: list[subprocess.Popen[bytes]] = []
        super().__init__(folder, sinks)

    def start(self) -> None:
        """Start the three programs and make the sinks; the first is the default."""
        libraries = next((self._top / "usr/lib").glob("*-linux-gnu"))
        env = {
            **self.env,
            "LD_LIBRARY_PATH": str(libraries),
            "PIPEWIRE_MODULE_DIR": str(libraries / "pipewire-0.3"),
            "SPA_PLUGIN_DIR": str(libraries / "spa-0.2"),
            "PIPEWIRE_CONFIG_DIR": str(self._top / "usr/share/pipewire"),
            "WIREPLUMBER_MODULE_DIR": str(libraries / "wireplumber-0.4"),
            "WIREPLUMBER_CONFIG_DIR": str(self._top / "usr/share/wireplumber"),
            "WIREPLUMBER_DATA_DIR": str(self._top / "usr/share/wireplumber"),
        }
        with self._log.open("ab") as log:
            for program in PROGRAMS:
                command = [str(self._top / "usr/bin" / program)]
                self._programs.append(
                    subprocess.Popen(
                        ["dbus-run-session", "--", *command] if program != "pipewire" else command,
                        env=env,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
                # The other two give up where the first one does not answer yet.
                self._wait([str(self._top / "usr/bin/pw-cli"), "info", "0"], env)
        self._wait(["pactl", "info"], self.env)
        try:
            for sink in self._sinks:
                options = (f"sink_name={sink}", "rate=48000", "channels=2")
                self.pactl("load-module", "module-null-sink", *options)
            # Until WirePlumber is there, nothing keeps a default.
            chosen = "pactl set-default-sink $0 && pactl get-default-sink | grep -qx $0"
            self._wait(["sh", "-c", chosen, self._sinks[0]], self.env)
        except subprocess.CalledProcessError:
            self.stop()
            raise

    def stop(self) -> None:
        """End it."""
        for program in reversed(self._programs):
            if program.poll() is None:
                os.killpg(program.pid, 15)
            program.wait(10)
        self._programs.clear()
