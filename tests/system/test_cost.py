from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from command import invoke, rtden

from rtden import Denoiser
from rtden.errors import ModelError, SettingsError
from rtden.measure import cost
from rtden.measure.cost import (
    WARM_UP_STEPS,
    BenchResult,
    Percentiles,
    Stopwatch,
    in_own_process,
    measure,
)
from rtden.model import find_model, load_spec

STAGES = ["frames", "features", "network", "inverter", "mix"]


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return measure("seed", 1, seconds=5.0)


@pytest.fixture
def environment() -> Iterator[None]:
    """Put back what a measurement sets for the libraries of its process."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def test_percentiles_are_those_of_numpy_in_milliseconds() -> None:
    found = Percentiles.of([0.001 * n for n in range(101)])
    assert dataclasses.astuple(found) == pytest.approx((50.0, 95.0, 99.0))


def test_timed_stages_change_no_sample() -> None:
    noisy = np.random.default_rng(0).standard_normal(22050).astype(np.float32) * np.float32(0.1)
    expected = Denoiser("seed").feed(noisy)
    denoiser = Denoiser("seed")
    timed = {
        name: Stopwatch(getattr(denoiser, name), method) for name, method in Denoiser.STAGES.items()
    }
    np.testing.assert_array_equal(denoiser.feed(noisy), expected)
    assert timed["network"].seconds > timed["mix"].seconds > 0.0


@pytest.mark.alone
def test_the_stages_make_up_the_step(result: BenchResult) -> None:
    assert list(result.stages) == STAGES
    for percentiles in (*result.stages.values(), result.step, result.idle):
        assert 0.0 < percentiles.p50_ms <= percentiles.p95_ms <= percentiles.p99_ms < 10_000.0
    stages_ms = sum(percentiles.p50_ms for percentiles in result.stages.values())
    assert result.step.p50_ms / 3.0 < stages_ms < 3.0 * result.step.p50_ms
    assert result.idle.p50_ms < 0.5 * result.step.p50_ms


@pytest.mark.alone
def test_figures_are_of_what_was_asked_for(result: BenchResult) -> None:
    spec = load_spec(find_model("seed"))
    steps = math.ceil(5.0 * spec.rate_hz / spec.hop) - WARM_UP_STEPS
    assert (result.model, result.hops_per_step, result.steps) == ("seed", 1, steps)
    assert result.audio_seconds == pytest.approx(steps * spec.hop / spec.rate_hz)
    assert result.latency_ms == pytest.approx(1000.0 * spec.n_fft / spec.rate_hz)
    assert result.model_kb == pytest.approx(find_model("seed").stat().st_size / 1024)
    step_ms = 1000.0 * spec.hop / spec.rate_hz
    assert result.real_time_factor >= 0.5 * result.step.p50_ms / step_ms
    figures = result.to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["headroom"] == pytest.approx(1.0 / result.real_time_factor)


@pytest.mark.usefixtures("environment")
def test_a_process_of_its_own_has_a_memory_of_its_own() -> None:
    ballast = np.ones(400 << 17)  # 400 MiB that belong to this process alone
    apart = in_own_process(measure, "seed", 2, seconds=5.0)
    assert len(ballast)
    assert 20.0 < apart.rss_mb < 400.0
    assert apart.hops_per_step == 2


@pytest.mark.usefixtures("environment")
def test_errors_of_the_measured_model_reach_the_caller() -> None:
    with pytest.raises(ModelError, match="no model"):
        in_own_process(measure, "no such model", 1, seconds=5.0)
    with pytest.raises(SettingsError, match="hops_per_step"):
        measure("seed", 3, seconds=5.0)


# The command


def bench(*arguments: str) -> Any:
    return rtden("bench", "--seconds", "5", *arguments, timeout=300)


def test_the_command_prints_every_figure_whole_and_as_json() -> None:
    result = bench("--hops-per-step", "2", "--hops-per-step", "8", "-m", "seed")
    assert result.returncode == 0, result.stderr
    for name in ("seed", *STAGES, "whole step", "in silence", "Latency", "Real-time factor"):
        assert name in result.stdout, result.stdout
    assert "…" not in result.stdout
    rows = re.findall(r"(?:\s+\d+\.\d{3}){3}\s*$", result.stdout, re.MULTILINE)
    assert len(rows) == 2 * (len(STAGES) + 2)


def test_the_command_says_whether_streams_hold() -> None:
    result = bench("--streams", "2", "--jobs", "2", "-m", "rtden")
    assert result.returncode == 0, result.stderr
    row = r"^ rtden +2 +2 +(yes|no) +\d+\.\d{3} / \d+\.\d{3} ms +\d+\.\d{2} / \d+\.\d{2} ms"
    assert re.search(row, result.stdout, re.MULTILINE), result.stdout


def test_what_a_system_cannot_measure_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "resident_mb", lambda: math.nan)
    monkeypatch.setattr(cost, "in_own_process", lambda work, *of, **how: work(*of, **how))
    options = ("-m", "seed", "--hops-per-step", "16", "--seconds", "5", "--json")
    (figures,) = json.loads(invoke("bench", *options).stdout)
    assert figures["rss_mb"] is None
    assert figures["headroom"] > 1.0
