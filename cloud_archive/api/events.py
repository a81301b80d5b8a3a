"""Answer `GET /cloud-sync/events`: the status object as server-sent events.

The format is https://html.spec.whatwg.org/multipage/server-sent-events.html.

Loaded into ComfyUI's process: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ..errors import CloudArchiveError, RequestRefused
from .routes import ANSWER_HEADERS, STATUS_EVENT, Arguments

HEARTBEAT_SECONDS = 4.0  # a page that gets nothing for 10 s says that the state is unknown
REBUILD_SECONDS = 60.0  # a heartbeat repeats no status that is older than this
SLOW_CLIENT_SECONDS = 15.0  # a client that takes nothing for this long is dropped
MAX_STREAMS = 64
MAX_STREAMS_PER_CLIENT = 32

Subscribe = Callable[[Callable[[dict[str, Any]], None]], Callable[[], None]]


class EventStreams:
    """Send each client the status when it connects, at every change, and as a heartbeat.

    A heartbeat is a new status. But while `still_safe` holds after a status that was idle and safe to stop, the
    heartbeat repeats that status for up to `REBUILD_SECONDS`, which reads neither ledger nor directory.

    A client that reads slowly gets the newest status and misses those between. A client that has too many streams loses
    its oldest one when it opens another. If all clients together have too many, the client that has the most loses its
    oldest one. A client is an IP address, so programs on one machine or behind one proxy share the limit.

    Args:
        subscribe: registers a callback for each changed status, and returns a function that ends this. The callback may
            be called in any thread.
        status: makes the status for a new stream.
        heartbeat: makes the status for a heartbeat.
        still_safe: returns whether nothing has happened since the last status that was safe to stop; must not block.
        heartbeat_seconds: how long a stream may be without an event.
    """

    def __init__(
        self,
        subscribe: Subscribe,
        status: Callable[[], Awaitable[dict[str, Any]]],
        heartbeat: Callable[[], Awaitable[dict[str, Any]]],
        *,
        still_safe: Callable[[], bool],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._subscribe = subscribe
        self._status = status
        self._heartbeat = heartbeat
        self._still_safe = still_safe
        self._heartbeat_seconds = heartbeat_seconds
        self._open: dict[_Stream, str] = {}  # stream to its client, the oldest first
        self._newest: _Event | None = None
        self._unsubscribe: Callable[[], None] | None = None  # set while a stream is open
        self._closing = False

    async def close(self, _: web.Application) -> None:
        """End every stream, because the server stops."""
        self._closing = True
        for stream in self._open:
            stream.close()

    async def events(self, request: web.Request, _: Arguments) -> web.StreamResponse:
        if self._closing:
            raise RequestRefused(503, "The engine is stopping.")
        client = request.remote or ""
        self._make_room(client)
        stream = _Stream()
        self._open[stream] = client
        self._subscribe_once()
        try:
            stream.begin(await self._make_event(self._status))
            response = web.StreamResponse(headers={**ANSWER_HEADERS, "X-Accel-Buffering": "no"})
            response.content_type = "text/event-stream"
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
                await self._pump(stream, response)
            return response
        finally:
            self._open.pop(stream, None)
            if not self._open and self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None

    def _subscribe_once(self) -> None:
        """Subscribe once for all streams, so that each pushed status is encoded once."""
        if self._unsubscribe is not None:
            return
        loop = asyncio.get_running_loop()

        def push(status: dict[str, Any]) -> None:  # called in any thread
            event = _Event.of(status)
            with contextlib.suppress(RuntimeError):  # the loop is closed: there are no listeners
                loop.call_soon_threadsafe(self._offer, event)

        self._unsubscribe = self._subscribe(push)

    def _offer(self, event: _Event) -> None:
        self._newest = event
        for stream in self._open:
            stream.offer(event)

    def _make_room(self, client: str) -> None:
        counts = Counter(self._open.values())
        if counts[client] < MAX_STREAMS_PER_CLIENT:
            if len(self._open) < MAX_STREAMS:
                return
            client = counts.most_common(1)[0][0]
        oldest = next(stream for stream, owner in self._open.items() if owner == client)
        del self._open[oldest]
        oldest.close()

    async def _pump(self, stream: _Stream, response: web.StreamResponse) -> None:
        while True:
            event = await stream.next(self._heartbeat_seconds)
            if stream.closed:
                return
            if event is None:
                try:
                    event = await self._heartbeat_event()
                except CloudArchiveError:  # such as a scan that takes too long
                    continue
            await asyncio.wait_for(response.write(event.text), SLOW_CLIENT_SECONDS)

    async def _heartbeat_event(self) -> _Event:
        newest = self._newest
        if newest is None or not newest.at_rest or not self._still_safe():
            return await self._make_event(self._heartbeat)
        is_old = time.monotonic() - newest.made_at >= REBUILD_SECONDS
        return await self._make_event(self._heartbeat) if is_old else newest

    async def _make_event(self, status: Callable[[], Awaitable[dict[str, Any]]]) -> _Event:
        before = self._newest
        event = _Event.of(await status())
        if self._newest is before:  # otherwise another was pushed, or made for another stream, meanwhile
            self._newest = event
        return event


@dataclass(frozen=True, slots=True)
class _Event:
    """A status, encoded as the streams send it.

    Attributes:
        at_rest: the status is idle and safe to stop, which stays true until something happens.
        made_at: monotonic seconds.
    """

    text: bytes
    at_rest: bool
    made_at: float

    @classmethod
    def of(cls, status: dict[str, Any]) -> _Event:
        text = f"event: {STATUS_EVENT}\ndata: {json.dumps(status)}\n\n".encode()
        at_rest = status.get("state") == "idle" and status.get("safe_to_stop") is True
        return cls(text, at_rest, time.monotonic())


class _Stream:
    """The newest event that one client has not taken yet. Used in the event loop only."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._event: _Event | None = None
        self.closed = False

    def offer(self, event: _Event) -> None:
        self._event = event
        self._changed.set()

    def begin(self, event: _Event) -> None:
        """Offer the first event, unless a newer one was offered while it was made."""
        if self._event is None:
            self.offer(event)

    def close(self) -> None:
        """Let `next` return at once."""
        self.closed = True
        self._changed.set()

    async def next(self, timeout_seconds: float) -> _Event | None:
        """Return the newest event not yet taken, or None after `timeout_seconds`."""
        # One timer; `asyncio.wait_for` would make a task each time.
        timer = asyncio.get_running_loop().call_later(timeout_seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
        self._changed.clear()
        event, self._event = self._event, None
        return event
