from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtden.errors import AudioFileError, ModelError
from rtden.measure.plots import WIDEST_COLUMNS, mel_spectrogram, plot_mels
from rtden.model import find_model, load_spec

SPEC = load_spec(find_model("seed"))


def write(path: Path, samples: np.ndarray, rate_hz: int = SPEC.rate_hz) -> Path:
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return path


def sines(rate_hz: int, seconds: float, *hz: float) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tones: np.ndarray = np.sum([np.sin(2 * np.pi * f * t) for f in hz], axis=0)
    return (0.2 * tones).astype(np.float32)


def noise(seconds: float, rate_hz: int = SPEC.rate_hz) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate_hz))).astype(
        np.float32
    )


def librosas(signal: np.ndarray, **options: str) -> np.ndarray:
    """Return librosa's mel powers of a signal, by the model's geometry."""
    librosa = pytest.importorskip("librosa")
    geometry = {"sr": SPEC.rate_hz, "n_fft": SPEC.n_fft, "hop_length": SPEC.hop}
    bands = {"n_mels": SPEC.n_mels, "fmin": SPEC.fmin_hz, "fmax": SPEC.fmax_hz}
    powers: np.ndarray = librosa.feature.melspectrogram(y=signal, **geometry, **bands, **options)
    return powers


def test_the_picture_is_a_png_of_two_panels_that_show_the_two_recordings_on_one_scale(
    tmp_path: Path,
) -> None:
    loud, soft = (
        write(tmp_path / "loud.wav", noise(2.0)),
        write(tmp_path / "soft.wav", 0.01 * noise(2.0)),
    )
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


@pytest.mark.parametrize("seconds", [1.0, 27.0, 28.0, 60.0, 301.0])
def test_the_columns_of_a_long_recording_are_bounded_and_span_it(
    tmp_path: Path, seconds: float
) -> None:
    recording = write(tmp_path / "long.wav", noise(seconds, 8000), 8000)
    mels, length = mel_spectrogram(recording, SPEC)
    assert length == pytest.approx(seconds)
    assert mels.shape[0] == SPEC.n_mels
    assert mels.shape[1] <= WIDEST_COLUMNS
    assert mels.shape[1] > min(seconds * SPEC.rate_hz / SPEC.hop - 4, 0.45 * WIDEST_COLUMNS)
    below_3_khz = mels[: SPEC.n_mels // 2]
    assert (
        below_3_khz.mean(axis=1).std() < 3.0
    )  # white noise, as loud in the last column as in the first
    assert below_3_khz[:, :3].mean() == pytest.approx(below_3_khz[:, -3:].mean(), abs=1.5)


def test_levels_and_times_are_librosas(tmp_path: Path) -> None:
    signal = sines(SPEC.rate_hz, 2.0, 440.0, 2500.0) + 0.01 * noise(2.0)
    mels, _ = mel_spectrogram(write(tmp_path / "sines.wav", signal), SPEC)
    expected = librosas(signal, pad_mode="constant")
    expected_db = 10.0 * np.log10(np.maximum(expected, 10.0 ** (SPEC.floor_db / 10.0)))
    columns = mels.shape[1]
    assert expected_db.shape[1] - 5 <= columns <= expected_db.shape[1]
    np.testing.assert_allclose(mels, expected_db[:, :columns], rtol=0, atol=0.02)


def test_levels_of_a_stationary_tone_are_librosas_at_another_rate_and_in_pooled_columns(
    tmp_path: Path,
) -> None:
    hz, seconds = 1000.0, 40.0
    mels, _ = mel_spectrogram(write(tmp_path / "tone.wav", sines(16000, seconds, hz), 16000), SPEC)
    assert mels.shape[1] < seconds * SPEC.rate_hz / SPEC.hop / 1.5  # pooled
    expected = librosas(sines(SPEC.rate_hz, 2.0, hz))
    expected_db = 10.0 * np.log10(expected[:, 10:-10].mean(axis=1))
    middle_db = mels[:, 10:-10].mean(axis=1)
    band = int(np.argmax(expected_db))
    assert int(np.argmax(middle_db)) == band
    np.testing.assert_allclose(
        middle_db[band - 2 : band + 3], expected_db[band - 2 : band + 3], rtol=0, atol=0.1
    )
    assert np.ptp(mels[band, 10:-10]) < 0.1


def test_a_column_of_a_long_recording_is_the_mean_power_of_the_frames_that_it_stands_for(
    tmp_path: Path,
) -> None:
    signal = noise(60.0)
    mels, _ = mel_spectrogram(write(tmp_path / "noise.wav", signal), SPEC)
    each = librosas(signal, pad_mode="constant")
    pooled = round(each.shape[1] / mels.shape[1])
    assert pooled == 3
    expected = each[:, : pooled * mels.shape[1]].reshape(SPEC.n_mels, -1, pooled).mean(axis=2)
    np.testing.assert_allclose(mels, 10.0 * np.log10(expected), rtol=0, atol=0.02)


def test_channels_are_averaged(tmp_path: Path) -> None:
    tone = sines(SPEC.rate_hz, 1.0, 1000.0)
    mono, _ = mel_spectrogram(write(tmp_path / "mono.wav", tone), SPEC)
    stereo, _ = mel_spectrogram(
        write(tmp_path / "stereo.wav", np.stack([2.0 * tone, 0.0 * tone], axis=1)), SPEC
    )
    np.testing.assert_allclose(stereo, mono, rtol=0, atol=1e-3)


@pytest.mark.parametrize("samples", [0, 1, 250])
def test_a_recording_too_short_to_be_drawn_is_an_audio_file_error(
    tmp_path: Path, samples: int
) -> None:
    recording = write(tmp_path / "short.wav", noise(1.0)[:samples])
    with pytest.raises(AudioFileError, match="too short to be drawn"):
        plot_mels(recording, recording, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


@pytest.mark.parametrize("rate_hz", [8000, SPEC.rate_hz, 48000])
def test_a_recording_of_the_length_that_the_error_asks_for_can_be_drawn(
    tmp_path: Path, rate_hz: int
) -> None:
    with pytest.raises(AudioFileError) as caught:
        mel_spectrogram(write(tmp_path / "none.wav", noise(0.0)), SPEC)
    asked = re.search(r"at least ([\d.]+) s", str(caught.value))
    assert asked
    seconds = float(asked[1])
    recording = write(tmp_path / "short.wav", noise(seconds, rate_hz), rate_hz)
    plot_mels(recording, recording, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


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
    with pytest.raises(ModelError, match="no model"):
        plot_mels(recording, recording, tmp_path / "picture.png", model="no such model")
    assert not (tmp_path / "picture.png").exists()
