"""The rule, the plan and the result of `prune`."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from ..errors import LedgerError
from ..ledger.rows import FileRow
from ..store.base import ObjectInfo

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
        foreign_files, foreign_bytes: what other programs wrote; not in `kept_files` and `kept_bytes`.
        favorite_files, favorite_bytes: the part of what is kept that stays only because it is a favourite.
        made_at: when the plan was begun, in seconds since 1970 by the ledger's clock.
        listing_prefix: all candidates lie below it.
    """

    candidates: list[PruneCandidate] = field(default_factory=list)
    kept_files: int = 0
    kept_bytes: int = 0
    foreign_files: int = 0
    foreign_bytes: int = 0
    favorite_files: int = 0
    favorite_bytes: int = 0
    made_at: float = 0.0
    listing_prefix: str = ""

    @property
    def size_bytes(self) -> int:
        return sum(candidate.size_bytes for candidate in self.candidates)


@dataclass(slots=True)
class PruneReport:
    """What `prune` deleted.

    Attributes:
        deleted_at: the key of each deleted object, and when its deletion was requested, in seconds since 1970.
        failed: the key of each object that stays, and the cause.
        untried: how many objects were left because `prune` stopped early.
        error: why it ended early, or could not correct the ledger's rows; raise it once the deletions are recorded.
    """

    deleted: int = 0
    deleted_bytes: int = 0
    deleted_at: dict[str, float] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    untried: int = 0
    error: LedgerError | KeyboardInterrupt | None = None
