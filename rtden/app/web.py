"""`rtden ui`: the page in a browser."""

from __future__ import annotations

import contextlib
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from rtden.app.options import one_sentence, screen
from rtden.errors import InputError, MissingPackageError, SettingsError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST_TOKEN = 16


@one_sentence
def ui(
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; 0.0.0.0 is for the whole network, with a token."
        ),
    ] = LOOPBACK[0],
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            help="What visitors must know, 16 characters or more.",
            show_default="made once and kept, where --host is not this machine",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="A further host name of this machine, for instance of a proxy."
        ),
    ] = None,
    most_mb: Annotated[int, typer.Option("--max-mb", help="Largest recording, in MB.")] = 500,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            help="PEM file for HTTPS; browsers elsewhere give no microphone without.",
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="PEM file of its private key.")] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Open a page for live sound and recordings, on this machine or, with a token, on the network."""
    try:
        import uvicorn

        from rtden.web.server import make_app
    except ImportError as error:
        if isinstance(error, MissingPackageError) or not error.name:
            raise
        raise MissingPackageError(
            f"the page needs the package {error.name}: run 'pip install \"rtden[web]\"'."
        ) from None
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise SettingsError(f"--token must have {SHORTEST_TOKEN} characters or more.")
    if most_mb < 1:
        raise SettingsError(f"--max-mb must be 1 or more, not {most_mb}.")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise InputError(f"there is no file {path}.")
    told = True
    if token is None and host not in LOOPBACK:
        token, told = _kept_token()
    listening = _listen(host, port)
    scheme = "http" if certificate is None else "https"
    shown = host if host in LOOPBACK else f"{socket.gethostname()}.local"
    address = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}/"
    config = uvicorn.Config(
        make_app(token=token, names=tuple(name or ()), most_mb=most_mb, secure=scheme == "https"),
        log_level="warning",
        ws_max_size=1 << 16,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    screen.print(f"rtden's page: {address}{'' if told else f'#token={token}'}", markup=False)
    if browser and host in LOOPBACK:
        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):  # how a server ends, by Ctrl-C or systemd
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"port {port} of {host} cannot be used ({reason}); choose another with --port."
        ) from None


def _kept_token() -> tuple[str, bool]:
    """Return the kept token, and whether it was told before; make it if there is none."""
    from rtden.live.saved import settings_folder, write_private

    path = settings_folder() / "ui-token"
    try:
        token = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        token = ""
    if len(token) >= SHORTEST_TOKEN:
        screen.print(f"The token is in {path}.", markup=False)
        return token, True
    token = secrets.token_urlsafe(18)
    write_private(path, token + "\n")
    screen.print(f"A token was made, and is kept in {path}; it is shown only now.", markup=False)
    return token, False
