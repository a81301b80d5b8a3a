"""Compaction: write month files, each of which repeats the rows of many segments and names the files that it replaces.

Files that it replaces stay in the bucket, unless `catalog compact --delete` deletes them. Two machines may compact the
same files at the same time; readers see each row once. A month file replaces only files that were read whole, and files
that one of these replaces. It keeps the rows of deletions, so that no deleted object comes back.
"""

from __future__ import annotations

import secrets
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...config.settings import Settings
from ...errors import StoreError
from ...store.base import ObjectInfo, ObjectStore
from ...store.failures import is_missing
from ..database import CatalogDatabase
from .merged import MergedRows
from .names import MONTHS, SEGMENTS, CatalogFolder, FileName, new_month_name, parse_name, ulid_time
from .objects import SEGMENT_TYPE, Listed, list_files, write_proven
from .segment import Decoded, SegmentError, decode

CROWDED_FILES = 200  # a month with more unmerged segments is compacted automatically
# The files that become one month file have up to this size in all. A month file of more than half of it is not merged.
MAX_GROUP_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Compacted:
    """The result of compacting one group of files.

    Attributes:
        name: of the month file; empty: there was nothing to compact.
        replaced: names of the listed files that it replaces.
        left_out: (name, reason) of files that can't be read; they stay as they are.
        deleted: how many of the replaced files `delete_replaced` deleted.
        not_deleted: (name, reason) of those that it could not delete.
        is_new: False if the month file was there already and holds all rows of the group.
    """

    month: str
    name: str = ""
    replaced: list[str] = field(default_factory=list)
    rows: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    deleted: int = 0
    not_deleted: list[tuple[str, str]] = field(default_factory=list)
    is_new: bool = True


def months_in(store: ObjectStore, folder: CatalogFolder, month: str = "") -> dict[str, list[Listed]]:
    """Return the catalog's files by month, oldest month first; `month`: only this one. StoreError: listing failed."""
    found: dict[str, list[Listed]] = {}
    for kind in (MONTHS, SEGMENTS):
        for info, name in list_files(store, folder, f"{kind}/{month}"):
            found.setdefault(name.month, []).append((info, name))
    return {one: found[one] for one in sorted(found)}


