"""The table of the `/cloud-sync` routes, and the checks before every handler in both processes.

ComfyUI's process and the engine's own server register the same `ROUTES`, and each wraps its handlers in `protect`. So
the plugin has checked a call before it forwards it.

Loaded into ComfyUI's process: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from .. import __version__
from ..errors import CatalogError, CloudArchiveError, EngineUnavailable, RequestRefused, StoreError
from .asset_arguments import asset_id_of, edit_arguments, facet_arguments, search_arguments, zip_arguments
from .checks import as_query, flag, limited_text, number_or_nan, whole_number
from .job_arguments import captured_jobs_arguments, job_arguments
from .share_arguments import share_arguments

_log = logging.getLogger("cloud_archive.routes")

MAX_BODY_BYTES = 64 * 1024
MAX_JOBS_BODY_BYTES = 16 * 1024 * 1024
BODY_SECONDS = 10.0
MAX_FLUSH_SECONDS = 3600.0
DEFAULT_FLUSH_SECONDS = 60.0
DEFAULT_FILES = 100
MAX_FILES = 500
MAX_FILES_QUERY_CHARACTERS = 1024  # also of its cursor
REPORT_STEPS: Mapping[str, int] = {"hour": 24, "day": 30}  # each with its default for `last`
MAX_REPORT_ROWS = 1000
FILE_STATES = ("pending", "uploading", "archived", "failed", "vanished", "pruned")
# Each can only be named alone. The first two divide the failed files. The others are files without a row in the ledger:
# those left out, those from before archiving began, and all of them.
SINGLE_STATES = ("retrying", "given_up", "skipped", "baseline", "unarchived")

EVENTS_PATH = "/cloud-sync/events"
STATUS_EVENT = "cloud-sync.status"
HEALTH_PATH = "/engine/health"
JOBS_PATH = "/engine/jobs"
# ComfyUI's process adds it to each call that it forwards: CLOUD_ARCHIVE_GALLERY limits pages, not the command.
GALLERY_HEADER = "X-Cloud-Archive-Gallery"

UNEXPECTED = "Cloud Archive met an unexpected error; its log has the details."

# These are on every answer; see https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html
ANSWER_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

Arguments = dict[str, Any]
"""The checked arguments of a call: from its path, and from its query or its JSON body."""

Handler = Callable[[web.Request, Arguments], Awaitable[web.StreamResponse]]
PlainHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the HTTP interface.

    Attributes:
        method: the HTTP method.
        path: ComfyUI also serves it below `/api`.
        name: the name of its handler.
        same_site_only: refuse a request from another site: the call changes something, may contact the store, or
            waits.
        timeout_seconds: how long the engine may take to answer; the plugin waits a little longer. `flush` adds its
            `timeout_seconds`, and `job` its `wait`; `events` has no limit.
        max_body_bytes: a larger body is refused.
    """

    method: str
    path: str
    name: str
    same_site_only: bool
    timeout_seconds: float
    max_body_bytes: int = MAX_BODY_BYTES


