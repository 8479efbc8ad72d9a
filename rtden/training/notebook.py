"""The notebook from which rtden grew, step by step as it was, and what can be measured about it.

It is a baseline, not a part of the product: whole clips of 8000 samples, linear mels, noise that cannot be heard, and an
inversion that forgets the phase. :func:`reproduce` writes what the notebook wrote, and the figures that say why rtden keeps
the shape of its network but lets something else flow through it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from rtden.errors import AudioFileError, MissingPackageError, SettingsError
from rtden.files.audio_file import SUFFIXES, open_recording
from rtden.measure.metrics import pesq_wb, si_sdr_db
from rtden.measure.plots import figure_class as _figure_class
from rtden.model import ModelSpec
from rtden.types import Array

SPEC = ModelSpec(name="notebook", description="The notebook's signal path.", n_fft=2048)
"""8000 samples at 22 050 Hz, 128 bands, 16 columns; here a column is the power of librosa's melspectrogram, centred frames."""

SCALE = 255.0
"""What the mels are divided by, as if they were grey levels of a picture; a loud recording's are above one all the same."""
NOISE_FACTOR = 5e-8
"""Standard deviation of the noise that is added to the divided mels."""
TEST_SHARE = 0.1
FEWEST_RECORDINGS = 20
BATCH = 128
PATIENCE_EPOCHS = 5
LISTENED = 12
"""Test recordings that are inverted and measured."""
DRAWN = 5
"""Test recordings in the picture."""

