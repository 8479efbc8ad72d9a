"""Train networks and export them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rtden.app.options import (
    INTERRUPTED,
    ForceOption,
    messages,
    one_sentence,
    screen,
)

DEFAULT_RECIPE = "rtden"


@one_sentence
def train(
    speech: Annotated[
        Path | None,
        typer.Option(
            "--speech", help="Folder of speech; the first two folder levels tell speakers apart."
        ),
    ] = None,
    noise: Annotated[
        Path | None, typer.Option("--noise", help="Folder of noise recordings.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The .tflite file to write; sidecar and weights go beside it."
        ),
    ] = None,
    work: Annotated[
        Path, typer.Option("--work", help="Folder for the decoded corpus, checkpoints and the log.")
    ] = Path("training-run"),
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Go on from this model: a shipped one or a path.",
            show_default="begin anew",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", help="Training steps.", show_default="the recipe's, or 600 from a model"
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours",
            help="End after this time, even before all steps; the learning rate falls over it.",
            show_default="no limit",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            help="Highest learning rate.",
            show_default="the recipe's, or 0.0003 from a model",
        ),
    ] = None,
    mixtures: Annotated[
        int | None,
        typer.Option(
            "--mixtures", help="Mixtures of 4 seconds a step.", show_default="the recipe's"
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            help="Stop after this many validations without a better one.",
            show_default="the recipe's",
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations", help="Griffin-Lim iterations in training.", show_default="the recipe's"
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="float32, or mixed_bfloat16 where the processor has it.",
            show_default="the recipe's",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed.", show_default="the recipe's")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="JSON list of the recordings' sources and licences, for the sidecar."
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="Settings: 'rtden', the path of a JSON file of your own, or 'seed', the notebook "
            "from which rtden grew, on --recordings.",
        ),
    ] = DEFAULT_RECIPE,
    recordings: Annotated[
        Path | None,
        typer.Option("--recordings", help="Folder of spoken digits, for --recipe seed."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Train a network on your own voice and room (extra "train"); the same command resumes."""
    from rtden.errors import SettingsError
    from rtden.training import require_packages

    if recipe == "seed":
        if recordings is None or speech or noise or start:
            raise SettingsError(
                "--recipe seed takes --recordings FOLDER and no --speech, --noise or --from."
            )
        _reproduce_notebook(recordings, out or Path("notebook-run"), seed or 0)
        return
    if speech is None or noise is None:
        raise SettingsError(
            "give the folders of recordings to train on: --speech FOLDER --noise FOLDER."
        )
    require_packages()
    from rtden.training.run import load_recipe

    chosen = {
        **{"steps": steps, "hours": hours, "learning_rate": learning_rate, "mixtures": mixtures},
        **{"patience": patience, "iterations": iterations, "precision": precision, "seed": seed},
    }
    fine_tunes = start is not None and recipe == DEFAULT_RECIPE
    settings = _settings(load_recipe(recipe), chosen, fine_tunes=fine_tunes)
    _train(
        out or Path("my-model.tflite"),
        speech=speech,
        noise=noise,
        work=work,
        recipe=settings,
        start=start,
        data=_read_sources(data),
        force=force,
    )


def _train(target: Path, *, work: Path, **options: Any) -> None:
    from rtden.training.run import train_model

    try:
        with _training_progress() as (report, stage):
            made = train_model(target, work=work, report=report, stage=stage, **options)
    except KeyboardInterrupt:
        messages.print(
            "rtden: stopped; the same command resumes from the last validation,"
            f" 'rtden export --work {work}' takes the best so far.",
            markup=False,
        )
        raise typer.Exit(INTERRUPTED) from None
    _print_made(made)


