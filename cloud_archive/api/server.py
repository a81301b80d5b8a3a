"""The engine's HTTP server: the routes, the stream of events, the dashboard page.

`build_application` makes the application of one listener. An engine has a private listener, which serves ComfyUI's
process and the command over loopback, and perhaps a public one, which is the daemon's `--serve` and has the dashboard.

A call into the engine that blocks runs in a thread of its lane (see `lanes`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from .. import __version__
from ..errors import CloudArchiveError, RequestRefused
from ..text import count_noun, format_bytes, left_out_words
from .admission import bearer_check, host_check, make_admission, prove_engine, token_check
from .assets import AssetHandlers
from .connections import ConnectionLimits, Connections
from .dashboard import add_dashboard
from .events import HEARTBEAT_SECONDS, EventStreams
from .jobs import JobHandlers
from .lanes import Lanes
from .routes import (
    HEALTH_PATH,
    JOBS_PATH,
    MAX_BODY_BYTES,
    MAX_JOBS_BODY_BYTES,
    ROUTE_SECONDS,
    ROUTES,
    Arguments,
    Handler,
    Route,
    error_answer,
    protect,
    refusal,
)
from .shares import ShareHandlers

if TYPE_CHECKING:
    from ..archive.engine import Engine
    from ..archive.upload_request import UploadAnswer

_log = logging.getLogger("cloud_archive.server")

_UPLOAD_SECONDS = 20.0  # after this an upload that still runs is answered with 202
_JOBS_SECONDS = 20.0
_SHUTDOWN_SECONDS = 2.0  # for calls that still run when the server closes
_MAX_LINE_BYTES = 64 * 1024  # the longest q of a search, percent-encoded, has less than 50,000 bytes
_AFTER_FLUSH_SECONDS = 2.0  # how much longer than its timeout a flush may take


def build_application(
    engine: Engine,
    *,
    token: str | None,
    bearer: str | None = None,
    allowed_hosts: Collection[str] | None = None,
    on_shutdown: Callable[[], None] | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> web.Application:
    """Return the aiohttp application around an engine.

    Args:
        engine: what the handlers call: in a thread, unless the method says that it does not block.
        token: each call must be signed with it (see `handshake`). None: this is the public listener.
        bearer: the public listener's token, which every call but those for the page's own files must carry as
            `Authorization: Bearer …`. With it any `Host` is accepted: a page of another site does not know it.
        allowed_hosts: names or addresses besides loopback that the public listener accepts as `Host`, as given to
            `--serve`, with or without a port. `0.0.0.0` and `::` stand for every IP address, but for no name.
        on_shutdown: called for `POST /engine/shutdown` on the private listener.
        heartbeat_seconds: an event stream without news sends the status again after this time.
    """
    if token is not None:
        admit = token_check(token)
    else:
        admit = bearer_check(bearer) if bearer is not None else host_check(allowed_hosts or ())
    application = web.Application(middlewares=[make_admission(admit)], client_max_size=MAX_BODY_BYTES)
    lanes = Lanes()
    handlers = _Handlers(engine, lanes)
    streams = EventStreams(
        engine.subscribe,
        handlers.status_json,
        handlers.heartbeat,
        still_safe=engine.still_safe,
        heartbeat_seconds=heartbeat_seconds,
    )
    owners = (
        handlers,
        streams,
        AssetHandlers(engine, lanes, public=token is None),
        ShareHandlers(engine, lanes, public=token is None),
        JobHandlers(engine, lanes, public=token is None),
    )
    for route in ROUTES:
        handler: Handler = next(getattr(owner, route.name) for owner in owners if hasattr(owner, route.name))
        application.router.add_route(route.method, route.path, protect(route, handler))
        if route.method == "GET":  # as in ComfyUI
            application.router.add_head(route.path, protect(route, handler))
    if token is not None:
        application.on_response_prepare.append(prove_engine(token))
        _add_private_routes(application, handlers, on_shutdown)
    else:
        add_dashboard(application)

    async def close_lanes(_: web.Application) -> None:
        lanes.close()

    application.on_cleanup.append(close_lanes)
    application.on_shutdown.append(streams.close)
    return application


@dataclass(frozen=True)
class Listener:
    """A server that listens. `port`: the port that it listens on, never 0."""

    host: str
    port: int
    runner: web.AppRunner
    connections: Connections

    async def close(self) -> None:
        """Stop listening and end the connections; safe to call twice."""
        await self.connections.close()
        await self.runner.cleanup()


async def serve(
    application: web.Application,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    limits: ConnectionLimits | None = None,
) -> Listener:
    """Start listening.

    Args:
        port: 0: a free port, chosen by the system.
        limits: default: `ConnectionLimits.for_this_process()`.

    Raises:
        OSError: see `Connections.start`.
    """
    limits = limits or ConnectionLimits.for_this_process()
    connections = Connections(limits)
    application.middlewares.insert(0, connections.middleware)
    errors = logging.getLogger("cloud_archive.http")
    errors.addFilter(_is_not_the_clients_fault)
    # handler_cancellation: a call is cancelled when its client goes away.
    runner = web.AppRunner(
        application,
        logger=errors,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        handler_cancellation=True,
        keepalive_timeout=limits.head_seconds,
        max_line_size=_MAX_LINE_BYTES,
        auto_decompress=False,  # older versions of aiohttp expand a small body to any size
    )
    await runner.setup()
    try:
        assert runner.server is not None
        bound_port = await connections.start(host, port, runner.server)
    except BaseException:
        await runner.cleanup()
        raise
    return Listener(host, bound_port, runner, connections)


def _is_not_the_clients_fault(record: logging.LogRecord) -> bool:
    """Return False for the error of a malformed request: anybody could fill the log with these."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, web.RequestPayloadError))


