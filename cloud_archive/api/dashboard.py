"""Serve the dashboard page and its files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

_CONTENT_TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

PAGE_ROUTES = ("page", "page-icon", "page-file")
"""The names of the page's routes. Their answers hold no data of the archive, so they need no token."""

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_dashboard(application: web.Application) -> None:
    """Add the routes of the page. Its files are in the installed package; in a source tree they are beside it."""
    package = Path(__file__).parents[1]
    installed = package / "web"
    directory = installed if installed.is_dir() else package.parent / "web"

    def serve_file(request: web.Request, name: str) -> web.StreamResponse:
        local = directory / name
        found = False
        with contextlib.suppress(OSError):  # such as a name that is too long
            found = local.is_file()
        if not found:
            raise web.HTTPNotFound
        headers = {
            "Content-Type": f"{_CONTENT_TYPES[local.suffix]}; charset=utf-8",
            "Content-Security-Policy": _PAGE_POLICY,
        }
        answer = web.FileResponse(local, headers=headers)
        # Where the answer has no body (304, or to HEAD), aiohttp 3.14 would send the end of a compressed one. With
        # HTTP/1.0 a compressed one has no end on a connection that is kept.
        conditions = [name for name in request.headers if name.lower().startswith(("if-", "range"))]
        if request.method == "GET" and request.version >= (1, 1) and not conditions:
            answer.enable_compression()
        return answer

    async def index(request: web.Request) -> web.StreamResponse:
        return serve_file(request, "index.html")

    async def page_file(request: web.Request) -> web.StreamResponse:
        return serve_file(request, request.match_info["name"])

    async def icon(_: web.Request) -> web.Response:
        return web.Response(status=204)  # browsers request it by themselves, and report a 404

    application.router.add_get("/", index, name="page")
    application.router.add_get("/favicon.ico", icon, name="page-icon")
    application.router.add_get(
        r"/{name:(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*\.(?:js|css|json|svg)}",
        page_file,
        name="page-file",
    )
