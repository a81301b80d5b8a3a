"""The adapter to ComfyUI: register our routes, find its directories, push the status through its websocket.

The engine starts with ComfyUI's web application, not while plugins are loaded, because the directories are final only
then. A failure never keeps ComfyUI from starting.

ComfyUI's process loads this: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import ClientTimeout, web

from ..api.events import EventStreams
from ..api.routes import (
    ANSWER_HEADERS,
    ROUTES,
    STATUS_EVENT,
    Arguments,
    Handler,
    Route,
    abort_answer,
    bare_status,
    protect,
    refusal,
)
from ..errors import EngineUnavailable
from ..executor import DaemonExecutor
from .announcements import Announcements, farewell
from .bring_back import bring_back, content_of
from .engine_client import EngineAnswer, EngineClient
from .job_capture import JobCapture
from .job_description import unfinished_job

_log = logging.getLogger("cloud_archive")

_MARGIN_SECONDS = 5.0  # how much longer than a route's own limit the plugin waits for the engine's answer
_CLIENT_CHECK_SECONDS = 1.0  # between two checks whether the client is still connected
LAST_JOBS_SECONDS = 1.0  # at ComfyUI's end: how long to wait until the engine has the last finished jobs
LAST_STATUS_SECONDS = 2.0  # at ComfyUI's end: how long to wait for the engine's last status
PASS_ON_SECONDS = 2.0  # how long a call about a job waits until `JobCapture` has told the engine of that job
_JOB_THREADS = 16
_ASK_AGAIN_SECONDS = 0.5  # the pause before the engine is asked about a job again
# The engine sends a status at least every 4 s, so a heartbeat is sent only if one is late.
_HEARTBEAT_SECONDS = 4.5
_PATH_ARGUMENTS = ("id", "prompt_id")
_TAKES_NO_JOBS = ("starting", "standby", "unavailable")
_PIECE_BYTES = 256 * 1024
_PASSED_HEADERS = (
    "Content-Type",
    "Cache-Control",
    "Content-Length",
    "Content-Range",
    "Content-Disposition",
    "Content-Security-Policy",
    "Accept-Ranges",
)


def install() -> None:
    """Connect Cloud Archive to the ComfyUI that loads plugins. Never raises."""
    try:
        from server import PromptServer

        Plugin(PromptServer.instance).install()
    except Exception as error:
        _log.warning("Cloud Archive is off: %s: %s.", type(error).__name__, error)


class Plugin:
    def __init__(self, prompt_server: Any, client: EngineClient | None = None) -> None:
        self._prompt_server = prompt_server
        self._client = client
        self._why_no_client = "ComfyUI has not started yet."
        self._jobs: JobCapture | None = None
        # Not the loop's own threads: ComfyUI's server reads files in them, and `pass_on` may wait.
        self._job_threads = DaemonExecutor(_JOB_THREADS, "cloud-archive-job-calls")
        self._announcements = Announcements()
        self._status: Mapping[str, Any] = bare_status("starting")  # the last one
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self._streams = EventStreams(
            self._subscribe,
            self._ask_status,
            self._ask_status,
            still_safe=lambda: False,
            heartbeat_seconds=_HEARTBEAT_SECONDS,
        )

    def install(self) -> None:
        """Register the routes, and let the engine start and end with ComfyUI."""
        table = self._prompt_server.routes
        if any(getattr(route, "path", None) == ROUTES[0].path for route in table):
            # aiohttp refuses a second handler for a path, so ComfyUI would not start.
            _log.warning(
                "Cloud Archive is installed twice under custom_nodes: this copy stays off. Remove one."
            )
            return
        for route in ROUTES:
            table.route(route.method, route.path)(protect(route, self._forwarder(route)))
        application = getattr(self._prompt_server, "app", None)
        try:
            application.on_startup.append(self._on_startup)  # type: ignore[union-attr]
        except (AttributeError, RuntimeError):  # a ComfyUI without such an application
            self._prompt_server.loop.call_soon_threadsafe(self.start)
        else:
            with contextlib.suppress(AttributeError, RuntimeError):
                application.on_shutdown.append(self._on_shutdown)  # type: ignore[union-attr]
        atexit.register(self._at_exit)

    def start(self) -> None:
        """Start the engine for ComfyUI's output directory. Never raises."""
        try:
            if self._client is None:
                import folder_paths

                root = Path(folder_paths.get_output_directory()).absolute()
                self._announcements.root = str(root)
                state_base = state_directory(folder_paths)
                self._client = EngineClient(root, state_base, on_status=self._on_status)
            self._client.start()
            self._capture_jobs(self._client)
        except Exception as error:
            self._why_no_client = f"Cloud Archive is off: {type(error).__name__}: {error}."
            _log.warning("%s", self._why_no_client)

    def _capture_jobs(self, client: EngineClient) -> None:
        prompt_queue = getattr(self._prompt_server, "prompt_queue", None)
        if hasattr(prompt_queue, "get_history") and self._jobs is None:
            self._jobs = JobCapture(prompt_queue, lambda: client.address)
            self._jobs.start()
            with contextlib.suppress(AttributeError):  # an older ComfyUI
                self._prompt_server.add_on_prompt_handler(self._on_prompt)

    def _on_prompt(self, prompt: Any) -> Any:
        if self._jobs is not None and self._status.get("state") != "not_configured":
            self._jobs.expect()
        return prompt

    def _on_status(self, status: dict[str, Any]) -> None:
        before, self._status = self._status.get("state"), status
        # An engine that isn't configured takes no job before ComfyUI's next start.
        if self._jobs is not None and status.get("state") != "not_configured":
            # An engine that starts or stands by refuses jobs, so the tries back off. End the backoff once it archives.
            self._jobs.wake(at_once=before in _TAKES_NO_JOBS and status.get("state") not in _TAKES_NO_JOBS)
        self._announcements.log_news(status)
        # ComfyUI encodes it later, so nothing may change this object.
        self._prompt_server.send_sync(STATUS_EVENT, status)
        for listener in list(self._listeners):
            listener(status)

    def _subscribe(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def _ask_status(self) -> dict[str, Any]:
        if self._client is None:
            return bare_status("unavailable", self._why_no_client)
        return await self._client.status()

    def _forwarder(self, route: Route) -> Handler:
        async def forward(request: web.Request, arguments: Arguments) -> web.StreamResponse:
            if route.name == "events":
                return await self._streams.events(request, arguments)
            if route.name == "status":
                return web.json_response(await self._ask_status())
            client = self._client
            if client is None:
                return self._unavailable(route, self._why_no_client)
            rest = dict(arguments)  # the loop below removes those that are in the path
            path = route.path
            for name in _PATH_ARGUMENTS:
                path = path.replace(f"{{{name}}}", quote(rest.pop(name, ""), safe=""))
            if route.name == "job":
                return await self._job(client, request, route, path, arguments)
            if route.name in ("content", "thumbnail", "zip"):
                return await self._stream(client, request, route, path, _as_query(rest))
            if route.name == "bring_back":
                return await self._bring_back(client, route, path.removesuffix("/bring-back"))
            has_body = route.method != "GET"
            try:
                call = client.call(
                    route.method,
                    path,
                    json=rest if has_body else None,
                    query=None if has_body else _as_query(rest),
                    timeout_seconds=route.timeout_seconds
                    + rest.get("timeout_seconds", 0.0)
                    + _MARGIN_SECONDS,
                )
                answer = await _until_client_leaves(request, call)
            except EngineUnavailable as error:
                return self._unavailable(route, str(error))
            if route.name in ("start", "stop"):
                client.autostart = route.name == "start"  # after a crash the next engine does the same
            return _as_response(answer)

        return forward

    async def _job(
        self, client: EngineClient, request: web.Request, route: Route, path: str, arguments: Arguments
    ) -> web.StreamResponse:
        """Ask the engine about a job.

        Until `wait` has passed, ask again if no engine answers, if it answers with an error of its own (5xx), or if it
        does not know a job that ComfyUI knows, or knows it only from before it was queued again.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + arguments["wait"]
        while True:
            left = max(0.0, deadline - loop.time())
            # While time is left, the engine itself waits for a job that it does not know yet. Else it answers at once,
            # so wait here until `JobCapture` has told it of a prompt that was just queued or has just ended.
            pass_on_seconds = 0.0 if left else PASS_ON_SECONDS
            place, is_passed_on = await loop.run_in_executor(
                self._job_threads, self._place_of, arguments["prompt_id"], pass_on_seconds
            )
            query = {"wait": f"{left:.3f}", "urls": str(arguments["urls"])}
            timeout_seconds = route.timeout_seconds + left + _MARGIN_SECONDS
            try:
                call = client.call(route.method, path, query=query, timeout_seconds=timeout_seconds)
                found = await _until_client_leaves(request, call)
                answer = _as_response(found)
                is_known = found.status != 200 or not _is_outdated(found.json(), place, is_passed_on)
            except EngineUnavailable as error:
                answer, is_known = self._unavailable(route, str(error)), True
            if loop.time() >= deadline:
                unfinished = place in ("queued", "running")
                return (
                    web.json_response(unfinished_job(arguments["prompt_id"], place))
                    if unfinished and not is_known
                    else answer
                )
            if answer.status < 500 and (is_known or not place):
                return answer
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
            if request.transport is None:
                raise ConnectionResetError("the client went away")

    def _place_of(self, prompt_id: str, timeout_seconds: float) -> tuple[str, bool]:
        return ("", True) if self._jobs is None else self._jobs.pass_on(prompt_id, timeout_seconds)

    async def _stream(
        self, client: EngineClient, request: web.Request, route: Route, path: str, query: Mapping[str, str]
    ) -> web.StreamResponse:
        """Forward a call, and send its answer on piece by piece."""
        seconds = route.timeout_seconds + _MARGIN_SECONDS
        timeout = ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        ranges = {name: request.headers[name] for name in ("Range", "If-Range") if name in request.headers}
        answer: web.StreamResponse | None = None
        try:
            async with client.open(route.method, path, query=query, headers=ranges, timeout=timeout) as found:
                headers = {name: found.headers[name] for name in _PASSED_HEADERS if name in found.headers}
                answer = web.StreamResponse(status=found.status, headers={**ANSWER_HEADERS, **headers})
                await answer.prepare(request)
                if request.method == "HEAD":  # which ComfyUI routes like GET
                    return answer
                async for piece in found.content.iter_chunked(_PIECE_BYTES):
                    await answer.write(piece)
                await answer.write_eof()
        except EngineUnavailable as error:
            if answer is None or not answer.prepared:
                return self._unavailable(route, str(error))
            abort_answer(request)
        return answer

    async def _bring_back(self, client: EngineClient, route: Route, path: str) -> web.Response:
        """Put an asset into ComfyUI's input directory, which the engine does not know."""
        try:
            answer = await client.call("GET", path, timeout_seconds=route.timeout_seconds)
            if answer.status != 200:
                return _as_response(answer)
            import folder_paths

            directory = Path(folder_paths.get_input_directory())
            content = partial(content_of, client, f"{path}/content")
            return web.json_response(await bring_back(answer.json(), directory, content))
        except EngineUnavailable as error:
            return self._unavailable(route, str(error))

    def _unavailable(self, route: Route, cause: str) -> web.Response:
        status = bare_status("unavailable", cause)
        return refusal(500 if route.name in ("start", "stop") else 503, cause, status=status)

    async def _on_startup(self, _: web.Application) -> None:
        self.start()

    async def _on_shutdown(self, application: web.Application) -> None:
        await self._streams.close(application)
        if self._jobs is not None:
            await asyncio.to_thread(self._jobs.stop, LAST_JOBS_SECONDS)
        if self._client is not None:
            await self._client.stop()

    def _at_exit(self) -> None:
        """Stop the client, because after Ctrl-C ComfyUI runs no `on_shutdown`, and its loop no longer runs."""
        client, loop = self._client, self._prompt_server.loop
        if client is None:
            return
        with contextlib.suppress(Exception):
            idle = not loop.is_running() and not loop.is_closed()
            if idle and client.pid is not None:
                with contextlib.suppress(asyncio.TimeoutError):
                    self._status = loop.run_until_complete(
                        asyncio.wait_for(client.status(), LAST_STATUS_SECONDS)
                    )
            line = farewell(self._status)
            if line:
                _log.warning("%s", line)
            if self._jobs is not None:
                self._jobs.stop(LAST_JOBS_SECONDS)
            client.release()
            if idle:
                loop.run_until_complete(asyncio.wait_for(client.stop(), 1.0))


def state_directory(folder_paths: Any) -> Path:
    """Return the state directory: in ComfyUI's user directory, where ComfyUI never serves it over HTTP."""
    ask = getattr(folder_paths, "get_system_user_directory", None)
    if ask is not None:
        return Path(ask("cloud_archive")).absolute()
    return Path(folder_paths.get_user_directory()).absolute() / "__cloud_archive"


def _as_response(answer: EngineAnswer) -> web.Response:
    headers = {"Content-Type": answer.content_type}
    return web.Response(status=answer.status, body=answer.body, headers=headers)


def _is_outdated(answer: Mapping[str, Any], place: str, is_passed_on: bool) -> bool:
    """Return whether ComfyUI knows more about a job than the engine; for the other arguments see `pass_on`."""
    if answer["state"] == "unknown":
        return True
    may_run_again = place in ("queued", "running") or not is_passed_on
    return may_run_again and answer.get("status") in ("interrupted", "removed")


async def _until_client_leaves(request: web.Request, call: Coroutine[Any, Any, EngineAnswer]) -> EngineAnswer:
    """Return the engine's answer. ComfyUI's server does not cancel a handler whose client goes away, so do it here."""
    task = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait({task}, timeout=_CLIENT_CHECK_SECONDS))[0]:
            if request.transport is None:
                raise ConnectionResetError("the client went away")
        return task.result()
    finally:
        task.cancel()


def _as_query(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in arguments.items() if value not in (None, "")}
