"""The dashboard's files: what is served, and under which headers."""

from __future__ import annotations

import asyncio
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


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_without_a_body_ends_with_its_headers(client: Client, method: str) -> None:
    """Anything after them would be taken for the connection's next answer."""
    async with client.get("/dashboard.css") as answer:
        tag = answer.headers["ETag"]
    condition = f"If-None-Match: {tag}\r\n" if method == "GET" else ""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        f"{method} /dashboard.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Accept-Encoding: gzip\r\n{condition}\r\n".encode()
    )
    head, end, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 304" if method == "GET" else b"HTTP/1.1 200")
    assert (end, body) == (b"\r\n\r\n", b"")


async def test_a_client_that_knows_no_chunks_learns_the_length(client: Client) -> None:
    """Without it, the answer would have no end on a connection that is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /dashboard.css HTTP/1.0\r\nConnection: keep-alive\r\nAccept-Encoding: gzip\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert b"\r\ncontent-length: " in head.lower()


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
