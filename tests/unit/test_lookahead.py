"""A stateful network that looks ahead: its masks come some columns late, the output in time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import MadeUpNetwork
from streams import in_chunks, whole, with_a_pause

from rtden import Denoiser, Settings
from rtden.model import ModelSpec, load_spec

LOOKAHEAD = 4
AHEAD = dataclasses.replace(load_spec(), lookahead=LOOKAHEAD)
CASES = pytest.mark.parametrize(
    ("hops_per_step", "overlap"), [(1, None), (2, 149), (4, None), (8, 301)]
)


def masks_of(columns: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Return the mask of every column but the last ones: it takes the next `LOOKAHEAD`, too."""
    newest = len(spec.channels) * (spec.frames_per_column - 1)
    over_time = columns[:, :, [newest]]
    futures = [over_time[:, n : n + columns.shape[1] - LOOKAHEAD] for n in range(LOOKAHEAD + 1)]
    level = np.max(np.concatenate(futures, axis=2), axis=2)
    mask = (1.0 / (1.0 + np.exp(-2.0 * level))).astype(np.float32)
    return np.repeat(mask, spec.frames_per_column, axis=1)


class Ahead:
    """A network that returns, for each column, the mask of the one `LOOKAHEAD` before."""

    runtime, stateful, memory_columns = "made up", True, LOOKAHEAD + 1

    def __init__(self) -> None:
        self.spec, self.calls = AHEAD, 0
        self._before: np.ndarray
        self.reset()

    def infer(self, columns: np.ndarray) -> np.ndarray:
        self.calls += 1
        known = np.concatenate([self._before, columns], axis=1)
        self._before = known[:, -LOOKAHEAD:]
        self.taken.append(columns.copy())
        return masks_of(known, self.spec)

    def reset(self) -> None:
        shape = (self.spec.n_mels, LOOKAHEAD, self.spec.input_channels)
        self._before = np.zeros(shape, np.float32)
        self.taken: list[np.ndarray] = []


class Prophet(MadeUpNetwork):
    """A network without lookahead that was told the masks of all frames."""

    def __init__(self, masks: np.ndarray) -> None:
        super().__init__(load_spec(), np.ones_like)
        self._masks = masks

    def infer(self, columns: np.ndarray) -> np.ndarray:
        start = self.frames
        super().infer(columns)
        return self._masks[:, start : self.frames]


@CASES
def test_every_mask_meets_its_own_frame_to_the_bit(
    hops_per_step: int, overlap: int | None, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    """The output is that of a causal network that knew the same masks at once."""
    noisy = recordings[1][:60000] + np.float32(1e-3)
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.8)
    network = Ahead()
    late = Denoiser(settings=options, network=network)
    out = late.feed(noisy)
    masks = masks_of(np.concatenate(network.taken, axis=1), AHEAD)
    at_once = Denoiser(settings=options, network=Prophet(masks))
    at_once.silence.needed_samples = np.inf
    expected = at_once.feed(noisy[: masks.shape[1] * AHEAD.frame_hop])
    both = min(len(out), len(expected))  # eight hops per step are more than the lookahead
    assert both > 40000
    assert np.array_equal(out[:both], expected[:both])
    assert np.array_equal(late.high_band_gains[:both], at_once.high_band_gains[:both])


@CASES
def test_lookahead_delays_by_its_hops_and_an_impulse_proves_it(
    hops_per_step: int, overlap: int | None
) -> None:
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, limit_db=0.0)
    denoiser = Denoiser(settings=options, network=Ahead())
    causal = Denoiser(settings=options).latency.samples
    assert denoiser.latency.samples == causal + LOOKAHEAD * AHEAD.hop
    at, impulse = 5000, np.zeros(5000 + 2 * denoiser.latency.samples, np.float32)
    impulse[at] = 1.0
    waiting, played, least = [0.0] * denoiser.latency.samples, [], denoiser.latency.samples
    for sample in impulse[:, None]:
        least = min(least, len(waiting))
        played.append(waiting.pop(0))
        waiting.extend(denoiser.feed(sample))
    assert least == 1  # never dry, and one sample less would have been too few
    assert int(np.argmax(np.abs(played))) == at + denoiser.latency.samples
    assert max(played) == pytest.approx(1.0, abs=1e-4)


@CASES
@pytest.mark.parametrize("steps", [1, 7])
def test_any_chunks_and_steps_computed_together_give_the_same_bits(
    hops_per_step: int, overlap: int | None, steps: int, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    """Around a pause in which the network rests, and with the last samples by `flush`."""
    signal = np.concatenate([with_a_pause(recordings[1], -85.0), np.zeros(30000, np.float32)])
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.9)
    expected = whole(Denoiser(settings=options, network=Ahead()), signal)
    assert expected.shape == signal.shape
    network = Ahead()
    denoiser = Denoiser(settings=options, network=network, batch_steps=steps)
    assert np.array_equal(in_chunks(denoiser, signal, 997), expected)
    assert network.calls < len(signal) // (hops_per_step * AHEAD.hop)  # it rested


@CASES
def test_silence_without_the_network_changes_nothing_that_is_heard(
    hops_per_step: int, overlap: int | None, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap)
    for pause_db, most in ((-np.inf, 0.0), (-85.0, 1e-4)):
        signal = with_a_pause(recordings[1], pause_db)
        awake = Denoiser(settings=options, network=Ahead())
        awake.silence.needed_samples = np.inf
        out = whole(Denoiser(settings=options, network=Ahead()), signal)
        assert np.abs(out - whole(awake, signal)).max() <= most


@CASES
def test_no_strength_is_the_input_and_no_limit_lets_it_through(
    hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    settings = Settings(hops_per_step=hops_per_step, overlap_samples=overlap)
    dry = Denoiser(settings=dataclasses.replace(settings, strength=0.0), network=Ahead())
    assert np.array_equal(whole(dry, noise), noise)
    unity = Denoiser(settings=dataclasses.replace(settings, limit_db=0.0), network=Ahead())
    error = whole(unity, noise) - noise
    assert 10 * np.log10(np.mean(error**2) / np.mean(noise**2)) < -100
