"""The dashboard's files: what is served, and under which headers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from cloud_archive.api.dashboard import PAGE_ROUTES, add_dashboard

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    application = web.Application()
    add_dashboard(application)
    assert {resource.name for resource in application.router.resources()} == set(PAGE_ROUTES)
    async with TestClient(TestServer(application)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/cloud_archive.js", "text/javascript; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
    ],
)
async def test_a_file_of_the_page_is_compressed_has_its_type_and_may_load_nothing_foreign(
    client: Client, path: str, kind: str
) -> None:
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == kind
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Content-Encoding"] in ("gzip", "deflate")  # for slow lines


@pytest.mark.parametrize(
    "path",
    ["/missing.js", "/index.html", "/../pyproject.json", "/%2e%2e/pyproject.toml", "/.hidden.js", "/panel"],
)
async def test_nothing_else_is_served(client: Client, path: str) -> None:
    async with client.get(URL(path, encoded=True)) as answer:
        assert answer.status == 404


async def test_a_browser_that_wants_an_icon_gets_none(client: Client) -> None:
    async with client.get("/favicon.ico") as answer:
        assert answer.status == 204
