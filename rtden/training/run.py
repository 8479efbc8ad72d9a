"""A whole run: recordings to a model that is better than what it started from, or none at all."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from rtden.errors import AudioFileError, TrainingError
from rtden.model import ModelSpec, find_model, load_spec, save_spec
from rtden.training.export import (
    WEIGHTS_SUFFIX,
    Outcome,
    export,
    held_out_mixtures,
    judge,
    load_network,
    sequences_of,
)
from rtden.training.network import find_network
from rtden.training.recipe import Corpus, Progress, Recipe, load_best, train

CALIBRATION_COLUMNS = CHECK_COLUMNS = 8192
SEQUENCE_WINDOWS = 8
"""Length of the sequences for a network with a memory, in windows."""
JUDGED_MIXTURES = 64
MOST_LOSS_DB = 1.0
"""By how much SI-SDR on them may fall."""


def new_spec(recipe: Recipe) -> ModelSpec:
    """Return the constants of a model that is begun anew."""
    if recipe.network == "seed":
        return ModelSpec(name=recipe.network, mean_db=-30.0, iterations=1, frames_inverted=1)
    channels = ("log_mel", "above_floor", "above_mean")
    return ModelSpec(
        name=recipe.network,
        mean_db=-30.0,
        channels=channels,
        frames_per_column=2,
        iterations=0,
        frames_inverted=1,
    )


@dataclasses.dataclass(frozen=True)
class Made:
    """What a run gave."""

    model_path: Path
    float_path: Path
    """The same before quantisation, kept in the run's folder."""
    outcome: Outcome
    before: Outcome
    """Of the model that the run started from, or of the noisy mixtures themselves."""
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
) -> Made:
    """Train on two folders and write the model: ``NAME.tflite``, ``NAME.json`` and ``NAME.weights.npz``.

    Parameters
    ----------
    out : Path
        The .tflite file to write.
    speech, noise : Path
        Folders of recordings. The first two folder levels of `speech` tell speakers apart.
    work : Path
        Folder for the decoded corpus, checkpoints and the log.
    start : str or Path, optional
        A model to go on from, by name or path; then the recipe's network is that model's.
    data : list of dict, optional
        The recordings' sources and licences, for the sidecar.
    force : bool
        Overwrite a model.
    report : callable, optional
        Called after every step.

    Raises
    ------
    TrainingError
        If the outcome, quantised and run by the Denoiser on held-out mixtures, is worse than its start; nothing is
        written to `out` then. Also as :func:`rtden.training.recipe.train` says.
    AudioFileError
        If the folders hold nothing to train on, or `out` exists or cannot be written.
    ModelError
        If `start` cannot be trained on.
    """
    check_out(out, force=force)
    network, spec, start_path = None, new_spec(recipe), None
    if start is not None:
        start_path = find_model(start)
        network, spec = load_network(start_path)
        recipe = dataclasses.replace(recipe, network=spec.training["network"])
    work.mkdir(parents=True, exist_ok=True)
    folders = {
        "speech": str(speech.resolve()),
        "noise": str(noise.resolve()),
        "start": None if start_path is None else str(start_path.resolve()),
    }
    corpus = Corpus.load(
        speech, noise, work / "cache", rate_hz=spec.rate_hz, copies=recipe.copies, seed=recipe.seed
    )
    (work / "folders.json").write_text(json.dumps(folders, indent=2) + "\n", encoding="utf-8")
    trained = train(spec, corpus, recipe, work, start=network, report=report)
    return _finish(trained, spec, corpus, recipe, work, out, start_path, data)


