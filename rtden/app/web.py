"""`rtden ui`: the page in a browser."""

from __future__ import annotations

import contextlib
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from rtden.app.options import one_sentence, screen
from rtden.errors import InputError, MissingPackageError, SettingsError
from rtden.extras import install_command

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST_TOKEN = 16

MADE = "made once and kept, where --host is not this machine"
HOST = Option(help="Address to listen on; 0.0.0.0 is the whole network, with a token.")
PORT = Option(help="Port to listen on.")
TOKEN = Option(help="What visitors must know, 16 characters or more.", show_default=MADE)
NAME = Option(help="A further host name, for instance a proxy's.")
MOST_MB = Option("--max-mb", min=1, help="Largest recording, in MB.")
CERTIFICATE = Option(help="PEM file with certificate and key, for HTTPS.")
BROWSER = Option(help="Open the page in a browser.")


@one_sentence
def ui(
    host: Annotated[str, HOST] = LOOPBACK[0],
    port: Annotated[int, PORT] = 8765,
    token: Annotated[str | None, TOKEN] = None,
    name: Annotated[list[str] | None, NAME] = None,
    most_mb: Annotated[int, MOST_MB] = 500,
    certificate: Annotated[Path | None, CERTIFICATE] = None,
    browser: Annotated[bool, BROWSER] = True,
) -> None:
    """Open a page for live sound and recordings (extra "web").

    It serves this machine or, with --host and a token, the network.
    """
    try:
        import uvicorn

        from rtden.web.server import make_app
    except ModuleNotFoundError as error:
        sentence = f"the page needs {error.name}: run {install_command('web')}."
        raise MissingPackageError(sentence) from None
    if certificate is not None and not certificate.is_file():
        raise InputError(f"there is no file {certificate}.")
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise SettingsError(f"--token must have {SHORTEST_TOKEN} characters or more.")
    listening, ending = _listen(host, port), ""
    if needs_token(host, token):
        token, ending = kept_token()
    https, shown = certificate is not None, host
    if host in {"0.0.0.0", "::"}:
        shown = f"{socket.gethostname().partition('.')[0]}.local"
    shown = f"[{shown}]" if ":" in shown else shown
    address = f"http{'s' * https}://{shown}:{listening.getsockname()[1]}/"
    app = make_app(token=token, names=(host, *(name or ())), most_mb=most_mb, https=https)
    web: dict[str, Any] = {"ssl_certfile": certificate, "server_header": False}
    sockets = {"ws_max_size": 1 << 16, "ws_per_message_deflate": False}
    web |= {"log_level": "warning", "timeout_graceful_shutdown": 2, **sockets}
    screen.print(f"rtden's page: {address}{ending}", markup=False)
    if browser and host in LOOPBACK:
        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):  # so it ends by Ctrl-C, and by systemd
        uvicorn.Server(uvicorn.Config(app, **web)).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        told = f"port {port} of {host} cannot be used ({getattr(error, 'strerror', 0) or error})"
        raise InputError(f"{told}; choose another with --port.") from None


def needs_token(host: str, token: str | None) -> bool:
    """Return whether a token must be made or taken from its file."""
    return token is None and host not in LOOPBACK


def kept_token() -> tuple[str, str]:
    """Return the kept token and nothing, or a new one and the end of an address that carries it.

    Prints where the token is kept and, of a new one, what it is.
    """
    from rtden.live.saved import settings_folder, write_private

    path = settings_folder() / "ui-token"
    with contextlib.suppress(FileNotFoundError):
        token = path.read_text(encoding="utf-8").strip()
        if len(token) >= SHORTEST_TOKEN:
            screen.print(f"The token is in {path}.", markup=False)
            return token, ""
    token = secrets.token_urlsafe(18)
    write_private(path, f"{token}\n")
    screen.print(f"A new token, shown once and kept in {path}: {token}", markup=False)
    return token, f"#token={token}"
