"""The ledger's rows: their types, and the statements that add, claim and update them.

The statements run inside `Database.change`; nothing here commits.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from ..errors import LedgerError
from ..files import FileVersion, signed64
from ..keys import conflict_number


class FileState(IntEnum):
    """The state of a version. States below ARCHIVED are still to be archived."""

    PENDING = 0
    UPLOADING = 1
    FAILED = 2
    ARCHIVED = 3
    VANISHED = 4
    PRUNED = 5  # archived once; its object was deleted on purpose, so it is not uploaded again automatically

    @property
    def word(self) -> str:
        """The state's name as users see it."""
        return self.name.lower()


class Claim(NamedTuple):
    """A version that one worker may upload, and what earlier attempts left behind.

    Attributes:
        token: hexadecimal, unique to this row; stored in the object's metadata.
        attempts: how many attempts were begun, including this one.
        base_key: the key rendered at the first attempt.
        key: the key tried last.
        sha256: hexadecimal, of the bytes tried last.
        upload_id: a multipart upload to `key` that is not known to have ended; see also `upload.abandoned.INTENT`.
        seen_at: when the version was added, in seconds since 1970.
    """

    row: int
    name: str
    version: FileVersion
    token: str
    attempts: int
    base_key: str | None = None
    key: str | None = None
    sha256: str | None = None
    upload_id: str | None = None
    part_size_bytes: int | None = None
    seen_at: float | None = None


class PlannedUpload(NamedTuple):
    """What an upload will send, and to which key; see `ClaimLedger.record_attempt`."""

    claim: Claim
    sha256: str
    base_key: str
    key: str


class ProvenUpload(NamedTuple):
    """An upload that the store has proven.

    Attributes:
        wrote: this archive uploaded the object. False: the object existed before, with the same bytes.
        read: the file as it was when its bytes were hashed; None = as it was claimed.
    """

    claim: Claim
    key: str
    sha256: str
    etag: str | None
    wrote: bool
    base_key: str = ""
    read: FileVersion | None = None


class FileRow(NamedTuple):
    """One row, for listings. Times are in seconds since 1970.

    A failed row without `next_try` was given up; see `archive.given_up`.
    """

    row: int
    version: FileVersion
    state: FileState
    key: str | None
    sha256: str | None
    etag: str | None
    attempts: int
    next_try: float | None
    code: str | None
    cause: str | None
    cure: str | None
    seen_at: float
    archived_at: float | None
    wrote: bool | None = None
    freed_at: float | None = None
    restored_at: float | None = None


class Count(NamedTuple):
    """A number of files, and their total size."""

    files: int = 0
    size_bytes: int = 0


class Totals(NamedTuple):
    """How much the ledger holds, by state.

    Attributes:
        waiting: the failed ones that have a next try.
        tried: the pending ones that failed before.
    """

    pending: Count = Count()
    uploading: Count = Count()
    failed: Count = Count()
    waiting: Count = Count()
    tried: Count = Count()
    archived: Count = Count()
    vanished: Count = Count()
    pruned: Count = Count()

    @property
    def open(self) -> Count:
        """All that is still to be archived."""
        return _sum(self.pending, self.uploading, self.failed)

    @property
    def unfinished(self) -> Count:
        """`open` without the files that failed for good."""
        return _sum(self.pending, self.uploading, self.waiting)

    @property
    def given_up_files(self) -> int:
        """How many failed for good."""
        return self.failed.files - self.waiting.files


def _sum(*counts: Count) -> Count:
    return Count(sum(c.files for c in counts), sum(c.size_bytes for c in counts))


CLAIM_COLUMNS = (
    "id, path, size, mtime_ns, device, inode, ctime_offset,"
    " token, attempts, base_key, key, sha256, upload_id, part_size,"
    " seen_at"
)
MOST_VALUES = 500  # in one statement; SQLite before 3.32 takes 999
_INSERT = (
    "INSERT INTO files (size, mtime_ns, device, inode, ctime_offset, fingerprint, path, state, priority, token,"
    " seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)"
)
ROW_COLUMNS = (
    "id, path, size, mtime_ns, device, inode, ctime_offset, state, key, sha256, etag, attempts, next_try,"
    " code, cause, cure, seen_at, archived_at, wrote, freed_at, restored_at"
)
# A condition with two equal values: `archived_at` of a restored file is when its object was written. SQLite uses both
# indexes only with the state in both terms.
ARCHIVED_OR_RESTORED_SINCE = "(state = 3 AND archived_at >= ? OR state = 3 AND restored_at >= ?)"


