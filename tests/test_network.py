from __future__ import annotations

import keras
import numpy as np
import pytest

from rtden.errors import SettingsError
from rtden.sidecar import ModelSpec
from rtden.training.network import find_network

SEED = ModelSpec(name="seed")
SPEC = ModelSpec(name="tiny", channels=("log_mel", "above_floor", "above_mean"))


def test_the_seed_is_the_notebooks() -> None:
    network = find_network("seed").build(SEED, None)
    assert network.count_params() == 74497
    assert network.output_shape == (None, 128, 16, 1)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "Conv2DTranspose", "Conv2DTranspose", "Conv2D"]


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return find_network("rtden").build(SPEC, None)


def test_a_share_for_every_cell(network: keras.Model, rng: np.random.Generator) -> None:
    share = np.asarray(network(rng.standard_normal((2, 128, 20, 3)).astype(np.float32)))
    assert share.shape == (2, 128, 20, 1)
    assert 0 <= share.min() < share.max() <= 1


def test_the_newest_column_of_a_window_is_the_column_of_the_sequence(network: keras.Model, rng: np.random.Generator) -> None:
    sequence = rng.standard_normal((1, 128, 40, 3)).astype(np.float32)
    answers = np.asarray(network(sequence))
    for end in range(SPEC.frames, 41, 3):
        window = np.asarray(network(sequence[:, :, end - SPEC.frames : end]))
        np.testing.assert_allclose(window[:, :, -1], answers[:, :, end - 1], atol=1e-5)


def test_it_is_causal_and_remembers_a_whole_window(network: keras.Model, rng: np.random.Generator) -> None:
    sequence = rng.standard_normal((1, 128, 40, 3)).astype(np.float32)
    changed = sequence.copy()
    changed[:, :, 20] += 1.0
    moved = np.abs(np.asarray(network(changed)) - np.asarray(network(sequence))).max(axis=(0, 1, 3))
    assert moved[:20].max() == 0.0
    assert moved[20 : 20 + SPEC.frames].min() > 0.0
    assert moved[20 + SPEC.frames :].max() < 1e-6


def test_a_fixed_window_has_the_same_weights(network: keras.Model, rng: np.random.Generator) -> None:
    fixed = find_network("rtden").build(SPEC, SPEC.frames)
    fixed.set_weights(network.get_weights())
    window = rng.standard_normal((1, 128, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(fixed(window)), np.asarray(network(window)), atol=1e-6)


def test_it_is_small_enough(network: keras.Model) -> None:
    assert network.count_params() < 1.4e6  # bytes, as int8


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(SettingsError, match="choose one of rtden, seed"):
        find_network("none")
