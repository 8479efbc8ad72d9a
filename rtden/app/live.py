"""Denoise a microphone in real time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtden.app.options import (
    VIRTUAL_MICROPHONE,
    BufferOption,
    ForceOption,
    FullBandOption,
    LatencyOption,
    LimitOption,
    LiveAdvanceOption,
    ModelOption,
    PresetOption,
    RealtimeOption,
    SourceOption,
    StatusOption,
    StereoOption,
    StrengthOption,
    TargetOption,
    in_db,
    messages,
    one_sentence,
    screen,
)

if TYPE_CHECKING:
    from rtden.live.status import LatencyParts, LiveStatus


@one_sentence
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
    from rtden.errors import SettingsError
    from rtden.live import open_live
    from rtden.live.endpoints import is_audio_file
    from rtden.settings import Settings

    if not duration > 0:
        raise SettingsError(f"--duration must be more than 0 seconds, not {duration:g}.")
    if not status_seconds >= 0:
        raise SettingsError(f"--status-seconds must be 0 or more, not {status_seconds:g}.")
    if latency_ms is not None and hops_per_step is not None:
        raise SettingsError(
            "--latency-ms chooses the hops_per_step; give one of --latency-ms and --hops-per-step."
        )
    wished = Settings(strength=strength, limit_db=limit_db)  # wrong ones are refused at once
    carried_advance, first_buffer_ms = _carried(preset, model, hops_per_step)
    if latency_ms is None:
        wished = dataclasses.replace(wished, hops_per_step=carried_advance)
    engine = open_live(
        source,
        target,
        model=model,
        settings=wished,
        latency_ms=latency_ms,
        buffer_ms=buffer_ms,
        first_buffer_ms=first_buffer_ms,
        stereo=stereo,
        full_band=full_band,
        record=record,
        force=force,
        realtime=realtime,
    )
    origin, sink = engine.source, engine.sink
    title = f"from {origin.name} ({origin.rate_hz} Hz, {origin.channels} ch) to {sink.name} ({sink.rate_hz} Hz, {sink.channels} ch)"
    if not as_json:
        screen.print(title, markup=False)
        if target == VIRTUAL_MICROPHONE:
            screen.print("choose 'rtden' as the microphone in the other program")
    with contextlib.suppress(KeyboardInterrupt):
        try:
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


def _carried(preset: str, model: str | None, hops_per_step: int | None) -> tuple[int, float]:
    """Return a preset's hops_per_step, replaced by what the user gave, and the buffer to begin with in ms."""
    from rtden.live.presets import AUTO, find_preset

    chosen = find_preset(preset, model)
    hops_per_step = chosen.hops_per_step if hops_per_step is None else hops_per_step
    if preset == AUTO:
        messages.print(
            f"this machine carries --hops-per-step {hops_per_step} --buffer-ms {chosen.buffer_ms:g}"
        )
    return hops_per_step, chosen.buffer_ms


def _watch(
    engine: Any, title: str, duration: float, status_seconds: float, *, as_json: bool
) -> None:
    """Show what the engine does until it ends, a key says so, or the time is over: on a terminal as a view, else as lines.

    systemd is told, too, where it asked for that.
    """
    from rtden.app.keys import Keyboard
    from rtden.app.view import watch
    from rtden.live.realtime import Supervisor

    supervisor = Supervisor()
    time.sleep(0.3)  # the first blocks tell how long the devices' blocks are
    if not as_json:
        parts = engine.latency
        screen.print(
            f"total latency {parts.total_ms:.0f} ms = input {parts.source_ms:.0f} + resampling {parts.resampling_ms:.0f} + denoiser {parts.denoiser_ms:.0f}"
            f" + buffer {parts.buffer_ms:.0f} + output {parts.sink_ms:.0f}"
        )
    supervisor.ready()
    if not as_json and screen.is_terminal:
        with Keyboard() as keyboard:
            watch(
                engine,
                screen,
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


def status_json(status: LiveStatus, latency: LatencyParts) -> str:
    """Return a status and the planned delay as a line of JSON."""
    return json.dumps({**status.to_dict(), "planned_latency": latency.to_dict()})


def _status_line(status: Any) -> str:
    line = (
        f"in {in_db(status.input_db):>9}  out {in_db(status.output_db):>9}  noise {in_db(-status.noise_removed_db)}  load {status.load:6.1%}"
        f"  xruns {status.xruns}  latency {status.latency_ms:.0f} ms  drift {status.drift_ppm:+.0f} ppm"
    )
    return line if status.state == "running" else f"{line}  {status.state}"


def _print_summary(engine: Any) -> None:
    status, parts = engine.status(), engine.latency
    screen.print(
        f"{status.seconds:.1f} s: noise reduced by {in_db(status.noise_removed_db)}, total latency {parts.total_ms:.0f} ms, "
        f"load {status.mean_load:.1%} of one core, xruns {status.xruns}"
    )
    if status.flagged_blocks:
        screen.print(
            f"The sound system reported {status.flagged_blocks} blocks that came too late or were lost."
        )
    if status.disconnects:
        screen.print(f"A device was lost, and found again, {status.disconnects} times.")
    if status.dropouts:
        screen.print(
            f"The output ran dry or sound came too late {status.dropouts} times, {status.lost_ms:.0f} ms of sound were left out: "
            f"the buffer went to {status.buffer_ms:.0f} ms; give --buffer-ms 60 or more, or --hops-per-step 2, if that happens often."
        )
