"""The event stream: its heartbeats, its subscriptions, slow clients and the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from cloud_archive.api.events import HEARTBEAT_SECONDS
from cloud_archive.api.server import build_application
from cloud_archive.errors import RequestRefused
from cloud_archive.handshake import sign_call
from tests.functional.callers import TOKEN, Caller, listening

from .fake_engine import FakeEngine
from .waiting import until


async def read_until(answer: aiohttp.ClientResponse, start: bytes) -> bytes:
    while True:
        line = await asyncio.wait_for(answer.content.readline(), 60)
        assert line, "the stream ended"
        if line.startswith(start):
            return line[len(start) :]


async def read_event(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await read_until(answer, b"data: "))
    return found


async def test_the_stream_begins_with_the_status_and_goes_on_with_each_change(
    private: Caller, fake_engine: FakeEngine
) -> None:
    async with private.open("GET", "/cloud-sync/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert (await read_event(answer))["state"] == "idle"
        fake_engine.push(state="uploading")
        while (await read_event(answer))["state"] != "uploading":  # a heartbeat may come before it
            pass


async def test_the_heartbeat_of_an_idle_stream_is_the_status_of_that_moment(
    private: Caller, fake_engine: FakeEngine
) -> None:
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        fake_engine.content = {**fake_engine.content, "uploaded_files": 7}  # the change is not pushed
        while (await read_event(answer))["uploaded_files"] != 7:  # one from before it may be on its way
            pass


async def test_the_heartbeat_of_an_archive_at_rest_is_sent_without_making_a_status(
    private: Caller, fake_engine: FakeEngine
) -> None:
    fake_engine.content = {**fake_engine.content, "safe_to_stop": True}
    async with private.open("GET", "/cloud-sync/events") as answer:
        first = await read_event(answer)
        assert [await read_event(answer) for _ in range(5)] == [first] * 5
        assert fake_engine.heartbeats == 0
        fake_engine.push(skipped_files=3)
        while (await read_event(answer))["skipped_files"] != 3:
            pass
        assert (await read_event(answer))["skipped_files"] == 3, "the newest one is repeated"
        assert fake_engine.heartbeats == 0


async def test_a_heartbeat_is_made_anew_once_something_has_happened(
    private: Caller, fake_engine: FakeEngine
) -> None:
    fake_engine.content = {**fake_engine.content, "safe_to_stop": True}
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        fake_engine.unchanged = False
        fake_engine.content = {**fake_engine.content, "safe_to_stop": False}
        while (await read_event(answer))["safe_to_stop"]:
            pass
        assert fake_engine.heartbeats > 0


async def test_a_heartbeat_of_an_archive_at_rest_is_made_anew_from_time_to_time(
    private: Caller, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.api.events.REBUILD_SECONDS", 0.0)
    fake_engine.content = {**fake_engine.content, "safe_to_stop": True}
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        fake_engine.content = {**fake_engine.content, "uploaded_files": 7}  # the change is not pushed
        while (await read_event(answer))["uploaded_files"] != 7:
            pass


async def test_one_subscription_serves_all_streams(private: Caller, fake_engine: FakeEngine) -> None:
    async with (
        private.open("GET", "/cloud-sync/events") as first,
        private.open("GET", "/cloud-sync/events") as second,
    ):
        await read_event(first), await read_event(second)
        assert len(fake_engine.callbacks) == 1
        fake_engine.push(uploaded_files=7)
        for answer in (first, second):
            while (await read_event(answer))["uploaded_files"] != 7:
                pass


def test_a_heartbeat_comes_at_least_every_five_seconds() -> None:
    assert HEARTBEAT_SECONDS <= 5


async def test_a_stream_that_is_closed_is_unsubscribed(private: Caller, fake_engine: FakeEngine) -> None:
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        assert len(fake_engine.callbacks) == 1
    await until(lambda: not fake_engine.callbacks)


async def test_a_client_that_reads_nothing_is_dropped(
    private: Caller, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.api.events.SLOW_CLIENT_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", private.port, limit=1)
    try:
        signed = sign_call(TOKEN, "GET", "/cloud-sync/events").headers["Authorization"]
        head = f"GET /cloud-sync/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {signed}\r\n\r\n"
        writer.write(head.encode())
        await reader.read(1)
        padding = "x" * 1_000_000

        def dropped() -> bool:
            fake_engine.push(watching=padding)
            return not fake_engine.callbacks

        await until(dropped)
    finally:
        writer.close()


async def test_the_server_stops_while_streams_are_open(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.api.server._SHUTDOWN_SECONDS", 3600.0)
    application = build_application(fake_engine.facade, token=TOKEN, heartbeat_seconds=3600.0)
    async with listening(application, TOKEN) as caller:
        async with caller.open("GET", "/cloud-sync/events") as answer:
            await read_event(answer)
            await asyncio.wait_for(caller.listener.close(), 60)
            assert await answer.content.read() in (b"", b"\n")
        assert fake_engine.callbacks == []


async def test_a_stream_outlasts_a_status_that_cannot_be_made_in_time(
    private: Caller, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[None] = []

    def too_slow(*_: object, **__: object) -> None:
        refused.append(None)
        raise RequestRefused(504, "The engine did not finish this call within 10 s.")

    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        with monkeypatch.context() as slow:
            slow.setattr(fake_engine, "status", too_slow)
            await until(lambda: refused)
        fake_engine.content = {**fake_engine.content, "uploaded_files": 7}
        while (await read_event(answer))["uploaded_files"] != 7:
            pass
