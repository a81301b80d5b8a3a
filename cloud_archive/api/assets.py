"""The engine's answers about archived files: search, one asset, its bytes, its graphs, and edits."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..errors import CloudArchiveError, RequestRefused
from ..sharing.links import content_disposition
from .gallery import GalleryScope, scope_of, zip_pieces
from .lanes import Lanes
from .routes import ANSWER_HEADERS, ROUTE_SECONDS, Arguments, abort_answer

if TYPE_CHECKING:
    from ..archive.engine import Engine

_log = logging.getLogger("cloud_archive.server")

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.IGNORECASE)
# A browser must never run a file from the bucket as if it were one of our pages.
_CONTENT_POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
_THUMBNAIL_SECONDS = 3600  # how long a browser may use its cached copy


class AssetHandlers:
    """Answer the routes of the catalog; each method has the name of its route."""

    def __init__(self, engine: Engine, lanes: Lanes, *, public: bool) -> None:
        self._engine = engine
        self._lanes = lanes
        self._public = public

    def _scope(self, request: web.Request) -> GalleryScope:
        return scope_of(request, self._engine.catalog(), public=self._public)

    async def assets(self, request: web.Request, arguments: Arguments) -> web.Response:
        page = (arguments["sort"], arguments["order"], arguments["limit"], arguments["after"])

        def call() -> dict[str, Any]:
            machine = self._scope(request).only_machine()
            return self._engine.catalog().search(arguments["q"], *page, machine).to_json()

        return web.json_response(await self._lanes.run("catalog", call, ROUTE_SECONDS["assets"]))

    async def facets(self, request: web.Request, arguments: Arguments) -> web.Response:
        def call() -> dict[str, Any]:
            scope, catalog = self._scope(request), self._engine.catalog()
            others = catalog.other_machines() if scope.shows_others else {"loading": None, "trouble": None}
            found = catalog.facets(arguments["q"], scope.only_machine())
            return found | {"unread": catalog.unread_files()} | others

        return web.json_response(await self._lanes.run("catalog", call, ROUTE_SECONDS["facets"]))

    async def _asset(self, request: web.Request, arguments: Arguments) -> dict[str, Any]:
        """Return the asset. RequestRefused: 403, the gallery is off; 404, the caller sees no such asset."""
        identity = uuid.UUID(arguments["id"])
        return await self._lanes.run(
            "catalog",
            lambda: self._scope(request).check(self._engine.catalog().asset(identity)),
            ROUTE_SECONDS["asset"],
        )

    async def asset(self, request: web.Request, arguments: Arguments) -> web.Response:
        return web.json_response(await self._asset(request, arguments))

    async def edit_asset(self, request: web.Request, arguments: Arguments) -> web.Response:
        await self._asset(request, arguments)
        identity = uuid.UUID(arguments["id"])
        changes = {name: value for name, value in arguments.items() if name != "id"}
        edited = await self._lanes.run(
            "catalog", lambda: self._engine.catalog().edit(identity, changes), ROUTE_SECONDS["edit_asset"]
        )
        return web.json_response(edited)

    async def bring_back(self, _: web.Request, __: Arguments) -> web.Response:
        raise RequestRefused(
            409,
            "Only ComfyUI has an input directory: use the library in ComfyUI, or download the file with /content.",
        )

    async def zip(self, request: web.Request, arguments: Arguments) -> web.StreamResponse:
        assets = [await self._asset(request, {"id": one}) for one in arguments["ids"].split(",")]
        catalog = await self._lanes.run("catalog", self._engine.catalog, ROUTE_SECONDS["zip"])
        headers = {
            **ANSWER_HEADERS,
            "Content-Type": "application/zip",
            "Content-Disposition": content_disposition("cloud-archive.zip", "application/zip"),
        }
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        if request.method == "HEAD":
            return answer
        pieces = zip_pieces(catalog, assets)
        try:
            while piece := await self._next_piece(pieces):
                await answer.write(piece)
            await answer.write_eof()
        except (CloudArchiveError, OSError) as error:
            _break_off(request, "A ZIP", error)
        return answer

    async def thumbnail(self, request: web.Request, arguments: Arguments) -> web.Response:
        await self._asset(request, arguments)
        identity = uuid.UUID(arguments["id"])
        thumbnail = await self._lanes.run(
            "thumbnail", lambda: self._engine.catalog().thumbnail(identity), ROUTE_SECONDS["thumbnail"]
        )
        headers = {
            **ANSWER_HEADERS,
            "Content-Type": thumbnail.mime_type,
            "Content-Security-Policy": _CONTENT_POLICY,
            # An icon may stand for a picture that can't be read now.
            "Cache-Control": "no-store" if thumbnail.is_icon else f"private, max-age={_THUMBNAIL_SECONDS}",
        }
        return web.Response(body=thumbnail.data, headers=headers)

    async def workflow(self, request: web.Request, arguments: Arguments) -> web.Response:
        _, workflow = await self._graphs(request, arguments)
        return _graph_answer(workflow, "workflow")

    async def prompt(self, request: web.Request, arguments: Arguments) -> web.Response:
        prompt_graph, _ = await self._graphs(request, arguments)
        return _graph_answer(prompt_graph, "prompt graph")

    async def _graphs(
        self, request: web.Request, arguments: Arguments
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the asset's prompt graph and its workflow."""
        await self._asset(request, arguments)
        identity = uuid.UUID(arguments["id"])
        return await self._lanes.run(
            "content", lambda: self._engine.catalog().graphs(identity), ROUTE_SECONDS["workflow"]
        )

    async def content(self, request: web.Request, arguments: Arguments) -> web.StreamResponse:
        asset = await self._asset(request, arguments)
        catalog = await self._lanes.run("catalog", self._engine.catalog, ROUTE_SECONDS["content"])
        name, size_bytes = asset["name"], asset["size"]
        mime_type = asset["mime_type"] or "application/octet-stream"
        headers = {
            **ANSWER_HEADERS,
            "Content-Type": mime_type,
            "Content-Disposition": content_disposition(name, mime_type),
            "Content-Security-Policy": _CONTENT_POLICY,
            "Accept-Ranges": "bytes",
        }
        # Content has no ETag, so If-Range never names this version: send all of it (RFC 9110, 13.1.5).
        asked = None if "If-Range" in request.headers else request.headers.get("Range")
        wanted, is_partial = range_of(asked, size_bytes)
        if wanted is None:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size_bytes}"})
        if is_partial:
            headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size_bytes}"
        answer = web.StreamResponse(status=206 if is_partial else 200, headers=headers)
        answer.content_length = len(wanted)
        if request.method == "HEAD":
            await answer.prepare(request)
            return answer
        pieces = catalog.pieces(uuid.UUID(asset["id"]), wanted)
        # Read the first piece before the status is sent, so that an error of the store can still set the status.
        piece = await self._next_piece(pieces)
        await answer.prepare(request)
        try:
            await self._send(answer, piece, pieces, len(wanted))
        except (CloudArchiveError, OSError) as error:
            _break_off(request, f"The content of {name}", error)
        return answer

    async def _next_piece(self, pieces: Iterator[bytes]) -> bytes:
        return await self._lanes.run("content", lambda: next(pieces, b""), ROUTE_SECONDS["content"])

    async def _send(
        self, answer: web.StreamResponse, piece: bytes, pieces: Iterator[bytes], length: int
    ) -> None:
        while piece and length > 0:
            await answer.write(piece[:length])
            length -= len(piece)
            piece = await self._next_piece(pieces) if length > 0 else b""
        if length > 0:
            raise OSError("the file ended early")
        await answer.write_eof()


