"""The engine's server under too many calls, and with clients that leave before the answer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from cloud_archive.api.connections import ConnectionLimits, Connections, _Connection
from cloud_archive.api.routes import ROUTE_SECONDS
from cloud_archive.api.server import Listener, build_application, serve

from .fake_engine import FakeEngine
from .waiting import until

STATUS = "/cloud-sync/status"
HALF = b"GET /cloud-sync/status HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@asynccontextmanager
async def listening(engine: FakeEngine, limits: ConnectionLimits | None = None) -> AsyncIterator[Listener]:
    listener = await serve(build_application(engine.facade, token=None), limits=limits)
    try:
        yield listener
    finally:
        if engine.gate is not None:
            engine.gate.set()
        await listener.close()


@asynccontextmanager
async def client(source: str = "127.0.0.1") -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, local_addr=(source, 0))
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


async def ask(
    session: aiohttp.ClientSession, listener: Listener, method: str, path: str, **more: Any
) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{listener.port}{path}"
    async with session.request(method, url, **more) as answer:
        return answer.status, await answer.json()


def connections(listener: Listener) -> list[_Connection]:
    return list(listener.connections._open.values())


def check_connections(listener: Listener) -> None:
    """Have the connections checked now, as if each had been idle for an hour."""
    for connection in connections(listener):
        connection.idle_since -= 3600.0
    if listener.connections._sweep is not None:
        listener.connections._sweep.cancel()
    listener.connections._drop_overdue()


def hold_calls(engine: FakeEngine) -> threading.Event:
    engine.gate = threading.Event()
    return engine.gate


# --- calls whose client left, and calls behind slow ones


async def test_a_flush_whose_client_is_gone_ends(engine: FakeEngine) -> None:
    gate = hold_calls(engine)
    async with listening(engine) as listener, client() as session:

        def flush() -> asyncio.Future[tuple[int, Any]]:
            body = {"timeout_seconds": 3600}
            return asyncio.ensure_future(ask(session, listener, "POST", "/cloud-sync/flush", json=body))

        running = [flush() for _ in range(16)]
        await until(lambda: len(engine.calls) == 16)
        waiting = [flush() for _ in range(4)]
        await ask(session, listener, "GET", STATUS)
        for call in waiting:
            call.cancel()
        # The server learns that these clients left before any thread is free for them.
        await until(lambda: sum(found.request is not None for found in connections(listener)) == 16)
        for call in running:
            call.cancel()
        await until(lambda: len(engine.ended) == 16)
        gate.set()
        engine.content["safe_to_stop"] = True
        assert (await flush())[0] == 200
        assert len(engine.calls) == 17, "those that waited for a thread were never run"


async def test_the_time_of_a_flush_counts_its_wait_for_a_thread(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.api.server._AFTER_FLUSH_SECONDS", 0.2)
    hold_calls(engine)
    async with listening(engine) as listener, client() as session:
        body = {"timeout_seconds": 3600}
        calls = [
            asyncio.ensure_future(ask(session, listener, "POST", "/cloud-sync/flush", json=body))
            for _ in range(16)
        ]
        await until(lambda: len(engine.calls) == 16)
        status, content = await ask(
            session, listener, "POST", "/cloud-sync/flush", json={"timeout_seconds": 0.2}
        )
        assert (status, content["status"]["state"]) == (504, "idle")
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()


async def test_no_order_and_no_status_waits_for_reports(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast(dict[str, float], ROUTE_SECONDS), "report", 3600.0)
    gate = hold_calls(engine)
    async with listening(engine) as listener, client() as session:
        reports = [
            asyncio.ensure_future(ask(session, listener, "GET", "/cloud-sync/report")) for _ in range(8)
        ]
        await until(lambda: len(engine.calls) == 2)
        for method, path in (("GET", STATUS), ("POST", "/cloud-sync/stop"), ("GET", "/cloud-sync/files")):
            status, _ = await asyncio.wait_for(ask(session, listener, method, path), 60)
            assert status == 200
        assert not any(report.done() for report in reports)
        gate.set()
        assert {status for status, _ in await asyncio.gather(*reports)} == {200}


async def test_what_is_too_much_is_refused_at_once(engine: FakeEngine) -> None:
    gate = hold_calls(engine)
    async with listening(engine) as listener, client() as session:
        # Two run, eight wait, two more are refused.
        reports = [
            asyncio.ensure_future(ask(session, listener, "GET", "/cloud-sync/report")) for _ in range(12)
        ]
        await until(lambda: sum(report.done() for report in reports) == 2)
        gate.set()
        statuses = [status for status, _ in await asyncio.gather(*reports)]
        assert (statuses.count(503), statuses.count(200)) == (2, 10)


# --- event streams


async def test_idle_streams_lock_nobody_out(engine: FakeEngine) -> None:
    async with listening(engine) as listener, AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{listener.port}/cloud-sync/events"
        sessions = [await stack.enter_async_context(client(f"127.0.0.{n}")) for n in (1, 2, 3)]
        opened = []
        for session, count in ((sessions[0], 64), (sessions[1], 32)):
            for _ in range(count):
                answer = await stack.enter_async_context(session.get(url))
                await answer.content.readline()
                opened.append(answer)
        newcomer = await stack.enter_async_context(sessions[2].get(url))
        assert newcomer.status == 200
        assert (await newcomer.content.readline()).startswith(b"event:")
        for ended in opened[:33]:  # of the client that has the most, the oldest
            await asyncio.wait_for(ended.content.read(), 60)
        assert not any(answer.content.at_eof() for answer in opened[33:])


# --- connections


async def half_open(
    listener: Listener, head: bytes = HALF
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(head)
    return reader, writer


async def test_half_open_connections_make_room_for_whole_requests(engine: FakeEngine) -> None:
    async with listening(engine, ConnectionLimits(8, 6)) as listener, client() as session:
        opened = [await half_open(listener) for _ in range(50)]
        assert (await ask(session, listener, "GET", STATUS))[0] == 200
        assert len(listener.connections._open) <= 7
        for _, writer in opened:
            writer.close()


async def test_a_body_that_does_not_come_makes_room_as_well(engine: FakeEngine) -> None:
    head = (
        b"POST /cloud-sync/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    async with listening(engine, ConnectionLimits(8, 6)) as listener, client() as session:
        opened = [await half_open(listener, head) for _ in range(20)]
        assert (await ask(session, listener, "GET", STATUS))[0] == 200
        for _, writer in opened:
            writer.close()


async def test_clients_that_do_not_read_their_answers_make_room_as_well() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(bytes(1 << 20))

    async def short(_: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.router.add_get("/endless", endless)
    application.router.add_get(STATUS, short)
    listener = await serve(application, limits=ConnectionLimits(8, 6))
    try:
        opened = [
            await half_open(listener, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(6)
        ]
        await until(lambda: all(found.awaits_reader for found in connections(listener)))
        async with client() as session:
            assert (await ask(session, listener, "GET", STATUS))[0] == 200
        for _, writer in opened:
            writer.close()
    finally:
        await listener.close()


async def test_clients_that_leave_in_the_middle_of_a_body_leave_no_line_in_the_log(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    head = (
        b"POST /cloud-sync/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    async with listening(engine, ConnectionLimits(8, 6)) as listener, client() as session:
        for _ in range(20):  # most are dropped to make room
            _, writer = await half_open(listener, head)
            writer.transport.abort()
        await until(lambda: all(found.request is None for found in connections(listener)))
        assert (await ask(session, listener, "GET", STATUS))[0] == 200
    assert caplog.text == ""
    assert engine.calls == []


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 300 + b".js HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HALF.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n",
        HALF.replace(b"GET", b"POST") + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_malformed_requests_leave_no_line_in_the_log(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """Anybody who reaches the port can send them, and would push everything else out of the log."""
    async with listening(engine) as listener:
        reader, writer = await half_open(listener, sent)
        with contextlib.closing(writer):
            answer = await asyncio.wait_for(reader.readline(), 60)
    assert answer.split()[1].startswith(b"4")
    assert caplog.text == ""


async def test_a_compressed_body_is_not_expanded(engine: FakeEngine) -> None:
    """A few kilobytes could expand to gigabytes, which older versions of aiohttp keep in memory."""
    body = gzip.compress(b'{"accept_root": false}')
    head = HALF.replace(b"GET /cloud-sync/status", b"POST /cloud-sync/rescan")
    head += b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    async with listening(engine) as listener:
        reader, writer = await half_open(listener, head + body)
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 60)
        writer.close()
    assert engine.calls == []


async def test_a_body_has_a_time_limit(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_archive.api.routes.BODY_SECONDS", 0.2)
    head = HALF.replace(b"GET /cloud-sync/status", b"POST /cloud-sync/start")
    head += b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    async with listening(engine) as listener:
        reader, writer = await half_open(listener, head)
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 60)
        writer.close()
    assert engine.calls == []


@pytest.mark.parametrize("head", [b"", b"GET", HALF])
async def test_a_head_has_a_time_limit_also_on_a_kept_connection(engine: FakeEngine, head: bytes) -> None:
    async with listening(engine, ConnectionLimits(8, 6, head_seconds=0.2)) as listener:
        for start in (b"", HALF + b"\r\n"):
            reader, writer = await half_open(listener, start + head)
            await asyncio.wait_for(reader.read(), 60)
            writer.close()


async def test_connections_are_checked_only_while_one_waits_for_its_request(engine: FakeEngine) -> None:
    gate = hold_calls(engine)
    limits = ConnectionLimits(8, 6, head_seconds=3600.0)
    async with listening(engine, limits) as listener, client() as session:
        assert listener.connections._sweep is None
        body = {"file_path": "a.png"}
        upload = asyncio.ensure_future(ask(session, listener, "POST", "/cloud-sync/upload", json=body))
        await until(lambda: len(engine.calls) == 1)
        check_connections(listener)
        assert listener.connections._sweep is None
        gate.set()
        assert (await upload)[0] == 200
        await until(lambda: listener.connections._sweep is not None)  # it waits for the next request
        check_connections(listener)
        assert not listener.connections._open
        assert listener.connections._sweep is None


async def test_a_connection_that_is_answered_stays_and_one_client_leaves_room_for_another(
    engine: FakeEngine,
) -> None:
    gate = hold_calls(engine)
    async with (
        listening(engine, ConnectionLimits(8, 6, head_seconds=3600.0)) as listener,
        client() as first,
        client("127.0.0.2") as second,
    ):
        uploads = [
            asyncio.ensure_future(
                ask(first, listener, "POST", "/cloud-sync/upload", json={"file_path": str(number)})
            )
            for number in range(6)
        ]
        await until(lambda: len(engine.calls) == 6)
        with pytest.raises(aiohttp.ClientError):
            await ask(first, listener, "GET", STATUS)
        check_connections(listener)
        assert (await ask(second, listener, "GET", STATUS))[0] == 200
        gate.set()
        assert {status for status, _ in await asyncio.gather(*uploads)} == {200}


async def test_errors_of_accept_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    connections = Connections(ConnectionLimits(8, 6))
    with caplog.at_level(logging.ERROR, "cloud_archive"):
        for _ in range(3):
            await connections._recover(OSError(errno.EMFILE, "Too many open files"))
        said = "No connection can be accepted: Too many open files. Idle ones were closed."
        assert caplog.messages == [said]
        connections._logged_at -= 60.0  # as if a minute had passed
        await connections._recover(OSError(errno.EMFILE, "Too many open files"))
    assert caplog.messages == [said, said]


@pytest.mark.parametrize(("descriptors", "total"), [(256, 32), (1024, 128), (4096, 256), (64, 16)])
def test_limits_leave_most_descriptors_to_the_archive(
    descriptors: int, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    limits = ConnectionLimits.for_this_process()
    assert limits.total == total
    assert limits.per_client < total


async def test_a_long_download_is_not_taken_for_an_idle_connection(
    engine: FakeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "large").write_bytes(bytes(20_000_000))
    application = build_application(engine.facade, token=None)

    async def large(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(tmp_path / "large")

    application.router.add_get("/large", large)
    listener = await serve(application, limits=ConnectionLimits(8, 6, head_seconds=3600.0))
    try:
        async with client() as session, session.get(f"http://127.0.0.1:{listener.port}/large") as answer:
            got = len(await answer.content.read(1000))
            check_connections(listener)
            got += len(await answer.content.read())
            while piece := await answer.content.read():
                got += len(piece)
            assert got == 20_000_000
    finally:
        await listener.close()
    assert caplog.text == ""
