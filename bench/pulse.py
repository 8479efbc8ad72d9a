"""A private PulseAudio server with null sinks, which PortAudio reaches as named devices."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RATE_HZ = 48000
NULL_SINK = f"module-null-sink sink_name={{}} rate={RATE_HZ} channels=2"
TOOLS = ("pulseaudio", "pactl", "paplay", "parec")
LIMIT_SECONDS = 60.0
"""After which a program hangs, on a busy machine, too."""
ADVICE = "run 'sudo apt install pulseaudio pulseaudio-utils libasound2-plugins'"


class PulseServer:
    """PulseAudio with one null sink per name; the first is the default.

    `env` makes PortAudio list NAME-monitor as an input and NAME as an output. `folder` is for the
    server's files; `arguments` are more of its own options. Raises RuntimeError if a program is
    missing or the server does not start.
    """

    def __init__(
        self, folder: Path, sinks: tuple[str, ...], arguments: tuple[str, ...] = ()
    ) -> None:
        if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
            raise RuntimeError(f"{', '.join(missing)} missing: {ADVICE}.")
        if not list(Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so")):
            raise RuntimeError(f"ALSA's plugin for PulseAudio is missing: {ADVICE}.")
        home, runtime = folder / "home", folder / "runtime"
        home.mkdir()
        runtime.mkdir(mode=0o700)
        # Each server and client makes this folder; PipeWire ends if another one is faster.
        (runtime / "pulse").mkdir(mode=0o700)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PULSE_")},
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "PULSE_RUNTIME_PATH": str(runtime / "pulse"),
        }
        entries = [
            _alsa_device(sink, sink) + _alsa_device(f"{sink}-monitor", f"{sink}.monitor")
            for sink in sinks
        ]
        (home / ".asoundrc").write_text(
            "pcm.!default { type pulse }\nctl.!default { type pulse }\n" + "".join(entries),
            encoding="utf-8",
        )
        modules = ["module-native-protocol-unix"] + [NULL_SINK.format(sink) for sink in sinks]
        self._options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit"]
        self._options += ["--log-target=stderr", "--realtime=no", *arguments]
        self._options += [word for module in modules for word in ("-L", module)]
        self._log = folder / "pulseaudio.log"
        self.start()

    def start(self) -> None:
        """Start the server, or start it again after :meth:`stop`; RuntimeError if it does not."""
        command = ["pulseaudio", *self._options]
        with self._log.open("ab") as log:
            started = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        self._programs = [started]
        self._wait(["pactl", "info"], self.env)

    def _wait(self, ask: list[str], env: dict[str, str]) -> None:
        """Wait until a program gets an answer; RuntimeError if it never does."""
        ends_at = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < ends_at and all(one.poll() is None for one in self._programs):
            if not subprocess.run(ask, env=env, capture_output=True, check=False).returncode:
                return
            time.sleep(0.1)
        self.stop()
        said = self._log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the sound server did not start: {said}")

    def stop(self) -> None:
        """End the server."""
        for program in self._programs:
            program.terminate()
            program.wait(LIMIT_SECONDS)

    def pactl(self, *arguments: str) -> str:
        """Return what pactl says to a command."""
        env = {**self.env, "LC_ALL": "C"}
        command = ["pactl", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    def plug_in(self, name: str, label: str, sink: str) -> None:
        """Add a microphone that hears what a sink plays."""
        described = f"source_properties=\"device.description='{label}'\""
        where = (f"master={sink}.monitor", f"source_name={name}")
        self.pactl("load-module", "module-remap-source", *where, described)

    def play(self, path: Path, sink: str) -> subprocess.Popen[bytes]:
        """Begin to play a recording into a sink."""
        command = ["paplay", f"--device={sink}", "--latency-msec=20", str(path)]
        return subprocess.Popen(command, env=self.env)

    def record(self, sink: str, *, channels: int = 1) -> Recording:
        """Begin to record what a sink plays."""
        return Recording(f"{sink}.monitor", self.env, channels=channels)

    def record_source(self, source: str, *, channels: int = 1) -> Recording:
        """Begin to record a source."""
        return Recording(source, self.env, channels=channels)


class Recording:
    """Sound that parec records from a source, interleaved.

    `started_at` is the monotonic time of its first sample.
    """

    def __init__(self, source: str, env: dict[str, str], *, channels: int = 1) -> None:
        self._bytes_per_second = 4 * channels * RATE_HZ
        command = ["parec", f"--device={source}", "--format=float32le", f"--rate={RATE_HZ}"]
        command += [f"--channels={channels}", "--latency-msec=5", "--raw"]
        self._parec = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        self._chunks: list[bytes] = []
        self._received_bytes = 0
        self.started_at = np.inf
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        pipe = self._parec.stdout
        while chunk := os.read(pipe.fileno(), 1 << 16) if pipe is not None else b"":
            self._chunks.append(chunk)
            self._received_bytes += len(chunk)
            # Chunks come late by chance, never early: the earliest, counted back, is right.
            self.started_at = min(
                self.started_at, time.monotonic() - self._received_bytes / self._bytes_per_second
            )

    @property
    def seconds(self) -> float:
        """Length of what is recorded so far."""
        return self._received_bytes / self._bytes_per_second

    def wait(self, seconds: float) -> None:
        """Wait until `seconds` more of sound are recorded; RuntimeError if they never are."""
        wanted_seconds = self.seconds + seconds
        self._until(lambda: self.seconds >= wanted_seconds, seconds)

    def wait_for_sound(self) -> None:
        """Wait until the newest chunks hold sound; RuntimeError if they never do."""
        self._until(lambda: np.abs(_samples(self._chunks[-2:])).max(initial=0.0) > 1e-3, 0.0)

    def _until(self, condition: Callable[[], Any], seconds: float) -> None:
        ends_at = time.monotonic() + seconds + LIMIT_SECONDS
        while not condition():
            if time.monotonic() > ends_at:
                raise RuntimeError(f"the sound server gave {self.seconds:.1f} s, without sound.")
            time.sleep(0.01)

    def stop(self) -> npt.NDArray[Any]:
        """End the recording and return its samples."""
        self._parec.terminate()
        self._thread.join(LIMIT_SECONDS)
        self._parec.wait(LIMIT_SECONDS)
        return _samples(self._chunks)


def _samples(chunks: list[bytes]) -> npt.NDArray[Any]:
    samples = b"".join(chunks)
    return np.frombuffer(samples[: len(samples) // 4 * 4], np.float32)


def _alsa_device(name: str, pulse_device: str) -> str:
    hint = f'hint {{ show on\n description "{name}" }}'
    return f'pcm.{name} {{\n  type pulse\n  device "{pulse_device}"\n  {hint}\n}}\n'
