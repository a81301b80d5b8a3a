"""Serve the daemon's page and its files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

_log = logging.getLogger("cloud_archive.server")

_CONTENT_TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


PAGE_ROUTES = ("page", "page-icon", "page-file")
"""Names of the routes that hold nothing of the archive: anybody may load them."""

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_dashboard(application: web.Application) -> None:
    package = Path(__file__).parents[1]
    inside = package / "web"
    directory = inside if inside.is_dir() else package.parent / "web"

    def page(name: str) -> web.StreamResponse:
        local = directory / name
        if not local.is_file():
            raise web.HTTPNotFound
        headers = {
            "Content-Type": f"{_CONTENT_TYPES[local.suffix]}; charset=utf-8",
            "Content-Security-Policy": _PAGE_POLICY,
        }
        return web.FileResponse(local, headers=headers)

    async def index(_: web.Request) -> web.StreamResponse:
        return page("index.html")

    async def asset(request: web.Request) -> web.StreamResponse:
        return page(request.match_info["name"])

    async def icon(_: web.Request) -> web.Response:
        return web.Response(status=204)  # browsers ask for it unasked, and report a 404

    application.router.add_get("/", index, name="page")
    application.router.add_get("/favicon.ico", icon, name="page-icon")
    application.router.add_get(
        r"/{name:(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*\.(?:js|css|json|svg)}",
        asset,
        name="page-file",
    )
