"""Streams of events: the newest status wins, and a client with many streams gives way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cloud_archive.api import events
from cloud_archive.api.events import EventStreams

Client = TestClient[web.Request, web.Application]


class Source:
    """An archive whose status the test pushes; `held` keeps back the status of a new stream."""

    def __init__(self) -> None:
        self.pushes: list[Callable[[dict[str, Any]], None]] = []
        self.held = asyncio.Event()
        self.held.set()
        self.asked = asyncio.Event()

    def subscribe(self, push: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        self.pushes.append(push)
        return lambda: self.pushes.remove(push)

    async def status(self) -> dict[str, Any]:
        self.asked.set()
        await self.held.wait()
        return {"number": 1}


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def client(source: Source) -> AsyncIterator[Client]:
    streams = EventStreams(source.subscribe, source.status, source.status, still_safe=lambda: False)
    application = web.Application()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await streams.events(request.clone(remote=request.query["client"]), {})

    application.router.add_get("/", answer)
    application.on_shutdown.append(streams.close)
    async with TestClient(TestServer(application)) as opened:
        yield opened


async def first_line(answer: aiohttp.ClientResponse) -> bytes:
    await answer.content.readline()
    return await answer.content.readline()


async def test_a_status_that_is_pushed_while_a_stream_begins_replaces_its_first(
    client: Client, source: Source
) -> None:
    source.held.clear()
    call = asyncio.ensure_future(client.get("/?client=a"))
    await asyncio.wait_for(source.asked.wait(), 60)
    source.pushes[0]({"number": 2})
    await asyncio.sleep(0)  # the push goes through the loop
    source.held.set()
    async with await call as answer:
        assert await first_line(answer) == b'data: {"number": 2}\n'


@pytest.mark.parametrize(("total", "per_client"), [(3, 9), (9, 2)])
async def test_where_there_is_no_room_the_client_with_the_most_streams_loses_its_oldest(
    client: Client, monkeypatch: pytest.MonkeyPatch, total: int, per_client: int
) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", total)
    monkeypatch.setattr(events, "MAX_STREAMS_PER_CLIENT", per_client)
    async with AsyncExitStack() as stack:
        answers = []
        for name in ("b", "a", "a", "a"):
            answer = await stack.enter_async_context(client.get(f"/?client={name}"))
            assert await first_line(answer) == b'data: {"number": 1}\n'
            answers.append(answer)
        await asyncio.wait_for(answers[1].content.read(), 60)  # it has ended
        assert not any(answers[index].content.at_eof() for index in (0, 2, 3))
