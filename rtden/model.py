"""A model's sidecar: the JSON file beside a ``.tflite`` file that holds every constant of its signal path.

Code reads the constants from here; there is no second copy of a number. The file's sections are ``signal``, ``mel``,
``network``, ``griffin_lim``, and, for people, ``description``, ``training`` and ``metrics``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from rtden.errors import ModelError
from rtden.settings import Phase

FORMAT = 1
CHANNELS = ("log_mel", "relative_mel", "above_floor", "above_mean", "slope")
"""What an input channel of a network may hold; :class:`rtden.mel.MelFeatures` says what each is."""

DEFAULT_MODEL = "rtden"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The constants of a model.

    Raises
    ------
    ModelError
        If they contradict each other.
    """

    name: str
    description: str = ""
    rate_hz: int = 22050
    window_samples: int = 8000
    """Span of audio that the network sees at once; its columns are the frames centred inside it."""
    n_fft: int = 1024
    hop: int = 512
    frames_per_column: int = 1
    """Frames a hop, evenly spaced, that a column tells of and is answered for: with more than one, gains follow the sound more finely."""
    n_mels: int = 128
    fmin_hz: float = 0.0
    fmax_hz: float = 11025.0
    floor_db: float = -80.0
    """Lowest level of a mel cell, in dB of the power that librosa's melspectrogram gives."""
    mean_db: float = 0.0
    std_db: float = 20.0
    channels: tuple[str, ...] = ("log_mel",)
    lookahead: int = 0
    """Columns that must follow a frame before its answer is taken; each delays the output by a hop."""
    iterations: int = 1
    frames_inverted: int = 2
    phase: Phase = "warm"
    sha256: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Columns of the network's window: the frames whose centres lie inside `window_samples`."""
        return 1 + self.window_samples // self.hop

    @property
    def frame_hop(self) -> int:
        """Distance of frames, in samples."""
        return self.hop // self.frames_per_column

    @property
    def input_channels(self) -> int:
        """Channels of the network's input: those of every frame of a column."""
        return len(self.channels) * self.frames_per_column

    def __post_init__(self) -> None:
        def require(condition: bool, sentence: str) -> None:
            if not condition:
                raise ModelError(
                    f"the sidecar of model '{self.name}' is inconsistent: {sentence}; export the model again."
                )

        require(
            self.rate_hz > 0 and self.n_mels > 0 and self.std_db > 0,
            "rate_hz, mel bands and std_db must be positive",
        )
        require(
            self.n_fft >= 16 and self.n_fft % 2 == 0,
            f"n_fft must be even and at least 16, not {self.n_fft}",
        )
        require(
            0 < self.hop <= self.n_fft // 2 and self.n_fft % self.hop == 0,
            f"hop must divide n_fft {self.n_fft} into at least two parts, {self.hop} does not",
        )
        require(
            self.frames_per_column > 0 and self.hop % self.frames_per_column == 0,
            f"frames_per_column must divide hop {self.hop}, {self.frames_per_column} does not",
        )
        require(
            0 <= self.fmin_hz < self.fmax_hz <= self.rate_hz / 2,
            "fmin_hz < fmax_hz <= rate_hz / 2 must hold",
        )
        require(
            1 <= len(self.channels) <= 4,
            f"a network has 1 to 4 input channels, not {len(self.channels)}",
        )
        unknown = sorted(set(self.channels) - set(CHANNELS))
        require(not unknown, f"channels {unknown} are unknown (known: {', '.join(CHANNELS)})")
        require(
            0 <= self.lookahead < self.frames,
            f"lookahead must lie between 0 and {self.frames - 1}, not {self.lookahead}",
        )
        require(
            self.iterations >= 0 and self.frames_inverted >= 1,
            "griffin_lim iterations must be >= 0 and frames >= 1",
        )
        require(
            self.phase in get_args(Phase),
            f"griffin_lim phase must be one of {get_args(Phase)}, not '{self.phase}'",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the sidecar's content."""
        return {
            "format": FORMAT,
            "name": self.name,
            "description": self.description,
            "sha256": self.sha256,
            "signal": {
                "rate_hz": self.rate_hz,
                "window_samples": self.window_samples,
                "n_fft": self.n_fft,
                "hop": self.hop,
                "frames_per_column": self.frames_per_column,
            },
            "mel": {
                "bands": self.n_mels,
                "fmin_hz": self.fmin_hz,
                "fmax_hz": self.fmax_hz,
                "floor_db": self.floor_db,
                "mean_db": self.mean_db,
                "std_db": self.std_db,
            },
            "network": {"channels": list(self.channels), "lookahead": self.lookahead},
            "griffin_lim": {
                "iterations": self.iterations,
                "frames": self.frames_inverted,
                "phase": self.phase,
            },
            "training": self.training,
            "metrics": self.metrics,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelSpec:
        """Build a specification from a sidecar's content.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a constant is missing or of the wrong kind.
        ModelError
            If the constants contradict each other.
        """
        signal, mel, network, inversion = (
            content[key] for key in ("signal", "mel", "network", "griffin_lim")
        )
        return cls(
            name=str(content["name"]),
            description=str(content.get("description", "")),
            sha256=str(content["sha256"]),
            rate_hz=int(signal["rate_hz"]),
            window_samples=int(signal["window_samples"]),
            n_fft=int(signal["n_fft"]),
            hop=int(signal["hop"]),
            frames_per_column=int(signal.get("frames_per_column", 1)),
            n_mels=int(mel["bands"]),
            fmin_hz=_finite(mel["fmin_hz"]),
            fmax_hz=_finite(mel["fmax_hz"]),
            floor_db=_finite(mel["floor_db"]),
            mean_db=_finite(mel["mean_db"]),
            std_db=_finite(mel["std_db"]),
            channels=tuple(network["channels"]),
            lookahead=int(network["lookahead"]),
            iterations=int(inversion["iterations"]),
            frames_inverted=int(inversion["frames"]),
            phase=inversion["phase"],
            training=dict(content.get("training", {})),
            metrics=dict(content.get("metrics", {})),
        )


def sidecar_path(model_path: Path) -> Path:
    """Return the path of a model's sidecar."""
    return model_path.with_suffix(".json")


def load_spec(model_path: Path) -> ModelSpec:
    """Read a model's sidecar and check that it belongs to the model file.

    Raises
    ------
    ModelError
        If the sidecar is missing, unreadable, of another format or made for another file.
    """
    path = sidecar_path(model_path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"model {model_path} has no sidecar {path.name} beside it; copy it from where the model came from."
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the sidecar {path} cannot be read ({error}); copy it again from where the model came from."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(
            f"the sidecar {path} is not of format {FORMAT}, the one this version of rtden reads; export the model again."
        )
    try:
        spec = ModelSpec.from_dict(content)
    except (KeyError, TypeError, ValueError) as error:
        reason = (
            f"has no {error}"
            if isinstance(error, KeyError)
            else f"holds a value of the wrong kind ({error})"
        )
        raise ModelError(f"the sidecar {path} {reason}; export the model again.") from None
    if spec.sha256 != file_sha256(model_path):
        raise ModelError(
            f"model {model_path} does not match the checksum in {path.name}: one of them is damaged or of another version; copy both again."
        )
    return spec


def save_spec(spec: ModelSpec, model_path: Path) -> None:
    """Write a model's sidecar beside it."""
    sidecar_path(model_path).write_text(
        json.dumps(spec.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(
            f"model {path} cannot be read ({error.strerror}); check the path and its permissions."
        ) from None


def models_folder() -> Path:
    """Return the folder of the shipped models: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def list_models() -> list[str]:
    """Return the names of the shipped models, the default one first."""
    names = sorted(path.stem for path in models_folder().glob("*.tflite"))
    return sorted(names, key=lambda name: name != DEFAULT_MODEL)


def find_model(model: str | Path | None = None) -> Path:
    """Return the path of a model's ``.tflite`` file.

    Parameters
    ----------
    model : str or Path, optional
        The name of a shipped model, or a path; None is the default model.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    wanted = DEFAULT_MODEL if model is None else model
    if isinstance(wanted, str) and wanted in list_models():
        return models_folder() / f"{wanted}.tflite"
    path = Path(wanted)
    if os.path.isfile(path):
        return path
    raise ModelError(
        f"there is no model '{wanted}': give one of {', '.join(list_models())} or the path of a .tflite file."
    )


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number