Progress = Callable[[str, float], None]
"""Called with the name of the step that runs, and the share of it that is done."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """How near the sounds that came back from the inversion are to the recordings; None where nothing could be measured."""

    si_sdr_db: float | None
    """Mean over the recordings. Random phase alone brings it below zero, whether or not one hears it."""
    pesq_wb: float | None
    """Of the recordings joined end to end, at 16 kHz, as one digit is too short for it; needs the package pesq."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What the notebook's recipe gave. Each binary cross-entropy (BCE) is that of the test recordings."""

    recordings: int
    trained_on: int
    tested_on: int
    seed: int
    clip: bool
    parameters: int
    validation_bce: tuple[float, ...]
    """By epoch."""
    best_validation_bce: float
    bce_of_noisy_input: float
    """Of an output that is the noisy input: what doing nothing gives."""
    bce_of_clean_target: float
    """Of an output that is the target itself. A target between zero and one has an entropy of its own, and no output has less;
    of a target above one there is no least, and training drives the loss below zero without end."""
    largest_value: float
    """Of all mels after the division, before any clipping."""
    recordings_above_one: int
    noise_db: float
    """RMS of the noise over RMS of the mels, both after the division, in dB."""
    share_below_noise: float
    """Share of the cells whose mel is less than the noise's standard deviation: silence, and bands without sound."""
    listened: int
    """Test recordings that were inverted."""
    perfect_mel: Sound
    """The clean mel through the inversion: what a flawless network would give."""
    denoised_mel: Sound
    """The network's mel through the same inversion."""
    training_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {"recipe": "seed", **dataclasses.asdict(self)}


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

    Each recording becomes 8000 samples at 22 050 Hz and a mel of 128 x 16; a tenth of them is kept for the test, Gaussian noise
    is added, and the seed's autoencoder learns for up to `epochs` epochs to take it away again. What was in `out` under these
    names is replaced:

    ``X.npy``
        The mels as librosa gives them, in the order of the files' names, shape (recordings, 128, 16).
    ``train_data.npy``, ``test_data.npy``
        The two parts, divided by 255: what the network is to give. Of 3000 recordings they hold 2700 and 300.
    ``dataset.npz``
        The same two arrays together, named ``train`` and ``test``.
    ``checkpoint.keras``, ``model.keras``, ``log.csv``
        The network with the lowest validation loss, the network after the last epoch, and the losses by epoch.
    ``mels.png``
        Some noisy test mels above what the network, after the last epoch, made of them.
    ``original.wav``, ``clean.wav``, ``noisy.wav``, ``denoised.wav``
        A test recording as it is; its clean, its noisy and its denoised mel, each through the same inversion.
    ``report.json``
        What this function returns.

    Parameters
    ----------
    seed : int
        Seed of the split, the noise, the network and the phases. The same seed gives the same figures on the same machine.
    clip : bool
        Keep the divided mels at or below one, which the notebook does not do: the cross-entropy then has a least value.

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
    seed_network = _seed_network()
    figure_class = _figure_class()
    report = progress or (lambda _step, _share: None)
    paths = _find(recordings, out)
    _prepare(out)

    mels = np.zeros((len(paths), SPEC.n_mels, SPEC.frames), np.float32)
    for number, path in enumerate(paths):
        mels[number] = _mel(_load(path))
        report("mels", (number + 1) / len(paths))
    if not mels.any():
        raise AudioFileError(
            f"all recordings in {recordings} are silent; give a folder of recorded speech."
        )

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(paths))
    tested = round(TEST_SHARE * len(paths))
    train_indices, test_indices = order[:-tested], order[-tested:]
    divided = mels / np.float32(SCALE)
    scaled = np.minimum(divided, np.float32(1.0)) if clip else divided
    noisy = scaled + np.float32(NOISE_FACTOR) * rng.standard_normal(scaled.shape, np.float32)
    clean_train, clean_test, noisy_test = (
        scaled[train_indices],
        scaled[test_indices],
        noisy[test_indices],
    )
    for name, array in (
        ("X.npy", mels),
        ("train_data.npy", clean_train),
        ("test_data.npy", clean_test),
    ):
        with _whole(out / name) as part:
            np.save(part, array)
    with _whole(out / "dataset.npz") as part:
        np.savez(part, train=clean_train, test=clean_test)

    started = time.perf_counter()
    network, validation_bce = _fit(
        seed_network,
        (noisy[train_indices], clean_train),
        (noisy_test, clean_test),
        out,
        epochs=epochs,
        seed=seed,
        progress=report,
    )
    training_seconds = time.perf_counter() - started
    with _whole(out / "model.keras") as part:
        network.save(part)

    denoised_test = network.predict(noisy_test[..., None], batch_size=BATCH, verbose=0)[..., 0]
    with _whole(out / "mels.png") as part:
        _draw(
            figure_class,
            noisy_test[:DRAWN] * SCALE,
            denoised_test[:DRAWN] * SCALE,
            [paths[i].stem for i in test_indices[:DRAWN]],
        ).savefig(part, dpi=80)

    heard = np.flatnonzero(clean_test.any(axis=(1, 2)))[:LISTENED]
    originals = [_load(paths[test_indices[i]]) for i in heard]
    sounds: dict[str, list[Array]] = {"clean": [], "denoised": [], "noisy": []}
    for number, i in enumerate(heard):
        for name, source in (
            ("clean", clean_test),
            ("denoised", denoised_test),
            ("noisy", noisy_test),
        ):
            if name != "noisy" or not number:
                sounds[name].append(invert(source[i] * SCALE, seed=seed))
        report("inversion", (number + 1) / len(heard))
    for name, signals in {**sounds, "original": originals}.items():
        for signal in signals[:1]:
            with _whole(out / f"{name}.wav") as part:
                soundfile.write(part, signal, SPEC.rate_hz, subtype="PCM_16")

    result = Reproduction(
        recordings=len(paths),
        trained_on=len(train_indices),
        tested_on=len(test_indices),
        seed=seed,
        clip=clip,
        parameters=network.count_params(),
        validation_bce=tuple(round(loss, 6) for loss in validation_bce),
        best_validation_bce=round(min(validation_bce), 6),
        bce_of_noisy_input=round(cross_entropy(clean_test, noisy_test), 6),
        bce_of_clean_target=round(cross_entropy(clean_test, clean_test), 6),
        largest_value=round(float(divided.max()), 4),
        recordings_above_one=int((divided > 1.0).any(axis=(1, 2)).sum()),
        noise_db=round(
            20.0 * math.log10(_rms(noisy.astype(np.float64) - scaled) / _rms(scaled)), 1
        ),
        share_below_noise=round(float(np.mean(scaled < NOISE_FACTOR)), 3),
        listened=len(heard),
        perfect_mel=_judge(originals, sounds["clean"]),
        denoised_mel=_judge(originals, sounds["denoised"]),
        training_seconds=round(training_seconds, 1),
    )
    with _whole(out / "report.json") as part:
        part.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    return result


def cross_entropy(target: Array, output: Array) -> float:
    """Return the mean binary cross-entropy as keras computes it: the output, but not the target, is kept off zero and one."""
    import keras

    return float(
        keras.ops.convert_to_numpy(keras.ops.mean(keras.losses.binary_crossentropy(target, output)))
    )


def invert(mel: Array, *, seed: int) -> Array:
    """Return 8000 samples with about the given mel, shape (128, 16), as the notebook did with ``librosa.feature.inverse.mel_to_audio``.

    That function is these two, but has no seed: non-negative least squares from bands to bins, then 32 iterations of Griffin-Lim.
    """
    import librosa

    # Least squares this small are a hundred times slower where several threads of numpy's linear algebra wait for each other.
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
        import keras  # noqa: F401 - asked for here, so that nobody waits for an answer that cannot come
        import librosa  # noqa: F401

        from rtden.training.network import seed_network
    except ImportError as error:
        raise MissingPackageError(
            f"the package {error.name}, which the notebook needs, is not installed: run 'pip install rtden[train]'."
        ) from None
    return seed_network


