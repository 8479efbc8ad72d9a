"""What live sound costs in real time; bounds that hold on busy machines, too."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest

from rtden.measure.live_cost import measure_live


@pytest.mark.alone
def test_the_worker_wakes_at_most_once_a_step_and_silence_costs_little() -> None:
    measure = functools.partial(measure_live, None, seconds=6.0)  # each in a process of its own
    with ThreadPoolExecutor() as pool:
        sound, silence = pool.map(lambda silent: measure(silent=silent), (False, True))
    assert 35.0 < sound.wakes_per_second < 110.0  # two steps a turn where the ring can spare one
    assert silence.wakes_per_second < 15.0
    assert sound.worker_switches_per_second < 150.0  # waits for the interpreter's lock included
    assert silence.parts["step"] == 0.0  # nothing is computed
    working = ("step", "resampling and high band", "meters, delay, rings")
    assert sum(silence.parts[name] for name in working) < 0.2 * sum(
        sound.parts[name] for name in working
    )
    assert sum(sound.parts.values()) == pytest.approx(sound.cpu, rel=0.25)
    assert sound.to_dict()["turn"]["p99_ms"] >= sound.turn.p50_ms
