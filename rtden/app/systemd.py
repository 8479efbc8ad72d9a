"""rtden as a systemd user service: it starts at boot, without a login, and after a failure.

A user service needs no root, and it finds the user's sound server. Where there is none (Raspberry
Pi OS Lite), sound goes straight to ALSA's devices.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtden.errors import ServiceError

NAME = "rtden.service"
SYSTEMCTL = ("systemctl", "--user")
WATCHDOG_SECONDS = 30
RESTART_SECONDS = 3
SOUND_SERVERS = (
    "pipewire.service",
    "wireplumber.service",
    "pipewire-pulse.service",
    "pulseaudio.service",
)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit file for `rtden live`, or for `rtden ui`."""

    program: tuple[str, ...]
    """The command line up to the command, its first word an absolute path."""
    command: str = "live"
    options: tuple[str, ...] = ()
    """Options of the command."""
    alsa: bool = False
    """Whether sound goes straight to ALSA's devices, without a sound server."""

    def to_text(self) -> str:
        """Return the unit file's content."""
        command = " ".join(_quote(word) for word in (*self.program, self.command, *self.options))
        # Only the order: none of the servers is required, and those that a machine lacks do no
        # harm.
        order = "" if self.alsa else f"After={' '.join(SOUND_SERVERS)}\n"
        return (
            "# Written by 'rtden service install'; 'rtden service uninstall' removes it.\n"
            "[Unit]\n"
            f"Description=rtden, live speech denoiser{' (ALSA only)' if self.alsa else ''}\n"
            f"{order}"
            # A microphone that is connected an hour later must still be found.
            "StartLimitIntervalSec=0\n"
            "\n"
            "[Service]\n"
            "Type=notify\n"
            "NotifyAccess=main\n"
            f"ExecStart={command}\n"
            "Environment=PYTHONUNBUFFERED=1\n"
            "KillSignal=SIGINT\n"
            "Restart=on-failure\n"
            f"RestartSec={RESTART_SECONDS}\n"
            f"WatchdogSec={WATCHDOG_SECONDS}\n"
            "StandardOutput=journal\n"
            "StandardError=journal\n"
            "SyslogIdentifier=rtden\n"
            "\n"
            "[Install]\n"
            "WantedBy=default.target\n"
        )


def this_program() -> tuple[str, ...]:
    """Return the command line of this rtden: the script beside this Python, or the module."""
    script = Path(sys.executable).parent / "rtden"
    return (str(script),) if os.access(script, os.X_OK) else (sys.executable, "-m", "rtden")


def unit_path() -> Path:
    """Return where the unit file lies."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(configuration) / "systemd" / "user" / NAME


def steps() -> tuple[tuple[str, ...], ...]:
    """Return the commands that :func:`install` runs once the unit is written."""
    return (
        (*SYSTEMCTL, "daemon-reload"),
        (*SYSTEMCTL, "enable", NAME),
        (*SYSTEMCTL, "restart", "--no-block", NAME),
    )


def linger_command() -> tuple[str, ...]:
    """Return the command that lets the user's services start at boot, before a login."""
    return ("loginctl", "enable-linger", getpass.getuser())


def install(unit: Unit) -> str:
    """Write the unit, start it now and at every boot; return a sentence on what is left to do.

    Raises
    ------
    ServiceError
        If systemd does not take it; what was there before is then there again.
    """
    _require_manager()
    path, text = unit_path(), unit.to_text()
    before = path.read_text(encoding="utf-8") if path.exists() else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ServiceError(
            f"{path} cannot be written ({error.strerror}); check the folder's permissions."
        ) from None
    try:
        for command in steps():
            _run(command)
    except BaseException:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        _ends_with((*SYSTEMCTL, "daemon-reload"))
        raise
    if shutil.which("loginctl") is None or _ends_with(linger_command()):
        line = " ".join(linger_command())
        return f"It starts when you log in; to start it at boot, run 'sudo {line}'."
    return ""


def uninstall() -> None:
    """Stop the service and remove its unit.

    Raises
    ------
    ServiceError
        If it is not installed, or systemd does not let it go.
    """
    _require_installed()
    _require_manager()
    _run((*SYSTEMCTL, "disable", "--now", NAME))
    unit_path().unlink()
    _run((*SYSTEMCTL, "daemon-reload"))
    # A failure before must not be shown for a service that is no more.
    _ends_with((*SYSTEMCTL, "reset-failed", NAME))


def status() -> dict[str, str]:
    """Return systemd's properties: ActiveState, SubState, MainPID, NRestarts and others.

    Raises
    ------
    ServiceError
        If the service is not installed, or systemd does not answer.
    """
    _require_installed()
    _require_manager()
    states = "ActiveState,SubState,UnitFileState,ActiveEnterTimestamp"
    wanted = f"--property={states},MainPID,NRestarts,Result,ExecMainStatus"
    said = _run((*SYSTEMCTL, "show", NAME, wanted))
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def logs_command(lines: int, *, follow: bool) -> tuple[str, ...]:
    """Return the command that shows the service's journal.

    Raises
    ------
    ServiceError
        If the number of lines is negative, the service is not installed, or this system has no
        journal.
    """
    if lines < 0:
        raise ServiceError(f"--lines must be 0 or more, not {lines}.")
    _require_installed()
    if shutil.which("journalctl") is None:
        raise ServiceError("this system has no journalctl: look where its services write logs.")
    # Not --user: it reads the user's own journal, which journald does not keep where its journals
    # are in memory. What rtden said, and what systemd said about it.
    mine = f"_UID={os.getuid()}"
    matches = ("SYSLOG_IDENTIFIER=rtden", mine, "+", f"USER_UNIT={NAME}", mine)
    options = ("--no-pager", "--output=short-iso", "--lines", str(lines))
    return ("journalctl", *options, *(("--follow",) if follow else ()), *matches)


def _require_installed() -> None:
    if not unit_path().exists():
        raise ServiceError(f"there is no {unit_path()}: run 'rtden service install' first.")


def _require_manager() -> None:
    if shutil.which("systemctl") is None:
        raise ServiceError(
            "this system has no systemd: start 'rtden live' with what starts services here."
        )
    # Before any linger, a login by ssh has a manager too; 'sudo -u' has none.
    if _ends_with((*SYSTEMCTL, "show", "--property=Version")):
        raise ServiceError(
            "systemd runs no services for this user in this session: log in as the user "
            "itself (not by su or sudo) and try again."
        )


def _ends_with(command: Sequence[str]) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = lines[-1].rstrip(".")
        raise ServiceError(
            f"'{' '.join(command)}' failed ({reason}); look with 'systemctl --user status {NAME}'."
        )
    return done.stdout


def _quote(word: str) -> str:
    """Quote a word for ExecStart, with its quotes, backslashes, % specifiers and $ variables."""
    escaped = word
    for found, quoted in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n")):
        escaped = escaped.replace(found, quoted)
    return escaped if escaped and not set(escaped) & set(" \t'\"\\;") else f'"{escaped}"'
