"""Answer the `/cloud-sync` routes from memory, so that a test can show every state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Push = Callable[[str, dict[str, Any]], Awaitable[None]]

EVENT = "cloud-sync.status"


def a_status(**changes: Any) -> dict[str, Any]:
    """Return a status object of the contract: the engine runs, and everything is archived."""
    status: dict[str, Any] = {
        "running": True,
        "session_id": "5f0f7f0e-5a5c-4d6e-8f53-0d6c2b7f1d11",
        "total_files": 0,
        "uploaded_files": 0,
        "failed_files": 0,
        "last_upload_time": None,
        "errors": [],
        "recent_uploads": [],
        "uploading": False,
        "state": "idle",
        "safe_to_stop": True,
        "pending_files": 0,
        "pending_bytes": 0,
        "already_archived_files": 0,
        "retrying_files": 0,
        "unsent_bytes": 0,
        "archived_files": 0,
        "rate_bytes_per_second": 0,
        "seconds_left": None,
        "waiting": [],
        "active": [],
        "destination": {
            "endpoint": "s3.example.net:443",
            "bucket": "studio-renders",
            "prefix": "comfyui-outputs/{Y}-{m}",
        },
        "watching": "native events (inotify)",
        "keeps_local_files": True,
        "overwrite_risk": "",
        "connection_verified": True,
        "skipped_files": 0,
        "baseline_files": 0,
        "watched_directory": "/home/studio/ComfyUI/output",
        "version": "0.1.0",
    }
    status.update(changes)
    return status


def a_file(path: str, state: str = "archived", size_bytes: int = 1_843_200, **more: Any) -> dict[str, Any]:
    """Return one row of `GET /cloud-sync/files`."""
    archived = state == "archived"
    row: dict[str, Any] = {
        "path": path,
        "state": state,
        "size_bytes": size_bytes,
        "s3_key": f"comfyui-outputs/2026-04/{path}" if archived else None,
        "uploaded_at": datetime.now(timezone.utc).isoformat() if archived else None,
        "cause": None,
        "cure": None,
        "attempts": 1 if archived else 0,
        "next_try_at": None,
    }
    row.update(more)
    return row


def from_now(seconds: float) -> str:
    """Return the time `seconds` from now (negative: ago), as the routes write it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


class ScriptedModel:
    """The state behind the routes. A test changes the attributes, then calls `push`."""

    def __init__(self) -> None:
        self.status = a_status()
        self.files: list[dict[str, Any]] = []
        self.report: list[dict[str, Any]] = []
        self.check: list[dict[str, Any]] = []
        self.calls: list[tuple[str, Any]] = []
        self.down = False
        self.hung: asyncio.Event | None = None  # while it is an unset event, nothing is answered or pushed
        self.on_push: Push | None = None
        self._streams: set[asyncio.Queue[str | None]] = set()

    def routes(self) -> list[tuple[str, str, Handler]]:
        """The contract's routes as (method, path, handler)."""
        posts = ("start", "stop", "rescan", "retry", "backfill", "flush", "upload")
        return [
            ("GET", "/cloud-sync/status", self._get(lambda _: self.status)),
            ("GET", "/cloud-sync/files", self._get(self._files)),
            ("GET", "/cloud-sync/report", self._get(lambda _: {"rows": self.report})),
            (
                "POST",
                "/cloud-sync/check",
                self._get(lambda _: {"checked_at": "2026-04-01T12:34:56", "steps": self.check}),
            ),
            ("GET", "/cloud-sync/events", self._events),
            *(("POST", f"/cloud-sync/{name}", self._post) for name in posts),
        ]

    async def push(self) -> None:
        """Send the status to every listener: ComfyUI's websockets and the daemon's event streams."""
        if (on_push := self.on_push) is not None:  # a test's thread may set it to None at any moment
            await on_push(EVENT, self.status)
        for queue in self._streams:
            queue.put_nowait(f"event: {EVENT}\ndata: {json.dumps(self.status)}\n\n")

    async def beat(self, pause_seconds: float = 4.0) -> None:
        """Push the status again and again, as the real archive does."""
        while True:
            await asyncio.sleep(pause_seconds)
            if not self.down and self.hung is None:
                await self.push()

    async def end_streams(self, _: web.Application | None = None) -> None:
        """Close every event stream, as a daemon that ends does."""
        for queue in self._streams:
            queue.put_nowait(None)

    async def _wait_while_hung(self) -> None:
        if (hung := self.hung) is not None:  # a test's thread may set it to None at any moment
            await hung.wait()

    def _get(self, answer: Callable[[web.Request], Any]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            self.calls.append((request.path_qs, None))
            await self._wait_while_hung()
            if self.down:
                raise web.HTTPServiceUnavailable
            return web.json_response(answer(request))

        return handler

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.calls.append((request.path.removeprefix("/api"), body))
        await self._wait_while_hung()
        if self.down:
            raise web.HTTPServiceUnavailable
        name = request.path.rsplit("/", 1)[-1]
        if name in ("start", "stop"):
            self.status["running"] = name == "start"
            self.status["state"] = "idle" if name == "start" else "stopped"
            await self.push()
        answer = {"success": True, "message": f"{name}: done", "status": self.status}
        return web.json_response(answer)

    def _files(self, request: web.Request) -> dict[str, Any]:
        state, wanted = request.query.get("state", ""), request.query.get("q", "").lower()
        limit, start = int(request.query.get("limit", 50)), int(request.query.get("cursor") or 0)
        page: list[dict[str, Any]] = []
        position = start
        for position in range(start, len(self.files)):
            row = self.files[position]
            if _is_in(row, state) and wanted in row["path"].lower():
                if len(page) == limit:
                    return {"files": page, "next_cursor": str(position)}
                page.append(row)
        return {"files": page, "next_cursor": None}

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            raise web.HTTPServiceUnavailable
        stream = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await stream.prepare(request)
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._streams.add(queue)
        try:
            await stream.write(f"event: {EVENT}\ndata: {json.dumps(self.status)}\n\n".encode())
            while (text := await queue.get()) is not None:
                await stream.write(text.encode())
        except ConnectionError:
            pass
        finally:
            self._streams.discard(queue)
        return stream


def _is_in(row: dict[str, Any], state: str) -> bool:
    """Whether the routes list this row in this state."""
    failed = row["state"] == "failed"
    kinds: dict[str, bool] = {
        "": row["state"] not in ("skipped", "baseline", "unseen"),
        "retrying": bool(row["cause"])
        and (row["state"] == "pending" or (failed and bool(row["next_try_at"]))),
        "given_up": failed and not row["next_try_at"],
        "unarchived": row["state"] in ("skipped", "baseline", "unseen"),
    }
    return kinds.get(state, bool(row["state"] == state))
