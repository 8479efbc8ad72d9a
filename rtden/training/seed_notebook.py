"""The notebook from which rtden grew, step by step, and figures about it.

It is a baseline, not a part of the product: whole clips of 8000 samples, linear mels, inaudible
noise, and an inversion that discards the phase. :func:`reproduce` writes the notebook's files, and
the figures that say why rtden keeps the shape of its network but feeds it with other data.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from rtden.errors import AudioFileError, MissingPackageError, SettingsError
from rtden.extras import install_command
from rtden.measure.plots import figure_class as _figure_class
from rtden.model import ModelSpec
from rtden.training.seed_results import (
    SPEC,
    Reproduction,
    draw,
    find_recordings,
    judge,
    load,
    mel_of,
    prepare,
    unwritable,
    whole,
)
from rtden.types import Array

SCALE = 255.0
"""Divisor of the mels, as of grey levels; a loud recording still exceeds one."""
NOISE_FACTOR = 5e-8
"""Standard deviation of the noise that is added to the divided mels."""
TEST_SHARE = 0.1
BATCH = 128
PATIENCE_EPOCHS = 5
LISTENED = 12
"""Test recordings that are inverted and measured."""
DRAWN = 5
"""Test recordings in the picture."""

Progress = Callable[[str, float], None]
"""Called with the name of the current step and the share of it that is done."""


@dataclass(frozen=True)
class _Data:
    """The recordings as the network gets them, and the split."""

    paths: list[Path]
    mels: Array
    divided: Array
    scaled: Array
    noisy: Array
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    @classmethod
    def of(cls, paths: list[Path], mels: Array, *, seed: int, clip: bool) -> _Data:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(paths))
        tested = round(TEST_SHARE * len(paths))
        divided = mels / np.float32(SCALE)
        scaled = np.minimum(divided, np.float32(1.0)) if clip else divided
        noisy = scaled + np.float32(NOISE_FACTOR) * rng.standard_normal(scaled.shape, np.float32)
        return cls(paths, mels, divided, scaled, noisy, order[:-tested], order[-tested:])

    def write(self, out: Path) -> None:
        """Write the notebook's arrays."""
        parts: dict[str, Any] = {"train": self.scaled[self.train], "test": self.scaled[self.test]}
        arrays = {"X.npy": self.mels, **{f"{name}_data.npy": a for name, a in parts.items()}}
        for name, array in arrays.items():
            with whole(out / name) as part:
                np.save(part, array)
        with whole(out / "dataset.npz") as part:
            np.savez(part, **parts)


