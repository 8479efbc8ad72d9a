"""`rtden ctl`: switch a running live stream."""

from __future__ import annotations

import contextlib
import enum
import json
from typing import Annotated, Any

from typer import Argument, Option

from rtden.app.options import screen
from rtden.errors import SettingsError


class Action(str, enum.Enum):
    """What `rtden ctl` can do."""

    status = "status"
    bypass = "bypass"
    mute = "mute"
    strength = "strength"
    limit = "limit"
    stop = "stop"


SWITCHES = {"bypass": "bypassed", "mute": "muted"}
NUMBERS = {"strength": "strength", "limit": "limit_db"}
VALUE = "on or off (else the other of the two), 0 to 1 for strength, dB for limit (inf: none)."


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
    """Return the request; raises SettingsError if the value does not fit."""
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
