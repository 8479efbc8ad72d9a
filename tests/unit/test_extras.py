"""The line that adds an extra, in installations of every kind."""

from __future__ import annotations

import json
import os
import shlex
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from command import ended

from rtden import extras

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that this Python is a fresh environment in a folder with a space in its name."""
    prefix = tmp_path / "my tools"
    (prefix / "lib").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(prefix / "lib"))
    monkeypatch.setattr(extras, "_source", lambda extra: (f"rtden[{extra}]",))
    return prefix


@pytest.mark.skipif(os.name == "nt", reason="quoting is POSIX's here")
def test_the_line_is_of_the_tool_that_installed_rtden(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "pipx_metadata.json").touch()
    assert extras.install_command("plot") == "pipx install --force 'rtden[plot]'"
    (installed / "pipx_metadata.json").rename(installed / "uv-receipt.toml")
    assert extras.install_command("plot") == "uv tool install --force 'rtden[plot]'"
    (installed / "uv-receipt.toml").unlink()
    monkeypatch.setattr(sys, "executable", f"{installed}/bin/python")
    assert shlex.split(extras.install_command("eval")) == [
        *(f"{installed}/bin/python", "-m", "pip", "install", "rtden[eval]")
    ]
    (installed / "lib" / "EXTERNALLY-MANAGED").touch()
    assert "-m pip install" in extras.install_command("eval")  # a virtual environment may
    monkeypatch.setattr(sys, "base_prefix", str(installed))
    assert extras.install_command("eval") == "pipx install 'rtden[eval]'"


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ({}, ("rtden[dask]",)),
        ({"url": "https://host/rtden.git"}, ("rtden[dask] @ https://host/rtden.git",)),
        ({"url": "file:///a%20b/rtden", "dir_info": {}}, ("/a b/rtden[dask]",)),
        ({"url": "file:///rtden", "dir_info": {"editable": True}}, ("--editable", "/rtden[dask]")),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths are POSIX's here")
def test_an_extra_comes_from_where_rtden_came_from(
    origin: dict[str, object], source: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            return json.dumps(origin)

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed())
    assert extras._source("dask") == source


def test_the_line_is_one_that_pip_takes(tmp_path: Path) -> None:
    """In a real virtual environment with a real installation of this repository."""
    venv.create(tmp_path / "env", with_pip=False)
    purelib = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")})
    info = Path(purelib) / "rtden-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rtden\nVersion: 0.1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": REPOSITORY.as_uri(), "dir_info": {}}))
    python = tmp_path / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = (
        "import sys; sys.path.append(sys.argv[1]); from rtden.extras import install_command; "
        "print(install_command('plot'))"
    )
    said = ended([python, "-c", code, REPOSITORY], check=True).stdout
    assert said.startswith("uv pip install --python ")  # this environment has no pip
    assert f"{REPOSITORY}[plot]" in said
