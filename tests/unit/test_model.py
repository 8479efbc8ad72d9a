from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_MODELS

from rtden.errors import ModelError, SettingsError
from rtden.model import (
    DEFAULT_MODEL,
    ModelSpec,
    find_model,
    list_models,
    load_model,
    load_spec,
    save_spec,
    sidecar_path,
)
from rtden.settings import Settings, gain_floor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    copy = tmp_path / SMALL_MODELS[0].name
    shutil.copy(SMALL_MODELS[0], copy)
    shutil.copy(sidecar_path(SMALL_MODELS[0]), sidecar_path(copy))
    return copy


def edit(model: Path, *keys: str, value: object) -> None:
    content = json.loads(sidecar_path(model).read_text())
    section = content
    for key in keys[:-1]:
        section = section[key]
    if value is None:
        del section[keys[-1]]
    else:
        section[keys[-1]] = value
    sidecar_path(model).write_text(json.dumps(content))


@pytest.mark.parametrize("name", list_models())
def test_every_shipped_model_has_a_sidecar_that_says_where_it_came_from(name: str) -> None:
    spec = load_spec(find_model(name))
    assert spec.name == name
    assert (spec.n_mels, spec.window_samples, spec.rate_hz) == (128, 8000, 22050)
    assert spec.frames == {"seed": 16}.get(name, 32)
    assert spec.training["data"]
    assert all(source["licence"] for source in spec.training["data"])
    assert spec.metrics


def test_the_default_model_comes_first() -> None:
    assert list_models()[0] == DEFAULT_MODEL
    assert find_model() == find_model(DEFAULT_MODEL)


def test_a_path_is_a_model_too(model: Path) -> None:
    assert find_model(str(model)) == find_model(model) == model


@pytest.mark.parametrize(("key", "value"), [("frames_per_column", 2), ("lookahead", 4)])
def test_a_model_of_a_form_that_is_gone_is_refused(model: Path, key: str, value: int) -> None:
    edit(model, "network", key, value=value)
    with pytest.raises(ModelError, match="train it again"):
        load_spec(model)
    edit(model, "network", key, value=int(key == "frames_per_column"))
    assert load_spec(model).hop == 512


def test_what_is_written_is_what_is_read(model: Path) -> None:
    spec = load_spec(model)
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    save_spec(spec, model)
    assert load_spec(model) == spec


@pytest.mark.parametrize("name", ["n_mels", "frames_inverted", "channels"])
def test_the_fields_of_format_2_are_checked_as_those_of_format_1(model: Path, name: str) -> None:
    save_spec(load_spec(model), model)
    edit(model, name, value=None)
    with pytest.raises(ModelError, match=f"has no '{name}'"):
        load_spec(model)
    save_spec(load_spec(SMALL_MODELS[0]), model)
    edit(model, name, value=0)
    with pytest.raises(ModelError, match=r"wrong kind|inconsistent.*; export"):
        load_spec(model)


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=f"no model 'nonesuch'.*{DEFAULT_MODEL}"):
        find_model("nonesuch")


def test_a_model_is_read_once_and_again_when_its_files_change(model: Path) -> None:
    first = load_model(model)
    assert load_model(str(model)) is load_model(first) is first
    with ThreadPoolExecutor(8) as pool:
        assert len({id(loaded) for loaded in pool.map(load_model, [None] * 50)}) == 1
    edit(model, "mel", "mean_db", value=-1.0)
    again = load_model(model)
    assert again is not first
    assert (again.spec.mean_db, again.content) == (-1.0, first.content)
    assert find_model(again) == model


def test_a_missing_sidecar_is_named(model: Path) -> None:
    sidecar_path(model).unlink()
    with pytest.raises(ModelError, match="no sidecar"):
        load_spec(model)


def test_a_changed_model_file_does_not_pass(model: Path) -> None:
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="checksum"):
        load_spec(model)


def test_a_broken_sidecar_is_one_sentence(model: Path) -> None:
    unreadable = ("", "{", "\xff", '"', "\xef\xbb\xbf{}", "[" * 100_000, '{"a":' * 100_000)
    texts = dict.fromkeys(unreadable, "cannot be read")
    texts |= dict.fromkeys(("[]", "{}", '{"format": 99}', "1e999"), "is not of format 1 or 2")
    for text, reason in texts.items():
        sidecar_path(model).write_bytes(text.encode("latin-1"))
        with pytest.raises(ModelError, match=f"sidecar .*{reason}"):
            load_spec(model)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("signal", "hop"), 300),
        (("signal", "hop"), 0),
        (("signal", "n_fft"), None),
        (("signal", "n_fft"), "many"),
        (("mel", "bands"), 0),
        (("mel", "fmax_hz"), 1e6),
        (("mel", "std_db"), "NaN"),
        (("network", "channels"), []),
        (("network", "channels"), ["colour"]),
        (("griffin_lim", "phase"), "none"),
    ],
)
def test_constants_that_cannot_be_are_refused(
    model: Path, keys: tuple[str, ...], value: object
) -> None:
    edit(model, *keys, value=value)
    with pytest.raises(ModelError, match="export the model again"):
        load_spec(model)


def test_settings_outside_their_range_are_refused() -> None:
    wrong: dict[str, tuple[Any, ...]] = {"strength": (1.1, -0.1, math.nan), "limit_db": (-1.0,)}
    wrong |= {"hops_per_step": (3,), "iterations": (-1,), "frames": (0,), "phase": ("cold",)}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(SettingsError, match=name):
                Settings(**{name: value})


def test_gain_floor_is_the_limit() -> None:
    assert gain_floor(Settings().limit_db) == 0.0
    assert gain_floor(20.0) == pytest.approx(0.1)