ROUTES: tuple[Route, ...] = (
    Route("GET", "/cloud-sync/status", "status", False, 10),
    Route("POST", "/cloud-sync/start", "start", True, 30),
    Route("POST", "/cloud-sync/stop", "stop", True, 60),
    Route("POST", "/cloud-sync/upload", "upload", True, 40),  # the engine waits 20 s; hashing may take longer
    Route("POST", "/cloud-sync/rescan", "rescan", True, 60),
    Route("POST", "/cloud-sync/retry", "retry", True, 30),
    Route("POST", "/cloud-sync/backfill", "backfill", True, 30),  # files from before archiving began
    Route("POST", "/cloud-sync/flush", "flush", True, 15),
    Route("GET", "/cloud-sync/files", "files", False, 20),
    Route("GET", "/cloud-sync/report", "report", False, 20),
    Route("POST", "/cloud-sync/check", "check", True, 60),
    Route("GET", "/cloud-sync/check", "last_check", False, 10),
    Route("GET", "/cloud-sync/metrics", "metrics", False, 10),
    Route("GET", EVENTS_PATH, "events", True, 0),  # another site must not hold streams open
    Route("GET", "/cloud-sync/assets", "assets", True, 20),
    # The same as GET, because ComfyUI refuses a URL of more than 8,190 bytes: 900 characters of Chinese.
    Route("POST", "/cloud-sync/assets", "assets", True, 20),
    Route("POST", "/cloud-sync/facets", "facets", True, 20),
    Route("GET", "/cloud-sync/assets/{id}", "asset", False, 10),
    Route("PATCH", "/cloud-sync/assets/{id}", "edit_asset", True, 20),
    Route("GET", "/cloud-sync/assets/{id}/content", "content", True, 60),
    Route("GET", "/cloud-sync/assets/{id}/thumbnail", "thumbnail", True, 60),
    Route("GET", "/cloud-sync/assets/{id}/workflow", "workflow", True, 60),
    Route("GET", "/cloud-sync/assets/{id}/prompt", "prompt", True, 60),
    Route("POST", "/cloud-sync/assets/{id}/bring-back", "bring_back", True, 60),
    Route("GET", "/cloud-sync/assets.zip", "zip", True, 60),
    Route("GET", "/cloud-sync/facets", "facets", True, 20),
    Route("POST", "/cloud-sync/share", "share", True, 600),
    Route("GET", "/cloud-sync/jobs/{prompt_id}", "job", True, 20),
)

ROUTE_SECONDS: Mapping[str, float] = {route.name: route.timeout_seconds for route in ROUTES}


def protect(route: Route, handler: Handler) -> PlainHandler:
    """Wrap `handler` with the checks of its route; an exception becomes a JSON answer without a traceback."""

    async def protected(request: web.Request) -> web.StreamResponse:
        try:
            if route.same_site_only:
                refuse_cross_site(request)
            answer = await handler(request, await read_arguments(route, request))
        except (CloudArchiveError, web.HTTPException) as error:
            answer = error_answer(error)
        except Exception as error:
            if isinstance(error, ConnectionError) and request.transport is None:
                answer = refusal(400, "The client went away.")  # it is neither read nor logged
            else:
                _log.exception("%s %s failed", route.method, route.path)
                answer = refusal(500, UNEXPECTED)
        add_answer_headers(answer)
        return answer

    return protected


def add_answer_headers(answer: web.StreamResponse) -> None:
    """Add `ANSWER_HEADERS` to an answer that is not sent yet; headers that it has stay."""
    if not answer.prepared:
        for name, value in ANSWER_HEADERS.items():
            answer.headers.setdefault(name, value)


def abort_answer(request: web.Request) -> None:
    """Close the connection of an answer that has begun, so that the client sees that the answer is not complete."""
    if request.transport is not None:
        request.transport.close()


def refusal(http_status: int, message: str, /, **more: object) -> web.Response:
    """Return the answer to a call that was not carried out."""
    return web.json_response({"success": False, "message": message, **more}, status=http_status)


def error_answer(error: CloudArchiveError | web.HTTPException) -> web.Response:
    """Return the answer for an exception of ours or aiohttp's."""
    if isinstance(error, web.HTTPException):
        answer = refusal(error.status, f"{error.reason}.")
        for name in ("Allow", "Location", "WWW-Authenticate"):
            if name in error.headers:
                answer.headers[name] = error.headers[name]
        return answer
    if isinstance(error, RequestRefused):
        return refusal(error.status, str(error))
    if isinstance(error, StoreError):
        return refusal(502, str(error))
    unavailable = isinstance(error, (EngineUnavailable, CatalogError))
    return refusal(503 if unavailable else 500, str(error))


