"""The metrics for Prometheus: one registry for each engine, so that two engines in one process do not mix.

Names follow https://prometheus.io/docs/practices/naming/: base units, and `_total` for numbers that only grow. Label
values are results and error codes (the store's or our own), never a path or a key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..errors import CloudArchiveError, RequestRefused, StoreError
from ..ledger.rows import Totals
from .retry_policy import code_of

LATENCY_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
"""From a small file and a near store to a store that was unreachable for an hour."""

NEEDS_PACKAGE = "Metrics need one more package: run `pip install prometheus-client`, and restart."
NOT_COUNTED = (
    "`watch --once` without `--serve` counts no metrics."
    " Run it with `--serve HOST:PORT`, or run `watch` without `--once`."
)


class Gauges(NamedTuple):
    """The archive at one moment.

    Attributes:
        unqueued_files, unqueued_bytes: of files that were seen, and are not in the ledger yet.
        oldest_seen_at: when the file that has waited longest entered the ledger, in seconds since 1970; None = no file
            waits.
        watching: whether the directory is watched, and was scanned since.
        problem: whether something keeps files from being found or read.
        has_work: see `Work.is_left`.
        waiting_webhooks: finished jobs whose webhook the receiver has not accepted.
    """

    totals: Totals
    unqueued_files: int = 0
    unqueued_bytes: int = 0
    oldest_seen_at: float | None = None
    watching: bool = False
    problem: bool = False
    has_work: bool = False
    waiting_webhooks: int = 0

    @property
    def safe_to_stop(self) -> bool:
        """Whether the directory is watched, and nothing known waits. It causes no scan, so it may be out of date."""
        return self.watching and not self.problem and not self.has_work


class Recorder(Protocol):
    """Counts the archive's results. Every method may be called from any thread; only `text` raises."""

    def archived(self, size_bytes: int, *, already: bool, seen_at: float | None) -> None:
        """Count a file that is proven in the bucket.

        Args:
            already: its bytes were there before the upload.
            seen_at: when it entered the ledger, in seconds since 1970; None = unknown.
        """

    def failed(self, error: CloudArchiveError, size_bytes: int, *, again: bool) -> None:
        """Count a failed attempt; `again`: a next try is planned, so the file was not given up."""

    def vanished(self, size_bytes: int) -> None:
        """Count a file that was deleted or emptied before it could be archived."""

    def freed(self, size_bytes: int) -> None:
        """Count a local file that was removed after proof."""

    def text(self, gauges: Gauges | None) -> str:
        """Return the exposition text. RequestRefused: 501, there are no metrics; the message says why.

        `gauges`: the archive at this moment; None = there is no archiver: all gauges but the last success are zero.
        """


class NullRecorder:
    """Records nothing; `text` raises RequestRefused with `reason`: why there are no metrics, and what to do."""

    def __init__(self, reason: str = NEEDS_PACKAGE) -> None:
        self._reason = reason

    def archived(self, size_bytes: int, *, already: bool, seen_at: float | None) -> None: ...

    def failed(self, error: CloudArchiveError, size_bytes: int, *, again: bool) -> None: ...

    def vanished(self, size_bytes: int) -> None: ...

    def freed(self, size_bytes: int) -> None: ...

    def text(self, gauges: Gauges | None) -> str:
        raise RequestRefused(501, self._reason)


def recorder(clock: Callable[[], float] = time.time) -> Recorder:
    """Return a recorder with its own registry; without prometheus-client, one that records nothing."""
    try:
        import prometheus_client
    except ImportError:
        return NullRecorder()
    return PrometheusRecorder(prometheus_client, clock)


