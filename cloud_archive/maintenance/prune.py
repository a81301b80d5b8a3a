"""`prune`: delete old objects below the prefix, to keep an age or a size.

`plan_prune` decides and deletes nothing; `prune` deletes what a plan names. A plan holds only keys of a `Scope`, and
only objects that Cloud Archive wrote: the ledger has written that very object (same ETag, same size), or its metadata
carries an archive's token. An object that somebody else wrote with the same bytes stays.

Right before an object is deleted, a HEAD compares its ETag, size and time with the plan. What differs stays.

Stores answer wrongly about deletions, so the bucket is listed once afterwards: what is still there counts as failed,
and what is gone as deleted, whatever the store said.

A row says `pruned` before its object goes and is `archived` again where the store refuses, so that a process that is
killed in between never leaves a row that promises an object which is gone. A pruned file is not uploaded again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..errors import StoreError
from ..ledger.history import mark_pruned, unmark_pruned
from ..ledger.key_index import KeyIndex
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..scope import KeyScope
from ..store.base import ObjectInfo, ObjectStore
from ..store.evidence import Expected, Verdict, compare
from ..store.failures import is_denied
from .retry import with_retries

LOOKS_AT_ONCE = 8
DELETE_AT_ONCE = 100  # few, so that little time passes between the last comparison and the deletion
TIME_SLACK_SECONDS = 2.0  # listings may tell milliseconds where a HEAD tells seconds
CHANGED = "It was written or deleted since the plan was made, so it was left alone. Run prune again."
MARK = "archive-token"  # metadata that every object of an archive carries
STILL_THERE = (
    "The store said that it deleted this object, but it is still there."
    " The key may lack the right s3:DeleteObject."
)
DENIED = (
    "The store denies deletion: it needs the right s3:DeleteObject on this bucket and prefix, which archiving"
    " does not."
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What goes. With both, an object goes for either reason.

    Attributes:
        older_than_seconds: objects that were written longer ago.
        keep_bytes: the oldest, until the others have no more than this in all.
        everything: also what other programs wrote below the prefix.
    """

    older_than_seconds: float | None = None
    keep_bytes: int | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class PruneCandidate:
    """One object of the plan; `written_at` in seconds since 1970."""

    key: str
    size_bytes: int
    written_at: float
    etag: str | None = None
    rows: tuple[FileRow, ...] = ()

    def is_still(self, info: ObjectInfo | None) -> bool:
        """Return whether `info` describes the object as it was planned."""
        return (
            info is not None
            and info.size_bytes == self.size_bytes
            and (self.etag is None or info.etag is None or info.etag == self.etag)
            and info.last_modified is not None
            and abs(info.last_modified.timestamp() - self.written_at) < TIME_SLACK_SECONDS
        )

    @property
    def only_copy(self) -> bool:
        """The ledger says that its local file is gone."""
        return bool(self.rows) and all(row.freed_at is not None for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {"s3_key": self.key, "size_bytes": self.size_bytes, "written_at": self.written_at}


@dataclass(slots=True)
class Plan:
    """What would go, oldest first, and what stays."""

    candidates: list[PruneCandidate] = field(default_factory=list)
    kept_files: int = 0
    kept_bytes: int = 0
    foreign_files: int = 0
    foreign_bytes: int = 0
    listing_prefix: str = ""  # all candidates lie below it

    @property
    def size_bytes(self) -> int:
        """Of what would go."""
        return sum(one.size_bytes for one in self.candidates)


@dataclass(slots=True)
class PruneReport:
    """What went."""

    deleted: int = 0
    deleted_bytes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def plan_prune(
    store: ObjectStore,
    ledger: Ledger | None,
    *,
    scope: KeyScope,
    rule: Rule,
    now: float,
    on_progress: Callable[[int], None] = lambda listed: None,
) -> Plan:
    """Decide what would go; deletes nothing.

    Args:
        scope: the keys that may be planned.
        ledger: of the directory, where there is one: it saves a request for each object that it wrote.
        now: seconds since 1970.
        on_progress: called with how many objects were seen.

    Raises:
        StoreError: the bucket cannot be listed or looked at.
    """
    plan = Plan(listing_prefix=scope.listing_prefix)
    ours: list[PruneCandidate] = []
    limit = None if rule.older_than_seconds is None else now - rule.older_than_seconds
    listed = 0
    with (
        ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="cloud-archive-prune") as pool,
        KeyIndex(ledger) if ledger is not None else nullcontext() as index,
    ):
        for listing in _pages(store.list(scope.listing_prefix), 1000):
            listed += len(listing)
            page = [info for info in listing if scope.holds(info.key)]
            # For an age alone, what is young stays whoever wrote it, and need not be looked at.
            old = [info for info in page if rule.keep_bytes is not None or _is_before(info, limit)]
            young = [info for info in page if not (rule.keep_bytes is not None or _is_before(info, limit))]
            plan.kept_files += len(young)
            plan.kept_bytes += sum(info.size_bytes for info in young)
            rows = index.find([info.key for info in old]) if index is not None else {}
            for info, mine in zip(
                old, pool.map(lambda i, r=rows: _is_ours(store, i, r.get(i.key, []), rule), old), strict=True
            ):
                if mine and info.last_modified is not None:
                    ours.append(
                        PruneCandidate(
                            info.key,
                            info.size_bytes,
                            info.last_modified.timestamp(),
                            info.etag,
                            tuple(rows.get(info.key, ())),
                        )
                    )
                else:
                    plan.foreign_files += 1
                    plan.foreign_bytes += info.size_bytes
            on_progress(listed)
    _choose(plan, ours, limit, rule.keep_bytes)
    return plan


