"""The status that users see and its JSON, and the JSON of ledger rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from .. import __version__
from ..ledger.rows import FileRow
from ..text import end_sentence
from .session import RecentUpload

MAX_ERRORS = 50


class State(str, Enum):
    """What the archive is doing, as docs/http.md describes it."""

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
    """A file that is not complete yet, and the reason why it counts as incomplete."""

    file_name: str
    size_bytes: int
    reason: str
    path: str


@dataclass(frozen=True, slots=True)
class Destination:
    """The store, the bucket and the key prefix that files are uploaded to."""

    endpoint: str = ""
    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The object of `GET /cloud-sync/status`.

    `uploaded_files`, `already_archived_files` and `vanished_files` are this session's. `total_files` is the sum of the
    first two, `pending_files` and `failed_files`.

    Attributes:
        failed_files: files that were given up: they wait until their cause is over, see `given_up`.
        retrying_files: files that failed at least once and will be retried; part of `pending_files`.
        unsent_bytes: how many of `pending_bytes` are still to be sent.
        archived_files, archived_bytes: of this session and earlier ones.
        pruned_files: files whose objects `prune` deleted, without those whose rows were compacted.
        unwritten_rows: rows of the catalog that the bucket does not hold yet; `safe_to_stop` is about files alone.
        waiting_webhooks: finished jobs whose webhook the receiver has not accepted yet.
        unchecked_files: files that may hold other bytes than the archived ones, and are still to be hashed.
        overwrite_risk: `large_files` or `all_files`: another machine that writes the same key at the same moment can
            overwrite these. Empty if the store refuses to overwrite, if rename is off, if the keys hold `{session_id}`,
            or if the store was not asked yet.
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
    pruned_files: int = 0
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
        found["errors"] = list(self.errors)[-MAX_ERRORS:]
        found["recent_uploads"] = [upload._asdict() for upload in self.recent_uploads]
        for name in ("active", "waiting"):
            found[name] = list(found[name])
        return found


def zoned_time(seconds: float | None) -> str | None:
    """Return seconds since 1970 as local ISO 8601 time with its UTC offset, to the second; None for None."""
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
    """Return a sentence for each failed file, with its cause and cure, oldest first. `rows`: newest first."""
    return [
        f"{row.version.path}: {end_sentence(row.cause or '')} {row.cure or ''}".rstrip()
        for row in reversed(rows)
    ]
