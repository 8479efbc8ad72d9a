from __future__ import annotations

import json
import os
import signal

import pytest

from rtden.errors import ModelError, RtdenError, SettingsError
from rtden.measure import streams as streams_module
from rtden.measure.cost import Percentiles
from rtden.measure.streams import StreamsResult, measure_streams, most_streams


def made_up(streams: int, round_ms: float) -> StreamsResult:
    times = Percentiles(0.9 * round_ms, 0.95 * round_ms, round_ms)
    load = 0.9 * round_ms / 20.0
    return StreamsResult("rtden", streams, 1, 5.0, times, times, 20.0, load, 1.0)


@pytest.mark.alone
def test_streams_share_a_core_in_rounds() -> None:
    five = measure_streams(5, seconds=2.0)
    assert (five.model, five.streams, five.jobs) == ("rtden", 5, 1)
    assert (five.period_ms, five.audio_seconds) == (20.0, 2.0)
    assert 0.0 < five.frame.p50_ms <= five.frame.p99_ms
    # Of one run: times of two runs differ by more than their streams do.
    assert five.round.p50_ms > 2.0 * five.frame.p50_ms
    # Of all five: one alone has a fifth of this.
    assert 0.4 * five.round.p50_ms < five.load * five.period_ms < 1.2 * five.round.p99_ms
    assert five.streams_per_core == pytest.approx(5.0 / five.load)
    assert 0.0 < five.stream_mb < 20.0
    assert json.loads(json.dumps(five.to_dict(), allow_nan=False))["holds"] == five.holds


def test_streams_are_spread_over_processes() -> None:
    five = measure_streams(5, jobs=2, seconds=1.0)
    assert (five.streams, five.jobs) == (5, 2)
    assert five.load > 0.0


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "_run_streams", killed)
    with pytest.raises(RtdenError, match="ended early with 5 streams"):
        measure_streams(5, seconds=1.0)


def test_streams_hold_if_99_of_100_rounds_are_in_time() -> None:
    assert made_up(1, 19.9).holds
    assert not made_up(1, 20.0).holds


@pytest.mark.parametrize("most", [1, 2, 3, 77, 1000])
def test_the_largest_number_of_streams_is_found(most: int) -> None:
    tried = []

    def measure(streams: int) -> StreamsResult:
        tried.append(streams)
        return made_up(streams, 10.0 if streams <= most else 30.0)

    found = most_streams(measure)
    assert found.holds
    assert 0.98 * most <= found.streams <= most
    assert len(tried) < 25
    most = 0
    assert not most_streams(measure).holds


def test_what_streams_cannot_be_made_of_is_known_at_once() -> None:
    with pytest.raises(ModelError, match="no model"):
        measure_streams(1, model="no such model")
    for streams, jobs in ((0, 1), (3, 4), (2, 0)):
        with pytest.raises(SettingsError, match="processes cannot share"):
            measure_streams(streams, jobs=jobs)
