from __future__ import annotations

import numpy as np
import soundfile
from conftest import DATA
from streams import as_recording

from rtden import StreamDenoiser
from rtden.backward import AHEAD_FRAMES, SPAN_FRAMES, BackwardMasks
from rtden.gains import mixed
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


def test_the_masks_belong_to_the_frames_of_the_stream() -> None:
    signal = speech()
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
    signal = speech()
    pair = np.concatenate([signal, 0.5 * np.flip(signal)], axis=1)

    def whole(samples: np.ndarray) -> np.ndarray:
        recording = RecordingDenoiser(StreamDenoiser(rate_hz=RATE_HZ, channels=samples.shape[1]))
        return np.concatenate([recording.feed(samples), recording.flush()])

    together = whole(pair)
    for channel in (0, 1):
        np.testing.assert_array_equal(together[:, [channel]], whole(pair[:, [channel]]))


def test_a_network_that_takes_whole_windows_hears_in_one_direction() -> None:
    signal = speech()
    recording = RecordingDenoiser(StreamDenoiser("seed", rate_hz=RATE_HZ))
    ready = [recording.feed(signal), recording.flush()]
    expected = as_recording(StreamDenoiser("seed", rate_hz=RATE_HZ), signal, RATE_HZ)
    np.testing.assert_array_equal(np.concatenate(ready), expected)


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
