"""The network, in Keras 3: it trains on any of its backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import layers

from rtden.model import ModelSpec
from rtden.types import Array

NETWORK = "rtden"  # the network's name in sidecars
Build = Callable[..., keras.Model]  # makes a network for a model's constants: `rtden_network`

# Channels at 128, 64, 32, 16 and 8 bands; multiples of 16 train twice as fast in bfloat16.
WIDTHS = (16, 32, 48, 64, 64)
ENCODER_FRAMES = 3  # that a convolution of the encoder spans
# The memory of each band, after the third halving: dilations in frames (84, 1 s), channels.
BAND_LEVEL, BAND_DILATIONS, BAND_WIDTH = 3, (2, 8, 32), 32
# Over all bands: with the encoder they reach back over the 32 frames of a window ...
DILATIONS, HIDDEN = (2, 4, 6), 256
# ... and narrower ones behind them over 192 frames more, 2.2 s.
FAR_DILATIONS, FAR_WIDTH = (8, 24, 64), 80


class _Past:
    """Supplies the columns before the first one of a call to convolutions over time.

    If stateful, they come in as tensors "past_NAME" and leave, with the new columns behind them,
    as "seen_NAME"; otherwise they are zeros.
    """

    def __init__(self, *, stateful: bool) -> None:
        self._stateful = stateful
        self.inputs: dict[str, keras.KerasTensor] = {}
        self.outputs: dict[str, keras.KerasTensor] = {}

    def __call__(self, x: keras.KerasTensor, columns: int, *, name: str) -> keras.KerasTensor:
        """Put columns before those of x, shape (batch, columns, frequencies, channels)."""
        if not self._stateful:
            return layers.ZeroPadding2D(((columns, 0), (0, 0)), name=f"{name}_pad")(x)
        past = keras.Input((columns, *x.shape[2:]), name=f"past_{name}")
        # Joined, both share one scale once they are quantised: state out is state in, unchanged.
        seen = layers.Concatenate(axis=1, name=f"{name}_join")([past, x])
        self.inputs[past.name], self.outputs[f"seen_{name}"] = past, seen
        return seen


def rtden_network(spec: ModelSpec, *, stateful: bool = False) -> keras.Model:
    """Return the network: a U-Net over frequency, causal in time, 1.4 million parameters.

    Convolutions halve the frequency axis four times. At 16 bands, every band has a memory of its
    own, whose weights all bands share; at 8 bands, dilated convolutions over time mix all bands.
    Sub-pixel convolutions (some runtimes cannot run quantised transposed ones) widen the axis
    again, and skips return the harmonics. Inside, time comes before frequency, so that widening
    and flattening the frequency axis are reshapes.

    It takes (n_mels, columns, channels), of any length, and returns the mask, (n_mels, columns, 1).
    Before the first column lies silence; or, if `stateful`, the state is passed in and out, by a
    dictionary of "mel" and "past_NAME" to "share" and "seen_NAME", whose newest columns are the
    next call's "past_NAME".
    """
    past = _Past(stateful=stateful)
    mel = keras.Input((spec.n_mels, None, len(spec.channels)), name="mel")
    x = layers.Permute((2, 1, 3), name="time_first")(mel)
    x, skips = _encode(past, x)
    x = _mix_bands(past, x)
    x = _decode(x, skips)
    last = {"padding": "same", "activation": "sigmoid", "dtype": "float32"}
    mask = layers.Conv2D(1, (1, 3), **last, name="share")(x)
    mask = layers.Permute((2, 1, 3), dtype="float32", name="frequency_first")(mask)
    if not stateful:
        return keras.Model(mel, mask, name="rtden")
    return keras.Model({"mel": mel, **past.inputs}, {"share": mask, **past.outputs}, name="rtden")


def _encode(past: _Past, x: keras.KerasTensor) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Return x at 8 bands, and what each level holds before its frequency axis is halved."""
    x = _convolve(x, WIDTHS[0], frequency=5, name="enter")
    skips: list[keras.KerasTensor] = []
    for level, width in enumerate(WIDTHS[1:]):
        if level == BAND_LEVEL:
            for number, dilation in enumerate(BAND_DILATIONS):
                x = _band_memory(past, x, dilation, name=f"band{number}")
        skips.append(x)
        name = f"narrow{level}"
        # The last level works on single frames; the convolutions behind it have the memory.
        time = ENCODER_FRAMES if level < len(WIDTHS) - 2 else 1
        seen = past(x, time - 1, name=name) if time > 1 else x
        x = _convolve(seen, width, frequency=3, time=time, stride=2, name=name)
    return x, skips


