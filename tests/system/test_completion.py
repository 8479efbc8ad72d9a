"""Completion of commands and options, installed into real shells."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from command import ended

COMPLETED = {
    "bash": "COMP_WORDS=(rtden li); COMP_CWORD=1; _rtden_completion rtden; echo ${COMPREPLY[@]}",
    "zsh": "print ${_comps[rtden]}; "
    "_RTDEN_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS='rtden li' rtden",
    "fish": "complete -C 'rtden li'",
}
"""What each shell is asked for: how it completes `rtden li`."""


@pytest.mark.parametrize("name", COMPLETED)
def test_a_new_shell_completes_commands(name: str, tmp_path: Path) -> None:
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"{name} is not installed")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "HOME": str(tmp_path), "PATH": path}
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        env.pop(variable, None)

    def run(*arguments: str) -> str:
        return str(ended([shell, *arguments], env=env, check=True).stdout)

    # With a second command the shell stays the parent, by which it is recognised.
    installed = run("-c", "rtden --install-completion; true")
    assert f"{name} completion installed" in installed
    said = run("-i", "-c", COMPLETED[name])
    assert "live" in said.replace(str(tmp_path), "")
    assert "list" not in said
    if name == "zsh":
        assert said.startswith("_rtden\n")
    assert "complete" in run("-c", "rtden --show-completion; true")
