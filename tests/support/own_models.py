"""Models of a test's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from rtden.model import find_model


def copy_of_seed(path: Path) -> Path:
    """Copy a shipped model, with its sidecar, to a .tflite file; return that file."""
    shutil.copy(find_model("seed"), path)
    shutil.copy(find_model("seed").with_suffix(".json"), path.with_suffix(".json"))
    return path
