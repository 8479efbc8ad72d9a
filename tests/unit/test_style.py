"""The house's measures: short files, classes, functions and lines, and the field's words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "rtden").rglob("*.py"))
PYTHON = [
    *PACKAGE,
    *sorted((ROOT / "bench").rglob("*.py")),
    *sorted((ROOT / "examples").glob("*.py")),
]
TEXTS = [
    *PYTHON,
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "mkdocs.yml",
]
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


def functions(path: Path) -> list[tuple[str, int]]:
    """Return name and length of each function, its signature and docstring left out."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            found.append((node.name, lines))
    return found


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PACKAGE, ids=named)
def test_files_classes_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    long = [(name, lines) for name, lines in functions(path) if lines > LONGEST_FUNCTION]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            start = node.body[1] if len(node.body) > 1 and ast.get_docstring(node) else node
            lines = (node.end_lineno or 0) - start.lineno + 1
            long += [(node.name, lines)] if lines > LONGEST_CLASS else []
    assert not long


@pytest.mark.parametrize("path", [*TEXTS, ROOT / "CHANGELOG.md"], ids=named)
def test_lines_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]
    # Rows of tables, pictures and commands to copy cannot be broken.
    assert [
        number for number in long if not lines[number - 1].startswith(("|", "![", "sudo"))
    ] == []


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_texts_use_the_terms_of_the_field(path: Path) -> None:
    text = " ".join(path.read_text(encoding="utf-8").split())
    found = {
        match[0]: term for words, term in BANNED.items() if (match := re.search(words, text, re.I))
    }
    assert found == {}


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("*.svg")), ids=named)
def test_pictures_load_nothing_from_the_network(path: Path) -> None:
    addresses = re.findall(r"https?://[^\"' )]+", path.read_text(encoding="utf-8"))
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # the format's name
