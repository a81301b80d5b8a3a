"""`verify`: every archived row against the bucket.

The bucket is listed in pages of a thousand, so that a million objects cost a thousand requests. A size and an ETag
that are those of the proof settle an object; only where they are not is it looked at by itself, and only where that
cannot tell is it read. A listing finds rows in any order, since not every store lists by UTF-8. What no listing
showed is looked at before it is called missing. Where listing is refused, or would show mostly other people's
objects, each row is looked at by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import FileProblem, StoreError
from ..files import hash_file
from ..ledger.history import count_requeued, requeue_missing
from ..ledger.key_index import KeyIndex
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..store.base import ObjectInfo, ObjectStore
from ..store.evidence import Expected, Verdict, check_object, compare, compare_bytes
from ..store.failures import concerns_every_request, is_denied
from .retry import with_retries

LIST_PAGE = 1000  # objects in one answer
WORTH_LISTING = 3  # fewer rows than this are looked at one by one
LOOKS_AT_ONCE = 8
_QUEUED = 64  # looks that wait for a thread; more would only hold memory
MOST_KEPT = 10_000  # findings that the answer names; all are counted

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One archived file that the bucket does not hold as it was.

    Attributes:
        verdict: `missing`, `different` or `undecided` (the store refused the look; `cause` says why).
        local: the same version is still on this disk.
        queued: it went back to the queue.
    """

    path: str
    key: str
    verdict: Verdict
    local: bool
    queued: bool = False
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "path": self.path,
            "s3_key": self.key,
            "problem": self.verdict.value,
            "local_file": self.local,
            "queued": self.queued,
            "cause": self.cause,
        }


