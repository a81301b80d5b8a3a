"""Plan which objects `prune` deletes: old ones below the prefix, by age or total size.

A plan names only keys in a `KeyScope` and, unless the rule says `everything`, only objects that Cloud Archive wrote. It
wrote an object if a row of the ledger says so and has the object's size and ETag, or if the object's metadata has an
`archive-token`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from ..errors import CloudArchiveError, StoreError
from ..executor import unawaited_threads
from ..keys import RESERVED_FOLDER
from ..ledger.key_index import KeyIndex
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..scope import KeyScope
from ..store.base import ObjectInfo, ObjectStore
from ..store.evidence import Expected, Verdict, compare
from ..store.failures import concerns_every_request, is_denied
from .batched import batched
from .retry import with_retries

PARALLEL_HEADS = 8
WRITTEN_BY_US = "archive-token"  # in the metadata of each output that Cloud Archive wrote
TIME_SLACK_SECONDS = 2.0  # listings may have milliseconds, and a HEAD only seconds
FindFavorites = Callable[[Sequence[str]], Set[str]]
"""A function that returns which of these keys are favourites. CloudArchiveError: that can't be found out."""


def no_favorites(keys: Sequence[str]) -> Set[str]:
    """Return no key, so that favourites are deleted like other objects."""
    return frozenset()


@dataclass(frozen=True, slots=True)
class PruneRule:
    """What to delete. With both limits, either one is enough to delete an object.

    Attributes:
        older_than_seconds: delete objects that were written longer ago.
        keep_bytes: delete the oldest objects until the others have at most this total size.
        everything: also delete what other programs wrote below the prefix.
    """

    older_than_seconds: float | None = None
    keep_bytes: int | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class PruneCandidate:
    """An object that may be deleted; `written_at` is in seconds since 1970."""

    key: str
    size_bytes: int
    written_at: float
    etag: str | None = None
    rows: tuple[FileRow, ...] = ()

    def has_same_bytes(self, info: ObjectInfo) -> bool:
        """Return whether size and ETag are as planned, as far as both ETags are known."""
        same_etag = self.etag is None or info.etag is None or info.etag == self.etag
        return info.size_bytes == self.size_bytes and same_etag

    def has_same_time(self, info: ObjectInfo) -> bool:
        """Return whether the time of writing is as planned, within `TIME_SLACK_SECONDS`."""
        moment = info.last_modified
        return moment is not None and abs(moment.timestamp() - self.written_at) < TIME_SLACK_SECONDS

    @property
    def only_copy(self) -> bool:
        """Whether its local file is gone, according to the ledger."""
        return bool(self.rows) and all(row.freed_at is not None for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"s3_key": self.key, "size_bytes": self.size_bytes, "written_at": self.written_at}


@dataclass(slots=True)
class PrunePlan:
    """What `prune` will delete, oldest first, and how much stays.

    Attributes:
        foreign_files: those that stay because other programs wrote them; not in `kept_files`.
        unchecked: the key of each object that stays because the store refuses to say who wrote it, and the cause; not
            in `kept_files`.
        favorite_files, favorite_bytes: the part of what is kept that stays only because it is a favourite.
        made_at: when the plan was begun, in seconds since 1970 by the ledger's clock.
        listing_prefix: all candidates lie below it.
    """

    candidates: list[PruneCandidate] = field(default_factory=list)
    kept_files: int = 0
    kept_bytes: int = 0
    foreign_files: int = 0
    unchecked: list[tuple[str, str]] = field(default_factory=list)
    favorite_files: int = 0
    favorite_bytes: int = 0
    made_at: float = 0.0
    listing_prefix: str = ""

    @property
    def size_bytes(self) -> int:
        return sum(candidate.size_bytes for candidate in self.candidates)


