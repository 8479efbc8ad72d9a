from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keras
import librosa
import numpy as np
import pytest
import soundfile

from rtden.errors import AudioFileError
from rtden.training import seed_notebook
from rtden.training.seed_notebook import cross_entropy, invert, reproduce

RECORDINGS = 40
Run = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of forty vowels around 8000 samples; one is silent, some are loud."""
    top = tmp_path_factory.mktemp("digits")
    rng = np.random.default_rng(0)
    for number in range(RECORDINGS):
        seconds = np.arange(int(rng.integers(2000, 4500))) / 8000
        pitch_hz, loudness = rng.uniform(90, 250), 0.0 if number == 0 else rng.uniform(0.02, 0.5)
        vowel = sum(np.sin(2 * np.pi * pitch_hz * k * seconds) / k for k in range(1, 12)) * np.sin(
            np.pi * seconds / seconds[-1]
        )
        path = top / f"{number % 10}_made_{number // 10}.flac"
        soundfile.write(path, np.clip(loudness * vowel, -0.99, 0.99), 8000)
    return top


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seed_notebook, "LISTENED", 2)  # each takes a second or two
        return out, reproduce(folder, out, epochs=2, seed=3)


def test_it_writes_what_the_notebook_wrote_and_nothing_half(run: Run) -> None:
    out, result = run
    arrays = {"X.npy", "train_data.npy", "test_data.npy"}
    sounds = {"original.wav", "clean.wav", "noisy.wav", "denoised.wav"}
    others = {"checkpoint.keras", "model.keras", "mels.png", "report.json"}
    assert set(os.listdir(out)) == arrays | sounds | others
    assert np.load(out / "X.npy").shape == (RECORDINGS, 128, 16)
    assert np.load(out / "train_data.npy").shape == (36, 128, 16)
    assert np.load(out / "test_data.npy").shape == (4, 128, 16)
    assert (out / "mels.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == result
    sizes = [result[name] for name in ("recordings", "trained_on", "tested_on")]
    assert sizes == [RECORDINGS, 36, 4]
    scaled = np.load(out / "X.npy").astype(np.float64) / 255
    noise_db = 20 * np.log10(5e-8 / np.sqrt(np.mean(scaled**2)))
    assert result["noise_db"] == pytest.approx(noise_db, abs=0.2)


def test_the_mels_are_librosas_in_the_order_of_the_names(run: Run, folder: Path) -> None:
    mels = np.load(run[0] / "X.npy")
    for number in (0, 7, 39):
        samples, _ = librosa.load(sorted(folder.iterdir())[number], sr=22050)
        samples = librosa.util.fix_length(samples, size=8000)
        sizes = {"n_fft": 2048, "hop_length": 512, "n_mels": 128}
        expected = librosa.feature.melspectrogram(y=samples, sr=22050, **sizes)
        np.testing.assert_array_equal(mels[number], expected)


def test_the_two_parts_share_no_recording_and_are_all_of_them(run: Run) -> None:
    scaled = np.load(run[0] / "X.npy") / np.float32(255)
    parts = [np.load(run[0] / f"{name}_data.npy") for name in ("train", "test")]
    seen = [{mel.tobytes() for mel in part} for part in parts]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == {mel.tobytes() for mel in scaled}
    assert run[1]["largest_value"] == round(float(scaled.max()), 4)


def test_the_networks_have_the_seeds_parameters_and_can_be_loaded(run: Run) -> None:
    out, result = run
    assert result["parameters"] == 74497
    last, best = (
        keras.models.load_model(out / f"{name}.keras") for name in ("model", "checkpoint")
    )
    assert last.count_params() == best.count_params() == 74497
    assert len(result["validation_bce"]) == 2
    assert result["best_validation_bce"] == min(result["validation_bce"])
    test = np.load(out / "test_data.npy")
    given = best.predict(test[..., None], verbose=0)[..., 0]
    assert cross_entropy(test, given) == pytest.approx(result["best_validation_bce"], rel=0.02), (
        "the noise is too small to be seen here"
    )


def by_hand(target: np.ndarray, output: np.ndarray) -> float:
    """Return the cross-entropy; as in keras, the output stays 1e-7 off zero and one."""
    least = np.float32(1e-7)
    output = np.clip(output, least, np.float32(1) - least)
    ones, zeros = (np.log(of, dtype=np.float64) for of in (output, np.float32(1) - output))
    return float(-np.mean(target * ones + (1.0 - target) * zeros))


def test_doing_nothing_has_the_cross_entropy_that_a_hand_computes(run: Run) -> None:
    test = np.load(run[0] / "test_data.npy")
    assert run[1]["bce_of_noisy_input"] == pytest.approx(by_hand(test, test), rel=1e-2, abs=1e-5)
    values = np.array([[0.0, 0.25, 1.0]], np.float32)
    assert cross_entropy(values, values) == pytest.approx(by_hand(values, values), rel=1e-5)
    assert cross_entropy(values, values[:, ::-1]) > cross_entropy(values, values)


def test_the_sounds_are_finite_and_as_long_as_the_window(run: Run) -> None:
    for name in ("original", "clean", "noisy", "denoised"):
        samples, rate_hz = soundfile.read(run[0] / f"{name}.wav")
        assert rate_hz == 22050
        assert samples.shape == (8000,)
        assert np.isfinite(samples).all()
        assert samples.any()
    assert 1 <= run[1]["listened"] <= 2
    for sound in (run[1]["perfect_mel"], run[1]["denoised_mel"]):
        assert sound["si_sdr_db"] < 10
        assert 1 <= sound["pesq_wb"] <= 4.65


def test_the_inversion_is_librosas_with_a_seed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mel = np.load(run[0] / "X.npy")[5]
    ours = invert(mel, seed=4)
    monkeypatch.setattr(np.random, "default_rng", lambda: np.random.RandomState(4))
    theirs = librosa.feature.inverse.mel_to_audio(
        mel, sr=22050, n_fft=2048, hop_length=512, length=8000
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_same_seed_gives_the_same_and_replaces_what_was_there(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_notebook, "LISTENED", 1)
    monkeypatch.setattr(seed_notebook, "DRAWN", 1)
    (tmp_path / "X.npy").write_bytes(b"old")
    again = reproduce(folder, tmp_path, epochs=2, seed=3)
    for name in ("X.npy", "train_data.npy", "test_data.npy"):
        assert (tmp_path / name).read_bytes() == (run[0] / name).read_bytes()
    np.testing.assert_allclose(again["validation_bce"], run[1]["validation_bce"], rtol=1e-4)
    assert again["noise_db"] == run[1]["noise_db"]
    sounds = [soundfile.read(out / "denoised.wav")[0] for out in (run[0], tmp_path)]
    np.testing.assert_allclose(sounds[0], sounds[1], atol=1e-2)


def test_an_interrupt_leaves_no_half_array(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, _array: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce(folder, tmp_path, epochs=1)
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_said_in_a_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _array: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        AudioFileError, match=r"could not be written to its end \(the disk is full\)"
    ):
        reproduce(folder, tmp_path, epochs=1)
    assert not os.listdir(tmp_path)


def make(folder: Path, count: int, samples: np.ndarray) -> Path:
    folder.mkdir()
    for number in range(count):
        soundfile.write(folder / f"{number:02}.wav", samples, 8000, subtype="FLOAT")
    return folder


def test_mistakes_are_said_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tone = 0.1 * np.sin(np.arange(4000))
    (tmp_path / "empty").mkdir()
    few = make(tmp_path / "few", 19, tone)
    broken = make(tmp_path / "broken", 20, tone)
    (broken / "07.wav").write_bytes(b"no audio at all")
    numberless = make(tmp_path / "numberless", 20, np.full(4000, np.nan))
    (tmp_path / "file").touch()
    for recordings, target, words in (
        (tmp_path / "nowhere", out, "holds no audio files"),
        (tmp_path / "empty", out, "holds no audio files"),
        (few, out, "holds 19 recordings, and the notebook needs at least 20"),
        (broken, out, "07.wav is damaged"),
        (numberless, out, "00.wav is damaged (Audio buffer is not finite everywhere)"),
        (folder, tmp_path / "file", "file cannot be made"),
        (folder, tmp_path / "file" / "below", "below cannot be made"),
    ):
        with pytest.raises(AudioFileError) as raised:
            reproduce(recordings, target, epochs=1)
        assert words in str(raised.value)
        assert str(raised.value).endswith(".")
        assert "\n" not in str(raised.value)
