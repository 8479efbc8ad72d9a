"""What a user last chose for live sound, kept in a settings file: the page writes it, `--saved` reads it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtden.errors import MissingPackageError, SettingsError
from rtden.settings import Settings

LONGEST_TEXT = 400
"""Characters of a device's or model's name."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Choices for live sound, as :func:`rtden.open_live` takes them; None is the default.

    Raises
    ------
    SettingsError
        If a value has the wrong type or lies outside its range.
    """

    input: str | None = None
    output: str | None = None
    model: str | None = None
    latency_ms: float | None = None
    """Total delay to aim at."""
    strength: float = 1.0
    limit_db: float | None = None
    """Most that may be taken off, in dB; None sets no limit."""
    stereo: bool = False
    record: bool = False
    """Whether the sound before and after is recorded; the caller chooses where."""

    def __post_init__(self) -> None:
        for name in ("input", "output", "model"):
            text = getattr(self, name)
            if text is not None and not (
                isinstance(text, str) and 0 < len(text) <= LONGEST_TEXT and text.isprintable()
            ):
                raise SettingsError(f"{name} must be a name or null.")
        for name in ("latency_ms", "strength", "limit_db"):
            _check_number(name, getattr(self, name), required=name == "strength")
        for name in ("stereo", "record"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} must be true or false.")
        if self.latency_ms is not None and not 1 <= self.latency_ms <= 2000:
            raise SettingsError(f"latency_ms must lie between 1 and 2000, not {self.latency_ms:g}.")
        self.settings()

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Choices:
        """Return the choices in a JSON object; unknown names are refused."""
        unknown = sorted(set(raw) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise SettingsError(f"there is no choice named {unknown[0]!r}.")
        return cls(**raw)

    def to_dict(self) -> dict[str, Any]:
        """Return the choices for JSON."""
        return dataclasses.asdict(self)

    def settings(self) -> Settings:
        """Return the denoiser's settings."""
        limit_db = math.inf if self.limit_db is None else self.limit_db
        return Settings(strength=self.strength, limit_db=limit_db)

    def replaced(self, changes: dict[str, Any]) -> Choices:
        """Return the choices with some of them changed, checked."""
        return type(self).from_dict({**self.to_dict(), **changes})


def settings_folder() -> Path:
    """Return the folder for rtden's settings by the platform's conventions; it may not exist yet.

    Raises
    ------
    MissingPackageError
        If platformdirs is not installed.
    """
    try:
        from platformdirs import user_config_path
    except ImportError:
        raise MissingPackageError(
            "saved choices need the package platformdirs: run 'pip install \"rtden[web]\"'."
        ) from None
    return user_config_path("rtden", appauthor=False)


def load_saved() -> Choices:
    """Return the choices in the settings file, or the defaults if there is none.

    Raises
    ------
    SettingsError
        If the file cannot be read or holds something else.
    """
    path = settings_folder() / "live.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise SettingsError("it holds no JSON object.")
        return Choices.from_dict(raw)
    except FileNotFoundError:
        return Choices()
    except (OSError, ValueError) as error:  # SettingsError is a ValueError
        raise SettingsError(
            f"the saved choices in {path} cannot be used ({error}) delete the file."
        ) from None


def save(choices: Choices) -> None:
    """Write the choices into the settings file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    write_private(settings_folder() / "live.json", json.dumps(choices.to_dict(), indent=1))


def write_private(path: Path, text: str) -> None:
    """Replace a small file of the user's (mode 600), whole or not at all, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check_number(name: str, value: Any, *, required: bool) -> None:
    if value is None and not required:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SettingsError(f"{name} must be a number{'' if required else ' or null'}.")