class PrometheusRecorder:
    """Records into its own `CollectorRegistry`. `library`: the module `prometheus_client`."""

    def __init__(self, library: Any, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._generate = library.generate_latest
        registry = self._registry = library.CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Any:
            return library.Counter(name, what, labels, registry=registry)

        def gauge(name: str, what: str) -> Any:
            return library.Gauge(name, what, registry=registry)

        self._files = counter(
            "cloud_archive_files_total",
            "Files by result: archived, already (the same bytes were in the bucket), failed (an attempt), vanished.",
            "result",
        )
        self._bytes = counter("cloud_archive_bytes_total", "Bytes of those files.", "result")
        self._retries = counter(
            "cloud_archive_retries_total", "Failed attempts that will be retried, by cause.", "cause"
        )
        self._store_errors = counter(
            "cloud_archive_store_errors_total", "Refusals and failures of the store, by its code.", "code"
        )
        self._confirm = library.Histogram(
            "cloud_archive_confirm_seconds",
            "From a file being complete (it enters the ledger) to the bucket's proof.",
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self._freed_files = counter("cloud_archive_freed_files_total", "Local files removed after proof.")
        self._freed_bytes = counter("cloud_archive_freed_bytes_total", "Bytes of those files.")
        self._pending_files = gauge("cloud_archive_pending_files", "Files that wait or are being uploaded.")
        self._pending_bytes = gauge("cloud_archive_pending_bytes", "Bytes of those files.")
        self._failed_files = gauge(
            "cloud_archive_failed_files", "Files that were given up: they wait until their cause is over."
        )
        self._archived_files = gauge("cloud_archive_archived_files", "Files that the ledger has as archived.")
        self._archived_bytes = gauge("cloud_archive_archived_bytes", "Bytes of those files.")
        self._oldest = gauge(
            "cloud_archive_oldest_pending_seconds", "Age of the file that waits longest; 0 if none waits."
        )
        self._last_success = gauge(
            "cloud_archive_last_success_timestamp_seconds", "When this process last proved a file, or 0."
        )
        self._safe = gauge(
            "cloud_archive_safe_to_stop",
            "1 while the directory is watched and can be read, and no known file waits. It is not scanned for this.",
        )
        self._watching = gauge(
            "cloud_archive_watching", "1 while the directory is watched, after its first scan."
        )
        self._waiting_webhooks = gauge(
            "cloud_archive_waiting_webhooks", "Finished jobs whose webhook the receiver has not accepted."
        )
        # Made now, so that a rate begins at zero.
        self._by_result = {
            result: (self._files.labels(result), self._bytes.labels(result))
            for result in ("archived", "already", "failed", "vanished")
        }

    def archived(self, size_bytes: int, *, already: bool, seen_at: float | None) -> None:
        self._count("already" if already else "archived", size_bytes)
        now = self._clock()
        self._last_success.set(now)
        if seen_at is not None:
            self._confirm.observe(max(0.0, now - seen_at))

    def failed(self, error: CloudArchiveError, size_bytes: int, *, again: bool) -> None:
        self._count("failed", size_bytes)
        cause = code_of(error)
        if isinstance(error, StoreError):
            self._store_errors.labels(cause).inc()
        if again:
            self._retries.labels(cause).inc()

    def vanished(self, size_bytes: int) -> None:
        self._count("vanished", size_bytes)

    def freed(self, size_bytes: int) -> None:
        self._freed_files.inc()
        self._freed_bytes.inc(size_bytes)

    def _count(self, result: str, size_bytes: int) -> None:
        files, sizes = self._by_result[result]
        files.inc()
        sizes.inc(size_bytes)

    def text(self, gauges: Gauges | None) -> str:
        found = gauges or Gauges(Totals())
        totals = found.totals
        self._pending_files.set(totals.unfinished.files + found.unqueued_files)
        self._pending_bytes.set(totals.unfinished.size_bytes + found.unqueued_bytes)
        self._failed_files.set(totals.given_up_files)
        self._archived_files.set(totals.archived.files)
        self._archived_bytes.set(totals.archived.size_bytes)
        oldest = found.oldest_seen_at
        self._oldest.set(0.0 if oldest is None else max(0.0, self._clock() - oldest))
        self._safe.set(found.safe_to_stop)
        self._watching.set(found.watching)
        self._waiting_webhooks.set(found.waiting_webhooks)
        text: bytes = self._generate(self._registry)
        return text.decode()
