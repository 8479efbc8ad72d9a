"""The command lines on the pages have the commands and options that they name."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from rtden.app.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench" / "TRAINING.md"]


def command_lines(page: Path) -> list[str]:
    """Return the lines of shell blocks that run rtden, each part of a pipeline by itself."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part.strip(" '\"") for line in lines for part in re.split(r"[|;]|&&|'\"", line)]
    at_once = ("rtden --install-completion", "rtden --version")  # they run while they are parsed
    return [part for part in parts if part.startswith("rtden ") and part not in at_once]


@functools.cache
def rtden() -> Any:
    """Return the command line as its parser sees it."""
    return typer.main.get_command(app)


def parse(command: Any, words: list[str]) -> None:
    """Parse the words of a command, and of its subcommand; raise what is wrong with them."""
    context = command.make_context(command.name, list(words))
    if hasattr(command, "resolve_command"):
        _, below, rest = command.resolve_command(context, words)
        parse(below, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_are_understood(page: Path) -> None:
    for line in command_lines(page):
        words = [word for word in shlex.split(line, comments=True)[1:] if word not in {"…", "&"}]
        parse(rtden(), words)


def test_a_file_in_place_of_a_command_is_answered_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "talk").touch()
    with pytest.raises(Exception, match=r"rtden file .*talk"):
        parse(rtden(), [str(tmp_path / "talk")])
    with pytest.raises(Exception, match="No such command"):
        parse(rtden(), [str(tmp_path / "none")])


def test_a_wrong_option_would_be_found() -> None:
    assert "rtden live --in usb --out headset" in "\n".join(command_lines(ROOT / "README.md"))
    for words in (["live", "--inn", "usb"], ["list"], ["service", "instal"]):
        with pytest.raises(Exception, match="No such"):
            parse(rtden(), words)
