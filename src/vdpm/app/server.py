"""The app's pages and requests (Starlette): upload, state, cancelling, removing, downloads."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vdpm.app.guard import Guard
from vdpm.app.jobs import Job, JobQueue, QueueFullError, State
from vdpm.app.limits import Choice, label_of
from vdpm.app.work import CLOUDS, GLB, PAGE, POSTER, RESULT, VIDEO
from vdpm.app.zipping import zip_parts
from vdpm.errors import UsageError, VDPMError

STALL = 30.0
"""Seconds without a byte after which an upload is given up."""
SPARE = 300_000_000
"""Bytes that must be free beside an upload: a result of the shipped network takes 140 MB, its clouds 90 MB."""
NAME_HEADER = "x-vdpm-name"

ASSETS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SCENE_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of a result's page, which narrows it further by the hashes of its own script and style. Sandboxed: it has an origin
of its own and cannot speak for the app."""

DOWNLOADS = {
    "poster.jpg": (POSTER, "image/jpeg", ""),
    "preview.png": (f"{RESULT}/preview.png", "image/png", "_preview.png"),
    "scene.html": (PAGE, "text/html; charset=utf-8", ".html"),
    "scene.glb": (GLB, "model/gltf-binary", ".glb"),
    "points.zip": (CLOUDS, "application/zip", "_points"),
    "result.zip": (RESULT, "application/zip", "_result"),
}
"""What can be asked of a job, by name: the file or folder in the job's own, its type, and the end of its name on the
user's disk; those shown in the page have one only when they are saved."""


def make_app(queue: JobQueue, key: str, names: tuple[str, ...] = ()) -> Starlette:
    """The app around a queue, which it starts and ends. ``key``: what requests must know, see ``guard``."""
    served = Served(queue)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with queue:
            yield

    return Starlette(
        routes=[
            *(Route(path, served.asset) for path in ASSETS),
            Route("/api/state", served.state),
            Route("/api/jobs", served.upload, methods=["POST"]),
            Route("/api/jobs/{id}", served.remove, methods=["DELETE"]),
            Route("/api/jobs/{id}/cancel", served.cancel, methods=["POST"]),
            Route("/jobs/{id}/{name}", served.download),
        ],
        middleware=[Middleware(Guard, key=key, names=names)],
        exception_handlers={HTTPException: _told},
        lifespan=lifespan,
    )


