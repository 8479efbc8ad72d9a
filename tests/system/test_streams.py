from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from rtden.errors import ModelError, RtdenError, SettingsError
from rtden.measure.cost import Percentiles
from rtden.measure.streams import Streams, StreamsResult


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Put back what a measurement sets for the libraries of its process."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def made_up(streams: int, round_ms: float) -> StreamsResult:
    times = Percentiles(0.9 * round_ms, 0.95 * round_ms, round_ms)
    load = 0.9 * round_ms / 20.0
    return StreamsResult("rtden", streams, 1, 1, 5.0, times, times, 20.0, load, 1.0)


@pytest.mark.alone
def test_streams_share_a_core_in_rounds() -> None:
    with Streams() as carried:
        one, five = (carried.run(streams, seconds=2.0) for streams in (1, 5))
    assert (five.model, five.streams, five.jobs, five.threads) == ("rtden", 5, 1, 1)
    assert (five.period_ms, five.audio_seconds) == (20.0, 2.0)
    assert 0.0 < five.frame.p50_ms <= five.frame.p99_ms <= five.round.p99_ms
    assert five.load == pytest.approx(5.0 * one.load, rel=0.6)
    assert five.streams_per_core == pytest.approx(5.0 / five.load)
    assert 0.0 < five.stream_mb < 20.0
    assert json.loads(json.dumps(five.to_dict(), allow_nan=False))["holds"] == five.holds


def test_streams_are_spread_over_processes_and_threads() -> None:
    with Streams(jobs=2, threads=2) as carried:
        five = carried.run(5, seconds=1.0)
        assert (five.streams, five.jobs, five.threads) == (5, 2, 2)
        with pytest.raises(SettingsError, match="3 streams cannot be spread over 4 threads"):
            carried.run(3, seconds=1.0)
        next(iter(carried.pools[1]._processes.values())).kill()
        with pytest.raises(RtdenError, match="ended early with 5 streams"):
            carried.run(5, seconds=1.0)


def test_streams_hold_if_99_of_100_rounds_are_in_time() -> None:
    assert made_up(1, 19.9).holds
    assert not made_up(1, 20.0).holds


@pytest.mark.parametrize("most", [1, 2, 3, 77, 1000])
def test_the_largest_number_of_streams_is_found(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def run(_: Streams, streams: int, *, seconds: float) -> StreamsResult:
        tried.append(streams)
        return made_up(streams, 10.0 if streams <= most else 30.0)

    monkeypatch.setattr(Streams, "run", run)
    carried = Streams.__new__(Streams)
    carried.fewest = 1
    found = carried.most(seconds=5.0)
    assert found.holds
    assert 0.98 * most <= found.streams <= most
    assert len(tried) < 25
    most = 0
    assert not carried.most(seconds=5.0).holds


def test_what_streams_cannot_be_made_of_is_known_at_once() -> None:
    with pytest.raises(ModelError, match="no model"):
        Streams("no such model")
    with pytest.raises(SettingsError, match="1 or more"):
        Streams(jobs=0)
    with pytest.raises(SettingsError, match="1 or more"):
        Streams(threads=0)
