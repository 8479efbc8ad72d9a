from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtden import Denoiser
from rtden.errors import AudioFileError
from rtden.mel import hann, mel_filterbank, power, stft
from rtden.sidecar import ModelSpec, load_spec
from rtden.training.corpus import Clips, Mixer, active_rms, batches, load_clips
from rtden.training.export import export, to_tflite
from rtden.training.network import average, raise_output, seed_network
from rtden.training.recipe import column_weights, share_loss, train

RATE_HZ = 22050
SPEC = ModelSpec(name="tiny", mean_db=-30.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a folder of four talkers, twenty seconds in all, and one of five noises; made here."""
    top = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for talker in range(4):
        (top / "speech" / "made" / f"talker{talker}").mkdir(parents=True)
        for take in range(2):
            seconds = np.arange(int(2.5 * 16000)) / 16000
            voice = sum(np.sin(2 * np.pi * (100 + 30 * talker) * k * seconds) / k for k in range(1, 20))
            signal = 0.1 * voice * np.maximum(0, np.sin(2 * np.pi * (2 + take) * seconds))
            soundfile.write(top / "speech" / "made" / f"talker{talker}" / f"{take}.flac", signal, 16000)
    (top / "noise").mkdir()
    for number in range(5):
        soundfile.write(top / "noise" / f"{number}.flac", 0.1 * rng.standard_normal((24000 * 2, 2)), 24000)
    return top / "speech", top / "noise"


@pytest.fixture
def clips(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Clips, Clips]:
    speech, noise = folders
    return load_clips(speech, tmp_path, rate_hz=RATE_HZ, group_depth=2), load_clips(noise, tmp_path, rate_hz=RATE_HZ, group_depth=None)


def test_corpus_is_decoded_once_and_split_by_talker_and_recording(clips: tuple[Clips, Clips], folders: tuple[Path, Path], tmp_path: Path) -> None:
    speech, noise = clips
    assert len(speech.length) == 8
    assert set(speech.group) == {f"made/talker{n}" for n in range(4)}
    assert len(set(noise.group)) == 5
    assert abs(speech.length.sum() / RATE_HZ - 20.0) < 0.1
    for part in clips:
        training, validation = part.split()
        assert not set(training.group) & set(validation.group)
        assert len(training.length) + len(validation.length) == len(part.length)
        assert len(validation.length) > 0
    (cached,) = tmp_path.glob("speech-*.npy")
    changed = cached.stat().st_mtime_ns
    again = load_clips(folders[0], tmp_path, rate_hz=RATE_HZ, group_depth=2)
    assert cached.stat().st_mtime_ns == changed
    assert np.array_equal(again.start, speech.start)


def test_speeding_speech_up_widens_its_band(folders: tuple[Path, Path], tmp_path: Path) -> None:
    fast = load_clips(folders[0], tmp_path, rate_hz=RATE_HZ, group_depth=2, speeds=(1.2, 1.3), seed=1)
    assert {round(float(hz)) for hz in fast.bandwidth_hz if hz < 8001} == {8000}
    assert (fast.bandwidth_hz[fast.bandwidth_hz > 8001] >= 9600).all()
    assert (fast.bandwidth_hz > 8001).any()


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no audio files"):
        load_clips(tmp_path, tmp_path, rate_hz=RATE_HZ, group_depth=None)


def test_mixtures_are_seeded_and_meet_their_ranges(clips: tuple[Clips, Clips]) -> None:
    mixer = Mixer(*clips, rate_hz=RATE_HZ, samples=RATE_HZ, seed=3)
    drawn = [mixer.draw() for _ in range(60)]
    again = Mixer(*clips, rate_hz=RATE_HZ, samples=RATE_HZ, seed=3)
    assert all(np.array_equal(m.noisy, again.draw().noisy) for m in drawn)
    levels_db = [10 * np.log10(np.mean(m.noisy**2)) for m in drawn if m.noisy.all()]
    assert min(levels_db) >= -45.1
    assert max(levels_db) <= -9.9
    assert all(np.abs(m.noisy).max() <= 1.0 for m in drawn)
    both = [m for m in drawn if m.clean.any() and not np.array_equal(m.clean, m.noisy)]
    snr_db = [20 * np.log10(active_rms(m.clean) / np.sqrt(np.mean((m.noisy - m.clean) ** 2))) for m in both]
    assert -6.5 < min(snr_db) < 0 < max(snr_db) < 25
    assert len(both) < len(drawn), "some are clean or noise alone"


def test_a_batch_is_what_the_denoiser_sees_and_what_is_asked_of_it(clips: tuple[Clips, Clips]) -> None:
    """The target share, put to the noisy mel, is the least-squares one; the features are those of the streaming path."""
    mixtures = 3
    drawn = Mixer(*clips, rate_hz=RATE_HZ, samples=RATE_HZ, seed=4)
    batch = next(batches(Mixer(*clips, rate_hz=RATE_HZ, samples=RATE_HZ, seed=4), SPEC, mixtures=mixtures, stride=1, column_weight=column_weights(SPEC)))
    assert batch.x.shape[1:] == (128, 16, 1)
    assert batch.y.shape[1:] == (128, 16, 4)
    mixture = drawn.draw()
    frames = lambda signal: stft(np.lib.stride_tricks.sliding_window_view(signal, SPEC.n_fft)[:: SPEC.hop], hann(SPEC.n_fft))  # noqa: E731
    noisy, clean = frames(mixture.noisy), frames(mixture.clean)
    basis = mel_filterbank(RATE_HZ, SPEC.n_fft, SPEC.n_mels, 0.0, 11025.0).T
    # Windows are ordered by their start; the one whose newest column is frame 20 of the first mixture:
    window = 20 * mixtures
    expected = np.clip((clean * noisy.conj()).real[20] @ basis / (power(noisy)[20] @ basis + 1e-12), 0, 1)
    np.testing.assert_allclose(batch.y[window, :, 15, 2], expected, atol=1e-4)
    level_db = 10 * np.log10(np.maximum(power(noisy)[20] @ basis, 1e-8))
    np.testing.assert_allclose(batch.x[window, :, 15, 0] * SPEC.std_db + SPEC.mean_db, level_db, atol=1e-2)
    # The first window is a stream's beginning: silence, and one column of sound.
    assert (batch.x[0, :, :15, 0] == batch.x[0, 0, 0, 0]).all()
    assert not batch.y[0, :, :15, 3].any()


def test_the_best_share_has_the_least_loss() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.random((4, 8, 16, 1)).astype(np.float32) + 0.1
    share = rng.random(noisy.shape).astype(np.float32)
    target = np.concatenate([noisy, share * noisy, share, np.ones_like(share)], axis=-1)
    least = float(share_loss(target, share))
    for wrong in (share * 0.5 + 0.5, share * 0.8, share * 0.5, np.ones_like(share)):
        assert float(share_loss(target, wrong)) > least + 0.01


def test_the_network_is_the_seeds() -> None:
    network = seed_network(SPEC)
    assert network.count_params() == 74497
    assert network.output_shape == (None, 128, 16, 1)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "Conv2DTranspose", "Conv2DTranspose", "Conv2D"]


def test_averaging_and_raising_change_what_they_say() -> None:
    first, second = seed_network(SPEC), seed_network(SPEC)
    window = np.random.default_rng(0).standard_normal((1, 128, 16, 1)).astype(np.float32)
    for ours, a, b in zip(average(first, second).get_weights(), first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(ours, (a + b) / 2, atol=1e-7)
    np.testing.assert_allclose(np.asarray(average(first, first)(window)), np.asarray(first(window)), atol=1e-6)
    odds = [share / (1 - share) for share in (np.asarray(first(window)), np.asarray(raise_output(first, 0.7)(window)))]
    np.testing.assert_allclose(odds[1] / odds[0], np.exp(0.7), rtol=1e-3)


def test_training_lowers_the_loss_and_its_export_runs_in_the_denoiser(folders: tuple[Path, Path], tmp_path: Path) -> None:
    speech, noise = folders
    network, windows = train(SPEC, speech=speech, noise=noise, work=tmp_path, steps=36, steps_per_epoch=12, mixtures=2)
    losses = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)["val_loss"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    path = tmp_path / "tiny.tflite"
    parity = export(network, SPEC, path, calibration=windows[:20], check=windows[20:30])
    assert parity["share_difference_p99"] < 0.05
    assert load_spec(path).metrics["int8_against_float"] == parity
    assert path.stat().st_size < 0.4 * path.with_suffix(".float.tflite").stat().st_size
    noise_samples = (0.1 * np.random.default_rng(1).standard_normal(20000)).astype(np.float32)
    outputs = []
    for file in (path, path.with_suffix(".float.tflite")):
        denoiser = Denoiser(file)
        outputs.append(np.concatenate([denoiser.feed(noise_samples), denoiser.flush()]))
    assert np.abs(outputs[0] - outputs[1]).max() < 0.05 * np.abs(outputs[1]).max() + 0.01


def test_the_float_export_gives_what_the_network_gives() -> None:
    network = seed_network(SPEC)
    content = to_tflite(network)
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    window = np.random.default_rng(0).standard_normal((1, 128, 16, 1)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), network(window), atol=1e-5)
