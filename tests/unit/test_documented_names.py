"""What the pages name exists: linked files and headings, options, scripts, folders, objects."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from rtden.app.main import app

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(path for folder in ("docs", "examples", "models") for path in (ROOT / folder).glob("*.md")),
    *(ROOT / "bench").rglob("*.md"),
]
FOREIGN = {"--help", "--mic-command", "--mic-noise-suppression", "--strict", "--editable", "--raw"}
"""Options of Wyoming, pip, parecord and mypy, and the one that typer adds."""
SCRIPTS = "".join(path.read_text("utf-8") for path in (ROOT / "bench").rglob("*.py"))


def options(command: Any) -> set[str]:
    """Return the options of a command and of those below it."""
    below = getattr(command, "commands", {}).values()
    own = {
        name for parameter in command.params for name in parameter.opts + parameter.secondary_opts
    }
    return own.union(*map(options, below))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(page: Path) -> list[str]:
    """Return what stands between backquotes, outside of blocks."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def exists(name: str) -> bool:
    """Whether a dotted name is a module or an object in one."""
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute) if module else True
    except ModuleNotFoundError as error:
        # An adapter's framework may be missing here; or the name is an object's attribute.
        return not (error.name or "").startswith("rtden") or exists(module)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES[:2] + PAGES[3:], ids=lambda page: page.name)
def test_names_on_a_page_exist(page: Path) -> None:
    known = options(typer.main.get_command(app)) | FOREIGN
    for text in named(page):
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]+(?![\w=-])", text):
            parameter = f"    {option[2:].replace('-', '_')}: "
            assert option in known or f'"{option}"' in SCRIPTS or parameter in SCRIPTS, text
        for path in re.findall(r"(?:rtden|tests|bench|examples|models|docs)/[\w./-]*", text):
            assert (ROOT / path).exists(), text
        if re.fullmatch(r"rtden(\.\w+)+", text) and not text.endswith((".tflite", ".json", ".npz")):
            assert exists(text), text


def test_names_that_do_not_exist_would_be_found() -> None:
    assert exists("rtden.denoiser.Denoiser")
    assert not exists("rtden.denoiser.Denoise")
    assert not exists("rtden.nothing.Denoiser")
    assert "--no-such-option" not in options(typer.main.get_command(app))
