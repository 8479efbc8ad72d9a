"""Denoise files, folders and pipes."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from rtden.app import options
from rtden.app.options import messages, screen
from rtden.errors import AudioFileError, MissingPackageError, SettingsError

SOURCES = (
    "Sound and video files, and folders of them; '-' is standard input, read to its end first "
    "(block by block: rtden pipe)."
)
OUTPUT = "File to write, folder for several, or '-' for standard output."
BESIDE, CORES, JOBS = "NAME.denoised.SUFFIX beside each", "one per core", "Files at a time."
TRACK = "Sound track to denoise, from 1."
CHANNELS = "Channels of PCM without a header."
DRY_RUN = "Say what would be done, and do nothing."
PIPED_FORMAT = "s16le, s32le, f32le, or wav, whose header says the rest."
LOUDNESS = 'Loudness of the results in LUFS, for instance -16 (extra "av").'
FORMAT = "Sample format of PCM without a header: s16le, s24le, s32le, f32le, u8, mulaw ..."
PLOT = (
    "Draw noisy and denoised mel spectrograms: into this picture, or this folder for several files."
)
REFERENCE = "Clean recording to measure against: SI-SDR, and PESQ and ESTOI where installed."
DASK = (
    "Scheduler of a dask cluster that does the work; it sees the same files under the same paths "
    '(extra "dask").'
)
SHORT_SECONDS = 2.0
SUMS = {
    "planned": "{} to be denoised.",
    "skipped": "{} skipped: finished before.",
    "results": "{} left out: results of rtden.",
    "left_out": "rtden: {} left out, the sentences above say why.",
    "failed": "rtden: {} of {} files failed, the sentences above say why.",
}
"""Lines that sum up a run, by the outcome of its files; a number goes into the braces."""


def file(
    sources: Annotated[list[str], Argument(metavar="FILE", help=SOURCES)],
    output: Annotated[
        str | None, Option("-o", "--output", help=OUTPUT, show_default=BESIDE)
    ] = None,
    strength: options.StrengthOption = 1.0,
    limit_db: options.LimitOption = math.inf,
    full_band: options.FullBandOption = True,
    loudness: Annotated[float | None, Option(help=LOUDNESS, show_default="unchanged")] = None,
    track: Annotated[int | None, Option(help=TRACK, show_default="all")] = None,
    rate: Annotated[int | None, Option(help="Sample rate in Hz of PCM without a header.")] = None,
    channels: Annotated[int | None, Option(help=CHANNELS, show_default="1")] = None,
    raw_format: Annotated[str | None, Option("--format", help=FORMAT, show_default="s16le")] = None,
    picture: Annotated[Path | None, Option("--plot", help=PLOT)] = None,
    reference: Annotated[Path | None, Option(help=REFERENCE)] = None,
    jobs: Annotated[int | None, Option("-j", "--jobs", help=JOBS, show_default=CORES)] = None,
    dask: Annotated[str | None, Option(help=DASK)] = None,
    model: options.ModelOption = None,
    dry_run: Annotated[bool, Option("--dry-run", help=DRY_RUN)] = False,
    force: options.ForceOption = False,
) -> None:
    """Denoise sound and video files, and folders of them.

    The length, rate, channels, format and tags stay, and so do the originals. A video comes back
    as a video, its picture untouched. For a folder, or several files, rtden-manifest.jsonl says
    what was done: in the folder of --output, or else in each folder and beside each file that is
    named. The same command resumes: what is finished is recognised by its content and skipped.
    """
    options.silence_c_libraries()
    from rtden.files.listing import plan
    from rtden.settings import Settings

    if jobs is not None and (jobs < 1 or dask is not None):
        reason = "the cluster decides on its jobs; give one of --jobs and --dask."
        raise SettingsError(reason if dask else f"--jobs must be 1 or more, not {jobs}.")
    found = plan(sources, output)
    settings, raw = Settings(strength=strength, limit_db=limit_db), _raw(rate, channels, raw_format)
    wish: dict[str, Any] = {"model": model, "settings": settings, "full_band": full_band}
    wish |= {"raw": raw, "track": track, "loudness": loudness, "force": force}
    single = len(sources) == 1 and not os.path.isdir(sources[0])
    _check_options(found.pairs, reference, picture, single=single, dask=dask, force=force)
    for sentence in found.left_out:
        messages.print(f"rtden: {sentence}; left out.")
    failed = False
    if single:
        _denoise_one(*found.pairs[0], dry_run=dry_run, **wish)
        new = {found.pairs[0][1]}
    else:
        folders = [s for s in sources if os.path.isdir(s)] if output is None else [output]
        wish |= {"jobs": jobs, "dask": dask, "dry_run": dry_run}
        new, failed = _denoise_many(found, folders, wish)
    if reference is not None and not (dry_run or failed):
        _print_scores(reference, Path(found.pairs[0][0]), Path(found.pairs[0][1]))
    if picture is not None and not dry_run:
        _plot(found.pairs, picture, new, single=single, force=force)
    if found.left_out or failed:
        raise typer.Exit(2)


def _raw(rate: int | None, channels: int | None, raw_format: str | None) -> Any:
    """Return the description of PCM without a header, None if none is given."""
    from rtden.files.listing import Raw

    if rate is not None:
        given: dict[str, Any] = {"channels": channels, "format": raw_format}
        return Raw(rate, **{name: value for name, value in given.items() if value is not None})
    if (raw_format or channels) is not None:
        raise SettingsError("--channels and --format describe PCM without a header; give --rate.")
    return None


def _check_options(
    pairs: list[tuple[str, str]],
    reference: Path | None,
    picture: Path | None,
    *,
    single: bool,
    dask: str | None,
    force: bool,
) -> None:
    """Raise RtdenError if an option does not go with these files, before the work."""
    from rtden.files.audio_file import open_recording
    from rtden.files.listing import is_result

    piped = any("-" in pair for pair in pairs)
    if reference and (len(pairs) != 1 or piped):
        raise AudioFileError("--reference goes with exactly one file, and no pipe.")
    if picture and piped:
        raise AudioFileError("--plot goes with files, not with pipes.")
    if single and dask is not None:
        raise AudioFileError("--dask goes with a folder, or with several files.")
    if picture:
        from rtden.measure.plots import check_picture

        check_picture(picture if single else picture / "name.png", force=force)
    if reference:
        with open_recording(reference):  # a wrong name is to be known before the work
            pass
    found = [name == "-" or os.path.exists(name) for name, _ in pairs]
    if found == [True, False] and is_result(Path(pairs[1][1])):  # as with cp and ffmpeg
        messages.print(f"rtden: the result is named with -o: -o {shlex.quote(pairs[1][0])}")


def _denoise_one(source: str, target: str, *, dry_run: bool, **wish: Any) -> None:
    from rtden.files.audio_file import open_recording
    from rtden.files.denoise import denoise_file
    from rtden.files.listing import is_stream

    if dry_run:
        if not is_stream(source):
            with open_recording(Path(source), wish["raw"], track=wish["track"]):
                pass  # what cannot be read is said
        _print_planned(source, target)
        return
    if target == "-" and (sys.stdout is None or sys.stdout.isatty()):
        raise AudioFileError(
            "standard output is a terminal or closed; name a file with -o, or pipe it on."
        )
    with options.progress(Path(source).name) as show:
        report = denoise_file(source, target, progress=show, **wish)
    _print_report(report)


def _denoise_many(found: Any, folders: list[str], wish: dict[str, Any]) -> tuple[set[str], bool]:
    """Denoise many files and print the outcome of each; return what was written, and failure."""
    from rich.progress import MofNCompleteColumn, TextColumn

    from rtden.files.batch import denoise_files

    counts: Counter[str] = Counter()
    new: set[str] = set()
    seconds = 0.0
    columns = MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    outcomes = contextlib.closing(denoise_files(found.pairs, folders, **wish))
    try:
        with options.progress_bar(*columns) as bar, outcomes as each:
            task = bar.add_task("files", total=len(found.pairs), rate="")
            for outcome in each:
                counts[outcome.state] += 1
                if outcome.report and outcome.state == "denoised":
                    seconds += outcome.report.seconds
                    new.add(outcome.target)
                    _print_report(outcome.report)
                elif outcome.state == "planned":
                    _print_planned(outcome.source, outcome.target)
                elif outcome.state == "failed":
                    messages.print(f"rtden: {outcome.error}")
                speed = seconds / bar.tasks[0].elapsed if bar.tasks[0].elapsed else 0.0
                bar.update(task, advance=1, rate=f"{speed:.0f} x real time")
    except KeyboardInterrupt:
        messages.print(
            "rtden: stopped; unfinished results were not written, and the same command resumes."
        )
        raise typer.Exit(options.INTERRUPTED) from None
    numbers = {**counts, "results": found.results, "left_out": len(found.left_out)}
    for name, words in SUMS.items():
        if numbers.get(name):
            messages.print(words.format(numbers[name], len(found.pairs)))
    return new, counts["failed"] > 0


def _print_names(source: str, target: str, done: str) -> None:
    """Print from where to where, in words for standard input and output, and what was done."""
    read_from = "standard input" if source == "-" else source
    messages.print(f"{read_from} -> {'standard output' if target == '-' else target}{done}")


def _print_planned(source: str, target: str) -> None:
    _print_names(source, target, " (exists)" if os.path.exists(target) else "")


def _print_report(report: Any) -> None:
    noise_db = report.noise_removed_db
    if math.isnan(noise_db):
        short = "too short" if report.seconds < SHORT_SECONDS else "too silent"
        effect = f"{short} to measure its noise"
    elif noise_db < 1.0:
        effect = "background hardly changed"
    else:
        effect = f"background {noise_db:.0f} dB quieter"
    took = f"{report.seconds:.1f} s in {report.processing_seconds:.1f} s"
    _print_names(report.source, report.target, f": {effect}, {took}")
    for note in report.notes:
        messages.print(f"  {note}")


def _plot(
    pairs: list[tuple[str, str]], picture: Path, new: set[str], *, single: bool, force: bool
) -> None:
    """Draw a picture of each file that was written now, and of others that have none."""
    from rtden.measure.plots import plot_mels

    top = os.path.commonpath([os.path.dirname(os.path.abspath(target)) for _, target in pairs])
    for source, target in pairs:
        out = picture if single else picture / f"{os.path.relpath(target, top)}.png"
        if os.path.exists(target) and (target in new or not out.exists()):
            plot_mels(Path(source), Path(target), out, force=force or not single)
            messages.print(f"picture: {out}")


def _print_scores(reference: Path, noisy: Path, denoised: Path) -> None:
    from rtden.files.audio_file import read_aligned
    from rtden.measure.metrics import estoi, pesq_wb, si_sdr_db

    (clean, before, after), rate_hz = read_aligned(reference, noisy, denoised)
    screen.print(f"SI-SDR {si_sdr_db(clean, before):.2f} dB -> {si_sdr_db(clean, after):.2f} dB")
    for name, metric in (("PESQ-WB", pesq_wb), ("ESTOI", estoi)):
        try:
            scores = metric(clean, before, rate_hz), metric(clean, after, rate_hz)
            screen.print(f"{name} {scores[0]:.3f} -> {scores[1]:.3f}")
        except MissingPackageError as error:
            messages.print(str(error))


def pipe(
    rate: Annotated[int | None, Option(help="Sample rate in Hz.", show_default="the WAV's")] = None,
    channels: Annotated[int, Option(help="Channels, interleaved.")] = 1,
    raw_format: Annotated[str, Option("--format", help=PIPED_FORMAT)] = "s16le",
    model: options.ModelOption = None,
    strength: options.StrengthOption = 1.0,
    limit_db: options.LimitOption = math.inf,
    full_band: options.FullBandOption = True,
) -> None:
    """Denoise standard input to standard output, 30 ms late.

    For instance: arecord -f S16_LE -r 16000 | rtden pipe --rate 16000 | aplay -f S16_LE -r 16000.
    Each block is written at once. The output is as long as the input, and aligned with it.
    """
    options.silence_c_libraries()
    from rtden.files.listing import Raw
    from rtden.files.pipe import denoise_pipe
    from rtden.settings import Settings

    if (raw_format == "wav") == (rate is not None):  # a WAV's header says it
        raise SettingsError("give either the --rate of the PCM in Hz, or --format wav.")
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if stream is None or stream.closed or stream.isatty():
            raise AudioFileError(
                f"standard {name} is a terminal or closed; use it between two programs: "
                "arecord -f S16_LE -r 16000 | rtden pipe --rate 16000 | aplay -f S16_LE -r 16000"
            )
    pcm = None if rate is None else Raw(rate, channels, raw_format)
    settings = Settings(strength=strength, limit_db=limit_db)
    wish: dict[str, Any] = {"model": model, "settings": settings, "full_band": full_band}
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        _, cut_off = denoise_pipe(sys.stdin.fileno(), sys.stdout.fileno(), pcm, **wish)
        if cut_off:
            messages.print("rtden: the end of the input is missing: it was cut off.")
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
