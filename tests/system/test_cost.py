from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator

import numpy as np
import pytest

from rtden import Denoiser
from rtden.errors import InputError, ModelError, RtdenError, SettingsError
from rtden.measure.cost import (
    WARM_UP_STEPS,
    BenchResult,
    Percentiles,
    Streams,
    StreamsResult,
    measure,
    measure_apart,
)
from rtden.model import find_model, load_spec

pytestmark = pytest.mark.real_time

STAGES = ["frames", "features", "network", "inverter", "mix"]


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return measure("seed", 1, seconds=5.0)


@pytest.fixture
def _environment() -> Iterator[None]:
    """Put back what a measurement tells the libraries of its process."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def test_every_stage_is_measured_in_its_order(result: BenchResult) -> None:
    assert list(result.stages) == STAGES == list(Denoiser.STAGES)


def test_percentiles_are_positive_and_in_order(result: BenchResult) -> None:
    for percentiles in (*result.stages.values(), result.step, result.idle):
        assert 0.0 < percentiles.p50_ms <= percentiles.p95_ms <= percentiles.p99_ms < 10_000.0


def test_percentiles_are_those_of_numpy_in_milliseconds() -> None:
    assert Percentiles.of([0.001 * n for n in range(101)]) == Percentiles(
        pytest.approx(50.0), pytest.approx(95.0), pytest.approx(99.0)
    )


def test_the_stages_make_up_the_step(result: BenchResult) -> None:
    stages_ms = sum(percentiles.p50_ms for percentiles in result.stages.values())
    assert stages_ms < 3.0 * result.step.p50_ms
    assert stages_ms > result.step.p50_ms / 3.0


def test_a_step_in_silence_costs_a_fraction(result: BenchResult) -> None:
    assert 0.0 < result.idle.p50_ms < 0.5 * result.step.p50_ms


def test_what_was_measured_is_what_was_asked_for(result: BenchResult) -> None:
    spec = load_spec(find_model("seed"))
    assert result.model == "seed"
    assert result.hops_per_step == 1
    assert result.runtime == Denoiser().runtime
    assert result.steps == math.ceil(5.0 * spec.rate_hz / spec.hop) - WARM_UP_STEPS
    assert result.audio_seconds == pytest.approx(
        5.0 - WARM_UP_STEPS * spec.hop / spec.rate_hz, abs=spec.hop / spec.rate_hz
    )
    assert result.model_kb == pytest.approx(find_model("seed").stat().st_size / 1024)


def test_the_real_time_factor_and_the_headroom_follow_from_the_step(result: BenchResult) -> None:
    step_ms = 1000.0 * load_spec(find_model("seed")).hop / 22050
    assert result.real_time_factor >= 0.5 * result.step.p50_ms / step_ms
    assert result.headroom == pytest.approx(1.0 / result.real_time_factor)


@pytest.mark.parametrize("hops_per_step", [1, 2, 8])
def test_the_latency_is_a_frame_and_the_hops_that_are_waited_for(hops_per_step: int) -> None:
    spec = load_spec(find_model("seed"))
    wanted_ms = (
        1000.0 * (spec.n_fft + (hops_per_step - 1 + spec.lookahead) * spec.hop) / spec.rate_hz
    )
    assert measure("seed", hops_per_step, seconds=5.0).latency_ms == pytest.approx(wanted_ms)


def test_all_figures_survive_json(result: BenchResult) -> None:
    figures = result.to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["headroom"] == result.headroom
    assert list(figures["stages"]) == STAGES
    assert set(figures["step"]) == {"p50_ms", "p95_ms", "p99_ms"}
    assert {
        "model",
        "runtime",
        "hops_per_step",
        "audio_seconds",
        "steps",
        "real_time_factor",
        "latency_ms",
        "rss_mb",
        "model_kb",
    } <= set(figures)


@pytest.mark.usefixtures("_environment")
def test_a_process_of_its_own_has_a_sane_memory_of_its_own() -> None:
    ballast = np.ones(400 << 17)  # 400 MiB that belong to this process alone
    apart = measure_apart("seed", 2, seconds=5.0)
    assert 20.0 < apart.rss_mb < 2000.0
    assert apart.rss_mb < measure("seed", 2, seconds=5.0).rss_mb - 200.0
    assert len(ballast)
    assert apart.hops_per_step == 2
    assert list(apart.stages) == STAGES


@pytest.mark.usefixtures("_environment")
def test_errors_of_the_measured_model_reach_the_caller() -> None:
    with pytest.raises(ModelError, match="no model"):
        measure_apart("no such model", 1, seconds=5.0)
    with pytest.raises(SettingsError, match="hops_per_step"):
        measure("seed", 3, seconds=5.0)


# Many streams at once


def made_up(streams: int, round_ms: float) -> StreamsResult:
    times = Percentiles(0.9 * round_ms, 0.95 * round_ms, round_ms)
    return StreamsResult(
        "seed", "none", 1, streams, 1, 5.0, times, times, 20.0, 0.9 * round_ms / 20.0
    )


@pytest.mark.usefixtures("_environment")
def test_streams_share_a_core_in_rounds() -> None:
    spec = load_spec(find_model("seed"))
    with Streams("seed") as carried:
        one, five = (carried.run(streams, seconds=2.0) for streams in (1, 5))
    assert (five.model, five.hops_per_step, five.streams, five.jobs) == ("seed", 1, 5, 1)
    assert five.period_ms == pytest.approx(1000.0 * spec.hop / spec.rate_hz)
    assert five.audio_seconds == pytest.approx(2.0, abs=0.03)
    assert 0.0 < five.step.p50_ms <= five.step.p99_ms <= five.round.p99_ms
    assert five.round.p50_ms == pytest.approx(5.0 * five.step.p50_ms, rel=0.5)
    assert 2.0 * one.round.p50_ms < five.round.p50_ms < 15.0 * one.round.p50_ms
    assert five.load > 0.5 * five.round.p50_ms / five.period_ms
    assert json.loads(json.dumps(five.to_dict(), allow_nan=False))["holds"] == five.holds


@pytest.mark.usefixtures("_environment")
def test_streams_are_shared_out_among_processes() -> None:
    with Streams("seed", 2, jobs=2) as carried:
        three = carried.run(3, seconds=2.0)
        assert (three.streams, three.jobs) == (3, 2)
        assert three.load > 0.5 * 3 * three.step.p50_ms / three.period_ms
        with pytest.raises(SettingsError, match="1 streams cannot be shared out among 2 processes"):
            carried.run(1, seconds=2.0)
        carried._processes[1].kill()
        with pytest.raises(RtdenError, match="ended early with 3 streams"):
            carried.run(3, seconds=2.0)


def test_streams_hold_if_99_of_100_rounds_are_in_time() -> None:
    assert made_up(1, 19.9).holds
    assert not made_up(1, 20.0).holds


@pytest.mark.parametrize("most", [1, 2, 3, 77, 1000])
def test_the_largest_number_of_streams_is_found(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def run(_: Streams, streams: int, *, seconds: float) -> StreamsResult:
        assert seconds == 5.0
        tried.append(streams)
        return made_up(streams, 10.0 if streams <= most else 30.0)

    monkeypatch.setattr(Streams, "run", run)
    carried = Streams.__new__(Streams)
    carried._pipes = [object()]
    found = carried.most(seconds=5.0)
    assert found.holds
    assert 0.98 * most <= found.streams <= most
    assert len(tried) < 25
    most = 0
    assert not carried.most(seconds=5.0).holds


def test_what_streams_cannot_be_made_of_is_known_at_once() -> None:
    with pytest.raises(ModelError, match="no model"):
        Streams("no such model")
    with pytest.raises(SettingsError, match="jobs"):
        Streams("seed", jobs=0)
    with pytest.raises((SettingsError, InputError), match="hops_per_step"):
        Streams("seed", 3)
