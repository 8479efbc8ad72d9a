"""What a user last chose for live sound, in a settings file: the page writes, `--saved` reads."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtden.errors import SettingsError
from rtden.extras import needed
from rtden.files.atomic import new_file
from rtden.live import open_live
from rtden.settings import Settings

if TYPE_CHECKING:
    from rtden.live.engine import LiveEngine

LONGEST_NAME = 400
TEXTS, FLAGS = ("input", "output", "model"), ("stereo", "record")
NUMBERS = ("latency_ms", "strength", "limit_db")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Choices for live sound, named as in :func:`rtden.open_live`; None is the default.

    Raises SettingsError if a value has the wrong type or lies outside its range.
    """

    input: str | None = None
    output: str | None = None
    model: str | None = None
    latency_ms: float | None = None
    """Total delay to aim at."""
    strength: float = 1.0
    limit_db: float | None = None
    """Most that is taken off, in dB; None sets no limit."""
    stereo: bool = False
    record: bool = False
    """Whether the sound before and after is recorded; the caller chooses where."""

    def __post_init__(self) -> None:
        for name in TEXTS:
            text = getattr(self, name)
            if not (text is None or (isinstance(text, str) and 0 < len(text) <= LONGEST_NAME)):
                raise SettingsError(f"{name} must be a name or null.")
        for name in NUMBERS:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value)) and (value is not None or name == "strength"):
                raise SettingsError(f"{name} must be a number.")
        if not all(isinstance(getattr(self, name), bool) for name in FLAGS):
            raise SettingsError(f"{' and '.join(FLAGS)} must be true or false.")
        if self.latency_ms is not None and not 1 <= self.latency_ms <= 2000:
            raise SettingsError(f"latency_ms must lie between 1 and 2000, not {self.latency_ms:g}.")
        self.settings()

    def to_dict(self) -> dict[str, Any]:
        """Return the choices for JSON."""
        return dataclasses.asdict(self)

    def replaced(self, changes: dict[str, Any]) -> Choices:
        """Return the choices with some of them changed; unknown names are refused."""
        unknown = sorted(set(changes) - set(self.to_dict()))
        if unknown:
            raise SettingsError(f"there is no choice named {unknown[0]!r}.")
        return dataclasses.replace(self, **changes)

    def settings(self) -> Settings:
        """Return the denoiser's settings."""
        limit_db = math.inf if self.limit_db is None else self.limit_db
        return Settings(strength=self.strength, limit_db=limit_db)

    def open(self, *, record: Path | None = None) -> LiveEngine:
        """Return an engine for these choices, not started; `record` is the folder to write."""
        names = ("input", "output", "model", "latency_ms", "stereo")
        chosen = {name: getattr(self, name) for name in names}
        return open_live(**chosen, settings=self.settings(), record=record)


def settings_folder() -> Path:
    """Return the folder for rtden's settings by the platform's conventions; it may not exist yet.

    Raises MissingPackageError if platformdirs is not installed.
    """
    directories = needed("platformdirs", "web", "saving choices")
    return Path(directories.user_config_path("rtden", appauthor=False))


def load_saved() -> Choices:
    """Return the choices in the settings file, or the defaults if there is none.

    Raises SettingsError if the file cannot be read or holds something else.
    """
    path = settings_folder() / "live.json"
    try:
        return Choices().replaced(dict(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return Choices()
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise SettingsError(
            f"the saved choices in {path} cannot be used ({error}): delete the file."
        ) from None


def save(choices: Choices) -> None:
    """Write the choices into the settings file; raises AudioFileError if that is impossible."""
    write_private(settings_folder() / "live.json", json.dumps(choices.to_dict(), indent=1))


def write_private(path: Path, text: str) -> None:
    """Write a file that only the user may read, whole or not at all."""
    with new_file(path, force=True) as partial:
        partial.chmod(0o600)
        partial.write_text(text, encoding="utf-8")
