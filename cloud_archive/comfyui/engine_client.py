"""Keep an engine running, call it, and receive its events, in ComfyUI's event loop and without blocking it.

An engine that ends or stops answering is started again after 1, 2, 4 … 60 s.

ComfyUI's process loads this: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp

from ..api.routes import EVENTS_PATH, GALLERY_HEADER, HEALTH_PATH, bare_status
from ..errors import EngineUnavailable
from ..handshake import PROOF_HEADER, NotTheEngine, sign_call
from .child_process import engine_command
from .engine_connection import EngineConnection

_log = logging.getLogger("cloud_archive.engine_client")

_MAX_EVENT_BYTES = 4 * 1024 * 1024
# Health checks in a row without an answer:
_SILENT_AFTER_MISSES = 2  # calls fail at once
_HUNG_AFTER_MISSES = 3  # the engine counts as hung
_STARTING = "The engine is starting."
_SILENT = "The engine is not answering right now."


@dataclass(frozen=True, slots=True)
class Timing:
    """Every wait of the client, in seconds.

    Attributes:
        ready: how long a start may take. It doubles after each start that took longer, up to `longest_ready`.
        first_backoff: the pause before the next start. It doubles with each start, up to `longest_backoff`. Also the
            pause before a broken event stream is opened again.
        healthy_after: an engine that ran this long resets the backoff.
        health_interval: the pause between two health checks.
        health_answer: how long the answer to a health check may take.
        deaf: an engine that answers nothing for this long, and misses three health checks, is killed.
        silence: after this long without an event the engine's state is unknown.
        heartbeat: the time between two bare statuses for `on_status` while no engine answers.
        patience: how long a call waits for an engine that is just starting.
    """

    ready: float = 30.0
    longest_ready: float = 240.0
    first_backoff: float = 1.0
    longest_backoff: float = 60.0
    healthy_after: float = 60.0
    health_interval: float = 5.0
    health_answer: float = 5.0
    deaf: float = 30.0
    silence: float = 10.0
    heartbeat: float = 4.0
    patience: float = 10.0


class _Phase(Enum):
    NEW = "new"
    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """The engine's answer."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON. Raises ValueError if it is not JSON."""
        return json.loads(self.body)


