"""Makes the small networks in models/, untrained but real: every kind of sidecar that the signal
path must handle.

python tests/data/make_models.py        (needs the extra "train")
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import keras
import numpy as np
from keras import layers

from rtden.model import ModelSpec, save_spec
from rtden.training.export import to_tflite
from rtden.training.ranges import quantised

FOLDER = Path(__file__).parent / "models"
SPECS = {
    # 75 % overlap, three channels, int8, another rate
    "int8_short_hop": ModelSpec(
        name="int8_short_hop",
        rate_hz=16000,
        window_samples=1920,
        n_fft=512,
        hop=128,
        n_mels=24,
        fmax_hz=8000.0,
        channels=("log_mel", "above_floor", "slope"),
        iterations=2,
        frames_inverted=4,
    ),
    # 50 % overlap, four channels, float32, random phase
    "float_four_channels": ModelSpec(
        name="float_four_channels",
        n_fft=1024,
        hop=512,
        n_mels=40,
        fmin_hz=50.0,
        fmax_hz=10000.0,
        channels=("log_mel", "above_floor", "above_mean", "slope"),
        iterations=3,
        frames_inverted=3,
        phase="random",
    ),
    # two channels, int8, the shipped geometry
    "int8_two_channels": ModelSpec(
        name="int8_two_channels",
        channels=("log_mel", "above_floor"),
        iterations=1,
        frames_inverted=1,
    ),
    # a memory of four columns carried from call to call, three channels, int8, the shipped geometry
    "int8_carried": ModelSpec(
        name="int8_carried", channels=("log_mel", "above_floor", "above_mean"), frames_inverted=1
    ),
}


def _windowed(shape: tuple[int, ...]) -> keras.Model:
    mel = keras.Input(shape, name="mel")
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(mel)
    share = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    return keras.Model({"mel": mel}, {"share": share})


def _carried(shape: tuple[int, ...]) -> keras.Model:
    mel, past = (
        keras.Input((shape[0], None, shape[2]), name="mel"),
        keras.Input((4, shape[0], 4), name="past_only"),
    )
    x = layers.Conv2D(4, (1, 3), padding="same", activation="relu")(layers.Permute((2, 1, 3))(mel))
    x = layers.Concatenate(axis=1)([past, x])
    share = layers.Conv2D(1, (3, 3), dilation_rate=(2, 1), activation="sigmoid")(
        layers.ZeroPadding2D(((0, 0), (1, 1)))(x)
    )
    return keras.Model(
        {"mel": mel, "past_only": past}, {"share": layers.Permute((2, 1, 3))(share), "seen_only": x}
    )


def main() -> None:
    """Write each network and its sidecar."""
    FOLDER.mkdir(exist_ok=True)
    for name, spec in SPECS.items():
        keras.utils.set_random_seed(1)
        shape = (spec.n_mels, spec.frames, len(spec.channels))
        network = (_carried if name.endswith("carried") else _windowed)(shape)
        sequences = np.random.default_rng(1).normal(0.0, 1.5, (64, *shape)).astype(np.float32)
        content = to_tflite(network)
        if name.startswith("int8"):
            content = quantised(content, sequences)
        path = FOLDER / f"{name}.tflite"
        path.write_bytes(content)
        save_spec(
            ModelSpec.from_dict(
                {
                    **spec.to_dict(),
                    "description": "Untrained, for tests.",
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            ),
            path,
        )


if __name__ == "__main__":
    main()
