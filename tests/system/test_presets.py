from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_MODELS

from rtden import Denoiser, Settings
from rtden.autoencoder import Autoencoder
from rtden.errors import ModelError, SettingsError
from rtden.live import plan
from rtden.live.plan import HIGHEST_LOAD, PRESETS, find_preset, load, self_test
from rtden.settings import HOPS_PER_STEP


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_run(name: str) -> None:
    preset = find_preset(name)
    denoiser = Denoiser(None, Settings(hops_per_step=preset.hops_per_step))
    assert denoiser.settings.hops_per_step == preset.hops_per_step
    assert 0.0 <= preset.buffer_ms <= 1000.0


def test_weaker_machines_do_less_at_a_time() -> None:
    hops_per_steps = [PRESETS[name].hops_per_step for name in ("zero2", "pi4", "pi5", "desktop")]
    assert hops_per_steps == sorted(hops_per_steps, reverse=True)
    assert hops_per_steps[0] > hops_per_steps[-1]


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        SettingsError, match="no preset 'pi3'; choose one of zero2, pi4, pi5, desktop, auto"
    ):
        find_preset("pi3")
    with pytest.raises(ModelError, match="no model"):
        find_preset("auto", "nonesuch")


@pytest.mark.alone
def test_the_self_test_takes_half_a_second_and_finds_what_this_machine_carries() -> None:
    find_preset("auto")  # loads the runtime
    began = time.perf_counter()
    Denoiser()
    made = time.perf_counter()
    found = find_preset("auto")
    # Half a second of measuring, the loading of a model for each number of hops, and some more.
    assert time.perf_counter() - made < 1.0 + 10 * (made - began)
    assert found.hops_per_step in HOPS_PER_STEP


@pytest.mark.alone
def test_the_load_is_that_of_the_steps_and_falls_with_the_advance() -> None:
    # The lowest of each, taken in turn: another program may hold the processor for a moment.
    loads = [[load(None, hops, seconds=0.2) for hops in (8, 1)] for _ in range(3)]
    eight, one = map(min, zip(*loads, strict=True))
    assert 0.0 < eight < one


class SlowNetwork(Autoencoder):
    """A network that takes 20 ms: at one hop of 23 ms a load of 0.86, at two of 0.43."""

    def infer(self, columns: np.ndarray) -> np.ndarray:
        time.sleep(0.020)
        return super().infer(columns)


def slow_denoiser(model: Path, settings: Settings) -> Denoiser:
    return Denoiser(settings=settings, network=SlowNetwork(model))


def test_a_slow_machine_gets_a_larger_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "Denoiser", slow_denoiser)
    found = self_test(SMALL_MODELS[0])
    assert found.hops_per_step >= 4
    assert found.buffer_ms == PRESETS["zero2"].buffer_ms
    assert load(SMALL_MODELS[0], 1, seconds=0.1) > HIGHEST_LOAD


def test_a_machine_that_carries_nothing_gets_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "HIGHEST_LOAD", 0.0)
    assert self_test(SMALL_MODELS[0], seconds=0.05).hops_per_step == HOPS_PER_STEP[-1]
