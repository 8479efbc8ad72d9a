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
import numpy as np

from rtden.errors import AudioFileError, TrainingError
from rtden.files.atomic import check_target, write_whole
from rtden.model import ModelSpec, find_model, load_spec, save_spec
from rtden.training.batches import BatchSource
from rtden.training.corpus import StageReport
from rtden.training.export import WEIGHTS_SUFFIX, export, judge, load_network
from rtden.training.network import NETWORK
from rtden.training.recipe import Corpus, Recipe
from rtden.training.trainer import Progress, load_best, train
from rtden.types import Array

CALIBRATION_COLUMNS, SEQUENCE_COLUMNS = 8192, 256  # for the ranges of int8: in all, in a sequence
JUDGED_MIXTURES, MOST_LOSS_DB = 64, 1.0  # held out, and the most that SI-SDR may fall on them
RECIPES = Path(__file__).parent / "recipes"
NEW_SPEC = ModelSpec(
    name=NETWORK,
    mean_db=-30.0,
    channels=("relative_mel", "above_floor", "above_mean"),
    hop=256,
    overlap=640,
    contrast=2.5,
    iterations=0,
    frames_inverted=1,
)
"""The constants of a model that is trained from scratch."""


def load_recipe(name: str | Path, changes: dict[str, Any] | None = None) -> Recipe:
    """Return a recipe that comes with rtden, by its name, or one of your own, by its path.

    A setting that it leaves out is that of "rtden". `changes` take the place of the recipe's
    settings, except those that are None.
    """
    known = {path.stem: path for path in RECIPES.glob("*.json")}
    path = known.get(str(name), Path(name))
    try:
        content = {} if name == NETWORK else json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        names = ", ".join(sorted((*known, NETWORK, "seed")))
        raise TrainingError(
            f"there is no recipe '{name}'; give one of {names}, or the path of a JSON file."
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
    """The result of a run."""

    model_path: Path
    float_path: Path  # before quantisation, in the run's folder
    before: dict[str, float]  # as `judge` returns them: of the start, or the noisy sound
    after: dict[str, float]


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
    checkpoints and the log. `start` is a model to start with. `data` are the recordings' sources
    and licences, for the sidecar. `report` is called after every step, `stage` before and after
    them. Raises TrainingError if the result, quantised, is worse than the start on held-out
    mixtures, AudioFileError for folders without recordings and an `out` that cannot be written,
    ModelError for a `start` that cannot be trained on.
    """
    _check_out(out, force=force)
    network, spec, start_path = None, NEW_SPEC, None
    if start is not None:
        start_path = find_model(start)
        network, spec = load_network(start_path)
    options: dict[str, Any] = {"rate_hz": spec.rate_hz, "recipe": recipe, "report": stage}
    corpus = Corpus.load(speech, noise, work / "cache", **options)
    folders = {"speech": speech, "noise": noise, "start": start_path}
    named = {name: path and str(path.resolve()) for name, path in folders.items()}
    content = json.dumps(named, indent=2) + "\n"
    write_whole(work / "folders.json", content.encode(), force=True)
    train(spec, corpus, recipe, work, start=network, report=report)
    return export_run(work, out, data=data, force=force, stage=stage)


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
    if keras.backend.backend() != "tensorflow":
        raise TrainingError(
            "the network is trained, and only TensorFlow can export it: run 'rtden export "
            f"--work {work} --out {out}' with KERAS_BACKEND=tensorflow."
        )
    recipe, start, speech, noise = _read_run(work)
    spec, stage = NEW_SPEC if start is None else load_spec(start), stage or (lambda *_: None)
    corpus = Corpus.load(speech, noise, work / "cache", rate_hz=spec.rate_hz, recipe=recipe)
    network = load_best(spec, work)
    held_out = corpus.source(spec, recipe, validation=True)
    made = work / "export" / out.name
    made.parent.mkdir(exist_ok=True)

    stage("quantising to int8", 0, 3)
    sources = (data or []) + (spec.training.get("data", []) if start else [])
    training = {"recipe": recipe.to_dict(), "start": start and start.stem, "data": sources}
    description = f"Trained by 'rtden train'{f' from {start.stem}' if start else ''}."
    written = dataclasses.replace(spec, description=description, metrics={}, training=training)
    export(network, written, made, calibration=calibration_sequences(corpus.source(spec, recipe)))

    drawn = itertools.chain.from_iterable(map(held_out.mixtures, itertools.count()))
    mixtures = [*itertools.islice(drawn, JUDGED_MIXTURES)]
    judged = []
    for number, path in enumerate((start, made), 1):
        stage("comparing with the start on held-out mixtures", number, 3)
        judged.append(judge(mixtures, spec, recipe.loss(spec), path))
    before, after = judged
    figures = {"mixtures": len(mixtures), "before": before, "after": after}
    save_spec(dataclasses.replace(load_spec(made), metrics={"held_out_mixtures": figures}), made)
    _check_better(before, after, start, f"{out}; it is kept in {made.parent}")
    for suffix in (WEIGHTS_SUFFIX, ".json", ".tflite"):
        write_whole(out.with_suffix(suffix), made.with_suffix(suffix).read_bytes(), force=True)
    return Made(out, made.with_suffix(".float.tflite"), before, after)


def _read_run(work: Path) -> tuple[Recipe, Path | None, Path, Path]:
    """Return a run's recipe, the model with which it started, and its folders."""
    try:
        settings = json.loads((work / "recipe.json").read_text(encoding="utf-8"))["recipe"]
        folders = json.loads((work / "folders.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        raise TrainingError(
            f"{work} holds no training run; give the --work folder of 'rtden train'."
        ) from None
    start = folders["start"] and Path(folders["start"])
    return Recipe.from_dict(settings), start, Path(folders["speech"]), Path(folders["noise"])


def _check_out(out: Path, *, force: bool) -> None:
    """Raise AudioFileError, before hours of work, if the model cannot be written after them."""
    if out.suffix != ".tflite":
        raise AudioFileError(f"a model's name ends in .tflite, as mine.tflite; {out} does not.")
    check_target(out, force=force)
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise AudioFileError(
            f"the folder {out.parent} does not exist or cannot be written to; choose another."
        )


def calibration_sequences(source: BatchSource) -> Array:
    """Return sequences from random places of batches, as long as the mixtures at most.

    Shape (sequences, n_mels, columns, channels).
    """
    rng, found, columns = np.random.default_rng(0), list[Array](), 0
    for batch in map(source, itertools.count()):
        for features in batch.features:
            columns = min(SEQUENCE_COLUMNS, features.shape[1] // 16 * 16)
            starts = rng.integers(0, features.shape[1] - columns + 1, 4)
            found += [features[:, start : start + columns] for start in starts]
        if len(found) * columns >= CALIBRATION_COLUMNS:
            break
    return np.stack(found[: CALIBRATION_COLUMNS // columns])


def _check_better(
    before: dict[str, float], after: dict[str, float], start: Path | None, where: str
) -> None:
    """Raise TrainingError if a network is worse than its start.

    The loss decides. By it alone, a network that mutes everything can win where speech is sparse;
    SI-SDR rules that out.
    """
    fell_db = before["si_sdr_db"] - after["si_sdr_db"]
    if after["loss"] <= before["loss"] and fell_db <= MOST_LOSS_DB:
        return
    origin = f"model '{start.stem}'" if start else "the noisy sound itself"
    raise TrainingError(
        f"the new network is worse than {origin} on held-out recordings (loss "
        f"{after['loss']:.4f} against {before['loss']:.4f}, SI-SDR {after['si_sdr_db']:.1f} "
        f"against {before['si_sdr_db']:.1f} dB) and was not written to {where}: "
        "give more recordings, or more steps at a lower learning rate."
    )
