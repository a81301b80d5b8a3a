"""Verify every archived row against the bucket.

`deep` reads every object. Otherwise listings come first: a million objects need a thousand requests. If size and ETag
are those of the proof, the object is the same. Otherwise it gets a HEAD, because a listing may be out of date, and if
that is not enough, it is read. A listing may be in any order, because not every store sorts by UTF-8. A row that no
listing showed gets a HEAD and a GET before it counts as missing. If listing is refused, or shows mostly other programs'
objects, each remaining row gets a HEAD.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FileProblem, StoreError
from ..executor import unawaited_threads
from ..files import hash_file
from ..ledger.history import count_requeued, lost_rows, requeue_missing, rows_of_path
from ..ledger.key_index import KeyIndex
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..store.base import ObjectStore
from ..store.evidence import Expected, Verdict, check_object, compare, compare_bytes
from ..store.failures import concerns_every_request, is_denied
from .batched import batched
from .retry import with_retries

LIST_PAGE = 1000
MIN_LISTED_ROWS = 3  # for fewer rows, a HEAD each is cheaper than a listing
PARALLEL_CHECKS = 8
_MAX_QUEUED = 64  # checks that wait for a thread; more would only use memory
MAX_LISTED = 10_000  # findings in the report; all are counted

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """An archived file that the bucket does not hold as archived.

    Attributes:
        verdict: not `SAME`; `UNDECIDED` means that the store refused the check for the `cause`.
        local: the same version is still on this disk.
        queued: it will be uploaded again.
        kept: with renaming off: another writer replaced the object, so it was not queued, which would overwrite theirs.
    """

    path: str
    key: str
    verdict: Verdict
    local: bool
    queued: bool = False
    cause: str = ""
    kept: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "s3_key": self.key,
            "problem": self.verdict.value,
            "local_file": self.local,
            "queued": self.queued,
            "kept": self.kept,
            "cause": self.cause,
        }


@dataclass(slots=True)
class VerifyReport:
    """The result of a verification; the counts are of rows, which are versions of files."""

    checked: int = 0
    same: int = 0
    missing: int = 0
    different: int = 0
    undecided: int = 0
    queued: int = 0
    lost: int = 0  # missing or different, and not on this disk
    waiting: int = 0  # archived before, and queued to be archived again
    replaced: int = 0  # with renaming off: a newer version took the key; not in `checked`
    kept: int = 0  # with renaming off: not queued, because another writer replaced the object
    bytes_read: int = 0
    list_requests: int = 0
    head_requests: int = 0
    read_requests: int = 0
    findings: list[Finding] = field(default_factory=list)
    listing_refused: str = ""

    @property
    def intact(self) -> bool:
        """Whether the bucket is known to hold everything as it was archived."""
        return self.checked == self.same and self.waiting == 0

    def to_json(self) -> dict[str, Any]:
        numbers = {
            name: getattr(self, name)
            for name in (
                "checked",
                "same",
                "missing",
                "different",
                "undecided",
                "queued",
                "lost",
                "waiting",
                "replaced",
                "kept",
                "bytes_read",
            )
        }
        requests = {"list": self.list_requests, "head": self.head_requests, "read": self.read_requests}
        return {
            "sound": self.intact,  # this name is older, and scripts may read it
            **numbers,
            "requests": requests,
            "findings": [finding.to_json() for finding in self.findings],
        }


def verify(
    ledger: Ledger,
    store: ObjectStore,
    root: Path,
    *,
    deep: bool = False,
    repair: bool = False,
    rename: bool = True,
    on_progress: Progress = lambda done, total: None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> VerifyReport:
    """Compare every archived row with the bucket, and every one that was queued again and vanished since.

    Args:
        root: the watched directory, to find which files are still on this disk.
        repair: queue files again that are missing or different in the bucket, and still on this disk.
        rename: False: uploads replace objects. So the bucket need not hold what newer versions have replaced, and an
            object of another writer is not repaired.
        on_progress: called with the number of rows checked, and the total.
        on_finding: called with each problem.

    Raises:
        StoreError: the store does not answer, or refuses for a cause that concerns other objects too.
        LedgerError: the ledger can't be read or, with `repair`, written.
    """
    began = ledger.clock()
    with KeyIndex(ledger) as index, unawaited_threads(PARALLEL_CHECKS, "cloud-archive-verify") as pool:
        replaced = None if rename else index.replaced()
        lost = lost_rows(ledger)
        total = index.count + len(lost)
        check = _Check(
            ledger, index, store, root, deep, repair, replaced, began, total, pool, on_progress, on_finding
        )
        if not deep:
            check.check_by_listing()
        check.check_each(index.pages())
        check.check_each(iter([lost]))
        check.report.waiting = count_requeued(ledger)
        return check.report


@dataclass(slots=True)
class _Check:
    """One run. Results are handled in the caller's thread; only requests run in others."""

    ledger: Ledger
    index: KeyIndex
    store: ObjectStore
    root: Path
    deep: bool
    repair: bool
    replaced: frozenset[int] | None
    began: float
    total: int
    pool: Executor
    on_progress: Progress
    on_finding: Callable[[Finding], None]
    report: VerifyReport = field(default_factory=VerifyReport)
    counts: threading.Lock = field(default_factory=threading.Lock)
    under_way: dict[Future[Verdict], FileRow] = field(default_factory=dict)

    # --- listings

    def check_by_listing(self) -> None:
        """Check rows by listings. Rows that no listing shows stay in the index."""
        for group in self.index.groups():
            if group.rows < MIN_LISTED_ROWS:
                continue
            try:
                with_retries(lambda prefix=group.prefix, rows=group.rows: self._list(prefix, rows))  # type: ignore[misc]
            except StoreError as error:
                if not is_denied(error) and error.status not in (405, 501):
                    raise
                self.report.listing_refused = str(error)
                return

    def _list(self, prefix: str, rows: int) -> None:
        pages = 0
        for page in batched(self.store.list(prefix), LIST_PAGE):
            pages += 1
            self.report.list_requests += 1
            rows_by_key = self.index.take([info.key for info in page])
            for info in page:
                for row in rows_by_key.get(info.key, ()):
                    rows -= 1
                    verdict = compare(info, Expected.of_row(row))
                    if verdict is Verdict.SAME:
                        self._record_verdict(row, verdict)
                    else:
                        self._submit(row)
            if rows <= 0 or pages > rows + MIN_LISTED_ROWS:
                return  # done, or a HEAD for each remaining row costs less than the rest of the listing
        if not pages:
            self.report.list_requests += 1  # the answer was empty

    # --- single rows

    def check_each(self, pages: Iterator[list[FileRow]]) -> None:
        for page in pages:
            for row in page:
                self._submit(row)
        self._collect(wait_for_all=True)

    def _submit(self, row: FileRow) -> None:
        while len(self.under_way) >= _MAX_QUEUED:
            self._collect(wait_for_all=False)
        self.under_way[self.pool.submit(self._check_row, row)] = row

    def _check_row(self, row: FileRow) -> Verdict:
        if self.deep:
            with self.counts:
                self.report.read_requests += 1
            verdict = with_retries(lambda: compare_bytes(self.store, row.key or "", Expected.of_row(row)))
            if verdict is not Verdict.MISSING:
                with self.counts:
                    self.report.bytes_read += row.version.size_bytes
            return verdict
        with self.counts:
            self.report.head_requests += 1
        return with_retries(lambda: check_object(self.store, row.key or "", Expected.of_row(row)))

    def _collect(self, *, wait_for_all: bool) -> None:
        while self.under_way:
            done, _ = wait(self.under_way, return_when=FIRST_COMPLETED)
            for future in done:
                row = self.under_way.pop(future)
                try:
                    self._record_verdict(row, future.result())
                except StoreError as error:
                    self._record_refusal(row, error)
            if not wait_for_all:
                return

    def _record_refusal(self, row: FileRow, error: StoreError) -> None:
        """Record that this object can't be checked. Raise the error if it would concern other objects too."""
        if _concerns_others(error):
            raise error
        self._record_verdict(row, Verdict.UNDECIDED, str(error))

    # --- the report

    def _record_verdict(self, row: FileRow, verdict: Verdict, cause: str = "") -> None:
        report = self.report
        if verdict in (Verdict.MISSING, Verdict.DIFFERENT):
            now_known = self.ledger.reread(row)
            if now_known is None or (now_known.state, now_known.key) != (row.state, row.key):
                return  # it was pruned or queued again meanwhile
        if verdict is Verdict.DIFFERENT and self._is_replaced(row) and not self._is_local(row):
            report.replaced += 1
        else:
            report.checked += 1
            if verdict is Verdict.SAME:
                report.same += 1
            else:
                self._record_problem(row, verdict, cause)
        self.on_progress(report.checked + report.replaced, self.total)

    def _is_replaced(self, row: FileRow) -> bool:
        """Return whether a newer version has taken the key, or is taking it now; False with renaming on."""
        if self.replaced is None:
            return False
        return row.row in self.replaced or any(
            other.row != row.row and other.key == row.key
            for other in rows_of_path(self.ledger, row.version.path, self.began)
        )

    def _record_problem(self, row: FileRow, verdict: Verdict, cause: str) -> None:
        report = self.report
        local = self._is_local(row)
        queued = kept = False
        if verdict is Verdict.UNDECIDED:
            report.undecided += 1
        else:
            if verdict is Verdict.MISSING:
                report.missing += 1
            else:
                report.different += 1
            if self.repair and local:
                may_overwrite = verdict is Verdict.DIFFERENT and self.replaced is not None
                kept = may_overwrite and self._is_of_another_writer(row)
                queued = not kept and requeue_missing(self.ledger, [row]) == 1
            report.queued += queued
            report.kept += kept
            report.lost += not local
        finding = Finding(row.version.path, row.key or "", verdict, local, queued, cause, kept)
        if len(report.findings) < MAX_LISTED:
            report.findings.append(finding)
        self.on_finding(finding)

    def _is_of_another_writer(self, row: FileRow) -> bool:
        """Return whether the key holds an object that, by its metadata, none of our versions is; True if in doubt.

        It may be somebody's only copy. One that has our SHA-256 and other bytes is damaged. One of our older versions
        came back, as from a backup of the bucket. Raises StoreError if the cause concerns other objects too.
        """
        try:
            info = with_retries(lambda: self.store.head(row.key or ""))
        except StoreError as error:
            if _concerns_others(error):
                raise
            return True
        if info is None or info.sha256 == row.sha256:
            return False
        ours = self.index.versions(row.key or "") | {
            other.sha256
            for other in rows_of_path(self.ledger, row.version.path, self.began)
            if other.key == row.key
        }
        return info.sha256 is None or info.sha256 not in ours

    def _is_local(self, row: FileRow) -> bool:
        """Return whether the archived bytes are still on this disk, by hashing them."""
        try:
            hashed = hash_file(self.root, row.version.path)
        except (FileProblem, ValueError):
            return False
        return (
            hashed is not None and hashed[1] == row.sha256 and hashed[0].has_same_size_and_mtime(row.version)
        )


def _concerns_others(error: StoreError) -> bool:
    """Return whether the store does not answer, or refuses for a cause that concerns other objects too."""
    return (
        error.status is None
        or error.failure.throttled
        or error.status >= 500
        or error.failure.code == "CapExceeded"
        or concerns_every_request(error)
    )
