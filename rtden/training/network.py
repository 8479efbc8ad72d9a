"""Networks, in Keras 3: they train on any of its backends."""

from __future__ import annotations

import keras
from keras import layers

from rtden.sidecar import ModelSpec


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