def refuse_cross_site(request: web.Request) -> None:
    """Refuse a request that a page of another site makes a browser send.

    `Origin` is compared with `Host` by host and port, not by scheme, because a proxy may end TLS before us.
    `Sec-Fetch-Site: same-site` means another port or subdomain, which is another site here. Browsers send `Origin`
    with every POST. With a GET old browsers send neither header (https://fetch.spec.whatwg.org/#origin-header), so
    no GET may change anything.

    Raises:
        RequestRefused: 403.
    """
    sites = {site.strip().lower() for site in request.headers.getall("Sec-Fetch-Site", [])}
    if sites & {"cross-site", "same-site"}:
        raise RequestRefused(403, "Refused: the request comes from another site.")
    origins = request.headers.getall("Origin", [])
    host = request.headers.get("Host", "")
    if any(not _same_host(origin, host) for origin in origins):
        raise RequestRefused(
            403,
            "Refused: the request's Origin is not its Host. If a proxy is in front of this server, let it pass on the"
            " Host header.",
        )


def _same_host(origin: str, host: str) -> bool:
    default_ports = {"http": 80, "https": 443}
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        default = default_ports.get(theirs.scheme)
        if default is None or theirs.username is not None or ours.username is not None:
            return False
        same_port = (theirs.port or default) == (ours.port or default)
        return bool(theirs.hostname) and theirs.hostname == ours.hostname and same_port
    except ValueError:
        return False


async def read_arguments(route: Route, request: web.Request) -> Arguments:
    """Return the call's arguments, each checked.

    Raises:
        RequestRefused: 400 (an argument is missing or bad, or the body can't be read or is no JSON object), 404 (no
            asset can have this id), 408 (the body takes longer than `BODY_SECONDS`), 413 (it is larger than the route
            takes), 415 (it is not declared as JSON).
    """
    identity = {"id": asset_id_of(request.match_info["id"])} if "{id}" in route.path else {}
    if route.name == "job":
        return job_arguments(request.match_info["prompt_id"], request.query)
    if route.method == "GET":
        query_check = _QUERY_CHECKS.get(route.name)
        return {**(query_check(request.query) if query_check else {}), **identity}
    body = await _read_body(request, route.max_body_bytes)
    body_check = _BODY_CHECKS.get(route.name)
    return {**(body_check(body) if body_check else {}), **identity}


