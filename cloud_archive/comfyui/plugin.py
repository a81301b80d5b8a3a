"""The adapter to ComfyUI: its routes, its directories, its websocket, its log. Nothing else of ours knows it.

`install` is called while ComfyUI loads its plugins. It registers the routes, and leaves the rest to the start
of ComfyUI's web application: only then are the directories final, and only then does the engine start.
A failure here is one sentence in the log; ComfyUI starts all the same.

This module is loaded into ComfyUI's process: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientTimeout, web

from ..api.routes import (
    ANSWER_HEADERS,
    ROUTES,
    STATUS_EVENT,
    Arguments,
    Handler,
    Route,
    bare_status,
    protect,
    refusal,
)
from ..errors import EngineUnavailable
from ..text import count_noun, format_bytes
from .bring_back import bring_back, content_of
from .engine_client import EngineAnswer, EngineClient
from .engine_connection import ORPHAN_SECONDS
from .job_capture import JobCapture
from .job_description import unfinished_job

_log = logging.getLogger("cloud_archive")

_REMEMBERED_SENTENCES = 500
_MARGIN_SECONDS = 5.0  # beyond the time that the engine gives itself for an answer
_ABANDONED_SECONDS = 1.0  # between two looks whether a client still waits
JOBS_SECONDS = 1.0  # how long the end of ComfyUI waits until the engine has the last finished jobs
ASK_SECONDS = 2.0  # how long the end of ComfyUI waits for what the engine says of unarchived files
PASS_ON_SECONDS = 2.0  # how long a call about a job waits until the engine has what ComfyUI knows of it
_AGAIN_SECONDS = 0.5  # until an engine that did not answer about a job is asked again
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
_NOT_CONFIGURED = (
    "Cloud Archive is not configured: set S3_BUCKET, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY (and "
    "S3_ENDPOINT_URL for any store but AWS) in ComfyUI's environment, then start it again."
)


def install() -> None:
    """Hook Cloud Archive into the ComfyUI of this process. Never raises."""
    try:
        from server import PromptServer

        Plugin(PromptServer.instance).install()
    except Exception as error:
        _log.warning("Cloud Archive is off: %s: %s.", type(error).__name__, error)


class Plugin:
    """Cloud Archive in one ComfyUI: between its PromptServer and the engine's client."""

    def __init__(self, prompt_server: Any, client: EngineClient | None = None) -> None:
        self._prompt_server = prompt_server
        self._client = client
        self._why_no_client = "ComfyUI has not started yet."
        self._jobs: JobCapture | None = None
        self._announcements = Announcements()
        self._status: Mapping[str, Any] = bare_status("starting")  # the last one that was heard

    def install(self) -> None:
        """Register the routes, and see to it that the engine starts and ends with ComfyUI."""
        table = self._prompt_server.routes
        if any(getattr(route, "path", None) == ROUTES[0].path for route in table):
            # aiohttp refuses a second handler for a path only when ComfyUI starts, and that would end it.
            _log.warning("Cloud Archive is installed twice under custom_nodes: the second copy stays off.")
            return
        for route in ROUTES:
            table.route(route.method, route.path)(protect(route, self._forwarder(route)))
        application = getattr(self._prompt_server, "app", None)
        try:
            application.on_startup.append(self._on_startup)  # type: ignore[union-attr]
        except (AttributeError, RuntimeError):  # a ComfyUI that builds its application otherwise
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
            with contextlib.suppress(AttributeError):  # a ComfyUI without such handlers
                self._prompt_server.add_on_prompt_handler(self._on_prompt)

    def _on_prompt(self, prompt: Any) -> Any:
        if self._jobs is not None and self._status.get("state") != "not_configured":
            self._jobs.expect()
        return prompt

    def _on_status(self, status: dict[str, Any]) -> None:
        before, self._status = self._status.get("state"), status
        # Settings are read once: an engine that isn't configured will never keep a job.
        if self._jobs is not None and status.get("state") != "not_configured":
            # An engine that starts or stands by takes no job: as soon as it archives, it is asked again.
            self._jobs.wake(at_once=before in _TAKES_NO_JOBS and status.get("state") not in _TAKES_NO_JOBS)
        self._announcements.hear(status)
        # ComfyUI encodes it later; this object is never changed after it was decoded.
        self._prompt_server.send_sync(STATUS_EVENT, status)

    def _forwarder(self, route: Route) -> Handler:
        async def forward(request: web.Request, arguments: Arguments) -> web.StreamResponse:
            client = self._client
            if client is None:
                return self._unavailable(route, self._why_no_client)
            if route.name == "status":
                return web.json_response(await client.status())
            asked = dict(arguments)
            path = route.path
            for name in _PATH_ARGUMENTS:
                path = path.replace(f"{{{name}}}", asked.pop(name, ""))
            if route.name == "job":
                return await self._job(client, request, route, path, arguments)
            if route.name in ("content", "thumbnail", "zip"):
                return await self._stream(client, request, route, path, _as_query(asked))
            if route.name == "bring_back":
                return await self._bring_back(client, route, path.removesuffix("/bring-back"))
            has_body = route.method != "GET"
            try:
                call = client.call(
                    route.method,
                    path,
                    json=asked if has_body else None,
                    query=None if has_body else _as_query(asked),
                    timeout_seconds=route.timeout_seconds
                    + asked.get("timeout_seconds", 0.0)
                    + _MARGIN_SECONDS,
                )
                return _passed(await _unless_abandoned(request, call))
            except EngineUnavailable as error:
                return self._unavailable(route, str(error))

        return forward

    async def _job(
        self, client: EngineClient, request: web.Request, route: Route, path: str, arguments: Arguments
    ) -> web.StreamResponse:
        """Ask about a job; while there is time to wait, also beyond an engine that ends and starts again."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + arguments["wait"]
        while True:
            left = max(0.0, deadline - loop.time())
            # A call that does not wait must find a prompt known that was just queued, or has just ended. The others
            # hold no thread for that: the engine waits a moment for a job that it does not know yet.
            patience = 0.0 if left else PASS_ON_SECONDS
            place = await asyncio.to_thread(self._place_of, arguments["prompt_id"], patience)
            query = {"wait": f"{left:.3f}", "urls": str(arguments["urls"])}
            seconds = route.timeout_seconds + left + _MARGIN_SECONDS
            try:
                call = client.call(route.method, path, query=query, timeout_seconds=seconds)
                found = await _unless_abandoned(request, call)
                answer, is_known = _passed(found), found.status != 200 or found.json()["state"] != "unknown"
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
            await asyncio.sleep(_AGAIN_SECONDS)

    def _place_of(self, prompt_id: str, patience: float) -> str:
        return "" if self._jobs is None else self._jobs.pass_on(prompt_id, patience)

    async def _stream(
        self, client: EngineClient, request: web.Request, route: Route, path: str, query: Mapping[str, str]
    ) -> web.StreamResponse:
        """Pass an answer of any size through, piece by piece."""
        seconds = route.timeout_seconds + _MARGIN_SECONDS
        timeout = ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        ranges = {name: request.headers[name] for name in ("Range",) if name in request.headers}
        answer: web.StreamResponse | None = None
        try:
            async with client.open(route.method, path, query=query, headers=ranges, timeout=timeout) as found:
                headers = {name: found.headers[name] for name in _PASSED_HEADERS if name in found.headers}
                answer = web.StreamResponse(status=found.status, headers={**ANSWER_HEADERS, **headers})
                await answer.prepare(request)
                async for piece in found.content.iter_chunked(_PIECE_BYTES):
                    await answer.write(piece)
                await answer.write_eof()
        except EngineUnavailable as error:
            if answer is None or not answer.prepared:
                return self._unavailable(route, str(error))
            if request.transport is not None:
                request.transport.close()  # so that the client sees that the answer is not whole
        return answer

    async def _bring_back(self, client: EngineClient, route: Route, path: str) -> web.Response:
        """Put an asset into ComfyUI's input directory, which the engine does not know."""
        try:
            answer = await client.call("GET", path, timeout_seconds=route.timeout_seconds)
            if answer.status != 200:
                return _passed(answer)
            import folder_paths

            directory = Path(folder_paths.get_input_directory())
            content = partial(content_of, client, f"{path}/content")
            return web.json_response(await bring_back(answer.json(), directory, content))
        except EngineUnavailable as error:
            return self._unavailable(route, str(error))

    def _unavailable(self, route: Route, cause: str) -> web.Response:
        status = bare_status("unavailable", cause)
        if route.name == "status":
            return web.json_response(status)
        return refusal(500 if route.name in ("start", "stop") else 503, cause, status=status)

    async def _on_startup(self, _: web.Application) -> None:
        self.start()

    async def _on_shutdown(self, _: web.Application) -> None:
        if self._jobs is not None:
            await asyncio.to_thread(self._jobs.stop, JOBS_SECONDS)
        if self._client is not None:
            await self._client.stop()

    def _at_exit(self) -> None:
        """ComfyUI runs no clean-up on Ctrl-C: end our tasks in its loop, which no longer runs."""
        client, loop = self._client, self._prompt_server.loop
        if client is None:
            return
        with contextlib.suppress(Exception):
            idle = not loop.is_running() and not loop.is_closed()
            if idle and client.pid is not None:
                with contextlib.suppress(asyncio.TimeoutError):
                    self._status = loop.run_until_complete(asyncio.wait_for(client.status(), ASK_SECONDS))
            line = farewell(self._status)
            if line:
                _log.warning("%s", line)
            if self._jobs is not None:
                self._jobs.stop(JOBS_SECONDS)
            client.release()
            if idle:
                loop.run_until_complete(asyncio.wait_for(client.stop(), 1.0))


