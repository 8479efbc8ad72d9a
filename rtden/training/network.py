"""Networks, in Keras 3: they train on any of its backends."""

from __future__ import annotations

import keras
from keras import layers

from rtden.sidecar import ModelSpec


def average(first: keras.Model, second: keras.Model) -> keras.Model:
    """Return the network whose weights are the mean of two, of which one was trained on from the other.

    Such a mean is often better than either (Wortsman et al., Model soups, 2022).
    """
    weights = [(a + b) / 2.0 for a, b in zip(first.get_weights(), second.get_weights(), strict=True)]
    result = keras.models.clone_model(first)
    result.set_weights(weights)
    return result


def raise_output(network: keras.Model, offset: float) -> keras.Model:
    """Return the network with `offset` added to the bias of its last layer, before the sigmoid: every share grows.

    Trained on squared errors, a network that cannot tell peaks from valleys gives both their mean, and strong cells come out
    too low; this trades a little of the noise that is taken away for less of the speech.
    """
    result = keras.models.clone_model(network)
    *weights, bias = network.get_weights()
    result.set_weights([*weights, bias + offset])
    return result


def seed_network(spec: ModelSpec) -> keras.Model:
    """Return the seed's convolutional autoencoder: 74 497 parameters for one input channel on 128 x 16.

    Conv32, pool, Conv64, pool | ConvT64, ConvT32, Conv1 with a sigmoid: the share of each mel cell that is speech.
    """
    return keras.Sequential(
        [
            keras.Input((spec.n_mels, spec.frames, len(spec.channels)), name="mel"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="share"),
        ],
        name="seed",
    )
