"""The recordings, figures, picture and files of the seed's notebook."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtden.errors import AudioFileError, MissingPackageError
from rtden.files.audio_file import SUFFIXES, open_recording
from rtden.measure.metrics import pesq_wb, si_sdr_db
from rtden.model import ModelSpec
from rtden.types import Array

SPEC = ModelSpec(name="notebook", description="The notebook's signal path.", n_fft=2048)
"""8000 samples at 22 050 Hz, 128 bands, 16 columns of librosa's melspectrogram."""


FEWEST_RECORDINGS = 20


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Scores of the inverted sounds against the recordings; None where there is none."""

    si_sdr_db: float | None
    """Mean over the recordings. Random phase alone makes it negative."""
    pesq_wb: float | None
    """Of the recordings joined at 16 kHz, as one digit is too short; needs the package pesq."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The figures of a run. Each binary cross-entropy (BCE) is of the test recordings."""

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
    """Of an output that is the noisy input."""
    bce_of_clean_target: float
    """Of an output that is the target itself: the least there is for targets between zero and one.
    For a target above one there is no least, and training drives the loss below zero."""
    largest_value: float
    """Of all mels after the division, before any clipping."""
    recordings_above_one: int
    noise_db: float
    """RMS of the noise over RMS of the mels, both after the division, in dB."""
    share_below_noise: float
    """Share of the cells whose mel is below the noise's standard deviation."""
    listened: int
    """Test recordings that were inverted."""
    perfect_mel: Sound
    """The clean mel through the inversion: the result of a perfect network."""
    denoised_mel: Sound
    """The network's mel through the same inversion."""
    training_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {"recipe": "seed", **dataclasses.asdict(self)}


def find_recordings(folder: Path, out: Path) -> list[Path]:
    """Return the recordings in a folder; `out` must lie outside it."""
    if not folder.is_dir():
        raise AudioFileError(f"{folder} is no folder; give the folder of your recordings.")
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise AudioFileError(
            f"{out} lies in the folder of the recordings; choose one outside, or the results "
            "become recordings themselves."
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
            f"{folder} holds {len(paths)} recordings, and the notebook needs at least "
            f"{FEWEST_RECORDINGS}; add more."
        )
    return paths


def prepare(out: Path) -> None:
    """Make the folder of the results, or raise that it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with whole(out / ".writable") as part:
            part.touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise unwritable(out, error) from None


def load(path: Path) -> Array:
    """Return 8000 samples of a recording."""
    import librosa

    with open_recording(path):  # its errors are sentences
        try:
            samples, _ = librosa.load(path, sr=SPEC.rate_hz)
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

    mel: Array = librosa.feature.melspectrogram(
        y=samples, sr=SPEC.rate_hz, n_fft=SPEC.n_fft, hop_length=SPEC.hop, n_mels=SPEC.n_mels
    )
    return mel


def judge(originals: Sequence[Array], sounds: Sequence[Array]) -> Sound:
    """Return the scores of inverted sounds."""
    si_sdr = [si_sdr_db(original, sound) for original, sound in zip(originals, sounds, strict=True)]
    pesq = math.nan
    if originals:
        with contextlib.suppress(MissingPackageError):
            pesq = pesq_wb(np.concatenate(originals), np.concatenate(sounds), SPEC.rate_hz)
    return Sound(
        si_sdr_db=_rounded(float(np.mean(si_sdr)) if si_sdr else math.nan), pesq_wb=_rounded(pesq)
    )


def draw(figure_class: Any, noisy: Array, denoised: Array, titles: Sequence[str]) -> Any:
    """Return a figure of noisy mels above denoised ones, in dB below the loudest cell of a pair."""
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
def whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which is renamed at the end: an interrupt leaves no half file."""
    part = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def unwritable(path: Path, error: Exception) -> AudioFileError:
    """Return the error for a path that cannot be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return AudioFileError(
        f"{path} cannot be written ({reason.rstrip('.')}); make room there or choose another place."
    )


def _rounded(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None
