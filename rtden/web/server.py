"""The page's server: static files, the HTTP API that static/openapi.json describes, and two WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from rtden.errors import InputError, RtdenError, SettingsError
from rtden.model import list_models
from rtden.web.cleaning import BANDS, remix
from rtden.web.guard import COOKIE, Guard, cookie_value, same_text
from rtden.web.jobs import Job, Jobs, TooMuchError
from rtden.web.live import BusyError, LiveControl, list_sides

STATIC = Path(__file__).parent / "static"
MOST_BODY_BYTES = 10_000
SPECTRA_PER_SECOND, STATUS_EVERY = 15, 3
MOST_TRIALS = 2
"""Visitors who may try their browser's microphone at a time."""
LONGEST_BLOCK_BYTES = 16384
MOST_MB = 500


class Page:
    """What the routes share."""

    def __init__(self, *, token: str | None, most_mb: int, secure: bool) -> None:
        self.token, self.secure = token, secure
        self.live = LiveControl()
        self.jobs = Jobs(most_bytes=most_mb * 1_000_000)
        self.watchers: set[WebSocket] = set()
        self.trials = 0
        self.sender: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """End live sound and remove the uploads when the server ends."""
        try:
            yield
        finally:
            await run_in_threadpool(self.live.close)
            await run_in_threadpool(self.jobs.close)

    # -- status and live sound

    async def status(self, _request: Request) -> Response:
        """Answer what is here, and how it goes."""
        return JSONResponse(
            {
                "version": version("rtden"),
                "models": list_models(),
                "bands": BANDS,
                "most_mb": self.jobs.most_bytes // 1_000_000,
                "live": await run_in_threadpool(self.live.state),
                "recordings": len(self.jobs.list()),
            }
        )

    async def devices(self, _request: Request) -> Response:
        """Answer which inputs and outputs there are now."""
        return JSONResponse(await run_in_threadpool(list_sides, self.live))

    async def get_live(self, _request: Request) -> Response:
        """Answer how live sound goes."""
        return JSONResponse(await run_in_threadpool(self.live.state))

    async def put_live(self, request: Request) -> Response:
        """Switch live sound, change choices."""
        changes = await read_object(request)
        on, restart = changes.pop("on", None), changes.pop("restart", False)
        if not (on is None or isinstance(on, bool)) or not isinstance(restart, bool):
            raise SettingsError("on and restart must be true or false.")
        await run_in_threadpool(self.live.change, on, changes, restart=restart)
        return JSONResponse(await run_in_threadpool(self.live.state))

    async def recorded(self, request: Request) -> Response:
        """Answer with one of the two files of the last recording of live sound."""
        folder, side = self.live.recording, request.path_params["side"]
        if folder is None or side not in {"noisy", "cleaned"}:
            return refuse(404, "there is no such recording.")
        return FileResponse(folder / f"{side}.wav", filename=f"{folder.name} {side}.wav")

    async def levels(self, socket: WebSocket) -> None:
        """Send spectra (bytes) and states (JSON) for as long as somebody looks."""
        await socket.accept()
        self.watchers.add(socket)
        if self.sender is None or self.sender.done():
            self.sender = asyncio.create_task(self._send_levels())
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_bytes()
        self.watchers.discard(socket)

    async def _send_levels(self) -> None:
        """Look once for all who watch."""
        looks = 0
        while self.watchers:
            messages: list[str | bytes] = []
            if looks % STATUS_EVERY == 0:
                messages.append(json.dumps(self.live.state()))
            if (spectra := self.live.spectra()) is not None:
                messages.append(spectra)
            looks += 1
            for socket in [*self.watchers]:
                try:
                    for message in messages:
                        await (
                            socket.send_text(message)
                            if isinstance(message, str)
                            else socket.send_bytes(message)
                        )
                except (WebSocketDisconnect, RuntimeError):
                    self.watchers.discard(socket)
            await asyncio.sleep(1.0 / SPECTRA_PER_SECOND)

    # -- recordings

    async def list_files(self, _request: Request) -> Response:
        """Answer what became of the recordings."""
        return JSONResponse({"files": [job.to_dict() for job in self.jobs.list()]})

    async def add_file(self, request: Request) -> Response:
        """Take in a recording: the body is the file."""
        name = request.query_params.get("name", "")
        if not name:
            raise InputError("give the recording's name: /api/files?name=talk.wav.")
        announced = int(request.headers.get("content-length", "0"))
        job = await self.jobs.add(name, request.stream(), announced)
        return JSONResponse(job.to_dict(), 201)

    async def clear_files(self, _request: Request) -> Response:
        """Remove all recordings."""
        for job in self.jobs.list():
            await run_in_threadpool(self.jobs.remove, job.id)
        return Response(status_code=204)

    async def get_file(self, request: Request) -> Response:
        """Answer what became of a recording."""
        return JSONResponse(self._job(request).to_dict())

    async def remove_file(self, request: Request) -> Response:
        """Remove a recording."""
        await run_in_threadpool(self.jobs.remove, self._job(request).id)
        return Response(status_code=204)

    async def preview(self, request: Request) -> Response:
        """Answer with a recording to listen to: before in the left channel, after in the right."""
        return FileResponse(self._ready(request).folder / "preview.flac", media_type="audio/flac")

    async def picture(self, request: Request) -> Response:
        """Answer with both spectrograms, a byte per band, column after column."""
        path = self._ready(request).folder / "picture.bin"
        return FileResponse(path, media_type="application/octet-stream")

    async def download(self, request: Request) -> Response:
        """Answer with the denoised recording, mixed with the original at a strength below 1."""
        job, text = self._ready(request), request.query_params.get("strength", "1")
        if not re.fullmatch(r"0(\.\d{1,4})?|1(\.0{1,4})?", text):
            raise InputError("strength must be a number from 0 to 1.")
        stem = Path(job.name).stem
        path, later = job.result, None
        if float(text) < 1.0:
            path = job.folder / f"mix-{secrets.token_hex(4)}{job.suffix}"
            kept = job.folder / "cleaned.flac"
            await run_in_threadpool(remix, job.source, kept, path, float(text))
            later = BackgroundTask(path.unlink, missing_ok=True)
        kind = "application/octet-stream"  # never shown in the browser, whatever it holds
        name = f"{stem}.denoised{job.suffix}"
        return FileResponse(path, media_type=kind, filename=name, background=later)

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            raise UnknownError("there is no such recording.")
        return job

    def _ready(self, request: Request) -> Job:
        job = self._job(request)
        if job.state != "ready":
            raise BusyError("this recording is not ready.")
        return job

    # -- the browser's microphone

    async def trial(self, socket: WebSocket) -> None:
        """Denoise 16-bit PCM frames from the browser; the first message says rate and strength."""
        await socket.accept()
        if self.trials >= MOST_TRIALS:
            await socket.close(4409, f"{MOST_TRIALS} others are trying it now; wait a little.")
            return
        self.trials += 1
        try:
            wanted = json.loads(await socket.receive_text())
            from rtden.frames import FrameDenoiser

            frames = await run_in_threadpool(FrameDenoiser, int(wanted["rate_hz"]))
            await socket.send_json({"latency_ms": frames.latency_ms})
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if text := message.get("text"):
                    frames.strength = min(1.0, max(0.0, float(json.loads(text)["strength"])))
                elif len(pcm := message["bytes"]) <= LONGEST_BLOCK_BYTES:
                    await socket.send_bytes(await run_in_threadpool(frames.process, pcm))
        except WebSocketDisconnect:
            return
        except (RtdenError, ValueError, KeyError, TypeError) as error:
            await socket.close(4400, str(error)[:120])
        finally:
            self.trials -= 1

    # -- the token

    async def login(self, request: Request) -> Response:
        """Set the cookie for whoever knows the token."""
        given = (await read_object(request)).get("token")
        if self.token is None:
            return Response(status_code=204)
        if not isinstance(given, str) or not same_text(given.strip(), self.token):
            await asyncio.sleep(1.0)  # guessing is to be slow
            return refuse(401, "this is not the token.")
        answer = Response(status_code=204)
        answer.set_cookie(
            COOKIE,
            cookie_value(self.token),
            max_age=365 * 86400,
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    def routes(self) -> list[Route | WebSocketRoute | Mount]:
        """Return the routes."""
        return [
            Route("/", _static_file("index.html")),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/openapi.json", _static_file("openapi.json")),
            Route("/api/login", self.login, methods=["POST"]),
            Route("/api/status", self.status),
            Route("/api/devices", self.devices),
            Route("/api/live", self.get_live),
            Route("/api/live", self.put_live, methods=["PUT"]),
            Route("/api/live/recording/{side}", self.recorded),
            WebSocketRoute("/api/live/levels", self.levels),
            Route("/api/files", self.list_files),
            Route("/api/files", self.add_file, methods=["POST"]),
            Route("/api/files", self.clear_files, methods=["DELETE"]),
            Route("/api/files/{id}", self.get_file),
            Route("/api/files/{id}", self.remove_file, methods=["DELETE"]),
            Route("/api/files/{id}/preview", self.preview),
            Route("/api/files/{id}/picture", self.picture),
            Route("/api/files/{id}/download", self.download),
            WebSocketRoute("/api/trial", self.trial),
        ]


class UnknownError(RtdenError):
    """There is nothing of that name."""


def make_app(
    *,
    token: str | None = None,
    names: tuple[str, ...] = (),
    most_mb: int = MOST_MB,
    secure: bool = False,
) -> Starlette:
    """Return the server as an ASGI application.

    Parameters
    ----------
    token : str, optional
        What visitors must know; None where only this machine reaches the server.
    names : tuple of str
        Host names under which it may be called besides addresses and this machine's own.
    most_mb : int
        Largest upload.
    secure : bool
        Whether it is reached over HTTPS only.
    """
    page = Page(token=token, most_mb=most_mb, secure=secure)
    return Starlette(
        routes=page.routes(),
        lifespan=page.lifespan,
        middleware=[Middleware(Guard, token=token, names=names)],
        exception_handlers={RtdenError: _in_one_sentence},
    )


def refuse(code: int, sentence: str) -> JSONResponse:
    """Return a refusal in one sentence."""
    return JSONResponse({"error": sentence}, code)


async def _in_one_sentence(_request: Request, error: Exception) -> Response:
    codes: dict[type[Exception], int] = {BusyError: 409, TooMuchError: 413, UnknownError: 404}
    return refuse(codes.get(type(error), 422), str(error))


def _static_file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return FileResponse(STATIC / name)

    return answer


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises
    ------
    InputError
        If it is too long or something else.
    """
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > MOST_BODY_BYTES:
            raise TooMuchError("the request is too long.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError("the request must be a JSON object.")
    return found
