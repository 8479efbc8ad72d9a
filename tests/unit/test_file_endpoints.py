from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from waiting import until

from rtden.errors import AudioFileError
from rtden.live.endpoint import FADE_SECONDS
from rtden.live.file_endpoints import BLOCK_SECONDS, FileSink, FileSource


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    samples = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)
    soundfile.write(
        tmp_path / "in.wav", np.stack([samples, -samples], axis=1), 16000, subtype="FLOAT"
    )
    return tmp_path / "in.wav"


def test_a_source_hands_over_every_sample_no_faster_than_the_clock(recording: Path) -> None:
    source = FileSource(recording)
    began = time.perf_counter()
    source.start()
    while not source.exhausted:
        elapsed = time.perf_counter() - began
        assert source.ring.written_samples <= elapsed * 16000 + 1
        time.sleep(0.005)
    assert time.perf_counter() - began >= 1.0
    source.stop()
    out = np.zeros((16000, 2), np.float32)
    assert source.ring.read_into(out) == 16000
    expected, _ = soundfile.read(recording, dtype="float32")
    assert np.array_equal(out, expected)
    assert not source.running


def wait_for_blocks(sink: FileSink, blocks: int) -> None:
    silent_until = sink.called_at + blocks * BLOCK_SECONDS
    until(lambda: sink.called_at > silent_until)


def test_a_sink_writes_silence_until_there_is_sound_and_then_the_sound(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.wav", 16000)
    sink.start()
    until(lambda: sink.called_at > 0.0)
    wait_for_blocks(sink, 3)
    assert sink.running
    sink.ring.write(np.full(1600, 0.25, np.float32))
    until(lambda: not sink.ring.fill_samples)
    wait_for_blocks(sink, 3)
    sink.stop()
    played, rate_hz = soundfile.read(tmp_path / "out.wav")
    assert rate_hz == 16000
    (heard,) = np.nonzero(played)
    # Faded in from the silence before, and out to the silence behind; the last sample of a fade may
    # round to nothing.
    fade = round(FADE_SECONDS * 16000)
    assert 1600 + fade - 3 <= len(heard) <= 1600 + fade
    first = heard[0] - 1  # the fade begins at nothing
    assert first >= 2 * BLOCK_SECONDS * 16000
    assert first % round(BLOCK_SECONDS * 16000) == 0
    np.testing.assert_array_equal(played[first + fade : first + 1600], 0.25)


def test_what_goes_wrong_in_the_clocks_thread_is_raised_where_it_is_asked_for(
    recording: Path,
) -> None:
    whole = recording.read_bytes()
    source = FileSource(recording)
    source._opened.close()  # the disk has gone
    source.start()
    source._thread.join(5)
    with pytest.raises(Exception, match="closed"):
        _ = source.running
    source.stop()
    assert recording.read_bytes() == whole


def test_a_truncated_recording_is_refused_at_once(recording: Path) -> None:
    recording.write_bytes(recording.read_bytes()[:50000])
    with pytest.raises(AudioFileError, match="truncated"):
        FileSource(recording)
