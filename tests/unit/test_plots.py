from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtden.errors import AudioFileError
from rtden.measure.plots import (
    BANDS,
    HIGHEST_HZ,
    HOP,
    LOWEST_HZ,
    WIDEST_COLUMNS,
    WINDOW,
    mel_spectrogram,
    plot_mels,
)

RATE_HZ = 22050


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return path


def sines(rate_hz: int, seconds: float, *hz: float) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tones: np.ndarray = np.sum([np.sin(2 * np.pi * f * t) for f in hz], axis=0)
    return (0.2 * tones).astype(np.float32)


def noise(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(round(seconds * rate_hz))
    return (0.1 * values).astype(np.float32)


def test_the_picture_is_a_png_of_two_panels_that_show_the_two_recordings_on_one_scale(
    tmp_path: Path,
) -> None:
    loud = write(tmp_path / "loud.wav", noise(2.0))
    soft = write(tmp_path / "soft.wav", 0.01 * noise(2.0))
    picture = tmp_path / "picture.png"
    plot_mels(loud, soft, picture)
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    image = pytest.importorskip("matplotlib.image")
    pixels = image.imread(picture)[..., :3]
    height, width = pixels.shape[:2]
    assert (width, height) == (1320, 495)
    assert pixels.var() > 0.01
    rows = slice(int(0.3 * height), int(0.7 * height))
    noisy, denoised = (
        pixels[rows, int(start * width) : int((start + 0.25) * width)] for start in (0.15, 0.6)
    )
    assert noisy.mean() > denoised.mean() + 0.2
    assert noisy.var() > 1e-4
    assert (pixels[:20, :20] == 1.0).all()


def test_the_picture_of_two_equal_recordings_shows_the_same_twice(tmp_path: Path) -> None:
    recording = write(tmp_path / "a.wav", noise(2.0))
    plot_mels(recording, recording, tmp_path / "picture.png")
    image = pytest.importorskip("matplotlib.image")
    pixels = image.imread(tmp_path / "picture.png")[..., :3]
    height, width = pixels.shape[:2]
    rows = slice(int(0.3 * height), int(0.7 * height))
    left, right = (
        pixels[rows, int(start * width) : int((start + 0.25) * width)].mean()
        for start in (0.15, 0.6)
    )
    assert left == pytest.approx(right, abs=0.03)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 60.0, 301.0])
def test_the_columns_of_a_long_recording_are_bounded_and_span_it(
    tmp_path: Path, seconds: float
) -> None:
    recording = write(tmp_path / "long.wav", noise(seconds, 8000), 8000)
    mels, length = mel_spectrogram(recording)
    assert length == pytest.approx(seconds)
    assert mels.shape[0] == BANDS
    assert min(seconds * 8000 / HOP, WIDEST_COLUMNS - 1) <= mels.shape[1] <= WIDEST_COLUMNS
    below_3_khz = mels[BANDS // 8 : BANDS // 2, 1:]
    if seconds > 30.0:  # white noise, as loud in the last column as in the first
        assert below_3_khz.mean(axis=1).std() < 3.0
        assert below_3_khz[:, :9].mean() == pytest.approx(below_3_khz[:, -9:].mean(), abs=1.5)


def test_levels_are_librosas(tmp_path: Path) -> None:
    librosa = pytest.importorskip("librosa")
    signal = sines(44100, 2.0, 440.0, 2500.0) + 0.01 * noise(2.0, 44100)
    mels, _ = mel_spectrogram(write(tmp_path / "sines.wav", signal, 44100))
    expected = librosa.feature.melspectrogram(
        y=signal,
        **{"sr": 44100, "n_fft": WINDOW, "hop_length": HOP, "center": False},
        **{"n_mels": BANDS, "fmin": LOWEST_HZ, "fmax": HIGHEST_HZ},
    )
    columns = expected.shape[1]
    expected_db = 10.0 * np.log10(np.maximum(expected, 1e-9))
    np.testing.assert_allclose(mels[:, 1 : 1 + columns], expected_db, rtol=0, atol=0.02)


def test_channels_are_averaged(tmp_path: Path) -> None:
    tone = sines(RATE_HZ, 1.0, 1000.0)
    mono, _ = mel_spectrogram(write(tmp_path / "mono.wav", tone))
    pair = np.stack([2.0 * tone, 0.0 * tone], axis=1)
    stereo, _ = mel_spectrogram(write(tmp_path / "stereo.wav", pair))
    np.testing.assert_allclose(stereo, mono, rtol=0, atol=1e-3)


def test_a_recording_without_sound_is_an_audio_file_error(tmp_path: Path) -> None:
    recording = write(tmp_path / "short.wav", noise(0.0))
    with pytest.raises(AudioFileError, match="holds no sound"):
        plot_mels(recording, recording, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


@pytest.mark.parametrize("name", ["plain/picture.png", "folder", "picture.nosuchformat"])
def test_a_picture_that_cannot_be_written_is_an_audio_file_error(tmp_path: Path, name: str) -> None:
    recording = write(tmp_path / "a.wav", noise(1.0))
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    listed = sorted(tmp_path.rglob("*"))
    with pytest.raises(AudioFileError) as caught:
        plot_mels(recording, recording, tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == listed


def test_an_existing_picture_is_kept_unless_forced(tmp_path: Path) -> None:
    recording = write(tmp_path / "a.wav", noise(1.0))
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"something dear")
    with pytest.raises(AudioFileError, match="exists already"):
        plot_mels(recording, recording, picture)
    assert picture.read_bytes() == b"something dear"
    plot_mels(recording, recording, picture, force=True)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    recording = write(tmp_path / "a.wav", noise(1.0))
    with pytest.raises(AudioFileError, match="there is no file"):
        plot_mels(tmp_path / "missing.wav", recording, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()
