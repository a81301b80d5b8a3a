"""`GET /cloud-sync/events`: the status object as server-sent events, for every listener of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..errors import RequestRefused
from .routes import ANSWER_HEADERS, STATUS_EVENT, Arguments

HEARTBEAT_SECONDS = 4.0  # a page that has heard nothing for 10 s says that it can't tell
SLOW_CLIENT_SECONDS = 15.0
MAX_STREAMS = 64
MAX_STREAMS_PER_CLIENT = 32

Subscribe = Callable[[Callable[[dict[str, Any]], None]], Callable[[], None]]


class EventStreams:
    """`GET /cloud-sync/events`: the status at connect, at every change and as a heartbeat, as server-sent events.

    A heartbeat is a status made at that moment, so that an engine that hangs has none. The format is
    https://html.spec.whatwg.org/multipage/server-sent-events.html. A client that reads slowly gets the newest status
    and misses those between; one that takes nothing for 15 s is dropped. Where there are too many
    streams a new one ends the oldest of the client that has the most, which may connect again.
    """

    def __init__(
        self,
        subscribe: Subscribe,
        status: Callable[[], Awaitable[dict[str, Any]]],
        heartbeat: Callable[[], Awaitable[dict[str, Any]]],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._subscribe = subscribe
        self._status = status
        self._heartbeat = heartbeat
        self._heartbeat_seconds = heartbeat_seconds
        self._open: dict[_LatestStatus, str] = {}  # and the client of each, the oldest first
        self._closing = False

    async def close(self, _: web.Application) -> None:
        """End every stream: the server stops."""
        self._closing = True
        for latest in self._open:
            latest.close()

    async def events(self, request: web.Request, _: Arguments) -> web.StreamResponse:
        if self._closing:
            raise RequestRefused(503, "The engine stops.")
        client = request.remote or ""
        self._make_room(client)
        latest = _LatestStatus(asyncio.get_running_loop())
        self._open[latest] = client
        unsubscribe = self._subscribe(latest.offer)
        try:
            latest.begin(await self._status())
            response = web.StreamResponse(headers={**ANSWER_HEADERS, "X-Accel-Buffering": "no"})
            response.content_type = "text/event-stream"
            await response.prepare(request)
            with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
                await self._pump(latest, response)
            return response
        finally:
            unsubscribe()
            self._open.pop(latest, None)

    def _make_room(self, client: str) -> None:
        counts = Counter(self._open.values())
        if counts[client] < MAX_STREAMS_PER_CLIENT:
            if len(self._open) < MAX_STREAMS:
                return
            client = counts.most_common(1)[0][0]
        oldest = next(latest for latest, owner in self._open.items() if owner == client)
        del self._open[oldest]
        oldest.close()

    async def _pump(self, latest: _LatestStatus, response: web.StreamResponse) -> None:
        while True:
            status = await latest.next(self._heartbeat_seconds)
            if latest.closed:
                return
            if status is None:
                status = await self._heartbeat()
            text = f"event: {STATUS_EVENT}\ndata: {json.dumps(status)}\n\n"
            await asyncio.wait_for(response.write(text.encode()), SLOW_CLIENT_SECONDS)


class _LatestStatus:
    """A queue of length one between the engine's threads and one event stream: the newest status wins."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed = asyncio.Event()
        self._status: dict[str, Any] | None = None
        self.closed = False

    def offer(self, status: dict[str, Any]) -> None:
        """Hand over a status, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._set, status)

    def begin(self, status: dict[str, Any]) -> None:
        """Send the status at connect, unless a newer one came while it was made."""
        if self._status is None:
            self._set(status)

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    async def next(self, timeout_seconds: float) -> dict[str, Any] | None:
        """Return the newest status not yet taken, or None after `timeout_seconds`."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_seconds)
        self._changed.clear()
        status, self._status = self._status, None
        return status

    def _set(self, status: dict[str, Any]) -> None:
        self._status = status
        self._changed.set()
