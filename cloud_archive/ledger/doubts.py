"""Find archived files that may have changed, and record the result of hashing them.

The fingerprint of a file (path, size, mtime) finds its row. Its identity (inode, change time) shows whether it was
touched since its bytes were hashed. If it was, only hashing can show whether it still holds the archived bytes.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from ..files import FileVersion, signed64
from .ledger import Ledger
from .rows import FileRow, FileState, add_row, identity_values

WHOLE_TREE_FILES = 100  # up to this many touched files are always urgent
MAX_NAMED = 1000


class Comparison(NamedTuple):
    """What the ledger knows of the files of a batch.

    Attributes:
        unknown: fingerprints without a row or a baseline entry.
        baseline: fingerprints of baseline files.
        doubtful: fingerprints of archived or pruned files that were touched since their bytes were hashed.
        same: how many have a row, and were not touched since.
        open: how many have a row that is still to be archived, touched or not.
    """

    unknown: set[int]
    baseline: set[int]
    doubtful: set[int]
    same: int
    open: int = 0


def compare(
    ledger: Ledger,
    batch: Sequence[tuple[str, os.stat_result]],
    fingerprints: Sequence[int],
    *,
    inodes: bool,
    baseline_likely: bool = False,
) -> Comparison:
    """Compare files with the ledger. One query finds those that may be new or touched; only these are read row by row.

    Args:
        inodes: whether files keep their inode numbers here; see `walk.stable_inodes`.
        baseline_likely: search the baseline before the rows, because most are baseline files.
    """
    if baseline_likely:
        others = _not_only_in_baseline(ledger, fingerprints)
        if not others:
            return Comparison(set(), set(fingerprints), set(), 0)
        if len(others) < len(batch):
            left = [pair for pair in zip(batch, fingerprints, strict=True) if pair[1] in others]
            found = compare(ledger, [file for file, _ in left], [each for _, each in left], inodes=inodes)
            return found._replace(baseline=found.baseline | set(fingerprints) - others)
    if ledger.is_blank():  # a first start
        return Comparison(set(fingerprints), set(), set(), 0)
    rest = _changed_or_new(ledger, batch, fingerprints, inodes)
    same = len(batch) - len(rest)
    if not rest:
        return Comparison(set(), set(), set(), same)
    given = json.dumps(list(rest))
    baseline_rows = dict(
        ledger.read(
            "SELECT fingerprint, archived FROM baseline WHERE fingerprint IN (SELECT value FROM json_each(?))",
            (given,),
        )
    )
    baseline = {fingerprint for fingerprint, archived in baseline_rows.items() if archived is None}
    unknown = rest.keys() - baseline_rows.keys()
    if not unknown:
        return Comparison(unknown, baseline, set(), same)
    found = _compare_rows(ledger, rest, unknown, inodes)
    return found._replace(baseline=baseline, same=same + found.same)


def _compare_rows(
    ledger: Ledger, files: Mapping[int, os.stat_result], fingerprints: Set[int], inodes: bool
) -> Comparison:
    unknown, doubtful = set(fingerprints), set()
    same = still_open = 0
    rows = ledger.read(
        "SELECT fingerprint, state, inode, ctime_offset, max(seen_at, coalesce(restored_at, 0))"
        " FROM files WHERE fingerprint IN (SELECT value FROM json_each(?)) AND state <> 4",
        (json.dumps(list(fingerprints)),),
    )
    for fingerprint, state, inode, offset, seen_at in rows:
        unknown.discard(fingerprint)
        version = FileVersion.of_stat("", files[fingerprint])
        other_inode = inodes and signed64(version.inode) != inode
        touched = (version.ctime_offset or 0) != (offset or 0)
        if offset is None:  # a row from before the ledger stored change times
            touched &= version.changed_ns > seen_at * 1e9
        is_open = state < FileState.ARCHIVED
        still_open += is_open
        if not (other_inode or touched):
            same += 1
        elif not is_open:  # else an upload will read its bytes
            doubtful.add(fingerprint)
    return Comparison(unknown, set(), doubtful, same, still_open)


def _not_only_in_baseline(ledger: Ledger, fingerprints: Sequence[int]) -> set[int]:
    rows = ledger.read(
        "SELECT value FROM json_each(?) AS given"
        " WHERE NOT EXISTS (SELECT 1 FROM baseline WHERE fingerprint = given.value AND archived IS NULL)"
        " OR EXISTS (SELECT 1 FROM files WHERE fingerprint = given.value)",
        (json.dumps(fingerprints),),
    )
    return {row[0] for row in rows}


def _changed_or_new(
    ledger: Ledger, batch: Sequence[tuple[str, os.stat_result]], fingerprints: Sequence[int], inodes: bool
) -> dict[int, os.stat_result]:
    """Return the `stat` results, by fingerprint, of the files that are new or touched.

    SQLite compares the sum of inode and change time, so that a known file costs one look-up and returns no row. A
    change is missed only if inode number and change time (in nanoseconds) move by the same amount, one up and one down.
    """
    if os.name == "nt":
        sums = ",".join([f'"{fingerprint}":0' for fingerprint in fingerprints])
    elif inodes:
        sums = ",".join(
            [
                f'"{fingerprint}":{stat.st_ino + stat.st_ctime_ns - stat.st_mtime_ns}'
                for fingerprint, (_, stat) in zip(fingerprints, batch, strict=True)
            ]
        )
    else:
        sums = ",".join(
            [
                f'"{fingerprint}":{stat.st_ctime_ns - stat.st_mtime_ns}'
                for fingerprint, (_, stat) in zip(fingerprints, batch, strict=True)
            ]
        )
    inode = "inode" if inodes else "0"
    rows = ledger.read(
        "SELECT CAST(key AS INTEGER) FROM json_each(?) AS given WHERE NOT EXISTS (SELECT 1 FROM files"
        " WHERE fingerprint = CAST(given.key AS INTEGER) AND state IN (3, 5)"
        f" AND {inode} + coalesce(ctime_offset, 0) = given.value)",
        (f"{{{sums}}}",),
    )
    if not rows:
        return {}
    changed = {row[0] for row in rows}
    return {
        fingerprint: stat
        for fingerprint, (_, stat) in zip(fingerprints, batch, strict=True)
        if fingerprint in changed
    }


@dataclass(slots=True)
class Doubts:
    """The files of a directory that were touched since they were archived.

    Attributes:
        paths: of the first `MAX_NAMED` touched files.
        files: how many were touched.
        same: how many were not.
    """

    paths: list[str] = field(default_factory=list)
    files: int = 0
    same: int = 0

    def add(self, path: str) -> None:
        self.files += 1
        if len(self.paths) < MAX_NAMED:
            self.paths.append(path)

    @property
    def is_whole_tree(self) -> bool:
        """Whether more than `WHOLE_TREE_FILES` files were touched, and fewer were not.

        The tree was probably moved or copied, or its owner changed.
        """
        return self.files > WHOLE_TREE_FILES and self.files > self.same

    @property
    def urgent(self) -> int:
        """How many must be hashed before it is safe to stop: all, or none of a whole tree."""
        return 0 if self.is_whole_tree else self.files


def record_unchanged(ledger: Ledger, row: FileRow, read: FileVersion) -> None:
    """Record the identity of a file, `read`, whose bytes were hashed and are those of the row."""

    def work(db: sqlite3.Connection) -> None:
        # The age of a freed file that is back counts from now.
        db.execute(
            "UPDATE files SET device = ?, inode = ?, ctime_offset = ?,"
            " restored_at = CASE WHEN freed_at IS NULL THEN restored_at ELSE ? END, freed_at = NULL"
            " WHERE id = ? AND state IN (3, 5)",
            (*identity_values(read), ledger.clock(), row.row),
        )

    ledger.change(work)


def queue_rewritten(ledger: Ledger, row: FileRow, read: FileVersion) -> bool:
    """Queue the file as a new version, because it has other bytes than the row with the same size and mtime.

    The row keeps the history of what was archived, under a random fingerprint. Return False, and change nothing, if it
    is no longer archived or pruned.
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