def _choose(plan: Plan, ours: list[PruneCandidate], limit: float | None, keep_bytes: int | None) -> None:
    """Oldest first; the key decides between equals, so that two runs plan the same."""
    heapq.heapify(order := [(one.written_at, one.key, place) for place, one in enumerate(ours)])
    left = sum(one.size_bytes for one in ours)
    while order:
        written_at, _, place = heapq.heappop(order)
        one = ours[place]
        if (limit is not None and written_at < limit) or (keep_bytes is not None and left > keep_bytes):
            plan.candidates.append(one)
            left -= one.size_bytes
        else:
            plan.kept_files += 1
            plan.kept_bytes += one.size_bytes


def _is_before(info: ObjectInfo, limit: float | None) -> bool:
    return limit is not None and info.last_modified is not None and info.last_modified.timestamp() < limit


def _is_ours(store: ObjectStore, info: ObjectInfo, rows: Sequence[FileRow], rule: Rule) -> bool:
    if rule.everything:
        return True
    if info.key.endswith("/"):
        return False
    for row in rows:
        if row.wrote and compare(info, Expected.of_row(row)) is Verdict.SAME:
            return True
    seen = with_retries(lambda: store.head(info.key))
    # Deleted and written anew in between: then it is not the object that was listed.
    same = seen is not None and (seen.size_bytes, seen.etag) == (info.size_bytes, info.etag)
    return same and seen is not None and MARK in seen.metadata


def prune(
    store: ObjectStore,
    ledger: Ledger | None,
    plan: Plan,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PruneReport:
    """Delete what the plan names and what is still as it was planned, in batches.

    After a batch of which nothing may be deleted, no other is tried.

    Args:
        on_progress: called with objects done and objects in all.

    Raises:
        LedgerError: the ledger cannot be written; the batch was not begun.
    """
    report = PruneReport()
    answers: dict[str, StoreError | None] = {}
    done = 0
    with ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="cloud-archive-prune") as pool:
        for batch in _pages(plan.candidates, DELETE_AT_ONCE):
            refusals = list(pool.map(lambda one: _refusal(store, one), batch))
            report.failed += [(one.key, cause) for one, cause in zip(batch, refusals, strict=True) if cause]
            unchanged = [one for one, cause in zip(batch, refusals, strict=True) if not cause]
            denied = _delete(store, ledger, unchanged, answers)
            done += len(batch)
            on_progress(done, len(plan.candidates))
            if denied:
                break
        if answers:
            tried = [one for one in plan.candidates if one.key in answers]
            there = _still_there(store, plan.listing_prefix, tried, answers, pool)
            _report(ledger, tried, answers, there, report)
    return report


