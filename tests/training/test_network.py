from __future__ import annotations

import keras
import numpy as np
import pytest

from rtden.model import ModelSpec
from rtden.training.network import load_weights, named_weights, rtden_network

SPEC = ModelSpec(name="tiny", channels=("relative_mel", "above_floor", "above_mean"), hop=256)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return rtden_network(SPEC)


def test_a_share_for_every_cell(network: keras.Model, rng: np.random.Generator) -> None:
    share = np.asarray(network(rng.standard_normal((2, 128, 20, 3)).astype(np.float32)))
    assert share.shape == (2, 128, 20, 1)
    assert 0 <= share.min() < share.max() <= 1


@pytest.fixture(scope="module")
def awake(network: keras.Model) -> keras.Model:
    """Return the network with weights everywhere: some begin as zeros."""
    rng = np.random.default_rng(3)
    copy = rtden_network(SPEC)
    weights = network.get_weights()
    copy.set_weights([w if w.any() else rng.normal(0.0, 0.05, w.shape) for w in weights])
    return copy


def test_a_stateful_network_gives_the_same_for_any_division(
    awake: keras.Model, rng: np.random.Generator
) -> None:
    stateful = rtden_network(SPEC, stateful=True)
    stateful.set_weights(awake.get_weights())
    sequence = rng.standard_normal((1, 128, 380, 3)).astype(np.float32)
    past = {
        name: np.zeros((1, *tensor.shape[1:]), np.float32)
        for name, tensor in stateful.input.items()
        if name != "mel"
    }
    answers, start = [], 0
    for columns in (1, 2, 140, 32, 5, 200):
        given = {"mel": sequence[:, :, start : start + columns], **past}
        after = stateful(given)
        answers.append(np.asarray(after["share"]))
        past = {
            name: np.asarray(after[name.replace("past", "seen")])[:, -array.shape[1] :]
            for name, array in past.items()
        }
        start += columns
    np.testing.assert_allclose(
        np.concatenate(answers, axis=2), np.asarray(awake(sequence)), atol=1e-5
    )


def test_it_is_causal_and_remembers_three_and_a_half_seconds(
    awake: keras.Model, rng: np.random.Generator
) -> None:
    sequence = rng.standard_normal((1, 128, 380, 3)).astype(np.float32)
    changed = sequence.copy()
    changed[:, :, 40] += 1.0
    moved = np.abs(np.asarray(awake(changed)) - np.asarray(awake(sequence))).max(axis=(0, 1, 3))
    assert moved[:40].max() == 0.0
    assert moved[40:200].min() > 0.0
    assert moved[40 + 308 :].max() < 1e-6


def test_layers_that_the_weights_lack_keep_theirs(network: keras.Model) -> None:
    """A network grows between two trainings: the band memory starts as nothing."""
    grown = rtden_network(SPEC)
    named = {k: w for k, w in named_weights(network).items() if not k.startswith("band")}
    kept = load_weights(grown, named)
    assert len(kept) == 6
    assert all(name.startswith("band") for name in kept)
    mixing = [grown.get_layer(name) for name in kept if name.endswith("_mix")]
    assert not any(weight.any() for layer in mixing for weight in layer.get_weights())
    for name, weight in named.items():
        assert np.array_equal(named_weights(grown)[name], weight)
