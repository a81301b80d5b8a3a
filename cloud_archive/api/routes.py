"""The `/cloud-sync` route table, and the checks that stand before every handler in both processes.

ComfyUI's process and the engine's own server register the same `ROUTES`; each wraps its handlers in
`protect`, which refuses what must not come through and turns every failure into a JSON answer. A face that
forwards a call has thereby checked it before the engine hears of it.

This module is loaded into ComfyUI's process: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from .. import __version__
from ..errors import CatalogError, CloudArchiveError, EngineUnavailable, RequestRefused, StoreError
from .asset_arguments import asset_id_of, edit_arguments, facet_arguments, search_arguments
from .gallery_arguments import zip_arguments
from .job_arguments import job_arguments, passed_jobs
from .share_arguments import share_arguments

_log = logging.getLogger("cloud_archive.routes")

MAX_BODY_BYTES = 64 * 1024
MAX_JOBS_BODY_BYTES = 16 * 1024 * 1024
BODY_SECONDS = 10.0
MAX_FLUSH_SECONDS = 3600.0
DEFAULT_FLUSH_SECONDS = 60.0
DEFAULT_FILES = 100
MAX_FILES = 500
MAX_QUERY_CHARACTERS = 1024
REPORT_STEPS: Mapping[str, int] = {"hour": 24, "day": 30}  # and how many of them where a call does not say
MAX_REPORT_ROWS = 1000
FILE_STATES = ("pending", "uploading", "archived", "failed", "vanished", "pruned", "retrying", "given_up")
# Files without a row in the ledger: left out by the settings, or older than the archive. Only one at a time.
UNARCHIVED_STATES = ("skipped", "baseline", "unarchived")

EVENTS_PATH = "/cloud-sync/events"
STATUS_EVENT = "cloud-sync.status"
HEALTH_PATH = "/engine/health"
JOBS_PATH = "/engine/jobs"
# ComfyUI's process sets it on what it forwards: CLOUD_ARCHIVE_GALLERY counts for pages, not for the command.
GALLERY_HEADER = "X-Cloud-Archive-Gallery"

UNEXPECTED = "Cloud Archive met an unexpected error; its log has the details."

# On every answer. The rules are those of https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html
ANSWER_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

Arguments = dict[str, Any]
"""What a call asks for, checked: the members of its JSON body, or its query."""

Handler = Callable[[web.Request, Arguments], Awaitable[web.StreamResponse]]
PlainHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the contract.

    Attributes:
        method: the HTTP method.
        path: as registered; ComfyUI adds its `/api` twin by itself.
        name: what the handler is called.
        changes_state: True where a request from another site is refused.
        timeout_seconds: how long a face waits for the engine's answer; `flush` adds what the call asks for.
        max_body_bytes: a larger body is refused.
    """

    method: str
    path: str
    name: str
    changes_state: bool
    timeout_seconds: float
    max_body_bytes: int = MAX_BODY_BYTES


ROUTES: tuple[Route, ...] = (
    Route("GET", "/cloud-sync/status", "status", False, 10),
    Route("POST", "/cloud-sync/start", "start", True, 30),
    Route("POST", "/cloud-sync/stop", "stop", True, 60),
    Route("POST", "/cloud-sync/upload", "upload", True, 40),  # the engine answers after 20 s at the latest
    Route("POST", "/cloud-sync/rescan", "rescan", True, 60),
    Route("POST", "/cloud-sync/retry", "retry", True, 30),
    Route("POST", "/cloud-sync/backfill", "backfill", True, 30),  # archive what is older than the first start
    Route("POST", "/cloud-sync/flush", "flush", True, 15),
    Route("GET", "/cloud-sync/files", "files", False, 20),
    Route("GET", "/cloud-sync/report", "report", False, 20),
    Route("POST", "/cloud-sync/check", "check", True, 60),
    Route("GET", "/cloud-sync/check", "last_check", False, 10),
    Route("GET", "/cloud-sync/metrics", "metrics", False, 10),
    Route("GET", "/cloud-sync/assets", "assets", False, 20),
    Route("GET", "/cloud-sync/assets/{id}", "asset", False, 10),
    Route("PATCH", "/cloud-sync/assets/{id}", "edit_asset", True, 20),
    Route("GET", "/cloud-sync/assets/{id}/content", "content", False, 60),
    Route("GET", "/cloud-sync/assets/{id}/thumbnail", "thumbnail", False, 60),
    Route("GET", "/cloud-sync/assets/{id}/workflow", "workflow", False, 60),
    Route("GET", "/cloud-sync/assets/{id}/prompt", "prompt", False, 60),
    Route("POST", "/cloud-sync/assets/{id}/bring-back", "bring_back", True, 60),
    Route("GET", "/cloud-sync/assets.zip", "zip", False, 60),
    Route("GET", "/cloud-sync/facets", "facets", False, 20),
    Route("POST", "/cloud-sync/share", "share", True, 600),
    Route("GET", "/cloud-sync/jobs/{prompt_id}", "job", False, 20),
)


def protect(route: Route, handler: Handler) -> PlainHandler:
    """Wrap `handler` with the checks of its route; an exception becomes a JSON answer without a traceback."""

    async def protected(request: web.Request) -> web.StreamResponse:
        try:
            if route.changes_state:
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
        if not answer.prepared:
            for name, value in ANSWER_HEADERS.items():
                answer.headers.setdefault(name, value)
        return answer

    return protected


