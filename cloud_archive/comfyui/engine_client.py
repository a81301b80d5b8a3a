"""Keep an engine running, call it, and receive its events.

Everything here runs in ComfyUI's event loop and never blocks it: the thread of an `EngineProcess` starts and reaps
the process, and asyncio does everything else. An engine that ends, or that stops answering, is started
again after 1, 2, 4 … 60 s. While there is none, calls are answered at once with the cause.

This module is loaded into ComfyUI's process: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
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
_SILENT_AFTER_MISSES = 2  # health checks without an answer, after which calls fail at once
_HUNG_AFTER_MISSES = 3
_STARTING = "The engine is starting."
_SILENT = "The engine is not answering right now."


@dataclass(frozen=True, slots=True)
class Timing:
    """Every wait of the client, in seconds; tests shorten them."""

    ready: float = (
        30.0  # from the start to the engine's first answer; twice as long after each that was too slow
    )
    longest_ready: float = 240.0
    first_backoff: float = 1.0
    longest_backoff: float = 60.0
    healthy_after: float = 60.0  # a life as long as this ends the backoff
    health_interval: float = 5.0
    health_answer: float = 5.0
    deaf: float = 30.0  # without any answer for this long it is killed
    silence: float = 10.0  # after this long without an event the engine's state is unknown
    heartbeat: float = 4.0  # between two pushes at the most
    patience: float = 10.0  # how long a call waits for an engine that is just starting


class _Phase(Enum):
    NEW = "new"
    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """What the engine answered, as it came."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON. Raises ValueError if it is not JSON."""
        return json.loads(self.body)


