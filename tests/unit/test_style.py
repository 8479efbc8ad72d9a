"""The house's measures: short files, classes, functions and lines, and the field's words."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "rtden").rglob("*.py"))
PYTHON = [*PACKAGE, *sorted((ROOT / "bench").rglob("*.py")), *(ROOT / "examples").glob("*.py")]
TEXTS = [*PYTHON, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "mkdocs.yml"))]
TEXTS += sorted((ROOT / "docs").glob("*.md"))
LONGEST_FILE, LONGEST_CLASS, LONGEST_FUNCTION, LONGEST_LINE = 350, 200, 40, 100
BANNED = {
    r"\bunheard\b": "pending",
    r"\bcatch(es)? up\b": "flush pending",
    r"--advance\b|\badvance \d": "hops per step",
    r"steps_at_once|steps at once": "batch_steps",
    r"\bof which the\b|\bso many\b|\ball the same\b": "a plain sentence",
    r"\btop gains?\b|\bgoes around\b": "high-band gain, bypass path",
    r"\bpaced\b|\bkeeper\b": "file endpoint, reconnect",
    r"\bwithheld\b": "discarded",
    r"\bgo(es)? on where\b": "resume",
    r"\btells apart\b|\bis told\b|\bare told\b": "reports",
}
"""Words of the code's old dialect, and what to say instead."""


def functions(nodes: list[ast.AST]) -> list[tuple[str, int]]:
    """Return name and length of each function, its signature and docstring left out."""
    found = []
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            found.append((node.name, lines))
    return found


def too_long(path: Path) -> list[tuple[str, int]]:
    """Return name and length of what is too long in a module: itself, classes, functions."""
    text = path.read_text(encoding="utf-8")
    nodes = [*ast.walk(ast.parse(text))]
    found = [("file", text.count("\n"))] if text.count("\n") > LONGEST_FILE else []
    found += [(name, lines) for name, lines in functions(nodes) if lines > LONGEST_FUNCTION]
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            start = node.body[1] if len(node.body) > 1 and ast.get_docstring(node) else node
            lines = (node.end_lineno or 0) - start.lineno + 1
            found += [(node.name, lines)] if lines > LONGEST_CLASS else []
    return found


def long_lines(path: Path) -> list[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]
    # Rows of tables, pictures and commands to copy cannot be broken.
    return [number for number in long if not lines[number - 1].startswith(("|", "![", "sudo"))]


def banned(path: Path) -> dict[str, str]:
    text = " ".join(path.read_text(encoding="utf-8").split())
    matches = ((re.search(words, text, re.I), term) for words, term in BANNED.items())
    return {match[0]: term for match, term in matches if match}


def foreign_addresses(path: Path) -> set[str]:
    """Return the addresses in a picture but for its format's name."""
    addresses = re.findall(r"https?://[^\"' )]+", path.read_text(encoding="utf-8"))
    return set(addresses) - {"http://www.w3.org/2000/svg"}


PICTURES = sorted((ROOT / "bench" / "results").glob("*.svg"))


@pytest.mark.parametrize(
    ("faults", "paths"),
    [
        (too_long, PACKAGE),
        (long_lines, [*TEXTS, ROOT / "CHANGELOG.md"]),
        (banned, TEXTS),
        (foreign_addresses, PICTURES),
    ],
)
def test_the_house_has_its_measures(faults: Callable[[Path], Any], paths: list[Path]) -> None:
    assert paths
    found = {path.relative_to(ROOT).as_posix(): faults(path) for path in paths}
    assert {name: fault for name, fault in found.items() if fault} == {}