def _find(folder: Path, out: Path) -> list[Path]:
    if not folder.is_dir():
        raise AudioFileError(f"{folder} is no folder; give the folder of your recordings.")
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise AudioFileError(
            f"{out} lies in the folder of the recordings; choose one outside, or the results become recordings themselves."
        )
    paths = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    if not paths:
        raise AudioFileError(f"{folder} holds no audio files; give the folder of your recordings.")
    if len(paths) < FEWEST_RECORDINGS:
        raise AudioFileError(
            f"{folder} holds {len(paths)} recordings, and the notebook needs at least {FEWEST_RECORDINGS}; add more."
        )
    return paths


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _whole(out / ".writable") as part:
            part.touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise _unwritable(out, error) from None


def _load(path: Path) -> Array:
    import librosa

    with open_recording(path) as recording:
        try:
            samples, _ = librosa.load(recording, sr=SPEC.rate_hz)
        except (
            soundfile.LibsndfileError,
            librosa.ParameterError,
        ) as error:  # the latter: samples that are no numbers
            raise AudioFileError(
                f"{path} is damaged ({str(error).rstrip('.')}); take it out of the folder or repair it."
            ) from None
    fixed: Array = librosa.util.fix_length(samples, size=SPEC.window_samples)
    return fixed


def _mel(samples: Array) -> Array:
    import librosa

    mel: Array = librosa.feature.melspectrogram(
        y=samples, sr=SPEC.rate_hz, n_fft=SPEC.n_fft, hop_length=SPEC.hop, n_mels=SPEC.n_mels
    )
    return mel


def _fit(
    seed_network: Callable[[ModelSpec], Any],
    train: tuple[Array, Array],
    test: tuple[Array, Array],
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
            train[0][..., None],
            train[1][..., None],
            batch_size=BATCH,
            epochs=epochs,
            validation_data=(test[0][..., None], test[1][..., None]),
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
        raise _unwritable(out, error) from None
    return network, [float(loss) for loss in history.history["val_loss"]]


def _judge(originals: Sequence[Array], sounds: Sequence[Array]) -> Sound:
    si_sdr = [si_sdr_db(original, sound) for original, sound in zip(originals, sounds, strict=True)]
    pesq = math.nan
    if originals:
        with contextlib.suppress(MissingPackageError):
            pesq = pesq_wb(np.concatenate(originals), np.concatenate(sounds), SPEC.rate_hz)
    return Sound(
        si_sdr_db=_rounded(float(np.mean(si_sdr)) if si_sdr else math.nan), pesq_wb=_rounded(pesq)
    )


def _draw(figure_class: Any, noisy: Array, denoised: Array, titles: Sequence[str]) -> Any:
    """Draw mels of the same recordings above each other, in dB below the loudest cell of each pair."""
    figure = figure_class(figsize=(2.0 * len(titles) + 1.5, 5.0), layout="constrained")
    axes = figure.subplots(2, len(titles), sharex=True, sharey=True, squeeze=False)
    for row, (name, mels) in enumerate((("Noisy", noisy), ("Denoised", denoised))):
        for column, mel in enumerate(mels):
            reference = max(float(noisy[column].max()), float(denoised[column].max()))
            level_db = 10.0 * np.log10(np.maximum(mel / reference, 1e-10))
            image = axes[row, column].imshow(
                level_db,
                origin="lower",
                aspect="auto",
                extent=(0, SPEC.window_samples / SPEC.rate_hz, 0, SPEC.n_mels),
                vmin=-80,
                vmax=0,
                cmap="magma",
                interpolation="nearest",
            )
        axes[row, 0].set_ylabel(f"{name}\nmel band")
    for column, title in enumerate(titles):
        axes[0, column].set_title(title, fontsize=9)
        axes[1, column].set_xlabel("Time (s)")
    figure.colorbar(image, ax=axes, label="Power below the loudest cell (dB)")
    return figure


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` to write to, which takes its name when all is written: an interrupt leaves nothing half."""
    part = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _unwritable(path: Path, error: Exception) -> AudioFileError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return AudioFileError(
        f"{path} cannot be written ({reason.rstrip('.')}); make room there or choose another place."
    )


def _one_thread() -> AbstractContextManager[Any]:
    try:
        import threadpoolctl  # type: ignore[import-untyped]  # comes with librosa, by way of scikit-learn
    except ImportError:
        return contextlib.nullcontext()
    limits: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(1, "blas")
    return limits


def _rms(values: NDArray[Any]) -> float:
    return math.sqrt(float(np.mean(np.square(values, dtype=np.float64))))


def _rounded(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None
