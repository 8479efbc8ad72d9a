from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import Folders

from rtden.errors import TrainingError
from rtden.model import ModelSpec
from rtden.training import trainer as trainer_module
from rtden.training.batches import Batch, draw_ahead
from rtden.training.recipe import Corpus, Recipe
from rtden.training.trainer import Progress, Trainer

SPEC = ModelSpec(name="tiny", mean_db=-30.0)
RECIPE = Recipe(
    precision="float32",
    steps=8,
    mixtures=2,
    seconds=1.0,
    validate_every=2,
    validation_batches=2,
    copies=0,
    learning_rate=1e-3,
    average=0.0,
    pesq=0.0,
    stoi=0.0,
    dnsmos=0.0,
)


def tiny(spec: ModelSpec) -> keras.Model:
    """Return a network of two convolutions over frequency."""
    mel = keras.Input((spec.n_mels, None, len(spec.channels)))
    x = keras.layers.Conv2D(16, (9, 3), padding="same", activation="relu", name="inner")(mel)
    last = {"padding": "same", "activation": "sigmoid", "dtype": "float32"}
    return keras.Model(mel, keras.layers.Conv2D(1, (3, 1), **last, name="share")(x))


train, load_best = (
    functools.partial(of, build=tiny) for of in (trainer_module.train, trainer_module.load_best)
)


@pytest.fixture(scope="module")
def corpus(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    cache = tmp_path_factory.mktemp("cache")
    return Corpus.load(*folders, cache, rate_hz=SPEC.rate_hz, recipe=RECIPE)


@pytest.fixture(scope="module")
def finished(
    corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, keras.Model, list[Progress]]:
    work = tmp_path_factory.mktemp("run")
    seen: list[Progress] = []
    return work, train(SPEC, corpus, RECIPE, work, report=seen.append), seen


def test_the_loss_falls(corpus: Corpus, tmp_path: Path) -> None:
    # Without the parts that stay large on made-up sound, whatever the network does.
    recipe = dataclasses.replace(
        RECIPE, steps=24, mixtures=4, validate_every=6, learning_rate=2e-3, distortion=0.0, seed=1
    )
    train(SPEC, corpus, recipe, tmp_path)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [6, 12, 18, 24]
    assert float(rows[-1]["validation_loss"]) < 0.95 * float(rows[0]["validation_loss"])


def test_every_step_is_reported_and_the_best_network_is_returned(
    finished: tuple[Path, keras.Model, list[Progress]], corpus: Corpus
) -> None:
    work, network, seen = finished
    assert [progress.step for progress in seen] == list(range(1, 9))
    validated = {p.step: p.validation_loss for p in seen if not np.isnan(p.validation_loss)}
    assert list(validated) == [2, 4, 6, 8]
    assert seen[-1].best_loss == min(validated.values()) == validated[seen[-1].best_step]
    for ours, best in zip(network.get_weights(), load_best(SPEC, work).get_weights(), strict=True):
        assert np.array_equal(ours, best)
    held_out = corpus.source(SPEC, RECIPE, validation=True)
    loss = RECIPE.loss(SPEC)
    trainer = Trainer(network, loss, costly=True)
    trainer.compile("sgd")
    assert abs(trainer.validation_loss([held_out(0), held_out(1)]) - seen[-1].best_loss) < 1e-5


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stopped_after", [5, 6])
def test_an_interrupted_run_goes_on_to_the_same_result(
    finished: tuple[Path, keras.Model, list[Progress]],
    corpus: Corpus,
    tmp_path: Path,
    stopped_after: int,
) -> None:
    work, expected, _ = finished

    def stop(progress: Progress) -> None:
        if progress.step == stopped_after:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(SPEC, corpus, RECIPE, tmp_path, report=stop)
    steps: list[Progress] = []
    resumed = train(SPEC, corpus, RECIPE, tmp_path, report=steps.append)
    assert steps[0].step in (5, 7)
    for ours, theirs in zip(resumed.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    logs = []
    for folder in (tmp_path, work):
        with (folder / "log.csv").open() as file:
            logs.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert logs[0] == logs[1]
    assert not list(tmp_path.glob(".new*"))


def test_it_stops_when_nothing_gets_better(corpus: Corpus, tmp_path: Path) -> None:
    seen: list[Progress] = []
    recipe = dataclasses.replace(RECIPE, steps=40, learning_rate=0.0, patience=2)
    train(SPEC, corpus, recipe, tmp_path, report=seen.append)
    assert seen[-1].step == 6  # the first validation is the best, two more are not better
    assert seen[-1].best_step == 2


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_best(
    finished: tuple[Path, keras.Model, list[Progress]],
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = draw_ahead

    def spoiled(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        for number, batch in enumerate(real(*args, **kwargs)):
            yield batch if number < 3 else dataclasses.replace(batch, noisy=batch.noisy * np.nan)

    monkeypatch.setattr(trainer_module, "draw_ahead", spoiled)
    with pytest.raises(TrainingError, match="no longer finite at step 4"):
        train(SPEC, corpus, RECIPE, tmp_path)
    assert all(np.isfinite(w).all() for w in load_best(SPEC, tmp_path).get_weights())


def test_another_recipe_does_not_go_on_with_this_run(
    finished: tuple[Path, keras.Model, list[Progress]], corpus: Corpus
) -> None:
    with pytest.raises(TrainingError, match="other settings"):
        train(SPEC, corpus, dataclasses.replace(RECIPE, steps=9), finished[0])


def test_a_run_that_has_not_begun_has_no_network(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no trained network yet"):
        load_best(SPEC, tmp_path)


def test_the_mean_of_the_weights_follows_them(corpus: Corpus, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=2, average=0.5, dnsmos=0.05, dnsmos_every=2)
    network = tiny(SPEC)
    averaged = train(SPEC, corpus, recipe, tmp_path, start=network)
    assert len(averaged.get_weights()) == len(network.get_weights())
    pairs = zip(averaged.get_weights(), network.get_weights(), strict=True)
    moved = [np.abs(ours - start).max() for ours, start in pairs]
    assert 0 < max(moved) < 2.0 * recipe.learning_rate


def test_a_time_limit_ends_the_run(corpus: Corpus, tmp_path: Path) -> None:
    seen: list[Progress] = []
    recipe = dataclasses.replace(RECIPE, steps=1000, hours=1e-6)
    train(SPEC, corpus, recipe, tmp_path, report=seen.append)
    assert len(seen) == 1
    assert seen[0].best_step == 1


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [RECIPE.rate_at(progress) for progress in np.linspace(0.0, 1.0, 101)]
    assert max(rates) == pytest.approx(RECIPE.learning_rate, rel=0.02)
    assert rates[0] < 0.02 * max(rates)
    assert rates[-1] < 0.01 * max(rates)
    assert 3 <= int(np.argmax(rates)) <= 6


def test_a_recipe_survives_json_and_refuses_unknown_settings() -> None:
    import json

    assert Recipe.from_dict(json.loads(json.dumps(RECIPE.to_dict()))) == RECIPE
    with pytest.raises(TrainingError, match="no setting speed"):
        Recipe.from_dict({"speed": 3})
    with pytest.raises(TrainingError, match="average must lie"):
        Recipe(average=1.0)
    with pytest.raises(TrainingError, match="hours must be"):
        Recipe(hours=0.0)