def _settings(recipe: Any, chosen: dict[str, Any], *, fine_tunes: bool) -> Any:
    """Return a recipe with the given options; to fine-tune a model, a short and gentle run."""
    if fine_tunes:
        chosen = {
            **chosen,
            "steps": 600 if chosen["steps"] is None else chosen["steps"],
            "learning_rate": 3e-4 if chosen["learning_rate"] is None else chosen["learning_rate"],
        }
    given = {name: value for name, value in chosen.items() if value is not None}
    steps = given.get("steps", recipe.steps)
    every = max(1, min(100 if fine_tunes else recipe.validate_every, steps))
    return dataclasses.replace(recipe, validate_every=every, **given)


@one_sentence
def export(
    work: Annotated[
        Path, typer.Option("--work", help="Folder of a training run, finished or not.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The .tflite file to write; sidecar and weights go beside it."
        ),
    ],
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs", help='Score float and int8 on these pairs, into the sidecar (extra "eval").'
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="JSON list of the recordings' sources and licences, for the sidecar."
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Quantise the best network of a training run to int8, and compare (extra "train")."""
    from rtden.measure import scores, tables
    from rtden.measure.pairs import find_pairs
    from rtden.training import require_packages

    if pairs is not None:
        find_pairs(pairs)
    sources = _read_sources(data)
    require_packages()
    from rtden.training.run import export_run

    with _training_progress() as (_, stage):
        made = export_run(work, out, data=sources, force=force, stage=stage)
    _print_made(made)
    if pairs is not None:
        result = scores.evaluate(pairs, [str(out), str(made.float_path)])
        for table in tables.tables(result)[:1]:
            screen.print(table)
        scores.record_metrics(str(out), result)


def _read_sources(path: Path | None) -> list[dict[str, Any]] | None:
    from rtden.errors import AudioFileError

    if path is None:
        return None
    try:
        sources = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AudioFileError(
            f"{path} cannot be read as JSON ({error}); give a list of sources and licences"
            " like models/training-data.json."
        ) from None
    return list(sources)


@contextlib.contextmanager
def _training_progress() -> Iterator[tuple[Callable[[Any], None], Callable[[str, int, int], None]]]:
    """Show the progress of a training: a bar on a terminal, elsewhere a line for each validation.

    It yields two functions: one to call after each step, one for the work before and after them.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages, disable=not messages.is_terminal) as bar:
        task = bar.add_task("preparing", total=None)

        def stage(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=name)

        def report(progress: Any) -> None:
            best = (
                ""
                if math.isinf(progress.best_loss)
                else f", best validation {progress.best_loss:.5f} at step {progress.best_step}"
            )
            bar.update(
                task,
                completed=progress.step,
                total=progress.steps,
                description=f"loss {progress.loss:.4f}{best}",
            )
            if not math.isnan(progress.validation_loss):
                bar.console.print(
                    f"step {progress.step}: validation loss {progress.validation_loss:.5f}{best}"
                )

        yield report, stage


def _print_made(made: Any) -> None:
    screen.print(
        f"model: {made.model_path} ({made.model_path.stat().st_size / 1024:.0f} KiB)", markup=False
    )
    screen.print(
        "held-out mixtures, int8, as in use: loss"
        f" {made.before.loss:.4f} -> {made.outcome.loss:.4f}, "
        f"SI-SDR {made.before.si_sdr_db:.1f} dB -> {made.outcome.si_sdr_db:.1f} dB"
    )
    screen.print(
        f"int8 against float: masks differ by {made.parity['share_difference_mean']:.3f} on average"
    )


def _reproduce_notebook(recordings: Path, out: Path, seed: int) -> None:
    from rtden.training import require_packages

    require_packages()
    from rtden.training.seed_notebook import reproduce

    found = reproduce(recordings, out, seed=seed)
    screen.print(
        f"{found.recordings} recordings, {found.parameters} parameters; files in {out}",
        markup=False,
    )
    screen.print(
        f"validation loss (binary cross-entropy): {found.best_validation_bce:.4f};"
        " the notebook reports 0.0088"
    )
    screen.print(
        f"... of doing nothing: {found.bce_of_noisy_input:.4f};"
        f" the noise is {-found.noise_db:.0f} dB below the mels"
    )
