"""Stop aiohttp servers whose clients still call."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web


async def stop_accepting(runner: web.AppRunner) -> None:
    """Accept no more connections, and let the server attach those that it has accepted.

    Up to Python 3.11 a connection that is accepted in the same turn of the loop in which the listening socket closes
    is never closed (the server refuses to attach it), and is found as a leak during some later test.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows has no readers to remove
        for site in runner.sites:
            server = getattr(site, "_server", None)
            for listening in server.sockets if isinstance(server, asyncio.Server) else ():
                loop.remove_reader(listening.fileno())
        for _ in range(5):
            await asyncio.sleep(0)