def reproduce(
    recordings: Path,
    out: Path,
    *,
    epochs: int = 20,
    seed: int = 0,
    clip: bool = False,
    progress: Progress | None = None,
) -> Reproduction:
    """Run the notebook on a folder of recordings and return its figures.

    Each recording becomes 8000 samples at 22 050 Hz and a mel of 128 x 16. A tenth of them is kept
    for the test, Gaussian noise is added, and the seed's autoencoder is trained for up to `epochs`
    epochs to remove it. These files in `out` are replaced:

    ``X.npy``
        The mels as librosa returns them, sorted by file name, shape (recordings, 128, 16).
    ``train_data.npy``, ``test_data.npy``
        The two parts, divided by 255: the targets. Of 3000 recordings they hold 2700 and 300.
    ``dataset.npz``
        The same two arrays together, named ``train`` and ``test``.
    ``checkpoint.keras``, ``model.keras``, ``log.csv``
        The network of the lowest validation loss, that of the last epoch, and the losses by epoch.
    ``mels.png``
        Some noisy test mels above the output of the network of the last epoch.
    ``original.wav``, ``clean.wav``, ``noisy.wav``, ``denoised.wav``
        A test recording; its clean, noisy and denoised mel, each through the same inversion.
    ``report.json``
        The result of this function.

    Parameters
    ----------
    seed : int
        Seed of the split, the noise, the network and the phases. The same seed gives the same
        figures on the same machine.
    clip : bool
        Limit the divided mels to one, unlike the notebook: the cross-entropy then has a minimum.

    Raises
    ------
    SettingsError
        If `epochs` or `seed` is out of its range.
    AudioFileError
        If there are fewer than 20 recordings, one cannot be read, or `out` cannot be written.
    MissingPackageError
        If tensorflow, keras, librosa or matplotlib is not installed.
    """
    if epochs < 1:
        raise SettingsError(f"epochs must be at least 1, not {epochs}.")
    if not 0 <= seed < 2**32:
        raise SettingsError(f"seed must lie between 0 and {2**32 - 1}, not {seed}.")
    seed_network, figure_class = _seed_network(), _figure_class()
    report = progress or (lambda _step, _share: None)
    paths = find_recordings(recordings, out)
    prepare(out)
    data = _Data.of(paths, _mels(paths, recordings, report), seed=seed, clip=clip)
    data.write(out)
    started = time.perf_counter()
    network, losses = _fit(seed_network, data, out, epochs=epochs, seed=seed, progress=report)
    seconds = time.perf_counter() - started
    with whole(out / "model.keras") as part:
        network.save(part)
    noisy_test = data.noisy[data.test]
    denoised = network.predict(noisy_test[..., None], batch_size=BATCH, verbose=0)[..., 0]
    titles = [paths[i].stem for i in data.test[:DRAWN]]
    with whole(out / "mels.png") as part:
        drawn = (noisy_test[:DRAWN] * SCALE, denoised[:DRAWN] * SCALE)
        draw(figure_class, *drawn, titles).savefig(part, dpi=80)
    sounds = _listen(data, denoised, out, seed=seed, report=report)
    result = _figures(data, sounds, network, losses, seed=seed, clip=clip, seconds=seconds)
    with whole(out / "report.json") as part:
        part.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    return result


def _mels(paths: list[Path], recordings: Path, report: Progress) -> Array:
    mels = np.zeros((len(paths), SPEC.n_mels, SPEC.frames), np.float32)
    for number, path in enumerate(paths):
        mels[number] = mel_of(load(path))
        report("mels", (number + 1) / len(paths))
    if not mels.any():
        raise AudioFileError(
            f"all recordings in {recordings} are silent; give a folder of recorded speech."
        )
    return mels


def _listen(
    data: _Data, denoised: Array, out: Path, *, seed: int, report: Progress
) -> dict[str, list[Array]]:
    """Return test recordings and their inverted mels; write the first ones."""
    clean = data.scaled[data.test]
    chosen = np.flatnonzero(clean.any(axis=(1, 2)))[:LISTENED]
    mels = {"clean": clean, "denoised": denoised, "noisy": data.noisy[data.test]}
    sounds: dict[str, list[Array]] = {name: [] for name in mels}
    sounds["original"] = [load(data.paths[data.test[i]]) for i in chosen]
    for number, i in enumerate(chosen):
        for name, source in mels.items():
            if name != "noisy" or not number:
                sounds[name].append(invert(source[i] * SCALE, seed=seed))
        report("inversion", (number + 1) / len(chosen))
    for name, signals in sounds.items():
        for signal in signals[:1]:
            with whole(out / f"{name}.wav") as part:
                soundfile.write(part, signal, SPEC.rate_hz, subtype="PCM_16")
    return sounds


