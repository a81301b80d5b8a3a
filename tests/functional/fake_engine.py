"""A stand-in for `engine.Engine`: the same methods, answers set by the test, and calls that can be held up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cloud_archive.api.routes import bare_status

if TYPE_CHECKING:
    from cloud_archive.archive.engine import Engine

CHECKED = {"checked_at": "2026-04-01T12:34:56", "steps": [{"name": "settings", "ok": True}]}


@dataclass
class FakeStatus:
    """A status object that only knows its JSON."""

    content: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return dict(self.content)


@dataclass
class FakeUploadAnswer:
    """See `upload_request.UploadAnswer`."""

    http_status: int
    message: str
    file: dict[str, Any] | None = None


@dataclass
class FakeEngine:
    """Record each call in `calls`; all but `status` raise `error` if it is set; slow calls wait for `gate`."""

    content: dict[str, Any] = field(default_factory=lambda: bare_status("idle"))
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    queues: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    safe: bool = True
    on_flush: Callable[[], None] = lambda: None  # called at the end of each flush
    answer: FakeUploadAnswer = field(default_factory=lambda: FakeUploadAnswer(200, "Archived."))
    gate: threading.Event | None = None
    callbacks: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    checked: Future[dict[str, Any]] = field(default_factory=Future)
    subscribed: threading.Event = field(default_factory=threading.Event)
    unchanged: bool = True  # see `still_safe`
    will_replace_ledger: bool = False
    heartbeats: int = 0  # number of statuses made for a heartbeat

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    @property
    def facade(self) -> Engine:
        """Return this object, typed as the engine that the server takes."""
        return cast("Engine", self)

    def status(self, scan: bool = True, *, heartbeat: bool = False) -> FakeStatus:
        self.heartbeats += heartbeat
        return FakeStatus(self.content)

    def still_safe(self) -> bool:
        return self.unchanged

    def start_watching(self) -> str:
        self._note("start")
        return "Archiving."

    def stop_watching(self) -> str:
        self._note("stop")
        return "Stopped."

    def upload(self, file_path: str, timeout_seconds: float = 20) -> FakeUploadAnswer:
        self._note("upload", file_path)
        if self.gate is not None:
            self.gate.wait(60)
        return self.answer

    def rescan(self, accept_root: bool = False) -> str:
        self._note("rescan")
        return "Looked."

    def retry(self) -> str:
        self._note("retry")
        return "Back in the queue."

    def archive_baseline(self) -> str:
        self._note("backfill")
        return "3 older files are being archived."

    def flush(self, timeout_seconds: float, cancelled: Callable[[], bool]) -> bool:
        self._note("flush", timeout_seconds)
        while self.gate is not None and not cancelled() and not self.gate.wait(0.01):
            pass
        self.ended.append("flush")
        self.on_flush()
        return self.safe

    def why_catalog_incomplete(self) -> str | None:
        return None

    def files(
        self, state: str | None, query: str, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        self._note("files", state, query, limit, cursor)
        return [{"file_name": "a.png"}], "next"

    def report(self, by: str, last: int) -> list[dict[str, Any]]:
        self._note("report", by, last)
        if self.gate is not None:
            self.gate.wait(60)
        return [{"start": "2026-04-01T00:00:00", "files": 2, "bytes": 30}]

    def check(self) -> Future[dict[str, Any]]:
        self._note("check")
        if self.gate is None and not self.checked.done():
            self.checked.set_result(CHECKED)
        return self.checked

    def last_check(self) -> dict[str, Any]:
        self._note("last_check")
        return CHECKED

    def metrics_text(self) -> str:
        self._note("metrics")
        return "cloud_archive_up 1\n"

    def subscribe(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        self.subscribed.set()
        return lambda: self.callbacks.remove(callback)

    def push(self, **changes: Any) -> None:
        """Change the status and pass it to the subscribers."""
        self.content = {**self.content, **changes}
        for callback in list(self.callbacks):
            callback(dict(self.content))

    def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
        if queue is not None:
            self.queues.append(queue)
        else:
            self._note("jobs", jobs)

    def request_handover(self) -> bool:
        self._note("handover")
        return True
