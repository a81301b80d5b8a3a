"""The status that users see: a frozen snapshot, and the session's counters that it is made from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from threading import Lock
from typing import Any

from .. import __version__
from ..files import FileVersion
from ..ledger.rows import FileRow

MOST_ERRORS = 50
MOST_RECENT = 10
_RATE_SECONDS = 10.0


class State(str, Enum):
    """What the archive is doing, in the contract's words."""

    NOT_CONFIGURED = "not_configured"
    STOPPED = "stopped"
    STARTING = "starting"
    IDLE = "idle"
    UPLOADING = "uploading"
    RETRYING = "retrying"
    STANDBY = "standby"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class RecentUpload:
    """One upload that was proven; the time is local, ISO 8601, to the second. `path` holds its folders, too."""

    file_name: str
    s3_key: str
    upload_time: str
    size_bytes: int
    path: str


@dataclass(frozen=True, slots=True)
class ActiveFile:
    """One upload under way."""

    file_name: str
    size_bytes: int
    sent_bytes: int
    s3_key: str
    path: str


@dataclass(frozen=True, slots=True)
class WaitingEntry:
    """A file that is not complete yet, and why we think so."""

    file_name: str
    size_bytes: int
    reason: str
    path: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Where files go."""

    endpoint: str = ""
    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The object of `GET /cloud-sync/status`; the counters are this session's."""

    running: bool
    session_id: str
    state: State
    total_files: int = 0
    uploaded_files: int = 0
    failed_files: int = 0
    already_archived_files: int = 0
    pending_files: int = 0
    pending_bytes: int = 0
    vanished_files: int = 0
    last_upload_time: str | None = None
    errors: tuple[str, ...] = ()
    recent_uploads: tuple[RecentUpload, ...] = ()
    safe_to_stop: bool = False
    active: tuple[ActiveFile, ...] = ()
    waiting: tuple[WaitingEntry, ...] = ()
    rate_bytes_per_second: int = 0
    seconds_left: int | None = None
    destination: Destination = field(default_factory=Destination)
    watched_directory: str = ""
    watching: str = ""
    keeps_local_files: bool = True
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """The contract's object, and a few fields more."""
        found = asdict(self)
        found["state"] = self.state.value
        found["uploading"] = self.state is State.UPLOADING
        found["errors"] = list(self.errors)[-MOST_ERRORS:]
        for name in ("recent_uploads", "active", "waiting"):
            found[name] = list(found[name])
        return found


def local_time(seconds: float) -> str:
    """Seconds since 1970 as local ISO 8601 time, to the second."""
    return datetime.fromtimestamp(seconds).isoformat(timespec="seconds")


def zoned_time(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601 with the offset that local time had then; None stays None."""
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    )


@dataclass(frozen=True, slots=True)
class Counters:
    """A copy of the session's counters."""

    uploaded: int
    already: int
    vanished: int
    uploaded_bytes: int
    last_upload_time: str | None
    recent: tuple[RecentUpload, ...]
    rate_bytes_per_second: int


class Session:
    """Counts what this session did; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._uploaded = 0
        self._already = 0
        self._vanished = 0
        self._bytes = 0
        self._last: str | None = None
        self._recent: deque[RecentUpload] = deque(maxlen=MOST_RECENT)
        self._notices: deque[str] = deque(maxlen=20)
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def archived(self, version: FileVersion, key: str, *, already: bool) -> None:
        """One more file is proven to be in the bucket."""
        moment = local_time(time.time())
        with self._lock:
            if already:
                self._already += 1
            else:
                self._uploaded += 1
                self._bytes += version.size_bytes
                self._last = moment
                self._recent.append(RecentUpload(version.name, key, moment, version.size_bytes, version.path))

    def vanished(self) -> None:
        """One more file was gone before it could be archived."""
        with self._lock:
            self._vanished += 1

    def notice(self, sentence: str) -> None:
        """Something that a user should read, until twenty newer ones push it out."""
        with self._lock:
            if sentence in self._notices:
                self._notices.remove(sentence)
            self._notices.append(sentence)

    def withdraw(self, sentence: str) -> None:
        """It is no longer so."""
        with self._lock:
            if sentence in self._notices:
                self._notices.remove(sentence)

    @property
    def notices(self) -> tuple[str, ...]:
        """Oldest first."""
        with self._lock:
            return tuple(self._notices)

    def sample(self, active_bytes: int, now: float) -> None:
        """Note how much has been sent in all, for the rate. Called about once a second.

        Args:
            active_bytes: sent so far by the uploads under way.
            now: monotonic seconds.
        """
        with self._lock:
            self._samples.append((now, self._bytes + active_bytes))
            while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_SECONDS:
                self._samples.popleft()

    def counters(self) -> Counters:
        """A copy."""
        with self._lock:
            (begin, before), (end, after) = self._samples[0], self._samples[-1]
            span = end - begin
            return Counters(
                self._uploaded,
                self._already,
                self._vanished,
                self._bytes,
                self._last,
                tuple(self._recent),
                max(0, int((after - before) / span)) if span > 0 else 0,
            )


def row_to_json(row: FileRow) -> dict[str, Any]:
    """A ledger row as `GET /cloud-sync/files` shows it."""
    return {
        "id": row.row,
        "path": row.version.path,
        "file_name": row.version.name,
        "state": row.state.word,
        "size_bytes": row.version.size_bytes,
        "s3_key": row.key,
        "sha256": row.sha256,
        "attempts": row.attempts,
        "code": row.code,
        "cause": row.cause,
        "cure": row.cure,
        "seen_at": zoned_time(row.seen_at),
        "uploaded_at": zoned_time(row.archived_at if row.state.word == "archived" else None),
        "freed_at": zoned_time(row.freed_at),
        "next_try_at": zoned_time(row.next_try),
    }


def failure_sentences(rows: Sequence[FileRow]) -> list[str]:
    """Each failed file with its cause and cure, oldest first."""
    return [
        f"{row.version.path}: {_sentence(row.cause or '')} {row.cure or ''}".rstrip()
        for row in reversed(rows)
    ]


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else text + "."
