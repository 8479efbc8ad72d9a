"""What visitors chose for live sound: checked, and kept in a settings file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from rtden.errors import SettingsError
from rtden.files.atomic import new_file
from rtden.settings import Settings, number, require

DEFAULTS: dict[str, Any] = {
    "input": None,
    "output": None,
    "model": None,
    "latency_ms": None,
    "strength": 1.0,
    "limit_db": None,
    "stereo": False,
    "record": False,
}
"""Choices are named as in :func:`rtden.open_live`; null is its default, and no limit."""
NAMES, FLAGS, LONGEST_NAME = ("input", "output", "model"), ("stereo", "record"), 400


def changed(choices: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return choices with some of them changed; SettingsError for what cannot be chosen."""
    for name, value in changes.items():
        if name not in DEFAULTS:
            raise SettingsError(f"there is no choice named {name!r}.")
        if name in FLAGS:
            require(isinstance(value, bool), name, "be true or false", value)
        elif name in NAMES:
            if not (value is None or (isinstance(value, str) and 0 < len(value) <= LONGEST_NAME)):
                raise SettingsError(f"{name} must be a name or null.")
        elif value is not None or name == "strength":
            finite = not isinstance(value, bool) and math.isfinite(number(value))
            require(finite, name, "be a number", value)
    choices = {**choices, **changes}
    latency_ms = choices["latency_ms"]
    in_range = latency_ms is None or 1 <= latency_ms <= 2000
    require(in_range, "latency_ms", "lie between 1 and 2000", latency_ms)
    settings_of(choices)
    return choices


def settings_of(choices: dict[str, Any]) -> Settings:
    """Return the denoiser's settings; SettingsError if one is out of range."""
    limit_db = math.inf if choices["limit_db"] is None else choices["limit_db"]
    return Settings(strength=choices["strength"], limit_db=limit_db)


def settings_folder() -> Path:
    """Return the folder for rtden's settings by the platform's conventions; it may be missing."""
    return user_config_path("rtden", appauthor=False)


def load_choices() -> dict[str, Any]:
    """Return the saved choices, or the defaults; SettingsError if the file cannot be used."""
    path = settings_folder() / "live.json"
    try:
        return changed(DEFAULTS, dict(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return DEFAULTS
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise SettingsError(
            f"the saved choices in {path} cannot be used ({error}): delete the file."
        ) from None


def save_choices(choices: dict[str, Any]) -> None:
    """Write choices into the settings file; AudioFileError if that is impossible."""
    write_private(settings_folder() / "live.json", json.dumps(choices, indent=1))


def write_private(path: Path, text: str) -> None:
    """Write a file that only the user may read, whole or not at all."""
    with new_file(path, force=True) as partial:
        partial.chmod(0o600)
        partial.write_text(text, encoding="utf-8")
