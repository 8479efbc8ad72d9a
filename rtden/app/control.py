"""`rtden ctl`: switch a running live stream."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any

from typer import Argument, Option

from rtden.app.options import one_sentence, screen


class Action(str, enum.Enum):
    """What `rtden ctl` can do."""

    status = "status"
    bypass = "bypass"
    mute = "mute"
    strength = "strength"
    limit = "limit"
    stop = "stop"


_SWITCHES = {Action.bypass: "bypassed", Action.mute: "muted"}
_NUMBERS = {Action.strength: "strength", Action.limit: "limit_db"}


@one_sentence
def ctl(
    action: Annotated[Action, Argument(help="What to do.")],
    value: Annotated[
        str | None,
        Argument(
            help="on or off for bypass and mute (default: the other of the two), 0 to 1 for "
            "strength, dB for limit.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, Option("--name", help="Which stream, if several run.", show_default=False)
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the status as JSON.")] = False,
) -> None:
    """Switch a running 'rtden live', from a hotkey or a script."""
    from rtden.live.control import ask

    status = ask(_request(action, value), name)
    if as_json:
        print(json.dumps(status))
    elif action is Action.stop:
        screen.print(f"{status['name']} stops")
    else:
        screen.print(_line(status), markup=False)


def _request(action: Action, value: str | None) -> dict[str, Any]:
    """Return the request; raises SettingsError if the value does not fit."""
    from rtden.errors import SettingsError

    if action in _SWITCHES:
        if value is None:
            return {"command": "toggle", "name": _SWITCHES[action]}
        if value in ("on", "off"):
            return {"command": "set", _SWITCHES[action]: value == "on"}
        raise SettingsError(f"'rtden ctl {action.value}' takes on or off, not '{value}'.")
    if action in _NUMBERS:
        try:
            return {"command": "set", _NUMBERS[action]: float(value or "")}
        except ValueError:
            raise SettingsError(f"'rtden ctl {action.value}' needs a number.") from None
    if value is not None:
        raise SettingsError(f"'rtden ctl {action.value}' takes no value.")
    return {"command": action.value}


def _line(status: dict[str, Any]) -> str:
    limit = "none" if status["limit_db"] is None else f"{status['limit_db']:g} dB"
    line = (
        f"{status['name']}: {status['state']}, {status['input']} to {status['output']}, "
        f"bypass {'on' if status['bypassed'] else 'off'}, mute "
        f"{'on' if status['muted'] else 'off'}, "
        f"strength {status['strength']:g}, limit {limit}"
    )
    return "\n! ".join([line, *status["warnings"]])
