"""Files and folders: constant memory, originals untouched, no half-written result."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {"denoise": ("denoise_file", "FileReport"), "batch": ("denoise_files",)}
_HOMES["listing"] = ("Plan", "Raw", "list_audio", "plan")


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"rtden.files.{home}"), name)
    raise AttributeError(f"module 'rtden.files' has no attribute '{name}'")
