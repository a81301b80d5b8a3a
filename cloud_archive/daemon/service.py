"""The engine as a process: its listeners, its signals, its log, and how it ends.

Two ways in. `run_engine_process` is ComfyUI's child: it gets its orders on standard input, says on standard output
where it listens, and when its parent is gone it finishes what is pending within a bounded time. `run_daemon` is
`cloud-archive watch`: the same engine in the foreground, with a dashboard if it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import logging
import logging.handlers
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..api.server import build_application, serve
from ..archive.engine import Engine
from ..config.settings import load_settings
from ..errors import CloudArchiveError, SettingsError
from ..redaction import secret_values
from ..state import LOG_NAME, STANDBY_LOG_NAME, EngineInfo, remove_engine_info, write_engine_info
from .logs import PrivateFileHandler, log_to_file, point_at_nothing
from .process import allow_open_files, give_freed_memory_back, handling_signals, lower_priority
from .systemd import notify, supervised

logger = logging.getLogger("cloud_archive.service")

GRACE_SECONDS = 30.0
ORPHAN_SECONDS = (
    600.0  # how long an engine without a parent goes on with what is pending, unless its orders say
)
PARENT_CHECK_SECONDS = 2.0
_NAMED = 20  # of the files that remain, in the log


@dataclass(frozen=True, slots=True)
class Orders:
    """What a parent tells its engine, as one JSON line on standard input.

    Attributes:
        orphan_seconds: how long the engine goes on with what is pending once its parent is gone.
    """

    token: str = field(repr=False)
    root: str
    state_base: str | None
    orphan_seconds: float = ORPHAN_SECONDS

    @classmethod
    def parse(cls, line: str) -> Orders:
        """Raises ValueError where the line is no orders."""
        found: dict[str, Any] = json.loads(line)
        try:
            return cls(
                token=str(found["token"]),
                root=str(found["root"]),
                state_base=found.get("state_base"),
                orphan_seconds=float(found.get("orphan_seconds", ORPHAN_SECONDS)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"orders without {error}") from None


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """Where the dashboard is served.

    Attributes:
        token: what every call must carry; None = none is asked for.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)


