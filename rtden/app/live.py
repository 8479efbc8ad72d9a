"""Denoise a microphone in real time."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from rtden.app.options import (
    VIRTUAL_MICROPHONE,
    ForceOption,
    FullBandOption,
    JsonOption,
    LimitOption,
    ModelOption,
    StrengthOption,
    in_db,
    load_quietly,
    messages,
    one_sentence,
    pauses,
    screen,
)
from rtden.live.status import counted

if TYPE_CHECKING:
    from rtden.live import LatencyParts, LiveEngine, LiveStatus
    from rtden.live.realtime import Supervisor
    from rtden.settings import Settings

SETTLING_SECONDS = 0.3
"""Time in which the first blocks show how long the devices' blocks are."""
LOOK_SECONDS = 0.05
SAVED = {"source": "input", "target": "output"}
"""Parameters of the command whose names differ from those in the settings file."""


@one_sentence
def live(
    context: typer.Context,
    source: Annotated[
        str,
        Option(
            *("--in", "-i"),
            help="'mic', a device's number or part of its name, or a file, played in real time.",
        ),
    ] = "mic",
    target: Annotated[
        str,
        Option(
            *("--out", "-o"),
            help="'speakers', a device's number or part of its name, 'virtual-mic', or a file.",
        ),
    ] = "speakers",
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    limit_db: LimitOption = math.inf,
    hops_per_step: Annotated[
        int | None,
        Option(
            help="Hops (23 ms) per step: 1, 2, 4 or 8. More cost less CPU and add 23 ms each.",
            show_default="by the preset",
        ),
    ] = None,
    latency_ms: Annotated[
        float | None,
        Option(
            help="Total delay to aim at; chooses windows, hops per step and buffer.",
            show_default="by the preset",
        ),
    ] = None,
    buffer_ms: Annotated[
        float | None,
        Option(
            help="Fixed output buffer; a larger one survives a busier machine.",
            show_default="by the preset, growing after drop-outs",
        ),
    ] = None,
    preset: Annotated[
        str, Option(help="Machine: zero2, pi4, pi5, desktop, or auto, which measures for 0.5 s.")
    ] = "desktop",
    duration: Annotated[
        float,
        Option(help="Stop after this many seconds.", show_default="at Ctrl-C or a file's end"),
    ] = math.inf,
    stereo: Annotated[
        bool, Option("--stereo", help="Keep two channels, at twice the CPU cost; default: mono.")
    ] = False,
    full_band: FullBandOption = True,
    record: Annotated[
        Path | None, Option(help="Folder for noisy.wav and cleaned.wav: record both sides.")
    ] = None,
    realtime: Annotated[
        bool, Option("--realtime", help="Ask for real-time priority, if the system allows it.")
    ] = False,
    saved: Annotated[
        bool, Option("--saved", help="Start from the settings that the page in the browser saved.")
    ] = False,
    name: Annotated[
        str | None,
        Option(help="Name of the virtual microphone and for 'rtden ctl'.", show_default="rtden"),
    ] = None,
    status_seconds: Annotated[
        float, Option(help="Seconds between two status lines; 0 for none.")
    ] = 1.0,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Denoise a microphone in real time, until Ctrl-C.

    The exit code is 0 at the end of a file, after --duration and when you stop it, 2 after an
    error.
    """
    from rtden.errors import SettingsError
    from rtden.live import open_live
    from rtden.settings import Settings

    if "-" in (source, target):
        raise SettingsError("'-' is no device; between two programs use 'rtden pipe --rate 16000'.")
    if not duration > 0:
        raise SettingsError(f"--duration must be more than 0 seconds, not {duration:g}.")
    if not status_seconds >= 0:
        raise SettingsError(f"--status-seconds must be 0 or more, not {status_seconds:g}.")
    if latency_ms is not None and hops_per_step is not None:
        raise SettingsError("--latency-ms chooses the hops per step; give one of the two.")
    wanted: dict[str, Any] = {
        **{"source": source, "target": target, "model": model, "latency_ms": latency_ms},
        **{"stereo": stereo, "strength": strength, "limit_db": limit_db},
        **(_saved_choices(context) if saved else {}),
    }
    wished = Settings(strength=wanted.pop("strength"), limit_db=wanted.pop("limit_db"))
    settings, first_buffer_ms = _apply_preset(preset, wanted, wished, hops_per_step)
    source, target = wanted.pop("source"), wanted.pop("target")
    load_quietly(wanted["model"])
    engine = open_live(
        source,
        target,
        settings=settings,
        buffer_ms=buffer_ms,
        first_buffer_ms=first_buffer_ms,
        full_band=full_band,
        record=record,
        force=force,
        realtime=realtime,
        name=name,
        **wanted,
    )
    _offer_control(engine, name, quiet=as_json)
    _run(engine, target, record, duration, status_seconds or math.inf, as_json)


def _offer_control(engine: LiveEngine, name: str | None, *, quiet: bool) -> None:
    """Let `rtden ctl` switch the engine, until that stops."""
    from rtden.errors import ControlError
    from rtden.live.control import DEFAULT_NAME, ControlServer

    try:
        server = engine.resources.enter_context(ControlServer(engine, name))
    except ControlError as error:
        if name is not None:
            engine.stop()
            raise
        messages.print(f"rtden: no 'rtden ctl': {error}", markup=False)  # the sound matters more
    else:
        if server.name != DEFAULT_NAME and not quiet:
            screen.print(f"control it with 'rtden ctl --name {server.name}'", markup=False)


def _apply_preset(
    preset: str, wanted: dict[str, Any], settings: Settings, hops_per_step: int | None
) -> tuple[Settings, float]:
    """Return the settings with the preset's hops per step, and the first buffer in ms."""
    from rtden.live.presets import AUTO, find_preset

    chosen = find_preset(preset, wanted["model"])
    hops_per_step = hops_per_step or chosen.hops_per_step
    if preset == AUTO:
        options = f"--hops-per-step {hops_per_step} --buffer-ms {chosen.buffer_ms:g}"
        messages.print(f"this machine is fast enough for {options}")
    if wanted["latency_ms"] is None:
        settings = dataclasses.replace(settings, hops_per_step=hops_per_step)
    return settings, chosen.buffer_ms


def _saved_choices(context: typer.Context) -> dict[str, Any]:
    """Return the saved choices for all options that were not given."""
    from rtden.live.saved import load_saved

    choices = load_saved()
    found = {
        name: getattr(choices, SAVED.get(name, name))
        for name in ("source", "target", "model", "latency_ms", "stereo", "strength", "limit_db")
        if (given := context.get_parameter_source(name)) is None or given.name == "DEFAULT"
    }
    if found.get("limit_db", 0.0) is None:
        found["limit_db"] = math.inf
    return found


def _run(
    engine: LiveEngine,
    target: str,
    record: Path | None,
    duration: float,
    status_seconds: float,
    as_json: bool,
) -> None:
    """Run an engine until it ends, a key or a signal stops it, or `duration` is over."""
    from rtden.live.endpoints import is_audio_file

    sides = ((side.name, side.rate_hz, side.channels) for side in (engine.source, engine.sink))
    title = "from {} to {}".format(*(f"{name} ({hz} Hz, {ch} ch)" for name, hz, ch in sides))
    if not as_json:
        screen.print(title, markup=False)
        if target == VIRTUAL_MICROPHONE:
            name = engine.output_name.split(" ")[0]
            screen.print(f"choose '{name}' as the microphone in the other program", markup=False)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            # What lives until the end need not be searched by every garbage collection.
            gc.collect()
            gc.freeze()
            engine.start()
            _watch(engine, title, duration, status_seconds, as_json=as_json)
        finally:
            engine.stop()
    if as_json:
        return
    _print_summary(engine)
    if is_audio_file(target):
        screen.print(f"cleaned sound: {target}", markup=False)
    if record is not None:
        screen.print(f"recordings: {record / 'noisy.wav'}, {record / 'cleaned.wav'}", markup=False)


def _watch(
    engine: LiveEngine, title: str, duration: float, status_seconds: float, *, as_json: bool
) -> None:
    """Show the engine's state, on a terminal as a view, else as lines; keep systemd informed."""
    from rtden.app.keys import Keyboard
    from rtden.live.realtime import Supervisor

    supervisor = Supervisor()
    time.sleep(SETTLING_SECONDS)
    duration -= SETTLING_SECONDS
    if not as_json:
        parts = engine.latency
        screen.print(
            f"total latency {parts.total_ms:.0f} ms = input {parts.source_ms:.0f}"
            f" + resampling {parts.resampling_ms:.0f} + denoiser {parts.denoiser_ms:.0f}"
            f" + buffer {parts.buffer_ms:.0f} + output {parts.sink_ms:.0f}"
        )
    supervisor.ready()
    if not as_json and screen.is_terminal:
        from rtden.app.view import watch

        with Keyboard() as keyboard:
            centres_hz = engine.band_centres_hz
            watch(
                engine,
                screen,
                keyboard.keys(),
                title=title,
                duration=duration,
                centres_hz=centres_hz,
            )
        return
    try:
        _print_lines(engine, supervisor, time.monotonic() + duration, status_seconds, as_json)
    finally:
        supervisor.stopping()


def _print_lines(
    engine: LiveEngine,
    supervisor: Supervisor,
    ends_at: float,
    status_seconds: float,
    as_json: bool,
) -> None:
    due_at = time.monotonic() + status_seconds
    shown: tuple[str, ...] = ()
    while engine.running and time.monotonic() < ends_at:
        supervisor.alive()
        time.sleep(LOOK_SECONDS)
        if time.monotonic() < due_at:
            continue
        due_at += status_seconds
        status = engine.status()
        lines = [status_json(status, engine.latency)] if as_json else [status_line(status)]
        if not as_json and status.warnings != shown:
            lines += [f"! {warning}" for warning in status.warnings if warning not in shown]
            shown = status.warnings
        print(*lines, sep="\n", flush=True)


def status_json(status: LiveStatus, latency: LatencyParts) -> str:
    """Return a status and the planned delay as a line of JSON."""
    return json.dumps({**status.to_dict(), "planned_latency": latency.to_dict()})


def status_line(status: LiveStatus) -> str:
    """Return a status as a line for people."""
    latency = "-" if math.isnan(status.latency_ms) else f"{status.latency_ms:.0f} ms"
    drift = "-" if math.isnan(status.drift_ppm) else f"{status.drift_ppm:+.0f} ppm"
    line = (
        f"in {in_db(status.input_db):>9}  out {in_db(status.output_db):>9}"
        f"  pauses {pauses(status.noise_removed_db)}  load {status.load:6.1%}"
        f"  xruns {status.xruns}  latency {latency}  drift {drift}"
    )
    return line if status.state == "running" else f"{line}  {status.state}"


def _print_summary(engine: LiveEngine) -> None:
    status, parts = engine.status(), engine.latency
    screen.print(
        f"{status.seconds:.1f} s: pauses {pauses(status.noise_removed_db)},"
        f" total latency {parts.total_ms:.0f} ms, load {status.mean_load:.1%} of one core,"
        f" {counted(status.xruns, 'xrun')}"
    )
    if status.flagged_blocks:
        blocks = counted(status.flagged_blocks, "block")
        screen.print(f"The sound system reported {blocks} late or lost.")
    if status.disconnects:
        screen.print(f"A device was lost and found again {counted(status.disconnects, 'time')}.")
    if status.dropouts:
        screen.print(
            f"{counted(status.dropouts, 'drop-out')}: {status.lost_ms:.0f} ms of sound were lost,"
            f" and the buffer grew to {status.buffer_ms:.0f} ms. If that happens often, try"
            " --buffer-ms 60 or --hops-per-step 2."
        )
