"""Train networks and export them."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from rtden.app import options
from rtden.app.options import messages, screen
from rtden.errors import AudioFileError, SettingsError

MODEL, RUN = "my-model.tflite", Path("training-run")
OUT, SET = "Model to write.", "Another setting of the recipe; repeatable."
EXPORTED = "Model to write; sidecar and weights go beside it."
RECIPE = "Settings: rtden, fine-tune, continue, seed or a JSON file."
DataOption = Annotated[
    Path | None, Option(help="JSON list of the recordings' sources and licences, for the sidecar.")
]


def train(
    speech: Annotated[Path | None, Option(help="Folder of speech, a folder a speaker.")] = None,
    noise: Annotated[Path | None, Option(help="Folder of noise recordings.")] = None,
    out: Annotated[Path | None, Option("--out", "-o", help=OUT, show_default=MODEL)] = None,
    work: Annotated[Path, Option(help="Folder for corpus, checkpoints and log.")] = RUN,
    start: Annotated[str | None, Option("--from", help="Model to start with.")] = None,
    recipe: Annotated[str | None, Option(help=RECIPE)] = None,
    steps: Annotated[int | None, Option(help="Steps.", show_default="the recipe's")] = None,
    hours: Annotated[float | None, Option(help="End after this time at the latest.")] = None,
    setting: Annotated[list[str] | None, Option("--set", metavar="NAME=VALUE", help=SET)] = None,
    data: DataOption = None,
    force: options.ForceOption = False,
) -> None:
    """Train a network on your own voice and room (extra "train").

    The same command resumes an interrupted run. The recipe is rtden, or with --from fine-tune;
    seed is the notebook from which rtden grew, on --speech.
    """
    from rtden.training import require_packages

    if speech is None or (noise is None and recipe != "seed"):
        raise SettingsError(
            "give the folders of recordings to train on: --speech FOLDER --noise FOLDER."
        )
    sources = _read_sources(data)
    options.silence_c_libraries()
    require_packages()
    if recipe == "seed":
        _reproduce_notebook(speech, out or Path("notebook-run"))
        return
    from rtden.training.run import load_recipe, train_model

    changes = {"steps": steps, "hours": hours, **_settings(setting or [])}
    settings = load_recipe(recipe or ("fine-tune" if start else "rtden"), changes)
    wish: dict[str, Any] = {"speech": speech, "noise": noise, "start": start, "data": sources}
    wish |= {"work": work, "recipe": settings, "force": force}
    try:
        with _progress() as shown:
            made = train_model(out or Path(MODEL), **wish, **shown)
    except KeyboardInterrupt:
        messages.print(
            "rtden: stopped; the same command resumes from the last validation,"
            f" 'rtden export --work {work}' takes the best so far."
        )
        raise typer.Exit(options.INTERRUPTED) from None
    _print_made(made)


def export(
    work: Annotated[Path, Option(help="Folder of a training run, finished or not.")],
    out: Annotated[Path, Option("--out", "-o", help=EXPORTED)],
    data: DataOption = None,
    force: options.ForceOption = False,
) -> None:
    """Quantise the best network of a training run to int8.

    It is compared with its start on held-out mixtures, and refused if it is worse.
    """
    from rtden.training import require_packages

    sources = _read_sources(data)
    options.silence_c_libraries()
    require_packages()
    from rtden.training.run import export_run

    with _progress() as shown:
        made = export_run(work, out, data=sources, force=force, stage=shown["stage"])
    _print_made(made)


def _settings(given: list[str]) -> dict[str, Any]:
    """Return settings from NAME=VALUE; a value that is no JSON is a string."""
    settings: dict[str, Any] = {}
    for name, _, value in (words.partition("=") for words in given):
        settings[name] = value
        with contextlib.suppress(ValueError):
            settings[name] = json.loads(value)
    return settings


def _read_sources(path: Path | None) -> list[dict[str, Any]] | None:
    if path is None:
        return None
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise AudioFileError(
            f"{path} cannot be read as JSON ({error}); give a list of sources and licences"
            " like models/training-data.json."
        ) from None


@contextlib.contextmanager
def _progress() -> Iterator[dict[str, Any]]:
    """Yield the callbacks of a run: `report` after each step, `stage` before and after them all."""
    from rich.progress import MofNCompleteColumn

    with options.progress_bar(MofNCompleteColumn()) as bar:
        task = bar.add_task("preparing", total=None)

        def stage(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        def report(progress: Any) -> None:
            best = f", best validation {progress.best_loss:.5f} at step {progress.best_step}"
            best = best if progress.best_step else ""
            stage(f"loss {progress.loss:.4f}{best}", progress.step, progress.steps)
            if not math.isnan(progress.validation_loss):
                loss = progress.validation_loss
                bar.console.print(f"step {progress.step}: validation loss {loss:.5f}{best}")

        yield {"report": report, "stage": stage}


def _print_made(made: Any) -> None:
    before, after, kib = made.before, made.after, made.model_path.stat().st_size / 1024
    screen.print(
        f"model: {made.model_path} ({kib:.0f} KiB); before quantisation: {made.float_path}",
        f"held-out mixtures, int8, as in use: loss {before['loss']:.4f} -> {after['loss']:.4f}, "
        f"SI-SDR {before['si_sdr_db']:.1f} dB -> {after['si_sdr_db']:.1f} dB",
        sep="\n",
    )


def _reproduce_notebook(recordings: Path, out: Path) -> None:
    from rtden.training.seed_notebook import reproduce

    found = reproduce(recordings, out)
    screen.print(
        f"{found['recordings']} recordings, {found['parameters']} parameters; files in {out}",
        f"validation loss (binary cross-entropy): {found['best_validation_bce']:.4f}; the notebook"
        f" reports 0.0088, doing nothing gives {found['bce_of_noisy_input']:.4f};"
        f" the noise is {-found['noise_db']:.0f} dB below the mels",
        sep="\n",
    )