def _still_there(
    store: ObjectStore,
    prefix: str,
    tried: Sequence[PruneCandidate],
    answers: Mapping[str, StoreError | None],
    pool: Executor,
) -> set[str]:
    """Return which objects the bucket still holds: by one listing, and a HEAD where it contradicts the answer.

    Where listing is refused, each is asked for by a HEAD; where that is refused as well, it counts as still there.
    """
    keys = {one.key for one in tried}
    try:
        listed = with_retries(lambda: {info.key for info in store.list(prefix) if info.key in keys})
        doubtful = [one for one in tried if (one.key in listed) == (answers[one.key] is None)]
    except StoreError:
        listed, doubtful = set(), list(tried)

    def is_there(one: PruneCandidate) -> bool:
        try:
            return one.is_still(with_retries(lambda: store.head(one.key)))
        except StoreError:
            return True

    there = listed - {one.key for one in doubtful}
    there |= {one.key for one, found in zip(doubtful, pool.map(is_there, doubtful), strict=True) if found}
    return there


def _report(
    ledger: Ledger | None,
    tried: Sequence[PruneCandidate],
    answers: Mapping[str, StoreError | None],
    there: Set[str],
    report: PruneReport,
) -> None:
    """Count what is gone and what is not, and let the ledger say the same."""
    for one in tried:
        answer = answers[one.key]
        if one.key in there:
            report.failed.append((one.key, STILL_THERE if answer is None else _why(answer)))
        else:
            report.deleted += 1
            report.deleted_bytes += one.size_bytes
    if ledger is None:
        return
    kept = [row for one in tried if one.key in there and answers[one.key] is None for row in one.rows]
    gone = [row for one in tried if one.key not in there and answers[one.key] is not None for row in one.rows]
    if kept:
        unmark_pruned(ledger, kept)
    if gone:
        mark_pruned(ledger, [row.row for row in gone])


def _refusal(store: ObjectStore, planned: PruneCandidate) -> str:
    """Why this object stays; empty where it is as it was planned."""
    try:
        return "" if planned.is_still(with_retries(lambda: store.head(planned.key))) else CHANGED
    except StoreError as error:
        return f"It could not be compared with the plan: {error}"


def _delete(
    store: ObjectStore,
    ledger: Ledger | None,
    batch: Sequence[PruneCandidate],
    answers: dict[str, StoreError | None],
) -> bool:
    """Delete these and note the store's answers. Returns whether the store denied every one of them."""
    rows = {one.key: one.rows for one in batch}
    if ledger is not None:
        mark_pruned(ledger, [row.row for one in batch for row in one.rows])
    undone = set(rows)
    denied = 0
    try:
        for key, error in store.delete(list(rows)):
            answers[key] = error
            if error is None:
                undone.discard(key)
            else:
                denied += _is_denied(error)
    finally:
        if ledger is not None and undone:
            unmark_pruned(ledger, [row for key in undone for row in rows[key]])
    return bool(batch) and denied == len(batch)


def _why(error: StoreError) -> str:
    return DENIED if _is_denied(error) else str(error)


def _is_denied(error: StoreError) -> bool:
    return is_denied(error) or error.failure.code in ("AccessDenied", "403")


def _pages(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(items)
    while page := list(islice(left, size)):
        yield page
