"""Denoise files and folders."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rtden.app.options import (
    INTERRUPTED,
    AdvanceOption,
    ForceOption,
    FullBandOption,
    LimitOption,
    ModelOption,
    StrengthOption,
    in_db,
    load_quietly,
    messages,
    one_sentence,
    progress_bar,
    screen,
    show_progress,
)


@one_sentence
def file(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Recordings and folders of recordings; '-' is standard input.", show_default=False
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write, folder for several, or '-' for standard output.",
            show_default="NAME.denoised.SUFFIX beside each",
        ),
    ] = None,
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    limit_db: LimitOption = math.inf,
    hops_per_step: AdvanceOption = 1,
    full_band: FullBandOption = True,
    picture: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw noisy and denoised mel spectrograms into this picture."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="Clean recording to measure against: SI-SDR, and PESQ and ESTOI where installed.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            help="Files to work on at a time.",
            show_default="one for each core",
        ),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            help='Scheduler of a dask cluster to work on, which sees the same files under the same paths (extra "dask").',
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Denoise recordings: same length, rate, channels and sample format; the originals stay as they are.

    Of a folder, or several recordings, rtden-manifest.jsonl says what was done: in the folder of --output, or else in each
    folder that is named and beside each recording that is. The same command goes on where it was stopped: what is finished
    is known by its content and skipped.
    """
    from rtden.errors import AudioFileError, SettingsError
    from rtden.files.audio_file import check_target, denoise_file, open_recording, plan
    from rtden.settings import Settings

    if jobs is not None and jobs < 1:
        raise SettingsError(f"--jobs must be 1 or more, not {jobs}.")
    if jobs is not None and dask is not None:
        raise SettingsError(
            "the cluster's workers decide how many recordings are worked on at a time; give one of --jobs and --dask."
        )
    settings = Settings(strength=strength, limit_db=limit_db, hops_per_step=hops_per_step)
    pairs = plan(sources, output)
    if (picture or reference) and (len(pairs) != 1 or "-" in pairs[0]):
        raise AudioFileError(
            "--plot and --reference go with exactly one recording, from a file to a file."
        )
    if reference is not None:
        with open_recording(reference):  # a wrong name is to be known before the work, not after it
            pass
    if picture is not None:
        check_target(picture, force=force)
    if len(sources) == 1 and not os.path.isdir(sources[0]):
        if dask is not None:
            raise AudioFileError("--dask goes with a folder, or with several recordings.")
        load_quietly(model)
        with progress_bar() as bar:
            task = bar.add_task(Path(sources[0]).name)
            show = functools.partial(show_progress, bar, task)
            report = denoise_file(
                *pairs[0],
                model=model,
                settings=settings,
                full_band=full_band,
                force=force,
                progress=show,
            )
        _print_report(report)
    else:
        folders = (
            [source for source in sources if os.path.isdir(source)] if output is None else [output]
        )
        _denoise_folder(
            pairs,
            folders,
            model=model,
            settings=settings,
            full_band=full_band,
            force=force,
            jobs=jobs,
            dask=dask,
        )
    if reference is not None:
        _print_scores(reference, Path(pairs[0][0]), Path(pairs[0][1]))
    if picture is not None:
        from rtden.measure.plots import plot_mels

        plot_mels(Path(pairs[0][0]), Path(pairs[0][1]), picture, model=model, force=force)
        messages.print(f"picture: {picture}", markup=False)


def _denoise_folder(pairs: list[tuple[str, str]], folders: list[str], **options: Any) -> None:
    """Denoise many recordings, say what became of each, and leave with 2 if one failed."""
    from rich.progress import MofNCompleteColumn

    from rtden.files.batch import denoise_files

    counts = dict.fromkeys(("denoised", "copied", "skipped", "failed"), 0)
    try:
        with (
            progress_bar(MofNCompleteColumn()) as bar,
            contextlib.closing(denoise_files(pairs, folders, **options)) as outcomes,
        ):
            task = bar.add_task("recordings", total=len(pairs))
            for outcome in outcomes:
                counts[outcome.state] += 1
                if outcome.state == "denoised":
                    _print_report(outcome.report)
                elif outcome.state == "failed":
                    messages.print(f"rtden: {outcome.error}", markup=False)
                bar.advance(task)
    except KeyboardInterrupt:
        messages.print(
            "rtden: stopped; what was unfinished was not written, and the same command goes on with it."
        )
        raise typer.Exit(INTERRUPTED) from None
    if counts["skipped"]:
        messages.print(f"{counts['skipped']} skipped, they were finished before.")
    if counts["copied"]:
        messages.print(
            f"{counts['copied']} copied from the same sound under another name, which was finished before."
        )
    if counts["failed"]:
        messages.print(
            f"rtden: {counts['failed']} of {len(pairs)} recordings failed, the sentences above say why; the others were written."
        )
        raise typer.Exit(2)


def _print_report(report: Any) -> None:
    messages.print(
        f"{report.source} -> {report.target}: noise reduced by {in_db(report.noise_removed_db)}, "
        f"{report.seconds:.1f} s in {report.processing_seconds:.1f} s (real-time factor {report.real_time_factor:.3f})",
        markup=False,
    )


def _print_scores(reference: Path, noisy: Path, denoised: Path) -> None:
    from rtden.errors import MissingPackageError
    from rtden.files.audio_file import read_aligned
    from rtden.measure.metrics import estoi, pesq_wb, si_sdr_db

    (clean, before, after), rate_hz = read_aligned(reference, noisy, denoised)
    screen.print(f"SI-SDR {si_sdr_db(clean, before):.2f} dB -> {si_sdr_db(clean, after):.2f} dB")
    for name, metric in (("PESQ-WB", pesq_wb), ("ESTOI", estoi)):
        try:
            screen.print(
                f"{name} {metric(clean, before, rate_hz):.3f} -> {metric(clean, after, rate_hz):.3f}"
            )
        except MissingPackageError as error:
            messages.print(f"{name}: {error}", markup=False)