class Service:
    """One engine with its listeners, until something ends it.

    Args:
        engine: prepared or not; it is started here.
        token: for the private listener.
        public: where to serve the dashboard, or None.
        grace_seconds: for uploads under way at the end.
        orphan_seconds: the same, where the end is that of the parent.
        autostart: None = as the settings say.
        on_ending: called once the end begins, before what is under way is waited for.
        log: the process's log in the state directory.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        token: str,
        public: PublicAddress | None = None,
        grace_seconds: float = GRACE_SECONDS,
        orphan_seconds: float = ORPHAN_SECONDS,
        autostart: bool | None = None,
        on_ending: Callable[[], None] = lambda: None,
        log: PrivateFileHandler | None = None,
    ) -> None:
        self._engine = engine
        self._orphan_seconds = orphan_seconds
        self._token = token
        self._public = public
        self._grace_seconds = grace_seconds
        self._autostart = autostart
        self._on_ending = on_ending
        self._log = log
        self._worked = False
        self._end = asyncio.Event()
        self._hurry = asyncio.Event()
        self._orphaned = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # --- what ends it; each may be called from any thread

    def stop(self) -> None:
        """End gracefully; called again: at once."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._end.is_set():
            self._hurry.set()
        self._end.set()

    def parent_gone(self) -> None:
        """Finish what is pending, then end."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._orphaned.set)

    async def run(
        self,
        on_ready: Callable[[int, int | None], None],
        work: Callable[[], Any] | None = None,
    ) -> list[str]:
        """Serve until something ends it.

        Args:
            on_ready: called with the private and the public port once both listen.
            work: runs in a thread once the engine has started; its end ends the service.

        Returns:
            Paths that are not in the bucket yet.

        Raises:
            OSError: an address cannot be listened on.
        """
        engine = self._engine
        allow_open_files()
        private = await serve(build_application(engine, token=self._token, on_shutdown=self.stop))
        listeners = [private]
        try:
            public_port = None
            if self._public is not None:
                host = self._public.host
                application = build_application(
                    engine, token=None, bearer=self._public.token, allowed_hosts=[host]
                )
                listeners.append(await serve(application, host, self._public.port))
                public_port = listeners[1].port
            on_ready(private.port, public_port)
            engine.on_begin = lambda: self._begin(private.port)
            engine.on_standby = lambda: self._log_to(STANDBY_LOG_NAME)
            await asyncio.to_thread(engine.start, autostart=self._autostart)
            await self._until_end(work)
        finally:
            try:
                remaining = await self._close()
            finally:
                for listener in listeners:
                    await listener.close()
                if engine.state_directory is not None:
                    remove_engine_info(engine.state_directory, os.getpid())
        return remaining

    def _begin(self, port: int) -> None:
        self._log_to(LOG_NAME)
        self._announce(port)

    def _log_to(self, name: str) -> None:
        """Go on in this log of the state directory. The engine that archives has its log to itself."""
        if self._log is not None and self._engine.state_directory is not None:
            try:
                self._log.follow(self._engine.state_directory / name, rotate=True)
            except OSError as error:
                logger.warning("The log cannot be written: %s", error)

    def _announce(self, port: int) -> None:
        """Let `status`, `flush` and `retry` find this engine, now that it is the one that archives."""
        engine = self._engine
        assert engine.state_directory is not None
        info = EngineInfo(os.getpid(), port, self._token, str(engine.root), __version__)
        try:
            write_engine_info(engine.state_directory, info, machine_wide=engine.machine_wide)
        except OSError as error:
            logger.warning("The engine cannot be found by other commands: %s", error)

    async def _until_end(self, work: Callable[[], Any] | None) -> None:
        waits = {
            asyncio.ensure_future(self._end.wait()),
            asyncio.ensure_future(self._orphaned.wait()),
            asyncio.ensure_future(asyncio.to_thread(self._engine.wait_for_handover)),
        }
        working = None if work is None else asyncio.ensure_future(asyncio.to_thread(work))
        if working is not None:
            waits.add(working)
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        self._worked = working in done
        for future in done:
            future.result()
        for future in waits - done:
            future.cancel()

    async def _close(self) -> list[str]:
        engine = self._engine
        self._on_ending()
        if engine.handed_over:
            logger.info("Handing over to the next engine")
            return await asyncio.to_thread(engine.close, 0.5)
        if self._worked:  # whoever did the work has waited for everything, or given up and said so
            return await asyncio.to_thread(engine.close, 1.0)
        orphan = self._orphaned.is_set() and not self._end.is_set()
        grace = self._orphan_seconds if orphan else self._grace_seconds
        if self._orphaned.is_set():
            logger.info("ComfyUI is gone: finishing what is pending, at most %d s", grace)
        logger.info("Stopping within %d s", grace)
        drain = asyncio.ensure_future(asyncio.to_thread(engine.drain, grace))
        enders = [drain, asyncio.ensure_future(self._hurry.wait())]
        if orphan:
            enders.append(asyncio.ensure_future(self._end.wait()))
        # A drain ends by itself; should it hang (on a file server that is gone), the end comes all the same.
        await asyncio.wait(enders, timeout=grace + 5.0, return_when=asyncio.FIRST_COMPLETED)
        engine.stop_draining()
        left = 0.5 if self._hurry.is_set() or engine.handed_over else max(1.0, 0.1 * self._grace_seconds)
        remaining = await asyncio.to_thread(engine.close, left)
        for future in enders:
            future.cancel()
        for path in remaining[:_NAMED]:
            logger.warning("Not archived yet, goes on at the next start: %s", path)
        if len(remaining) > _NAMED:
            logger.warning("… and %d more", len(remaining) - _NAMED)
        if engine.left is not None:
            level = logging.WARNING if engine.left.files or not engine.left.scanned else logging.INFO
            logger.log(level, "%s", engine.left.sentence)
        return remaining


def run_engine_process() -> int:
    """ComfyUI's child. Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for ComfyUI; its end reaches us through the pipe
    line = sys.stdin.readline()
    try:
        orders = Orders.parse(line)
    except ValueError as error:
        sys.stderr.write(
            f"The engine is started by ComfyUI's plugin, with orders on standard input: {error}\n"
        )
        return 2
    lower_priority()
    give_freed_memory_back()
    gone = threading.Event()
    engine = Engine(
        Path(orders.root),
        state_base=Path(orders.state_base) if orders.state_base else None,
        make_root=True,
        orphaned=gone.is_set,
        prefer_environment=True,
    )
    try:
        path = engine.prepare() / LOG_NAME
        handler = log_to_file(path, secret_values(os.environ), private=True)
        log = handler if isinstance(handler, PrivateFileHandler) else None
        if log is not None:
            log.follow(path, rotate=False)  # until it is known that no other engine writes it
    except (CloudArchiveError, OSError) as error:
        log = None
        logging.getLogger("cloud_archive").addHandler(logging.NullHandler())
        logger.error("%s", error)
    asyncio.run(_serve_parent(engine, orders, gone, log))
    return 0