@dataclass(slots=True)
class VerifyReport:
    """What a check found; counts are of rows, that is of versions of files."""

    checked: int = 0
    same: int = 0
    missing: int = 0
    different: int = 0
    undecided: int = 0
    queued: int = 0
    lost: int = 0  # missing or different, and not on this disk either
    waiting: int = 0  # archived once, and waiting in the queue to be archived again
    bytes_read: int = 0
    list_requests: int = 0
    head_requests: int = 0
    read_requests: int = 0
    findings: list[Finding] = field(default_factory=list)
    listing_refused: str = ""

    @property
    def sound(self) -> bool:
        """Whether everything that was ever archived is in the bucket, as it was."""
        return self.checked == self.same and self.waiting == 0

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
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
                "bytes_read",
            )
        }
        requests = {"list": self.list_requests, "head": self.head_requests, "read": self.read_requests}
        return {
            "sound": self.sound,
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
    on_progress: Progress = lambda done, total: None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> VerifyReport:
    """Compare every archived row with the bucket.

    Args:
        root: the watched directory, to see which files are still on this disk.
        deep: read every object back and hash it.
        repair: files that are missing or different, and still on this disk, go back to the queue.
        on_progress: called with rows done and rows in all.
        on_finding: called with each problem as it is found.

    Raises:
        StoreError: the store does not answer, or refuses all looks.
        LedgerError: the ledger cannot be read or, with `repair`, written.
    """
    with KeyIndex(ledger) as index:
        check = _Check(ledger, store, root, deep, repair, index.count, on_progress, on_finding)
        try:
            if not deep:
                check.by_listings(index)
            check.one_by_one(index.pages())
        finally:
            check.close()
        check.report.waiting = count_requeued(ledger)
        return check.report


class _Check:
    """One run. Rows are settled on the caller's thread; only requests run beside it."""

    def __init__(
        self,
        ledger: Ledger,
        store: ObjectStore,
        root: Path,
        deep: bool,
        repair: bool,
        total: int,
        on_progress: Progress,
        on_finding: Callable[[Finding], None],
    ) -> None:
        self._ledger, self._store, self._root = ledger, store, root
        self._deep, self._repair, self._total = deep, repair, total
        self._on_progress, self._on_finding = on_progress, on_finding
        self._counts = threading.Lock()
        self._pool = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="cloud-archive-verify")
        self._under_way: dict[Future[Verdict], FileRow] = {}
        self.report = VerifyReport()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    # --- listings

    def by_listings(self, index: KeyIndex) -> None:
        """Settle what listings can; what they do not show stays in the index."""
        for group in index.groups():
            if group.rows < WORTH_LISTING:
                continue
            try:
                with_retries(lambda prefix=group.prefix, rows=group.rows: self._list(index, prefix, rows))  # type: ignore[misc]
            except StoreError as error:
                if not is_denied(error) and error.status not in (405, 501):
                    raise
                self.report.listing_refused = str(error)
                return

    def _list(self, index: KeyIndex, prefix: str, rows: int) -> None:
        pages = 0
        for page in _pages(self._store.list(prefix)):
            pages += 1
            self.report.list_requests += 1
            found = index.take([info.key for info in page])
            for info in page:
                for row in found.get(info.key, ()):
                    rows -= 1
                    verdict = compare(info, Expected.of_row(row))
                    if verdict is Verdict.UNDECIDED:
                        self._look(row)
                    else:
                        self._settle(row, verdict)
            if rows <= 0 or pages > rows + WORTH_LISTING:
                return  # done, or a look at each row that is left costs less than what is left of the listing
        self.report.list_requests += pages == 0

    # --- looks

    def one_by_one(self, pages: Iterator[list[FileRow]]) -> None:
        """Look at every row that is left."""
        for page in pages:
            for row in page:
                self._look(row)
        self._collect(all_of_them=True)

    def _look(self, row: FileRow) -> None:
        while len(self._under_way) >= _QUEUED:
            self._collect(all_of_them=False)
        self._under_way[self._pool.submit(self._ask, row)] = row

    def _ask(self, row: FileRow) -> Verdict:
        if self._deep:
            with self._counts:
                self.report.read_requests += 1
                self.report.bytes_read += row.version.size_bytes
            return with_retries(lambda: compare_bytes(self._store, row.key or "", Expected.of_row(row)))
        with self._counts:
            self.report.head_requests += 1
        return with_retries(lambda: check_object(self._store, row.key or "", Expected.of_row(row)))

    def _collect(self, *, all_of_them: bool) -> None:
        while self._under_way:
            done, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in done:
                row = self._under_way.pop(future)
                try:
                    self._settle(row, future.result())
                except StoreError as error:
                    self._refused(row, error)
            if not all_of_them:
                return

    def _refused(self, row: FileRow, error: StoreError) -> None:
        """Note that this one object cannot be looked at. What would be so for every object ends the check."""
        if (
            error.status is None
            or error.failure.throttled
            or error.status >= 500
            or concerns_every_request(error)
        ):
            raise error
        self._settle(row, Verdict.UNDECIDED, str(error))

    # --- the answer

    def _settle(self, row: FileRow, verdict: Verdict, cause: str = "") -> None:
        report = self.report
        report.checked += 1
        if verdict is Verdict.SAME:
            report.same += 1
        else:
            self._note(row, verdict, cause)
        self._on_progress(report.checked, self._total)

    def _note(self, row: FileRow, verdict: Verdict, cause: str) -> None:
        report = self.report
        local = self._is_local(row)
        queued = False
        if verdict is Verdict.UNDECIDED:
            report.undecided += 1
        else:
            if verdict is Verdict.MISSING:
                report.missing += 1
            else:
                report.different += 1
            queued = self._repair and local and requeue_missing(self._ledger, [row]) == 1
            report.queued += queued
            report.lost += not local
        finding = Finding(row.version.path, row.key or "", verdict, local, queued, cause)
        if len(report.findings) < MOST_KEPT:
            report.findings.append(finding)
        self._on_finding(finding)

    def _is_local(self, row: FileRow) -> bool:
        """Whether the archived bytes are still on this disk: another version may have the same size and time."""
        try:
            found = hash_file(self._root, row.version.path)
        except (FileProblem, ValueError):
            return False
        return found is not None and found[1] == row.sha256 and found[0].has_same_size_and_mtime(row.version)


def _pages(objects: Iterable[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    left = iter(objects)
    while page := list(islice(left, LIST_PAGE)):
        yield page
