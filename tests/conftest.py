"""Shared by all tests."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# As `rtden` sets it: on matrices as small as these a second thread waits, at the cost of a core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile

from rtden import list_models
from rtden.errors import MissingPackageError
from rtden.interpreter import find_runtime
from rtden.model import find_model, load_spec, save_spec

# A shell, or nohup, ignores some signals in what it starts, and programs inherit that; some tests
# interrupt programs, or hang up.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

DATA = Path(__file__).parent / "data"
SMALL_MODELS = sorted((DATA / "models").glob("*.tflite"))
SMALL_MODEL = DATA / "models" / "int8_two_channels.tflite"
"""It takes whole windows, as "seed" does, in a third of the time."""
MODELS = [*SMALL_MODELS, *(find_model(name) for name in list_models())]


class Folders(NamedTuple):
    """Folders of recordings to train on."""

    speech: Path
    noise: Path


def pytest_report_header() -> str:
    """Say what is under test: results depend on these."""
    packages = ("numpy", "soxr", "soundfile")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    return f"runtime {find_runtime().__name__.split('.')[0]}, {versions}, {platform.machine()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test of an extra whose packages are missing."""
    try:
        yield
    except MissingPackageError as error:
        pytest.skip(str(error))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a test was skipped where every test must run (.ci/run)."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RTDEN_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _same_handlers() -> Iterator[None]:
    """Put back what the command line does to the process that it runs in."""
    kept, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
    yield
    signal.signal(signal.SIGTERM, kept)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a network that costs a fifth be the default one: for tests of what is around it."""
    monkeypatch.setattr("rtden.model.DEFAULT_MODEL", str(SMALL_MODEL))


@pytest.fixture(scope="session")
def carried_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small network that carries a memory and has the frames of the default one."""
    path = tmp_path_factory.mktemp("model") / "carried.tflite"
    small = DATA / "models" / "int8_carried.tflite"
    path.write_bytes(small.read_bytes())
    save_spec(dataclasses.replace(load_spec(), sha256=load_spec(small).sha256), path)
    return path


@pytest.fixture
def noise(rng: np.random.Generator) -> np.ndarray:
    """Return a second and a half of noise at 22050 Hz."""
    return (0.1 * rng.standard_normal(33075)).astype(np.float32)


@pytest.fixture
def recordings() -> tuple[np.ndarray, np.ndarray]:
    """Return the bundled clean and noisy recordings, 22050 Hz."""
    clean, noisy = (
        soundfile.read(DATA / f"{name}.flac", dtype="float32")[0] for name in ("clean", "noisy")
    )
    return clean, noisy


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a folder of four talkers, twenty seconds in all, and one of five noises; made here."""
    top = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for talker in range(4):
        (top / "speech" / "made" / f"talker{talker}").mkdir(parents=True)
        for take in range(2):
            seconds = np.arange(int(2.5 * 16000)) / 16000
            voice = sum(
                np.sin(2 * np.pi * (100 + 30 * talker) * k * seconds) / k for k in range(1, 20)
            )
            signal = 0.1 * voice * np.maximum(0, np.sin(2 * np.pi * (2 + take) * seconds))
            soundfile.write(
                top / "speech" / "made" / f"talker{talker}" / f"{take}.flac", signal, 16000
            )
    (top / "noise").mkdir()
    for number in range(5):
        soundfile.write(
            top / "noise" / f"{number}.flac", 0.1 * rng.standard_normal((24000 * 2, 2)), 24000
        )
    return Folders(top / "speech", top / "noise")
