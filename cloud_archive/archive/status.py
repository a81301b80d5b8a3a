"""The status that users see: a frozen snapshot, and the session's counters that it is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from .. import __version__
from ..ledger.rows import FileRow
from .session import RecentUpload

MOST_ERRORS = 50


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
class ActiveFile:
    """One upload under way."""

    file_name: str
    size_bytes: int
    sent_bytes: int
    s3_key: str
    path: str


@dataclass(frozen=True, slots=True)
class WaitingEntry:
    """A file that is not complete yet, and the reason to think so."""

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
    """The object of `GET /cloud-sync/status`; the counters are this session's.

    Attributes:
        failed_files: given up; only `retry` tries them again.
        retrying_files: failed at least once and will be tried again; part of `pending_files`.
        unsent_bytes: of `pending_bytes`, those that have still to be sent.
        archived_files, archived_bytes: what the ledger holds as archived, whichever session did it.
        unwritten_rows: of the catalog, which the bucket does not hold yet; `safe_to_stop` is about files alone.
        waiting_webhooks: finished jobs that the webhook's receiver has not taken yet.
        unchecked_files: archived files that were touched since, and are still to be hashed.
        overwrite_risk: `large_files` or `all_files`, which another machine that writes the same names could replace in
            the same moment; empty where the store refuses, where `{session_id}` keeps names apart, and where that is
            not known yet.
    """

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
    skipped_files: int = 0
    baseline_files: int = 0
    unchecked_files: int = 0
    retrying_files: int = 0
    unsent_bytes: int = 0
    archived_files: int = 0
    archived_bytes: int = 0
    unwritten_rows: int = 0
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
    connection_verified: bool = False
    keeps_local_files: bool = True
    waiting_webhooks: int = 0
    overwrite_risk: str = ""
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """Return the object that docs/http.md describes."""
        found = asdict(self)
        found["state"] = self.state.value
        found["uploading"] = self.state is State.UPLOADING or bool(self.active)
        found["errors"] = list(self.errors)[-MOST_ERRORS:]
        found["recent_uploads"] = [upload._asdict() for upload in self.recent_uploads]
        for name in ("active", "waiting"):
            found[name] = list(found[name])
        return found


def zoned_time(seconds: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 with the offset that local time had then; None stays None."""
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    )


def row_to_json(row: FileRow) -> dict[str, Any]:
    """Return a ledger row as `GET /cloud-sync/files` shows it."""
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
    """Return a sentence for each failed file, with its cause and cure, oldest first."""
    return [
        f"{row.version.path}: {_sentence(row.cause or '')} {row.cure or ''}".rstrip()
        for row in reversed(rows)
    ]


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else text + "."
