"""Networks, in Keras 3: they train on any of its backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import layers

from rtden.errors import SettingsError
from rtden.sidecar import ModelSpec

WIDTHS = (16, 32, 48, 64, 64)
"""Channels at 128, 64, 32, 16 and 8 frequencies; multiples of 16 train twice as fast in bfloat16."""
HIDDEN = 256
DILATIONS = (1, 2, 3)


def rtden_network(spec: ModelSpec, columns: int | None = None) -> keras.Model:
    """Return the default network: a U-Net over frequency, causal in time, with about 1.2 million parameters.

    Convolutions halve the frequency axis four times; at the narrow end all frequencies meet in a stack of dilated causal
    convolutions over time; sub-pixel convolutions widen the axis again, and skips bring back what the narrow end cannot
    hold, the harmonics. A column's answer depends on that column and the 15 before it, all that a window of 16 holds,
    so that the newest column of a window equals the same column of a long sequence, and training runs on sequences.
    No transposed convolution: some runtimes cannot run its quantised form. Inside, time comes before frequency, so that
    widening the axis and flattening it are mere reshapes.

    Takes (n_mels, columns, channels), any number of columns if None; gives the share of each cell that is speech,
    (n_mels, columns, 1).
    """
    mel = keras.Input((spec.n_mels, columns, len(spec.channels)), name="mel")
    x = layers.Permute((2, 1, 3), name="time_first")(mel)
    x = _convolve(x, WIDTHS[0], frequency=5, name="enter")
    skips = []
    for level, width in enumerate(WIDTHS[1:]):
        skips.append(x)
        x = _convolve(x, width, frequency=3, time=2 if level < 3 else 1, stride=2, name=f"narrow{level}")

    bands, width = x.shape[2], x.shape[3]
    h = layers.Reshape((-1, 1, bands * width), name="flatten")(x)
    h = layers.Conv2D(HIDDEN, 1, activation="relu", name="squeeze")(h)
    for number, dilation in enumerate(DILATIONS):
        h = _remember(h, dilation, name=f"memory{number}")
    h = layers.Conv2D(bands * width, 1, name="spread")(h)
    h = layers.Reshape((-1, bands, width), name="unflatten")(h)
    x = layers.ReLU(name="join")(layers.Add(name="add")([x, h]))

    for level, skip in reversed(list(enumerate(skips))):
        x = layers.Conv2D(2 * WIDTHS[level], (1, 3), padding="same", name=f"widen{level}")(x)
        x = layers.Reshape((-1, skip.shape[2], WIDTHS[level]), name=f"interleave{level}")(x)
        x = layers.ReLU(name=f"join{level}")(layers.Add(name=f"add{level}")([x, skip]))
    x = _convolve(x, WIDTHS[0], frequency=3, name="leave")
    share = layers.Conv2D(1, (1, 3), padding="same", activation="sigmoid", dtype="float32", name="share")(x)
    return keras.Model(mel, layers.Permute((2, 1, 3), dtype="float32", name="frequency_first")(share), name="rtden")


def _convolve(x: keras.KerasTensor, filters: int, *, frequency: int, time: int = 1, stride: int = 1, name: str) -> keras.KerasTensor:
    x = layers.ZeroPadding2D(((time - 1, 0), (frequency // 2, frequency // 2)), name=f"{name}_pad")(x)
    return layers.Conv2D(filters, (time, frequency), strides=(1, stride), activation="relu", name=name)(x)


def _remember(h: keras.KerasTensor, dilation: int, *, name: str) -> keras.KerasTensor:
    past = layers.ZeroPadding2D(((2 * dilation, 0), (0, 0)), name=f"{name}_pad")(h)
    past = layers.Conv2D(HIDDEN, (3, 1), dilation_rate=(dilation, 1), activation="relu", name=f"{name}_past")(past)
    past = layers.Conv2D(HIDDEN, 1, name=f"{name}_mix")(past)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([h, past]))


def seed_network(spec: ModelSpec, columns: int | None = None) -> keras.Model:
    """Return the seed's convolutional autoencoder: 74 497 parameters for one input channel on 128 x 16.

    Its poolings halve time, too, so it is not causal: it takes whole windows, and trains on windows.
    Conv32, pool, Conv64, pool | ConvT64, ConvT32, Conv1 with a sigmoid: the share of each mel cell that is speech.
    """
    return keras.Sequential(
        [
            keras.Input((spec.n_mels, columns or spec.frames, len(spec.channels)), name="mel"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid", dtype="float32", name="share"),
        ],
        name="seed",
    )


class Network(NamedTuple):
    """How a network is built, and whether it may train on sequences."""

    build: Callable[[ModelSpec, int | None], keras.Model]
    causal: bool


NETWORKS = {"rtden": Network(rtden_network, True), "seed": Network(seed_network, False)}


def find_network(name: str) -> Network:
    """Return a network by name.

    Raises
    ------
    SettingsError
        If there is none of that name.
    """
    if name not in NETWORKS:
        raise SettingsError(f"there is no network '{name}'; choose one of {', '.join(NETWORKS)}.")
    return NETWORKS[name]
