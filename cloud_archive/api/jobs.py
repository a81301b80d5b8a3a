"""The engine's answers about jobs. A call that waits holds no thread: an event of the job wakes it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..errors import RequestRefused
from ..jobs.answers import is_final
from .lanes import Lanes
from .routes import ROUTES, Arguments

if TYPE_CHECKING:
    from ..archive.engine import Engine

_SECONDS = {route.name: route.timeout_seconds for route in ROUTES}
UNKNOWN_SECONDS = 3.0  # how long a call that waits gives ComfyUI to announce a job that was just queued
MAX_WAITING = 100  # calls; each holds a connection
_AT_ONCE = 16  # answers that are computed or wait for a thread; the others wait without one
_BETWEEN_LOOKS_SECONDS = 0.1  # a job of many files changes often


class JobHandlers:
    """One method for each route of jobs, named like it."""

    def __init__(self, engine: Engine, lanes: Lanes) -> None:
        self._engine = engine
        self._lanes = lanes
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def job(self, _: web.Request, asked: Arguments) -> web.Response:
        if asked["wait"] and self._waiting >= MAX_WAITING:
            raise RequestRefused(503, "Too many calls wait for jobs already. Ask again without wait.")
        deadline = time.monotonic() + asked["wait"]
        unknown_until = min(deadline, time.monotonic() + UNKNOWN_SECONDS)
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(changed.set)

        end = await self._run(partial(self._engine.watch_job, asked["prompt_id"], wake))
        self._waiting += 1
        try:
            while True:
                changed.clear()
                answer = await self._run(partial(self._engine.job, asked["prompt_id"]))
                until = unknown_until if answer["state"] == "unknown" else deadline
                if is_final(answer) or not await _changes(changed, until):
                    break
                await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
        finally:
            self._waiting -= 1
            end()
        if asked["urls"]:
            answer = await self._run(partial(self._engine.job, asked["prompt_id"], urls=True))
        return web.json_response(answer)

    async def _run(self, call: Any) -> Any:
        async with self._turns:
            return await self._lanes.run("job", call, _SECONDS["job"])


async def _changes(changed: asyncio.Event, until: float) -> bool:
    """Wait for a change; False where the time is up."""
    left = until - time.monotonic()
    if left <= 0:
        return False
    try:
        await asyncio.wait_for(changed.wait(), left)
    except asyncio.TimeoutError:
        return False
    return True