def export_run(
    work: Path, out: Path, *, data: list[dict[str, Any]] | None = None, force: bool = False
) -> Made:
    """Write the best network so far of a run, finished or not, as :func:`train_model` does at its end.

    Raises
    ------
    TrainingError
        If `work` holds no run, or its best network is worse than what it started from.
    AudioFileError
        If the run's recordings have gone, or `out` exists or cannot be written.
    """
    check_out(out, force=force)
    try:
        settings = json.loads((work / "recipe.json").read_text(encoding="utf-8"))["recipe"]
        folders = json.loads((work / "folders.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        raise TrainingError(
            f"{work} holds no training run; give the --work folder of 'rtden train'."
        ) from None
    recipe = Recipe(**{**settings, "resolutions": tuple(settings["resolutions"])})
    start_path = Path(folders["start"]) if folders["start"] else None
    spec = new_spec(recipe) if start_path is None else load_spec(start_path)
    corpus = Corpus.load(
        Path(folders["speech"]),
        Path(folders["noise"]),
        work / "cache",
        rate_hz=spec.rate_hz,
        copies=recipe.copies,
        seed=recipe.seed,
    )
    return _finish(load_best(spec, recipe, work), spec, corpus, recipe, work, out, start_path, data)


def check_out(out: Path, *, force: bool) -> None:
    """Find out before hours of work whether the model can be written after them.

    Raises
    ------
    AudioFileError
        If not.
    """
    if out.suffix != ".tflite":
        raise AudioFileError(
            f"a model's name ends in .tflite; call it {out.with_suffix('.tflite')}."
        )
    if not force and out.exists():
        raise AudioFileError(
            f"{out} exists already; choose another name, or overwrite it with --force."
        )
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise AudioFileError(
            f"the folder {out.parent} does not exist or cannot be written to; choose another."
        )


def _finish(
    network: keras.Model,
    spec: ModelSpec,
    corpus: Corpus,
    recipe: Recipe,
    work: Path,
    out: Path,
    start_path: Path | None,
    data: list[dict[str, Any]] | None,
) -> Made:
    held_out = corpus.source(spec, recipe, validation=True)
    columns = spec.frames * (SEQUENCE_WINDOWS if find_network(recipe.network).causal else 1)
    numbers = range(CALIBRATION_COLUMNS)  # more than enough
    calibration = sequences_of(
        map(corpus.source(spec, recipe), numbers), columns, CALIBRATION_COLUMNS // columns
    )
    check = sequences_of(map(held_out, numbers), columns, CHECK_COLUMNS // columns)
    before_training = dict(spec.training)
    spec = dataclasses.replace(
        spec,
        description=f"Trained by 'rtden train' ({recipe.network})"
        + (f" from {start_path.stem}." if start_path else "."),
        metrics={},
        training={
            "recipe": dataclasses.asdict(recipe),
            "start": None if start_path is None else start_path.stem,
            "data": (data or []) + (before_training.get("data", []) if start_path else []),
        },
    )
    made = work / "export" / out.name
    made.parent.mkdir(exist_ok=True)
    parity = export(network, recipe.network, spec, made, calibration=calibration, check=check)
    mixtures = held_out_mixtures(held_out, JUDGED_MIXTURES)
    loss = recipe.loss(spec)
    before, outcome = judge(mixtures, spec, loss, start_path), judge(mixtures, spec, loss, made)
    written = load_spec(made)
    figures = {"mixtures": len(mixtures), "before": before.to_dict(), "after": outcome.to_dict()}
    save_spec(
        dataclasses.replace(written, metrics={**written.metrics, "held_out_mixtures": figures}),
        made,
    )
    # Judged by what the run was to make small; by that alone a network that mutes everything can win where speech is sparse.
    if outcome.loss > before.loss or outcome.si_sdr_db < before.si_sdr_db - MOST_LOSS_DB:
        origin = "the noisy sound itself" if start_path is None else f"model '{start_path.stem}'"
        raise TrainingError(
            f"the new network is worse than {origin} on held-out recordings (loss {outcome.loss:.4f} against {before.loss:.4f}, "
            f"SI-SDR {outcome.si_sdr_db:.1f} against {before.si_sdr_db:.1f} dB) and was not "
            f"written to {out}; it is kept in {made.parent}: give more recordings, or more steps at a lower learning rate."
        )
    for suffix in (WEIGHTS_SUFFIX, ".json", ".tflite"):
        beside = out.with_name(f".new-{out.stem}{suffix}")
        beside.write_bytes(made.with_suffix(suffix).read_bytes())
        os.replace(beside, out.with_suffix(suffix))
    return Made(out, made.with_suffix(".float.tflite"), outcome, before, parity)