class _Handlers:
    """Answer the routes that no other class answers; a method that takes a request has the name of its route."""

    def __init__(self, engine: Engine, lanes: Lanes) -> None:
        self._engine = engine
        self._lanes = lanes

    async def status_json(self) -> dict[str, Any]:
        return await self._lanes.run(
            "status", lambda: self._engine.status().to_json(), ROUTE_SECONDS["status"]
        )

    async def heartbeat(self) -> dict[str, Any]:
        return await self._lanes.run(
            "status", lambda: self._engine.status(heartbeat=True).to_json(), ROUTE_SECONDS["status"]
        )

    async def status(self, _: web.Request, __: Arguments) -> web.Response:
        return web.json_response(await self.status_json())

    async def start(self, _: web.Request, __: Arguments) -> web.Response:
        return await self._call("control", "start", self._engine.start_watching)

    async def stop(self, _: web.Request, __: Arguments) -> web.Response:
        return await self._call("control", "stop", self._engine.stop_watching)

    async def rescan(self, _: web.Request, arguments: Arguments) -> web.Response:
        return await self._call("queue", "rescan", partial(self._engine.rescan, arguments["accept_root"]))

    async def retry(self, _: web.Request, __: Arguments) -> web.Response:
        return await self._call("queue", "retry", self._engine.retry)

    async def backfill(self, _: web.Request, __: Arguments) -> web.Response:
        return await self._call("queue", "backfill", self._engine.archive_baseline)

    async def _call(self, lane: str, name: str, call: Callable[[], str]) -> web.Response:
        try:
            message = await self._lanes.run(lane, call, ROUTE_SECONDS[name])
        except CloudArchiveError as error:
            answer = error_answer(error)
            status = 500 if name in ("start", "stop") else answer.status
            return refusal(status, str(error), status=await self.status_json())
        return _success(message, await self.status_json())

    async def flush(self, _: web.Request, arguments: Arguments) -> web.Response:
        deadline = time.monotonic() + arguments["timeout_seconds"]
        abandoned = threading.Event()

        def call() -> bool:
            return self._engine.flush(max(0.0, deadline - time.monotonic()), abandoned.is_set)

        try:
            while True:
                safe = await self._run_flush(call, deadline)
                # A file may come between the flush and this status: then flush again, so that the two agree.
                status = await self.heartbeat()
                if status["safe_to_stop"] or not safe or time.monotonic() >= deadline:
                    break
        except CloudArchiveError as error:
            return refusal(error_answer(error).status, str(error), status=await self.status_json())
        finally:
            abandoned.set()
        if safe and status["safe_to_stop"]:
            return _success(f"Safe to stop: {_describe_archived(status)}", status)
        message = _describe_remaining(status, self._engine.why_catalog_incomplete())
        return refusal(504, message, status=status)

    async def _run_flush(self, call: Callable[[], bool], deadline: float) -> bool:
        try:
            left = max(0.0, deadline - time.monotonic())
            return await self._lanes.run("flush", call, left + _AFTER_FLUSH_SECONDS)
        except RequestRefused as refused:
            if refused.status != 504:
                raise
            return False

    async def upload(self, _: web.Request, arguments: Arguments) -> web.Response:
        deadline = time.monotonic() + _UPLOAD_SECONDS

        def call() -> UploadAnswer:
            return self._engine.upload(arguments["file_path"], max(0.0, deadline - time.monotonic()))

        answer = await self._lanes.run("upload", call, ROUTE_SECONDS["upload"])
        content = {"success": answer.http_status < 400, "message": answer.message, "file": answer.file}
        return web.json_response(content, status=answer.http_status)

    async def files(self, _: web.Request, arguments: Arguments) -> web.Response:
        call = partial(
            self._engine.files, arguments["state"], arguments["q"], arguments["limit"], arguments["cursor"]
        )
        rows, next_cursor = await self._lanes.run("files", call, ROUTE_SECONDS["files"])
        return web.json_response({"files": rows, "next_cursor": next_cursor})

    async def report(self, _: web.Request, arguments: Arguments) -> web.Response:
        call = partial(self._engine.report, arguments["by"], arguments["last"])
        rows = await self._lanes.run("report", call, ROUTE_SECONDS["report"])
        return web.json_response({"rows": rows})

    async def check(self, _: web.Request, __: Arguments) -> web.Response:
        # Shielded, because callers share a check: one that goes away must not cancel it for the others.
        running = asyncio.shield(asyncio.wrap_future(self._engine.check()))
        try:
            return web.json_response(await asyncio.wait_for(running, ROUTE_SECONDS["check"]))
        except asyncio.TimeoutError:
            raise RequestRefused(
                504, "The check is taking long. GET /cloud-sync/check shows its result."
            ) from None

    async def last_check(self, _: web.Request, __: Arguments) -> web.Response:
        return web.json_response(self._engine.last_check())

    async def metrics(self, _: web.Request, __: Arguments) -> web.Response:
        text = await self._lanes.run("files", self._engine.metrics_text, ROUTE_SECONDS["metrics"])
        # https://prometheus.io/docs/instrumenting/exposition_formats/
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=text.encode(), headers={"Content-Type": kind})

    async def jobs(self, _: web.Request, arguments: Arguments) -> web.Response:
        await self._lanes.run(
            "jobs", partial(self._engine.add_jobs, arguments["jobs"], arguments["queue"]), _JOBS_SECONDS
        )
        return web.json_response({"success": True})

    async def health(self, _: web.Request, __: Arguments) -> web.Response:
        body = {"ok": True, "pid": os.getpid(), "version": __version__}
        return web.json_response(body | {"will_replace_ledger": self._engine.will_replace_ledger})

    async def handover(self, _: web.Request, __: Arguments) -> web.Response:
        released = await self._lanes.run("control", self._engine.request_handover, 10.0)
        return web.json_response({"success": released, "released": released})


