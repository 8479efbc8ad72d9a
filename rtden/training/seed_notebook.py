"""The notebook from which rtden grew, step by step, and figures about it.

It is a baseline, not a part of the product: whole clips of 8000 samples, linear mels, inaudible
noise, and an inversion that discards the phase. :func:`reproduce` writes the notebook's files, and
the figures that say why rtden keeps the shape of its network but feeds it with other data.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import soundfile
from keras import layers

from rtden.errors import AudioFileError
from rtden.extras import needed
from rtden.files.atomic import make_folder, write_errors
from rtden.measure.metrics import pesq_wb, si_sdr_db
from rtden.measure.plots import new_figure
from rtden.training.corpus import find_recordings
from rtden.types import Array

librosa = needed("librosa", "train", "training")
RATE_HZ, SAMPLES, N_FFT, HOP, N_MELS = 22050, 8000, 2048, 512, 128
SCALE = np.float32(255.0)  # divides the mels, as grey levels; a loud recording still exceeds one
NOISE_FACTOR = 5e-8  # standard deviation of the noise that is added to the divided mels
TEST_SHARE, FEWEST_RECORDINGS = 0.1, 20
EPOCHS, BATCH, PATIENCE_EPOCHS = 20, 128, 5
LISTENED, DRAWN = 12, 5  # test recordings that are inverted and measured, and drawn


def reproduce(
    recordings: Path, out: Path, *, epochs: int = EPOCHS, seed: int = 0
) -> dict[str, Any]:
    """Run the notebook on a folder of recordings and return its figures.

    Each recording becomes 8000 samples at 22 050 Hz and a mel of 128 x 16. A tenth of them is kept
    for the test, Gaussian noise is added, and the autoencoder is trained to remove it. These files
    in `out` are replaced:

    - ``X.npy``, ``train_data.npy``, ``test_data.npy``: the mels, and the two parts divided by 255;
    - ``checkpoint.keras``, ``model.keras``: the best network, and that of the last epoch;
    - ``mels.png``: some noisy test mels above the output of the last network;
    - ``original.wav``, ``clean.wav``, ``noisy.wav``, ``denoised.wav``: a test recording, and its
      mels through the same inversion;
    - ``report.json``: the result of this function.

    Raises AudioFileError if there are fewer than 20 recordings, one cannot be read, or `out` cannot
    be written; MissingPackageError without matplotlib or pesq.
    """
    for package, extra in (("matplotlib", "plot"), ("pesq", "eval")):
        needed(package, extra, "the notebook")
    paths = find_recordings(recordings)
    if len(paths) < FEWEST_RECORDINGS:
        held = f"{recordings} holds {len(paths)} recordings"
        raise AudioFileError(
            f"{held}, and the notebook needs at least {FEWEST_RECORDINGS}; add more."
        )
    clips = np.stack([_load(path) for path in paths])
    make_folder(out)
    # An interrupt leaves no half of a file.
    with write_errors(out), tempfile.TemporaryDirectory(prefix=".rtden-", dir=out) as folder:
        result = _run(paths, clips, Path(folder), epochs, seed)
        for path in sorted(Path(folder).iterdir()):
            path.replace(out / path.name)
    return result


def _load(path: Path) -> Array:
    """Return 8000 samples of a recording."""
    try:
        with soundfile.SoundFile(path) as recording:
            samples, _ = librosa.load(recording, sr=RATE_HZ)
    # librosa's error: samples that are no numbers
    except (soundfile.LibsndfileError, librosa.ParameterError) as error:
        damaged = f"{path} is damaged ({str(error).rstrip('.')})"
        raise AudioFileError(f"{damaged}; take it out of the folder or repair it.") from None
    fixed: Array = librosa.util.fix_length(samples, size=SAMPLES)
    return fixed


def _run(paths: list[Path], clips: Array, out: Path, epochs: int, seed: int) -> dict[str, Any]:
    sizes = {"n_fft": N_FFT, "hop_length": HOP, "n_mels": N_MELS}
    mels = np.stack([librosa.feature.melspectrogram(y=c, sr=RATE_HZ, **sizes) for c in clips])
    rng = np.random.default_rng(seed)
    train, test = np.split(rng.permutation(len(paths)), [-round(TEST_SHARE * len(paths))])
    scaled = mels / SCALE
    noisy = scaled + np.float32(NOISE_FACTOR) * rng.standard_normal(scaled.shape, np.float32)
    for name, array in (("X", mels), ("train_data", scaled[train]), ("test_data", scaled[test])):
        np.save(out / f"{name}.npy", array)
    network, losses = _fit(noisy, scaled, train, test, out, epochs, seed)
    denoised = network.predict(noisy[test][..., None], batch_size=BATCH, verbose=0)[..., 0]
    _draw(out / "mels.png", noisy[test], denoised, [paths[i].stem for i in test[:DRAWN]])
    sounding = np.flatnonzero(scaled[test].any(axis=(1, 2)))[:LISTENED]
    if not len(sounding):
        raise AudioFileError("the recordings for the test are silent; give recorded speech.")
    originals = clips[test][sounding]
    scores = {
        name: _listen(out / f"{name}.wav", originals, of[sounding], seed)
        for name, of in (("clean", scaled[test]), ("denoised", denoised), ("noisy", noisy[test]))
    }
    soundfile.write(out / "original.wav", originals[0], RATE_HZ)
    result = {
        **{"recipe": "seed", "recordings": len(paths), "trained_on": len(train)},
        **{"tested_on": len(test), "seed": seed, "parameters": network.count_params()},
        "validation_bce": [round(loss, 6) for loss in losses],
        "best_validation_bce": round(min(losses), 6),
        # A target above one has no least cross-entropy: training drives the loss below zero.
        "bce_of_noisy_input": round(cross_entropy(scaled[test], noisy[test]), 6),
        "largest_value": round(float(scaled.max()), 4),
        "noise_db": round(10.0 * math.log10(np.var(noisy - scaled) / np.mean(scaled**2)), 1),
        **{"listened": len(sounding), "perfect_mel": scores["clean"]},
        "denoised_mel": scores["denoised"],
    }
    (out / "report.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def seed_network() -> keras.Model:
    """Return the notebook's convolutional autoencoder: 74 497 parameters on 128 x 16 x 1."""
    same = {"padding": "same", "activation": "relu"}
    return keras.Sequential(
        [
            keras.Input((N_MELS, 1 + SAMPLES // HOP, 1)),
            layers.Conv2D(32, 3, **same),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2D(64, 3, **same),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2DTranspose(64, 3, strides=2, **same),
            layers.Conv2DTranspose(32, 3, strides=2, **same),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )


def _fit(
    noisy: Array, clean: Array, train: Any, test: Any, out: Path, epochs: int, seed: int
) -> tuple[Any, list[float]]:
    """Return the network after the last epoch and the validation loss of each."""
    keras.utils.set_random_seed(seed)
    network = seed_network()
    network.compile(keras.optimizers.Adam(), "binary_crossentropy")
    history = network.fit(
        noisy[train][..., None],
        clean[train][..., None],
        batch_size=BATCH,
        epochs=epochs,
        validation_data=(noisy[test][..., None], clean[test][..., None]),
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=PATIENCE_EPOCHS),
            keras.callbacks.ModelCheckpoint(out / "checkpoint.keras", save_best_only=True),
        ],
    )
    network.save(out / "model.keras")
    return network, [float(loss) for loss in history.history["val_loss"]]


def cross_entropy(target: Array, output: Array) -> float:
    """Return the mean binary cross-entropy, the output kept away from zero and one."""
    return float(np.mean(np.asarray(keras.losses.binary_crossentropy(target, output))))


def _listen(path: Path, originals: Array, mels: Array, seed: int) -> dict[str, float | None]:
    """Invert mels, write the first and return the scores of all; None where there is none.

    PESQ-WB is of the recordings joined, as one digit is too short.
    """
    sounds = [invert(mel * SCALE, seed=seed) for mel in mels]
    soundfile.write(path, sounds[0], RATE_HZ)
    pairs = zip(originals, sounds, strict=True)
    scores = {
        "si_sdr_db": float(np.mean([si_sdr_db(*pair) for pair in pairs])),
        "pesq_wb": pesq_wb(np.concatenate(originals), np.concatenate(sounds), RATE_HZ),
    }
    return {name: round(of, 2) if math.isfinite(of) else None for name, of in scores.items()}


def invert(mel: Array, *, seed: int) -> Array:
    """Return 8000 samples of a mel, shape (128, 16): `mel_to_audio` of librosa with a seed."""
    magnitude = librosa.feature.inverse.mel_to_stft(mel, sr=RATE_HZ, n_fft=N_FFT)
    sizes = {"hop_length": HOP, "n_fft": N_FFT, "length": SAMPLES}
    signal: Array = librosa.griffinlim(magnitude, random_state=seed, **sizes)
    return signal


def _draw(path: Path, noisy: Array, denoised: Array, titles: list[str]) -> None:
    """Draw noisy mels above denoised ones, in dB below the loudest cell of a pair."""
    figure = new_figure(2.0 * len(titles) + 1.5, 5.0)
    axes = figure.subplots(2, len(titles), sharex=True, sharey=True, squeeze=False).T
    for (above, below), title, *pair in zip(axes, titles, noisy, denoised, strict=False):
        for axis, mel, name in zip((above, below), pair, ("Noisy", "Denoised"), strict=True):
            level_db = 10.0 * np.log10(np.maximum(mel / np.max(pair), 1e-10))
            axis.imshow(level_db, vmin=-80, vmax=0, origin="lower", aspect="auto")
            axis.set_ylabel(f"{name}, mel band")
        above.set_title(title, fontsize=9)
    figure.savefig(path, dpi=80)
