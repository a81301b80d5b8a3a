"""One engine process in the client's event loop. ComfyUI's process loads this: standard library only."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .child_process import EngineProcess

ORPHAN_SECONDS = 600.0  # how long an engine continues to upload after this process has ended


class EngineConnection:
    """One engine process. Create it in the running loop.

    Args:
        command: the engine's command line.
        root: the watched directory.
        state_base: see `Ownership`.
        autostart: whether the engine starts watching; None = as CLOUD_ARCHIVE_AUTOSTART says.
        started_at: when ComfyUI started, in seconds since 1970; None = not known.

    Attributes:
        port: where the engine listens; 0 until it is ready.
        token: what calls are signed with.
        misses: health checks in a row without an answer.
        heard_at: when it last answered or sent an event, in the loop's time.
        silent: whether no event has come for `Timing.silence`.
        ended: done when the process has ended; its result is the cause, a sentence.
    """

    def __init__(
        self,
        command: Sequence[str],
        root: Path,
        state_base: Path | None,
        autostart: bool | None = None,
        started_at: float | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[int] = self._loop.create_future()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.port = 0
        self.misses = 0
        self.heard_at = self._loop.time()
        self.silent = False
        self.token = secrets.token_urlsafe(32)
        orders = {
            "token": self.token,
            "root": str(root),
            "state_base": str(state_base) if state_base is not None else None,
            "orphan_seconds": ORPHAN_SECONDS,
            "autostart": autostart,
            "started_at": started_at,
        }
        self.process = EngineProcess(command, orders, on_ready=self._report_ready, on_end=self._report_end)

    async def start(self, timeout_seconds: float) -> None:
        """Start the process, and wait until it is ready. `port` stays 0 if it ended or was killed as too slow."""
        try:
            self.process.start()
        except RuntimeError as error:  # no more threads
            self._set(self.ended, f"The engine can't be started: {error}.")
        outcomes: list[asyncio.Future[Any]] = [self._ready, self.ended]
        await asyncio.wait(outcomes, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            self.port = self._ready.result()
        elif not self.ended.done():
            self.process.kill(f"The engine did not answer within {timeout_seconds:g} s of its start.")

    def _report_ready(self, answer: Mapping[str, Any]) -> None:
        self._report(self._ready, int(answer["port"]))

    def _report_end(self, cause: str) -> None:
        self._report(self.ended, cause)

    def _report(self, future: asyncio.Future[Any], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._set, future, value)

    @staticmethod
    def _set(future: asyncio.Future[Any], value: object) -> None:
        if not future.done():
            future.set_result(value)
