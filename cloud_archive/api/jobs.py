"""Answer `GET /cloud-sync/jobs/{prompt_id}`. A call that waits holds no thread: a change of the job wakes it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..errors import RequestRefused
from ..jobs.answers import is_final
from .gallery import scope_of
from .lanes import Lanes
from .routes import ROUTE_SECONDS, Arguments

if TYPE_CHECKING:
    from ..archive.engine import Engine

# How long a call waits for a job that is not known yet: it may have been queued just now.
UNKNOWN_SECONDS = 3.0
MAX_WAITING = 100  # calls that wait; each holds a connection
_MAX_RUNNING = 16  # calls that run in a thread or wait for one
_PAUSE_SECONDS = 0.1  # between two answers of one call: a job of many files changes often


class JobHandlers:
    """Answer the route `job`; the method has the route's name."""

    def __init__(self, engine: Engine, lanes: Lanes, *, public: bool) -> None:
        self._engine = engine
        self._lanes = lanes
        self._public = public
        self._turns = asyncio.Semaphore(_MAX_RUNNING)
        self._waiting = 0

    async def job(self, request: web.Request, arguments: Arguments) -> web.Response:
        waits = arguments["wait"] > 0
        if waits and self._waiting >= MAX_WAITING:
            raise RequestRefused(503, "Too many calls wait for jobs already. Ask again without wait.")
        deadline = time.monotonic() + arguments["wait"]
        unknown_until = min(deadline, time.monotonic() + UNKNOWN_SECONDS)
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(changed.set)

        ended = threading.Event()
        unsubscribe: list[Callable[[], None]] = []

        def subscribe() -> None:
            unsubscribe.append(self._engine.watch_job(arguments["prompt_id"], wake))
            if ended.is_set():  # the call was cancelled meanwhile
                unsubscribe[0]()

        def job(*, urls: bool) -> dict[str, Any]:
            scope = scope_of(request, self._engine.catalog(), public=self._public)
            return self._engine.job(arguments["prompt_id"], urls=urls, only_machine=scope.only_machine)

        self._waiting += waits
        try:
            await self._run(subscribe)
            while True:
                changed.clear()
                answer = await self._run(partial(job, urls=False))
                until = unknown_until if answer["state"] == "unknown" else deadline
                if is_final(answer) or time.monotonic() >= until:
                    break
                if await _wait_for_change(changed, until):
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._waiting -= waits
            ended.set()
            for end in unsubscribe:
                end()
        if arguments["urls"]:
            answer = await self._run(partial(job, urls=True))
        return web.json_response(answer)

    async def _run(self, call: Any) -> Any:
        async with self._turns:
            return await self._lanes.run("job", call, ROUTE_SECONDS["job"])


async def _wait_for_change(changed: asyncio.Event, deadline: float) -> bool:
    """Wait for a change. Return False if none comes before `deadline` (monotonic seconds)."""
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    try:
        await asyncio.wait_for(changed.wait(), left)
    except asyncio.TimeoutError:
        return False
    return True
