"""Shared by all tests."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtden.autoencoder import find_runtime

DATA = Path(__file__).parent / "data"
SMALL_MODELS = sorted((DATA / "models").glob("*.tflite"))


def pytest_report_header() -> str:
    """Say what is under test: results depend on these."""
    packages = ("numpy", "soxr", "soundfile")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    return f"runtime {find_runtime().__name__.split('.')[0]}, {versions}, {platform.machine()}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail in CI if a test was skipped: what is not run there is not tested."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def noise(rng: np.random.Generator) -> np.ndarray:
    """Return a second and a half of noise at 22050 Hz."""
    return (0.1 * rng.standard_normal(33075)).astype(np.float32)


@pytest.fixture
def recordings() -> tuple[np.ndarray, np.ndarray]:
    """Return the bundled clean and noisy recordings, 22050 Hz."""
    clean, noisy = (soundfile.read(DATA / f"{name}.flac", dtype="float32")[0] for name in ("clean", "noisy"))
    return clean, noisy
