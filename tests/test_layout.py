from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rtden import list_models

PACKAGE = Path(__file__).parents[1] / "rtden"
# Imports run one way: a module may import those before it in this list.
ORDER = (
    *("errors", "settings", "sidecar", "quiet", "supervision", "processes"),
    *("mel", "ring", "autoencoder", "griffinlim", "denoiser", "parallel"),
    *("resample", "stream", "metrics", "files", "batch"),
    *("fade", "clock", "paced", "devices", "endpoints", "keeper", "recorder", "virtualmic", "live", "view"),
    *("bench", "presets", "doctor", "service", "evaluation", "plots", "cli"),
)
HEAVY = {"tensorflow", "keras", "librosa", "sounddevice", "matplotlib", "pesq", "pystoi", "speechmos", "onnxruntime", "scipy", "distributed", "dask"}


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_every_module_is_listed() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*ORDER, "__init__"}


@pytest.mark.parametrize("module", ORDER)
def test_imports_run_one_way(module: str) -> None:
    allowed = {f"rtden.{name}" for name in ORDER[: ORDER.index(module)]}
    ours = {name for name in imported(PACKAGE / f"{module}.py") if name == "rtden" or name.startswith("rtden.")}
    if module == "cli":  # the one door to training
        ours = {name for name in ours if name.partition("rtden.training")[0]}
    assert ours <= allowed


@pytest.mark.parametrize("module", [*ORDER, "__init__"])
def test_heavy_packages_are_imported_where_they_are_used(module: str) -> None:
    assert not {name.split(".")[0] for name in imported(PACKAGE / f"{module}.py", top_level_only=True)} & HEAVY


def test_only_training_imports_tensorflow() -> None:
    for module in ORDER:
        assert not {name.split(".")[0] for name in imported(PACKAGE / f"{module}.py")} & {"tensorflow", "keras", "librosa"}


def test_importing_rtden_loads_nothing_heavy() -> None:
    loaded = subprocess.run([sys.executable, "-c", "import sys, rtden; print(*sys.modules)"], capture_output=True, text=True, check=True).stdout
    assert not set(loaded.split()) & HEAVY


def test_denoising_a_file_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys, rtden; rtden.denoise_file({str(Path(__file__).parent / 'data' / 'clean.flac')!r}, {str(tmp_path / 'out.flac')!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(loaded.split()) & HEAVY


def test_the_wheel_brings_the_models_and_the_command(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=PACKAGE.parent, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    for model in list_models():
        assert {f"rtden/models/{model}.tflite", f"rtden/models/{model}.json"} <= names
    assert "rtden/py.typed" in names
    assert "rtden = rtden.cli:app" in entry_points
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
