"""The example with a sounddevice stream, on a private PulseAudio server."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import ended
from conftest import DATA
from pulse import RATE_HZ, PulseServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "callback.py"


@pytest.mark.real_time
def test_a_stream_of_ones_own_plays_speech_without_noise(tmp_path: Path) -> None:
    server = PulseServer(tmp_path, ("cable", "speaker"))
    try:
        noisy, rate_hz = soundfile.read(DATA / "noisy.flac")
        soundfile.write(tmp_path / "noisy.wav", np.tile(noisy, 20), rate_hz)
        player = server.play(tmp_path / "noisy.wav", "cable")
        played = server.record("cable")
        played.wait_for_sound()
        recording = server.record("speaker")
        command = [sys.executable, str(EXAMPLE), "6", "cable-monitor", "speaker"]
        done = ended(command, env=server.env, check=True)
        heard = recording.stop()
        played.stop()
        player.kill()
        player.wait()
    finally:
        server.stop()
    assert re.match(r"delay \d+ ms in the devices \+ \d+ ms in rtden\n", done.stdout)
    blocks = heard[: len(heard) // 480 * 480].reshape(-1, 480)
    levels = np.sqrt(np.mean(np.square(blocks, dtype=np.float64), axis=1))
    assert levels.max() > 0.02  # speech
    playing = levels[levels > 0]
    assert len(playing) > 2 * RATE_HZ / 480
    assert np.percentile(playing, 10) < 0.02 * levels.max()  # pauses