def _figures(
    data: _Data,
    sounds: dict[str, list[Array]],
    network: Any,
    losses: list[float],
    *,
    seed: int,
    clip: bool,
    seconds: float,
) -> Reproduction:
    clean, noisy = data.scaled[data.test], data.noisy[data.test]
    noise = _rms(data.noisy.astype(np.float64) - data.scaled)
    return Reproduction(
        recordings=len(data.paths),
        trained_on=len(data.train),
        tested_on=len(data.test),
        seed=seed,
        clip=clip,
        parameters=network.count_params(),
        validation_bce=tuple(round(loss, 6) for loss in losses),
        best_validation_bce=round(min(losses), 6),
        bce_of_noisy_input=round(cross_entropy(clean, noisy), 6),
        bce_of_clean_target=round(cross_entropy(clean, clean), 6),
        largest_value=round(float(data.divided.max()), 4),
        recordings_above_one=int((data.divided > 1.0).any(axis=(1, 2)).sum()),
        noise_db=round(20.0 * math.log10(noise / _rms(data.scaled)), 1),
        share_below_noise=round(float(np.mean(data.scaled < NOISE_FACTOR)), 3),
        listened=len(sounds["original"]),
        perfect_mel=judge(sounds["original"], sounds["clean"]),
        denoised_mel=judge(sounds["original"], sounds["denoised"]),
        training_seconds=round(seconds, 1),
    )


def cross_entropy(target: Array, output: Array) -> float:
    """Return the mean binary cross-entropy as Keras computes it.

    The output, but not the target, is kept away from zero and one.
    """
    import keras

    return float(
        keras.ops.convert_to_numpy(keras.ops.mean(keras.losses.binary_crossentropy(target, output)))
    )


def invert(mel: Array, *, seed: int) -> Array:
    """Return 8000 samples with about the given mel, shape (128, 16).

    The notebook calls ``librosa.feature.inverse.mel_to_audio``. That function is these two, without
    a seed: non-negative least squares from bands to bins, then 32 iterations of Griffin-Lim.
    """
    import librosa

    # Several threads of numpy's linear algebra make least squares this small much slower.
    with _one_thread():
        magnitude = librosa.feature.inverse.mel_to_stft(mel, sr=SPEC.rate_hz, n_fft=SPEC.n_fft)
    signal: Array = librosa.griffinlim(
        magnitude,
        hop_length=SPEC.hop,
        n_fft=SPEC.n_fft,
        length=SPEC.window_samples,
        random_state=seed,
    )
    return signal


def _seed_network() -> Callable[[ModelSpec], Any]:
    try:
        import keras  # noqa: F401 - asked for before the work
        import librosa  # noqa: F401

        from rtden.training.network import seed_network
    except ImportError as error:
        raise MissingPackageError(
            f"the package {error.name}, which the notebook needs, is not installed: "
            f"run '{install_command('train')}'."
        ) from None
    return seed_network


def _fit(
    seed_network: Callable[[ModelSpec], Any],
    data: _Data,
    out: Path,
    *,
    epochs: int,
    seed: int,
    progress: Progress,
) -> tuple[Any, list[float]]:
    """Return the network after the last epoch and the validation loss of each."""
    import keras

    keras.utils.set_random_seed(seed)
    network = seed_network(SPEC)
    network.compile(keras.optimizers.Adam(), "binary_crossentropy")
    try:
        history = network.fit(
            data.noisy[data.train][..., None],
            data.scaled[data.train][..., None],
            batch_size=BATCH,
            epochs=epochs,
            validation_data=(data.noisy[data.test][..., None], data.scaled[data.test][..., None]),
            verbose=0,
            callbacks=[
                keras.callbacks.EarlyStopping(patience=PATIENCE_EPOCHS),
                keras.callbacks.ModelCheckpoint(out / "checkpoint.keras", save_best_only=True),
                keras.callbacks.CSVLogger(out / "log.csv"),
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, _logs: progress("training", (epoch + 1) / epochs)
                ),
            ],
        )
    except OSError as error:
        raise unwritable(out, error) from None
    return network, [float(loss) for loss in history.history["val_loss"]]


def _one_thread() -> AbstractContextManager[Any]:
    try:
        # It comes with librosa, through scikit-learn.
        import threadpoolctl  # type: ignore[import-untyped]
    except ImportError:
        return contextlib.nullcontext()
    limits: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(1, "blas")
    return limits


def _rms(values: NDArray[Any]) -> float:
    return math.sqrt(float(np.mean(np.square(values, dtype=np.float64))))