def add_rows(db: sqlite3.Connection, versions: Sequence[FileVersion], priority: int, now: float) -> int:
    """See `Ledger.add`."""
    paths = [os.fsencode(version.path) for version in versions]
    fingerprints = [version.fingerprint for version in versions]
    known = _known(db, fingerprints, paths)
    added = 0
    fresh: list[tuple[Any, ...]] = []  # rows of files that are new, inserted together
    for version, path, fingerprint in zip(versions, paths, fingerprints, strict=True):
        if fingerprint in known or path in known:
            db.executemany(_INSERT, fresh)  # before `add_row`, which may replace one of them
            fresh.clear()
            added += add_row(db, version, priority, now)
        else:
            known |= {fingerprint, path}
            fresh.append((*_version_values(version, fingerprint), path, priority, os.urandom(16), now))
            added += 1
    db.executemany(_INSERT, fresh)
    return added


def _known(db: sqlite3.Connection, fingerprints: Sequence[int], paths: Sequence[bytes]) -> set[int | bytes]:
    """Return the fingerprints with a row or a baseline entry, and the paths with a row still to be archived."""
    found = db.execute(
        "SELECT value FROM json_each(?) AS given"
        " WHERE EXISTS (SELECT 1 FROM files WHERE fingerprint = given.value)"
        " OR EXISTS (SELECT 1 FROM baseline WHERE fingerprint = given.value)",
        (json.dumps(fingerprints),),
    ).fetchall()
    for start in range(0, len(paths), MOST_VALUES):
        some = paths[start : start + MOST_VALUES]
        marks = ",".join("?" * len(some))
        found += db.execute(f"SELECT path FROM files WHERE state < 3 AND path IN ({marks})", some).fetchall()
    return {row[0] for row in found}


def _version_values(version: FileVersion, fingerprint: int) -> tuple[Any, ...]:
    """Return the values of the columns size, mtime_ns, device, inode, ctime_offset and fingerprint."""
    return version.size_bytes, version.mtime_ns, *identity_values(version), fingerprint


def add_row(db: sqlite3.Connection, version: FileVersion, priority: int, now: float) -> int:
    """Queue a version, and return 1; return 0 if it is known. See `Ledger.add`."""
    fingerprint = version.fingerprint
    baseline = db.execute("SELECT archived FROM baseline WHERE fingerprint = ?", (fingerprint,)).fetchone()
    if baseline is not None:
        if baseline[0] and priority >= 0:  # compacted; a negative priority is an explicit request
            return 0
        db.execute("DELETE FROM baseline WHERE fingerprint = ?", (fingerprint,))
    known = db.execute("SELECT id, state FROM files WHERE fingerprint = ?", (fingerprint,)).fetchone()
    if known is not None:
        row, state = known
        if state != FileState.VANISHED:
            return 0
        db.execute(
            "UPDATE files SET state = 0, next_try = NULL, seen_at = ?, archived_at = NULL WHERE id = ?",
            (now, row),
        )
        return 1
    values = _version_values(version, fingerprint)
    path = os.fsencode(version.path)
    older = db.execute("SELECT id FROM files WHERE path = ? AND state < 3 AND state <> 1", (path,)).fetchone()
    if older is not None:
        db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, device = ?, inode = ?, ctime_offset = ?, fingerprint = ?,"
            " state = 0, next_try = NULL, seen_at = ?, archived_at = NULL, priority = min(priority, ?),"
            # A part size may not suit another size: too small for the store, or too many parts.
            " part_size = CASE WHEN size = ? THEN part_size END WHERE id = ?",
            (*values, now, priority, version.size_bytes, older[0]),
        )
        return 1
    db.execute(_INSERT, (*values, path, priority, os.urandom(16), now))
    return 1


def record_conflicts(db: sqlite3.Connection, archived: Sequence[ProvenUpload]) -> None:
    """Record the conflict number of each version whose key has one."""
    for one in archived:
        if not one.base_key or one.key == one.base_key:
            continue
        number = conflict_number(one.base_key, one.key, one.sha256)
        if number is not None:
            values = (*conflict_hashes(one.base_key, one.sha256), number)
            db.execute("INSERT OR REPLACE INTO conflicts VALUES (?, ?, ?)", values)


def conflict_hashes(base_key: str, sha256: str) -> tuple[int, int]:
    """Return the 64-bit hashes of a key and of a file's bytes that the table of conflicts holds."""
    key = hashlib.blake2b(base_key.encode(), digest_size=8).digest()
    return int.from_bytes(key, "big", signed=True), int.from_bytes(
        bytes.fromhex(sha256)[:8], "big", signed=True
    )


