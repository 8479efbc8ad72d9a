from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile
from conftest import DATA, SMALL_MODEL
from streams import as_recording

from rtden import StreamDenoiser, denoise
from rtden import backward as backward_module
from rtden import stream as stream_module
from rtden.backward import AHEAD_FRAMES, SPAN_FRAMES, BackwardMasks
from rtden.gains import mixed
from rtden.mel import Features
from rtden.model import Model, load_spec
from rtden.recording import RecordingDenoiser

RATE_HZ, HOP = 22050, 256


def speech() -> np.ndarray:
    """Return noisy speech with a pause, at the model's rate, shape (samples, 1)."""
    samples, rate_hz = soundfile.read(DATA / "noisy.flac", dtype="float32")
    assert rate_hz == RATE_HZ
    return np.concatenate([samples, 0.01 * samples[:11025], samples])[:, None]


def masks_from_behind(signal: np.ndarray) -> np.ndarray:
    """Return the masks of all frames that are complete, shape (frames, n_mels)."""
    stream = StreamDenoiser(rate_hz=RATE_HZ)
    backward = BackwardMasks(stream)
    backward.feed(signal)
    backward.flush(np.zeros((0, 1), np.float32))
    masks = stream.denoisers[0].gains.expected
    return masks[: len(signal) // HOP]


class SoundDetector:
    """A network without memory: its mask is one where a frame has sound, and zero in silence."""

    runtime, stateful, memory_columns = "made up", True, 1

    def __init__(self, model: Model, **_: object) -> None:
        self.spec = model.spec
        self._silence = Features(self.spec, 1).columns[:, :, :1].copy()

    def infer(self, columns: np.ndarray) -> np.ndarray:
        sound = (columns[:, :, :1] > self._silence + 0.01).any(axis=(0, 2))
        return np.broadcast_to(sound, columns.shape[:2]).astype(np.float32)

    def reset(self) -> None:
        pass


def test_each_mask_belongs_to_its_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one click: the frames that contain it have sound, and no others."""
    monkeypatch.setattr(backward_module, "Autoencoder", SoundDetector)
    n_fft, click = load_spec().n_fft, 20000
    signal = np.zeros((60000, 1), np.float32)
    signal[click] = 0.5
    masks = masks_from_behind(signal)
    frames = np.flatnonzero(masks[:, 0] > 0.5)
    # Frame t ends with sample (t + 1) * HOP.
    starts = np.arange(len(masks)) * HOP + HOP - n_fft
    contain = (starts <= click) & (click < starts + n_fft)
    np.testing.assert_array_equal(frames, np.flatnonzero(contain))


def test_the_masks_belong_to_the_frames_of_the_stream() -> None:
    signal = speech()[:200000]
    behind, stream = masks_from_behind(signal), StreamDenoiser(rate_hz=RATE_HZ)
    ahead = []
    for at in range(0, len(signal) // HOP * HOP, HOP):
        stream.feed(signal[at : at + HOP])
        ahead.append(stream.denoisers[0].band_gains)
    courses = [np.log(np.maximum(masks, 0.01)).mean(axis=1) for masks in (np.array(ahead), behind)]
    inner = slice(100, -100)
    likeness = {
        lag: np.corrcoef(courses[0][inner], np.roll(courses[1], lag)[inner])[0, 1]
        for lag in range(-6, 7)
    }
    assert max(likeness.values()) == max(likeness[lag] for lag in (-1, 0, 1))
    assert likeness[0] > 0.8


def test_a_mask_does_not_depend_on_what_comes_much_later() -> None:
    length = (SPAN_FRAMES + AHEAD_FRAMES + 50) * HOP
    first = np.tile(speech(), (4, 1))[:length]
    other = np.concatenate([first, np.flip(first)[: 300 * HOP]])
    first[-10 * HOP :] = 0.0
    one, two = masks_from_behind(first), masks_from_behind(other)
    np.testing.assert_array_equal(one[:SPAN_FRAMES], two[:SPAN_FRAMES])
    assert not np.array_equal(one[SPAN_FRAMES:], two[SPAN_FRAMES : len(one)])


def test_every_channel_has_its_own_masks() -> None:
    signal = speech()[:25000]
    pair = np.concatenate([signal, 0.5 * np.flip(signal)], axis=1)

    def whole(samples: np.ndarray) -> np.ndarray:
        recording = RecordingDenoiser(StreamDenoiser(rate_hz=RATE_HZ, channels=samples.shape[1]))
        return np.concatenate([recording.feed(samples), recording.flush()])

    together = whole(pair)
    for channel in (0, 1):
        np.testing.assert_array_equal(together[:, [channel]], whole(pair[:, [channel]]))


def test_a_mixture_of_masks_lies_between_them_nearer_to_the_first() -> None:
    values = np.linspace(0.0, 1.0, 11, dtype=np.float32)
    first, second = np.meshgrid(values, values)
    both = mixed(first, second)
    assert both.dtype == np.float32
    np.testing.assert_allclose(np.diag(both)[1:-1], values[1:-1], rtol=1e-5)
    low, high = np.minimum(first, second), np.maximum(first, second)
    assert (low - 2e-4 <= both).all()
    assert (both <= high + 2e-4).all()
    inner = (first > 0.0) & (first < 1.0) & (second > 0.0) & (second < 1.0)
    assert (np.abs(both - first) <= np.abs(both - second) + 1e-6)[inner].all()


def test_recordings_take_the_second_pass_without_soxr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    monkeypatch.setattr(stream_module, "has_soxr", lambda: False)
    noisy = speech()[:60000, 0]
    out = denoise(noisy, 48000)
    assert out.shape == noisy.shape
    assert 0.0 < np.square(out).mean() < np.square(noisy).mean()


def test_a_network_that_takes_whole_windows_takes_one_pass() -> None:
    signal = speech()[:60000]
    recording = RecordingDenoiser(StreamDenoiser(SMALL_MODEL, rate_hz=RATE_HZ))
    ready = [recording.feed(signal), recording.flush()]
    expected = as_recording(StreamDenoiser(SMALL_MODEL, rate_hz=RATE_HZ), signal, RATE_HZ)
    np.testing.assert_array_equal(np.concatenate(ready), expected)
