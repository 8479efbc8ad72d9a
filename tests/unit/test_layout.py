"""Imports run one way, and what is heavy is imported by its users alone."""

from __future__ import annotations

import ast
import functools
import sys
import zipfile
from pathlib import Path

import soundfile
from command import ended, run_python
from conftest import DATA

from rtden import list_models

PACKAGE = Path(__file__).parents[2] / "rtden"
CORE = (
    *("types", "errors", "extras", "threads", "plain", "settings", "model", "geometry"),
    *("samples", "quiet", "noise"),
    *("offset", "ring", "spectral", "trackers", "extension", "mel", "contrast", "interpreter"),
    *("autoencoder", "griffinlim", "gains", "highband", "denoiser", "resample", "stream"),
    *("backward", "recording", "frames"),
)
"""The modules at the top: each may import those before it."""
WINGS = ("files", "live", "measure", "training", "integrations", "web", "app")
"""The folders: each may import the top and the folders before it."""
MODULES = sorted(
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".")
    for path in PACKAGE.rglob("*.py")
)
HEAVY = {
    *("tensorflow", "keras", "librosa", "sounddevice", "matplotlib", "pesq", "pystoi", "speechmos"),
    *("onnxruntime", "scipy", "distributed", "dask", "av", "starlette", "uvicorn"),
}


@functools.cache
def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return found | {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    }


def source(module: str) -> Path:
    return PACKAGE / f"{module.replace('.', '/')}.py"


def test_every_module_has_its_place() -> None:
    top = {module for module in MODULES if "." not in module}
    assert top == {*CORE, "__init__", "__main__"}
    assert {module.split(".")[0] for module in MODULES if "." in module} <= set(WINGS)


def allowed(module: str) -> set[str]:
    """Return the top modules and folders that a module may import."""
    first = module.split(".", maxsplit=1)[0]
    if first in CORE:
        return set(CORE[: CORE.index(first)])
    return {*CORE, *WINGS[: WINGS.index(first) + 1]}


def test_imports_run_one_way() -> None:
    for module in MODULES:
        if not module.startswith("__"):
            ours = {name for name in imported(source(module)) if name.split(".")[0] == "rtden"}
            assert {name.split(".")[1] for name in ours} <= allowed(module), module


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    for module in MODULES:
        if not module.startswith(("training", "web.")):
            names = {name.split(".")[0] for name in imported(source(module), top_level_only=True)}
            assert not names & HEAVY, module


def test_only_training_imports_tensorflow() -> None:
    for module in MODULES:
        if not module.startswith("training"):
            names = {name.split(".")[0] for name in imported(source(module))}
            assert not names & {"tensorflow", "keras", "librosa"}, module


def test_importing_rtden_loads_nothing_heavy() -> None:
    code = "import sys, rtden; print(*sys.modules)"
    assert not loaded_by(code) & HEAVY


def test_denoising_a_file_loads_nothing_heavy(tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(DATA / "clean.flac", frames=22050)
    soundfile.write(tmp_path / "in.flac", samples, rate_hz)
    paths = f"{str(tmp_path / 'in.flac')!r}, {str(tmp_path / 'out.flac')!r}"
    code = f"import sys, rtden; rtden.denoise_file({paths}); print(*sys.modules)"
    assert not loaded_by(code) & HEAVY


def test_processes_that_work_for_a_command_load_no_command_line() -> None:
    code = "import runpy, sys; runpy.run_module('rtden.__main__', run_name='__mp_main__'); "
    assert not loaded_by(f"{code}print(*sys.modules)") & {"typer", "rich", "rtden.app.main"}


def loaded_by(code: str) -> set[str]:
    return set(run_python(code).stdout.split())


def test_the_wheel_brings_the_models_and_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    ended(command, cwd=PACKAGE.parent, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (
            archive.read(name).decode() for name in names if name.endswith("entry_points.txt")
        )
    for model in list_models():
        assert {f"rtden/models/{model}.tflite", f"rtden/models/{model}.json"} <= names
    assert "rtden/py.typed" in names
    assert "rtden = rtden.__main__:main" in entry_points
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