async def _serve_parent(
    engine: Engine, orders: Orders, gone: threading.Event, log: PrivateFileHandler | None
) -> None:
    service = Service(engine, token=orders.token, orphan_seconds=orders.orphan_seconds, log=log)

    def parent_gone() -> None:
        gone.set()
        service.parent_gone()

    def watch_pipe() -> None:
        with contextlib.suppress(OSError, ValueError):
            while sys.stdin.readline():
                pass
        parent_gone()

    async def watch_parent() -> None:
        # A process that ComfyUI forked may hold the pipe open after ComfyUI's end.
        parent = os.getppid()
        while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of a parent's end
            await asyncio.sleep(PARENT_CHECK_SECONDS)
        parent_gone()

    def ready(port: int, _: int | None) -> None:
        message = {"port": port, "pid": os.getpid(), "version": __version__}
        with contextlib.suppress(OSError):
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        # From here on nobody reads it, and a write would end this process together with its parent.
        point_at_nothing(sys.stdout.fileno())
        if log is not None:
            log.take_stderr()
        else:
            point_at_nothing(sys.stderr.fileno())

    threading.Thread(target=watch_pipe, name="cloud-archive-parent", daemon=True).start()
    watching = asyncio.ensure_future(watch_parent()) if sys.platform != "win32" else None
    with handling_signals(service.stop, (signal.SIGTERM,)):
        await service.run(ready)
    if watching is not None:
        watching.cancel()


async def run_daemon(
    engine: Engine,
    *,
    public: PublicAddress | None = None,
    grace_seconds: float = GRACE_SECONDS,
    on_ready: Callable[[int, int | None], None] = lambda private, public: None,
    work: Callable[[], Any] | None = None,
    on_ending: Callable[[], None] = lambda: None,
) -> list[str]:
    """`cloud-archive watch`: serve until a signal, or until `work` returns.

    Args:
        engine: not started; its environment decides.
        on_ready, work: see `Service.run`. `work` must return soon after `on_ending` was called.
        on_ending: see `Service`.

    Returns:
        Paths that are not in the bucket yet.

    Raises:
        OSError: `public` cannot be listened on.
        SettingsError: the settings are wrong; a daemon with nobody to show them to ends at once.
    """
    load_settings(engine.environ)
    give_freed_memory_back()
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # standard error may be no file
        faulthandler.enable()

    def ending() -> None:
        notify("STOPPING=1")
        on_ending()

    service = Service(
        engine,
        token=secrets.token_urlsafe(32),
        public=public,
        grace_seconds=grace_seconds,
        autostart=True,
        on_ending=ending,
    )
    with handling_signals(service.stop, (signal.SIGTERM, signal.SIGINT)):
        async with supervised(engine):
            return await service.run(on_ready, work)


__all__ = ["GRACE_SECONDS", "Service", "SettingsError", "log_to_file", "run_daemon", "run_engine_process"]
