"""Optional packages: importing them, and the command that installs a missing one."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
import sysconfig
from importlib import util
from pathlib import Path
from typing import Any

from rtden.errors import MissingPackageError


def needed(package: str, extra: str, user: str = "this") -> Any:
    """Import and return a package of an extra; `user` is the subject of the error's sentence.

    Raises MissingPackageError, which names the command that installs the extra.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise missing(package, extra, user) from None


def missing(package: str, extra: str, user: str = "this") -> MissingPackageError:
    """Return the error for a package that is not installed."""
    name = package.split(".", maxsplit=1)[0].replace("_", "-")
    command = install_command(extra)
    return MissingPackageError(f"{user} needs the package {name}: run {command}")


def install_command(extra: str) -> str:
    """Return the command that adds an extra's packages, as a line for a shell.

    pipx and uv install rtden anew with the extra; in a virtual environment pip adds it. Where the
    system manages its packages (PEP 668), only a new installation by pipx is possible.
    """
    prefix, python = Path(sys.prefix), sys.executable
    managed = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()
    if (prefix / "pipx_metadata.json").exists():
        words = ["pipx", "install", "--force"]
    elif (prefix / "uv-receipt.toml").exists():
        words = ["uv", "tool", "install", "--force"]
    elif managed and sys.prefix == sys.base_prefix:
        words = ["pipx", "install"]
    elif util.find_spec("pip") is None:
        words = ["uv", "pip", "install", "--python", python]
    else:
        words = [python, "-m", "pip", "install"]
    join = subprocess.list2cmdline if os.name == "nt" else shlex.join
    return join([*words, *_source(extra)])


def _source(extra: str) -> tuple[str, ...]:
    """Return what to install: the folder or file that rtden came from (PEP 610), or its name."""
    # Slow imports, for errors only
    from importlib import metadata
    from urllib.request import url2pathname

    try:
        origin = json.loads(metadata.distribution("rtden").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        origin = {}
    url = origin.get("url", "")
    if not url.startswith("file:"):
        return (f"rtden[{extra}] @ {url}" if url else f"rtden[{extra}]",)
    path = url2pathname(url.removeprefix("file://"))
    editable = origin.get("dir_info", {}).get("editable", False)
    return (*(("--editable",) if editable else ()), f"{path}[{extra}]")
