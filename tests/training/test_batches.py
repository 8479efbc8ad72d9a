from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import draw_one
import numpy as np
import pytest
from conftest import Folders
from waiting import until

from rtden.mel import Features
from rtden.model import ModelSpec
from rtden.spectral import power, stft, window_pair
from rtden.training.batches import BatchSource, draw_ahead, draw_overlaps, mixture_samples, to_batch
from rtden.training.corpus import load_clips
from rtden.training.mixing import Mixture

SPEC = ModelSpec(
    name="tiny", mean_db=-30.0, channels=("log_mel", "above_floor", "above_mean"), hop=256
)
LEAD_IN = SPEC.n_fft - SPEC.hop


@pytest.fixture(scope="module")
def source(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> BatchSource:
    cache = tmp_path_factory.mktemp("cache")
    speech = load_clips(folders.speech, cache, rate_hz=SPEC.rate_hz, group_depth=2)
    noise = load_clips(folders.noise, cache, rate_hz=SPEC.rate_hz, group_depth=None)
    return BatchSource(speech, noise, spec=SPEC, mixtures=3, seconds=1.0, seed=5)


def test_features_are_those_of_the_streaming_path(source: BatchSource) -> None:
    mixtures = source.mixtures(0)
    mixture, batch = mixtures[1], to_batch(mixtures, SPEC)
    columns = 86
    assert batch.features.shape == (3, 128, columns, 3)
    assert batch.noisy.shape == batch.clean.shape == (3, columns * SPEC.hop)
    assert len(mixture.noisy) == mixture_samples(SPEC, 1.0)
    # As the Denoiser: silence before the stream, then frame by frame.
    silence = np.zeros(LEAD_IN, np.float32)
    window, (analysis, _) = Features(SPEC), window_pair(SPEC.n_fft, SPEC.hop, LEAD_IN)
    stream = np.concatenate([silence, mixture.noisy, silence])
    frames = np.lib.stride_tricks.sliding_window_view(stream, SPEC.n_fft)[:: SPEC.hop]
    for column in range(columns):
        window.push(power(stft(frames[column : column + 1], analysis)))
        np.testing.assert_allclose(batch.features[1, :, column], window.columns[:, -1], atol=1e-4)


def test_signals_are_relative_to_the_speech(source: BatchSource) -> None:
    for number in range(6):
        for mixture, noisy, clean in zip(
            source.mixtures(number), source(number).noisy, source(number).clean, strict=True
        ):
            assert np.abs(noisy).max() < 200
            if mixture.clean.any():
                scale = clean[LEAD_IN:].max() / mixture.clean.max()
                np.testing.assert_allclose(
                    clean[LEAD_IN:], mixture.clean * scale, rtol=1e-4, atol=1e-6
                )
                np.testing.assert_allclose(
                    noisy[LEAD_IN:], mixture.noisy * scale, rtol=1e-4, atol=1e-5
                )


def test_next_to_no_speech_is_not_blown_up() -> None:
    noise = np.random.default_rng(0).standard_normal(mixture_samples(SPEC, 1.0)).astype(np.float32)
    batch = to_batch([Mixture(noise * np.float32(1e-6), noise, 11025.0)], SPEC)
    assert np.abs(batch.noisy).max() < 10


def test_bins_above_the_band_are_not_valid() -> None:
    silence = np.zeros(mixture_samples(SPEC, 1.0), np.float32)
    mixtures = [Mixture(silence, silence, hz) for hz in (4000.0, 8000.0, 11025.0)]
    valid_bins = to_batch(mixtures, SPEC).valid_bins
    bins_hz = np.arange(513) * SPEC.rate_hz / SPEC.n_fft
    for row, hz in zip(valid_bins, (4000.0, 8000.0, 11025.0), strict=True):
        assert 0.95 * hz < bins_hz[row == 1].max() <= hz
        assert (row[bins_hz > hz] == 0).all()


def test_live_sound_and_files_have_most_of_the_mixtures(rng: np.random.Generator) -> None:
    overlaps = np.array(draw_overlaps(SPEC, 2000, rng))
    assert 0.5 < np.mean(overlaps == 405) < 0.6
    assert 0.15 < np.mean(overlaps == 768) < 0.25
    assert 300 <= overlaps.min() < 320
    assert overlaps.max() == 768
    one_window = ModelSpec(name="tiny", hop=512, n_fft=1024)
    assert set(draw_overlaps(one_window, 200, rng)) <= set(range(300, 513))


def test_the_windows_are_those_of_the_overlap(source: BatchSource) -> None:
    mixtures = source.mixtures(0)
    batch = to_batch(mixtures, SPEC, [149, 768, 300])
    for row, overlap in enumerate((149, 768, 300)):
        analysis, synthesis = window_pair(SPEC.n_fft, SPEC.hop, overlap)
        np.testing.assert_array_equal(batch.analysis[row], analysis)
        np.testing.assert_array_equal(batch.synthesis[row], synthesis)


def test_batches_have_numbers_and_are_drawn_ahead_in_order(source: BatchSource) -> None:
    ahead = list(draw_ahead(source, range(3, 8), workers=2))
    assert len(ahead) == 5
    for number, batch in zip(range(3, 8), ahead, strict=True):
        assert np.array_equal(batch.features, source(number).features)
        assert np.array_equal(batch.noisy, source(number).noisy)
    assert not np.array_equal(source(3).noisy, source(4).noisy)


def test_a_run_that_is_left_early_leaves_no_process_behind(source: BatchSource) -> None:
    ahead = draw_ahead(source, range(6))
    next(ahead)
    assert multiprocessing.active_children()
    ahead.close()
    assert not multiprocessing.active_children()


def test_a_run_that_is_killed_leaves_no_process_behind(folders: Folders, tmp_path: Path) -> None:
    command = [sys.executable, draw_one.__file__, *map(str, folders), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert children
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
