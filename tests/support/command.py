"""The command line in a process of its own, and what it left in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from waiting import LIMIT_SECONDS

ENV = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
RTDEN = [sys.executable, "-m", "rtden"]


def ended(command: list[Any], *, check: bool = False, **changes: Any) -> Any:
    """Return a program that has ended, and what it said."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    usual: dict[str, Any] = {"env": ENV, "text": True, "timeout": LIMIT_SECONDS, **pipes}
    return subprocess.run(command, check=check, **{**usual, **changes})


def rtden(*arguments: Any, **changes: Any) -> Any:
    """Return `rtden` that has ended, and what it said."""
    return ended([*RTDEN, *arguments], **changes)


def run_python(code: str, *, check: bool = True) -> Any:
    """Return a program of these lines of Python that has ended, and what it said."""
    return ended([sys.executable, "-c", code], check=check)


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too, without the subfolders themselves."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