async def _read_body(request: web.Request, max_bytes: int) -> Mapping[str, object]:
    # A body without a type is refused like a form: a browser sends both to another site without a CORS preflight
    # (https://fetch.spec.whatwg.org/#cors-safelisted-request-header). An empty form is still a form.
    kind = request.content_type
    form = kind.startswith(("text/", "multipart/")) or kind == "application/x-www-form-urlencoded"
    if form or (request.body_exists and kind != "application/json"):
        raise RequestRefused(415, "The body must be JSON, with Content-Type: application/json.")
    try:
        content = await asyncio.wait_for(_read_content(request, max_bytes), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise RequestRefused(408, f"The body did not arrive within {BODY_SECONDS:g} s.") from None
    except web.RequestPayloadError as error:
        raise RequestRefused(400, "The body can't be read.") from error
    if request.transport is None:
        # Before Python 3.12 `wait_for` returns the body where the cancellation comes at the same moment.
        raise ConnectionResetError
    if not content.strip():
        return {}
    try:
        body = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, "The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise RequestRefused(400, "The body must be a JSON object.")
    return body


async def _read_content(request: web.Request, max_bytes: int) -> bytes:
    content = bytearray()
    while piece := await request.content.read(max_bytes + 1 - len(content)):
        content += piece
        if len(content) > max_bytes:
            raise RequestRefused(413, f"The body is larger than {max_bytes} bytes.")
    return bytes(content)


def _upload_arguments(body: Mapping[str, object]) -> Arguments:
    example = 'such as {"file_path": "image_01.png"}'
    path = body.get("file_path")
    if path is None:
        raise RequestRefused(400, f"file_path is missing: send a JSON object {example}.")
    if not isinstance(path, str) or not path.strip():
        raise RequestRefused(400, f"file_path must be a non-empty text, {example}.")
    if "\0" in path:
        raise RequestRefused(400, "file_path must not hold a NUL character.")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise RequestRefused(400, "file_path holds characters that a file name can't hold.") from error
    return {"file_path": path}


def _flush_arguments(body: Mapping[str, object]) -> Arguments:
    seconds = number_or_nan(body.get("timeout_seconds", DEFAULT_FLUSH_SECONDS))
    if 0 <= seconds <= MAX_FLUSH_SECONDS:  # false for NaN
        return {"timeout_seconds": seconds}
    raise RequestRefused(400, f"timeout_seconds must be a number from 0 to {MAX_FLUSH_SECONDS:.0f}.")


def _files_arguments(query: Mapping[str, str]) -> Arguments:
    state = query.get("state") or None
    if state not in (None, *SINGLE_STATES) and not set(state.split(",")) <= set(FILE_STATES):
        raise RequestRefused(
            400,
            f"state must be one or several (with commas between) of {', '.join(FILE_STATES)}; or one of"
            f" {', '.join(SINGLE_STATES)}.",
        )
    return {
        "state": state,
        "q": limited_text(query, "q", MAX_FILES_QUERY_CHARACTERS),
        "limit": whole_number(query, "limit", DEFAULT_FILES, MAX_FILES),
        "cursor": limited_text(query, "cursor", MAX_FILES_QUERY_CHARACTERS) or None,
    }


def _report_arguments(query: Mapping[str, str]) -> Arguments:
    by = query.get("by") or "day"
    if by not in REPORT_STEPS:
        raise RequestRefused(400, f"by must be one of {', '.join(REPORT_STEPS)}.")
    return {"by": by, "last": whole_number(query, "last", REPORT_STEPS[by], MAX_REPORT_ROWS)}


_QUERY_CHECKS: Mapping[str, Callable[[Mapping[str, str]], Arguments]] = {
    "files": _files_arguments,
    "report": _report_arguments,
    "assets": search_arguments,
    "facets": facet_arguments,
    "zip": zip_arguments,
}
_BODY_CHECKS: Mapping[str, Callable[[Mapping[str, object]], Arguments]] = {
    "upload": _upload_arguments,
    "rescan": lambda body: {"accept_root": flag(body, "accept_root")},
    "flush": _flush_arguments,
    "jobs": captured_jobs_arguments,
    "share": share_arguments,
    "edit_asset": edit_arguments,
    "assets": lambda body: search_arguments(as_query(body)),
    "facets": lambda body: facet_arguments(as_query(body)),
}


def bare_status(state: str, cause: str = "") -> dict[str, Any]:
    """Return a status object for when no engine answers: every field, each with its empty value.

    Args:
        state: the value of `state`.
        cause: a sentence for `errors`; empty: none.
    """
    return {
        "running": False,
        "session_id": "",
        "state": state,
        "uploading": False,
        "safe_to_stop": False,
        "total_files": 0,
        "uploaded_files": 0,
        "failed_files": 0,
        "already_archived_files": 0,
        "pending_files": 0,
        "pending_bytes": 0,
        "vanished_files": 0,
        "skipped_files": 0,
        "baseline_files": 0,
        "unchecked_files": 0,
        "retrying_files": 0,
        "unsent_bytes": 0,
        "archived_files": 0,
        "archived_bytes": 0,
        "pruned_files": 0,
        "last_upload_time": None,
        "errors": [cause] if cause else [],
        "recent_uploads": [],
        "active": [],
        "waiting": [],
        "rate_bytes_per_second": 0,
        "seconds_left": None,
        "destination": {"endpoint": "", "bucket": "", "prefix": ""},
        "watched_directory": "",
        "watching": "",
        "connection_verified": False,
        "keeps_local_files": True,
        "waiting_webhooks": 0,
        "unwritten_rows": 0,
        "overwrite_risk": "",
        "version": __version__,
    }
