"""The routes, and what every answer has in common: one line for what went wrong, a token, a count."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from lldiffusion.atomic import scratch
from lldiffusion.errors import LLDiffusionError, printable

from .body import chunks, gone, linger, receive_body
from .metrics import Metrics
from .openapi import describe
from .options import ServiceOptions
from .page import page, policy
from .picture import Result, enhance_bytes
from .query import picture_wishes, video_wishes
from .queue import WorkQueue
from .refusals import ClientGone, Refusal
from .shelf import Shelf
from .videos import MEDIA_TYPES, VideoJobs

Endpoint = Callable[[Request], Awaitable[Response]]
CLIENT_GONE = 499  # nginx's number for it; nobody reads it but the metrics
TEXT = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' format
log = logging.getLogger(__name__)


class Service:
    """What the routes share.

    Args:
        shelf: the models, open; closed with the service.
        options: limits.
        folder: for pictures and clips in work.
    """

    def __init__(self, shelf: Shelf, options: ServiceOptions, folder: Path) -> None:
        self.shelf, self.options, self.folder = shelf, options, folder
        self.queue = WorkQueue(options.workers, options.queue)
        self.videos = VideoJobs(folder, shelf, options)
        self.metrics = Metrics()
        self.metrics.gauge("lldiff_queue_taken", "Pictures sent, waiting and in work.", lambda: self.queue.taken)
        self.metrics.gauge("lldiff_pictures_in_work", "Pictures in work.", lambda: self.queue.working)
        self.metrics.gauge("lldiff_clips_in_work", "Clips in work.", lambda: self.videos.count("working"))
        self.metrics.gauge("lldiff_clips_waiting", "Clips that wait.", lambda: self.videos.count("waiting"))

    async def enhance(self, request: Request) -> Response:
        """POST /v1/enhance: a picture's bytes in, a picture's bytes out."""
        options = self.options
        wishes = picture_wishes(request.query_params, self.shelf.names, options.max_steps)
        with self.queue.place():
            start = time.perf_counter()
            body = await receive_body(request, options.max_bytes, options.receive)
            received = time.perf_counter()
            enhancer = self.shelf.enhancer(wishes)
            work = partial(enhance_bytes, body, enhancer, wishes, self.folder, options.max_pixels)
            result = await self.queue.run(work, gone(request), options.timeout)
        wait = time.perf_counter() - received - sum(result.seconds.values())
        stages = {"receive": received - start, "wait": max(wait, 0.0), **result.seconds}
        for stage, seconds in stages.items():
            self.metrics.stages.labels(stage).observe(seconds)
        self.metrics.pixels.inc(result.pixels)
        return _picture(result, stages)

    async def take_clip(self, request: Request) -> Response:
        """POST /v1/video: a clip's bytes in, a job out."""
        options = self.options
        wishes = video_wishes(request.query_params, self.shelf.names, options.max_steps)
        job = self.videos.new(wishes)
        try:
            seconds = options.receive * max(1.0, options.video_megabytes / options.max_megabytes)
            with job.source.open("wb") as file:
                async for piece in chunks(request, round(options.video_megabytes * 1e6), seconds):
                    file.write(piece)
            self.videos.start(job)
        except BaseException:
            self.videos.delete(job)
            raise
        return JSONResponse(job.describe(), 202, {"Location": f"/v1/video/{job.id}"})

    async def show_clip(self, request: Request) -> Response:
        """GET /v1/video/{id}: how far it is; DELETE: forget it."""
        job = self.videos.find(request.path_params["id"])
        if request.method == "DELETE":
            self.videos.delete(job)
            return Response(status_code=204)
        return JSONResponse(job.describe())

    async def give_clip(self, request: Request) -> Response:
        """GET /v1/video/{id}/result: the enhanced clip."""
        job = self.videos.find(request.path_params["id"])
        if job.state == "failed":
            raise Refusal(422, job.error)
        if job.state != "done":
            raise Refusal(409, f"the clip is not done: {job.state}, {job.frames} frames so far", retry_after=2)
        return FileResponse(job.target, media_type=MEDIA_TYPES[job.wishes.container])

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"default": self.shelf.names[0], "models": self.shelf.describe()})

    async def show_metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self.metrics.text(), headers={"Content-Type": TEXT})

    async def healthy(self, request: Request) -> Response:
        """GET /healthz: the process answers."""
        return JSONResponse({"status": "alive"})

    async def is_ready(self, request: Request) -> Response:
        """GET /readyz: the models are open, or it would not listen."""
        return JSONResponse({"status": "ready"})

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(describe(self.shelf.names, self.options))

    async def page(self, request: Request) -> Response:
        """GET /: the page for people."""
        return HTMLResponse(page(), headers={"Content-Security-Policy": policy(), "Cache-Control": "no-cache"})

    def answering(self, endpoint: Endpoint, route: str, protected: bool) -> Endpoint:
        """The endpoint, behind the token, with every failure as an answer, and counted."""

        async def answer(request: Request) -> Response:
            start = time.perf_counter()
            try:
                if protected:
                    self._check_sender(request)
                response = await endpoint(request)
            except ClientGone:
                response = Response(status_code=CLIENT_GONE)
            except Refusal as refusal:
                response = _refused(refusal, await _read_to_its_end(request, refusal))
            except LLDiffusionError as error:
                log.error("%s: %s", route, error)
                response = _refused(Refusal(500, str(error)))
            except Exception:
                log.exception("%s failed", route)
                response = _refused(Refusal(500, "the service failed: its log says why"))
            self.metrics.requests.labels(route, str(response.status_code)).inc()
            self.metrics.total.labels(route).observe(time.perf_counter() - start)
            return response

        return answer

    def _check_sender(self, request: Request) -> None:
        """Other people's web pages may not use the service through somebody's browser; nor may who has no token."""
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise Refusal(403, "asked by a page of another site: pages of this service and other programs may")
        if self.options.token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self.options.token.encode()):
            raise Refusal(401, "a token is needed: send the header  Authorization: Bearer TOKEN")


