"""The notebook from which rtden grew, step by step, and figures about it.

It is a baseline, not a part of the product: whole clips of 8000 samples, linear mels, inaudible
noise, and an inversion that discards the phase. :func:`reproduce` writes the notebook's files, and
the figures that say why rtden keeps the shape of its network but feeds it with other data.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtden.errors import AudioFileError, MissingPackageError
from rtden.files.atomic import make_folder, write_errors
from rtden.measure.metrics import needed, pesq_wb, si_sdr_db
from rtden.measure.plots import new_figure
from rtden.model import ModelSpec
from rtden.training.corpus import find_recordings
from rtden.types import Array

SPEC = ModelSpec(name="notebook", n_fft=2048)
"""8000 samples at 22 050 Hz, 128 bands, 16 columns of librosa's melspectrogram."""
SCALE = np.float32(255.0)
"""Divisor of the mels, as of grey levels; a loud recording still exceeds one."""
NOISE_FACTOR = 5e-8
"""Standard deviation of the noise that is added to the divided mels."""
TEST_SHARE, FEWEST_RECORDINGS = 0.1, 20
EPOCHS, BATCH, PATIENCE_EPOCHS = 20, 128, 5
LISTENED, DRAWN = 12, 5
"""Test recordings that are inverted and measured, and of these in the picture."""


def reproduce(
    recordings: Path, out: Path, *, epochs: int = EPOCHS, seed: int = 0
) -> dict[str, Any]:
    """Run the notebook on a folder of recordings and return its figures.

    Each recording becomes 8000 samples at 22 050 Hz and a mel of 128 x 16. A tenth of them is kept
    for the test, Gaussian noise is added, and the seed's autoencoder is trained to remove it. The
    same `seed` gives the same figures on the same machine. These files in `out` are replaced:

    - ``X.npy``: the mels as librosa returns them, by file name, shape (recordings, 128, 16);
    - ``train_data.npy``, ``test_data.npy``, ``dataset.npz``: the two parts divided by 255;
    - ``checkpoint.keras``, ``model.keras``, ``log.csv``: the network of the lowest validation loss,
      that of the last epoch, and the losses by epoch;
    - ``mels.png``: some noisy test mels above the output of the network of the last epoch;
    - ``original.wav``, ``clean.wav``, ``noisy.wav``, ``denoised.wav``: a test recording; its clean,
      noisy and denoised mel, each through the same inversion;
    - ``report.json``: the result of this function.

    Raises AudioFileError if there are fewer than 20 recordings, one cannot be read, or `out` cannot
    be written; MissingPackageError without tensorflow, keras, librosa or matplotlib.
    """
    new_figure()
    for name in ("keras", "librosa"):
        needed(name, "train")
    paths, clips = _load_clips(recordings, out)
    make_folder(out)
    # An interrupt leaves no half of a file.
    with write_errors(out), tempfile.TemporaryDirectory(prefix=".rtden-", dir=out) as folder:
        result = _run(paths, clips, Path(folder), epochs, seed)
        for path in sorted(Path(folder).iterdir()):
            path.replace(out / path.name)
    return result


