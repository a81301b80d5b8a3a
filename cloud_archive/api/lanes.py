"""Threads for calls that block, a few for each kind of call, so that no kind waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import RequestRefused
from ..executor import DaemonExecutor

T = TypeVar("T")

THREADS: Mapping[str, int] = {
    "status": 8,
    "control": 4,  # start, stop, hand over
    "queue": 2,  # rescan, retry, backfill
    "upload": 16,
    "flush": 16,
    "files": 4,
    "report": 2,
    "jobs": 1,  # what ComfyUI's process passes on
    "catalog": 4,
    "content": 8,
    "share": 2,
    "thumbnail": 8,
    "job": 4,  # answers about one job
}
_WAITING_PER_THREAD = 4


class Lanes:
    """Run blocking calls in threads, which start when they are first needed and never delay the end of the process."""

    def __init__(self, threads: Mapping[str, int] = THREADS) -> None:
        self._threads = threads
        self._executors = {
            lane: DaemonExecutor(count, f"cloud-archive-http-{lane}") for lane, count in threads.items()
        }
        self._calls: dict[str, set[Future[Any]]] = {lane: set() for lane in threads}

    async def run(self, lane: str, call: Callable[[], T], timeout_seconds: float) -> T:
        """Run `call` in a thread of this lane. A call that is cancelled while it waits for a thread never runs.

        Args:
            timeout_seconds: for waiting and running together.

        Raises:
            RequestRefused: 503, too many calls wait already; 504, the time is up.
        """
        calls = self._calls[lane]
        if len(calls) >= self._threads[lane] * (1 + _WAITING_PER_THREAD):
            raise RequestRefused(503, "Too many calls of this kind wait already. Try again in a moment.")
        future = self._executors[lane].submit(call)
        calls.add(future)
        future.add_done_callback(calls.discard)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout_seconds)
        except asyncio.TimeoutError:
            raise RequestRefused(
                504, f"The engine did not finish this call within {timeout_seconds:g} s."
            ) from None

    def close(self) -> None:
        """Cancel the calls that wait for a thread; those that run go on."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
