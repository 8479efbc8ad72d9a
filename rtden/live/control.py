"""Control of a running live stream by other programs: a Unix socket, a JSON object per line.

Request: {"command": "status"}, {"command": "set", "strength": 0.8, "bypassed": true}, {"command":
"toggle", "name": "muted"} or {"command": "stop"}. Answer: {"ok": true, "status": {...}}, or {"ok":
false, "error": "a sentence"}. What can be set: strength, limit_db, bypassed, muted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tempfile
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtden.errors import ControlError, RtdenError

if TYPE_CHECKING:
    from rtden.live.engine import LiveEngine

DEFAULT_NAME = "live"
ANSWER_SECONDS = 5.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}")
_SETTABLE = {"strength": float, "limit_db": float, "bypassed": bool, "muted": bool}


class ControlServer(contextlib.AbstractContextManager["ControlServer"]):
    """Answers requests to a live stream, as a context manager, until that ends.

    Each connection has a thread of its own. The socket lies in the user's runtime folder and is
    readable by nobody else. Without a `name` it is "live", or "live-2" and so on if that runs.
    Raises ControlError if a stream of that name runs already, or the system has no Unix sockets.
    """

    def __init__(self, engine: LiveEngine, name: str | None = None) -> None:
        self._engine = engine
        self._socket = _new_socket()
        try:
            self.name, self._path = self._bind(name)
        except BaseException:
            self._socket.close()
            raise
        self._socket.listen()
        threading.Thread(target=self._serve, name="rtden control", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._socket.close()

    def _bind(self, name: str | None) -> tuple[str, Path]:
        if name is not None and not NAME.fullmatch(name):
            raise ControlError(f"'{name}' is no name: up to 31 letters, digits, '_' and '-'.")
        names = (DEFAULT_NAME if n == 1 else f"{DEFAULT_NAME}-{n}" for n in count(1))
        for candidate in names if name is None else (name,):
            path = socket_path(candidate)
            if path.exists() and not _answers(path):
                path.unlink(missing_ok=True)  # left by a process that was killed
            try:
                self._socket.bind(str(path))
            except OSError as error:
                if not path.exists():
                    raise ControlError(
                        f"{path} cannot be made ({error.strerror}): make its folder writable."
                    ) from None
                continue
            path.chmod(0o600)
            return candidate, path
        raise ControlError(
            f"a live stream '{name}' runs already: end it with 'rtden ctl stop --name {name}', "
            "or give this one another --name."
        )

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile() as lines:
            for line in lines:
                try:
                    answer = {"ok": True, "status": self._obey(json.loads(line))}
                except (RtdenError, ValueError, TypeError, KeyError, AttributeError) as error:
                    answer = {"ok": False, "error": f"{error}"}
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says and return the status after it."""
        engine, command = self._engine, request.pop("command")
        if command == "set":
            for name, kind in _SETTABLE.items():
                if name in request:
                    setattr(engine, name, kind(request[name]))
        elif command == "toggle" and _SETTABLE.get(request["name"]) is bool:
            setattr(engine, request["name"], not getattr(engine, request["name"]))
        elif command == "stop":
            engine.end()
        elif command != "status":
            raise ControlError(f"there is no command '{command}'.")
        return {
            **{"name": self.name, "input": engine.input_name, "output": engine.output_name},
            **{name: getattr(engine, name) for name in _SETTABLE},
            "limit_db": engine.limit_db if engine.limit_db < float("inf") else None,
            **engine.status().to_dict(),
            "planned_latency": engine.latency.to_dict(),
        }


def ask(request: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    """Send a request to a live stream, the only one if unnamed, and return its status.

    Raises ControlError if none runs, several do, or it refuses.
    """
    running = running_names()
    if name is None and len(running) > 1:
        raise ControlError(f"several live streams run: give --name {' or '.join(running)}.")
    if not running or (name or running[0]) not in running:
        which = f"'{name}' " if name else ""
        raise ControlError(f"no live stream {which}runs: start one with 'rtden live'.")
    try:
        with _new_socket() as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(socket_path(name or running[0])))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile() as lines:
                answer = json.loads(lines.readline())
    except (OSError, ValueError):
        raise ControlError("the live stream gave no answer: it may just have ended.") from None
    if not answer["ok"]:
        raise ControlError(answer["error"])
    return dict(answer["status"])


def running_names() -> list[str]:
    """Return the names of this user's running live streams."""
    found = socket_path("*").parent.glob(socket_path("*").name)
    return sorted(path.stem.removeprefix("rtden-") for path in found if _answers(path))


def socket_path(name: str) -> Path:
    """Return the path of a live stream's socket."""
    return runtime_folder() / f"rtden-{name}.sock"


def runtime_folder() -> Path:
    """Return the user's folder for sockets and locks: the system's, or a private temporary one."""
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(given)
    private = Path(tempfile.gettempdir()) / f"rtden-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.getuid():
        raise ControlError(f"{private} belongs to somebody else: set XDG_RUNTIME_DIR.")
    return private


def _new_socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ControlError("this system has no Unix sockets: use the keys of 'rtden live'.")
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def _answers(path: Path) -> bool:
    with _new_socket() as probe:
        probe.settimeout(ANSWER_SECONDS)
        return probe.connect_ex(str(path)) == 0