def update_claimed_row(db: sqlite3.Connection, claim: Claim, setting: str, values: Sequence[Any]) -> None:
    """Update the row of a claim by the SET part of a statement. Raises LedgerError if the claim was released."""
    updated = db.execute(
        f"UPDATE files SET {setting} WHERE id = ? AND claim = ?", (*values, claim.row, claim.name)
    ).rowcount
    if updated != 1:
        raise LedgerError(f"{claim.version.path} is no longer claimed by {claim.name}.")


def keys_being_pruned(db: sqlite3.Connection, keys: Iterable[str]) -> set[str]:
    """Return those of these keys whose objects `prune` is deleting; see `deletions`."""
    found = db.execute(
        "SELECT key FROM deletions WHERE under_way AND key IN (SELECT value FROM json_each(?))",
        (json.dumps(list(keys)),),
    )
    return {key for (key,) in found}


def mark_rows_pruned(db: sqlite3.Connection, rows: Sequence[FileRow], now: float) -> None:
    """Mark the rows that are still archived at the same keys as pruned."""
    db.executemany(
        "UPDATE files SET state = 5, archived_at = ? WHERE id = ? AND key = ? AND state = 3",
        [(now, row.row, row.key) for row in rows],
    )


def claim_row(db: sqlite3.Connection, claimant: str, choice: str, values: Sequence[Any]) -> Claim | None:
    """Claim the row whose id the query `choice` returns; return None if it returns none."""
    return next(iter(_claim(db, claimant, f"id = ({choice})", values)), None)


def claim_rows(db: sqlite3.Connection, claimant: str, rows: Sequence[int]) -> list[Claim]:
    """Claim the rows with these ids, and return the claims in the same order."""
    marks = ",".join("?" * len(rows))
    claims = {claim.row: claim for claim in _claim(db, claimant, f"id IN ({marks})", rows)}
    return [claims[row] for row in rows]


def _claim(db: sqlite3.Connection, claimant: str, condition: str, values: Sequence[Any]) -> list[Claim]:
    rows = db.execute(
        "UPDATE files SET state = 1, attempts = attempts + 1, next_try = NULL,"
        # Unique, so that releasing an old claim never touches a new one.
        " claim = ? || '/' || id || '/' || attempts || '/' || hex(randomblob(4)),"
        " token = coalesce(token, randomblob(16))"
        f" WHERE {condition} RETURNING claim, {CLAIM_COLUMNS}",
        (claimant, *values),
    ).fetchall()
    return [_claim_of(row) for row in rows]


def _claim_of(row: tuple[Any, ...]) -> Claim:
    """Return the Claim; `row` holds its name, and then the values of `CLAIM_COLUMNS`."""
    name, row_id, *named, token, attempts = row[:10]
    base_key, key, sha256, upload_id, part_size, seen_at = row[10:]
    return Claim(
        row=row_id,
        name=name,
        version=_version(*named),
        token=token.hex(),
        attempts=attempts,
        base_key=base_key,
        key=key,
        sha256=sha256.hex() if sha256 else None,
        upload_id=upload_id,
        part_size_bytes=part_size,
        seen_at=seen_at,
    )


def file_row(row: tuple[Any, ...]) -> FileRow:
    """Return the FileRow; `row` holds the values of `ROW_COLUMNS`."""
    row_id, *named, state, key, sha256, etag = row[:11]
    rest = row[11:]
    attempts, next_try, code, cause, cure, seen_at, archived_at, wrote, freed_at, restored_at = rest
    return FileRow(
        row_id,
        _version(*named),
        FileState(state),
        key,
        sha256.hex() if sha256 else None,
        etag,
        attempts,
        next_try,
        code,
        cause,
        cure,
        seen_at,
        archived_at,
        None if wrote is None else bool(wrote),
        freed_at,
        restored_at,
    )


def identity_values(version: FileVersion) -> tuple[int, int, int | None]:
    """Return the values of the columns device, inode and ctime_offset."""
    return signed64(version.device), signed64(version.inode), version.ctime_offset


def _version(
    path: bytes, size: int, mtime_ns: int, device: int, inode: int, ctime_offset: int | None
) -> FileVersion:
    changed_ns = 0 if ctime_offset is None else signed64(mtime_ns + ctime_offset)
    return FileVersion(os.fsdecode(path), size, mtime_ns, unsigned(device), unsigned(inode), changed_ns)


def unsigned(number: int) -> int:
    """Return a signed 64-bit number as unsigned; the reverse of `files.signed64`."""
    return number + (1 << 64) if number < 0 else number
