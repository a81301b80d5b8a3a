"""Limits of connections: who is dropped where there is no room."""

from __future__ import annotations

import asyncio
import socket

import pytest

from cloud_archive.api.connections import ConnectionLimits, Connections


class Protocol(asyncio.Protocol):
    """One accepted connection; `lost` is set when it ends."""

    def __init__(self) -> None:
        self.made, self.lost = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()


class Listener:
    """A listener on `port` that never answers; `protocols` holds its connections in the order of their arrival."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.connections = Connections(limits)
        self.port = 0
        self.protocols: list[Protocol] = []
        self._arrived: asyncio.Queue[Protocol] = asyncio.Queue()

    async def __aenter__(self) -> Listener:
        self.port = await self.connections.start("127.0.0.1", 0, self._make)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connections.close()

    def _make(self) -> Protocol:
        protocol = Protocol()
        self.protocols.append(protocol)
        self._arrived.put_nowait(protocol)
        return protocol

    async def connect(self) -> socket.socket:
        """Connect, and wait until the listener has the connection."""
        client = socket.socket()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        await asyncio.wait_for((await asyncio.wait_for(self._arrived.get(), 60)).made.wait(), 60)
        return client


def test_two_listeners_leave_most_descriptors_to_the_archive() -> None:
    limits = ConnectionLimits.for_this_process()
    assert 16 <= limits.total <= 256
    assert limits.per_client == limits.total * 3 // 4


async def test_where_a_client_has_too_many_its_oldest_goes() -> None:
    async with Listener(ConnectionLimits(total=9, per_client=2, head_seconds=60)) as listener:
        clients = [await listener.connect() for _ in range(3)]
        await asyncio.wait_for(listener.protocols[0].lost.wait(), 60)
        assert [protocol.lost.is_set() for protocol in listener.protocols] == [True, False, False]
        for client in clients:
            client.close()


async def test_where_there_are_too_many_the_oldest_goes() -> None:
    async with Listener(ConnectionLimits(total=2, per_client=9, head_seconds=60)) as listener:
        clients = [await listener.connect() for _ in range(3)]
        await asyncio.wait_for(listener.protocols[0].lost.wait(), 60)
        for client in clients:
            client.close()


async def test_a_connection_without_a_request_is_dropped() -> None:
    async with Listener(ConnectionLimits(total=4, per_client=4, head_seconds=0.05)) as listener:
        client = await listener.connect()
        await asyncio.wait_for(listener.protocols[0].lost.wait(), 60)
        client.close()


async def test_a_port_that_is_taken_is_an_error() -> None:
    limits = ConnectionLimits(total=4, per_client=4)
    async with Listener(limits) as listener:
        with pytest.raises(OSError, match=r"."):
            await Connections(limits).start("127.0.0.1", listener.port, Protocol)
