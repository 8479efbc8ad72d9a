from __future__ import annotations

import numpy as np
import pytest

from rtden.mel import (
    BandSpread,
    Features,
    MelBank,
    MelFeatures,
    band_edges_hz,
    hz_to_mel,
    mel_filterbank,
    mel_to_hz,
    to_db,
)
from rtden.model import ModelSpec
from rtden.spectral import hann, power, stft, window_pair
from rtden.trackers import BandTrackers

SPEC = ModelSpec(name="test")
GEOMETRIES = [
    (22050, 1024, 128, 0.0, 11025.0),
    (16000, 512, 40, 50.0, 7600.0),
    (22050, 2048, 128, 0.0, 11025.0),
]


def powers(signal: np.ndarray) -> np.ndarray:
    """Return the powers of all frames of a signal, shape (frames, bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, SPEC.n_fft)[:: SPEC.hop]
    return power(stft(frames, hann(SPEC.n_fft)))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_filterbank_equals_librosas(geometry: tuple[int, int, int, float, float]) -> None:
    librosa = pytest.importorskip("librosa")
    rate_hz, n_fft, n_mels, fmin_hz, fmax_hz = geometry
    sizes = {"sr": rate_hz, "n_fft": n_fft, "n_mels": n_mels, "fmin": fmin_hz, "fmax": fmax_hz}
    np.testing.assert_allclose(mel_filterbank(*geometry), librosa.filters.mel(**sizes), atol=1e-7)


def test_columns_equal_librosas_melspectrogram_wherever_the_frame_lies_inside_the_window(
    noise: np.ndarray,
) -> None:
    librosa = pytest.importorskip("librosa")
    # The 8000 samples of one window of the network, as librosa sees them: columns centred at
    # multiples of the hop.
    window = noise[512 * 9 :][: SPEC.window_samples]
    theirs = librosa.feature.melspectrogram(
        y=window, sr=SPEC.rate_hz, n_fft=SPEC.n_fft, hop_length=SPEC.hop, n_mels=SPEC.n_mels
    )
    assert theirs.shape == (SPEC.n_mels, SPEC.frames)
    frames_power = powers(noise[512 * 8 :])[: SPEC.frames]
    columns = Features(SPEC)
    columns.push(frames_power)
    ours = 10.0 ** ((columns.columns[:, :, 0] * SPEC.std_db + SPEC.mean_db) / 10.0)
    inside = slice(1, 15)
    np.testing.assert_allclose(ours[:, inside], theirs[:, inside], rtol=1e-5)
    bank = mel_filterbank(SPEC.rate_hz, SPEC.n_fft, SPEC.n_mels, 0.0, SPEC.fmax_hz)
    linear = frames_power @ bank.T
    np.testing.assert_allclose(linear.T[:, inside], theirs[:, inside], rtol=1e-5)


def test_window_slides_by_the_new_columns(noise: np.ndarray) -> None:
    frames = powers(noise)
    one, eight = Features(SPEC), Features(SPEC)
    for frame in frames[:24]:
        one.push(frame[None])
    for at in range(0, 24, 8):
        eight.push(frames[at : at + 8])
    assert np.array_equal(one.columns, eight.columns)
    before = one.columns.copy()
    one.push(frames[24][None])
    assert np.array_equal(one.columns[:, :-1], before[:, 1:])


def test_mel_scale_inverts() -> None:
    librosa = pytest.importorskip("librosa")
    hz = np.linspace(0.0, 11025.0, 500)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)
    np.testing.assert_allclose(hz_to_mel(hz), librosa.hz_to_mel(hz), atol=1e-9)


def test_a_gain_of_one_in_every_band_is_a_gain_of_one_in_every_bin() -> None:
    out = np.zeros((2, 513), np.float32)
    BandSpread(*GEOMETRIES[0])(np.ones((2, 128), np.float32), out)
    assert (out == 1.0).all()


@pytest.mark.parametrize(
    "geometry", [*GEOMETRIES, (22050, 256, 128, 0.0, 11025.0), (16000, 512, 1, 0.0, 8000.0)]
)
def test_gains_are_interpolated_between_band_centres(
    geometry: tuple[int, int, int, float, float], rng: np.random.Generator
) -> None:
    rate_hz, n_fft, n_mels, *_ = geometry
    gains, out = rng.random((3, n_mels), np.float32), np.zeros((3, n_fft // 2 + 1), np.float32)
    BandSpread(*geometry)(gains, out)
    centres = band_edges_hz(n_mels, *geometry[3:])[1:-1]
    bins_hz = np.arange(n_fft // 2 + 1) * rate_hz / n_fft
    expected = [np.interp(bins_hz, centres, row) for row in gains]
    np.testing.assert_allclose(out, expected, atol=2e-5)


# The last one has bands so narrow that no bin lies between some of their corners.
@pytest.mark.parametrize("geometry", [*GEOMETRIES, (22050, 256, 128, 0.0, 11025.0)])
def test_the_sparse_filterbank_equals_the_dense_one(
    geometry: tuple[int, int, int, float, float], rng: np.random.Generator
) -> None:
    frames = rng.random((2, 5, geometry[1] // 2 + 1)).astype(np.float32)
    np.testing.assert_allclose(
        MelBank(*geometry)(frames), frames @ mel_filterbank(*geometry).T, rtol=1e-5, atol=1e-8
    )


def test_silence_has_a_finite_level() -> None:
    assert (to_db(np.zeros(5, np.float32), -80.0) == -80.0).all()


def test_several_streams_at_once_equal_one_by_one(rng: np.random.Generator) -> None:
    spec = ModelSpec(name="four", channels=("log_mel", "above_floor", "above_mean", "slope"))
    frames = rng.random((40, 3, spec.n_fft // 2 + 1)).astype(np.float32)
    together, apart = MelFeatures(spec, streams=(3,)), [MelFeatures(spec) for _ in range(3)]
    for frame in frames:
        columns = together.push(frame)
        for column, alone, power_ in zip(columns, apart, frame, strict=True):
            np.testing.assert_allclose(column, alone.push(power_), atol=1e-5)


def trackers() -> BandTrackers:
    return BandTrackers((1,), frames_per_second=43.0, floor_db=-80.0)


def run(tracker: BandTrackers, level_db: float, frames: int) -> float:
    for _ in range(frames):
        column_db = np.array([[level_db]], np.float32)
        tracker.follow(column_db, column_db > -80.0)
    return float(tracker.references[-1, 0, 0])


def test_floor_starts_with_the_first_sound_after_digital_silence() -> None:
    tracker = trackers()
    run(tracker, -80.0, 500)
    assert run(tracker, -30.0, 1) == pytest.approx(-30.0)


def test_floor_survives_digital_silence() -> None:
    tracker = trackers()
    run(tracker, -30.0, 100)
    run(tracker, -80.0, 1000)
    assert run(tracker, -30.0, 1) == pytest.approx(-30.0)


@pytest.mark.parametrize(("before_db", "after_db"), [(-60.0, -20.0), (-20.0, -60.0)])
def test_floor_follows_a_step_of_the_noise_within_a_second(
    before_db: float, after_db: float
) -> None:
    tracker = trackers()
    run(tracker, before_db, 200)
    assert run(tracker, after_db, 43) == pytest.approx(after_db, abs=0.5)


def test_floor_ignores_short_speech() -> None:
    tracker = trackers()
    run(tracker, -50.0, 100)
    assert run(tracker, -10.0, 15) == pytest.approx(-50.0, abs=0.5)


def test_each_band_is_tracked_as_if_it_were_alone(rng: np.random.Generator) -> None:
    bands, columns = 6, 300
    levels_db = rng.normal(-40.0, 6.0, (columns, bands)).astype(np.float32)
    heard = np.ones((columns, bands), bool)
    heard[:, 0] = False
    heard[:70, 1] = heard[100:103, 2] = heard[31, 3:] = heard[::7, 5] = False
    together = BandTrackers((bands,), frames_per_second=43.0, floor_db=-80.0)
    alone = [trackers() for _ in range(bands)]
    for at in range(columns):
        together.follow(levels_db[[at]], heard[[at]])
        for band, tracker in enumerate(alone):
            tracker.follow(levels_db[[at], band : band + 1], heard[[at], band : band + 1])
            assert np.array_equal(together.references[0, :, band], tracker.references[0, :, 0])


def test_mean_is_slow() -> None:
    tracker = trackers()
    run(tracker, -50.0, 200)
    run(tracker, -30.0, 43)
    assert -50.0 + 20.0 * 0.5 < tracker.references[-1, 1, 0] < -30.0 - 20.0 * 0.25


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 512), (1024, 256), (512, 128)])
def test_the_longest_overlap_has_hann_windows(n_fft: int, hop: int) -> None:
    for window in window_pair(n_fft, hop, n_fft - hop):
        assert np.array_equal(window, hann(n_fft))


@pytest.mark.parametrize(
    ("n_fft", "hop", "overlap"),
    [(1024, 512, 32), (1024, 512, 128), (1024, 512, 511), (1024, 256, 600), (512, 128, 128)],
)
def test_a_shorter_overlap_rises_slowly_and_falls_fast(n_fft: int, hop: int, overlap: int) -> None:
    analysis, synthesis = window_pair(n_fft, hop, overlap)
    assert np.sum(analysis**2) == pytest.approx(np.sum(hann(n_fft) ** 2), rel=1e-5)
    peak = int(np.argmax(analysis))
    assert peak >= n_fft // 2 - 1
    assert (np.diff(analysis[: peak + 1]) >= 0).all()
    assert (np.diff(analysis[peak:]) <= 0).all()
    assert not synthesis[: n_fft - hop - overlap].any()
    summed = np.zeros(n_fft + 8 * hop)
    for frame in range(9):
        summed[frame * hop :][:n_fft] += analysis * synthesis
    inner = summed[n_fft - hop : 8 * hop]
    assert inner.min() > 0.01 * inner.max()  # what overlap-add divides by


def test_white_noise_has_the_same_power_under_any_window(noise: np.ndarray) -> None:
    frames = np.lib.stride_tricks.sliding_window_view(noise, 1024)[::512]
    windows = [window_pair(1024, 512, overlap)[0] for overlap in (512, 256, 32)]
    levels = [float(power(stft(frames, window)).mean()) for window in windows]
    assert max(levels) < 1.03 * min(levels)


def test_any_number_of_frames_at_once_is_one_by_one(rng: np.random.Generator) -> None:
    spec = ModelSpec(name="four", channels=("log_mel", "above_floor", "above_mean", "slope"))
    frames_db = rng.uniform(-70.0, 0.0, (40, spec.n_mels)).astype(np.float32)
    frames_db[5:9] = spec.floor_db
    at_once, one_by_one = MelFeatures(spec), MelFeatures(spec)
    expected = np.concatenate([one_by_one.add(frame_db[None]).copy() for frame_db in frames_db])
    found = [at_once.add(piece).copy() for piece in np.split(frames_db, [1, 2, 7, 20])]
    assert np.array_equal(np.concatenate(found), expected)
