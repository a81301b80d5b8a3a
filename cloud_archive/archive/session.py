"""Count what this session archived."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from ..files import FileVersion

MOST_RECENT = 10
_RATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RecentUpload:
    """One upload that was proven; the time is local, ISO 8601, to the second. `path` holds its folders, too."""

    file_name: str
    s3_key: str
    upload_time: str
    size_bytes: int
    path: str


def local_time(seconds: float) -> str:
    """Seconds since 1970 as local ISO 8601 time, to the second."""
    return datetime.fromtimestamp(seconds).isoformat(timespec="seconds")


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
