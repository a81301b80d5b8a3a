"""Wait for a condition with a deadline, in asynchronous tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psutil


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return once `condition()` is true. Raises AssertionError after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def engines() -> list[psutil.Process]:
    """Return the engines among this process's children, and all zombies.

    The S3 servers are children too, and live as long as the session.
    """
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() == psutil.STATUS_ZOMBIE or "engine" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found
