"""The command line in a process of its own, and what it left in a folder."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer.testing
from typer.testing import CliRunner, Result
from waiting import LIMIT_SECONDS

from rtden.app.main import app

# To make the commands of their signatures is two thirds of what a run in this process costs.
typer.testing._get_command = functools.cache(  # type: ignore[attr-defined]
    typer.testing._get_command  # type: ignore[attr-defined]
)

ENV = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
RTDEN = [sys.executable, "-m", "rtden"]


def ended(command: list[Any], *, check: bool = False, **changes: Any) -> Any:
    """Return a program that has ended, and what it said."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    usual: dict[str, Any] = {"env": ENV, "text": True, "timeout": LIMIT_SECONDS, **pipes}
    return subprocess.run(command, check=check, **{**usual, **changes})


def started(command: list[Any], **changes: Any) -> Any:
    """Return a program that runs, with pipes to what it says."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **{"env": ENV, "text": True, **pipes, **changes})


def rtden(*arguments: Any, **changes: Any) -> Any:
    """Return `rtden` that has ended, and what it said."""
    return ended([*RTDEN, *arguments], **changes)


def bench(script: Any, *arguments: Any, **environment: str) -> Any:
    """Return a script of `bench/` that has ended, and what it said."""
    paths = [str(Path(script).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**ENV, **environment, "PYTHONPATH": os.pathsep.join(paths)}
    return ended([sys.executable, script, *arguments], env=env, timeout=600)


def run_python(code: str, *, check: bool = True) -> Any:
    """Return a program of these lines of Python that has ended, and what it said."""
    return ended([sys.executable, "-c", code], check=check)


def invoke(*arguments: object) -> Result:
    """Return what `rtden` says in this process, and its exit code."""
    return CliRunner().invoke(app, [str(word) for word in arguments])


def assert_one_sentence(exit_code: int, stdout: str, stderr: str) -> None:
    assert exit_code == 2, stderr
    assert stdout == ""
    assert stderr.startswith("rtden: "), stderr
    assert stderr.count("\n") == 1, stderr
    assert stderr.endswith("\n")
    assert "Traceback" not in stderr


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too, without the subfolders themselves."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
