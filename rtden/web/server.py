"""The page's server: static files, the API that static/openapi.json describes, two WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from rtden.errors import DeviceError, InputError, ModelError, RtdenError, SettingsError
from rtden.files.listing import MEDIA_SUFFIXES, SUFFIXES, default_target
from rtden.frames import FrameDenoiser
from rtden.live.realtime import Supervisor
from rtden.measure.plots import BANDS
from rtden.model import list_models
from rtden.web.cleaning import PICTURE, PREVIEW
from rtden.web.guard import COOKIE, Guard, cookie_value, same_text
from rtden.web.jobs import Job, Jobs, TooMuchError
from rtden.web.live import BusyError, LiveControl, UnknownError

STATIC, BYTES = Path(__file__).parent / "static", "application/octet-stream"
MOST_BODY_BYTES, LONGEST_BLOCK_BYTES = 10_000, 16_384
LOOKS_PER_SECOND, LOOKS_PER_STATE = 12, 6
MOST_TRIALS = 2  # visitors who try their browser's microphone at a time
STRENGTH = re.compile(r"0(\.\d{1,4})?|1(\.0{1,4})?")
# Status codes of errors; 422 is that of any other RtdenError.
CODES = {UnknownError: 404, BusyError: 409, DeviceError: 409, ModelError: 409, TooMuchError: 413}


def make_app(
    *, token: str | None = None, names: tuple[str, ...] = (), most_mb: int = 500
) -> Starlette:
    """Return the server as an ASGI application.

    `token` is what visitors must know, `names` are further host names, `most_mb` limits uploads.
    """
    page = _Page(token, most_mb)
    guards = [Middleware(Guard, token=token, names=names)]
    handlers: Any = {RtdenError: _error_response, HTTPException: _no_such_route}
    return Starlette(False, page.routes(), guards, handlers, lifespan=page.lifespan)


class _Page:
    def __init__(self, token: str | None, most_mb: int) -> None:
        self._token, self._trials = token, asyncio.Semaphore(MOST_TRIALS)
        self._live, self._jobs = LiveControl(), Jobs(most_bytes=most_mb * 1_000_000)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Keep systemd informed; at the end, stop live sound and remove the uploads."""
        supervisor = Supervisor()
        supervisor.ready()
        alive = asyncio.create_task(_keep_alive(supervisor))
        try:
            yield
        finally:
            alive.cancel()
            supervisor.stopping()
            await run_in_threadpool(self._live.close)
            await self._jobs.close()

    def routes(self) -> list[Route | WebSocketRoute | Mount]:
        job = "/api/files/{id}"
        return [
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/", lambda _request: FileResponse(STATIC / "index.html")),
            Route("/api/openapi.json", lambda _request: FileResponse(STATIC / "openapi.json")),
            Route("/api/login", self._login, methods=["POST"]),
            Route("/api/status", self._status),
            Route("/api/devices", lambda _request: JSONResponse(self._live.devices())),
            Route("/api/live", self._change_live, methods=["GET", "PATCH"]),
            Route("/api/live/recording/{side}", self._recorded),
            Route("/api/files", self._files, methods=["GET", "POST", "DELETE"]),
            Route(job, self._file, methods=["GET", "DELETE"]),
            Route(f"{job}/preview", partial(self._part, PREVIEW, "audio/flac")),
            Route(f"{job}/picture", partial(self._part, PICTURE, BYTES)),
            Route(f"{job}/download", self._download),
            WebSocketRoute("/api/live/levels", self._levels),
            WebSocketRoute("/api/trial", self._trial),
        ]

    async def _login(self, request: Request) -> Response:
        given, answer = (await _json_object(request)).get("token"), Response(status_code=204)
        if not isinstance(given, str):
            raise SettingsError("token must be a text.")
        if self._token is None:
            return answer
        if not same_text(given.strip(), self._token):
            await asyncio.sleep(1.0)  # guessing is slow
            return JSONResponse({"error": "this is not the token."}, 401)
        value, year, secure = cookie_value(self._token), 365 * 86400, request.url.scheme == "https"
        answer.set_cookie(COOKIE, value, year, secure=secure, httponly=True, samesite="strict")
        return answer

    async def _status(self, _request: Request) -> Response:
        status = {
            "version": version("rtden"),
            "models": list_models(),
            "bands": BANDS,
            "most_mb": self._jobs.most_bytes // 1_000_000,
            "recordings": len(self._jobs.all),
            "suffixes": sorted(SUFFIXES | MEDIA_SUFFIXES),
            "live": await run_in_threadpool(self._live.state),
        }
        return JSONResponse(status)

    async def _change_live(self, request: Request) -> Response:
        if request.method == "PATCH":
            await run_in_threadpool(self._live.change, await _json_object(request))
        return JSONResponse(await run_in_threadpool(self._live.state))

    async def _recorded(self, request: Request) -> Response:
        folder, side = self._live.recording, request.path_params["side"]
        path = None if folder is None else folder / f"{side}.wav"
        if path is None or side not in {"noisy", "cleaned"} or not path.is_file():
            raise UnknownError("there is no such recording.")
        return FileResponse(path, filename=f"{path.parent.name} {path.name}")

    async def _levels(self, socket: WebSocket) -> None:
        """Send levels and spectra (bytes) and states (JSON) while the page is visible."""
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            for number in itertools.count():
                if number % LOOKS_PER_STATE == 0:
                    await socket.send_json(await run_in_threadpool(self._live.state))
                if look := self._live.look():
                    await socket.send_bytes(look)
                await asyncio.sleep(1.0 / LOOKS_PER_SECOND)

    async def _files(self, request: Request) -> Response:
        if request.method == "POST":
            name = request.query_params.get("name")
            if not name:
                raise InputError("the recording needs a name: /api/files?name=talk.wav.")
            announced = int(request.headers.get("content-length", "0"))
            job = await self._jobs.add(name, request.stream(), announced)
            return JSONResponse(job.to_dict(), 201)
        if request.method == "DELETE":
            await self._jobs.remove(*self._jobs.all.values())
            return Response(status_code=204)
        return JSONResponse({"files": [job.to_dict() for job in self._jobs.all.values()]})

    async def _file(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(self._job(request).to_dict())
        await self._jobs.remove(self._job(request))
        return Response(status_code=204)

    async def _part(self, name: str, kind: str, request: Request) -> Response:
        return FileResponse(self._job(request, ready=True).folder / name, media_type=kind)

    async def _download(self, request: Request) -> Response:
        job, text = self._job(request, ready=True), request.query_params.get("strength", "1")
        if not STRENGTH.fullmatch(text):
            raise InputError("strength must be a number from 0 to 1.")
        path, later = job.result, None
        if float(text) < 1.0:
            path = await self._jobs.mix(job, text)
            later = BackgroundTask(path.unlink, missing_ok=True)
        name = default_target(Path(job.name)).name
        return FileResponse(path, media_type=BYTES, filename=name, background=later)

    def _job(self, request: Request, *, ready: bool = False) -> Job:
        job = self._jobs.all.get(request.path_params["id"])
        if job is None:
            raise UnknownError("there is no such recording.")
        if ready and job.state != "ready":
            raise BusyError("this recording is not ready.")
        return job

    async def _trial(self, socket: WebSocket) -> None:
        """Denoise the browser's microphone, 16-bit PCM; report the delay first."""
        await socket.accept()
        if self._trials.locked():
            await socket.close(4409, f"{MOST_TRIALS} others are trying it now; wait a little.")
            return
        async with self._trials:
            try:
                rate_hz = int(socket.query_params["rate_hz"])
                with await run_in_threadpool(FrameDenoiser, rate_hz) as frames:
                    await socket.send_json({"latency_ms": frames.latency_ms})
                    while (message := await socket.receive())["type"] == "websocket.receive":
                        if len(pcm := message.get("bytes") or b"") <= LONGEST_BLOCK_BYTES:
                            await socket.send_bytes(await run_in_threadpool(frames.process, pcm))
            except (RtdenError, ValueError, KeyError) as error:
                await socket.close(4400, str(error)[:120])
            except WebSocketDisconnect:
                pass


async def _keep_alive(supervisor: Supervisor) -> None:
    while True:
        supervisor.alive()
        await asyncio.sleep(1.0)


async def _error_response(_request: Request, error: RtdenError) -> Response:
    return JSONResponse({"error": str(error)}, CODES.get(type(error), 422))


async def _no_such_route(request: Request, error: HTTPException) -> Response:
    sentence = f"there is no {request.method} {request.url.path}; /api/openapi.json lists what is."
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _json_object(request: Request) -> dict[str, Any]:
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > MOST_BODY_BYTES:
            raise TooMuchError("the request is too long.")
    found = None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(body, parse_int=float)  # a number of any length
    if not isinstance(found, dict):
        raise SettingsError("the request must be a JSON object.")
    return found
