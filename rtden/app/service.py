"""Run live sound, or the page, as a systemd user service: from boot on, and after a failure.

A user service needs no root, and it finds the user's sound server.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from rtden.app.options import screen
from rtden.errors import ServiceError, SettingsError

DEFAULTS = ("--preset", "auto", "--status-seconds", "600", "--realtime")
"""Default options; the user's come later and override them."""
NAME = "rtden.service"
STEPS = (("daemon-reload",), ("enable", NAME), ("restart", "--no-block", NAME))
# After= is only an order: servers that a machine lacks do no harm. The start limit is off because a
# microphone that is connected an hour later must still be found.
UNIT = """\
# Written by 'rtden service install'; 'rtden service uninstall' removes it.
[Unit]
Description=rtden, live speech denoiser
After=pipewire.service wireplumber.service pipewire-pulse.service pulseaudio.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
WorkingDirectory=-{folder}
ExecStart={command}
Environment=PYTHONUNBUFFERED=1
KillSignal=SIGINT
Restart=on-failure
RestartSec=3
WatchdogSec=30
StandardOutput=journal
StandardError=journal
SyslogIdentifier=rtden

[Install]
WantedBy=default.target
"""

service = typer.Typer(
    help="Run 'rtden live', or the page, as a systemd service.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@service.command("install", context_settings={"ignore_unknown_options": True})  # also without --
def service_install(
    options: Annotated[
        list[str] | None,
        Argument(help="Options of rtden live or ui, after --.", show_default=False),
    ] = None,
    ui: Annotated[bool, Option("--ui", help="Run 'rtden ui', the page, not 'rtden live'.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the unit and the commands.")] = False,
) -> None:
    """Start now and at every boot.

    For instance: rtden service install -- --in usb --out headset. Your options override those that
    it starts with: --preset auto --status-seconds 600 --realtime; with --ui: --no-browser.
    """
    given = ("--no-browser", *(options or ())) if ui else (*DEFAULTS, *(options or ()))
    _check(given, ui=ui, new_token=not dry_run)
    text, path = unit_text(*this_program(), "ui" if ui else "live", *given), unit_path()
    linger = ("loginctl", "enable-linger", getpass.getuser())
    if dry_run:
        commands = [*(("systemctl", "--user", *step) for step in STEPS), linger]
        print(f"# {path}\n{text}", *(f"# {' '.join(command)}\n" for command in commands), sep="")
        return
    install(text)
    looks = "'rtden service status' and 'rtden service logs'"
    screen.print(f"rtden runs: {path}. Look with {looks}.")
    if not (shutil.which("loginctl") and _succeeds(*linger)):
        line = f"sudo {' '.join(linger)}"
        screen.print(f"It starts when you log in; to start it at boot, run '{line}'.")


@service.command("status")
def service_status() -> None:
    """Show whether the service runs.

    The exit code is 3 if it does not, as systemctl's.
    """
    _require(installed=True)
    shown = ("systemctl", "--user", "status", "--no-pager", "--lines=0", NAME)
    raise typer.Exit(subprocess.run(shown, check=False).returncode)


@service.command("logs")
def service_logs(
    lines: Annotated[int, Option("--lines", "-n", help="The newest lines to show.")] = 50,
    follow: Annotated[bool, Option("--follow", "-f", help="Show new lines, until Ctrl-C.")] = False,
) -> None:
    """Show the service's output, and systemd's messages about it."""
    if lines < 0:
        raise ServiceError(f"--lines must be 0 or more, not {lines}.")
    _require("journalctl", installed=True)
    # Not --user: it reads the user's own journal, which journald does not keep where its journals
    # are in memory.
    mine = f"_UID={os.getuid()}"
    matches = ("SYSLOG_IDENTIFIER=rtden", mine, "+", f"USER_UNIT={NAME}", mine)
    options = ("--no-pager", "--output=short-iso", "--lines", str(lines))
    command = ("journalctl", *options, *(["--follow"] if follow else []), *matches)
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@service.command("uninstall")
def service_uninstall() -> None:
    """Stop the service and remove its unit."""
    _require(installed=True)
    _systemctl("disable", "--now", NAME)
    unit_path().unlink()
    _systemctl("daemon-reload")
    # Forget an earlier failure: the service is gone.
    _systemctl("reset-failed", NAME, check=False)
    screen.print(f"removed: {unit_path()}")


def unit_text(*command: str) -> str:
    """Return the content of a unit that runs a command line in this folder."""
    folder = str(Path.cwd()).replace("%", "%%")
    return UNIT.format(folder=folder, command=" ".join(map(_quote, command)))


def this_program() -> tuple[str, ...]:
    """Return the command line of this rtden: the script beside this Python, or the module."""
    script = Path(sys.executable).parent / "rtden"
    return (str(script),) if os.access(script, os.X_OK) else (sys.executable, "-m", "rtden")


def unit_path() -> Path:
    """Return where the unit file lies."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(configuration) / "systemd" / "user" / NAME


def install(text: str) -> None:
    """Write the unit and start it, now and at every boot; a ServiceError restores the old one."""
    from rtden.files.atomic import write_whole

    _require()
    path = unit_path()
    before = path.read_bytes() if path.exists() else None
    write_whole(path, text.encode(), force=True)
    try:
        for step in STEPS:
            _systemctl(*step)
    except BaseException:
        path.unlink() if before is None else path.write_bytes(before)
        _systemctl("daemon-reload", check=False)
        raise


def _check(options: tuple[str, ...], *, ui: bool, new_token: bool) -> None:
    """Raise what is wrong with a command's options; print the token of `rtden ui` if it is new."""
    from rtden.app import live, web
    from rtden.live.plan import check_name
    from rtden.model import find_model
    from rtden.settings import Settings

    given = _parsed(web.ui if ui else live.live, options)
    if not ui:
        names = ("strength", "limit_db", "hops_per_step")
        Settings(**{name: given[name] for name in names if given[name] is not None})
        check_name(given["preset"])
        find_model(given["model"])
    elif given["token"] is None and given["host"] not in web.HERE and new_token:
        web.saved_token()


def _parsed(function: Callable[..., None], options: tuple[str, ...]) -> dict[str, Any]:
    """Return a command's parameters; raise SettingsError if it refuses the options."""
    command = typer.Typer(add_completion=False)
    command.command()(function)
    try:
        return typer.main.get_command(command).make_context("rtden", list(options)).params
    except Exception as error:  # of click, or of typer's own copy of it
        if not hasattr(error, "format_message"):
            raise
        name, reason = function.__name__, error.format_message().rstrip(".")
        raise SettingsError(f"'rtden {name}' refuses its options: {reason}.") from None


def _require(program: str = "systemctl", *, installed: bool = False) -> None:
    """Raise ServiceError if the program, the unit or the user's service manager is missing."""
    if installed and not unit_path().exists():
        raise ServiceError(f"there is no {unit_path()}: run 'rtden service install' first.")
    if shutil.which(program) is None:
        advice = "start 'rtden live' with what starts services here, and look for its logs there"
        raise ServiceError(f"this system has no systemd ({program} is missing): {advice}.")
    # Every login, also by ssh, has a service manager; 'sudo -u' has none.
    if program == "systemctl" and not _succeeds("systemctl", "--user", "show", "-p", "Version"):
        raise ServiceError(
            "systemd runs no services for this user in this session: log in as the user "
            "itself (not by su or sudo) and try again."
        )


def _succeeds(*command: str) -> bool:
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _systemctl(*words: str, check: bool = True) -> None:
    command = ("systemctl", "--user", *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = lines[-1].rstrip(".")
        raise ServiceError(
            f"'{' '.join(command)}' failed ({reason}); look with 'systemctl --user status {NAME}'."
        )


def _quote(word: str) -> str:
    """Quote a word for ExecStart, with its quotes, backslashes, % specifiers and $ variables."""
    for found, quoted in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n")):
        word = word.replace(found, quoted)
    return word if word and not set(word) & set(" \t'\"\\;") else f'"{word}"'
