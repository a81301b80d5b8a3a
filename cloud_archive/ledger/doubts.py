"""Which archived files may hold other bytes than the ledger says, and what hashing them told.

The fingerprint of a file (path, size, mtime) finds its row. Its identity (inode, change time) tells whether something
touched it since its bytes were hashed; where it did, only the bytes tell whether the file is still the archived one.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..files import FileVersion, signed64
from .ledger import Ledger
from .rows import FileRow, FileState, add_row, identity_values

WHOLE_TREE_FILES = 100  # fewer are hashed in a moment
MOST_NAMED = 1000


class Comparison(NamedTuple):
    """Files of one batch by what the ledger knows of them; a file that is neither is known and needs nothing.

    Attributes:
        unknown: fingerprints that no row and no baseline entry has.
        baseline: fingerprints of files from before the first start that were not archived since.
        doubtful: fingerprints of archived or pruned files that were touched since their bytes were hashed.
        same: how many are known and were not touched, without those that only the baseline knows.
    """

    unknown: set[int]
    baseline: set[int]
    doubtful: set[int]
    same: int


def compare(
    ledger: Ledger,
    batch: Sequence[tuple[str, os.stat_result]],
    fingerprints: Sequence[int],
    *,
    inodes: bool,
) -> Comparison:
    """Compare files with the ledger, in one statement where nothing is new.

    Args:
        batch: relative paths, and what `stat` says of each.
        fingerprints: one for each of them.
        inodes: whether inode numbers mean something here.
    """
    rest = _changed_or_new(ledger, batch, fingerprints, inodes)
    same = len(batch) - len(rest)
    if not rest:
        return Comparison(set(), set(), set(), same)
    asked = json.dumps(list(rest))
    older = dict(
        ledger.read(
            "SELECT fingerprint, archived FROM baseline WHERE fingerprint IN (SELECT value FROM json_each(?))",
            (asked,),
        )
    )
    baseline = {mark for mark, archived in older.items() if archived is None}
    unknown = rest.keys() - older.keys()
    if not unknown:
        return Comparison(unknown, baseline, set(), same)
    doubtful: set[int] = set()
    found = ledger.read(
        "SELECT fingerprint, state, inode, ctime_offset, max(seen_at, coalesce(restored_at, 0))"
        " FROM files WHERE fingerprint IN (SELECT value FROM json_each(?)) AND state <> 4",
        (json.dumps(list(unknown)),),
    )
    for mark, state, inode, offset, seen_at in found:
        unknown.discard(mark)
        if state < FileState.ARCHIVED:
            continue  # its bytes are still to be read
        version = FileVersion.of_stat("", rest[mark])
        other_inode = inodes and signed64(version.inode) != inode
        touched = (version.ctime_offset or 0) != (offset or 0)
        if offset is None:  # a row of an older version
            touched &= version.changed_ns > seen_at * 1e9
        if other_inode or touched:
            doubtful.add(mark)
        else:
            same += 1
    return Comparison(unknown, baseline, doubtful, same)


def _changed_or_new(
    ledger: Ledger, batch: Sequence[tuple[str, os.stat_result]], fingerprints: Sequence[int], inodes: bool
) -> dict[int, os.stat_result]:
    """The files that no row knows with their inode and change time, by fingerprint.

    SQLite compares the sum of inode and change time, so that what is known, nearly all of a million files, costs one
    look-up and no row that comes back. A change could hide only if the change time moved by exactly as many
    nanoseconds as the inode number, the other way.
    """
    if os.name == "nt":
        sums = ",".join([f'"{mark}":0' for mark in fingerprints])
    elif inodes:
        sums = ",".join(
            [
                f'"{mark}":{stat.st_ino + stat.st_ctime_ns - stat.st_mtime_ns}'
                for mark, (_, stat) in zip(fingerprints, batch, strict=True)
            ]
        )
    else:
        sums = ",".join(
            [
                f'"{mark}":{stat.st_ctime_ns - stat.st_mtime_ns}'
                for mark, (_, stat) in zip(fingerprints, batch, strict=True)
            ]
        )
    inode = "inode" if inodes else "0"
    rows = ledger.read(
        "SELECT CAST(key AS INTEGER) FROM json_each(?) AS asked WHERE NOT EXISTS (SELECT 1 FROM files"
        " WHERE fingerprint = CAST(asked.key AS INTEGER) AND state <> 4"
        f" AND {inode} + coalesce(ctime_offset, 0) = asked.value)",
        (f"{{{sums}}}",),
    )
    if not rows:
        return {}
    marks = {row[0] for row in rows}
    return {mark: stat for mark, (_, stat) in zip(fingerprints, batch, strict=True) if mark in marks}


@dataclass(slots=True)
class Doubts:
    """The files of a directory that were touched since they were archived.

    Attributes:
        paths: of the first ones.
        files: how many they are.
        same: how many were not touched.
    """

    paths: list[str] = field(default_factory=list)
    files: int = 0
    same: int = 0

    def add(self, path: str) -> None:
        """One more."""
        self.files += 1
        if len(self.paths) < MOST_NAMED:
            self.paths.append(path)

    @property
    def is_whole_tree(self) -> bool:
        """Whether the tree was moved or copied as a whole, or its owners changed: no reason to doubt each file."""
        return self.files > WHOLE_TREE_FILES and self.files > self.same

    @property
    def urgent(self) -> int:
        """How many must be hashed before it is safe to stop."""
        return 0 if self.is_whole_tree else self.files


def confirm(ledger: Ledger, row: FileRow, read: FileVersion) -> None:
    """Remember the file's identity: its bytes were hashed just now, and are those of the row.

    Args:
        read: the file as it was when it was hashed.
    """

    def work(db: sqlite3.Connection) -> None:
        # A file that was freed is back: its age counts from now.
        db.execute(
            "UPDATE files SET device = ?, inode = ?, ctime_offset = ?,"
            " restored_at = CASE WHEN freed_at IS NULL THEN restored_at ELSE ? END, freed_at = NULL"
            " WHERE id = ? AND state IN (3, 5)",
            (*identity_values(read), ledger.clock(), row.row),
        )

    ledger.change(work)


def supersede(ledger: Ledger, row: FileRow, read: FileVersion) -> bool:
    """Queue the file as a new version: it holds other bytes than the row, under the same size and mtime.

    The row stays as the history of what was archived, under a fingerprint that no file has.

    Returns:
        Whether a version was queued; False where the row is no longer archived or pruned.
    """
    now = ledger.clock()

    def work(db: sqlite3.Connection) -> bool:
        replaced = db.execute(
            "UPDATE files SET fingerprint = random(), freed_at = coalesce(freed_at, ?)"
            " WHERE id = ? AND fingerprint = ? AND state IN (3, 5)",
            (now, row.row, read.fingerprint),
        ).rowcount
        return bool(replaced) and add_row(db, read, 0, now) == 1

    return ledger.change(work)
