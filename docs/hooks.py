"""mkdocs hooks: links to other files of the repository, as on a code host; docstrings' roles."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SHOWN = (
    *("bench/*.md", "bench/pi/*.md", "bench/results/*"),
    *("models/*.md", "models/*-data.json", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md"),
)
"""Files outside docs/ that become part of the site, under the same paths."""


def on_files(files: Files, config: Any) -> Files:
    """Add the files of :data:`SHOWN`."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at the copies of :data:`SHOWN`; keep the text alone of links to other files."""
    folder = posixpath.dirname(page.file.src_uri)

    def changed(link: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(folder or "docs", link["path"]))
        name = name.removeprefix("docs/")
        if files.get_file_from_path(name) is None:
            return link["text"] if (ROOT / name).exists() else link[0]
        return f"[{link['text']}]({posixpath.relpath(name, folder or '.')}{link['anchor'] or ''})"

    pattern = r"\[(?P<text>[^\]]*)\]\((?P<path>(?![a-z]+:)[^)#\s]+)(?P<anchor>#[^)]*)?\)"
    return re.sub(pattern, changed, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Leave out the roles of docstrings: `:class:` and the like."""
    return re.sub(r":(?:class|meth|func|mod|data|attr):(?=<code>)", "", html)
