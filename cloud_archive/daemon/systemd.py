"""Telling systemd that the daemon is ready, alive and stopping; does nothing where systemd did not start it.

The protocol is one datagram to the socket in NOTIFY_SOCKET:
https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from ..archive.status import State, Status
from ..errors import CloudArchiveError

logger = logging.getLogger("cloud_archive.sd_notify")

LOOK_SECONDS = 0.2  # between two looks whether the engine has started


class _Engine(Protocol):
    def status(self, look: bool = True) -> Status: ...


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send one message, such as `READY=1`. False where nobody asked for any, or it did not arrive."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(1.0)
            channel.sendto(message.encode(), address)
    except OSError as error:
        logger.warning("systemd could not be told %s: %s", message.partition("\n")[0], error)
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often systemd wants to hear from this process (WatchdogSec); None: it does not."""
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        mine = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
    except ValueError:
        return None
    return microseconds / 1e6 if mine and microseconds > 0 else None


@contextlib.asynccontextmanager
async def supervised(engine: _Engine, environ: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Tell systemd while the block runs: ready once the engine has started, and then alive as often as it asks.

    Alive means that the engine gives its status, which needs its ledger and its locks; a daemon that only looks
    alive is started again.
    """
    if not environ.get("NOTIFY_SOCKET"):
        yield
        return
    task = asyncio.ensure_future(_tell(engine, environ))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _tell(engine: _Engine, environ: Mapping[str, str]) -> None:
    while not _has_started(await _status(engine)):  # noqa: ASYNC110 - the engine lives on other threads
        await asyncio.sleep(LOOK_SECONDS)
    notify("READY=1", environ)
    seconds = watchdog_seconds(environ)
    while seconds is not None:
        if await _status(engine) is not None:
            notify("WATCHDOG=1", environ)
        await asyncio.sleep(seconds / 2)  # as the manual page advises


async def _status(engine: _Engine) -> Status | None:
    try:
        return await asyncio.to_thread(engine.status, look=False)
    except CloudArchiveError as error:
        logger.warning("%s", error)
        return None


def _has_started(status: Status | None) -> bool:
    return status is not None and (status.running or status.state is not State.STARTING)
