"""`rtden ui`: the page in a browser."""

from __future__ import annotations

import contextlib
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Option

from rtden.app.options import screen, silence_c_libraries
from rtden.errors import InputError, SettingsError
from rtden.extras import needed

LOOPBACK = "127.0.0.1"
HERE = (LOOPBACK, "localhost", "::1")
SHORTEST_TOKEN = 16
PORT, MOST = "Port to listen on.", "Largest recording."
NAMES = "A further host name, as a proxy's; repeatable."
MADE = "made once and kept, where --host is not this machine"


def ui(
    host: Annotated[str, Option(help="Address; 0.0.0.0 is the network, with a token.")] = LOOPBACK,
    port: Annotated[int, Option(metavar="PORT", min=0, max=65535, help=PORT)] = 8765,
    token: Annotated[str | None, Option(help="16 characters or more.", show_default=MADE)] = None,
    name: Annotated[list[str] | None, Option(metavar="HOST", help=NAMES)] = None,
    most_mb: Annotated[int, Option("--max-mb", metavar="MB", min=1, help=MOST)] = 500,
    certificate: Annotated[Path | None, Option(help="PEM with certificate and key: HTTPS.")] = None,
    browser: Annotated[bool, Option(help="Open the page in a browser.")] = True,
) -> None:
    """Open a page for live sound and recordings (extra "web").

    It serves this machine or, with --host and a token, the network.
    """
    silence_c_libraries()
    uvicorn = needed("uvicorn", "web", "the page")
    for package in ("starlette", "websockets", "platformdirs"):
        needed(package, "web", "the page")
    import ssl  # slow, as the page is

    from rtden.live.realtime import settle_memory
    from rtden.web.server import make_app

    if token is not None and not (len(token) >= SHORTEST_TOKEN and token.isascii()):
        least = f"{SHORTEST_TOKEN} characters or more"
        raise SettingsError(f"--token must have {least}, without accents or other scripts.")
    listening, ending = _listen(host, port), ""
    if token is None and host not in HERE:
        token, ending = saved_token()
    app = make_app(token=token, names=(host, *(name or ())), most_mb=most_mb)
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
        ws_max_size=1 << 16,
        ws_per_message_deflate=False,
        ssl_certfile=certificate,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        reason = f"{certificate} cannot be used ({error.strerror or error})"
        raise InputError(f"{reason}; it must hold a certificate and its key as PEM.") from None
    shown = f"{socket.gethostname().partition('.')[0]}.local" if host in {"0.0.0.0", "::"} else host
    shown = f"[{shown}]" if ":" in shown else shown
    address = f"http{'s' * config.is_ssl}://{shown}:{listening.getsockname()[1]}/"
    screen.print(f"rtden's page: {address}{ending}")
    if browser and host in HERE:
        webbrowser.open(address)
    settle_memory()
    with contextlib.suppress(KeyboardInterrupt):  # from Ctrl-C or systemd
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        advice = "is 'rtden ui' running already? Else choose another with --port"
        reason = f"port {port} of {host} cannot be used ({error.strerror})"
        raise InputError(f"{reason}; {advice}.") from None


def saved_token() -> tuple[str, str]:
    """Return the saved token and "", or a new one and the end of an address that passes it."""
    needed("platformdirs", "web", "the page's token")
    from rtden.web.choices import settings_folder, write_private

    path = settings_folder() / "ui-token"
    if path.exists() and len(token := path.read_text(encoding="utf-8").strip()) >= SHORTEST_TOKEN:
        screen.print(f"The token is in {path}.")
        return token, ""
    token = secrets.token_urlsafe(18)
    write_private(path, f"{token}\n")
    screen.print(f"A new token, shown once and kept in {path}: {token}")
    return token, f"#token={token}"
