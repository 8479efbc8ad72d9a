"""The command line: parse, call, print. Heavy imports stand inside the commands."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from rtden.errors import RtdenError

# One small matrix product a step: threads of numpy's linear algebra would only spin. Read once, when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

app = typer.Typer(
    help="rtden, a streaming real-time speech denoiser.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_messages = Console(stderr=True, highlight=False, soft_wrap=True)
# Through a pipe there is no width to fit: tables keep their columns whole.
_screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout is not None and sys.stdout.isatty() else 200)
INTERRUPTED = 130
STATUS_SECONDS = 1.0
COST_COLUMNS = ("Latency", "Real-time factor", "Headroom", "Memory", "File")

ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="A shipped model (see 'rtden models') or the path of a .tflite file.")]
AdvanceOption = Annotated[int, typer.Option("--advance", help="New frames per step: 1, 2, 4 or 8. More is cheaper and later.")]
StrengthOption = Annotated[float, typer.Option("--strength", help="0 leaves the sound as it is, 1 denoises it fully.")]
LimitOption = Annotated[float, typer.Option("--limit-db", help="Take at most this much off the noise, in dB.", show_default="no limit")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what exists.")]


def _in_one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print an error of rtden's as the sentence that it is and leave with code 2; an interrupt leaves with code 130."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RtdenError as error:
            _messages.print(f"rtden: {error}", markup=False)
            raise typer.Exit(2) from None
        except BrokenPipeError:
            # Whoever read our output has gone; Python's own last flush must not complain about it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(2) from None
        except OSError as error:
            _messages.print(f"rtden: {error.strerror or error}; nothing more was written.", markup=False)
            with contextlib.suppress(OSError):  # nor about a full disk behind standard output
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _messages.print("rtden: stopped; what was unfinished was not written.")
            raise typer.Exit(INTERRUPTED) from None

    return wrapped


def _print_version(wanted: bool) -> None:
    if wanted:
        _screen.print(f"rtden {version('rtden')}")
        raise typer.Exit


@app.callback()
def _main(_version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as tidily as on Ctrl-C


@app.command()
@_in_one_sentence
def file(
    sources: Annotated[list[str], typer.Argument(help="Recordings and folders of recordings; '-' is standard input.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File to write, folder for several, or '-' for standard output.", show_default="NAME.denoised.SUFFIX beside each"),
    ] = None,
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    limit_db: LimitOption = math.inf,
    advance: AdvanceOption = 1,
    picture: Annotated[Path | None, typer.Option("--plot", help="Draw noisy and denoised mel spectrograms into this picture.")] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Clean recording to measure against: SI-SDR, and PESQ and ESTOI where installed.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Denoise recordings: same length, rate, channels and sample format; the originals stay as they are."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from rtden.errors import AudioFileError
    from rtden.files import check_target, denoise_file, open_recording, plan
    from rtden.settings import Settings

    settings = Settings(strength=strength, limit_db=limit_db, advance=advance)
    pairs = plan(sources, output)
    if (picture or reference) and (len(pairs) != 1 or "-" in pairs[0]):
        raise AudioFileError("--plot and --reference go with exactly one recording, from a file to a file.")
    if reference is not None:
        with open_recording(reference):  # a wrong name is to be known before the work, not after it
            pass
    if picture is not None:
        check_target(picture, force=force)
    failed = 0
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=_messages,
        transient=True,
        disable=not _messages.is_terminal,
    ) as bar:
        for number, (source, target) in enumerate(pairs, 1):
            task = bar.add_task(f"{number}/{len(pairs)} {Path(source).name}")
            try:
                report = denoise_file(
                    source,
                    target,
                    model=model,
                    settings=settings,
                    force=force,
                    progress=functools.partial(_show_progress, bar, task),
                )
            except RtdenError as error:
                if len(pairs) == 1:
                    raise
                failed += 1
                bar.console.print(f"rtden: {error}", markup=False)
            else:
                bar.console.print(
                    f"{report.source} -> {report.target}: noise reduced by {_db(report.noise_removed_db)}, "
                    f"{report.seconds:.1f} s in {report.processing_seconds:.1f} s (real-time factor {report.real_time_factor:.3f})",
                    markup=False,
                )
            bar.remove_task(task)
    if reference is not None:
        _print_scores(reference, Path(pairs[0][0]), Path(pairs[0][1]))
    if picture is not None:
        from rtden.plots import plot_mels

        plot_mels(Path(pairs[0][0]), Path(pairs[0][1]), picture, model=model, force=force)
        _messages.print(f"picture: {picture}", markup=False)
    if failed:
        _messages.print(f"rtden: {failed} of {len(pairs)} recordings failed, the sentences above say why; the others were written.")
        raise typer.Exit(2)


def _show_progress(bar: Any, task: Any, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _print_scores(reference: Path, noisy: Path, denoised: Path) -> None:
    from rtden.errors import MissingPackageError
    from rtden.files import read_aligned
    from rtden.metrics import estoi, pesq_wb, si_sdr_db

    (clean, before, after), rate_hz = read_aligned(reference, noisy, denoised)
    _screen.print(f"SI-SDR {si_sdr_db(clean, before):.2f} dB -> {si_sdr_db(clean, after):.2f} dB")
    for name, metric in (("PESQ-WB", pesq_wb), ("ESTOI", estoi)):
        try:
            _screen.print(f"{name} {metric(clean, before, rate_hz):.3f} -> {metric(clean, after, rate_hz):.3f}")
        except MissingPackageError as error:
            _messages.print(f"{name}: {error}", markup=False)


@app.command()
@_in_one_sentence
def live(
    source: Annotated[str, typer.Option("--in", "-i", help="'mic', a device's number or a part of its name, or a recording (played at its pace).")] = "mic",
    target: Annotated[str, typer.Option("--out", "-o", help="'speakers', a device's number or a part of its name, or a recording to write.")] = "speakers",
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    limit_db: LimitOption = math.inf,
    advance: AdvanceOption = 1,
    buffer_ms: Annotated[
        float | None, typer.Option("--buffer-ms", help="Sound kept ready for the output beyond its blocks; more survives a busier machine.")
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", help="Stop after this many seconds.", show_default="until Ctrl-C or the end of the recording")
    ] = math.inf,
    record: Annotated[Path | None, typer.Option("--record", help="Folder for noisy.wav and cleaned.wav.")] = None,
    force: ForceOption = False,
) -> None:
    """Denoise a microphone in real time."""
    from rtden.errors import AudioFileError, SettingsError
    from rtden.live import DEFAULT_BUFFER_MS, LiveEngine, is_recording, open_sink, open_source
    from rtden.settings import Settings

    if not duration > 0:
        raise SettingsError(f"--duration must be more than 0 seconds, not {duration:g}.")
    settings = Settings(strength=strength, limit_db=limit_db, advance=advance)
    places = [name for name in (source, target) if is_recording(name)] + ([] if record is None else [str(record / "noisy.wav"), str(record / "cleaned.wav")])
    if len({os.path.realpath(place) for place in places}) < len(places):
        raise AudioFileError(f"two of {', '.join(places)} are one file, and one of them would be lost; choose another for --out or --record.")
    origin = open_source(source)
    try:
        sink = open_sink(target, rate_hz=origin.rate_hz, force=force)
        try:
            engine = LiveEngine(
                origin, sink, model=model, settings=settings, buffer_ms=DEFAULT_BUFFER_MS if buffer_ms is None else buffer_ms, record=record, force=force
            )
        except BaseException:
            sink.stop()
            raise
    except BaseException:
        origin.stop()
        raise
    _screen.print(f"from {origin.name} ({origin.rate_hz} Hz, {origin.channels} ch) to {sink.name} ({sink.rate_hz} Hz, {sink.channels} ch)", markup=False)
    try:
        engine.start()
        _watch(engine, duration)
    except KeyboardInterrupt:
        pass
    finally:
        engine.stop()
    _print_summary(engine)
    if is_recording(target):
        _screen.print(f"cleaned sound: {target}", markup=False)
    if record is not None:
        _screen.print(f"recordings: {record / 'noisy.wav'}, {record / 'cleaned.wav'}", markup=False)


def _watch(engine: Any, duration: float) -> None:
    """Print what the engine does until it ends or the time is over."""
    time.sleep(0.3)  # the first blocks tell how long the devices' blocks are
    parts = engine.latency
    _screen.print(
        f"total latency {parts.total_ms:.0f} ms = input {parts.source_ms:.0f} + resampling {parts.resampling_ms:.0f} + denoiser {parts.denoiser_ms:.0f}"
        f" + buffer {parts.buffer_ms:.0f} + output {parts.sink_ms:.0f}"
    )
    on_terminal = sys.stdout.isatty()
    ends_at = time.monotonic() + duration - 0.3
    looks_at = time.monotonic() + STATUS_SECONDS
    try:
        while engine.running and time.monotonic() < ends_at:
            time.sleep(0.05)
            if time.monotonic() >= looks_at:
                looks_at += STATUS_SECONDS
                line = _status_line(engine.status())
                print(f"\r{line}\x1b[K" if on_terminal else line, end="" if on_terminal else "\n", flush=True)
    finally:
        if on_terminal:
            print("\r\x1b[K", end="", flush=True)


def _status_line(status: Any) -> str:
    return f"in {_db(status.input_db):>9}  out {_db(status.output_db):>9}  noise {_db(-status.noise_removed_db)}  load {status.load:6.1%}  xruns {status.xruns}"


def _print_summary(engine: Any) -> None:
    status, parts = engine.status(), engine.latency
    _screen.print(
        f"{status.seconds:.1f} s: noise reduced by {_db(status.noise_removed_db)}, total latency {parts.total_ms:.0f} ms, "
        f"load {status.mean_load:.1%} of one core, xruns {status.xruns}"
    )
    if status.flagged_blocks:
        _screen.print(f"The sound system reported {status.flagged_blocks} blocks that came too late or were lost.")
    if status.dropouts:
        _screen.print(
            f"The output ran dry or sound came too late {status.dropouts} times, {status.lost_ms:.0f} ms of sound were left out: "
            "give --buffer-ms 60 or more, or --advance 2, if that happens often."
        )


@app.command()
@_in_one_sentence
def plot(
    noisy: Annotated[Path, typer.Argument(help="The noisy recording.", show_default=False)],
    denoised: Annotated[Path, typer.Argument(help="The denoised recording.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The picture to write.", show_default=False)],
    force: ForceOption = False,
) -> None:
    """Draw the mel spectrograms of two recordings side by side."""
    from rtden.plots import plot_mels

    plot_mels(noisy, denoised, out, force=force)
    _screen.print(f"picture: {out}", markup=False)


@app.command()
@_in_one_sentence
def devices() -> None:
    """List the sound devices."""
    from rtden.devices import list_devices
    from rtden.errors import DeviceError

    found = list_devices()
    if not found:
        raise DeviceError("this machine has no sound devices: connect one, or start the sound server (PipeWire or PulseAudio).")
    table = Table("Number", "Name", "Host", "In", "Out", "Rate (Hz)", "Default", box=None)
    for device in found:
        default = ", ".join(name for name, is_default in (("mic", device.is_default_input), ("speakers", device.is_default_output)) if is_default)
        table.add_row(str(device.index), device.name, device.host, str(device.inputs), str(device.outputs), str(device.rate_hz), default)
    _screen.print(table)


@app.command()
@_in_one_sentence
def models() -> None:
    """List the shipped models."""
    from rtden.sidecar import DEFAULT_MODEL, find_model, list_models, load_spec

    table = Table("Name", "Size", "What it is", box=None)
    for name in list_models():
        path = find_model(name)
        table.add_row(f"{name} (default)" if name == DEFAULT_MODEL else name, f"{path.stat().st_size / 1024:.0f} KiB", load_spec(path).description)
    _screen.print(table)


@app.command()
@_in_one_sentence
def bench(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Model to measure; may be given again.", show_default="all shipped ones")] = None,
    advance: Annotated[list[int] | None, typer.Option("--advance", help="Advance to measure; may be given again.", show_default="1, 2, 4 and 8")] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Audio to process for each figure.")] = 60.0,
    threads: Annotated[int, typer.Option("--threads", help="Threads of the network and of numpy.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure what denoising costs on this machine."""
    from rtden.bench import measure_apart
    from rtden.errors import SettingsError
    from rtden.settings import ADVANCES, Settings
    from rtden.sidecar import find_model, list_models

    if not 5 <= seconds <= 3600:
        raise SettingsError(f"--seconds must lie between 5 and 3600, not {seconds:g}.")
    names, advances = model or list_models(), advance or list(ADVANCES)
    for name in names:
        find_model(name)
    for value in advances:
        Settings(advance=value, threads=threads)
    with _messages.status("measuring"):
        results = [measure_apart(name, value, seconds=seconds, threads=threads) for name in names for value in advances]
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return
    _screen.print(f"{results[0].runtime}, {threads} thread{'s' if threads > 1 else ''}, {seconds:g} s of audio for each figure")
    right: Any = {"justify": "right"}
    costs = Table("Model", "Advance", *(Column(name, **right) for name in COST_COLUMNS), box=None)
    times = Table("Model", "Advance", "Stage", *(Column(name, **right) for name in ("p50 (ms)", "p95 (ms)", "p99 (ms)")), box=None)
    for result in results:
        costs.add_row(
            result.model,
            str(result.advance),
            f"{result.latency_ms:.0f} ms",
            f"{result.real_time_factor:.4f}",
            f"{result.headroom:.0f} x",
            f"{result.rss_mb:.0f} MiB",
            f"{result.model_kb:.0f} KiB",
        )
        for stage, p in {**result.stages, "whole step": result.step}.items():
            times.add_row(result.model, str(result.advance), stage, f"{p.p50_ms:.3f}", f"{p.p95_ms:.3f}", f"{p.p99_ms:.3f}")
    _screen.print(costs, "", times)


def _db(value: float) -> str:
    return "silence" if value == -math.inf else "-- dB" if math.isnan(value) else f"{value + 0.0:.1f} dB"


if __name__ == "__main__":
    app()
