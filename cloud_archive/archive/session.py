"""Count what this session archived, and keep the notices for users."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from ..files import FileVersion
from ..ledger.rows import FileRow

MAX_RECENT = 10
WINDOW_SECONDS = 10.0  # the rates are averages over this time
FIRST_RATE_SECONDS = 5.0  # there is no rate before uploads have run for this time


class RecentUpload(NamedTuple):
    """One upload that was proven.

    Attributes:
        upload_time: see `local_time`.
        asset_id: the file's id in the catalog; None if the catalog or the gallery is off.
    """

    file_name: str
    s3_key: str
    upload_time: str
    size_bytes: int
    path: str
    asset_id: str | None = None


def local_time(seconds: float) -> str:
    """Return seconds since 1970 as local ISO 8601 time, to the second."""
    return datetime.fromtimestamp(seconds).isoformat(timespec="seconds")


def recent_upload(row: FileRow) -> RecentUpload:
    """Return an archived row as the status shows it."""
    version = row.version
    return RecentUpload(
        version.name, row.key or "", local_time(row.archived_at or 0), version.size_bytes, version.path
    )


class Counters(NamedTuple):
    """A copy of the session's counters.

    Attributes:
        already: files whose bytes were in the bucket before.
        last_upload_time: see `RecentUpload`; that of an earlier session until this one uploads a file.
        recent: the newest uploads of all sessions, oldest first.
    """

    uploaded: int
    already: int
    vanished: int
    last_upload_time: str | None
    recent: tuple[RecentUpload, ...]
    rate_bytes_per_second: int
    rate_files_per_second: float

    def seconds_left(self, files: int, size_bytes: int) -> int | None:
        """Return how long so many files and unsent bytes will take; None while there is no rate."""
        times = [
            left / rate
            for left, rate in ((size_bytes, self.rate_bytes_per_second), (files, self.rate_files_per_second))
            if left and rate
        ]
        return int(max(times)) + 1 if times else None


class _Sample(NamedTuple):
    """How much this session had sent and finished at this time, in monotonic seconds."""

    at: float
    size_bytes: int
    files: int


class Session:
    """Counts what this session did. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._uploaded = 0
        self._already = 0
        self._vanished = 0
        self._uploaded_bytes = 0
        self._last_upload_time: str | None = None
        self._recent: deque[RecentUpload] = deque(maxlen=MAX_RECENT)
        self._notices: deque[str] = deque(maxlen=20)
        self._samples: deque[_Sample] = deque()

    def begin_with(self, recent: Sequence[RecentUpload]) -> None:
        """Show the newest uploads of earlier sessions, given oldest first, until newer ones replace them."""
        with self._lock:
            self._recent.extend(recent)
            self._last_upload_time = recent[-1].upload_time if recent else None

    def archived(self, version: FileVersion, key: str, *, already: bool) -> None:
        """Count a file that is proven in the bucket; `already`: it was there before."""
        moment = local_time(time.time())
        with self._lock:
            if already:
                self._already += 1
            else:
                self._uploaded += 1
                self._uploaded_bytes += version.size_bytes
                self._last_upload_time = moment
                self._recent.append(RecentUpload(version.name, key, moment, version.size_bytes, version.path))

    def vanished(self) -> None:
        """Count a file that was deleted or emptied before it could be archived."""
        with self._lock:
            self._vanished += 1

    def notice(self, sentence: str) -> None:
        """Show this sentence to users until it is withdrawn, or twenty newer ones have come."""
        with self._lock:
            if sentence in self._notices:
                self._notices.remove(sentence)
            self._notices.append(sentence)

    def withdraw(self, sentence: str) -> None:
        """Show this sentence no longer. No-op if it is not shown."""
        with self._lock:
            if sentence in self._notices:
                self._notices.remove(sentence)

    @property
    def notices(self) -> tuple[str, ...]:
        """The sentences for users, oldest first."""
        with self._lock:
            return tuple(self._notices)

    def sample(self, active_bytes: int, now: float) -> None:
        """Note how much has been sent and finished, for the rates. Call it every few seconds.

        `active_bytes`: how many bytes the uploads under way have sent so far; `now`: monotonic seconds.
        """
        with self._lock:
            sample = _Sample(now, self._uploaded_bytes + active_bytes, self._uploaded + self._already)
            # After a rest the measurement begins anew.
            if self._samples and not active_bytes and self._samples[-1][1:] == sample[1:]:
                self._samples.clear()
            self._samples.append(sample)
            while now - self._samples[0].at > WINDOW_SECONDS:
                self._samples.popleft()

    def counters(self) -> Counters:
        """Return a copy of the counters."""
        with self._lock:
            byte_rate, file_rate = self._rates()
            return Counters(
                self._uploaded,
                self._already,
                self._vanished,
                self._last_upload_time,
                tuple(self._recent),
                byte_rate,
                file_rate,
            )

    def _rates(self) -> tuple[int, float]:
        """Return the bytes and the files per second; zeros before `FIRST_RATE_SECONDS`."""
        if not self._samples:
            return 0, 0.0
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        if seconds < FIRST_RATE_SECONDS:
            return 0, 0.0
        sent = max(0, last.size_bytes - first.size_bytes)
        return int(sent / seconds), (last.files - first.files) / seconds
