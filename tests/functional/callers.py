"""A client of the engine's server, or of a daemon's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from cloud_archive.api.server import Listener, serve
from cloud_archive.handshake import sign_call

TOKEN = "t" * 43


class Caller:
    """A client of one listener; it signs its calls if it has a token."""

    def __init__(self, session: aiohttp.ClientSession, listener: Listener, token: str | None) -> None:
        self.session = session
        self.port = listener.port
        self.listener = listener
        self.token = token

    def open(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        signed = sign_call(self.token, method, path).headers if self.token else {}
        url = f"http://127.0.0.1:{self.port}{path}"
        return self.session.request(method, url, headers={**signed, **(headers or {})}, **more)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.open(method, path, **more) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def listening(application: web.Application, token: str | None = None) -> AsyncIterator[Caller]:
    listener = await serve(application)
    try:
        timeout = aiohttp.ClientTimeout(total=120)  # a busy machine stalls for long
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Caller(session, listener, token)
    finally:
        await listener.close()
