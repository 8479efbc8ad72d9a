"""Access control of the page's server: Host, Origin and token of requests, response headers.

Host: no other site reaches this server under a name of its own (DNS rebinding).
Origin: no other site's page uses the API, or opens a WebSocket, here.
Token: required from other machines.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "rtden"
OPEN_PATHS = frozenset({"/", "/api/login", "/api/openapi.json"})
"""Paths without a token: the page itself holds no secret, and prompts for it."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; media-src 'self'; connect-src 'self'; worker-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that refuses strangers and adds :data:`HEADERS`; see `make_app`."""

    def __init__(self, app: ASGIApp, *, token: str | None, names: tuple[str, ...]) -> None:
        self._app, self._token = app, token
        self._names = {"localhost", *map(str.lower, names)}
        if token is not None:
            host = socket.gethostname().lower()
            self._names |= {host, f"{host.partition('.')[0]}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a connection, or pass it on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in HEADERS.items():
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        refusal = None if scope["type"] == "lifespan" else self._refusal(HTTPConnection(scope))
        if refusal is None:
            return await self._app(scope, receive, send_with_headers)
        code, sentence = refusal
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": sentence})
        asked = {"www-authenticate": "Bearer"} if code == 401 else None
        answer = JSONResponse({"error": sentence}, code, asked)
        return await answer(scope, receive, send_with_headers)

    def _refusal(self, connection: HTTPConnection) -> tuple[int, str] | None:
        """Return the status code and the sentence with which a connection is refused, or None."""
        scope, host = connection.scope, connection.headers.get("host", "").lower()
        if not self._is_ours(host):
            return 403, "this server does not answer to that host name; see 'rtden ui --name'."
        reads = scope["type"] == "http" and scope["method"] in {"GET", "HEAD", "OPTIONS"}
        is_open = scope["path"] in OPEN_PATHS or scope["path"].startswith("/static/")
        if not (reads and is_open) and not _same_origin(connection, host):
            return 403, "another site's page may not do this."
        if is_open or self._token is None or _has_token(connection, self._token):
            return None
        return 401, "the token is missing or wrong; 'rtden ui' printed it when it was made."

    def _is_ours(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name in self._names:
            return True
        try:  # no name server redirects an address; from outside it still needs the token
            return ipaddress.ip_address(name).is_loopback or self._token is not None
        except ValueError:
            return False


def _has_token(connection: HTTPConnection, token: str) -> bool:
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and same_text(given.strip(), token):
        return True
    return same_text(connection.cookies.get(COOKIE, ""), cookie_value(token))


def cookie_value(token: str) -> str:
    """Return what the cookie holds: the browser need not keep the token itself."""
    return hmac.new(token.encode(), b"rtden page", "sha256").hexdigest()


def same_text(given: str, wanted: str) -> bool:
    """Return whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _same_origin(connection: HTTPConnection, host: str) -> bool:
    """Return whether a request comes from the page itself or from a program that is no browser."""
    site, origin = (connection.headers.get(name) for name in ("sec-fetch-site", "origin"))
    secure = connection.scope["scheme"] in {"https", "wss"}
    own = (None, f"http{'s' * secure}://{host}")
    return site in (None, "same-origin", "none") and (origin and origin.lower()) in own