def state_directory(folder_paths: Any) -> Path:
    """Return where the ledger lives: ComfyUI's system user directory, which is never served over HTTP."""
    ask = getattr(folder_paths, "get_system_user_directory", None)
    if ask is not None:
        return Path(ask("cloud_archive")).absolute()
    return Path(folder_paths.get_user_directory()).absolute() / "__cloud_archive"


def _passed(answer: EngineAnswer) -> web.Response:
    headers = {"Content-Type": answer.content_type}
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def _unless_abandoned(request: web.Request, call: Coroutine[Any, Any, EngineAnswer]) -> EngineAnswer:
    """Wait for the engine's answer, and cancel the call when its client goes away.

    ComfyUI does not cancel a handler whose client has gone, and nothing notifies it: so it looks now and then.
    """
    task = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait({task}, timeout=_ABANDONED_SECONDS))[0]:
            if request.transport is None:
                raise ConnectionResetError("the client went away")
        return task.result()
    finally:
        task.cancel()


def farewell(status: Mapping[str, Any]) -> str:
    """Return the line with which ComfyUI ends where not everything is archived; else an empty text."""
    if status["state"] == "unavailable":
        cause = " ".join(status["errors"][-1:])
        return f"Cloud Archive can't tell whether everything is archived: {cause} The next start checks."
    pending, failed = status["pending_files"], status["failed_files"]
    count = pending + failed
    if not count or status["state"] in ("not_configured", "standby"):
        return ""
    verb = "is" if count == 1 else "are"
    files = f"{count_noun(count, 'file')} ({format_bytes(status['pending_bytes'])})"
    what = f"Cloud Archive: {files} {verb} not archived yet"
    if failed:
        what += f", {failed:,} of {'it' if count == 1 else 'them'} because of an error"
    if status["state"] == "stopped" or not pending:
        return f"{what}. The next start continues."
    return (
        f"{what}. Uploads continue in the background for up to {ORPHAN_SECONDS:.0f} s, and at the next start."
    )


