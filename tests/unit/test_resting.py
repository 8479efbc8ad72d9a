from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from conftest import MODELS
from networks import MadeUpNetwork
from streams import HOPS_PER_STEP, SAMPLED, by_hops, in_chunks, whole, with_a_pause

from rtden import Denoiser, Settings
from rtden.denoiser import BATCH_STEPS
from rtden.model import CHANNELS, ModelSpec, load_spec

PAUSES = (17000, 20000, 23500, 77175)


def never_skipping(model: Path | None = None, settings: Settings | None = None) -> Denoiser:
    denoiser = Denoiser(model, settings)
    denoiser.silence.needed_samples = np.inf
    return denoiser


@pytest.mark.parametrize(
    ("model", "hops_per_step", "overlap", "phase"),
    [
        (*item, ("warm", "random")[(number + number // len(MODELS)) % 2])
        for number, item in enumerate(SAMPLED)
    ],
)
def test_digital_silence_without_the_network_changes_nothing_to_the_bit(
    model: Path,
    hops_per_step: int,
    overlap: int | None,
    phase: Literal["warm", "random"],
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    signal = with_a_pause(recordings[1], -np.inf)
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, phase=phase)
    assert np.array_equal(
        whole(Denoiser(model, options), signal), whole(never_skipping(model, options), signal)
    )


@pytest.mark.parametrize(
    ("hops_per_step", "limit_db", "pause_db"),
    [(1, np.inf, -80.1), (2, 12.0, -100.0), (4, 0.0, -80.1), (8, np.inf, -100.0)],
)
def test_silence_below_80_db_without_the_network_changes_no_sample_by_more_than_that(
    hops_per_step: int, limit_db: float, pause_db: float, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    signal = with_a_pause(recordings[1], pause_db)
    options = Settings(hops_per_step=hops_per_step, limit_db=limit_db)
    both = Denoiser(settings=options), never_skipping(settings=options)
    skipped, computed = (whole(denoiser, signal) for denoiser in both)
    difference = np.abs(skipped - computed).max()
    assert 0.0 < difference < 1e-4  # 0 would mean that nothing had been left out


@by_hops
def test_the_network_rests_in_silence_and_is_back_at_the_first_step_that_is_not(
    hops_per_step: int, noise: np.ndarray
) -> None:
    network = MadeUpNetwork(load_spec(), np.ones_like)
    denoiser = Denoiser(settings=Settings(hops_per_step=hops_per_step), network=network)
    step, sound = denoiser.step_samples, np.tile(noise, 2)

    def calls_for(signal: np.ndarray) -> int:
        before = network.calls
        for at in range(0, len(signal), step):  # each is computed alone
            denoiser.feed(signal[at : at + step])
        return network.calls - before

    assert calls_for(sound[: 10 * step]) >= 9
    hush = np.random.default_rng(1).uniform(-0.99e-4, 0.99e-4, 24 * step).astype(np.float32)
    calls_for(np.tile(hush, 3))  # fills the network's window, the inverter and two steps
    assert calls_for(hush[: 20 * step]) in (20 // BATCH_STEPS, 20 // BATCH_STEPS + 1)
    assert max(calls_for(hush[:step]) for _ in range(8)) == 1
    assert 1 <= calls_for(np.full(step, 1.01e-4, np.float32)) <= BATCH_STEPS - 1
    assert calls_for(sound[: 10 * step]) == 10


def test_no_column_is_lost_or_taken_twice_in_silence(noise: np.ndarray) -> None:
    """Only columns that cannot change the state may be left out: digital silence, long enough."""
    hush = np.tile(noise, 3) * np.float32(2e-4)
    network = MadeUpNetwork(load_spec(), np.ones_like)
    network.memory_columns = 50
    denoiser = Denoiser(network=network)
    denoiser.feed(np.concatenate([noise, hush, noise]))
    assert network.frames == (2 * len(noise) + len(hush)) // 256
    before = network.frames
    denoiser.feed(np.zeros(256 * 300, np.float32))
    taken = network.frames - before
    assert 50 < taken < 50 + 60  # the rest are equal to those before
    denoiser.feed(noise)
    assert network.frames - before > taken + len(noise) // 256 - 2


@pytest.mark.parametrize(
    ("model", "hops_per_step", "overlap", "steps"),
    [(*item, (2, 7, 64)[number % 3]) for number, item in enumerate(SAMPLED)],
)
def test_steps_computed_together_give_the_same_samples_to_the_bit(
    model: Path,
    hops_per_step: int,
    overlap: int | None,
    steps: int,
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    """Speech, a pause in which the network rests, digital silence in the middle of a block, and
    speech at another strength.
    """
    signal = np.concatenate(
        [with_a_pause(recordings[1], -85.0), np.zeros(5000, np.float32), recordings[1][:20000]]
    )
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.9)
    single, together = (Denoiser(model, options, batch_steps=most) for most in (1, steps))
    assert together.latency == single.latency
    out = single.feed(signal)
    assert np.array_equal(together.feed(signal), out)
    assert np.array_equal(together.high_band.gains, single.high_band.gains)
    rest = single.flush()
    assert np.array_equal(together.flush(), rest)
    assert np.array_equal(in_chunks(together, signal, 5000), np.concatenate([out, rest]))


@pytest.mark.parametrize(
    ("model", "hops_per_step", "pause_samples"),
    [
        (model, HOPS_PER_STEP[(2 * number + turn) % 5], PAUSES[(number + 2 * turn) % 4])
        for number, model in enumerate(MODELS)
        for turn in range(2)
    ],
)
def test_after_silence_the_network_remembers_what_it_would_have(
    model: Path, hops_per_step: int, pause_samples: int, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    """However long it rested, and whatever it was given at once or had to catch up with: its next
    answers are the same to the bit.
    """
    signal = with_a_pause(recordings[1], -85.0, pause_samples)
    options = Settings(hops_per_step=hops_per_step, iterations=0, phase="warm")
    gains = []
    for denoiser in (Denoiser(model, options), never_skipping(model, options)):
        denoiser.feed(signal)
        gains.append(denoiser.band_gains)
    assert np.array_equal(gains[0], gains[1])


def test_a_recording_that_is_quiet_throughout_is_not_muted(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    speech = recordings[0][:66150] * np.float32(0.99e-4 / np.abs(recordings[0]).max())
    out = whole(Denoiser(), speech)
    assert np.mean(out[30000:] ** 2) > 0.01 * np.mean(speech[30000:] ** 2)


@pytest.mark.parametrize("channel", CHANNELS)
def test_features_that_are_not_computed_in_digital_silence_are_what_they_would_be(
    channel: str, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    spec = dataclasses.replace(load_spec(), channels=(channel, "above_mean"))
    signal = with_a_pause(recordings[1], -np.inf)
    seen = []
    for settled_samples in (None, 1 << 62):
        network = Recorder(spec, np.ones_like)
        denoiser = Denoiser(network=network)
        denoiser.silence.needed_samples = np.inf
        denoiser._settled_samples = settled_samples or denoiser._settled_samples
        denoiser.feed(signal)
        seen.append(np.stack(network.columns))
    assert np.array_equal(seen[0], seen[1])


class Recorder(MadeUpNetwork):
    """A network that keeps the columns that it is given."""

    def __init__(self, spec: ModelSpec, mask: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(spec, mask)
        self.columns: list[np.ndarray] = []

    def infer(self, columns: np.ndarray) -> np.ndarray:
        self.columns.append(columns.copy())
        return super().infer(columns)
