"""What a command costs before it does anything: time, memory, and unused libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import RTDEN, ended, run_python
from conftest import DATA
from pulse import PulseServer

RESIDENT_MB = 120
HEAVY = {"tensorflow", "keras", "librosa", "numba", "scipy", "sklearn", "matplotlib", "PIL"}
HEAVY |= {"pesq", "pystoi", "speechmos", "onnxruntime", "distributed", "pydantic"}
SOUND = {"sounddevice", "soundfile", "soxr"}
ENGINE = {"numpy", "ai_edge_litert", "tflite_runtime"}
LEARNING = {"multiprocessing", "rtden.files.batch", "rtden.app.doctor"}
LEARNING |= {"rtden.measure.cost", "rtden.measure.scores", "rtden.measure.plots"}


def imported(*arguments: str, folder: Path) -> set[str]:
    """Return the modules that a command loads, by what `-X importtime` says."""
    run = ended([sys.executable, "-X", "importtime", *RTDEN[1:], *arguments], cwd=folder)
    assert "Traceback" not in run.stderr
    modules = set(re.findall(r"(?m)^import time: +\d+ \| +\d+ \| +(\S+)$", run.stderr))
    return modules | {module.split(".")[0] for module in modules}


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--version"], HEAVY | SOUND | ENGINE | LEARNING),
        (["service", "status"], HEAVY | SOUND | LEARNING),
        (["models"], HEAVY | {"sounddevice", "soxr"} | LEARNING),
        (["devices"], HEAVY | {"soxr"} | LEARNING),
        (
            ["file", str(DATA / "noisy.flac"), "-o", "out.wav"],
            HEAVY | {"sounddevice", "soxr"} | LEARNING,
        ),
        (
            ["live", "--in", str(DATA / "noisy.flac"), "--out", "heard.wav", "--duration", "0.4"],
            HEAVY | {"sounddevice", "soxr"} | LEARNING,
        ),
        (
            ["live", "--in", "at48.wav", "--out", "heard.wav", "--duration", "0.4"],
            HEAVY | {"sounddevice"} | LEARNING,
        ),
    ],
    ids=lambda value: (
        " ".join(Path(word).name for word in value[:3]) if isinstance(value, list) else ""
    ),
)
def test_a_command_loads_no_library_that_it_does_not_use(
    arguments: list[str], unused: set[str], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "at48.wav", np.zeros(48000), 48000)
    loaded = imported(*arguments, folder=tmp_path)
    assert "rtden.app.main" in loaded
    assert not loaded & unused


def seconds_to_start() -> float:
    """Return how long Python takes to start and to load what any denoiser of this kind needs."""
    began = time.monotonic()
    run_python("import numpy, ai_edge_litert.interpreter")
    return time.monotonic() - began


@pytest.mark.alone
def test_live_plays_its_first_sample_soon_and_stays_small(tmp_path: Path) -> None:
    """From a cold start to sound at the loudspeakers' device, with PortAudio and a sound server."""
    server = PulseServer(tmp_path, ("cable", "speaker"))
    tone = tmp_path / "tone.wav"
    sound = 0.1 * np.sin(2.0 * np.pi * 440.0 * np.arange(120 * 22050) / 22050)
    soundfile.write(tone, sound, 22050)
    playing = server.play(tone, "cable")
    recordings = [server.record(sink) for sink in ("cable", "speaker")]
    try:
        # A null sink takes up to two seconds to give its first block: that is the server's time.
        recordings[0].wait_for_sound()
        libraries_seconds = min(seconds_to_start() for _ in range(3))
        began = time.monotonic()
        command = [*RTDEN, "live", "--in", "cable-monitor", "--out", "speaker", "--limit-db", "6"]
        live = subprocess.Popen(command, env=server.env, stdout=subprocess.DEVNULL)
        recordings[1].wait_for_sound()
        first_seconds = time.monotonic() - began
        recordings[1].wait(1.0)
        pages = Path(f"/proc/{live.pid}/statm").read_text(encoding="ascii").split()[1]
        resident_mb = int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
        live.terminate()
        live.wait(60)
    finally:
        playing.kill()
        playing.wait()
        for recording in recordings:
            recording.stop()
        server.stop()
    sys.stdout.write(f"first sample after {first_seconds:.2f} s, {resident_mb:.0f} MiB resident\n")
    # Half a second for the devices' buffers and the algorithm, the rest by the machine's own speed.
    assert first_seconds < 0.5 + 8.0 * libraries_seconds
    assert resident_mb < RESIDENT_MB
