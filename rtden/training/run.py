"""A whole run: recordings to a model that is better than its start, or to none."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from rtden.errors import AudioFileError, TrainingError
from rtden.files.atomic import check_target, write_whole
from rtden.model import ModelSpec, find_model, load_spec, save_spec
from rtden.training.checkpoint import write_text
from rtden.training.corpus import StageReport
from rtden.training.export import (
    WEIGHTS_SUFFIX,
    Outcome,
    export,
    judge,
    load_network,
    sequences_of,
)
from rtden.training.network import find_network
from rtden.training.recipe import Corpus, Recipe
from rtden.training.trainer import Progress, load_best, train

CALIBRATION_COLUMNS = 8192
"""Columns on which the ranges of int8 are found, and others on which the result is checked."""
SEQUENCE_WINDOWS = 8
"""Length in windows of the sequences for a stateful network."""
JUDGED_MIXTURES = 64
MOST_LOSS_DB = 1.0
"""Largest accepted fall of SI-SDR on them."""
RECIPES = Path(__file__).parent / "recipes"


def new_spec(recipe: Recipe) -> ModelSpec:
    """Return the constants of a new model."""
    if recipe.network == "seed":
        return ModelSpec(name=recipe.network, mean_db=-30.0, iterations=1, frames_inverted=1)
    return ModelSpec(
        name=recipe.network,
        mean_db=-30.0,
        channels=("relative_mel", "above_floor", "above_mean"),
        hop=256,
        overlap=640,
        iterations=0,
        frames_inverted=1,
    )


def load_recipe(name: str | Path, changes: dict[str, Any] | None = None) -> Recipe:
    """Return a recipe that comes with rtden, by its name, or one of your own, by its path.

    `changes` take the place of the recipe's settings, except those that are None.
    """
    path = RECIPES / f"{name}.json"
    if not path.is_file():
        path = Path(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        names = ", ".join(sorted(p.stem for p in RECIPES.glob("*.json")))
        raise TrainingError(
            f"there is no recipe '{name}'; give one of {names}, seed, or the path of a JSON file."
        ) from None
    except ValueError as error:
        raise TrainingError(f"{path} is no JSON file ({error}); repair it.") from None
    if not isinstance(content, dict):
        raise TrainingError(f"{path} holds no recipe; it must be a JSON object of settings.")
    content |= {name: value for name, value in (changes or {}).items() if value is not None}
    recipe = Recipe.from_dict(content)
    return dataclasses.replace(recipe, validate_every=min(recipe.validate_every, recipe.steps))


@dataclasses.dataclass(frozen=True)
class Made:
    """The result of a run.

    `before` is of the model with which the run started, or of the noisy mixtures themselves;
    `float_path` is the model before quantisation, kept in the run's folder.
    """

    model_path: Path
    float_path: Path
    outcome: Outcome
    before: Outcome
    parity: dict[str, Any]


def train_model(
    out: Path,
    *,
    speech: Path,
    noise: Path,
    work: Path,
    recipe: Recipe,
    start: str | Path | None = None,
    data: list[dict[str, Any]] | None = None,
    force: bool = False,
    report: Callable[[Progress], None] | None = None,
    stage: StageReport | None = None,
) -> Made:
    """Train on two folders and write ``NAME.tflite``, ``NAME.json`` and ``NAME.weights.npz``.

    The first two folder levels of `speech` name the speaker. `work` is for the decoded corpus,
    checkpoints and the log. `start` is a model to start with; the recipe's network is then that
    model's. `data` are the recordings' sources and licences, for the sidecar. `report` is called
    after every step, `stage` as the work before and after the steps advances.

    If the result, quantised and run by the Denoiser on held-out mixtures, is worse than the start,
    TrainingError is raised and nothing is written to `out`. Also raises AudioFileError if the
    folders hold nothing to train on, or `out` cannot be written; ModelError if `start` cannot be
    trained on.
    """
    _check_out(out, force=force)
    network, spec, start_path = None, new_spec(recipe), None
    if start is not None:
        start_path = find_model(start)
        network, spec = load_network(start_path)
        recipe = dataclasses.replace(recipe, network=spec.training["network"])
    run = _Run(work, spec, recipe, start_path, speech, noise, stage)
    folders = {"speech": speech, "noise": noise, "start": start_path}
    named = {name: path and str(path.resolve()) for name, path in folders.items()}
    write_text(work / "folders.json", json.dumps(named, indent=2) + "\n")
    trained = train(spec, run.corpus, recipe, work, start=network, report=report)
    return run.finish(trained, out, data)


def export_run(
    work: Path,
    out: Path,
    *,
    data: list[dict[str, Any]] | None = None,
    force: bool = False,
    stage: StageReport | None = None,
) -> Made:
    """Write the best network so far of a run, finished or not, as :func:`train_model` does."""
    _check_out(out, force=force)
    try:
        settings = json.loads((work / "recipe.json").read_text(encoding="utf-8"))["recipe"]
        folders = json.loads((work / "folders.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        raise TrainingError(
            f"{work} holds no training run; give the --work folder of 'rtden train'."
        ) from None
    recipe = Recipe.from_dict(settings)
    start, speech, noise = (
        path and Path(path) for path in map(folders.get, ("start", "speech", "noise"))
    )
    spec = new_spec(recipe) if start is None else load_spec(start)
    run = _Run(work, spec, recipe, start, speech, noise, stage)
    return run.finish(load_best(spec, recipe, work), out, data)


def _check_out(out: Path, *, force: bool) -> None:
    """Raise AudioFileError, before hours of work, if the model cannot be written after them."""
    if out.suffix != ".tflite":
        raise AudioFileError(
            f"a model's name ends in .tflite; call it {out.with_suffix('.tflite')}."
        )
    check_target(out, force=force)
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise AudioFileError(
            f"the folder {out.parent} does not exist or cannot be written to; choose another."
        )


class _Run:
    """The work before and after the steps of a run."""

    def __init__(
        self,
        work: Path,
        spec: ModelSpec,
        recipe: Recipe,
        start: Path | None,
        speech: Path,
        noise: Path,
        stage: StageReport | None,
    ) -> None:
        self.work, self.spec, self.recipe, self.start = work, spec, recipe, start
        self.stage = stage or (lambda *_: None)
        options: dict[str, Any] = {"rate_hz": spec.rate_hz, "recipe": recipe, "report": stage}
        self.corpus = Corpus.load(speech, noise, work / "cache", **options)

    def finish(self, network: keras.Model, out: Path, data: list[dict[str, Any]] | None) -> Made:
        """Quantise a network, judge it, and write it to `out` if it is better than its start."""
        if keras.backend.backend() != "tensorflow":
            raise TrainingError(
                "the network is trained, and only TensorFlow can export it: run 'rtden export "
                f"--work {self.work} --out {out}' with KERAS_BACKEND=tensorflow."
            )
        made = self.work / "export" / out.name
        made.parent.mkdir(exist_ok=True)
        parity = self._export(network, made, data or [])
        before, outcome = self._judge(made)
        # The loss decides. By it alone, a network that mutes everything can win where speech is
        # sparse; SI-SDR rules that out.
        if outcome.loss > before.loss or outcome.si_sdr_db < before.si_sdr_db - MOST_LOSS_DB:
            origin = f"model '{self.start.stem}'" if self.start else "the noisy sound itself"
            raise TrainingError(
                f"the new network is worse than {origin} on held-out recordings (loss "
                f"{outcome.loss:.4f} against {before.loss:.4f}, SI-SDR {outcome.si_sdr_db:.1f} "
                f"against {before.si_sdr_db:.1f} dB) and was not written to {out}; it is kept in "
                f"{made.parent}: give more recordings, or more steps at a lower learning rate."
            )
        for suffix in (WEIGHTS_SUFFIX, ".json", ".tflite"):
            content = made.with_suffix(suffix).read_bytes()
            write_whole(out.with_suffix(suffix), content, force=True)
        return Made(out, made.with_suffix(".float.tflite"), outcome, before, parity)

    def _export(
        self, network: keras.Model, made: Path, data: list[dict[str, Any]]
    ) -> dict[str, Any]:
        recipe, spec, start = self.recipe, self.spec, self.start
        self.stage("preparing the quantisation", 0, 2)
        columns = spec.frames * (SEQUENCE_WINDOWS if find_network(recipe.network).causal else 1)
        calibration, check = (
            sequences_of(
                map(self.corpus.source(spec, recipe, validation=validation), itertools.count()),
                columns,
                CALIBRATION_COLUMNS // columns,
            )
            for validation in (False, True)
        )
        self.stage("quantising to int8", 1, 2)
        data = data + (spec.training.get("data", []) if start else [])
        training = {"recipe": recipe.to_dict(), "start": start and start.stem, "data": data}
        origin = f" from {start.stem}" if start else ""
        description = f"Trained by 'rtden train' ({recipe.network}){origin}."
        written = dataclasses.replace(spec, description=description, metrics={}, training=training)
        return export(network, recipe.network, written, made, calibration=calibration, check=check)

    def _judge(self, made: Path) -> list[Outcome]:
        """Return the outcomes of the start and of the made model on held-out mixtures."""
        source = self.corpus.source(self.spec, self.recipe, validation=True)
        drawn = itertools.chain.from_iterable(map(source.mixtures, itertools.count()))
        mixtures = [*itertools.islice(drawn, JUDGED_MIXTURES)]
        outcomes = []
        for number, path in enumerate((self.start, made)):
            self.stage("comparing with the start on held-out mixtures", number, 2)
            outcomes.append(judge(mixtures, self.spec, self.recipe.loss(self.spec), path))
        figures = {n: o.to_dict() for n, o in zip(("before", "after"), outcomes, strict=True)}
        spec, judged = load_spec(made), {"mixtures": len(mixtures), **figures}
        metrics = {**spec.metrics, "held_out_mixtures": judged}
        save_spec(dataclasses.replace(spec, metrics=metrics), made)
        return outcomes