def compact_month(
    store: ObjectStore,
    folder: CatalogFolder,
    machine: str,
    files: Sequence[Listed],
    *,
    now: float,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Iterator[Compacted]:
    """Write a month file for each group of one month's files that no month file holds already.

    Yields a result for each month file that it wrote and proved, for each older one that holds others of these files,
    and for each group with a file that can't be read.

    Raises:
        StoreError: the store failed or refused. The month files written so far stay valid.
    """
    waiting = {name.text for _, name in files}  # without those that a month file was seen to replace
    large = [one for one in files if _is_large(one)]
    small = [one for one in files if not _is_large(one)]
    for group in (*([one] for one in _newest_first(large)), *_groups(small)):
        if not may_go_on():
            return
        left = [one for one in group if one[1].text in waiting]
        if not left:
            continue
        if _is_large(left[0]):
            result = _read_large(store, *left[0], waiting)
        else:
            result = _compact_group(store, folder, machine, left, waiting, now)
        waiting.difference_update(result.replaced)
        if result.name or result.left_out:
            yield result


def _is_large(file: Listed) -> bool:
    info, name = file
    return name.kind == MONTHS and info.size_bytes > MAX_GROUP_BYTES // 2


def _read_large(store: ObjectStore, info: ObjectInfo, name: FileName, waiting: set[str]) -> Compacted:
    """Return which of the `waiting` files a month file replaces. If there are none, only its beginning is read."""
    result = Compacted(name.month, is_new=False)
    found = Decoded()
    rows = decode(store.read(info.key, info.size_bytes), found, size_bytes=info.size_bytes)
    try:
        next(rows, None)
        replaced = waiting.intersection(found.replaces) - {name.text}
        if not replaced:
            return result
        deque(rows, maxlen=0)  # its rows count only if all of them can be read
        _refuse_skipped(found)
    except (SegmentError, StoreError) as error:
        _note_unread(result, name, error)
        return result
    result.name, result.rows, result.replaced = name.text, found.rows, sorted(replaced)
    return result


def _newest_first(files: Iterable[Listed]) -> list[Listed]:
    """Sort the newest first, all month files before segments: the files that month files replace need not be read."""
    return sorted(files, key=lambda one: (one[1].kind == MONTHS, one[1].ulid), reverse=True)


def _groups(files: Iterable[Listed]) -> Iterator[list[Listed]]:
    group: list[Listed] = []
    size_bytes = 0
    for info, name in _newest_first(files):
        if group and size_bytes + info.size_bytes > MAX_GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
        group.append((info, name))
        size_bytes += info.size_bytes
    if group:
        yield group


def _compact_group(
    store: ObjectStore,
    folder: CatalogFolder,
    machine: str,
    group: Sequence[Listed],
    waiting: set[str],
    now: float,
) -> Compacted:
    result = Compacted(group[0][1].month)
    replaces: dict[str, set[str]] = {}  # names of files, by the month file that holds their rows; itself too
    merged_names: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cloud-archive-") as directory:
        merged = MergedRows(Path(directory) / "rows.sqlite3")
        try:
            for info, name in group:
                is_held = any(name.text in names for names in replaces.values())
                if not is_held and _read_into(store, info, name, merged, replaces, result):
                    merged_names.append(name.text)
            covered = set().union(*replaces.values())
            replaced = {*merged_names, *covered.intersection(waiting)}
            if len(replaced) < 2:
                return Compacted(result.month, left_out=result.left_out)
            result.rows = merged.count()
            for one, names in replaces.items():
                if names.issuperset(merged_names):  # this month file holds all of it already
                    result.name, result.is_new, result.replaced = one, False, sorted(replaced - {one})
                    return result
            result.replaced = sorted(replaced)
            # A month file of this group may replace files outside it. The new file must name these too.
            body = merged.body(machine, now, sorted(replaced | covered))
        finally:
            merged.close()
    # Later than the files that it replaces, even if this clock is behind, so that the next call reads it first.
    latest = max(ulid_time(name.ulid) for _, name in group)
    written = new_month_name(result.month, max(now, latest + 0.002))
    write_proven(store, folder.key(written), body, SEGMENT_TYPE)
    result.name = written
    return result


def _read_into(
    store: ObjectStore,
    info: ObjectInfo,
    name: FileName,
    merged: MergedRows,
    replaces: dict[str, set[str]],
    result: Compacted,
) -> bool:
    """Merge the rows of one file, or none of them if it can't be read. Return whether they were merged."""
    found = Decoded()
    try:
        with merged.all_or_none():
            for row in decode(store.read(info.key, info.size_bytes), found, size_bytes=info.size_bytes):
                merged.add(row)
            _refuse_skipped(found)
    except (SegmentError, StoreError) as error:
        _note_unread(result, name, error)
        return False
    if name.kind == MONTHS:
        replaces[name.text] = {name.text, *found.replaces}
    return True


def _refuse_skipped(found: Decoded) -> None:
    if found.skipped:
        raise SegmentError("some of its rows can't be read")


def _note_unread(result: Compacted, name: FileName, error: SegmentError | StoreError) -> None:
    """Note a damaged file in `result`. One that is gone is no trouble: another machine has replaced and deleted it."""
    if isinstance(error, SegmentError):
        result.left_out.append((name.text, str(error)))
    elif not is_missing(error):
        raise error


def delete_replaced(store: ObjectStore, folder: CatalogFolder, result: Compacted) -> None:
    """Delete the files that a proven month file replaces, and count them in `result`."""
    if not result.name:
        return
    for key, error in store.delete([folder.key(name) for name in result.replaced]):
        if error is None:
            result.deleted += 1
        else:
            result.not_deleted.append((folder.name(key), str(error)))


def compact_crowded_months(
    store: ObjectStore,
    folder: CatalogFolder,
    settings: Settings,
    database: CatalogDatabase,
    may_go_on: Callable[[], bool],
    unmerged: dict[str, int],
    is_chosen: Callable[[int], bool] = lambda machines: secrets.randbelow(machines) == 0,
) -> None:
    """Compact each month for which the local catalog lists more than CROWDED_FILES segments that no file replaces.

    Args:
        unmerged: by month, how many segments remained after it was last compacted, or after the store refused that for
            good; updated. A month is compacted again only if it has more than CROWDED_FILES further segments, because
            segments that can't be merged would be read in each pass.
        is_chosen: gets how many machines wrote in a month; returns whether this one compacts it now. All of them see at
            about the same time that it is crowded, so each decides by chance.

    Raises:
        StoreError: the store failed or refused.
    """
    for month, segments in _crowded_months(database).items():
        if segments <= unmerged.get(month, 0) + CROWDED_FILES or not is_chosen(
            _count_machines(database, month)
        ):
            continue
        rows = database.read(
            "SELECT name FROM bucket_files WHERE state = 'replaced' AND name LIKE ?", (f"%/{month}%",)
        )
        replaced = {name for (name,) in rows}
        listed = months_in(store, folder, month).get(month, [])
        files = [one for one in listed if one[1].text not in replaced]
        machine = settings.machine_name
        try:
            for result in compact_month(store, folder, machine, files, now=time.time(), may_go_on=may_go_on):
                database.change(lambda db, result=result: note_compacted(db, result))  # type: ignore[misc]
        except StoreError as error:
            if not error.failure.transient:
                unmerged[month] = _crowded_months(database).get(month, 0)
            raise
        if not may_go_on():
            return
        unmerged[month] = _crowded_months(database).get(month, 0)


def _crowded_months(database: CatalogDatabase) -> dict[str, int]:
    return dict(
        database.read(
            "SELECT substr(name, 10, 7), count(*) FROM bucket_files WHERE name LIKE 'segments/%' AND state = 'read'"
            " GROUP BY 1 HAVING count(*) > ?",
            (CROWDED_FILES,),
        )
    )


def _count_machines(database: CatalogDatabase, month: str) -> int:
    rows = database.read("SELECT name FROM bucket_files WHERE name LIKE ?", (f"{SEGMENTS}/{month}%",))
    names = [parse_name(row[0]) for row in rows]
    return max(1, len({name.machine for name in names if name is not None}))


def note_compacted(db: sqlite3.Connection, result: Compacted) -> None:
    """Mark the new month file as read and the files that it replaces as replaced, in the local catalog.

    If the local catalog has not read all of these, the next pass reads the month file. The state of one that was there
    already stays as it is, because it may repeat more files than these.
    """
    if not result.name:
        return
    was_read = "SELECT 1 FROM bucket_files WHERE name = ? AND state IN ('read', 'replaced')"
    known = {name for name in result.replaced if db.execute(was_read, (name,)).fetchone() is not None}
    if result.is_new and len(known) == len(result.replaced):
        db.execute(
            "INSERT OR REPLACE INTO bucket_files VALUES (?, 'read', ?, 0, NULL)", (result.name, result.rows)
        )
    db.executemany(
        "UPDATE bucket_files SET state = 'replaced' WHERE name = ? AND state = 'read'",
        [(name,) for name in known],
    )
