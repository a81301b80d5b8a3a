"""Rebuild the catalog from the bucket: list it, and read by ranges what the catalog lacks."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ..executor import unawaited_threads
from ..files import parse_timestamp_ns, within_64_bits
from ..keys import object_path
from ..scope import KeyScope
from ..store.base import ObjectInfo, ObjectStore
from .assets import CLOCK_STEP_SECONDS
from .bucket.outgoing import MAX_ROWS
from .bucket.tables import deletion_clocks, queue_deletions
from .database import CatalogDatabase
from .identity import asset_id_bytes
from .reading import BUCKET_BLOCK_BYTES, AssetReader
from .rows import ArchivedObject, add_archived, full_key, mark_outdated_unread, remove_assets

_PAGE = 1000
HEADS = 200  # requests whose answers are committed together
AT_ONCE = 16  # requests; the reader that `rebuild` gets should send as many
REQUESTS_FOR_A_FILE = 3  # one HEAD, and two reads of 64 KiB for most formats


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """What a rebuild will do, and about what it costs.

    Attributes:
        listed: objects below the prefix.
        unknown: those of them that the catalog does not hold.
        unread: assets of the catalog that were not read.
        gone: keys of assets whose objects are not in the bucket.
    """

    listed: int
    unknown: tuple[ObjectInfo, ...]
    unread: int
    gone: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """Return about how many requests it sends to the store."""
        reads = len(self.unknown) * REQUESTS_FOR_A_FILE + self.unread * (REQUESTS_FOR_A_FILE - 1)
        reads += len(self.gone)
        rows = len(self.unknown) + self.unread + len(self.gone)
        return reads + 2 * -(-rows // MAX_ROWS)

    @property
    def read_bytes(self) -> int:
        """Return about how many bytes it reads from the store."""
        sizes = sum(min(one.size_bytes, 2 * BUCKET_BLOCK_BYTES) for one in self.unknown)
        return sizes + self.unread * BUCKET_BLOCK_BYTES


class Rebuilt(NamedTuple):
    """What a rebuild did.

    Attributes:
        added: objects that the catalog lacked.
        gone: assets that it removed.
        unread: files that can't be read now.
    """

    added: int
    gone: int
    unread: int


def plan_rebuild(database: CatalogDatabase, store: ObjectStore, scope: KeyScope, bucket: str) -> RebuildPlan:
    """List the bucket and compare it with the catalog. StoreError: it can't be listed."""
    database.change(mark_outdated_unread)
    listed = 0
    there: set[bytes] = set()
    unknown: list[ObjectInfo] = []
    objects = (info for info in store.list(scope.listing_prefix) if scope.holds(info.key))
    while page := list(islice(objects, _PAGE)):
        listed += len(page)
        there.update(asset_id_bytes(bucket, info.key) for info in page)
        unknown += _unknown(database, page, bucket)
    unread = database.read("SELECT count(*) FROM assets WHERE reader = 0")[0][0]
    return RebuildPlan(listed, tuple(unknown), unread, tuple(_gone(database, scope, there)))


def _gone(database: CatalogDatabase, scope: KeyScope, there: Set[bytes]) -> Iterator[str]:
    with database.reading() as db:
        for identity, folder, name in db.execute(
            "SELECT a.uuid, f.text, a.name FROM assets a JOIN folders f ON f.id = a.folder"
        ):
            key = full_key(folder, name)
            if identity not in there and scope.holds(key):
                yield key


def _unknown(database: CatalogDatabase, page: Sequence[ObjectInfo], bucket: str) -> Iterator[ObjectInfo]:
    marks = ", ".join("?" * len(page))
    ids = {asset_id_bytes(bucket, info.key): info for info in page}
    known = database.read(f"SELECT uuid FROM assets WHERE uuid IN ({marks})", list(ids))
    for (identity,) in known:
        del ids[identity]
    yield from ids.values()


def rebuild(
    plan: RebuildPlan,
    database: CatalogDatabase,
    store: ObjectStore,
    scope: KeyScope,
    bucket: str,
    reader: AssetReader,
    *,
    machine: str,
    on_progress: Callable[[int, int], None] = lambda added, read: None,
    write: Callable[[], object] = lambda: None,
) -> Rebuilt:
    """Add what the catalog lacks, read it, and remove assets whose objects are gone.

    Each step is committed, so a run after a kill continues where this one stopped.

    Args:
        on_progress: called with how many files were added, and how many were read.
        write: writes what the bucket does not hold yet; called after about MAX_ROWS rows, and at the end.

    Raises:
        StoreError: the store does not answer now. What was read is kept.
    """
    added = read = 0
    with unawaited_threads(AT_ONCE, "cloud-archive-rebuild") as pool:
        gone = sum(pool.map(lambda key: forget_missing(database, store, bucket, key, machine), plan.gone))
        for first in range(0, len(plan.unknown), HEADS):
            some = plan.unknown[first : first + HEADS]
            answers = pool.map(lambda info: _archived_object(store, info, scope), some)
            found = [one for one in answers if one is not None]
            database.change(
                lambda db, found=found: add_archived(db, bucket, _undeleted(db, bucket, found, machine))  # type: ignore[misc]
            )
            added += len(found)
            on_progress(added, read)
    unwritten = gone
    while count := reader.read_some(lambda: True):
        read += count
        unwritten += count
        on_progress(added, read)
        if unwritten >= MAX_ROWS:
            write()
            unwritten = 0
    write()
    unread = database.read("SELECT count(*) FROM assets WHERE reader = 0")
    return Rebuilt(added, gone, int(unread[0][0]))


def forget_missing(
    database: CatalogDatabase, store: ObjectStore, bucket: str, key: str, machine: str
) -> bool:
    """Remove an asset if its object is gone, and queue its deletion for other machines. Return whether it was removed.

    Raises:
        StoreError: the store does not say now whether it is gone.
    """
    if store.head(key) is not None:
        return False

    def forget(db: sqlite3.Connection) -> None:
        queue_deletions(db, bucket, [key], time.time(), machine)
        remove_assets(db, bucket, [key])

    database.change(forget, durable=True)
    return True


def _archived_object(store: ObjectStore, listed: ObjectInfo, scope: KeyScope) -> ArchivedObject | None:
    """Return what a HEAD says of an object. None: it was deleted after it was listed."""
    found = store.head(listed.key)
    if found is None:
        return None
    written = found.last_modified or listed.last_modified
    written_at = written.timestamp() if written else time.time()
    mtime_ns = parse_timestamp_ns(found.metadata.get("mtime", ""))
    return ArchivedObject(
        key=found.key,
        path=object_path(found.key[len(scope.head) :], found.metadata.get("path", "")),
        size_bytes=found.size_bytes,
        mtime_ns=int(written_at * 1e9) if mtime_ns is None else within_64_bits(mtime_ns),
        archived_at=written_at,
        sha256=_digest(found.sha256),
        machine=None,
        session_id=None,
    )


def _undeleted(
    db: sqlite3.Connection, bucket: str, objects: Sequence[ArchivedObject], machine: str
) -> list[ArchivedObject]:
    """Return these objects. Those with a known deletion get a time after it, and a machine.

    Every machine ignores a put without a machine if it knows a deletion of its key.
    """
    deleted_at = deletion_clocks(db, bucket, objects)
    return [
        one._replace(archived_at=deleted_at[one.key] + CLOCK_STEP_SECONDS, machine=machine)
        if one.key in deleted_at
        else one
        for one in objects
    ]


def _digest(text: str | None) -> str | None:
    try:
        return text if text and len(bytes.fromhex(text)) == 32 else None
    except ValueError:
        return None