class Served:
    """One method a route."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        folder = files("vdpm.app") / "browser"
        self.assets = {path: (folder / name).read_bytes() for path, (name, _) in ASSETS.items()}

    async def asset(self, request: Request) -> Response:
        """The page of the app, its script and its style."""
        path = request.url.path
        headers = {"content-security-policy": PAGE_POLICY}
        return Response(self.assets[path], media_type=ASSETS[path][1], headers=headers)

    async def state(self, request: Request) -> Response:
        """Limits and all jobs, for the page to draw."""
        queue, limits = self.queue, self.queue.limits
        return JSONResponse(
            {
                "limits": {"bytes": limits.upload_bytes, "seconds": limits.seconds, "frames": limits.frames},
                "model": queue.network.model,
                "kept": queue.workspace.keep is not None,
                "jobs": [job.as_json(queue.ahead(job)) for job in queue.jobs.values()],
            }
        )

    async def upload(self, request: Request) -> Response:
        """The body is the video. It goes to disk as it comes, and no further than the limit."""
        limit = self.queue.limits.upload_bytes
        if request.headers.get("content-type") != "application/octet-stream":
            raise HTTPException(415, "a video comes as application/octet-stream")
        label = label_of(unquote(request.headers.get(NAME_HEADER, "")[:1000]))
        length = request.headers.get("content-length", "0")
        expected = int(length) if length.isascii() and length.isdecimal() else 0
        if expected > limit:
            raise HTTPException(413, _too_large(label, limit))
        try:
            choice = Choice.from_query(dict(request.query_params), self.queue.limits)
            if self.queue.workspace.free_bytes() < (expected or limit) + SPARE:
                raise HTTPException(507, "the disk of the app is nearly full; remove results, or free some space")
            job = self.queue.reserve(label, choice)
        except (VDPMError, HTTPException) as error:
            # A browser that is still sending would not see the answer.
            await _discard(request, limit)
            if isinstance(error, HTTPException):
                raise
            code = {QueueFullError: 429, UsageError: 400}.get(type(error), 507)
            raise HTTPException(code, str(error)) from None
        try:
            await self._receive(request, job, limit)
        except BaseException as error:
            if not job.over:
                self.queue.fail(job, f"{label}: the upload was broken off")
            # Whoever uploaded it is told by the answer; a list of what never came would only fill up.
            self.queue.jobs.pop(job.id, None)
            if isinstance(error, ClientDisconnect):
                return Response(status_code=400)
            raise
        self.queue.accept(job)
        return JSONResponse({"id": job.id}, status_code=201)

    async def _receive(self, request: Request, job: Job, limit: int) -> None:
        parts = request.stream()
        try:
            with (job.folder / VIDEO).open("xb") as file:
                while True:
                    try:
                        part = await asyncio.wait_for(anext(parts), STALL)
                    except StopAsyncIteration:
                        break
                    if job.state is not State.UPLOADING:
                        raise HTTPException(409, f"{job.label}: was removed while it came")
                    job.received += len(part)
                    if job.received > limit:
                        raise HTTPException(413, _too_large(job.label, limit))
                    await asyncio.to_thread(file.write, part)
        except TimeoutError:
            raise HTTPException(408, f"{job.label}: the upload stood still for {STALL:.0f} s; try again") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise HTTPException(507, f"{job.label}: cannot be stored by the app ({reason})") from None
        if job.received == 0:
            raise HTTPException(400, f"{job.label}: the file is empty")

    async def cancel(self, request: Request) -> Response:
        """Stops a job; it stays in the list."""
        await self.queue.cancel(self._job(request))
        return JSONResponse({})

    async def remove(self, request: Request) -> Response:
        """Stops a job and removes all its files."""
        await self.queue.remove(self._job(request))
        return JSONResponse({})

    async def download(self, request: Request) -> Response:
        """A file of a job, or a folder as a zip archive made on the way."""
        job = self._job(request)
        held = DOWNLOADS.get(request.path_params["name"])
        if held is None or held[0].partition("/")[0] not in job.files:
            raise HTTPException(404, "there is no such file")
        place, kind, ending = held
        save = request.query_params.get("save") == "1"
        slug = re.sub(r"[^A-Za-z0-9_-]+", "_", job.label.rpartition(".")[0] or job.label).strip("_")[:60] or "video"
        if kind == "application/zip":
            top = f"{slug}{ending}"
            headers = {"content-disposition": f'attachment; filename="{top}.zip"'}
            return StreamingResponse(zip_parts(job.folder / place, top), media_type=kind, headers=headers)
        headers = {"content-disposition": f'attachment; filename="{slug}{ending}"'} if save else {}
        if place == PAGE:
            headers |= {"content-security-policy": SCENE_POLICY, "x-frame-options": "SAMEORIGIN"}
        return FileResponse(job.folder / place, media_type=kind, headers=headers)

    def _job(self, request: Request) -> Job:
        """Looked up, never part of a path."""
        job = self.queue.jobs.get(request.path_params["id"])
        if job is None:
            raise HTTPException(404, "there is no such video; it may have been removed")
        return job


async def _discard(request: Request, limit: int) -> None:
    """Reads what comes, as an upload would."""
    parts, received = request.stream(), 0
    with suppress(StopAsyncIteration, TimeoutError, ClientDisconnect):
        while received <= limit:
            received += len(await asyncio.wait_for(anext(parts), STALL))


async def _told(request: Request, error: Exception) -> Response:
    """One line for the page. A body that was not read in full ends the connection."""
    assert isinstance(error, HTTPException)
    headers = {**(error.headers or {}), **({"connection": "close"} if request.method == "POST" else {})}
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=headers)


def _too_large(label: str, limit: int) -> str:
    return f"{label}: larger than the {limit / 1e6:,.0f} MB that this app takes; cut it, or vdpm app --max-upload MB"
