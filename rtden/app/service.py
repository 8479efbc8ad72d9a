"""Run live sound as a systemd user service."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from rtden.app.options import (
    BufferOption,
    FullBandOption,
    LatencyOption,
    LimitOption,
    LiveAdvanceOption,
    ModelOption,
    PresetOption,
    SourceOption,
    StatusOption,
    StereoOption,
    StrengthOption,
    TargetOption,
    one_sentence,
    screen,
)

service = typer.Typer(
    help="Run 'rtden live' as a systemd user service, from boot on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@service.command("install")
@one_sentence
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
    from rtden.app.systemd import Unit, install, linger_command, steps, this_program, unit_path
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
    screen.print(
        f"rtden runs: {unit_path()}. Look with 'rtden service status' and 'rtden service logs'.",
        markup=False,
    )
    if left_to_do:
        screen.print(left_to_do, markup=False)


@service.command("status")
@one_sentence
def service_status() -> None:
    """Say whether the service runs; leaves with 3 where it does not, as systemctl does."""
    from rtden.app.systemd import status

    known = status()
    screen.print(
        f"{known['ActiveState']} ({known['SubState']}) since {known['ActiveEnterTimestamp'] or 'never'}, process {known['MainPID']}, "
        f"restarts {known['NRestarts']}, at boot {known['UnitFileState']}, last result {known['Result']}",
        markup=False,
    )
    if known["ActiveState"] != "active":
        raise typer.Exit(3)


@service.command("logs")
@one_sentence
def service_logs(
    lines: Annotated[int, typer.Option("--lines", "-n", help="The newest lines to show.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what the service has said."""
    import subprocess

    from rtden.app.systemd import logs_command

    raise typer.Exit(subprocess.run(logs_command(lines, follow=follow), check=False).returncode)


@service.command("uninstall")
@one_sentence
def service_uninstall() -> None:
    """Stop the service and remove its unit."""
    from rtden.app.systemd import uninstall, unit_path

    uninstall()
    screen.print(f"removed: {unit_path()}", markup=False)