def _run(paths: list[Path], clips: Array, out: Path, epochs: int, seed: int) -> dict[str, Any]:
    mels = np.stack([mel_of(clip) for clip in clips])
    rng = np.random.default_rng(seed)
    train, test = np.split(rng.permutation(len(paths)), [-round(TEST_SHARE * len(paths))])
    scaled = mels / SCALE
    noisy = scaled + np.float32(NOISE_FACTOR) * rng.standard_normal(scaled.shape, np.float32)
    _write_arrays(out, mels, train=scaled[train], test=scaled[test])
    seen, held_out = ((noisy[part], scaled[part]) for part in (train, test))
    began = time.perf_counter()
    network, losses = _fit(seen, held_out, out, epochs, seed)
    seconds = time.perf_counter() - began
    denoised = network.predict(noisy[test][..., None], batch_size=BATCH, verbose=0)[..., 0]
    _draw(out / "mels.png", noisy[test], denoised, [paths[i].stem for i in test[:DRAWN]])
    heard = np.flatnonzero(scaled[test].any(axis=(1, 2)))[:LISTENED]
    originals = clips[test][heard]
    result = {
        **{"recipe": "seed", "recordings": len(paths), "trained_on": len(train)},
        **{"tested_on": len(test), "seed": seed, "parameters": network.count_params()},
        "validation_bce": [round(loss, 6) for loss in losses],
        "best_validation_bce": round(min(losses), 6),
        # Of an output that is the noisy input, and of one that is the target itself. A target above
        # one has no least cross-entropy: training drives the loss below zero.
        "bce_of_noisy_input": round(cross_entropy(scaled[test], noisy[test]), 6),
        "bce_of_clean_target": round(cross_entropy(scaled[test], scaled[test]), 6),
        "largest_value": round(float(scaled.max()), 4),
        "recordings_above_one": int((scaled > 1.0).any(axis=(1, 2)).sum()),
        "noise_db": round(20.0 * math.log10(_rms(noisy - scaled) / _rms(scaled)), 1),
        "share_below_noise": round(float(np.mean(scaled < NOISE_FACTOR)), 3),
        "listened": len(heard),
        "perfect_mel": _listen(out / "clean.wav", originals, scaled[test][heard], seed),
        "denoised_mel": _listen(out / "denoised.wav", originals, denoised[heard], seed),
        "training_seconds": round(seconds, 1),
    }
    _listen(out / "noisy.wav", originals[:1], noisy[test][heard[:1]], seed)
    soundfile.write(out / "original.wav", originals[0], SPEC.rate_hz)
    (out / "report.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _load_clips(recordings: Path, out: Path) -> tuple[list[Path], Array]:
    """Return the recordings and their samples, shape (recordings, 8000)."""
    paths = find_recordings(recordings)
    if out.resolve().is_relative_to(recordings.resolve()):
        raise AudioFileError(
            f"{out} lies in the folder of the recordings; choose one outside, or the results "
            "become recordings themselves."
        )
    if len(paths) < FEWEST_RECORDINGS:
        raise AudioFileError(
            f"{recordings} holds {len(paths)} recordings, and the notebook needs at least "
            f"{FEWEST_RECORDINGS}; add more."
        )
    clips = np.stack([_load(path) for path in paths])
    if not clips.any():
        raise AudioFileError(
            f"all recordings in {recordings} are silent; give a folder of recorded speech."
        )
    return paths, clips


def _load(path: Path) -> Array:
    """Return 8000 samples of a recording."""
    import librosa

    try:
        with soundfile.SoundFile(path) as recording:
            samples, _ = librosa.load(recording, sr=SPEC.rate_hz)
    # librosa's error: samples that are no numbers
    except (soundfile.LibsndfileError, librosa.ParameterError) as error:
        reason = str(error).rstrip(".")
        raise AudioFileError(
            f"{path} is damaged ({reason}); take it out of the folder or repair it."
        ) from None
    fixed: Array = librosa.util.fix_length(samples, size=SPEC.window_samples)
    return fixed


def mel_of(samples: Array) -> Array:
    """Return the mel of samples, shape (128, 16)."""
    import librosa

    sizes = {"n_fft": SPEC.n_fft, "hop_length": SPEC.hop, "n_mels": SPEC.n_mels}
    mel: Array = librosa.feature.melspectrogram(y=samples, sr=SPEC.rate_hz, **sizes)
    return mel


def _write_arrays(out: Path, mels: Array, **parts: Any) -> None:
    np.save(out / "X.npy", mels)
    for name, part in parts.items():
        np.save(out / f"{name}_data.npy", part)
    np.savez(out / "dataset.npz", **parts)


def _fit(
    train: tuple[Array, Array], test: tuple[Array, Array], out: Path, epochs: int, seed: int
) -> tuple[Any, list[float]]:
    """Return the network after the last epoch and the validation loss of each."""
    import keras

    from rtden.training.network import seed_network

    keras.utils.set_random_seed(seed)
    network = seed_network(SPEC)
    network.compile(keras.optimizers.Adam(), "binary_crossentropy")
    history = network.fit(
        *(part[..., None] for part in train),
        batch_size=BATCH,
        epochs=epochs,
        validation_data=tuple(part[..., None] for part in test),
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=PATIENCE_EPOCHS),
            keras.callbacks.ModelCheckpoint(out / "checkpoint.keras", save_best_only=True),
            keras.callbacks.CSVLogger(out / "log.csv"),
        ],
    )
    network.save(out / "model.keras")
    return network, [float(loss) for loss in history.history["val_loss"]]


