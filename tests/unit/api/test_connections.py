"""Limits of connections: who is dropped where there is no room."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from cloud_archive.api import connections as connections_module
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


@pytest.mark.parametrize(("total", "per_client"), [(9, 2), (2, 9)])
async def test_where_a_client_or_all_have_too_many_the_oldest_goes(total: int, per_client: int) -> None:
    async with Listener(ConnectionLimits(total, per_client, head_seconds=60)) as listener:
        clients = [await listener.connect() for _ in range(3)]
        await asyncio.wait_for(listener.protocols[0].lost.wait(), 60)
        assert [protocol.lost.is_set() for protocol in listener.protocols] == [True, False, False]
        for client in clients:
            client.close()


@pytest.mark.parametrize("head_seconds", [0.05, 0.0])
async def test_a_connection_without_a_request_is_dropped(head_seconds: float) -> None:
    """Also one whose time is up before it was made, as in a process that stands still."""
    async with Listener(ConnectionLimits(total=4, per_client=4, head_seconds=head_seconds)) as listener:
        client = await listener.connect()
        await asyncio.wait_for(listener.protocols[0].lost.wait(), 60)
        client.close()


async def test_a_port_that_is_taken_is_an_error() -> None:
    limits = ConnectionLimits(total=4, per_client=4)
    async with Listener(limits) as listener:
        with pytest.raises(OSError, match=r"."):
            await Connections(limits).start("127.0.0.1", listener.port, Protocol)


IPV4 = (socket.AF_INET, ("127.0.0.1", 0))
ELSEWHERE = (socket.AF_INET, ("192.0.2.1", 0))  # an address that no machine has, see RFC 5737
IPV6 = (socket.AF_INET6, ("::1", 0, 0, 0))


class WithoutIPv6(socket.socket):
    """Sockets of a system whose kernel has no IPv6."""

    def __init__(self, family: int = -1, *arguments: Any, **more: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *arguments, **more)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[Any, ...]]]:
    """The addresses that each name has; change it."""
    found: list[tuple[int, tuple[Any, ...]]] = []

    def resolve(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    return found


@pytest.mark.parametrize("missing", [IPV6, ELSEWHERE])
@pytest.mark.parametrize("first", [True, False])
async def test_a_name_with_an_address_that_this_system_lacks_is_served_on_its_others(
    addresses: list[Any], missing: Any, first: bool
) -> None:
    addresses += [missing, IPV4] if first else [IPV4, missing]
    async with Listener(ConnectionLimits(total=4, per_client=4)) as listener:
        (await listener.connect()).close()


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is an address on Linux")
async def test_a_port_that_is_taken_on_the_second_address_is_not_chosen(
    addresses: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system chooses a free port for the first address; another program may have it on the second."""
    addresses += [IPV4, (socket.AF_INET, ("127.0.0.2", 0))]
    listen_on = connections_module._listen_on
    taken: list[int] = []

    with contextlib.ExitStack() as other_program:

        def listen_on_after_another_program(family: int, address: Any) -> socket.socket:
            listening = listen_on(family, address)
            if not taken:
                taken.append(listening.getsockname()[1])
                other_program.enter_context(socket.create_server(("127.0.0.2", taken[0])))
            return listening

        monkeypatch.setattr(connections_module, "_listen_on", listen_on_after_another_program)
        async with Listener(ConnectionLimits(total=4, per_client=4)) as listener:
            assert listener.port not in taken
            (await listener.connect()).close()
            with socket.socket() as client:
                client.connect(("127.0.0.2", listener.port))


@pytest.mark.parametrize(("missing", "cause"), [(IPV6, "not supported"), (ELSEWHERE, "assign requested")])
async def test_a_name_without_an_address_of_this_system_is_an_error(
    addresses: list[Any], missing: Any, cause: str
) -> None:
    addresses.append(missing)
    with pytest.raises(OSError, match=None if os.name == "nt" else cause):
        await Connections(ConnectionLimits(total=4, per_client=4)).start("name", 0, Protocol)


@pytest.mark.parametrize(
    ("number", "windows_number"),
    [(errno.ECONNABORTED, None), (errno.ECONNRESET, 10054), (errno.ENOTCONN, 10057), (errno.EINVAL, 64)],
)
async def test_a_client_that_goes_away_before_it_is_accepted_costs_others_nothing(
    number: int, windows_number: int | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(OSError):
        winerror = windows_number

    async def not_paused(_: float) -> None:
        raise AssertionError("it paused")

    async with Listener(ConnectionLimits(total=4, per_client=4, head_seconds=3600.0)) as listener:
        with contextlib.closing(await listener.connect()), monkeypatch.context() as patched:
            patched.setattr("asyncio.sleep", not_paused)
            await listener.connections._recover(Gone(number, "gone"))
            assert not any(each.closed for each in listener.connections._open.values())
    assert caplog.text == ""


async def test_a_text_that_is_no_host_name_is_an_error() -> None:
    with pytest.raises(OSError, match="not a host name"):
        await Connections(ConnectionLimits(total=4, per_client=4)).start("a..b", 0, Protocol)


LISTEN = """
import asyncio, sys
from cloud_archive.api.connections import ConnectionLimits, Connections

async def main():
    connections = Connections(ConnectionLimits(total=4, per_client=4))
    assert await connections.start("127.0.0.1", 0, asyncio.Protocol) > 0
    await connections.close()

asyncio.run(main())
print("encodings.idna" in sys.modules)
"""


def test_an_address_needs_no_tables_of_international_names() -> None:
    done = subprocess.run([sys.executable, "-c", LISTEN], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
