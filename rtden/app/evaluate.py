"""Score models on pairs of files."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtden.app.measure import ModelsOption
from rtden.app.options import (
    AdvanceOption,
    ForceOption,
    messages,
    one_sentence,
    progress_bar,
    screen,
    show_progress,
)

if TYPE_CHECKING:
    from rtden.measure.evaluation import Evaluation

PairsOption = Annotated[
    Path,
    typer.Option(
        "--pairs",
        help="Folder that holds clean/ and noisy/ with the same file names.",
        show_default=False,
    ),
]
IterationsOption = Annotated[
    int | None, typer.Option(help="Griffin-Lim iterations per step.", show_default="the model's")
]
LimitsOption = Annotated[
    list[float] | None,
    typer.Option(
        help="Take at most this much off the noise, in dB; may be given again to compare.",
        show_default="no limit",
    ),
]
MetricsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Metric to measure, such as si-sdr or p.808; may be given again.",
        show_default="all that are installed",
    ),
]
TranscriptsOption = Annotated[
    str | None,
    typer.Option(
        help="Also measure the word error rate of a recogniser (extra 'recognition'): a file with "
        "a line 'NAME what is said' for each pair, or 'clean' to compare with what the recogniser "
        "finds in the clean files. English.",
        show_default=False,
    ),
]
ProcessesOption = Annotated[
    int | None, typer.Option(help="Files to work on at a time.", show_default="one for each core")
]
ScoresOption = Annotated[
    Path | None, typer.Option("--json", help="Write everything, file by file, into this file.")
]
PictureOption = Annotated[
    Path | None, typer.Option("--plot", help="Draw the scores by SNR into this picture.")
]
SidecarOption = Annotated[
    bool, typer.Option("--into-sidecar", help="Write each model's figures into its sidecar.")
]


@one_sentence
def evaluate(
    pairs: PairsOption,
    model: ModelsOption = None,
    hops_per_step: AdvanceOption = 1,
    iterations: IterationsOption = None,
    limit_db: LimitsOption = None,
    metric: MetricsOption = None,
    transcripts: TranscriptsOption = None,
    processes: ProcessesOption = None,
    as_json: ScoresOption = None,
    picture: PictureOption = None,
    into_sidecar: SidecarOption = False,
    force: ForceOption = False,
) -> None:
    """Score models on pairs of clean and noisy files (extra "eval").

    PESQ, ESTOI, SI-SDR, DNSMOS P.835 and P.808; DistillMOS with the extra "judge"; the word error
    rate with --transcripts. A star marks metrics that the training loss has a model of.
    """
    from rich.progress import MofNCompleteColumn

    from rtden.errors import InputError
    from rtden.files.audio_file import check_target
    from rtden.measure import plots, scores
    from rtden.measure.pairs import find_pairs
    from rtden.model import list_models
    from rtden.settings import Settings

    settings = Settings(hops_per_step=hops_per_step, iterations=iterations)
    names, limits_db = model or list_models(), limit_db or [math.inf]
    if into_sidecar and len(limits_db) > 1:
        raise InputError("--into-sidecar takes the figures of one --limit-db, not of several.")
    if as_json is not None:
        check_target(as_json, force=force)
    if picture is not None:
        plots.check_picture(picture, force=force)
    find_pairs(pairs)
    if missing := scores.missing_packages():
        messages.print(missing, markup=False)
    with progress_bar(MofNCompleteColumn()) as bar:
        result = scores.evaluate(
            pairs,
            names,
            settings,
            limits_db=limits_db,
            metrics=metric or (),
            transcripts=transcripts,
            processes=processes,
            progress=functools.partial(show_progress, bar, bar.add_task("pairs", total=None)),
        )
    _report(result, as_json, picture, force=force)
    for name in names if into_sidecar else ():
        scores.record_metrics(name, result)


def _report(result: Evaluation, as_json: Path | None, picture: Path | None, *, force: bool) -> None:
    from rtden.files.audio_file import write_whole
    from rtden.measure import plots, tables

    if left_out := result.left_out():
        messages.print(left_out, markup=False)
    screen.print(
        f"{len(result.files)} pairs; in brackets the change against noisy, ± 95 % confidence"
    )
    for table in tables.tables(result):
        screen.print(table, "")
    if as_json is not None:
        write_whole(as_json, tables.to_json(result), force=force)
        screen.print(f"figures: {as_json}", markup=False)
    if picture is not None:
        plots.plot_scores(result, picture, force=force)
        screen.print(f"picture: {picture}", markup=False)