def _break_off(request: web.Request, what: str, error: Exception) -> None:
    """Close the connection; log the error, unless the client went away."""
    if not isinstance(error, ConnectionError):
        _log.warning("%s was not sent completely: %s", what, error)
    abort_answer(request)


def _graph_answer(graph: dict[str, Any] | None, name: str) -> web.Response:
    if graph is None:
        raise RequestRefused(404, f"No {name} is known for this asset.")
    return web.json_response(graph)


def range_of(header: str | None, size_bytes: int) -> tuple[range | None, bool]:
    """Return the bytes that a `Range` header asks for, and whether the answer is partial (206).

    A header that is missing or invalid, or has another unit or several ranges, asks for all bytes (200). The range is
    None if none of its bytes exists (416).

    >>> range_of("bytes=0-9", 100), range_of("bytes=-10", 100), range_of("bytes=100-", 100)
    ((range(0, 10), True), (range(90, 100), True), (None, True))
    >>> range_of("bytes=0-", 100), range_of(None, 100), range_of("bytes=9-0", 100)
    ((range(0, 100), True), (range(0, 100), False), (range(0, 100), False))
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or not (match[1] or match[2]):
        return range(size_bytes), False
    if not match[1]:
        length = min(int(match[2]), size_bytes)
        return range(size_bytes - length, size_bytes) if length else None, True
    start = int(match[1])
    stop = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
    if match[2] and int(match[2]) < start:
        return range(size_bytes), False
    return range(start, stop) if start < size_bytes else None, True
