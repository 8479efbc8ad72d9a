"""Networks, in Keras 3: they train on any of its backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
from keras import layers

from rtden.errors import SettingsError
from rtden.model import ModelSpec

WIDTHS = (16, 32, 48, 64, 64)
"""Channels at 128, 64, 32, 16 and 8 frequencies; multiples of 16 train twice as fast in bfloat16."""
HIDDEN = 256
DILATIONS = (1, 2, 3)
"""Of the convolutions over all channels; with those on the way down they see the 16 columns of a window."""
FAR_DILATIONS, FAR_WIDTH = (4, 12, 32), 80
"""Of the narrower convolutions behind them: they carry over 96 columns more, 2.2 seconds, at a quarter of the weights."""


class _Past:
    """What convolutions over time see before the first column: zeros, or what the call before left.

    Parameters
    ----------
    carried : bool
        Whether it comes in as tensors "past_NAME" and leaves, with the new columns behind it, as "seen_NAME".
    """

    def __init__(self, *, carried: bool) -> None:
        self._carried = carried
        self.inputs: dict[str, keras.KerasTensor] = {}
        self.outputs: dict[str, keras.KerasTensor] = {}

    def __call__(self, x: keras.KerasTensor, columns: int, *, name: str) -> keras.KerasTensor:
        """Put `columns` columns before those of a tensor, shape (batch, columns, frequencies, channels)."""
        if not self._carried:
            return layers.ZeroPadding2D(((columns, 0), (0, 0)), name=f"{name}_pad")(x)
        past = self.inputs[f"past_{name}"] = keras.Input(
            (columns, *x.shape[2:]), name=f"past_{name}"
        )
        # Joined, both share one scale once they are quantised: the newest of what leaves goes in again as it is.
        seen = self.outputs[f"seen_{name}"] = layers.Concatenate(axis=1, name=f"{name}_join")(
            [past, x]
        )
        return seen


def rtden_network(
    spec: ModelSpec, columns: int | None = None, *, carried: bool = False
) -> keras.Model:
    """Return the default network: a U-Net over frequency, causal in time, with about 1.4 million parameters.

    Convolutions halve the frequency axis four times; at the narrow end all frequencies meet in a stack of dilated causal
    convolutions over time; sub-pixel convolutions widen the axis again, and skips bring back what the narrow end cannot
    hold, the harmonics. A column's answer depends on that column and the 111 before it. Training runs on sequences, before
    which there is silence. No transposed convolution: some runtimes cannot run its quantised form. Inside, time comes before
    frequency, so that widening the axis and flattening it are mere reshapes.

    Takes (n_mels, columns, channels), any number of columns if None; gives the share of each cell that is speech,
    (n_mels, columns, 1). If `carried`, it takes and gives dictionaries: "mel" and the columns that each convolution over time
    still remembers, "past_NAME", to "share" and "seen_NAME", whose newest columns are the next call's past. However a sequence is
    cut into calls, the answers are the same.
    """
    past = _Past(carried=carried)
    finer = spec.frames_per_column
    mel = keras.Input((spec.n_mels, columns, spec.input_channels), name="mel")
    x = (
        layers.Reshape((spec.n_mels, -1, len(spec.channels)), name="frames")(mel)
        if finer > 1
        else mel
    )
    x = layers.Permute((2, 1, 3), name="time_first")(x)
    x = _convolve(x, WIDTHS[0], frequency=5, name="enter")
    skips = []
    for level, width in enumerate(WIDTHS[1:]):
        skips.append(x)
        name = f"narrow{level}"
        seen = past(x, finer, name=name) if level < 3 else x
        x = _convolve(
            seen, width, frequency=3, time=1 + finer if level < 3 else 1, stride=2, name=name
        )

    bands, width = x.shape[2], x.shape[3]
    h = layers.Reshape((-1, 1, bands * width), name="flatten")(x)
    h = layers.Conv2D(HIDDEN, 1, activation="relu", name="squeeze")(h)
    for number, dilation in enumerate(DILATIONS):
        name = f"memory{number}"
        older = layers.Conv2D(HIDDEN, (1, 3), activation="relu", name=f"{name}_past")(
            _taps(past, h, finer * dilation, name=name)
        )
        h = _add(h, layers.Conv2D(HIDDEN, 1, name=f"{name}_mix")(older), name=name)
    for number, dilation in enumerate(FAR_DILATIONS):
        name = f"far{number}"
        thin = layers.Conv2D(FAR_WIDTH, 1, name=f"{name}_squeeze")(h)
        older = layers.Conv2D(FAR_WIDTH, (1, 3), activation="relu", name=f"{name}_past")(
            _taps(past, thin, finer * dilation, name=name)
        )
        h = _add(
            h,
            layers.Conv2D(HIDDEN, 1, kernel_initializer="zeros", name=f"{name}_mix")(older),
            name=name,
        )
    h = layers.Conv2D(bands * width, 1, name="spread")(h)
    x = _add(x, layers.Reshape((-1, bands, width), name="unflatten")(h), name="join")

    for level, skip in reversed(list(enumerate(skips))):
        x = layers.Conv2D(2 * WIDTHS[level], (1, 3), padding="same", name=f"widen{level}")(x)
        x = layers.Reshape((-1, skip.shape[2], WIDTHS[level]), name=f"interleave{level}")(x)
        x = _add(x, skip, name=f"join{level}")
    x = _convolve(x, WIDTHS[0], frequency=3, name="leave")
    share = layers.Conv2D(
        1, (1, 3), padding="same", activation="sigmoid", dtype="float32", name="share"
    )(x)
    share = layers.Permute((2, 1, 3), dtype="float32", name="frequency_first")(share)
    if finer > 1:
        share = layers.Reshape((spec.n_mels, -1, finer), dtype="float32", name="columns")(share)
    if not carried:
        return keras.Model(mel, share, name="rtden")
    return keras.Model({"mel": mel, **past.inputs}, {"share": share, **past.outputs}, name="rtden")


def _convolve(
    x: keras.KerasTensor, filters: int, *, frequency: int, time: int = 1, stride: int = 1, name: str
) -> keras.KerasTensor:
    """Convolve over frequency, whose ends are padded, and over time, whose beginning the caller has padded."""
    x = layers.ZeroPadding2D(((0, 0), (frequency // 2, frequency // 2)), name=f"{name}_edges")(x)
    return layers.Conv2D(
        filters, (time, frequency), strides=(1, stride), activation="relu", name=name
    )(x)


def _taps(past: _Past, h: keras.KerasTensor, dilation: int, *, name: str) -> keras.KerasTensor:
    """Put each column and those `dilation` and twice `dilation` before it side by side, shape (batch, columns, 3, channels).

    A dilated convolution over any number of columns would be converted to one amid a dozen operations that work out shapes.
    """
    h = past(h, 2 * dilation, name=name)
    return layers.Concatenate(axis=2, name=f"{name}_taps")(
        [h[:, : -2 * dilation], h[:, dilation:-dilation], h[:, 2 * dilation :]]
    )


def _add(x: keras.KerasTensor, more: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, more]))


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
            layers.Conv2D(
                1, 3, padding="same", activation="sigmoid", dtype="float32", name="share"
            ),
        ],
        name="seed",
    )


@dataclass(frozen=True)
class Network:
    """How a network is built."""

    build: Callable[[ModelSpec, int | None], keras.Model]
    """For windows or sequences of so many columns, of any number if None."""
    build_carried: Callable[[ModelSpec], keras.Model] | None = None
    """With its memory as inputs and outputs; only a causal network has such a form."""

    @property
    def causal(self) -> bool:
        """Whether it may train on sequences."""
        return self.build_carried is not None

    def for_export(self, spec: ModelSpec) -> keras.Model:
        """Return it as it is to be used: with its memory where it has one, else for whole windows."""
        return (
            self.build(spec, spec.frames)
            if self.build_carried is None
            else self.build_carried(spec)
        )


NETWORKS = {
    "rtden": Network(rtden_network, partial(rtden_network, carried=True)),
    "seed": Network(seed_network),
}


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
