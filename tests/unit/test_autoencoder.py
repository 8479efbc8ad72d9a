from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, MODELS, SMALL_MODELS
from streams import masks_of

from rtden.autoencoder import Autoencoder
from rtden.errors import ModelError
from rtden.interpreter import find_runtime
from rtden.model import find_model, load_spec, sidecar_path

REFERENCE = json.loads((DATA / "masks.json").read_text())


def drawn(path: Path | None, seed: int, columns: int, *sequences: int) -> np.ndarray:
    """Return input for a network, shape (*sequences, n_mels, columns, channels)."""
    spec = load_spec(path)
    shape = (*sequences, spec.n_mels, columns, len(spec.channels))
    return np.random.default_rng(seed).normal(-0.5, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model_gives_masks_between_zero_and_one_that_depend_on_the_input(path: Path) -> None:
    network = Autoencoder(path)
    window = drawn(path, 5, network.spec.frames)
    mask = network.infer(window).copy()
    assert mask.shape == (network.spec.n_mels, network.spec.frames)
    assert 0.0 <= mask.min() <= mask.max() <= 1.0
    assert mask.std() > 0.005
    network.reset()
    assert np.array_equal(network.infer(window), mask)
    network.reset()
    assert not np.array_equal(network.infer(window + np.float32(1.0)), mask)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model_agrees_between_runtimes(
    path: Path, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    # Rounding inside a deep int8 network differs between runtimes, and single masks with it by
    # many steps; over a recording it evens out.
    bands = masks_of(path, recordings[1], every=16).mean(axis=(1, 2))
    np.testing.assert_allclose(bands, REFERENCE[path.stem], atol=1.5 / 256)


def test_int8_tensors_are_read_by_their_own_scale() -> None:
    path = next(path for path in SMALL_MODELS if path.stem == "int8_two_channels")
    network = Autoencoder(path)
    interpreter = find_runtime().Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == wanted["dtype"] == np.int8
    window = drawn(path, 5, network.spec.frames)
    window[0, 0, 0] = 1e6  # beyond the tensor's range: saturates, does not wrap around
    window[1, 0, 0] = -1e6
    scale, zero_point = given["quantization"]
    numbers = np.clip(np.rint(window / scale) + zero_point, -128, 127).astype(np.int8)
    interpreter.set_tensor(given["index"], numbers[None])
    interpreter.invoke()
    scale, zero_point = wanted["quantization"]
    found = interpreter.get_tensor(wanted["index"])[0, :, :, 0].astype(np.float32)
    expected = (found - zero_point) * scale
    np.testing.assert_allclose(network.infer(window), expected, atol=1e-6)


STATEFUL = [path for path in MODELS if Autoencoder(path).stateful]


@pytest.mark.parametrize("path", STATEFUL, ids=lambda path: path.stem)
@pytest.mark.parametrize("columns", [1, 2, 5, 16, 40])
def test_a_stateful_memory_gives_the_same_numbers_however_a_sequence_is_cut(
    path: Path, columns: int
) -> None:
    """One call for the whole sequence is the plain path; to the bit, for the networks are int8."""
    whole, cut = Autoencoder(path), Autoencoder(path)
    sequence = drawn(path, 6, 240)
    expected = whole.infer(sequence)
    for again in range(2):
        cut.reset()
        starts = range(0, 240, columns)
        pieces = [cut.infer(sequence[:, start : start + columns]).copy() for start in starts]
        assert np.array_equal(np.concatenate(pieces, axis=1), expected), again


@pytest.mark.parametrize("path", STATEFUL, ids=lambda path: path.stem)
def test_an_answer_depends_on_the_columns_of_the_memory_and_no_others(path: Path) -> None:
    network, sequence = Autoencoder(path), drawn(path, 7, 240)
    first = network.infer(sequence).copy()
    sequence[:, 50] = 3.0
    network.reset()
    changed = np.flatnonzero((network.infer(sequence) != first).any(axis=0))
    assert changed[0] == 50
    assert changed[-1] < 50 + network.memory_columns


@pytest.mark.parametrize("path", STATEFUL, ids=lambda path: path.stem)
def test_streams_that_share_interpreters_do_not_mix(path: Path) -> None:
    sequences = drawn(path, 8, 60, 3)
    alone = [Autoencoder(path).infer(sequence).copy() for sequence in sequences]
    networks = [Autoencoder(path) for _ in sequences]
    together: list[list[np.ndarray]] = [[] for _ in sequences]
    for column, columns in zip(range(0, 60, 4), (1, 2, 4) * 5, strict=True):
        for network, sequence, masks in zip(networks, sequences, together, strict=True):
            for at in range(column, column + 4, columns):
                masks.append(network.infer(sequence[:, at : at + columns]).copy())
    for masks, expected in zip(together, alone, strict=True):
        assert np.array_equal(np.concatenate(masks, axis=1), expected)


def test_a_further_stream_makes_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Autoencoder(columns=(1, 4))
    monkeypatch.setattr("rtden.interpreter.find_runtime", lambda: pytest.fail("makes one"))
    assert Autoencoder(columns=(1, 4)).memory_columns == first.memory_columns


def test_threads_each_get_an_interpreter_and_keep_their_own_state() -> None:
    sequences = drawn(None, 9, 40, 16)

    def masks(sequence: np.ndarray) -> np.ndarray:
        network = Autoencoder()
        parts = [network.infer(sequence[:, [column]]).copy() for column in range(40)]
        return np.concatenate(parts, axis=1)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(masks, sequences))
    assert all(np.array_equal(*pair) for pair in zip(together, map(masks, sequences), strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_state_of_a_stream_goes_with_it_into_a_forked_child() -> None:
    network, columns = Autoencoder(), drawn(None, 3, 1, 6)
    expected = [network.infer(column).copy() for column in columns]
    network.reset()
    for column in columns[:3]:
        network.infer(column)
    child = os.fork()
    rest = [network.infer(column).copy() for column in columns[3:]]
    same = np.array_equal(rest, expected[3:])
    if not child:
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert same


@pytest.mark.parametrize("path", STATEFUL, ids=lambda path: path.stem)
def test_a_reset_leaves_other_streams_as_they_are(path: Path) -> None:
    first, second, columns = Autoencoder(path), Autoencoder(path), drawn(path, 4, 1, 5)
    expected = [first.infer(column).copy() for column in columns]
    first.reset()
    for column, mask in zip(columns, expected, strict=True):
        second.infer(columns[-1])
        assert np.array_equal(first.infer(column), mask)
        second.reset()
    first.reset()
    assert np.array_equal(first.infer(columns[0]), expected[0])


def test_values_of_any_size_saturate() -> None:
    network = Autoencoder(find_model())
    shape = (network.spec.n_mels, network.spec.frames, len(network.spec.channels))
    for value in (1e30, -1e30):
        assert np.isfinite(network.infer(np.full(shape, value, np.float32))).all()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    copy = tmp_path / "copy.tflite"
    shutil.copy(SMALL_MODELS[0], copy)
    shutil.copy(sidecar_path(SMALL_MODELS[0]), sidecar_path(copy))
    return copy


def rewrite(model: Path, **changes: object) -> None:
    import hashlib

    content = json.loads(sidecar_path(model).read_text())
    content["sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
    for section, values in changes.items():
        content[section].update(values)
    sidecar_path(model).write_text(json.dumps(content))


def test_a_sidecar_of_another_shape_is_refused(model: Path) -> None:
    rewrite(model, mel={"bands": 64})
    with pytest.raises(ModelError, match=r"shape.*sidecar calls for"):
        Autoencoder(model)


def test_a_file_that_is_no_model_is_one_sentence(model: Path) -> None:
    model.write_bytes(b"this is no flatbuffer" * 50)
    rewrite(model)
    with pytest.raises(ModelError, match="cannot load the model"):
        Autoencoder(model)
