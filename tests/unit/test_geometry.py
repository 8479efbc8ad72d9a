"""Latency and the sizes that follow from a model and settings."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_MODELS
from networks import MadeUpNetwork
from streams import HOPS_PER_STEP, SAMPLED, by_model

from rtden import Denoiser, Settings
from rtden.denoiser import algorithmic_latency, settings_for_latency
from rtden.errors import InputError, SettingsError
from rtden.model import load_spec


@pytest.mark.parametrize(
    ("model", "hops_per_step", "overlap"),
    [*SAMPLED, (SMALL_MODELS[0], 1, 32), (SMALL_MODELS[1], 2, 301), (SMALL_MODELS[2], 1, 301)],
)
def test_latency_is_proved_by_an_impulse(
    model: Path, hops_per_step: int, overlap: int | None
) -> None:
    """A player that takes a sample before each one fed, from `latency` zeros on, hears the impulse
    exactly `latency` later.
    """
    sizes: dict[str, Any] = {"hops_per_step": hops_per_step, "overlap_samples": overlap}
    denoiser = Denoiser(model, Settings(**sizes, phase="warm", limit_db=0.0))
    impulse = np.zeros(3 * denoiser.step_samples + 2 * denoiser.spec.n_fft, np.float32)
    at = denoiser.spec.n_fft + 77
    impulse[at] = 1.0
    waiting = list(np.zeros(denoiser.latency.samples, np.float32))
    least, played = len(waiting), []
    for sample in impulse[:, None]:
        least = min(least, len(waiting))
        played.append(waiting.pop(0))
        waiting.extend(denoiser.feed(sample))
    assert least == 1  # never dry, and one sample less would have been too few
    assert int(np.argmax(np.abs(played))) == at + denoiser.latency.samples
    assert max(played) == pytest.approx(1.0, abs=1e-4)
    assert denoiser.latency.seconds == denoiser.latency.samples / denoiser.rate_hz


def test_latency_of_the_shipped_geometry() -> None:
    for overlap, wanted in (
        (640, (896, 1152, 1664, 2688, 4736)),
        (128, (384, 640, 1152, 2176, 4224)),
    ):
        for hops_per_step, samples in zip(HOPS_PER_STEP, wanted, strict=True):
            options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap)
            assert Denoiser(settings=options).latency.samples == samples


@pytest.mark.parametrize(
    ("wish_ms", "hops_per_step", "overlap", "samples"),
    [
        (1.0, 1, 32, 288),
        (13.0, 1, 32, 288),
        (30.0, 1, 405, 661),
        (40.6, 1, 639, 895),
        (40.64, 1, None, 896),
        (52.2, 1, None, 896),
        (52.3, 2, None, 1152),
        (1000.0, 16, None, 4736),
        (math.inf, 16, None, 4736),
    ],
)
def test_a_wish_gets_the_longest_overlap_and_then_the_largest_advance_that_fit(
    wish_ms: float, hops_per_step: int, overlap: int | None, samples: int
) -> None:
    chosen, latency = settings_for_latency(
        wish_ms, settings=Settings(strength=0.7, hops_per_step=4, overlap_samples=77)
    )
    assert chosen == Settings(strength=0.7, hops_per_step=hops_per_step, overlap_samples=overlap)
    assert latency.samples == samples
    assert latency == Denoiser(settings=chosen).latency


@pytest.mark.parametrize(
    ("wish_ms", "fewest", "hops_per_step", "overlap"),
    [
        (29.0, 2, 1, 383),
        (30.0, 2, 1, 405),
        (40.0, 2, 2, 370),
        (50.0, 2, 2, 590),
        (70.0, 2, 2, None),
        (82.0, 2, 4, None),
        (math.inf, 2, 16, None),
        (60.0, 4, 4, 299),
    ],
)
def test_more_hops_per_step_are_taken_for_less_overlap(
    wish_ms: float, fewest: int, hops_per_step: int, overlap: int | None
) -> None:
    chosen, latency = settings_for_latency(wish_ms, hops_per_step=fewest)
    assert (chosen.hops_per_step, chosen.overlap_samples) == (hops_per_step, overlap)
    assert latency.ms <= wish_ms


@by_model
def test_a_wish_is_not_exceeded_where_it_can_be_kept(model: Path) -> None:
    spec = load_spec(model)
    least = algorithmic_latency(spec, Settings(overlap_samples=32)).seconds
    for wish_ms in (10.0, 20.0, 25.0, 33.3, 50.0, 100.0, 500.0):
        chosen, latency = settings_for_latency(wish_ms, model=model)
        assert latency == Denoiser(model, chosen).latency
        assert latency.seconds <= max(wish_ms / 1000.0, least)


def test_an_overlap_longer_than_the_models_is_refused() -> None:
    with pytest.raises(SettingsError, match="640 samples at most"):
        Denoiser(settings=Settings(overlap_samples=641))
    with pytest.raises(SettingsError, match="overlap_samples"):
        Settings(overlap_samples=31)


def test_an_advance_beyond_the_networks_window_is_refused() -> None:
    network = MadeUpNetwork(
        dataclasses.replace(load_spec("seed"), window_samples=7000), np.ones_like
    )
    network.stateful = False
    with pytest.raises(InputError, match="smaller hops_per_step"):
        Denoiser(settings=Settings(hops_per_step=16), network=network)
