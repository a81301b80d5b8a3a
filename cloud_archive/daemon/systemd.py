"""Notify systemd that the daemon is ready, alive or stopping.

The protocol: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
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

START_POLL_SECONDS = 0.2  # between two checks whether the engine has started


class _Engine(Protocol):
    def status(self, scan: bool = True) -> Status: ...


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send a message such as `READY=1`, which may take a second. Return False if it was not sent."""
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
        logger.warning("The message %s could not be sent to systemd: %s", message.partition("\n")[0], error)
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return within how many seconds systemd expects each message (WatchdogSec); None if it expects none."""
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        mine = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
    except ValueError:
        return None
    return microseconds / 1e6 if mine and microseconds > 0 else None


@contextlib.asynccontextmanager
async def notify_systemd(engine: _Engine, environ: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Notify systemd while the block runs: ready once the engine has started, then alive twice in each WatchdogSec.

    The engine counts as alive if it returns its status. That needs its ledger and locks, so systemd restarts a daemon
    that hangs.
    """
    if not environ.get("NOTIFY_SOCKET"):
        yield
        return
    task = asyncio.ensure_future(_notify_while_alive(engine, environ))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _notify_while_alive(engine: _Engine, environ: Mapping[str, str]) -> None:
    while not _has_started(await _status(engine)):  # noqa: ASYNC110 - the engine runs in other threads
        await asyncio.sleep(START_POLL_SECONDS)
    notify("READY=1", environ)
    seconds = watchdog_seconds(environ)
    while seconds is not None:
        if await _status(engine) is not None:
            notify("WATCHDOG=1", environ)
        await asyncio.sleep(seconds / 2)  # as the manual page advises


async def _status(engine: _Engine) -> Status | None:
    try:
        return await asyncio.to_thread(engine.status, scan=False)
    except CloudArchiveError as error:
        logger.warning("%s", error)
        return None


def _has_started(status: Status | None) -> bool:
    return status is not None and (status.running or status.state is not State.STARTING)
