"""What is in the ledger's rows: states, claims, and the statements that make, take and mark one row.

The statements run inside a change of `ledger.Ledger`; nothing here commits.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from ..errors import LedgerError
from ..files import FileVersion, signed64
from ..keys import conflict_number


class FileState(IntEnum):
    """Where a version is on its way. Below ARCHIVED: still to be done."""

    PENDING = 0
    UPLOADING = 1
    FAILED = 2
    ARCHIVED = 3
    VANISHED = 4
    PRUNED = 5  # it was archived, and its object was deleted on purpose: not uploaded again by itself

    @property
    def word(self) -> str:
        """The state's name as users see it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Claim:
    """One version that this process may upload, and what earlier attempts left behind.

    Attributes:
        row: the row's id.
        name: names the claim; every mark must match it.
        token: hexadecimal, unique for this row; goes into the object's metadata.
        attempts: how many attempts were begun, this one included.
        base_key: the key rendered at the first attempt, or None.
        key: the key tried last, or None.
        sha256: hexadecimal, of the bytes tried last, or None.
        upload_id: a multipart upload begun for `key` and not known to have ended, or None.
        part_size_bytes: of that upload.
        seen_at: when the ledger first held it, in seconds since 1970.
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


class Attempt(NamedTuple):
    """What is about to be sent where: see `Ledger.record_attempt`."""

    claim: Claim
    sha256: str
    base_key: str
    key: str


class ProvenUpload(NamedTuple):
    """What the store has proven: see `Ledger.mark_archived`."""

    claim: Claim
    key: str
    sha256: str
    etag: str | None
    wrote: bool
    base_key: str = ""
    read: FileVersion | None = None


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row, for listings. Times are seconds since 1970; `next_try` None on a failed row means never."""

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


@dataclass(frozen=True, slots=True)
class Count:
    """So many files, so many bytes."""

    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What the ledger holds, by state.

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
        """Everything that is not yet in the bucket and not gone."""
        parts = (self.pending, self.uploading, self.failed)
        return Count(sum(p.files for p in parts), sum(p.size_bytes for p in parts))


CLAIM_COLUMNS = (
    "id, path, size, mtime_ns, device, inode, ctime_offset,"
    " token, attempts, base_key, key, sha256, upload_id, part_size,"
    " seen_at"
)
ROW_COLUMNS = (
    "id, path, size, mtime_ns, device, inode, ctime_offset, state, key, sha256, etag, attempts, next_try,"
    " code, cause, cure, seen_at, archived_at, wrote, freed_at, restored_at"
)


def add_row(db: sqlite3.Connection, version: FileVersion, priority: int, now: float) -> int:
    mark = version.fingerprint
    before = db.execute("SELECT archived FROM baseline WHERE fingerprint = ?", (mark,)).fetchone()
    if before is not None:
        if before[0] and priority >= 0:  # compacted; who asks for it by name gets it compared with the bucket
            return 0
        db.execute("DELETE FROM baseline WHERE fingerprint = ?", (mark,))
    found = db.execute("SELECT id, state FROM files WHERE fingerprint = ?", (mark,)).fetchone()
    if found is not None:
        row, state = found
        if state != FileState.VANISHED:
            return 0
        db.execute(
            "UPDATE files SET state = 0, next_try = NULL, seen_at = ?, archived_at = NULL WHERE id = ?",
            (now, row),
        )
        return 1
    signature = (version.size_bytes, version.mtime_ns, *identity_values(version), mark)
    path = os.fsencode(version.path)
    older = db.execute("SELECT id FROM files WHERE path = ? AND state < 3 AND state <> 1", (path,)).fetchone()
    if older is not None:
        db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, device = ?, inode = ?, ctime_offset = ?, fingerprint = ?,"
            " state = 0, next_try = NULL, seen_at = ?, archived_at = NULL, priority = min(priority, ?) WHERE id = ?",
            (*signature, now, priority, older[0]),
        )
        return 1
    db.execute(
        "INSERT INTO files (size, mtime_ns, device, inode, ctime_offset, fingerprint, path, state, priority, token,"
        " seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
        (*signature, path, priority, os.urandom(16), now),
    )
    return 1


def record_conflicts(db: sqlite3.Connection, archived: Sequence[ProvenUpload]) -> None:
    """Note under which conflict number of its key each of these versions went into the bucket."""
    for one in archived:
        if not one.base_key or one.key == one.base_key:
            continue
        number = conflict_number(one.base_key, one.key, one.sha256)
        if number is not None:
            values = (*conflict_hashes(one.base_key, one.sha256), number)
            db.execute("INSERT OR REPLACE INTO conflicts VALUES (?, ?, ?)", values)


def conflict_hashes(base_key: str, sha256: str) -> tuple[int, int]:
    """Return how the ledger knows a key and the bytes of a file in its table of conflicts: 64 bits of each."""
    key = hashlib.blake2b(base_key.encode(), digest_size=8).digest()
    return int.from_bytes(key, "big", signed=True), int.from_bytes(
        bytes.fromhex(sha256)[:8], "big", signed=True
    )


def update_claimed_row(db: sqlite3.Connection, claim: Claim, setting: str, values: Sequence[Any]) -> None:
    marked = db.execute(
        f"UPDATE files SET {setting} WHERE id = ? AND claim = ?", (*values, claim.row, claim.name)
    ).rowcount
    if marked != 1:
        raise LedgerError(f"{claim.version.path} is no longer claimed by {claim.name}.")


def claim_row(db: sqlite3.Connection, claimant: str, choice: str, values: Sequence[Any]) -> Claim | None:
    row = db.execute(
        "UPDATE files SET state = 1, attempts = attempts + 1, next_try = NULL,"
        # Never the same twice, so that giving up an old claim cannot touch a new one.
        " claim = ? || '/' || id || '/' || attempts || '/' || hex(randomblob(4)),"
        " token = coalesce(token, randomblob(16))"
        f" WHERE id = ({choice}) RETURNING claim, {CLAIM_COLUMNS}",
        (claimant, *values),
    ).fetchone()
    if row is None:
        return None
    name, row_id, *named, token, attempts = row[:10]
    rest = row[10:]
    base_key, key, sha256, upload_id, part_size, seen_at = rest
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
    """The columns device, inode and ctime_offset."""
    return signed64(version.device), signed64(version.inode), version.ctime_offset


def _version(
    path: bytes, size: int, mtime_ns: int, device: int, inode: int, ctime_offset: int | None
) -> FileVersion:
    changed_ns = 0 if ctime_offset is None else signed64(mtime_ns + ctime_offset)
    return FileVersion(os.fsdecode(path), size, mtime_ns, unsigned(device), unsigned(inode), changed_ns)


def unsigned(number: int) -> int:
    return number + (1 << 64) if number < 0 else number