class EngineClient:
    """Keeps one engine running for a watched directory, and talks to it.

    Args:
        root: the watched directory.
        state_base: the directory for ledgers, or None for the platform's.
        on_status: called in the loop with each status that the engine pushes (at most 4 a second), and with one
            that says that the engine is starting or unavailable. It is called at least every `heartbeat` seconds.
        command: the engine's command line; by default this interpreter and this package.
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
        self._command = list(command) if command is not None else engine_command()
        self._timing = timing or Timing()
        self._ready_seconds = self._timing.ready
        self._on_status = on_status
        self._beats: asyncio.Task[None] | None = None
        self._phase = _Phase.NEW
        self._cause = "The engine has not been started."
        self._changed = asyncio.Event()
        self._life: EngineConnection | None = None
        self._session: aiohttp.ClientSession | None = None
        self._supervisor: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start keeping an engine. Call it in the running loop; returns at once."""
        if self._supervisor is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # never through a proxy
            )
            self._enter(_Phase.STARTING)
            loop = asyncio.get_running_loop()
            self._supervisor = loop.create_task(self._supervise(), name="cloud-archive-engine-supervisor")
            self._beats = loop.create_task(self._beat(), name="cloud-archive-engine-heartbeat")

    def release(self) -> None:
        """Let the engine finish by itself, from any thread, without waiting: this process ends."""
        self._phase, self._cause = _Phase.STOPPED, "The engine was stopped."
        if self._life is not None:
            self._life.process.release()
            if self._life.misses >= _HUNG_AFTER_MISSES:  # it would not notice, and never end
                self._life.process.kill("The engine did not answer when it was stopped.")

    async def stop(self) -> None:
        """Release the engine, and end everything that this client runs in the loop. Safe to call twice."""
        self.release()
        tasks = {task for task in (self._supervisor, self._beats) if task is not None}
        self._supervisor = self._beats = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def pid(self) -> int | None:
        """The engine's process id while it is up."""
        return self._life.process.pid if self._life is not None else None

    @property
    def address(self) -> tuple[int, str] | None:
        """The engine's port and token, None while it isn't up; may be read in any thread."""
        life = self._life if self._phase is _Phase.UP else None
        return (life.port, life.token) if life is not None else None

    async def status(self) -> dict[str, Any]:
        """Return the engine's status; without an engine, at once `starting` or `unavailable` with the cause."""
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
        """Return the status without asking the engine."""
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
        """Forward one call.

        Raises:
            EngineUnavailable: there is no engine (at once, unless its first start is under way: then after
                10 s at most), or it did not answer in time.
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
        """Forward one call whose answer is read piece by piece. Raises as `call` does, also while it is read."""
        if self._phase is _Phase.STARTING:
            await self._wait_for_start(min(timeout.total or math.inf, self._timing.patience))
        life, session = self._life, self._session
        if self._phase is not _Phase.UP or life is None or session is None:
            raise EngineUnavailable(_STARTING if self._phase is _Phase.STARTING else self._cause)
        if (life.misses >= _SILENT_AFTER_MISSES or life.silent) and path != HEALTH_PATH:
            raise EngineUnavailable(_SILENT)
        signed = sign_call(life.token, method, path)
        try:
            async with session.request(
                method,
                f"http://127.0.0.1:{life.port}{path}",
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
        news = cause != self._cause
        self._phase, self._cause = phase, cause
        if phase is _Phase.STARTING:
            self._changed.clear()
        else:
            self._changed.set()
        if phase is _Phase.DOWN and news:
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
            cause = await self._live_once()
            if asyncio.get_running_loop().time() - began >= timing.healthy_after:
                backoff = timing.first_backoff
            self._enter(_Phase.DOWN, cause)
            _log.debug("%s Started again in %g s.", cause, backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, timing.longest_backoff)

    async def _live_once(self) -> str:
        """Start an engine and stay with it to its end; returns the cause of that."""
        life = EngineConnection(self._command, self._root, self._state_base)
        self._life = life
        try:
            await life.started(self._ready_seconds)
            if not life.port and not life.ended.done():
                # Beside work that takes every core a start may last minutes, as the engine has a low priority. The
                # next one would be as slow, so it gets more time.
                self._ready_seconds = min(self._ready_seconds * 2, self._timing.longest_ready)
            if life.port:
                self._enter(_Phase.UP)
                await self._watch_over(life)
            return await asyncio.shield(life.ended)
        finally:
            if self._life is life and self._phase is not _Phase.STOPPED:
                self._life = None
            life.process.release()

    async def _watch_over(self, life: EngineConnection) -> None:
        tasks = [
            asyncio.ensure_future(self._listen(life)),
            asyncio.ensure_future(self._probe(life)),
        ]
        signs: list[asyncio.Future[Any]] = [*tasks, life.ended]
        try:
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and task.exception() is not None:
                    _log.error("The engine's watch failed", exc_info=task.exception())
                    life.process.kill(f"The engine's watch failed: {task.exception()}.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _probe(self, life: EngineConnection) -> None:
        """Ask for health while no events come; an engine that is silent for long is ended, and so started again."""
        timing, loop = self._timing, asyncio.get_running_loop()
        life.heard_at = loop.time()
        while True:
            await asyncio.sleep(timing.health_interval)
            asked = loop.time()
            if asked - life.heard_at < timing.health_interval:
                life.misses = 0
                continue
            try:
                await self.call("GET", HEALTH_PATH, timeout_seconds=timing.health_answer)
                life.heard_at, life.misses = loop.time(), 0
            except EngineUnavailable:
                life.misses += 1
                # Three misses as well: after the machine slept, the time alone would blame the engine.
                if life.misses >= _HUNG_AFTER_MISSES and asked - life.heard_at >= timing.deaf:
                    silence = f"{loop.time() - life.heard_at:.0f}"
                    life.process.kill(f"The engine did not answer for {silence} s and was ended.")
                    return

    async def _listen(self, life: EngineConnection) -> None:
        """Read the engine's event stream, for as long as it lives; each connect begins with a fresh status."""
        while True:
            try:
                async for event in self._events(life):
                    if isinstance(event, dict):
                        life.silent, life.heard_at = False, asyncio.get_running_loop().time()
                        self._push(event)
            except asyncio.TimeoutError:
                life.silent = True
                self._push(bare_status("unavailable", _SILENT))
                continue
            except (aiohttp.ClientError, OSError, ValueError) as error:
                _log.debug("The event stream broke: %s", error)
            await asyncio.sleep(self._timing.first_backoff)

    async def _beat(self) -> None:
        """Push something at least every `heartbeat` seconds, so that a listener that hears nothing can't tell.

        While the engine is up its own events are the heartbeat; this covers an engine that is down or hangs.
        """
        while True:
            await asyncio.sleep(self._timing.heartbeat)
            life = self._life
            if self._phase is _Phase.UP and life is not None and not life.silent:
                continue
            self._push(self.bare_status())

    async def _events(self, life: EngineConnection) -> AsyncIterator[Any]:
        assert self._session is not None
        silence = self._timing.silence
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        url = f"http://127.0.0.1:{life.port}{EVENTS_PATH}"
        signed = sign_call(life.token, "GET", EVENTS_PATH)
        async with self._session.get(url, headers=signed.headers, timeout=timeout) as response:
            signed.check_answer(response.headers.get(PROOF_HEADER))
            response.raise_for_status()
            buffer = b""
            async for piece in response.content.iter_any():
                *events, buffer = (buffer + piece).split(b"\n\n")
                if len(buffer) > _MAX_EVENT_BYTES:
                    raise ValueError("an event is too long")
                # Events that came while this loop was busy arrive together: only the newest is of use.
                for line in events[-1].split(b"\n") if events else ():
                    if line.startswith(b"data:"):
                        yield json.loads(line[5:])