def refusal(http_status: int, message: str, /, **more: object) -> web.Response:
    """Return the answer to a call that was not carried out."""
    return web.json_response({"success": False, "message": message, **more}, status=http_status)


def error_answer(error: CloudArchiveError | web.HTTPException) -> web.Response:
    """Return the answer for an exception of ours, or of aiohttp's (404, 405, 413)."""
    if isinstance(error, web.HTTPException):
        answer = refusal(error.status, f"{error.reason}.")
        for name in ("Allow", "Location"):
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
    """Refuse what a page of another site can make a browser send.

    An `Origin` is compared with `Host` by host and port; its scheme is left out, because a proxy may end TLS
    before us. `Sec-Fetch-Site: same-site` is another port or subdomain, and so another site here. Browsers send
    `Origin` with every POST; with a GET they may send neither header
    (https://fetch.spec.whatwg.org/#origin-header), so no GET may change anything. Those that contact the store
    are checked too, and need an id that another site can't guess.

    Raises:
        RequestRefused: 403.
    """
    sites = {site.strip().lower() for site in request.headers.getall("Sec-Fetch-Site", [])}
    if sites & {"cross-site", "same-site"}:
        raise RequestRefused(403, "Refused: the request comes from another site.")
    origins = request.headers.getall("Origin", [])
    host = request.headers.get("Host", "")
    if any(not _same_host(origin, host) for origin in origins):
        raise RequestRefused(403, "Refused: the request's Origin is not this server.")


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
        RequestRefused: 400 (no or bad body or argument), 408 (the body takes too long), 413 (larger than
            the route takes), 415 (body not JSON).
    """
    identity = {"id": asset_id_of(request.match_info["id"])} if "{id}" in route.path else {}
    if route.name in ("content", "zip"):
        refuse_cross_site(request)  # it may cost a request to the store
    if route.name == "job":
        refuse_cross_site(request)  # its answer may hold links
        return job_arguments(request.match_info["prompt_id"], request.query)
    if route.method == "GET":
        check = _QUERY_CHECKS.get(route.name)
        return identity if check is None else check(request.query)
    body = await _read_body(request, route.max_body_bytes)
    if route.name == "upload":
        return {"file_path": _file_path(body)}
    if route.name == "rescan":
        return {"accept_root": _accept_root(body)}
    if route.name == "flush":
        return {"timeout_seconds": _timeout_seconds(body)}
    if route.name == "jobs":
        return passed_jobs(body)
    if route.name == "share":
        return share_arguments(body)
    if route.name == "edit_asset":
        return {**edit_arguments(body), **identity}
    return identity


async def _read_body(request: web.Request, max_bytes: int) -> Mapping[str, object]:
    # A body without a type is refused like a form: a page may send both anywhere without being asked first
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


def _file_path(body: Mapping[str, object]) -> str:
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
        raise RequestRefused(400, "file_path holds characters that no file name can.") from error
    return path


def _accept_root(body: Mapping[str, object]) -> bool:
    accept = body.get("accept_root", False)
    if not isinstance(accept, bool):
        raise RequestRefused(400, "accept_root must be true or false.")
    return accept


def _timeout_seconds(body: Mapping[str, object]) -> float:
    seconds = body.get("timeout_seconds", DEFAULT_FLUSH_SECONDS)
    # bool is a number to Python, and json.loads reads NaN and Infinity.
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        seconds = math.nan
    if 0 <= seconds <= MAX_FLUSH_SECONDS:  # false for NaN
        return float(seconds)
    raise RequestRefused(400, f"timeout_seconds must be a number from 0 to {MAX_FLUSH_SECONDS:.0f}.")


def _files_arguments(query: Mapping[str, str]) -> Arguments:
    state = query.get("state") or None
    if state not in (None, *UNARCHIVED_STATES) and not set(state.split(",")) <= set(FILE_STATES):
        raise RequestRefused(
            400,
            f"state must be one of {', '.join(FILE_STATES)}, or several of these with commas between,"
            f" or {' or '.join(UNARCHIVED_STATES)}.",
        )
    try:
        limit = int(query.get("limit") or DEFAULT_FILES)
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_FILES:
        raise RequestRefused(400, f"limit must be a whole number from 1 to {MAX_FILES}.")
    text, cursor = query.get("q", ""), query.get("cursor") or None
    for name, value in (("q", text), ("cursor", cursor or "")):
        if len(value) > MAX_QUERY_CHARACTERS:
            raise RequestRefused(400, f"{name} takes {MAX_QUERY_CHARACTERS} characters at most.")
    return {"state": state, "q": text, "limit": limit, "cursor": cursor}


def _report_arguments(query: Mapping[str, str]) -> Arguments:
    by = query.get("by") or "day"
    if by not in REPORT_STEPS:
        raise RequestRefused(400, f"by must be one of {', '.join(REPORT_STEPS)}.")
    try:
        last = int(query.get("last") or REPORT_STEPS[by])
    except ValueError:
        last = 0
    if not 1 <= last <= MAX_REPORT_ROWS:
        raise RequestRefused(400, f"last must be a whole number from 1 to {MAX_REPORT_ROWS}.")
    return {"by": by, "last": last}


_QUERY_CHECKS: Mapping[str, Callable[[Mapping[str, str]], Arguments]] = {
    "files": _files_arguments,
    "report": _report_arguments,
    "assets": search_arguments,
    "facets": facet_arguments,
    "zip": zip_arguments,
}


def bare_status(state: str, cause: str = "") -> dict[str, Any]:
    """Return the status object of no engine: every field, each empty."""
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