class EngineClient:
    """Keep one engine running for a watched directory, and call it.

    Args:
        root: the watched directory.
        state_base: see `Ownership`.
        on_status: called in the loop with the newest status that the engine pushed, and while no engine answers, with a
            bare one (`starting` or `unavailable`): at each new cause and every `Timing.heartbeat`.
        command: the engine's command line; default: `engine_command()`.
        timing: default: `Timing()`.

    Attributes:
        autostart: whether the next engine starts watching; None = as CLOUD_ARCHIVE_AUTOSTART says.
    """

    def __init__(
        self,
        root: Path,
        state_base: Path | None,
        *,
        on_status: Callable[[dict[str, Any]], None],
        command: Sequence[str] | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._root = root
        self._state_base = state_base
        self._started_at = time.time()
        self._command = list(command) if command is not None else engine_command()
        self._timing = timing or Timing()
        self._ready_seconds = self._timing.ready
        self._on_status = on_status
        self.autostart: bool | None = None
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._phase = _Phase.NEW
        self._cause = "The engine has not been started."
        self._changed = asyncio.Event()
        self._connection: EngineConnection | None = None
        self._session: aiohttp.ClientSession | None = None
        self._supervisor: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start an engine and keep it running. Call this in the loop; it returns at once."""
        if self._supervisor is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # never through a proxy
            )
            self._enter(_Phase.STARTING)
            loop = asyncio.get_running_loop()
            self._supervisor = loop.create_task(self._supervise(), name="cloud-archive-engine-supervisor")
            self._heartbeat_task = loop.create_task(
                self._push_heartbeats(), name="cloud-archive-engine-heartbeat"
            )

    def release(self) -> None:
        """Let the engine finish and end by itself, because this process ends. Safe from any thread; returns at once."""
        self._phase, self._cause = _Phase.STOPPED, "The engine was stopped."
        if self._connection is not None:
            self._connection.process.release()
            if self._connection.misses >= _HUNG_AFTER_MISSES:  # it would not notice that it was released
                self._connection.process.kill("The engine did not answer when it was stopped.")

    async def stop(self) -> None:
        """Release the engine, and end this client's tasks in the loop. Safe to call twice."""
        self.release()
        tasks = {task for task in (self._supervisor, self._heartbeat_task) if task is not None}
        self._supervisor = self._heartbeat_task = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def pid(self) -> int | None:
        """The engine's process id; None while no engine process runs."""
        return self._connection.process.pid if self._connection is not None else None

    @property
    def address(self) -> tuple[int, str] | None:
        """The engine's port and token; None while it is not ready. Safe from any thread."""
        connection = self._connection if self._phase is _Phase.UP else None
        return (connection.port, connection.token) if connection is not None else None

    async def status(self) -> dict[str, Any]:
        """Return the engine's status; while no engine is ready, a bare one at once."""
        if self._phase is not _Phase.UP:
            return self.bare_status()
        try:
            answer = await self.call("GET", "/cloud-sync/status", timeout_seconds=10)
            found = answer.json()
        except (EngineUnavailable, ValueError) as error:
            return bare_status("unavailable", str(error))
        if answer.status == 200 and isinstance(found, dict):
            return found
        return bare_status("unavailable", f"The engine answered with status {answer.status}.")

    def bare_status(self) -> dict[str, Any]:
        """Return a status without asking the engine: `starting`, or `unavailable` with the cause."""
        if self._phase is _Phase.STARTING:
            return bare_status("starting")
        return bare_status("unavailable", self._cause or _SILENT)

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float,
    ) -> EngineAnswer:
        """Forward one call, and return the complete answer.

        Raises:
            EngineUnavailable: no engine runs (at once; but while it starts, after `Timing.patience`), or it did not
                answer in time.
        """
        async with self.open(
            method, path, json=json, query=query, timeout=aiohttp.ClientTimeout(total=timeout_seconds)
        ) as response:
            body = await response.read()
            return EngineAnswer(response.status, response.headers.get("Content-Type", ""), body)

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Forward one call whose answer the caller reads piece by piece. Raises like `call`, also while it is read."""
        if self._phase is _Phase.STARTING:
            await self._wait_for_start(min(timeout.total or math.inf, self._timing.patience))
        connection, session = self._connection, self._session
        if self._phase is not _Phase.UP or connection is None or session is None:
            raise EngineUnavailable(_STARTING if self._phase is _Phase.STARTING else self._cause)
        if (connection.misses >= _SILENT_AFTER_MISSES or connection.silent) and path != HEALTH_PATH:
            raise EngineUnavailable(_SILENT)
        signed = sign_call(connection.token, method, path)
        try:
            async with session.request(
                method,
                f"http://127.0.0.1:{connection.port}{path}",
                json=json,
                params=query,
                headers={GALLERY_HEADER: "1", **signed.headers, **(headers or {})},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                signed.check_answer(response.headers.get(PROOF_HEADER))
                yield response
        except asyncio.TimeoutError as error:
            seconds = timeout.total or timeout.sock_read or 0
            raise EngineUnavailable(f"The engine did not answer within {seconds:g} s.") from error
        except NotTheEngine as error:
            raise EngineUnavailable("Another program answers on the engine's port.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable("The engine closed the connection.") from error

    async def _wait_for_start(self, timeout_seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_seconds)

    def _enter(self, phase: _Phase, cause: str = "") -> None:
        if self._phase is _Phase.STOPPED:
            return
        is_new_cause = cause != self._cause
        self._phase, self._cause = phase, cause
        if phase is _Phase.STARTING:
            self._changed.clear()
        else:
            self._changed.set()
        if phase is _Phase.DOWN and is_new_cause:
            self._push(self.bare_status())

    def _push(self, status: dict[str, Any]) -> None:
        if self._phase is _Phase.STOPPED:
            return
        try:
            self._on_status(status)
        except Exception:
            _log.exception("A status could not be passed on")

    async def _supervise(self) -> None:
        timing = self._timing
        backoff = timing.first_backoff
        while True:
            began = asyncio.get_running_loop().time()
            cause = await self._run_engine()
            if asyncio.get_running_loop().time() - began >= timing.healthy_after:
                backoff = timing.first_backoff
            self._enter(_Phase.DOWN, cause)
            _log.debug("%s Started again in %g s.", cause, backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, timing.longest_backoff)

    async def _run_engine(self) -> str:
        """Start an engine, follow it to its end, and return the cause of the end."""
        connection = EngineConnection(
            self._command, self._root, self._state_base, self.autostart, self._started_at
        )
        self._connection = connection
        try:
            await connection.start(self._ready_seconds)
            if not connection.port and not connection.ended.done():
                # The engine has a low priority: while other work takes every core, a start may last minutes.
                self._ready_seconds = min(self._ready_seconds * 2, self._timing.longest_ready)
            if connection.port:
                self._enter(_Phase.UP)
                await self._supervise_engine(connection)
            return await asyncio.shield(connection.ended)
        finally:
            if self._connection is connection and self._phase is not _Phase.STOPPED:
                self._connection = None
            connection.process.release()

    async def _supervise_engine(self, connection: EngineConnection) -> None:
        tasks = [
            asyncio.ensure_future(self._listen(connection)),
            asyncio.ensure_future(self._probe(connection)),
        ]
        ends: list[asyncio.Future[Any]] = [*tasks, connection.ended]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and task.exception() is not None:
                    _log.error("The supervision of the engine failed", exc_info=task.exception())
                    connection.process.kill(f"The supervision of the engine failed: {task.exception()}.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _probe(self, connection: EngineConnection) -> None:
        """Check the engine's health while no events come, and kill an engine that answers nothing for too long."""
        timing, loop = self._timing, asyncio.get_running_loop()
        connection.heard_at = loop.time()
        while True:
            await asyncio.sleep(timing.health_interval)
            asked = loop.time()
            if asked - connection.heard_at < timing.health_interval:
                connection.misses = 0
                continue
            try:
                await self.call("GET", HEALTH_PATH, timeout_seconds=timing.health_answer)
                connection.heard_at, connection.misses = loop.time(), 0
            except EngineUnavailable:
                connection.misses += 1
                # Not the time alone: it also passes while the machine sleeps.
                if connection.misses >= _HUNG_AFTER_MISSES and asked - connection.heard_at >= timing.deaf:
                    silence = f"{loop.time() - connection.heard_at:.0f}"
                    connection.process.kill(f"The engine did not answer for {silence} s and was ended.")
                    return

    async def _listen(self, connection: EngineConnection) -> None:
        """Read the engine's event stream until the engine ends, connecting again where it breaks."""
        while True:
            try:
                async for event in self._events(connection):
                    if isinstance(event, dict):
                        connection.silent, connection.heard_at = False, asyncio.get_running_loop().time()
                        self._push(event)
            except asyncio.TimeoutError:
                connection.silent = True
                self._push(bare_status("unavailable", _SILENT))
                continue
            except (aiohttp.ClientError, OSError, ValueError) as error:
                _log.debug("The event stream broke: %s", error)
            await asyncio.sleep(self._timing.first_backoff)

    async def _push_heartbeats(self) -> None:
        """Push a bare status every `heartbeat` seconds while the engine pushes none, because it is down or hangs."""
        while True:
            await asyncio.sleep(self._timing.heartbeat)
            connection = self._connection
            if self._phase is _Phase.UP and connection is not None and not connection.silent:
                continue
            self._push(self.bare_status())

    async def _events(self, connection: EngineConnection) -> AsyncIterator[Any]:
        assert self._session is not None
        silence = self._timing.silence
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        url = f"http://127.0.0.1:{connection.port}{EVENTS_PATH}"
        signed = sign_call(connection.token, "GET", EVENTS_PATH)
        async with self._session.get(url, headers=signed.headers, timeout=timeout) as response:
            signed.check_answer(response.headers.get(PROOF_HEADER))
            response.raise_for_status()
            buffer = b""
            async for piece in response.content.iter_any():
                *events, buffer = (buffer + piece).split(b"\n\n")
                if len(buffer) > _MAX_EVENT_BYTES:
                    raise ValueError("an event is too long")
                # Events that came while this loop was busy arrive together; only the newest matters.
                for line in events[-1].split(b"\n") if events else ():
                    if line.startswith(b"data:"):
                        yield json.loads(line[5:])
