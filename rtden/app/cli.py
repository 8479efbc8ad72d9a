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
from collections.abc import Callable, Iterator
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
_screen = Console(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout is not None and sys.stdout.isatty() else 200,
)
INTERRUPTED = 130
VIRTUAL_MICROPHONE = "virtual-mic"
STREAMS_COLUMNS = (
    "Streams",
    "Processes",
    "Holds",
    "Step p50 / p99",
    "Round p50 / p99",
    "Due after",
    "Load",
)
COST_COLUMNS = ("Latency", "Real-time factor", "Headroom", "Memory", "File")

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A shipped model (see 'rtden models') or the path of a .tflite file."
    ),
]
AdvanceOption = Annotated[
    int,
    typer.Option(
        "--hops-per-step", help="New columns per step: 1, 2, 4 or 8. More is cheaper and later."
    ),
]
StrengthOption = Annotated[
    float, typer.Option("--strength", help="0 leaves the sound as it is, 1 denoises it fully.")
]
LimitOption = Annotated[
    float,
    typer.Option(
        "--limit-db", help="Take at most this much off the noise, in dB.", show_default="no limit"
    ),
]
StereoOption = Annotated[
    bool,
    typer.Option(
        "--stereo", help="Keep two channels, at twice the work; otherwise both ears get the same."
    ),
]
FullBandOption = Annotated[
    bool,
    typer.Option(
        "--fullband/--no-fullband",
        help="Let what lies above the model's 11 kHz through, at the gain below it.",
    ),
]
SourceOption = Annotated[
    str,
    typer.Option(
        "--in",
        "-i",
        help="'mic', a device's number or a part of its name, or a recording (played at its pace).",
    ),
]
TargetOption = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        help="'speakers', a device's number or a part of its name, 'virtual-mic', or a recording to write.",
    ),
]
LiveAdvanceOption = Annotated[
    int | None,
    typer.Option(
        "--hops-per-step",
        help="New columns per step: 1, 2, 4 or 8. More is cheaper and later.",
        show_default="the preset's",
    ),
]
LatencyOption = Annotated[
    float | None,
    typer.Option(
        "--latency-ms",
        help="Total latency to aim at: chooses windows, hops_per_step and buffer.",
        show_default="the preset's",
    ),
]
BufferOption = Annotated[
    float | None,
    typer.Option(
        "--buffer-ms",
        help="Sound kept ready for the output beyond its blocks, fixed; more survives a busier machine.",
        show_default="the preset's to begin with, more after drop-outs",
    ),
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        help="What the machine carries: zero2, pi4, pi5, desktop, or auto, which tries it out for half a second.",
    ),
]
RealtimeOption = Annotated[
    bool, typer.Option("--realtime", help="Ask for real-time priority, where the system allows it.")
]
StatusOption = Annotated[
    float,
    typer.Option(
        "--status-seconds", help="Seconds between lines that say what happens; 0 for none."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what exists.")]


def _in_one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print an error of rtden's as the sentence that it is and leave with code 2; an interrupt leaves with code 130."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            result = command(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader that has gone is expected, and not at the very end
            return result
        except RtdenError as error:
            _messages.print(f"rtden: {error}", markup=False)
            raise typer.Exit(2) from None
        except BrokenPipeError:
            # Whoever read our output has gone; Python's own last flush must not complain about it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(2) from None
        except OSError as error:
            _messages.print(
                f"rtden: {error.strerror or error}; nothing more was written.", markup=False
            )
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
def _main(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    for ending in ("SIGTERM", "SIGHUP"):  # a closed terminal; end as tidily as on Ctrl-C
        if (
            hasattr(signal, ending) and signal.getsignal(getattr(signal, ending)) != signal.SIG_IGN
        ):  # as nohup leaves it
            signal.signal(getattr(signal, ending), signal.default_int_handler)


@app.command()
@_in_one_sentence
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
            help="Recordings, or parts of a long one, to work on at a time.",
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
        with _bar() as bar:
            task = bar.add_task(Path(sources[0]).name)
            show = functools.partial(_show_progress, bar, task)
            report = denoise_file(
                *pairs[0],
                model=model,
                settings=settings,
                full_band=full_band,
                force=force,
                jobs=jobs,
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
        _messages.print(f"picture: {picture}", markup=False)


def _denoise_folder(pairs: list[tuple[str, str]], folders: list[str], **options: Any) -> None:
    """Denoise many recordings, say what became of each, and leave with 2 if one failed."""
    from rich.progress import MofNCompleteColumn

    from rtden.files.batch import denoise_files

    counts = dict.fromkeys(("denoised", "copied", "skipped", "failed"), 0)
    try:
        with (
            _bar(MofNCompleteColumn()) as bar,
            contextlib.closing(denoise_files(pairs, folders, **options)) as outcomes,
        ):
            task = bar.add_task("recordings", total=len(pairs))
            for outcome in outcomes:
                counts[outcome.state] += 1
                if outcome.state == "denoised":
                    _print_report(outcome.report)
                elif outcome.state == "failed":
                    _messages.print(f"rtden: {outcome.error}", markup=False)
                bar.hops_per_step(task)
    except KeyboardInterrupt:
        _messages.print(
            "rtden: stopped; what was unfinished was not written, and the same command goes on with it."
        )
        raise typer.Exit(INTERRUPTED) from None
    if counts["skipped"]:
        _messages.print(f"{counts['skipped']} skipped, they were finished before.")
    if counts["copied"]:
        _messages.print(
            f"{counts['copied']} copied from the same sound under another name, which was finished before."
        )
    if counts["failed"]:
        _messages.print(
            f"rtden: {counts['failed']} of {len(pairs)} recordings failed, the sentences above say why; the others were written."
        )
        raise typer.Exit(2)


def _print_report(report: Any) -> None:
    _messages.print(
        f"{report.source} -> {report.target}: noise reduced by {_db(report.noise_removed_db)}, "
        f"{report.seconds:.1f} s in {report.processing_seconds:.1f} s (real-time factor {report.real_time_factor:.3f})",
        markup=False,
    )


def _bar(*columns: Any) -> Any:
    """Return a bar for a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        *(columns or (TextColumn("{task.percentage:>3.0f} %"),)),
        TimeRemainingColumn(),
    )
    return Progress(*shown, console=_messages, transient=True, disable=not _messages.is_terminal)


def _show_progress(bar: Any, task: Any, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _print_scores(reference: Path, noisy: Path, denoised: Path) -> None:
    from rtden.errors import MissingPackageError
    from rtden.files.audio_file import read_aligned
    from rtden.measure.metrics import estoi, pesq_wb, si_sdr_db

    (clean, before, after), rate_hz = read_aligned(reference, noisy, denoised)
    _screen.print(f"SI-SDR {si_sdr_db(clean, before):.2f} dB -> {si_sdr_db(clean, after):.2f} dB")
    for name, metric in (("PESQ-WB", pesq_wb), ("ESTOI", estoi)):
        try:
            _screen.print(
                f"{name} {metric(clean, before, rate_hz):.3f} -> {metric(clean, after, rate_hz):.3f}"
            )
        except MissingPackageError as error:
            _messages.print(f"{name}: {error}", markup=False)


@app.command()
@_in_one_sentence
def live(
    source: SourceOption = "mic",
    target: TargetOption = "speakers",
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    limit_db: LimitOption = math.inf,
    hops_per_step: LiveAdvanceOption = None,
    latency_ms: LatencyOption = None,
    buffer_ms: BufferOption = None,
    preset: PresetOption = "desktop",
    duration: Annotated[
        float,
        typer.Option(
            "--duration",
            help="Stop after this many seconds.",
            show_default="until Ctrl-C or the end of the recording",
        ),
    ] = math.inf,
    stereo: StereoOption = False,
    full_band: FullBandOption = True,
    record: Annotated[
        Path | None, typer.Option("--record", help="Folder for noisy.wav and cleaned.wav.")
    ] = None,
    realtime: RealtimeOption = False,
    status_seconds: StatusOption = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object in place of each line of status.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Denoise a microphone in real time.

    Leaves with 0 at the end of a recording or of --duration, or when it is asked to stop; with 2 after an error.
    """
    from rtden.errors import AudioFileError, SettingsError
    from rtden.live.endpoints import is_recording
    from rtden.live.engine import LiveEngine, live_settings, settings_for_wish
    from rtden.settings import Settings

    if not duration > 0:
        raise SettingsError(f"--duration must be more than 0 seconds, not {duration:g}.")
    if not status_seconds >= 0:
        raise SettingsError(f"--status-seconds must be 0 or more, not {status_seconds:g}.")
    if latency_ms is not None and hops_per_step is not None:
        raise SettingsError(
            "--latency-ms chooses the hops_per_step; give one of --latency-ms and --hops-per-step."
        )
    wished = Settings(strength=strength, limit_db=limit_db)
    carried_advance, first_buffer_ms = _carried(preset, model, hops_per_step)
    places = [name for name in (source, target) if is_recording(name)] + (
        [] if record is None else [str(record / "noisy.wav"), str(record / "cleaned.wav")]
    )
    if len({os.path.realpath(place) for place in places}) < len(places):
        raise AudioFileError(
            f"two of {', '.join(places)} are one file, and one of them would be lost; choose another for --out or --record."
        )
    settings = live_settings(carried_advance, model=model, settings=wished)
    with contextlib.ExitStack() as opened:
        origin, sink = _open_sides(opened, source, target, stereo=stereo, force=force)
        if latency_ms is not None:
            settings, first_buffer_ms = settings_for_wish(
                latency_ms, origin, sink, model=model, settings=wished, buffer_ms=buffer_ms
            )
        engine = LiveEngine(
            origin,
            sink,
            model=model,
            settings=settings,
            buffer_ms=buffer_ms,
            first_buffer_ms=first_buffer_ms,
            stereo=stereo,
            full_band=full_band,
            record=record,
            force=force,
            realtime=realtime,
        )
        title = f"from {origin.name} ({origin.rate_hz} Hz, {origin.channels} ch) to {sink.name} ({sink.rate_hz} Hz, {sink.channels} ch)"
        if not as_json:
            _screen.print(title, markup=False)
            if target == VIRTUAL_MICROPHONE:
                _screen.print("choose 'rtden' as the microphone in the other program")
        try:
            engine.start()
            _watch(engine, title, duration, status_seconds, as_json=as_json)
        except KeyboardInterrupt:
            pass
        finally:
            engine.stop()
    if as_json:
        return
    _print_summary(engine)
    if is_recording(target):
        _screen.print(f"cleaned sound: {target}", markup=False)
    if record is not None:
        _screen.print(f"recordings: {record / 'noisy.wav'}, {record / 'cleaned.wav'}", markup=False)


def _open_sides(
    opened: contextlib.ExitStack, source: str, target: str, *, stereo: bool, force: bool
) -> tuple[Any, Any]:
    """Open what a user calls input and output; the stack closes them."""
    from rtden.live.endpoints import open_sink, open_source
    from rtden.live.virtual_mic import VirtualMicrophone, VirtualSink

    microphone = opened.enter_context(VirtualMicrophone()) if target == VIRTUAL_MICROPHONE else None
    if microphone is not None:
        opened.enter_context(microphone.routed())
    origin = open_source(source)
    opened.callback(origin.stop)
    channels = min(2, origin.channels) if stereo else 1
    sink = (
        VirtualSink(microphone, channels=channels)
        if microphone
        else open_sink(target, rate_hz=origin.rate_hz, channels=channels, force=force)
    )
    opened.callback(sink.stop)
    return origin, sink


def _carried(preset: str, model: str | None, hops_per_step: int | None) -> tuple[int, float]:
    """Return a preset's hops_per_step, replaced by what the user gave, and the buffer to begin with in ms."""
    from rtden.live.presets import AUTO, find_preset

    chosen = find_preset(preset, model)
    hops_per_step = chosen.hops_per_step if hops_per_step is None else hops_per_step
    if preset == AUTO:
        _messages.print(
            f"this machine carries --hops-per-step {hops_per_step} --buffer-ms {chosen.buffer_ms:g}"
        )
    return hops_per_step, chosen.buffer_ms


def _watch(
    engine: Any, title: str, duration: float, status_seconds: float, *, as_json: bool
) -> None:
    """Show what the engine does until it ends, a key says so, or the time is over: on a terminal as a view, else as lines.

    systemd is told, too, where it asked for that.
    """
    from rtden.app.view import Keyboard, status_json, watch
    from rtden.live.realtime import Supervisor

    supervisor = Supervisor()
    time.sleep(0.3)  # the first blocks tell how long the devices' blocks are
    if not as_json:
        parts = engine.latency
        _screen.print(
            f"total latency {parts.total_ms:.0f} ms = input {parts.source_ms:.0f} + resampling {parts.resampling_ms:.0f} + denoiser {parts.denoiser_ms:.0f}"
            f" + buffer {parts.buffer_ms:.0f} + output {parts.sink_ms:.0f}"
        )
    supervisor.ready()
    if not as_json and _screen.is_terminal:
        with Keyboard() as keyboard:
            watch(
                engine,
                _screen,
                keyboard.keys(),
                title=title,
                duration=duration - 0.3,
                centres_hz=engine.band_centres_hz,
            )
        return
    ends_at = time.monotonic() + duration - 0.3
    looks_at = time.monotonic() + (status_seconds or math.inf)
    try:
        while engine.running and time.monotonic() < ends_at:
            supervisor.alive()
            time.sleep(0.05)
            if time.monotonic() >= looks_at:
                looks_at += status_seconds
                status = engine.status()
                print(
                    status_json(status, engine.latency) if as_json else _status_line(status),
                    flush=True,
                )
    finally:
        supervisor.stopping()


def _status_line(status: Any) -> str:
    line = (
        f"in {_db(status.input_db):>9}  out {_db(status.output_db):>9}  noise {_db(-status.noise_removed_db)}  load {status.load:6.1%}"
        f"  xruns {status.xruns}  latency {status.latency_ms:.0f} ms  drift {status.drift_ppm:+.0f} ppm"
    )
    return line if status.state == "running" else f"{line}  {status.state}"


def _print_summary(engine: Any) -> None:
    status, parts = engine.status(), engine.latency
    _screen.print(
        f"{status.seconds:.1f} s: noise reduced by {_db(status.noise_removed_db)}, total latency {parts.total_ms:.0f} ms, "
        f"load {status.mean_load:.1%} of one core, xruns {status.xruns}"
    )
    if status.flagged_blocks:
        _screen.print(
            f"The sound system reported {status.flagged_blocks} blocks that came too late or were lost."
        )
    if status.losses:
        _screen.print(f"A device was lost, and found again, {status.losses} times.")
    if status.dropouts:
        _screen.print(
            f"The output ran dry or sound came too late {status.dropouts} times, {status.lost_ms:.0f} ms of sound were left out: "
            f"the buffer went to {status.buffer_ms:.0f} ms; give --buffer-ms 60 or more, or --hops-per-step 2, if that happens often."
        )


service = typer.Typer(
    help="Run 'rtden live' as a systemd user service, from boot on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(service, name="service")


@service.command("install")
@_in_one_sentence
def service_install(
    source: SourceOption = "mic",
    target: TargetOption = "speakers",
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    limit_db: LimitOption = math.inf,
    hops_per_step: LiveAdvanceOption = None,
    latency_ms: LatencyOption = None,
    buffer_ms: BufferOption = None,
    preset: PresetOption = "auto",
    stereo: StereoOption = False,
    full_band: FullBandOption = True,
    status_seconds: StatusOption = 600.0,
    alsa: Annotated[
        bool,
        typer.Option(
            "--alsa",
            help="Without a sound server: sound goes straight to ALSA's devices (Raspberry Pi OS Lite).",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the unit and the commands, and change nothing.")
    ] = False,
) -> None:
    """Write the unit, start it now and at every boot. The options are those of 'rtden live'; real-time priority is asked for."""
    from rtden.app.service import Unit, install, linger_command, steps, this_program, unit_path
    from rtden.live.presets import check_name
    from rtden.model import find_model
    from rtden.settings import Settings

    Settings(
        strength=strength,
        limit_db=limit_db,
        hops_per_step=1 if hops_per_step is None else hops_per_step,
    )
    check_name(preset)
    path = find_model(model)
    given: dict[str, object] = {
        "--in": source,
        "--out": target,
        # A service has a folder of its own: a path from here would not be found.
        "--model": model if model is None or path.stem == model else path.resolve(),
        "--strength": strength if strength != 1.0 else None,
        "--limit-db": limit_db if limit_db != math.inf else None,
        "--hops-per-step": hops_per_step,
        "--latency-ms": latency_ms,
        "--buffer-ms": buffer_ms,
        "--preset": preset,
        "--status-seconds": f"{status_seconds:g}",
    }
    options = [
        word
        for option, value in given.items()
        if value is not None
        for word in (option, str(value))
    ]
    options += ["--stereo"] * stereo + ["--no-fullband"] * (not full_band)
    unit = Unit(program=this_program(), options=(*options, "--realtime"), alsa=alsa)
    if dry_run:
        print(f"# {unit_path()}\n{unit.to_text()}")
        for command in (*steps(), linger_command()):
            print(f"# {' '.join(command)}")
        return
    left_to_do = install(unit)
    _screen.print(
        f"rtden runs: {unit_path()}. Look with 'rtden service status' and 'rtden service logs'.",
        markup=False,
    )
    if left_to_do:
        _screen.print(left_to_do, markup=False)


@service.command("status")
@_in_one_sentence
def service_status() -> None:
    """Say whether the service runs; leaves with 3 where it does not, as systemctl does."""
    from rtden.app.service import status

    known = status()
    _screen.print(
        f"{known['ActiveState']} ({known['SubState']}) since {known['ActiveEnterTimestamp'] or 'never'}, process {known['MainPID']}, "
        f"restarts {known['NRestarts']}, at boot {known['UnitFileState']}, last result {known['Result']}",
        markup=False,
    )
    if known["ActiveState"] != "active":
        raise typer.Exit(3)


@service.command("logs")
@_in_one_sentence
def service_logs(
    lines: Annotated[int, typer.Option("--lines", "-n", help="The newest lines to show.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what the service has said."""
    import subprocess

    from rtden.app.service import logs_command

    raise typer.Exit(subprocess.run(logs_command(lines, follow=follow), check=False).returncode)


@service.command("uninstall")
@_in_one_sentence
def service_uninstall() -> None:
    """Stop the service and remove its unit."""
    from rtden.app.service import uninstall, unit_path

    uninstall()
    _screen.print(f"removed: {unit_path()}", markup=False)


@app.command()
@_in_one_sentence
def plot(
    noisy: Annotated[Path, typer.Argument(help="The noisy recording.", show_default=False)],
    denoised: Annotated[Path, typer.Argument(help="The denoised recording.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The picture to write.", show_default=False)],
    force: ForceOption = False,
) -> None:
    """Draw the mel spectrograms of two recordings side by side."""
    from rtden.measure.plots import plot_mels

    plot_mels(noisy, denoised, out, force=force)
    _screen.print(f"picture: {out}", markup=False)


@app.command()
@_in_one_sentence
def devices() -> None:
    """List the sound devices."""
    from rtden.errors import DeviceError
    from rtden.live.devices import list_devices

    found = list_devices()
    if not found:
        raise DeviceError(
            "this machine has no sound devices: connect one, or start the sound server (PipeWire or PulseAudio)."
        )
    table = Table("Number", "Name", "Host", "In", "Out", "Rate (Hz)", "Default", box=None)
    for device in found:
        default = ", ".join(
            name
            for name, is_default in (
                ("mic", device.is_default_input),
                ("speakers", device.is_default_output),
            )
            if is_default
        )
        table.add_row(
            str(device.index),
            device.name,
            device.host,
            str(device.inputs),
            str(device.outputs),
            str(device.rate_hz),
            default,
        )
    _screen.print(table)


@app.command()
@_in_one_sentence
def models() -> None:
    """List the shipped models."""
    from rtden.model import DEFAULT_MODEL, find_model, list_models, load_spec

    table = Table("Name", "Size", "What it is", box=None)
    for name in list_models():
        path = find_model(name)
        table.add_row(
            f"{name} (default)" if name == DEFAULT_MODEL else name,
            f"{path.stat().st_size / 1024:.0f} KiB",
            load_spec(path).description,
        )
    _screen.print(table)


@app.command()
@_in_one_sentence
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    with_benchmark: Annotated[
        bool,
        typer.Option(
            "--benchmark/--no-benchmark", help="Measure for a second what denoising costs."
        ),
    ] = True,
) -> None:
    """Look at what of this machine matters to rtden; made to be pasted into a bug report. Leaves with 2 where something fails."""
    from rtden.app.doctor import examine, to_report

    findings = []
    for finding in examine(with_benchmark=with_benchmark):
        findings.append(finding)
        if not as_json:
            print(f"{finding.state:<5} {finding.name:<13} {finding.found}", flush=True)
            if finding.advice:
                print(f"{'':<20}-> {finding.advice}")
    if as_json:
        print(json.dumps(to_report(findings), indent=2, ensure_ascii=False))
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(2)


@app.command()
@_in_one_sentence
def bench(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model to measure; may be given again.",
            show_default="all shipped ones",
        ),
    ] = None,
    hops_per_step: Annotated[
        list[int] | None,
        typer.Option(
            "--hops-per-step",
            help="Advance to measure; may be given again.",
            show_default="1, 2, 4 and 8",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Audio to process for each figure.")
    ] = 60.0,
    threads: Annotated[
        int, typer.Option("--threads", help="Threads of the network and of numpy.")
    ] = 1,
    streams: Annotated[
        int | None,
        typer.Option(
            "--streams",
            help="Measure whether so many real-time streams at once hold; 0 finds the largest number that does.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            help="With --streams: processes that share the streams out, one for each core.",
            show_default="1",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure what denoising costs on this machine."""
    from rtden.errors import SettingsError
    from rtden.measure.cost import measure_apart
    from rtden.model import find_model, list_models
    from rtden.settings import HOPS_PER_STEP, Settings

    if not 5 <= seconds <= 3600:
        raise SettingsError(f"--seconds must lie between 5 and 3600, not {seconds:g}.")
    names, hops_per_steps = model or list_models(), hops_per_step or list(HOPS_PER_STEP)
    for name in names:
        find_model(name)
    for value in hops_per_steps:
        Settings(hops_per_step=value, threads=threads)
    if streams is not None:
        _bench_streams(
            names,
            hops_per_steps,
            streams,
            1 if jobs is None else jobs,
            seconds=seconds,
            threads=threads,
            as_json=as_json,
        )
        return
    if jobs is not None:
        raise SettingsError("--jobs shares streams out; say how many with --streams.")
    with _messages.status("measuring"):
        results = [
            measure_apart(name, value, seconds=seconds, threads=threads)
            for name in names
            for value in hops_per_steps
        ]
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return
    _screen.print(
        f"{results[0].runtime}, {threads} thread{'s' if threads > 1 else ''}, {seconds:g} s of audio for each figure"
    )
    right: Any = {"justify": "right"}
    costs = Table("Model", "Advance", *(Column(name, **right) for name in COST_COLUMNS), box=None)
    times = Table(
        "Model",
        "Advance",
        "Stage",
        *(Column(name, **right) for name in ("p50 (ms)", "p95 (ms)", "p99 (ms)")),
        box=None,
    )
    for result in results:
        costs.add_row(
            result.model,
            str(result.hops_per_step),
            f"{result.latency_ms:.0f} ms",
            f"{result.real_time_factor:.4f}",
            f"{result.headroom:.0f} x",
            f"{result.rss_mb:.0f} MiB",
            f"{result.model_kb:.0f} KiB",
        )
        for stage, p in {
            **result.stages,
            "whole step": result.step,
            "in silence": result.idle,
        }.items():
            times.add_row(
                result.model,
                str(result.hops_per_step),
                stage,
                f"{p.p50_ms:.3f}",
                f"{p.p95_ms:.3f}",
                f"{p.p99_ms:.3f}",
            )
    _screen.print(costs, "", times)


def _bench_streams(
    names: list[str],
    hops_per_steps: list[int],
    streams: int,
    jobs: int,
    *,
    seconds: float,
    threads: int,
    as_json: bool,
) -> None:
    from rtden.errors import SettingsError
    from rtden.measure.cost import Streams

    if jobs < 1:
        raise SettingsError(f"--jobs must be 1 or more, not {jobs}.")
    if streams < 0 or 0 < streams < jobs:
        raise SettingsError(
            f"--streams must be 0, or as many as there are --jobs or more, not {streams}."
        )
    results = []
    with _messages.status("measuring"):
        for name in names:
            for hops_per_step in hops_per_steps:
                with Streams(name, hops_per_step, jobs=jobs, threads=threads) as carried:
                    results.append(
                        carried.run(streams, seconds=seconds)
                        if streams
                        else carried.most(seconds=seconds)
                    )
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return
    _screen.print(
        f"{results[0].runtime}, {threads} thread{'s' if threads > 1 else ''}, {seconds:g} s of audio for each stream"
    )
    table = Table(
        "Model", "Advance", *(Column(name, justify="right") for name in STREAMS_COLUMNS), box=None
    )
    for result in results:
        step, whole = result.step, result.round
        table.add_row(
            result.model,
            str(result.hops_per_step),
            str(result.streams),
            str(result.jobs),
            "yes" if result.holds else "no",
            f"{step.p50_ms:.3f} / {step.p99_ms:.3f} ms",
            f"{whole.p50_ms:.2f} / {whole.p99_ms:.2f} ms",
            f"{result.period_ms:.2f} ms",
            f"{result.load:.2f} of {result.jobs} core{'s' if result.jobs > 1 else ''}",
        )
    _screen.print(table)
    _screen.print(
        "Holds: 99 of 100 rounds, in which every stream of a process has a step, are shorter than the time until the next steps are due."
    )


@app.command("eval")
@_in_one_sentence
def evaluate(
    pairs: Annotated[
        Path,
        typer.Option(
            "--pairs",
            help="Folder that holds clean/ and noisy/ with the same file names.",
            show_default=False,
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model to score; may be given again.",
            show_default="all shipped ones",
        ),
    ] = None,
    hops_per_step: AdvanceOption = 1,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations", help="Griffin-Lim iterations per step.", show_default="the model's"
        ),
    ] = None,
    limit_db: LimitOption = math.inf,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", help="Recordings to work on at a time.", show_default="one for each core"
        ),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write everything, file by file, into this file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw the scores by SNR into this picture.")
    ] = None,
    into_sidecar: Annotated[
        bool, typer.Option("--into-sidecar", help="Write each model's figures into its sidecar.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Score models on pairs of clean and noisy recordings: PESQ, STOI, SI-SDR and DNSMOS (extra "eval")."""
    from rich.progress import MofNCompleteColumn

    import rtden.measure.scores as scoring
    from rtden.files.audio_file import check_target, write_whole
    from rtden.model import list_models
    from rtden.settings import Settings

    settings = Settings(hops_per_step=hops_per_step, iterations=iterations, limit_db=limit_db)
    names = model or list_models()
    if as_json is not None:
        check_target(as_json, force=force)
    if picture is not None:
        from rtden.measure.plots import check_picture

        check_picture(picture, force=force)
    scoring.find_pairs(pairs)
    if missing := scoring.missing_packages():
        _messages.print(missing, markup=False)
    with _bar(MofNCompleteColumn()) as bar:
        show = functools.partial(_show_progress, bar, bar.add_task("pairs", total=None))
        result = scoring.evaluate(pairs, names, settings, processes=processes, progress=show)
    if left_out := result.left_out():
        _messages.print(left_out, markup=False)
    _screen.print(
        f"{len(result.files)} pairs, hops_per_step {hops_per_step}; in brackets the change against noisy, ± 95 % confidence"
    )
    for table in scoring.tables(result):
        _screen.print(table, "")
    if as_json is not None:
        write_whole(as_json, scoring.to_json(result), force=force)
        _screen.print(f"figures: {as_json}", markup=False)
    if picture is not None:
        from rtden.measure.plots import plot_scores

        plot_scores(result, picture, force=force)
        _screen.print(f"picture: {picture}", markup=False)
    for name in names if into_sidecar else ():
        scoring.record_metrics(name, result)


@app.command()
@_in_one_sentence
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
        typer.Option("--steps", help="Training steps.", show_default="12000, or 600 from a model"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", help="Highest learning rate.", show_default="0.0015, or 0.0003"
        ),
    ] = None,
    mixtures: Annotated[int, typer.Option("--mixtures", help="Mixtures of 4 seconds a step.")] = 16,
    patience: Annotated[
        int,
        typer.Option("--patience", help="Stop after this many validations without a better one."),
    ] = 8,
    iterations: Annotated[
        int,
        typer.Option(
            "--iterations", help="Griffin-Lim iterations in the path that is trained through."
        ),
    ] = 0,
    precision: Annotated[
        str,
        typer.Option("--precision", help="float32, or mixed_bfloat16 where the processor has it."),
    ] = "float32",
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")] = 0,
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
            help="'rtden', or 'seed': the notebook from which rtden grew, on --recordings.",
        ),
    ] = "rtden",
    recordings: Annotated[
        Path | None,
        typer.Option("--recordings", help="Folder of spoken digits, for --recipe seed."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Train a network on your own voice and room (extra "train"). The same command goes on after an interrupt."""
    from rtden.errors import SettingsError
    from rtden.training import require_packages

    if recipe not in ("rtden", "seed"):
        raise SettingsError(f"there is no recipe '{recipe}'; choose rtden or seed.")
    if recipe == "seed":
        if recordings is None or speech or noise or start:
            raise SettingsError(
                "--recipe seed takes --recordings FOLDER and no --speech, --noise or --from."
            )
        _reproduce_notebook(recordings, out or Path("notebook-run"), seed)
        return
    if speech is None or noise is None:
        raise SettingsError(
            "give the folders of recordings to train on: --speech FOLDER --noise FOLDER."
        )
    require_packages()
    from rtden.training.recipe import Recipe
    from rtden.training.run import train_model

    begun = start is not None
    settings = Recipe(
        steps=(600 if begun else Recipe.steps) if steps is None else steps,
        learning_rate=(3e-4 if begun else Recipe.learning_rate)
        if learning_rate is None
        else learning_rate,
        validate_every=max(
            1,
            min(100 if begun else Recipe.validate_every, Recipe.steps if steps is None else steps),
        ),
        mixtures=mixtures,
        patience=patience,
        iterations=iterations,
        precision=precision,
        seed=seed,
    )
    target = out or Path("my-model.tflite")
    sources = _read_sources(data)
    try:
        with _training_progress() as report:
            made = train_model(
                target,
                speech=speech,
                noise=noise,
                work=work,
                recipe=settings,
                start=start,
                data=sources,
                force=force,
                report=report,
            )
    except KeyboardInterrupt:
        _messages.print(
            f"rtden: stopped; the same command goes on from the last validation, 'rtden export --work {work}' takes the best so far.",
            markup=False,
        )
        raise typer.Exit(INTERRUPTED) from None
    _print_made(made)


@app.command()
@_in_one_sentence
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
    """Quantise the best network of a training run to int8 and measure what that costs (extra "train")."""
    import rtden.measure.scores as scoring
    from rtden.training import require_packages

    if pairs is not None:
        scoring.find_pairs(pairs)
    sources = _read_sources(data)
    require_packages()
    from rtden.training.run import export_run

    made = export_run(work, out, data=sources, force=force)
    _print_made(made)
    if pairs is not None:
        result = scoring.evaluate(pairs, [str(out), str(made.float_path)])
        for table in scoring.tables(result)[:1]:
            _screen.print(table)
        scoring.record_metrics(str(out), result)


def _read_sources(path: Path | None) -> list[dict[str, Any]] | None:
    from rtden.errors import AudioFileError

    if path is None:
        return None
    try:
        sources = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AudioFileError(
            f"{path} cannot be read as JSON ({error}); give a list of sources and licences like models/training-data.json."
        ) from None
    return list(sources)


@contextlib.contextmanager
def _training_progress() -> Iterator[Callable[[Any], None]]:
    """Show where a training is: a bar on a terminal, a line for each validation elsewhere."""
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
    with Progress(*columns, console=_messages, disable=not _messages.is_terminal) as bar:
        task = bar.add_task("reading the recordings", total=None)

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

        yield report


def _print_made(made: Any) -> None:
    _screen.print(
        f"model: {made.model_path} ({made.model_path.stat().st_size / 1024:.0f} KiB)", markup=False
    )
    _screen.print(
        f"held-out mixtures, int8, as in use: loss {made.before.loss:.4f} -> {made.outcome.loss:.4f}, "
        f"SI-SDR {made.before.si_sdr_db:.1f} dB -> {made.outcome.si_sdr_db:.1f} dB"
    )
    _screen.print(
        f"int8 against float: shares differ by {made.parity['share_difference_mean']:.3f} on average"
    )


def _reproduce_notebook(recordings: Path, out: Path, seed: int) -> None:
    from rtden.training import require_packages

    require_packages()
    from rtden.training.notebook import reproduce

    found = reproduce(recordings, out, seed=seed)
    _screen.print(
        f"{found.recordings} recordings, {found.parameters} parameters; files in {out}",
        markup=False,
    )
    _screen.print(
        f"validation loss (binary cross-entropy): {found.best_validation_bce:.4f}; the notebook reports 0.0088"
    )
    _screen.print(
        f"... of doing nothing: {found.bce_of_noisy_input:.4f}; the noise lies {-found.noise_db:.0f} dB below the mels"
    )


def _db(value: float) -> str:
    return (
        "silence"
        if value == -math.inf
        else "-- dB"
        if math.isnan(value)
        else f"{value + 0.0:.1f} dB"
    )


if __name__ == "__main__":
    app()
