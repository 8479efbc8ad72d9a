"""`rtden live` denoises a microphone in real time; `rtden ctl` switches it while it runs."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer import Argument, Option

from rtden.app import options
from rtden.app.options import messages, screen
from rtden.errors import ControlError, SettingsError
from rtden.extras import needed
from rtden.live import VIRTUAL_MICROPHONE
from rtden.live.status import counted

if TYPE_CHECKING:
    from rtden.live import LiveEngine, LiveStatus

SETTLING_SECONDS = 0.3  # the first blocks show how long the devices' blocks are
LOOK_SECONDS = 0.25  # between two looks at whether the engine has ended
# Names of open_live's parameters. The page saves those in CHOICES, too.
CHOICES = ("input", "output", "model", "latency_ms", "stereo", "strength", "limit_db")
PASSED_ON = ("buffer_ms", "full_band", "record", "force", "realtime", "name")
DEVICE = "a device's number or part of its name"
OUTPUT = f"'speakers', {DEVICE}, 'virtual-mic', or a file."
LATENCY = "Total delay to aim at, in ms; chooses hops and buffer."
BUFFER = "Fixed output buffer, in ms."
HOPS = "Compute 1, 2, 4, 8 or 16 hops of 11.6 ms at a time: less CPU, more delay."
PRESET = "Machine: zero2, pi4, pi5, desktop, or auto, which measures for 0.5 s."
NAME = "Name of the virtual microphone, and for 'rtden ctl'."
END = "until Ctrl-C or a file's end"
VALUE = "on or off (else the other of the two), 0 to 1 for strength, dB for limit (inf: none)."
SWITCHES = {"bypass": "bypassed", "mute": "muted"}
NUMBERS = {"strength": "strength", "limit": "limit_db"}


def live(
    context: typer.Context,
    input: Annotated[str, Option("--in", "-i", help=f"'mic', {DEVICE}, or a file.")] = "mic",
    output: Annotated[str, Option("--out", "-o", help=OUTPUT)] = "speakers",
    strength: options.StrengthOption = 1.0,
    limit_db: options.LimitOption = math.inf,
    latency_ms: Annotated[float | None, Option(help=LATENCY)] = None,
    buffer_ms: Annotated[float | None, Option(help=BUFFER, show_default="it adapts")] = None,
    preset: Annotated[str, Option(help=PRESET)] = "desktop",
    hops_per_step: Annotated[int | None, Option(help=HOPS, show_default="the preset's")] = None,
    duration: Annotated[float, Option(help="Seconds to run.", show_default=END)] = math.inf,
    stereo: Annotated[bool, Option("--stereo", help="Keep two channels: twice the CPU.")] = False,
    full_band: options.FullBandOption = True,
    record: Annotated[Path | None, Option(help="Folder for noisy.wav and cleaned.wav.")] = None,
    model: options.ModelOption = None,
    realtime: Annotated[bool, Option("--realtime", help="Ask for real-time priority.")] = False,
    saved: Annotated[bool, Option("--saved", help="Start from the page's choices.")] = False,
    name: Annotated[str | None, Option(help=NAME)] = None,
    status_seconds: Annotated[float, Option(help="Seconds per status line; 0: none.")] = 1.0,
    as_json: options.JsonOption = False,
    force: options.ForceOption = False,
) -> None:
    """Denoise a microphone in real time, until Ctrl-C.

    For instance: rtden live --in usb --out headset; in calls: rtden live --out virtual-mic. The
    exit code is 0 at the end of a file, after --duration and when you stop it, 2 after an error.
    """
    options.silence_c_libraries()
    from rtden.live import open_live
    from rtden.live.plan import AUTO, find_preset
    from rtden.settings import Settings, require

    if "-" in (input, output):
        raise SettingsError("'-' is no device; between two programs use 'rtden pipe --rate 16000'.")
    require(duration > 0, "--duration", "be more than 0 seconds", duration)
    require(status_seconds >= 0, "--status-seconds", "be 0 or more", status_seconds)
    if latency_ms is not None and hops_per_step is not None:
        raise SettingsError("--latency-ms chooses the hops per step; give one of the two.")
    wanted = {parameter: context.params[parameter] for parameter in (*CHOICES, *PASSED_ON)}
    if saved:
        wanted |= _saved_choices(context)
    chosen = find_preset(preset, wanted["model"])
    hops_per_step = hops_per_step or chosen.hops_per_step
    if preset == AUTO:
        wished = f"--hops-per-step {hops_per_step} --buffer-ms {chosen.buffer_ms:g}"
        messages.print(f"this machine is fast enough for {wished}")
    settings = Settings(
        strength=wanted.pop("strength"),
        limit_db=wanted.pop("limit_db"),
        hops_per_step=hops_per_step if wanted["latency_ms"] is None else 1,  # a latency chooses
    )
    engine = open_live(settings=settings, first_buffer_ms=chosen.buffer_ms, **wanted)
    say = Console(quiet=True).print if as_json else screen.print
    _announce(engine, wanted["output"], name, say)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as at_end:
        at_end.callback(engine.stop)
        _run(engine, say, wanted["latency_ms"], duration, status_seconds or math.inf, as_json)
    if as_json:
        _print_json(engine)
    else:
        _sum_up(engine, wanted["output"], record, say)


def _saved_choices(context: typer.Context) -> dict[str, Any]:
    """Return the saved choices for all options that were not given."""
    needed("platformdirs", "web", "--saved")
    from rtden.web.choices import load_choices

    choices = dict(load_choices())
    choices["limit_db"] = math.inf if choices["limit_db"] is None else choices["limit_db"]
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source and source.name != "DEFAULT"}
    if "hops_per_step" in given:  # a latency would choose them
        given.add("latency_ms")
    return {name: choices[name] for name in CHOICES if name not in given}


def _announce(engine: LiveEngine, output: str, name: str | None, say: Callable[..., None]) -> None:
    """Let `rtden ctl` control the engine until it stops; print input and output."""
    from rtden.live.control import DEFAULT_NAME, ControlServer

    try:
        server = engine.resources.enter_context(ControlServer(engine, name))
    except ControlError as error:
        if name is not None:
            engine.stop()
            raise
        messages.print(f"rtden: no 'rtden ctl': {error}")  # the sound matters more
    else:
        if server.name != DEFAULT_NAME:
            say(f"control it with 'rtden ctl --name {server.name}'")
    sides = engine.source, engine.sink
    say("from", " to ".join(f"{s.name} ({s.rate_hz} Hz, {s.channels} ch)" for s in sides))
    if output == VIRTUAL_MICROPHONE:
        say(f"choose '{engine.output_name.split(' ')[0]}' as the microphone in the other program")


def _run(
    engine: LiveEngine,
    say: Callable[..., None],
    wish_ms: float | None,
    duration: float,
    status_seconds: float,
    as_json: bool,
) -> None:
    """Run an engine until it ends, or `duration` is over; keep systemd informed."""
    from rtden.live.realtime import Supervisor, settle_memory

    supervisor = Supervisor()
    settle_memory()
    engine.start()
    time.sleep(SETTLING_SECONDS)
    duration -= SETTLING_SECONDS
    parts = engine.latency
    say(
        f"total latency {parts.total_ms:.0f} ms = input {parts.source_ms:.0f}"
        f" + resampling {parts.resampling_ms:.0f} + denoiser {parts.denoiser_ms:.0f}"
        f" + buffer {parts.buffer_ms:.0f} + output {parts.sink_ms:.0f}"
    )
    if wish_ms is not None and parts.total_ms > wish_ms + 1.0:
        least = f"these devices cannot do {wish_ms:g} ms; it is {parts.total_ms:.0f} ms"
        messages.print(f"rtden: {least}")
    supervisor.ready()
    try:
        if screen.is_terminal and not as_json:
            from rtden.app.keys import open_keys
            from rtden.app.view import watch

            title = f"{engine.source.name} to {engine.sink.name}"
            with open_keys() as keys:
                watch(engine, screen, keys, title=title, duration=duration)
        else:
            _print_lines(engine, supervisor.alive, duration, status_seconds, as_json)
    finally:
        supervisor.stopping()


def _print_lines(
    engine: LiveEngine,
    alive: Callable[[], None],
    duration: float,
    status_seconds: float,
    as_json: bool,
) -> None:
    ends_at, due_at = (time.monotonic() + seconds for seconds in (duration, status_seconds))
    shown: tuple[str, ...] = ()
    while engine.running and (now := time.monotonic()) < ends_at:
        alive()
        time.sleep(max(0.0, min(LOOK_SECONDS, due_at - now, ends_at - now)))
        if time.monotonic() < due_at:
            continue
        due_at += status_seconds
        if as_json:
            _print_json(engine)
            continue
        status = engine.status()
        new = (f"! {warning}" for warning in status.warnings if warning not in shown)
        screen.print(status_line(status), *new, sep="\n")
        shown = status.warnings


def _print_json(engine: LiveEngine) -> None:
    known = {**engine.status().to_dict(), "planned_latency": engine.latency.to_dict()}
    print(json.dumps(known), flush=True)


def status_line(status: LiveStatus) -> str:
    """Return a status as one line of text."""
    line = (
        f"in {options.in_db(status.input_db):>9}  out {options.in_db(status.output_db):>9}"
        f"  pauses {options.pauses(status.noise_removed_db)}  load {status.load:6.1%}"
        f"  xruns {status.xruns}  latency {options.in_ms(status.latency_ms)}"
        f"  drift {options.in_ppm(status.drift_ppm)}"
    )
    return line if status.state == "running" else f"{line}  {status.state}"


def _sum_up(
    engine: LiveEngine, output: str | None, record: Path | None, say: Callable[..., None]
) -> None:
    from rtden.live.file_endpoints import is_audio_file

    status = engine.status()
    say(
        f"{status.seconds:.1f} s: pauses {options.pauses(status.noise_removed_db)},"
        f" latency {engine.latency.total_ms:.0f} ms, load {status.mean_load:.1%} of one core,"
        f" {counted(status.xruns, 'xrun')}"
    )
    if status.flagged_blocks:
        say(f"The sound system reported {counted(status.flagged_blocks, 'block')} late or lost.")
    if status.disconnects:
        say(f"A device was lost and found again {counted(status.disconnects, 'time')}.")
    if status.dropouts:
        say(
            f"{counted(status.dropouts, 'drop-out')}: {status.lost_ms:.0f} ms of sound were lost,"
            f" and the buffer is now {status.buffer_ms:.0f} ms. If that happens often, try"
            f" --buffer-ms {max(60, round(status.buffer_ms))} or --hops-per-step 2."
        )
    if is_audio_file(output or ""):
        say(f"cleaned sound: {output}")
    if record is not None:
        say(f"recordings: {record / 'noisy.wav'}, {record / 'cleaned.wav'}")


class Action(str, enum.Enum):
    """What `rtden ctl` can do."""

    status = "status"
    bypass = "bypass"
    mute = "mute"
    strength = "strength"
    limit = "limit"
    stop = "stop"


def ctl(
    action: Annotated[Action, Argument(help="What to do.")],
    value: Annotated[str | None, Argument(help=VALUE, show_default=False)] = None,
    name: Annotated[str | None, Option("--name", help="Which stream, if several run.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print the status as JSON.")] = False,
) -> None:
    """Switch a running 'rtden live', from a hotkey or a script."""
    from rtden.live.control import ask

    status = ask(_request(action.value, value), name)
    if as_json:
        print(json.dumps(status))
    elif action is Action.stop:
        screen.print(f"{status['name']} stops")
    else:
        screen.print(_line(status), *status["warnings"], sep="\n! ")


def _request(action: str, value: str | None) -> dict[str, Any]:
    if action in NUMBERS:
        with contextlib.suppress(ValueError):
            return {"command": "set", NUMBERS[action]: float(value or "")}
        raise SettingsError(f"'rtden ctl {action}' needs a number.")
    if action in SWITCHES and value in ("on", "off"):
        return {"command": "set", SWITCHES[action]: value == "on"}
    if value is not None:
        fitting = f"on or off, not '{value}'" if action in SWITCHES else "no value"
        raise SettingsError(f"'rtden ctl {action}' takes {fitting}.")
    if action in SWITCHES:
        return {"command": "toggle", "name": SWITCHES[action]}
    return {"command": action}


def _line(status: dict[str, Any]) -> str:
    limit = "none" if status["limit_db"] is None else f"{status['limit_db']:g} dB"
    bypass, mute = ("on" if status[name] else "off" for name in ("bypassed", "muted"))
    return (
        f"{status['name']}: {status['state']}, {status['input']} to {status['output']}, "
        f"bypass {bypass}, mute {mute}, strength {status['strength']:g}, limit {limit}"
    )
