"""Run an engine as a process, with its listeners, signals and log, and end it gracefully.

`run_engine_process` is ComfyUI's child process. It reads its orders from standard input and writes its port to standard
output. `run_daemon` is `cloud-archive watch`, the demo, or any other command that needs an engine for a while.
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
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..archive.engine import Engine
from ..config.settings import load_settings
from ..errors import CloudArchiveError
from ..redaction import secret_values
from ..state import LOG_NAME, STANDBY_LOG_NAME, EngineInfo, remove_engine_info, write_engine_info
from ..terminal import redirect_to_devnull
from .logs import PrivateFileHandler, log_to_file
from .orders import ORPHAN_SECONDS, Orders
from .process import (
    end_signals,
    finish_loading,
    handle_signals,
    lower_priority,
    raise_open_files_limit,
    wait_for_parents_end,
)
from .systemd import notify, notify_systemd

if TYPE_CHECKING:
    from ..api.server import Listener

logger = logging.getLogger("cloud_archive.service")

GRACE_SECONDS = 30.0  # the default of `Service.grace_seconds`
MAX_CLOSING_SECONDS = 3.0  # the last part of the grace, in which no further uploads begin
SHORT_WORK_SECONDS = 5.0  # work that ends within this time is not worth a listener


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """Where the dashboard is served; `token`: what every call must carry, None = none is needed."""

    host: str
    port: int
    token: str | None = field(default=None, repr=False)


class Service:
    """Run one engine with its listeners until a signal, its parent's end, a hand-over, or the end of its work.

    Args:
        engine: not started; may be prepared.
        token: every call to the private listener must be signed with it.
        public: where to serve the dashboard; default: nowhere.
        grace_seconds: how long to continue uploading at the end.
        orphan_seconds: the same, if the parent has ended.
        autostart: whether to start watching; default: as the settings say.
        on_ending: called when the end begins, before the wait for uploads.
        log: the process's log in the state directory.
        listen_after_seconds: how long to work before listening. Work that ends earlier never loads the HTTP server.
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
        listen_after_seconds: float = 0.0,
    ) -> None:
        self._engine = engine
        self._listen_after_seconds = listen_after_seconds
        self._listeners: list[Listener] = []
        self._private_port: int | None = None
        self._holds_lock = False
        self._orphan_seconds = orphan_seconds
        self._token = token
        self._public = public
        self._grace_seconds = grace_seconds
        self._autostart = autostart
        self._on_ending = on_ending
        self._log = log
        self._started = False
        self._work_ended = False
        self._end = asyncio.Event()
        self._hurry = asyncio.Event()
        self._orphaned = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # --- from any thread

    def stop(self) -> None:
        """End gracefully; a second call ends at once."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._end.is_set():
            self._hurry.set()
        self._end.set()

    def parent_gone(self) -> None:
        """End after uploading what is pending, because the parent has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._orphaned.set)

    async def run(
        self,
        on_ready: Callable[[int, int | None], None],
        work: Callable[[], Any] | None = None,
    ) -> list[str]:
        """Serve until the end, and return the paths that are not archived yet.

        Args:
            on_ready: called with the private port and the public one (None without `public`) once both listen, unless
                the service ends before.
            work: called in a thread once the engine has started; the service ends when it returns or raises.

        Raises:
            OSError: it can't listen on an address. With `listen_after_seconds` that is only logged.
            Exception: `work` raised it.
        """
        engine = self._engine
        raise_open_files_limit()
        listening: asyncio.Future[None] | None = None
        try:
            if self._listen_after_seconds:
                listening = asyncio.ensure_future(self._listen_later(on_ready))
            else:
                await self._listen(on_ready)
            engine.on_begin = self._begin
            engine.on_standby = lambda: self._log_to(STANDBY_LOG_NAME)
            self._started = True
            await asyncio.to_thread(engine.start, autostart=self._autostart)
            await self._until_end(work)
        finally:
            try:
                remaining = await self._close()
            finally:
                if listening is not None:
                    listening.cancel()
                for listener in self._listeners:
                    await listener.close()
                if engine.state_directory is not None:
                    remove_engine_info(engine.state_directory, os.getpid())
        return remaining

    async def _listen_later(self, on_ready: Callable[[int, int | None], None]) -> None:
        await asyncio.sleep(self._listen_after_seconds)
        try:
            await self._listen(on_ready)
        except OSError as error:  # the work does not need a listener
            logger.warning("Other commands can't reach this engine: %s", error)

    async def _listen(self, on_ready: Callable[[int, int | None], None]) -> None:
        from ..api.server import build_application, serve

        private = await serve(build_application(self._engine, token=self._token, on_shutdown=self.stop))
        self._listeners.append(private)
        public_port = None
        if self._public is not None:
            host = self._public.host
            application = build_application(
                self._engine, token=None, bearer=self._public.token, allowed_hosts=[host]
            )
            public = await serve(application, host, self._public.port)
            self._listeners.append(public)
            public_port = public.port
        self._private_port = private.port
        if self._holds_lock:
            await asyncio.to_thread(self._register, private.port)
        on_ready(private.port, public_port)

    def _begin(self) -> None:
        self._log_to(LOG_NAME)
        self._holds_lock = True
        if (port := self._private_port) is not None:
            self._register(port)

    def _log_to(self, name: str) -> None:
        """Continue the log in this file of the state directory. Only the engine with the lock rotates LOG_NAME."""
        if self._log is not None and self._engine.state_directory is not None:
            try:
                self._log.follow(self._engine.state_directory / name, rotate=True)
            except OSError as error:
                logger.warning("The log can't be written: %s", error)

    def _register(self, port: int) -> None:
        """Let commands find this engine, which holds the lock now."""
        engine = self._engine
        assert engine.state_directory is not None
        info = EngineInfo(os.getpid(), port, self._token, str(engine.root), __version__)
        try:
            write_engine_info(engine.state_directory, info, machine_wide=engine.machine_wide)
        except OSError as error:
            logger.warning("Other commands can't find this engine: %s", error)

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
        self._work_ended = working in done
        for future in done:
            future.result()
        for future in waits - done:
            future.cancel()

    async def _close(self) -> list[str]:
        engine = self._engine
        self._on_ending()
        if not self._started:  # it could not listen
            return await asyncio.to_thread(engine.close, 0.0)
        if engine.handed_over:
            logger.info("Handing over to the next engine.")
            return await asyncio.to_thread(engine.close, 0.5)
        if self._work_ended:  # the work has waited for its uploads
            writing = asyncio.ensure_future(asyncio.to_thread(engine.write_catalog, self._grace_seconds))
            hurry = asyncio.ensure_future(self._hurry.wait())
            await asyncio.wait([writing, hurry], return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            engine.stop_draining()
            return await asyncio.to_thread(engine.close, 1.0)
        orphan = self._orphaned.is_set() and not self._end.is_set()
        grace = self._orphan_seconds if orphan else self._grace_seconds
        if self._orphaned.is_set():
            logger.info("ComfyUI has ended. Uploading what is pending, for at most %d s.", grace)
        logger.info("Stopping within %d s.", grace)
        # Part of the grace is for closing: a third of it for uploads that don't end, a third for requests of the
        # catalog and of webhooks (see `Engine.close`), and the rest for the process's own end.
        closing = min(max(1.0, 0.1 * grace), MAX_CLOSING_SECONDS)
        drain = asyncio.ensure_future(asyncio.to_thread(engine.drain, max(0.0, grace - closing)))
        enders = [drain, asyncio.ensure_future(self._hurry.wait())]
        if orphan:
            enders.append(asyncio.ensure_future(self._end.wait()))
        # A drain has its own limit, but may hang on a file server that is gone.
        await asyncio.wait(enders, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        engine.stop_draining()
        at_once = self._hurry.is_set() or engine.handed_over
        remaining = await asyncio.to_thread(engine.close, 0.5 if at_once else closing / 3)
        for future in enders:
            future.cancel()
        for path in remaining:
            logger.warning("Not archived yet: %s", path)
        if engine.remainder is not None:
            level = (
                logging.WARNING if engine.remainder.files or not engine.remainder.scanned else logging.INFO
            )
            logger.log(level, "%s", engine.remainder.sentence)
        return remaining


def run_engine_process() -> int:
    """Run the engine as ComfyUI's child process, and return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for ComfyUI; the pipe tells us when it ends
    try:
        orders = Orders.parse(sys.stdin.readline())
    except ValueError as error:
        sys.stderr.write(
            f"ComfyUI's plugin starts the engine, with orders on standard input; these are invalid: {error}\n"
        )
        return 2
    lower_priority()
    finish_loading(serves=True)
    gone = threading.Event()
    engine = Engine(
        Path(orders.root),
        state_base=Path(orders.state_base) if orders.state_base else None,
        make_root=True,
        parent_started_at=orders.started_at,
        orphaned=gone.is_set,
        prefer_environment=True,
    )
    try:
        path = engine.prepare() / LOG_NAME
        handler = log_to_file(path, secret_values(os.environ), private=True)
        log = handler if isinstance(handler, PrivateFileHandler) else None
        if log is not None:
            log.follow(path, rotate=False)  # another engine may write it until this one holds the lock
    except (CloudArchiveError, OSError) as error:
        log = None
        logging.getLogger("cloud_archive").addHandler(logging.NullHandler())
        logger.error("%s", error)
    asyncio.run(_serve_parent(engine, orders, gone, log))
    return 0


async def _serve_parent(
    engine: Engine, orders: Orders, gone: threading.Event, log: PrivateFileHandler | None
) -> None:
    service = Service(
        engine,
        token=orders.token,
        orphan_seconds=orders.orphan_seconds,
        autostart=orders.autostart,
        log=log,
    )

    def parent_gone() -> None:
        gone.set()
        service.parent_gone()

    def watch_pipe() -> None:
        with contextlib.suppress(OSError, ValueError):
            while sys.stdin.readline():
                pass
        parent_gone()

    async def watch_parent() -> None:
        # The pipe alone is not enough: a process that ComfyUI has forked may keep it open after ComfyUI's end.
        await wait_for_parents_end()
        parent_gone()

    def ready(port: int, _: int | None) -> None:
        message = {"port": port, "pid": os.getpid(), "version": __version__}
        with contextlib.suppress(OSError):
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        # After the parent's end nothing reads this pipe, so a write to it would fail.
        redirect_to_devnull(sys.stdout.fileno())
        if log is not None:
            log.receive_stderr()
        else:
            redirect_to_devnull(sys.stderr.fileno())

    threading.Thread(target=watch_pipe, name="cloud-archive-parent", daemon=True).start()
    watching = asyncio.ensure_future(watch_parent()) if sys.platform != "win32" else None
    with handle_signals(service.stop, (signal.SIGTERM,)):
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
    listen_after_seconds: float = 0.0,
) -> list[str]:
    """Run an engine until a signal, or until `work` returns. Return the paths that are not archived yet.

    Args:
        engine: not started; its environment holds the settings.
        on_ready, work: see `Service.run`. `work` must return soon after `on_ending` was called.
        on_ending, listen_after_seconds: see `Service`.

    Raises:
        OSError, Exception: see `Service.run`.
        SettingsError: the settings are wrong.
    """
    load_settings(engine.environ)  # a daemon may have no page that shows a problem, so it ends
    finish_loading(serves=not listen_after_seconds)
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # standard error may not be a file
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
        listen_after_seconds=listen_after_seconds,
    )
    with handle_signals(service.stop, end_signals()):
        async with notify_systemd(engine):
            return await service.run(on_ready, work)
