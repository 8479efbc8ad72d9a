"""Files and folders: constant memory, originals untouched, no half-written result."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    **dict.fromkeys(("denoise_file", "FileReport"), "denoise"),
    **dict.fromkeys(("denoise_files",), "batch"),
    **dict.fromkeys(("Plan", "Raw", "list_audio", "plan"), "listing"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rtden.files' has no attribute '{name}'")
    return getattr(importlib.import_module(f"rtden.files.{_HOMES[name]}"), name)
