"""The ledger: which version of which file is where.

One row per version of a file, in one of six states (`FileState`). A claim is a row: whoever marks it done must
name the claim. `pending` is committed before the first byte leaves, and `archived` only after the store proved
the bytes, so a process that is killed at any moment loses nothing and doubles nothing.

A call that changes something returns after its commit (see ledger_database.py).
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from ..files import FileVersion
from .database import Database
from .rows import (
    ROW_COLUMNS,
    Attempt,
    Claim,
    Count,
    FileRow,
    FileState,
    ProvenUpload,
    Totals,
    add_row,
    claim_row,
    conflict_hashes,
    file_row,
    identity_values,
    record_conflicts,
    update_claimed_row,
)

T = TypeVar("T")
# What is remembered in it, beside the files.
FIRST_START = "first_start"  # when the first start whose scan ended had begun, in seconds since 1970
FIRST_START_BEGUN = "first_start_begun"  # when the very first start began; committed before it watches
KNOWN_ROOT = "root"  # device and inode of the watched directory, "device:inode"
LOG_FILES = "log_files"  # the files that engines logged to, as JSON: they are never archived
COMPARE_WITH_BUCKET = (
    "compare_with_bucket"  # an older ledger was lost: files may be in the bucket under keys that nobody knows
)
_LONGEST_HOLD_SECONDS = 3600.0


# No other version of the same file is being uploaded.
_FREE_PATH = "NOT EXISTS (SELECT 1 FROM files u WHERE u.path = f.path AND u.state < 3 AND u.state = 1)"
# Nor is it held back (until further away than any hold: from a clock that was set back).
_CLAIMABLE = f"(f.next_try IS NULL OR NOT f.next_try BETWEEN ? AND ?) AND {_FREE_PATH}"


class Ledger(Database):
    """The durable record behind every promise; safe to use from any thread.

    Args:
        path: the database's file, or None for one that lives in memory and is gone with the process.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, clock=clock)
        self.saved_as: Path | None = None  # of one in memory: where it belongs, once that can be written
        self._given_up: list[tuple[int, str]] = []
        self._given_up_lock = threading.Lock()

    def probe(self) -> None:
        """Commit something and read. Raises LedgerError where that cannot be done."""
        self.remember("probed", str(self.clock()))
        self.totals()

    # --- coming in

    def unknown(self, versions: Sequence[FileVersion]) -> list[FileVersion]:
        """Those of `versions` that neither a row nor the baseline knows (a vanished row knows nothing)."""
        marks = [version.fingerprint for version in versions]
        unknown = self.unknown_fingerprints(marks)
        return [version for version, mark in zip(versions, marks, strict=True) if mark in unknown]

    def unknown_fingerprints(self, fingerprints: Sequence[int]) -> set[int]:
        """The same, by fingerprint: one statement for all of them, of which only the unknown ones come back."""
        rows = self.read(
            "SELECT value FROM json_each(?) AS asked"
            " WHERE NOT EXISTS (SELECT 1 FROM files WHERE fingerprint = asked.value AND state <> 4)"
            " AND NOT EXISTS (SELECT 1 FROM baseline WHERE fingerprint = asked.value)",
            (json.dumps(fingerprints),),
        )
        return {row[0] for row in rows}

    def baseline_fingerprints(self, fingerprints: Sequence[int]) -> set[int]:
        """Those of `fingerprints` that were there before the archive began, and were not archived since."""
        rows = self.read(
            "SELECT value FROM json_each(?) AS asked JOIN baseline ON fingerprint = asked.value"
            " WHERE archived IS NULL",
            (json.dumps(fingerprints),),
        )
        return {row[0] for row in rows}

    def has_baseline(self) -> bool:
        """Return whether anything was there before the archive began, and was not archived since."""
        return bool(self.read("SELECT 1 FROM baseline WHERE archived IS NULL LIMIT 1"))

    def add(self, versions: Iterable[FileVersion], *, priority: int = 0) -> int:
        """Queue versions that are complete. A version known already is left as it is.

        A newer version of a file whose older one still waits takes that row over, for the older bytes are gone.

        Args:
            priority: smaller is claimed earlier; 0 for what just came, 1 for a backlog.

        Returns:
            How many became pending.
        """
        items = list(versions)
        return self.change(lambda db: sum(add_row(db, item, priority, self.clock()) for item in items))

    def add_to_baseline(self, fingerprints: Iterable[int], *, archived: bool = False) -> None:
        """Know these versions without archiving them.

        Args:
            archived: they were archived once, so `clear_baseline` keeps them; else they were there before the
                archive began.
        """
        marks = [(mark, archived or None) for mark in sorted(fingerprints)]  # in the order of the table
        self.change(lambda db: db.executemany("INSERT OR IGNORE INTO baseline VALUES (?, ?)", marks) and None)

    def clear_baseline(self) -> None:
        """Forget what was there before: the next scan sees all of it as new. What was compacted stays known."""
        self.change(lambda db: db.execute("DELETE FROM baseline WHERE archived IS NULL") and None)

    # --- claims

    def claim(self, claimant: str, *, oldest: bool = False) -> Claim | None:
        """Take the next pending version, or None where nothing is due.

        Args:
            claimant: names who takes it; with the row it makes the claim's name.
            oldest: take the one that waits longest, else the smallest of the most urgent.
        """
        order = "f.id" if oldest else "f.priority, f.size, f.id"

        def work(db: sqlite3.Connection) -> Claim | None:
            now = self.clock()
            return claim_row(
                db,
                claimant,
                f"SELECT f.id FROM files f WHERE f.state = 0 AND {_CLAIMABLE} ORDER BY {order} LIMIT 1",
                (now, now + _LONGEST_HOLD_SECONDS),
            )

        return self._change_and_take_back(work)

    def claim_several(self, claimant: str, *, most: int, among: int, size_bytes: int) -> list[Claim]:
        """As `claim` does, but several small new ones at once, for which one commit is enough.

        Args:
            most: versions at the most.
            among: how many ask: nobody takes more than its share of what is pending.
            size_bytes: of all together, at the most; the first is taken whatever its size.
        """

        def work(db: sqlite3.Connection) -> list[Claim]:
            pending = db.execute("SELECT files FROM totals WHERE state = 0").fetchone()[0]
            share = min(most, pending // among)
            now = self.clock()
            rows = db.execute(
                "SELECT f.id, f.size, f.attempts FROM files f WHERE f.state = 0"
                f" AND {_CLAIMABLE} ORDER BY f.priority, f.size, f.id LIMIT ?",
                (now, now + _LONGEST_HOLD_SECONDS, max(1, share)),
            ).fetchall()
            chosen: list[int] = []
            left = size_bytes
            for row, size, attempts in rows:
                left -= size
                if chosen and (left < 0 or attempts):
                    break
                chosen.append(row)
                if attempts:
                    break  # what was tried before goes alone: it may have come any distance
            claims = (claim_row(db, claimant, "?", (row,)) for row in chosen)
            return [claim for claim in claims if claim is not None]

        return self._change_and_take_back(work)

    def claim_version(self, claimant: str, version: FileVersion) -> Claim | None:
        """Take this very version if it is pending, failed or pruned; None where it is not, or is taken."""
        return self._change_and_take_back(
            lambda db: claim_row(
                db,
                claimant,
                f"SELECT f.id FROM files f WHERE f.fingerprint = ? AND f.state IN (0, 2, 5) AND {_FREE_PATH}",
                (version.fingerprint,),
            )
        )

    def record_attempt(self, claim: Claim, *, sha256: str, base_key: str, key: str) -> None:
        """Commit what is about to be sent where, before the first request. Forgets an older multipart."""
        self.record_attempts([Attempt(claim, sha256, base_key, key)])

    def record_attempts(self, attempts: Sequence[Attempt]) -> None:
        """The same for several, in one commit; none is recorded where a claim is no longer its claimant's."""
        self._mark(
            "sha256 = ?, base_key = ?, key = ?,"
            " upload_id = CASE WHEN key = ? AND sha256 = ? THEN upload_id END",
            [
                (a.claim, (bytes.fromhex(a.sha256), a.base_key, a.key, a.key, bytes.fromhex(a.sha256)))
                for a in attempts
            ],
        )

    def record_multipart(self, claim: Claim, upload_id: str | None, part_size_bytes: int | None) -> None:
        """Commit that a multipart upload of ours exists (None: that it no longer does)."""
        self._mark("upload_id = ?, part_size = ?", [(claim, (upload_id, part_size_bytes))])

    def abandon_multipart(self, claim: Claim, key: str, upload_id: str) -> None:
        """Commit that this multipart upload is to be aborted; it stays noted until `forget_abandoned`."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO abandoned VALUES (?, ?)", (key, upload_id))
            update_claimed_row(db, claim, "upload_id = NULL, part_size = NULL", ())

        self.change(work)

    def abandoned(self, limit: int = 20) -> list[tuple[str, str]]:
        """(key, upload id) of multipart uploads of ours that the store has still to abort."""
        return [
            (key, name) for key, name in self.read("SELECT key, upload_id FROM abandoned LIMIT ?", (limit,))
        ]

    def forget_abandoned(self, key: str, upload_id: str) -> None:
        """The store has aborted it, or does not know it any more."""
        self.change(
            lambda db: (
                db.execute("DELETE FROM abandoned WHERE key = ? AND upload_id = ?", (key, upload_id)) and None
            )
        )

    def mark_archived(
        self,
        claim: Claim,
        *,
        key: str,
        sha256: str,
        etag: str | None,
        wrote: bool = False,
        read: FileVersion | None = None,
    ) -> None:
        """The store has proven the bytes.

        Args:
            wrote: the object is of this ledger's making, and was not found there.
            read: the file as it was when its bytes were hashed; default: as it was claimed.

        Raises:
            LedgerError: the claim is no longer this one's.
        """
        self.mark_all_archived([ProvenUpload(claim, key, sha256, etag, wrote, read=read)])

    def mark_all_archived(self, archived: Sequence[ProvenUpload]) -> None:
        """The same for several, in one commit; none is marked where a claim is no longer its claimant's."""
        now = self.clock()
        self._mark(
            "state = 3, claim = NULL, key = ?, sha256 = ?, etag = ?, archived_at = ?, wrote = ?, freed_at = NULL,"
            " restored_at = NULL, next_try = NULL,"
            " base_key = NULL, token = NULL, upload_id = NULL, part_size = NULL,"
            " code = NULL, cause = NULL, cure = NULL, device = ?, inode = ?, ctime_offset = ?",
            [
                (
                    a.claim,
                    (
                        *(a.key, bytes.fromhex(a.sha256), a.etag, now, a.wrote),
                        *identity_values(a.read or a.claim.version),
                    ),
                )
                for a in archived
            ],
            after=lambda db: record_conflicts(db, archived),
        )

    def conflicts(self, base_key: str, sha256: str) -> tuple[int | None, int]:
        """Return the conflict number under which this ledger archived these bytes, and the highest one of this key.

        None where it archived them under no number; 0 where it knows of no number.
        """
        key_hash, content_hash = conflict_hashes(base_key, sha256)
        ((known, last),) = self.read(
            "SELECT max(CASE WHEN content_hash = ? THEN number END), max(number) FROM conflicts WHERE key_hash = ?",
            (content_hash, key_hash),
        )
        return known, last or 0

    def mark_failed(self, claim: Claim, *, code: str, cause: str, cure: str, next_try: float | None) -> None:
        """The attempt failed; `next_try` is in seconds since 1970, None = not before `retry` or a restart."""
        # A path in them may hold bytes that are no UTF-8, which SQLite's text cannot.
        texts = (text.encode("utf-8", "backslashreplace").decode() for text in (code, cause, cure))
        self._mark(
            "state = 2, claim = NULL, code = ?, cause = ?, cure = ?, next_try = ?",
            [(claim, (*texts, next_try))],
        )

    def mark_vanished(self, claim: Claim) -> None:
        """The file is gone before it could be archived."""
        self._mark(
            "state = 4, claim = NULL, upload_id = NULL, next_try = NULL, archived_at = ?",
            [(claim, (self.clock(),))],
        )

    def release(self, claim: Claim, *, hold_seconds: float = 0.0) -> None:
        """Give a claim back: pending again, not claimed before `hold_seconds` have passed."""
        until = self.clock() + hold_seconds if hold_seconds else None
        self._mark("state = 0, claim = NULL, next_try = ?", [(claim, (until,))])

    def unclaim(self, claims: Sequence[Claim]) -> None:
        """Give back claims whose attempt was not begun: pending again, as if they had never been taken."""
        self._mark(
            "state = 0, claim = NULL, next_try = NULL, attempts = attempts - 1",
            [(claim, ()) for claim in claims],
        )

    def release_all(self, *, retry_failed: bool) -> int:
        """At start: every claim goes back to pending, for its process is gone, and (`retry_failed`) so does
        every failed row. Returns how many claims there were."""

        def work(db: sqlite3.Connection) -> int:
            claims = db.execute(
                "UPDATE files SET state = 0, claim = NULL, next_try = NULL WHERE state = 1"
            ).rowcount
            if retry_failed:
                db.execute("UPDATE files SET state = 0, next_try = NULL WHERE state = 2")
            return claims

        return self.change(work)

    def retry_failed(self) -> int:
        """Every failed version is pending again at once. Returns how many there were."""
        return self.change(
            lambda db: db.execute("UPDATE files SET state = 0, next_try = NULL WHERE state = 2").rowcount
        )

    def requeue_due(self, *, horizon_seconds: float = 3600.0) -> int:
        """Failed versions whose next try has come are pending again.

        A next try further away than `horizon_seconds` comes from a clock that was set back: it is due as well.
        """
        now = self.clock()
        given_up = len(self._given_up)
        waiting = self.read("SELECT 1 FROM files WHERE state = 2 AND next_try IS NOT NULL LIMIT 1")
        if not waiting and not given_up:
            return 0
        return given_up + self._change_and_take_back(
            lambda db: (
                db.execute(
                    "UPDATE files SET state = 0, next_try = NULL"
                    " WHERE state = 2 AND (next_try <= ? OR next_try > ?)",
                    (now, now + horizon_seconds),
                ).rowcount
            )
        )

    def requeue_waiting(self, codes: Collection[str]) -> int:
        """Make failed versions with a next try pending now.

        Args:
            codes: only those that failed with one of these; another failure keeps its own back-off.
        """
        return self.change(
            lambda db: (
                db.execute(
                    "UPDATE files SET state = 0, next_try = NULL WHERE state = 2 AND next_try IS NOT NULL"
                    " AND code IN (SELECT value FROM json_each(?))",
                    (json.dumps(sorted(codes)),),
                ).rowcount
            )
        )

    def next_due(self) -> float | None:
        """When the next failed or held version is due, in seconds since 1970."""
        rows = self.read(
            "SELECT min(next_try) FROM ("
            " SELECT min(next_try) AS next_try FROM files WHERE state = 2 AND next_try IS NOT NULL"
            " UNION ALL"
            " SELECT min(next_try) FROM files WHERE state = 0 AND next_try IS NOT NULL)"
        )
        return cast("float | None", rows[0][0])

    def give_up(self, claim: Claim) -> None:
        """The end of this claim could not be committed: pending again as soon as the ledger takes it. Never raises."""
        with self._given_up_lock:
            self._given_up.append((claim.row, claim.name))

    def _change_and_take_back(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A change, before which whatever was given up is pending again; noted until that is committed."""
        with self._given_up_lock:
            given_up = tuple(self._given_up)
        if not given_up:
            return self.change(work)

        def both(db: sqlite3.Connection) -> T:
            db.executemany(
                "UPDATE files SET state = 0, claim = NULL, next_try = NULL WHERE id = ? AND claim = ?",
                given_up,
            )
            return work(db)

        result = self.change(both)
        with self._given_up_lock:
            self._given_up = [claim for claim in self._given_up if claim not in given_up]
        return result

    def drop(self, claim: Claim) -> None:
        """Forget this version: its bytes are gone, and a newer version of the file has a row of its own."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM files WHERE id = ? AND claim = ?", (claim.row, claim.name))

        self.change(work)

    def _mark(
        self,
        setting: str,
        marks: Sequence[tuple[Claim, Sequence[Any]]],
        *,
        after: Callable[[sqlite3.Connection], None] = lambda db: None,
    ) -> None:
        def work(db: sqlite3.Connection) -> None:
            for claim, values in marks:
                update_claimed_row(db, claim, setting, values)
            after(db)

        if marks:
            self.change(work)

    # --- looking

    def totals(self) -> Totals:
        """Files and bytes by state, from counters that every change keeps: the cost does not grow with rows."""
        # One statement, hence one moment: a row that moves in between would be counted twice, or not at all.
        counts = {
            state: Count(files, size)
            for state, files, size in self.read(
                "SELECT state, files, bytes FROM totals UNION ALL"
                " SELECT -1, count(*), coalesce(sum(size), 0) FROM files WHERE state = 2 AND next_try IS NOT NULL"
                " UNION ALL"
                " SELECT -2, count(*), coalesce(sum(size), 0) FROM files INDEXED BY files_tried"
                " WHERE state = 0 AND cause IS NOT NULL"
            )
        }
        return Totals(
            pending=counts.get(0, Count()),
            uploading=counts.get(1, Count()),
            failed=counts.get(2, Count()),
            waiting=counts.get(-1, Count()),
            tried=counts.get(-2, Count()),
            archived=counts.get(3, Count()),
            vanished=counts.get(4, Count()),
            pruned=counts.get(5, Count()),
        )

    def oldest_waiting(self) -> float | None:
        """When the ledger first held the pending or retried version that waits longest; seconds since 1970.

        By the order of rows for pending ones, so that the cost does not grow with them.
        """
        rows = self.read(
            "SELECT min(seen_at) FROM ("
            " SELECT seen_at FROM (SELECT seen_at FROM files WHERE state = 0 ORDER BY id LIMIT 1)"
            " UNION ALL"
            " SELECT min(seen_at) FROM files WHERE state = 2 AND next_try IS NOT NULL)"
        )
        return cast("float | None", rows[0][0])

    def find(self, version: FileVersion) -> FileRow | None:
        """The row of this very version."""
        rows = self.read(f"SELECT {ROW_COLUMNS} FROM files WHERE fingerprint = ?", (version.fingerprint,))
        return file_row(rows[0]) if rows else None

    def rows(
        self,
        *,
        states: Sequence[FileState] = (),
        again: bool | None = None,
        query: str = "",
        limit: int = 100,
        before: int | None = None,
    ) -> list[FileRow]:
        """A page of rows, newest first.

        Args:
            states: only these; empty = all.
            again: only those that failed and will be tried again (True), or that were given up (False).
            query: only paths that contain this, whatever the case of ASCII letters.
            limit: rows at the most.
            before: only rows with a smaller id: the last id of the page before.
        """
        wanted: list[str] = ["1"]
        values: list[Any] = []
        if before is not None:
            wanted.append("id < ?")
            values.append(before)
        if states:
            wanted.append(f"state IN ({','.join(str(int(state)) for state in states)})")
        if again is not None:
            wanted.append(
                "cause IS NOT NULL AND (state = 0 OR (state = 2 AND next_try IS NOT NULL))"
                if again
                else "state = 2 AND next_try IS NULL"
            )
        few = again is not None or (bool(states) and all(state < FileState.ARCHIVED for state in states))
        if few:
            wanted.append("state < 3")  # the small index of open rows has all that is asked for here
        if query:
            wanted.append("instr(lower(CAST(path AS TEXT)), lower(?)) > 0")
            values.append(query.encode("utf-8", "replace").decode())
        # Left to itself, SQLite would walk down a million archived rows to find forty open ones in their order.
        source = "files INDEXED BY files_open" if few else "files"
        chosen = f"SELECT id FROM {source} WHERE {' AND '.join(wanted)} ORDER BY id DESC LIMIT ?"
        # A search by text may walk down every row.
        read = self.read_apart if query else self.read
        rows = read(
            f"SELECT {ROW_COLUMNS} FROM files WHERE id IN ({chosen}) ORDER BY id DESC", (*values, limit)
        )
        return [file_row(row) for row in rows]

    def archived_rows(self, *, page: int = 1000) -> Iterator[FileRow]:
        """Every archived row, oldest first, without holding the ledger in between."""
        last = 0
        while True:
            rows = self.read(
                f"SELECT {ROW_COLUMNS} FROM files WHERE id > ? AND state = 3 ORDER BY id LIMIT ?",
                (last, page),
            )
            if not rows:
                return
            for row in rows:
                yield file_row(row)
            last = rows[-1][0]

    # --- remembering

    def remember(self, name: str, value: str | None) -> None:
        """Keep a small fact under a name; None forgets it."""

        def work(db: sqlite3.Connection) -> None:
            if value is None:
                db.execute("DELETE FROM meta WHERE name = ?", (name,))
            else:
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

        self.change(work)

    def recall(self, name: str) -> str | None:
        """The fact kept under `name`."""
        rows = self.read("SELECT value FROM meta WHERE name = ?", (name,))
        return cast("str", rows[0][0]) if rows else None