def _success(message: str, status: dict[str, Any]) -> web.Response:
    return web.json_response({"success": True, "message": message, "status": status})


def _describe_archived(status: Mapping[str, Any]) -> str:
    return f"everything is in the bucket{_left_out(status)}."


def _left_out(status: Mapping[str, Any]) -> str:
    return left_out_words(status.get("baseline_files", 0), status.get("pruned_files", 0))


def _describe_remaining(status: Mapping[str, Any], catalog_trouble: str | None) -> str:
    pending, failed = status.get("pending_files", 0), status.get("failed_files", 0)
    parts = [f"{pending:,} pending ({format_bytes(status.get('pending_bytes', 0))})"] if pending else []
    parts += [f"{failed:,} failed"] if failed else []
    if not parts and status.get("safe_to_stop"):
        files = f"Every file{_left_out(status)}"
        rows = status.get("unwritten_rows", 0)
        because = f" {catalog_trouble}" if catalog_trouble else ""
        if rows:
            unwritten = f"{count_noun(rows, 'row')} of the catalog {'is' if rows == 1 else 'are'}"
            return f"{files} is in the bucket, but {unwritten} not written to it yet.{because}"
        if because:
            return f"{files} is in the bucket, but the catalog is not complete.{because}"
        return f"{files} is in the bucket now, but the flush did not complete. Try again."
    errors = status.get("errors") or []
    because = f" {errors[-1]}" if errors else ""
    remaining = f": {' and '.join(parts)} left" if parts else ""
    if status.get("state") == "stopped":  # files that came meanwhile are not counted
        remaining = remaining or ": not all files in the directory are known to be in the bucket"
        because += " The archive is stopped: start it first."
    return f"Not yet safe to stop{remaining}.{because}"


def _add_private_routes(
    application: web.Application, handlers: _Handlers, on_shutdown: Callable[[], None] | None
) -> None:
    async def shutdown(_: web.Request, __: Arguments) -> web.Response:
        if on_shutdown is None:
            raise RequestRefused(501, "To stop this engine, end its process.")
        on_shutdown()
        return web.json_response({"success": True, "message": "The engine is stopping."}, status=202)

    for route, handler in (
        (Route("GET", HEALTH_PATH, "health", False, 5), handlers.health),
        (Route("POST", "/engine/handover", "handover", True, 10), handlers.handover),
        (Route("POST", JOBS_PATH, "jobs", True, _JOBS_SECONDS, MAX_JOBS_BODY_BYTES), handlers.jobs),
        (Route("POST", "/engine/shutdown", "shutdown", True, 10), shutdown),
    ):
        application.router.add_route(route.method, route.path, protect(route, handler))
