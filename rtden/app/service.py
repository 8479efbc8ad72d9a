"""Run live sound as a systemd user service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rtden.app.options import one_sentence, screen

DEFAULTS = ("--preset", "auto", "--status-seconds", "600", "--realtime")
"""Options that a service starts with; the user's come later and win."""

service = typer.Typer(
    help="Run 'rtden live', or the page, as a systemd user service, from boot on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _checked(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return checked options of `rtden live` with absolute paths: a service has another folder.

    Raises
    ------
    SettingsError, ModelError
        If an option or its value does not fit.
    """
    from rtden.app.live import live
    from rtden.live.endpoints import is_audio_file
    from rtden.live.presets import check_name
    from rtden.model import find_model
    from rtden.settings import Settings

    given = _parsed(live, options)
    Settings(
        strength=given["strength"],
        limit_db=given["limit_db"],
        hops_per_step=given["hops_per_step"] or 1,
    )
    check_name(given["preset"])
    model = find_model(given["model"])
    whole = (
        {given["model"]: str(model.resolve())} if given["model"] not in (None, model.stem) else {}
    )
    places = [name for name in (given["source"], given["target"]) if is_audio_file(name)]
    whole |= {
        str(place): str(Path(place).resolve()) for place in (*places, given["record"]) if place
    }
    return tuple(whole.get(word, word) for word in options)


def _checked_for_page(options: tuple[str, ...], *, dry_run: bool) -> tuple[str, ...]:
    """Return options of `rtden ui`, as :func:`_checked` does; print a token if it is new."""
    from rtden.app.web import kept_token, needs_token, ui

    given = _parsed(ui, options)
    if needs_token(given["host"], given["token"]) and not dry_run:
        kept_token()
    certificate = given["certificate"]
    whole = {str(certificate): str(certificate.resolve())} if certificate else {}
    return tuple(whole.get(word, word) for word in options)


def _parsed(function: Callable[..., None], options: tuple[str, ...]) -> dict[str, Any]:
    """Return what a command understands by options.

    Raises
    ------
    SettingsError
        If it refuses them.
    """
    from rtden.errors import SettingsError

    command = typer.Typer(add_completion=False)
    command.command()(function)
    try:
        return typer.main.get_command(command).make_context("rtden", list(options)).params
    except Exception as error:  # of click, or of typer's own copy of it
        if not hasattr(error, "format_message"):
            raise
        reason = error.format_message().rstrip(".")
        name = function.__name__
        raise SettingsError(f"'rtden {name}' refuses its options: {reason}.") from None


@service.command("install")
@one_sentence
def service_install(
    options: Annotated[
        list[str] | None,
        typer.Argument(help="Options of the command, after --.", show_default=False),
    ] = None,
    alsa: Annotated[
        bool,
        typer.Option(
            "--alsa",
            help="Without a sound server: sound goes straight to ALSA's devices (Raspberry "
            "Pi OS Lite).",
        ),
    ] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Run 'rtden ui', the page, in place of 'rtden live'.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the unit and the commands, and change nothing.")
    ] = False,
) -> None:
    """Start now and at every boot: rtden service install -- --in usb --out headset.

    Without such options: --preset auto --status-seconds 600 --realtime.
    """
    from rtden.app.systemd import Unit, install, linger_command, steps, this_program, unit_path

    if ui:
        checked = _checked_for_page(("--no-browser", *(options or ())), dry_run=dry_run)
    else:
        checked = _checked((*DEFAULTS, *(options or ())))
    name = "ui" if ui else "live"
    unit = Unit(program=this_program(), command=name, options=checked, alsa=alsa)
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
        f"{known['ActiveState']} ({known['SubState']}) since "
        f"{known['ActiveEnterTimestamp'] or 'never'}, process {known['MainPID']}, "
        f"restarts {known['NRestarts']}, at boot {known['UnitFileState']}, last result "
        f"{known['Result']}",
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
