from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from keras.initializers import Constant

from rtden.training.export import to_tflite
from rtden.training.ranges import BINS, STEPS, narrowed, quantised


def test_an_even_distribution_keeps_its_range() -> None:
    assert narrowed(-2.0, 3.0, np.ones(BINS, np.int64)) == (-2.0, 3.0)


@pytest.mark.parametrize("positive", [False, True])
def test_outliers_are_clipped_where_all_others_gain(
    rng: np.random.Generator, *, positive: bool
) -> None:
    values = np.append(rng.standard_normal(100_000), 60.0)
    values = np.abs(values) if positive else np.append(values, -60.0)
    limits = float(min(values.min(), 0.0)), float(values.max())
    low, high = narrowed(*limits, np.histogram(values, BINS, limits)[0])
    assert 3.0 < high < 20.0
    assert -20.0 < low < -3.0 or (positive and low == 0.0)

    def error(low: float, high: float) -> float:
        scale = (high - low) / STEPS
        rounded = np.clip(np.rint((values - low) / scale), 0, STEPS) * scale + low
        return float(np.mean(np.abs(rounded - values)))

    assert error(low, high) < 0.3 * error(*limits)


def test_ranges_cover_what_comes_from_earlier_calls_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The network gives ten times its input of 40 columns ago, which no single call has seen."""
    mel, past = (
        keras.Input((8, None, 1), name="mel"),
        keras.Input((40, 8, 1), name="past_only"),
    )
    seen = layers.Concatenate(axis=1)([past, layers.Permute((2, 1, 3))(mel)])
    tenfold = layers.Conv2D(1, 1, use_bias=False, kernel_initializer=Constant(10.0))
    share = layers.Permute((2, 1, 3))(tenfold(seen[:, :-40]))
    network = keras.Model({"mel": mel, "past_only": past}, {"share": share, "seen_only": seen})
    calibration = np.full((2, 8, 96, 1), 0.7, np.float32)
    content = to_tflite(network)
    capfd.readouterr()
    model = Interpreter(model_content=quantised(content, calibration))
    assert capfd.readouterr() == ("", "")
    details = model.get_signature_runner("serve").get_output_details()
    scale, zero = details["share"]["quantization"]
    assert (127 - zero) * scale == pytest.approx(7.0, rel=0.05)


def test_an_outlier_of_the_calibration_leaves_the_int8_file_exact(rng: np.random.Generator) -> None:
    keras.utils.set_random_seed(2)
    mel = keras.Input((8, None, 1), name="mel")
    inner = layers.Conv2D(16, (3, 1), padding="same", activation="relu")(mel)
    share = layers.Conv2D(1, (3, 1), padding="same", activation="sigmoid")(inner)
    network = keras.Model({"mel": mel}, {"share": share})
    calibration = rng.standard_normal((8, 8, 1024, 1)).astype(np.float32)
    calibration[0, 3, 7] = 80.0
    content = quantised(to_tflite(network), calibration)

    interpreter = Interpreter(model_content=content)
    (given,), (returned,) = interpreter.get_input_details(), interpreter.get_output_details()
    x = rng.standard_normal((1, 8, 64, 1)).astype(np.float32)
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    scale, zero = given["quantization"]
    assert scale * STEPS < 20.0
    interpreter.set_tensor(
        given["index"], np.clip(np.rint(x / scale + zero), -128, 127).astype(np.int8)
    )
    interpreter.invoke()
    scale, zero = returned["quantization"]
    shares = (interpreter.get_tensor(returned["index"]).astype(np.float32) - zero) * scale
    assert np.abs(shares - np.asarray(network({"mel": x})["share"])).max() < 0.03
