"""A model: a ``.tflite`` file, and the JSON sidecar that holds every constant of its signal path.

Code reads the constants from here; there is no second copy of a number. The sidecar holds the
fields of :class:`ModelSpec`; ``description``, ``training`` and ``metrics`` are for people.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from rtden.errors import ModelError
from rtden.settings import Phase

FORMAT = 2
CHANNELS = ("log_mel", "relative_mel", "above_floor", "above_mean", "slope")
"""Input channels that a network may ask for; :class:`rtden.mel.MelFeatures` defines each."""

DEFAULT_MODEL = "rtden"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The constants of a model; ModelError if they contradict each other."""

    name: str
    description: str = ""
    rate_hz: int = 22050
    window_samples: int = 8000
    """Span of audio that the network's window covers: the frames centred inside it."""
    n_fft: int = 1024
    hop: int = 512
    """Samples from one frame to the next."""
    n_mels: int = 128
    fmin_hz: float = 0.0
    fmax_hz: float = 11025.0
    floor_db: float = -80.0
    """Lowest level of a mel cell, in dB of the power that librosa's melspectrogram gives."""
    mean_db: float = 0.0
    std_db: float = 20.0
    channels: tuple[str, ...] = ("log_mel",)
    overlap: int | None = None
    """Longest overlap of frames in samples that sounds better than shorter ones; n_fft - hop if
    None."""
    contrast: float = 0.0
    """By how much the contrast of gains is raised (:mod:`rtden.contrast`); 0 leaves it out."""
    iterations: int = 1
    frames_inverted: int = 2
    phase: Phase = "warm"
    sha256: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Frames of the network's window: those whose centres lie inside `window_samples`."""
        return 1 + self.window_samples // self.hop

    @property
    def longest_overlap(self) -> int:
        """Overlap of frames in samples where latency does not matter."""
        return self.n_fft - self.hop if self.overlap is None else self.overlap

    def __post_init__(self) -> None:
        unknown = sorted(set(self.channels) - set(CHANNELS))
        hop = self.hop
        positive = min(self.rate_hz, self.n_mels, self.std_db, hop) > 0
        for valid, sentence in (
            (positive, "rate_hz, hop, mel bands and std_db must be positive"),
            (self.n_fft >= 16 and self.n_fft % 2 == 0, "n_fft must be even and at least 16"),
            (positive and 2 * hop <= self.n_fft, "hop must be at most half of n_fft"),
            (positive and self.n_fft % hop == 0, "hop must divide n_fft"),
            (0 <= self.fmin_hz < self.fmax_hz, "0 <= fmin_hz < fmax_hz must hold"),
            (self.fmax_hz <= self.rate_hz / 2, "fmax_hz must be at most rate_hz / 2"),
            (1 <= len(self.channels) <= 4, "a network has 1 to 4 input channels"),
            (not unknown, f"channels {unknown} are unknown (known: {', '.join(CHANNELS)})"),
            (0 < self.longest_overlap <= self.n_fft - hop, "overlap must be 1 to n_fft - hop"),
            (0 <= self.contrast <= 6, "contrast must be 0 to 6"),
            (self.iterations >= 0, "griffin_lim iterations must be 0 or more"),
            (self.frames_inverted >= 1, "griffin_lim frames must be 1 or more"),
            (self.phase in get_args(Phase), f"griffin_lim phase must be one of {get_args(Phase)}"),
        ):
            if not valid:
                raise ModelError(
                    f"the sidecar of model '{self.name}' is inconsistent: {sentence}; "
                    "export the model again."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the sidecar's content: the fields by their names."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelSpec:
        """Build a specification from a sidecar's content.

        Raises KeyError, TypeError or ValueError if a constant is missing or of the wrong kind.
        """
        content = without_sections(content)
        if content.get("frames_per_column", 1) != 1 or content.get("lookahead", 0) != 0:
            raise ModelError(
                f"model '{content.get('name')}' has several frames a column or looks ahead, which "
                "this version of rtden no longer runs; train it again with 'rtden train'."
            )
        values = {
            one.name: _KINDS[str(one.type)](content[one.name])
            for one in dataclasses.fields(cls)
            if one.name in content or one.name not in _OPTIONAL
        }
        return cls(**values)


def without_sections(content: dict[str, Any]) -> dict[str, Any]:
    """Return constants by their names; format 1 had them in sections, and some by other names."""
    plain = {key: value for key, value in content.items() if key not in _SECTIONS}
    for section in _SECTIONS & set(content):
        for key, value in dict(content[section]).items():
            plain[str(_RENAMED.get(key, key))] = value
    return plain


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


_KINDS: dict[str, Any] = {
    "str": str,
    "Phase": str,
    "int": int,
    "int | None": lambda value: value if value is None else int(value),
    "float": _finite,
    "tuple[str, ...]": tuple,
    "dict[str, Any]": dict,
}
"""The types of the fields, and what makes their values from JSON."""
_OPTIONAL = {"description", "overlap", "contrast", "training", "metrics"}
_SECTIONS = {"signal", "mel", "network", "griffin_lim"}
_RENAMED = {"bands": "n_mels", "frames": "frames_inverted"}


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is loaded: all streams of a process share it."""

    path: Path
    spec: ModelSpec
    content: bytes = field(repr=False)
    """The ``.tflite`` file."""
    interpreters: dict[Any, Any] = field(default_factory=dict, repr=False)
    """Interpreters of the network that no stream uses at the moment; :mod:`rtden.autoencoder`
    makes them and lends them to streams."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a copy, or another process, load the same files."""
        return load_model, (self.path,)


_loaded: dict[tuple[Any, ...], Model] = {}


def load_model(model: str | Path | Model | None = None) -> Model:
    """Return a model; its files are read and checked once per process while they stay the same.

    Safe in threads and after a fork: nothing is locked, all callers get the same object. A loaded
    model is returned as it is. ModelError if its file or its sidecar cannot be used.
    """
    if isinstance(model, Model):
        return model
    path = find_model(model)
    key = (path.resolve(), *map(_stamp, (path, sidecar_path(path))))
    if key not in _loaded:
        loaded = _read(path)
        for old in [old for old in list(_loaded) if old[0] == key[0]]:
            _loaded.pop(old, None)
        return _loaded.setdefault(key, loaded)
    return _loaded[key]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def load_spec(model: str | Path | Model | None = None) -> ModelSpec:
    """Return the constants of a model; parameters and errors are those of :func:`load_model`."""
    return load_model(model).spec


def _read(path: Path) -> Model:
    sidecar = sidecar_path(path)
    try:
        sections = json.loads(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"model {path} has no sidecar {sidecar.name} beside it; "
            "copy it from where the model came from."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"the sidecar {sidecar} cannot be read ({error}); "
            "copy it again from where the model came from."
        ) from None
    if not isinstance(sections, dict) or sections.get("format") not in (1, FORMAT):
        raise ModelError(
            f"the sidecar {sidecar} is not of format 1 or {FORMAT}, which this version of "
            "rtden reads; export the model again."
        )
    try:
        spec = ModelSpec.from_dict(sections)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        missing = isinstance(error, KeyError)
        reason = f"has no {error}" if missing else f"holds a value of the wrong kind ({error})"
        raise ModelError(f"the sidecar {sidecar} {reason}; export the model again.") from None
    content = _content(path)
    if spec.sha256 != hashlib.sha256(content).hexdigest():
        raise ModelError(
            f"model {path} does not match the checksum in {sidecar.name}: one of them is damaged "
            "or of another version; copy both again."
        )
    return Model(path, spec, content)


def save_spec(spec: ModelSpec, model_path: Path) -> None:
    """Write a model's sidecar beside it."""
    text = json.dumps(spec.to_dict(), indent=2, ensure_ascii=False)
    sidecar_path(model_path).write_text(text + "\n", encoding="utf-8")


def sidecar_path(model_path: Path) -> Path:
    """Return the path of a model's sidecar."""
    return model_path.with_suffix(".json")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"model {path} cannot be read ({error.strerror}); check the path and its permissions."
        ) from None


def models_folder() -> Path:
    """Return the folder of the shipped models: in the package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def list_models() -> list[str]:
    """Return the names of the shipped models, the default one first.

    Examples
    --------
    >>> list_models()[0]
    'rtden'
    """
    names = sorted(path.stem for path in models_folder().glob("*.tflite"))
    return sorted(names, key=lambda name: name != DEFAULT_MODEL)


def find_model(model: str | Path | Model | None = None) -> Path:
    """Return the path of a model's ``.tflite`` file; ModelError if there is no such model.

    `model` is the name of a shipped one, a path, or a loaded one; None is the default model.
    """
    if isinstance(model, Model):
        return model.path
    wanted = DEFAULT_MODEL if model is None else model
    if isinstance(wanted, str):
        shipped = models_folder() / f"{wanted}.tflite"
        if os.sep not in wanted and os.path.isfile(shipped):
            return shipped
    elif not isinstance(wanted, os.PathLike):
        raise ModelError(f"a model is a name, a path or a Model, not {type(wanted).__name__}.")
    if os.path.isfile(path := Path(wanted)):  # False, too, for a name that is too long
        return path
    raise ModelError(
        f"there is no model '{wanted}': give one of {', '.join(list_models())} "
        "or the path of a .tflite file."
    )