def cross_entropy(target: Array, output: Array) -> float:
    """Return the mean binary cross-entropy as Keras computes it.

    The output, but not the target, is kept away from zero and one.
    """
    import keras

    return float(np.mean(np.asarray(keras.losses.binary_crossentropy(target, output))))


def _listen(path: Path, originals: Array, mels: Array, seed: int) -> dict[str, float | None]:
    """Invert mels, write the first and return the scores of all; None where there is none.

    SI-SDR is the mean over the recordings; random phase alone makes it negative. PESQ-WB is of the
    recordings joined, as one digit is too short, and needs the package pesq.
    """
    sounds = [invert(mel * SCALE, seed=seed) for mel in mels]
    soundfile.write(path, sounds[0], SPEC.rate_hz)
    pairs = zip(originals, sounds, strict=True)
    scores = {"si_sdr_db": float(np.mean([si_sdr_db(*pair) for pair in pairs]))}
    scores["pesq_wb"] = math.nan
    with contextlib.suppress(MissingPackageError):
        joined = np.concatenate(originals), np.concatenate(sounds)
        scores["pesq_wb"] = pesq_wb(*joined, SPEC.rate_hz)
    return {name: round(of, 2) if math.isfinite(of) else None for name, of in scores.items()}


def invert(mel: Array, *, seed: int) -> Array:
    """Return 8000 samples with about the given mel, shape (128, 16).

    The notebook calls ``librosa.feature.inverse.mel_to_audio``. That function is these two, without
    a seed: non-negative least squares from bands to bins, then 32 iterations of Griffin-Lim.
    """
    import librosa
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # Several threads of numpy's linear algebra make least squares this small much slower.
    with threadpool_limits(1, "blas"):
        magnitude = librosa.feature.inverse.mel_to_stft(mel, sr=SPEC.rate_hz, n_fft=SPEC.n_fft)
    sizes = {"hop_length": SPEC.hop, "n_fft": SPEC.n_fft, "length": SPEC.window_samples}
    signal: Array = librosa.griffinlim(magnitude, random_state=seed, **sizes)
    return signal


def _draw(path: Path, noisy: Array, denoised: Array, titles: Sequence[str]) -> None:
    """Draw noisy mels above denoised ones, in dB below the loudest cell of a pair."""
    figure = new_figure(2.0 * len(titles) + 1.5, 5.0)
    axes = figure.subplots(2, len(titles), sharex=True, sharey=True, squeeze=False)
    extent = (0, SPEC.window_samples / SPEC.rate_hz, 0, SPEC.n_mels)
    options = {"origin": "lower", "aspect": "auto", "extent": extent, "cmap": "magma"}
    for column, title in enumerate(titles):
        pair = noisy[column], denoised[column]
        loudest = max(float(mel.max()) for mel in pair)
        for row, mel in enumerate(pair):
            level_db = 10.0 * np.log10(np.maximum(mel / loudest, 1e-10))
            image = axes[row, column].imshow(level_db, vmin=-80, vmax=0, **options)
        axes[0, column].set_title(title, fontsize=9)
        axes[1, column].set_xlabel("Time (s)")
    for row, name in enumerate(("Noisy", "Denoised")):
        axes[row, 0].set_ylabel(f"{name}\nmel band")
    figure.colorbar(image, ax=axes, label="Power below the loudest cell (dB)")
    figure.savefig(path, dpi=80)


def _rms(values: Array) -> float:
    return math.sqrt(float(np.mean(np.square(values, dtype=np.float64))))
