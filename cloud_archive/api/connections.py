"""Accept connections within limits, so that a flooded listener still answers and leaves descriptors for the archive.

aiohttp sets no time limit for the head of a request, and asyncio accepts until the process has no descriptor left. Here
a connection that sends no request for `head_seconds` is dropped. At a limit, a new connection takes the place of an
idle one: of the client that has the most, the one that has been idle the longest. If none is idle, the new one is
closed. A connection is idle unless a handler answers a complete request and the client has read what was sent so far.
So it also is idle while it only sends a file (a page's script, for example).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

_log = logging.getLogger("cloud_archive.server")

BACKLOG = 512  # connections that wait in the system until we accept them
ERROR_PAUSE_SECONDS = 0.5  # after an error of `accept`
ERROR_LOG_SECONDS = 60.0  # between two log lines about such errors
_TIMER_TOLERANCE_SECONDS = 0.01  # a timer may fire this much too early
_PORT_ATTEMPTS = 10  # to find a port that is free on each address of a name
_ASSUMED_DESCRIPTORS = 2048  # where the system has no limit, or none that can be read
# A name may have addresses that this system does not have, such as localhost's ::1 where IPv6 is turned off.
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
# Errors of `accept` if the client went away first. Windows has the last two, ENOTCONN and error 64:
# https://github.com/python/cpython/issues/93821
_CLIENT_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.ECONNRESET, errno.ENOTCONN)
_NETNAME_DELETED = 64


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections one listener holds, and how long one may take for the head of a request."""

    total: int
    per_client: int
    head_seconds: float = 20.0

    @classmethod
    def for_this_process(cls) -> ConnectionLimits:
        """Return the limits of one listener: an eighth of the process's descriptors, but 16 to 256.

        An engine has two listeners at most, and needs the other descriptors itself.
        """
        descriptors = _ASSUMED_DESCRIPTORS
        if sys.platform != "win32":
            import resource

            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            descriptors = _ASSUMED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
        total = max(16, min(256, descriptors // 8))
        return cls(total, total * 3 // 4)


@dataclass(eq=False, slots=True)
class _Connection:
    client: str
    idle_since: float
    transport: asyncio.BaseTransport | None = None
    request: web.Request | None = None
    # Its last answer may be a file, which aiohttp sends after the handler has returned. `_drop_overdue` leaves it to
    # aiohttp's keep-alive timeout, which starts once the file is sent.
    sending: bool = False

    @property
    def closed(self) -> bool:
        return self.transport is not None and self.transport.is_closing()

    @property
    def awaits_reader(self) -> bool:
        """Whether a part of an answer waits for the client to read what was sent before."""
        return isinstance(self.transport, asyncio.Transport) and self.transport.get_write_buffer_size() > 0

    @property
    def idle(self) -> bool:
        """Whether a new connection may take its place."""
        if self.transport is None:
            return False
        return self.request is None or not self.request.content.is_eof() or self.awaits_reader

    def drop(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


class Connections:
    """The connections of one listener."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: dict[asyncio.BaseProtocol, _Connection] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._sweep: asyncio.TimerHandle | None = None  # the next call of `_drop_overdue`
        self._sockets: list[socket.socket] = []
        self._logged_at = -ERROR_LOG_SECONDS

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Note which request each connection answers."""
        connection = self._open.get(request.protocol)
        if connection is None:
            return await handler(request)
        connection.request, connection.sending = request, False
        try:
            answer = await handler(request)
            connection.sending = not isinstance(answer, web.Response)
            return answer
        finally:
            connection.request = None
            connection.idle_since = asyncio.get_running_loop().time()
            self._sweep_later()

    async def start(self, host: str, port: int, make_protocol: Callable[[], asyncio.BaseProtocol]) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the port is taken, or `host` is no address of this machine.
        """
        self._sockets = await _listen(host, port)
        for listening in self._sockets:
            self._tasks.append(asyncio.create_task(self._accept(listening, make_protocol)))
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening; open connections stay. Safe to call twice."""
        tasks, self._tasks = self._tasks, []
        if self._sweep is not None:
            self._sweep.cancel()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for listening in self._sockets:
            listening.close()

    async def _accept(
        self, listening: socket.socket, make_protocol: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                await self._recover(error)
                continue
            client = str(address[0])
            if not self._make_room(client):
                accepted.close()
                continue
            connection = _Connection(client, loop.time())
            self._sweep_later()

            def make(connection: _Connection = connection) -> asyncio.BaseProtocol:
                protocol = make_protocol()
                self._open[protocol] = connection
                return protocol

            try:
                connection.transport, _ = await loop.connect_accepted_socket(make, accepted)
            except OSError:
                accepted.close()
                self._open = {key: value for key, value in self._open.items() if value is not connection}

    def _make_room(self, client: str) -> bool:
        """Drop an idle connection where a limit is reached; False where no connection is idle."""
        self._open = {protocol: found for protocol, found in self._open.items() if not found.closed}
        counts = Counter(found.client for found in self._open.values())
        if counts[client] >= self._limits.per_client:
            candidates = [found for found in self._open.values() if found.client == client]
        elif len(self._open) >= self._limits.total:
            candidates = list(self._open.values())
        else:
            return True
        idle = [found for found in candidates if found.idle]
        if not idle:
            return False
        min(idle, key=lambda found: (-counts[found.client], found.idle_since)).drop()
        return True

    async def _recover(self, error: OSError) -> None:
        """Drop all idle connections after an error of `accept`, log it at most once a minute, and pause."""
        if error.errno in _CLIENT_GONE or getattr(error, "winerror", None) == _NETNAME_DELETED:
            return
        for connection in self._open.values():
            if connection.idle:
                connection.drop()
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= ERROR_LOG_SECONDS:
            self._logged_at = now
            _log.error("No connection can be accepted: %s. Idle ones were closed.", error.strerror or error)
        await asyncio.sleep(ERROR_PAUSE_SECONDS)

    def _sweep_later(self) -> None:
        if self._sweep is None and self._tasks:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._limits.head_seconds, self._drop_overdue)

    def _drop_overdue(self) -> None:
        """Drop each connection that has sent no request for `head_seconds`; run again when the next one is due."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._sweep = None
        waiting = []
        for connection in self._open.values():
            if connection.request is not None or connection.sending:
                continue
            is_young = now - connection.idle_since < self._limits.head_seconds - _TIMER_TOLERANCE_SECONDS
            if is_young or connection.transport is None:  # without one it can't be dropped yet
                waiting.append(connection.idle_since)
            else:
                connection.drop()
        self._open = {protocol: found for protocol, found in self._open.items() if not found.closed}
        if waiting:
            self._sweep = loop.call_at(min(waiting) + self._limits.head_seconds, self._drop_overdue)


async def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen on each address of `host` that this system has. OSError: see `Connections.start`."""
    loop = asyncio.get_running_loop()
    # Python encodes a str as an international name, and loads tables for that, which an address doesn't need.
    name = host.encode() if set(host) <= set("0123456789.") else host
    try:
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, "This is not a host name") from error
    addresses = dict.fromkeys((entry[0], entry[4]) for entry in found)
    if port == 0:  # a port that is free on the first address may be taken on another one: try other ports
        for _ in range(_PORT_ATTEMPTS - 1):
            with contextlib.suppress(OSError):
                return _listen_on_each(addresses, port)
    return _listen_on_each(addresses, port)


def _listen_on_each(addresses: Iterable[tuple[int, Any]], port: int) -> list[socket.socket]:
    """Listen on the same port of each address that this system has."""
    listening: list[socket.socket] = []
    failed = OSError(errno.EADDRNOTAVAIL, "The name has no address")
    try:
        for family, address in addresses:
            chosen_port = listening[0].getsockname()[1] if listening else port
            try:
                listening.append(_listen_on(family, (address[0], chosen_port, *address[2:])))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                failed = error
        if not listening:
            raise failed
    except BaseException:
        for sock in listening:
            sock.close()
        raise
    return listening


def _listen_on(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # Without this option another user's program could bind the same port, and get our connections.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(AttributeError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