def _band_memory(
    past: _Past, x: keras.KerasTensor, dilation: int, *, name: str
) -> keras.KerasTensor:
    """Add the output of a dilated causal convolution over time within each band.

    The last layer starts at zero: added to a trained network, a block changes nothing at first.
    """
    thin = layers.Conv2D(BAND_WIDTH, 1, activation="relu", name=f"{name}_squeeze")(x)
    older = _taps(past, thin, dilation, name=name)
    found = layers.Conv2D(x.shape[3], 1, kernel_initializer="zeros", name=f"{name}_mix")(older)
    return _add(x, found, name=name)


def _mix_bands(past: _Past, x: keras.KerasTensor) -> keras.KerasTensor:
    """Add what dilated causal convolutions over all bands at once find."""
    bands, width = x.shape[2], x.shape[3]
    h = layers.Reshape((-1, 1, bands * width), name="flatten")(x)
    h = layers.Conv2D(HIDDEN, 1, activation="relu", name="squeeze")(h)
    for number, dilation in enumerate(DILATIONS):
        name = f"memory{number}"
        taps = _taps(past, h, dilation, name=name)
        older = layers.Conv2D(HIDDEN, 1, activation="relu", name=f"{name}_past")(taps)
        h = _add(h, layers.Conv2D(HIDDEN, 1, name=f"{name}_mix")(older), name=name)
    for number, dilation in enumerate(FAR_DILATIONS):
        name = f"far{number}"
        thin = layers.Conv2D(FAR_WIDTH, 1, name=f"{name}_squeeze")(h)
        taps = _taps(past, thin, dilation, name=name)
        older = layers.Conv2D(FAR_WIDTH, 1, activation="relu", name=f"{name}_past")(taps)
        found = layers.Conv2D(HIDDEN, 1, kernel_initializer="zeros", name=f"{name}_mix")(older)
        h = _add(h, found, name=name)
    h = layers.Conv2D(bands * width, 1, name="spread")(h)
    return _add(x, layers.Reshape((-1, bands, width), name="unflatten")(h), name="join")


def _decode(x: keras.KerasTensor, skips: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Return x at all frequencies: double the frequency axis and add the skip, level by level."""
    for level, skip in reversed(list(enumerate(skips))):
        x = layers.Conv2D(2 * WIDTHS[level], (1, 3), padding="same", name=f"widen{level}")(x)
        x = layers.Reshape((-1, skip.shape[2], WIDTHS[level]), name=f"interleave{level}")(x)
        x = _add(x, skip, name=f"join{level}")
    return _convolve(x, WIDTHS[0], frequency=3, name="leave")


def _convolve(
    x: keras.KerasTensor, width: int, frequency: int, *, time: int = 1, stride: int = 1, name: str
) -> keras.KerasTensor:
    """Convolve over frequency, padded here, and over time, padded by the caller."""
    edges = (frequency // 2, frequency // 2)
    x = layers.ZeroPadding2D(((0, 0), edges), name=f"{name}_edges")(x)
    options = {"strides": (1, stride), "activation": "relu", "name": name}
    return layers.Conv2D(width, (time, frequency), **options)(x)


def _taps(past: _Past, h: keras.KerasTensor, dilation: int, *, name: str) -> keras.KerasTensor:
    """Join the channels of each column with those `dilation` and twice `dilation` before it.

    A convolution of size one on them is a dilated causal one; Keras' own trains more slowly, and
    TFLite gets a dozen operations that compute shapes with it.
    """
    h = past(h, 2 * dilation, name=name)
    taps = [h[:, : -2 * dilation], h[:, dilation:-dilation], h[:, 2 * dilation :]]
    return layers.Concatenate(axis=3, name=f"{name}_taps")(taps)


def _add(x: keras.KerasTensor, more: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, more]))


def named_weights(network: keras.Model) -> dict[str, Array]:
    """Return a network's weights, keyed by the layer's name and the weight's number."""
    return {
        f"{layer.name}/{number}": np.array(weight, np.float32)
        for layer in network.layers
        for number, weight in enumerate(layer.get_weights())
    }


def load_weights(network: keras.Model, named: Mapping[str, Array]) -> list[str]:
    """Load weights by name; return the names of layers that `named` lacks, which keep theirs."""
    kept = []
    for layer in network.layers:
        count = len(layer.get_weights())
        keys = [f"{layer.name}/{number}" for number in range(count)]
        if all(key in named for key in keys):
            layer.set_weights([np.asarray(named[key], np.float32) for key in keys])
        else:
            kept.append(layer.name)
    return kept