def build_app(shelf: Shelf, options: ServiceOptions) -> Starlette:
    """The ASGI application; everything is let go of when it ends."""

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        with scratch() as folder:
            service = Service(shelf, options, folder)
            app.state.service = service
            app.router.routes.extend(_routes(service))
            try:
                yield
            finally:
                service.videos.close()
                service.queue.close()
                shelf.close()

    return Starlette(lifespan=life, exception_handlers={HTTPException: _no_such_route})


def _routes(service: Service) -> list[Route]:
    table: list[tuple[str, str, Endpoint, bool]] = [
        ("/v1/enhance", "POST", service.enhance, True),
        ("/v1/models", "GET", service.models, True),
        ("/metrics", "GET", service.show_metrics, True),
        ("/healthz", "GET", service.healthy, False),
        ("/readyz", "GET", service.is_ready, False),
        ("/openapi.json", "GET", service.openapi, False),
        ("/", "GET", service.page, False),
    ]
    if service.options.videos:
        table += [
            ("/v1/video", "POST", service.take_clip, True),
            ("/v1/video/{id}", "GET DELETE", service.show_clip, True),
            ("/v1/video/{id}/result", "GET", service.give_clip, True),
        ]
    return [
        Route(path, service.answering(endpoint, path, protected), methods=methods.split())
        for path, methods, endpoint, protected in table
    ]


def _picture(result: Result, stages: dict[str, float]) -> Response:
    timing = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in stages.items())
    headers = {"Server-Timing": timing, "Content-Type": result.media_type, "Cache-Control": "no-store"}
    if result.notes:
        headers["X-Lldiff-Notes"] = printable("; ".join(result.notes)).encode("ascii", "replace").decode("ascii")
    return Response(result.body, headers=headers)


async def _read_to_its_end(request: Request, refusal: Refusal) -> bool:
    """Whether the body is out of the way; one that was too slow is not waited for again."""
    return request.method != "POST" or (refusal.status != 408 and await linger(request))


def _refused(refusal: Refusal, whole: bool = True) -> Response:
    """The line as JSON; the connection ends when the rest of the body was not read."""
    headers: dict[str, str] = {} if whole else {"Connection": "close"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": " ".join(str(refusal).split())}, refusal.status, headers)


async def _no_such_route(request: Request, error: Any) -> Response:
    """404 and 405, in the words and the form of every other answer."""
    line = {404: "no such address: see /openapi.json", 405: f"not for {printable(request.method):.20}"}
    return JSONResponse(
        {"error": line.get(error.status_code, str(error.detail))}, error.status_code, getattr(error, "headers", None)
    )