def plan_prune(
    store: ObjectStore,
    ledger: Ledger | None,
    *,
    scope: KeyScope,
    rule: PruneRule,
    now: float,
    favorites: FindFavorites = no_favorites,
    on_progress: Callable[[int], None] = lambda listed: None,
) -> PrunePlan:
    """Decide what to delete; deletes nothing.

    Args:
        ledger: the directory's ledger, if there is one. An object that its rows show to be ours needs no HEAD.
        scope: the keys that may be deleted.
        now: seconds since 1970 by this machine's clock. Ages are measured by the store's, if its answers show one.
        on_progress: called with the number of objects listed so far.

    Raises:
        StoreError: the bucket can't be listed, or none of its objects can be read.
        LedgerError: the ledger can't be read.
        CloudArchiveError: the favourites are unknown, or some files may be favourites of another archive.
    """
    plan = PrunePlan(listing_prefix=scope.listing_prefix, made_at=now if ledger is None else ledger.clock())
    ours: list[PruneCandidate] = []
    limit: float | None = None
    denied: StoreError | None = None
    listed, others = 0, set[str]()
    with (
        unawaited_threads(PARALLEL_HEADS, "cloud-archive-prune") as pool,
        KeyIndex(ledger) if ledger is not None else nullcontext() as index,
    ):
        for listing in batched(store.list(scope.listing_prefix), 1000):
            listed += len(listing)
            limit = limit or _age_limit(store, rule, now)
            page = [info for info in listing if scope.holds(info.key)]
            others.update(scope.other_archive(info.key) for info in listing)
            # With an age limit only, young objects stay in any case and need no check.
            old = [info for info in page if rule.keep_bytes is not None or _is_before(info, limit)]
            plan.kept_files += len(page) - len(old)
            plan.kept_bytes += sum(info.size_bytes for info in page) - sum(info.size_bytes for info in old)
            rows = index.find([info.key for info in old]) if index is not None else {}
            for info, is_ours in zip(
                old, pool.map(lambda i, r=rows: _is_ours(store, i, r.get(i.key, []), rule), old), strict=True
            ):
                if isinstance(is_ours, StoreError):
                    denied = denied or is_ours
                    plan.unchecked.append((info.key, str(is_ours)))
                elif is_ours and info.last_modified is not None:
                    ours.append(_candidate(info, info.last_modified.timestamp(), rows.get(info.key, ())))
                else:
                    plan.foreign_files += 1
            on_progress(listed)
    if denied is not None and not ours:
        raise denied  # probably the access key may read nothing
    _choose(plan, ours, limit, rule.keep_bytes, favorites([one.key for one in ours]))
    _refuse_others(plan, set() if favorites is no_favorites else others - {""})
    return plan


def _candidate(info: ObjectInfo, written_at: float, rows: Sequence[FileRow]) -> PruneCandidate:
    return PruneCandidate(info.key, info.size_bytes, written_at, info.etag, tuple(rows))


def _refuse_others(plan: PrunePlan, folders: Set[str]) -> None:
    """Raise CloudArchiveError if the plan has objects in a folder of another archive, whose favourites are not read."""
    for folder in sorted(folders):
        if any(one.key.startswith(folder) for one in plan.candidates):
            raise CloudArchiveError(
                f"Another archive has its catalog in {folder}{RESERVED_FOLDER}/, so its favourites are not known here."
                f" Nothing is deleted. Run prune with S3_PREFIX={folder.rstrip('/')}, or add --favorites to delete"
                " favourites too."
            )


def _choose(
    plan: PrunePlan,
    ours: list[PruneCandidate],
    limit: float | None,
    keep_bytes: int | None,
    favorites: Set[str],
) -> None:
    """Add the objects to delete to the plan, oldest first; equal times by key, so that plans are repeatable.

    Favourites count towards `keep_bytes`, and stay.
    """
    heapq.heapify(order := [(one.written_at, one.key, index) for index, one in enumerate(ours)])
    left = sum(one.size_bytes for one in ours)
    while order:
        written_at, _, index = heapq.heappop(order)
        one = ours[index]
        goes = (limit is not None and written_at < limit) or (keep_bytes is not None and left > keep_bytes)
        if goes and one.key not in favorites:
            plan.candidates.append(one)
            left -= one.size_bytes
            continue
        plan.kept_files += 1
        plan.kept_bytes += one.size_bytes
        if goes:
            plan.favorite_files += 1
            plan.favorite_bytes += one.size_bytes


def _age_limit(store: ObjectStore, rule: PruneRule, now: float) -> float | None:
    if rule.older_than_seconds is None:
        return None
    # The objects' times are the store's: a clock here that is ahead must not make them older.
    return now + (store.clock_offset_seconds or 0.0) - rule.older_than_seconds


def _is_before(info: ObjectInfo, limit: float | None) -> bool:
    return limit is not None and info.last_modified is not None and info.last_modified.timestamp() < limit


def _is_ours(
    store: ObjectStore, info: ObjectInfo, rows: Sequence[FileRow], rule: PruneRule
) -> bool | StoreError:
    """Return whether Cloud Archive wrote this object, or why the store refuses to say so.

    Raises StoreError if the store does not answer, or refuses for a cause that concerns other objects too.
    """
    if rule.everything:
        return True
    if info.key.endswith("/"):
        return False
    for row in rows:
        if row.wrote and compare(info, Expected.of_row(row)) is Verdict.SAME:
            return True
    try:
        current = with_retries(lambda: store.head(info.key))
    except StoreError as error:
        if is_denied(error) and error.status == 403:
            return error  # a policy for some keys, or an encryption key that this access key may not use
        if error.status != 400 or concerns_every_request(error):
            raise
        return False  # AWS answers so if the object needs the encryption key of its writer (SSE-C)
    if current is None:
        return False
    # It may have been replaced since the listing.
    same = (current.size_bytes, current.etag) == (info.size_bytes, info.etag)
    return same and WRITTEN_BY_US in current.metadata