def _as_query(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in arguments.items() if value not in (None, "")}


class Announcements:
    """What of the stream of statuses is worth a line in ComfyUI's log: transitions, each sentence once."""

    def __init__(self) -> None:
        self.root = "the output directory"
        self._said: OrderedDict[str, None] = OrderedDict()
        self._last = ""
        self._older_said = False

    def hear(self, status: Mapping[str, Any]) -> None:
        """Log what is new in this status."""
        state = status.get("state")
        errors = [str(sentence) for sentence in status.get("errors") or []]
        if state == "not_configured":
            self._transition(logging.INFO, _NOT_CONFIGURED)
            # The hint above names the missing ones; what is wrong beyond that is news.
            errors = [sentence for sentence in errors if "is not set" not in sentence]
        elif state == "standby":
            self._transition(
                logging.INFO, f"Cloud Archive: another process archives {self.root}; standing by"
            )
        elif state == "stopped":
            self._transition(logging.INFO, f"Cloud Archive: not watching {self.root}")
        elif status.get("running") and status.get("connection_verified"):
            self._transition(logging.INFO, f"Cloud Archive: archiving {self.root} to {_to(status)}")
        elif state == "unavailable":
            self._last = ""
        for sentence in errors:
            self._sentence(sentence)
        older = status.get("baseline_files", 0)
        if older and not self._older_said:
            self._older_said = True
            verb = "is" if older == 1 else "are"
            _log.info(
                "Cloud Archive: %s from before the first start %s not archived; the panel has a button for that",
                count_noun(older, "file"),
                verb,
            )

    def _transition(self, level: int, line: str) -> None:
        if line != self._last:
            self._last = line
            _log.log(level, "%s", line)

    def _sentence(self, sentence: str) -> None:
        if sentence in self._said:
            self._said.move_to_end(sentence)
            return
        self._said[sentence] = None
        if len(self._said) > _REMEMBERED_SENTENCES:
            self._said.popitem(last=False)
        _log.warning("Cloud Archive: %s", sentence)


def _to(status: Mapping[str, Any]) -> str:
    destination = status.get("destination") or {}
    place = f"{destination.get('bucket', '')}/{destination.get('prefix', '')}".rstrip("/")
    endpoint = destination.get("endpoint")
    return f"{place} at {endpoint}" if endpoint else place
