"""The ledger: which version of which file is where. The only import of sqlite3.

One row per version of a file, in one of six states (`FileState`). A claim is a row: whoever marks it done must
name the claim. `pending` is committed before the first byte leaves, and `archived` only after the store proved
the bytes, so a process that is killed at any moment loses nothing and doubles nothing.

Every change runs on one writer thread that commits a group at a time: workers that finish together share one
transaction and one fsync (`synchronous=FULL`, WAL). A call returns after its commit.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from .errors import LedgerDamaged, LedgerError, LedgerTooNew
from .files import FileVersion
from .ledger_schema import MIGRATIONS, SCHEMA_VERSION

logger = logging.getLogger("cloud_archive.ledger")

T = TypeVar("T")
# What is remembered in it, beside the files.
FIRST_START = "first_start"  # seconds since 1970
FIRST_BEGUN = "first_start_begun"  # the same, while its scan has not come to its end
COMPARE = (
    "compare_with_bucket"  # an older ledger was lost: files may be in the bucket under keys that nobody knows
)
_GROUP = 256  # changes in one transaction at the most
_LONGEST_HOLD_SECONDS = 3600.0
_PROBE_SECONDS = 2.0
_BUSY_SECONDS = 20.0  # how long to wait for a program that holds the ledger, such as a backup


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


class Archived(NamedTuple):
    """What the store has proven: see `Ledger.mark_archived`."""

    claim: Claim
    key: str
    sha256: str
    etag: str | None
    wrote: bool


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
    """What the ledger holds, by state; `waiting` are the failed ones that have a next try."""

    pending: Count = Count()
    uploading: Count = Count()
    failed: Count = Count()
    waiting: Count = Count()
    archived: Count = Count()
    vanished: Count = Count()
    pruned: Count = Count()

    @property
    def open(self) -> Count:
        """Everything that is not yet in the bucket and not gone."""
        parts = (self.pending, self.uploading, self.failed)
        return Count(sum(p.files for p in parts), sum(p.size_bytes for p in parts))


_CLAIM_COLUMNS = (
    "id, path, size, mtime_ns, device, inode, token, attempts, base_key, key, sha256, upload_id, part_size,"
    " seen_at"
)
# No other version of the same file is being uploaded.
_FREE_PATH = "NOT EXISTS (SELECT 1 FROM files u WHERE u.path = f.path AND u.state < 3 AND u.state = 1)"
# Nor is it held back (until further away than any hold: from a clock that was set back).
_CLAIMABLE = f"(f.next_try IS NULL OR NOT f.next_try BETWEEN ? AND ?) AND {_FREE_PATH}"
_ROW_COLUMNS = (
    "id, path, size, mtime_ns, device, inode, state, key, sha256, etag, attempts, next_try,"
    " code, cause, cure, seen_at, archived_at, wrote, freed_at, restored_at"
)


@dataclass(slots=True)
class _Change:
    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any]


class Ledger:
    """The durable record behind every promise; safe to use from any thread.

    Args:
        path: the database's file, or None for one that lives in memory and is gone with the process.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.saved_as: Path | None = None  # of one in memory: where it belongs, once that can be written
        self._clock = clock
        self._uri = "" if path is None else str(path)
        self._memory = f"file:ledger-{id(self)}-{os.urandom(4).hex()}?mode=memory&cache=shared"
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._reader_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: threading.Thread | None = None
        self._close_lock = threading.Lock()
        self._given_up: list[tuple[int, str]] = []
        self._given_up_lock = threading.Lock()

    # --- life

    def open(self, copy_of: Path | None = None) -> None:
        """Open or create the database, check it, and bring its schema up to date.

        Args:
            copy_of: of a ledger in memory: begin with what is in this file, which is only read.

        Raises:
            LedgerTooNew: a newer version of this package wrote it.
            LedgerDamaged: SQLite's quick check found it unsound.
            LedgerError: it cannot be opened or written.
        """
        connection = self._connect()
        try:
            if copy_of is not None:
                _copy(copy_of, connection)
            _prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        self._reader = self._connect()
        self._writer = threading.Thread(
            target=self._write_groups, args=(connection,), name="cloud-archive-ledger", daemon=True
        )
        self._writer.start()

    def save(self, path: Path) -> None:
        """Write all of it into this file, over what is there; for a ledger in memory whose disk is well again.

        Raises:
            LedgerError: it cannot be written.
        """
        with self._reader_lock:
            if self._reader is None:
                raise LedgerError("The ledger is closed.")
            try:
                with contextlib.closing(sqlite3.connect(str(path), timeout=_PROBE_SECONDS)) as target:
                    # A write of its own first: a file that cannot be written is found out before it is changed.
                    target.execute("BEGIN IMMEDIATE")
                    target.execute("ROLLBACK")
                    self._reader.backup(target)
            except sqlite3.Error as error:
                raise _explained(error, path) from error

    def probe(self) -> None:
        """Commit something and read. Raises LedgerError where that cannot be done."""
        self.remember("probed", str(self._clock()))
        self.totals()

    def close(self) -> None:
        """Commit what is under way and close. Calls after this raise LedgerError."""
        with self._close_lock:
            writer, self._writer = self._writer, None
        if writer is None:
            return
        self._changes.put(None)
        writer.join()
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _connect(self) -> sqlite3.Connection:
        try:
            if self.path is None:
                connection = sqlite3.connect(
                    self._memory, uri=True, isolation_level=None, check_same_thread=False
                )
                connection.execute("PRAGMA read_uncommitted=1")
            else:
                connection = sqlite3.connect(
                    self._uri,
                    timeout=_BUSY_SECONDS,
                    isolation_level=None,
                    check_same_thread=False,
                )
        except sqlite3.Error as error:
            raise LedgerError(f"The ledger {self.path} cannot be opened: {error}.") from error
        return connection

    # --- the writer

    def _write_groups(self, connection: sqlite3.Connection) -> None:
        ending = False
        while not ending:
            first = self._changes.get()
            if first is None:
                break
            group = [first]
            while len(group) < _GROUP:
                try:
                    change = self._changes.get_nowait()
                except queue.Empty:
                    break
                if change is None:
                    ending = True
                    break
                group.append(change)
            try:
                _commit(connection, group)
            except BaseException as error:
                # Whatever it is (no memory, say): nobody may wait for ever, and the thread goes on.
                logger.exception("The ledger could not commit")
                _fail(connection, group, error)
        _refuse(self._changes)
        connection.close()

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        done: Future[T] = Future()
        with self._close_lock:
            if self._writer is None:
                raise LedgerError("The ledger is closed.")
            self._changes.put(_Change(work, done))
        return done.result()

    def _read(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self._reader_lock:
            if self._reader is None:
                raise LedgerError("The ledger is closed.")
            try:
                return cast("list[tuple[Any, ...]]", self._reader.execute(sql, values).fetchall())
            except sqlite3.Error as error:
                raise _explained(error) from error

    def generation(self) -> int | None:
        """A number that is another one after every commit, whoever made it; None where that cannot be told."""
        return None if self.path is None else int(self._read("PRAGMA data_version")[0][0])

    # --- coming in

    def unknown(self, versions: Sequence[FileVersion]) -> list[FileVersion]:
        """Those of `versions` that neither a row nor the baseline knows (a vanished row knows nothing)."""
        unknown = self.unknown_marks([version.fingerprint for version in versions])
        return [version for version in versions if version.fingerprint in unknown]

    def unknown_marks(self, fingerprints: Sequence[int]) -> set[int]:
        """The same, by fingerprint: one statement for all of them, of which only the unknown ones come back."""
        rows = self._read(
            "SELECT value FROM json_each(?) AS asked"
            " WHERE NOT EXISTS (SELECT 1 FROM files WHERE fingerprint = asked.value AND state <> 4)"
            " AND NOT EXISTS (SELECT 1 FROM baseline WHERE fingerprint = asked.value)",
            (json.dumps(fingerprints),),
        )
        return {row[0] for row in rows}

    def add(self, versions: Iterable[FileVersion], *, priority: int = 0) -> int:
        """Queue versions that are complete. A version known already is left as it is.

        A newer version of a file whose older one still waits takes that row over, for the older bytes are gone.

        Args:
            priority: smaller is claimed earlier; 0 for what just came, 1 for a backlog.

        Returns:
            How many became pending.
        """
        items = list(versions)
        return self._change(lambda db: sum(_add(db, item, priority, self._clock()) for item in items))

    def add_to_baseline(self, fingerprints: Iterable[int]) -> None:
        """Know these versions without archiving them: they were there before the archive began."""
        marks = [(mark,) for mark in sorted(fingerprints)]  # in the order of the table
        self._change(
            lambda db: (
                db.executemany("INSERT OR IGNORE INTO baseline (fingerprint) VALUES (?)", marks) and None
            )
        )

    def clear_baseline(self) -> None:
        """Forget what was there before: the next scan sees all of it as new. What was compacted stays known."""
        self._change(lambda db: db.execute("DELETE FROM baseline WHERE archived IS NULL") and None)

    # --- claims

    def claim(self, claimant: str, *, oldest: bool = False) -> Claim | None:
        """Take the next pending version, or None where nothing is due.

        Args:
            claimant: names who takes it; with the row it makes the claim's name.
            oldest: take the one that waits longest, else the smallest of the most urgent.
        """
        order = "f.id" if oldest else "f.priority, f.size, f.id"

        def work(db: sqlite3.Connection) -> Claim | None:
            now = self._clock()
            return _claim(
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
            now = self._clock()
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
            claims = (_claim(db, claimant, "?", (row,)) for row in chosen)
            return [claim for claim in claims if claim is not None]

        return self._change_and_take_back(work)

    def claim_version(self, claimant: str, version: FileVersion) -> Claim | None:
        """Take this very version if it is pending, failed or pruned; None where it is not, or is taken."""
        return self._change_and_take_back(
            lambda db: _claim(
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
            _mark(db, claim, "upload_id = NULL, part_size = NULL", ())

        self._change(work)

    def abandoned(self, limit: int = 20) -> list[tuple[str, str]]:
        """(key, upload id) of multipart uploads of ours that the store has still to abort."""
        return [
            (key, name) for key, name in self._read("SELECT key, upload_id FROM abandoned LIMIT ?", (limit,))
        ]

    def forget_abandoned(self, key: str, upload_id: str) -> None:
        """The store has aborted it, or does not know it any more."""
        self._change(
            lambda db: (
                db.execute("DELETE FROM abandoned WHERE key = ? AND upload_id = ?", (key, upload_id)) and None
            )
        )

    def mark_archived(
        self, claim: Claim, *, key: str, sha256: str, etag: str | None, wrote: bool = False
    ) -> None:
        """The store has proven the bytes.

        Args:
            wrote: the object is of this ledger's making, and was not found there.

        Raises:
            LedgerError: the claim is no longer this one's.
        """
        self.mark_all_archived([Archived(claim, key, sha256, etag, wrote)])

    def mark_all_archived(self, archived: Sequence[Archived]) -> None:
        """The same for several, in one commit; none is marked where a claim is no longer its claimant's."""
        now = self._clock()
        self._mark(
            "state = 3, claim = NULL, key = ?, sha256 = ?, etag = ?, archived_at = ?, wrote = ?, freed_at = NULL,"
            " restored_at = NULL, next_try = NULL,"
            " base_key = NULL, token = NULL, upload_id = NULL, part_size = NULL,"
            " code = NULL, cause = NULL, cure = NULL",
            [(a.claim, (a.key, bytes.fromhex(a.sha256), a.etag, now, a.wrote)) for a in archived],
        )

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
            [(claim, (self._clock(),))],
        )

    def release(self, claim: Claim, *, hold_seconds: float = 0.0) -> None:
        """Give a claim back: pending again, not claimed before `hold_seconds` have passed."""
        until = self._clock() + hold_seconds if hold_seconds else None
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

        return self._change(work)

    def retry_failed(self) -> int:
        """Every failed version is pending again at once. Returns how many there were."""
        return self._change(
            lambda db: db.execute("UPDATE files SET state = 0, next_try = NULL WHERE state = 2").rowcount
        )

    def wake_due(self, *, horizon_seconds: float = 3600.0) -> int:
        """Failed versions whose next try has come are pending again.

        A next try further away than `horizon_seconds` comes from a clock that was set back: it is due as well.
        """
        now = self._clock()
        given_up = len(self._given_up)
        waiting = self._read("SELECT 1 FROM files WHERE state = 2 AND next_try IS NOT NULL LIMIT 1")
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

    def wake_waiting(self) -> int:
        """Every failed version that has a next try is pending now: the store answers again."""
        return self._change(
            lambda db: (
                db.execute(
                    "UPDATE files SET state = 0, next_try = NULL WHERE state = 2 AND next_try IS NOT NULL"
                ).rowcount
            )
        )

    def next_due(self) -> float | None:
        """When the next failed or held version is due, in seconds since 1970."""
        rows = self._read(
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
            return self._change(work)

        def both(db: sqlite3.Connection) -> T:
            db.executemany(
                "UPDATE files SET state = 0, claim = NULL, next_try = NULL WHERE id = ? AND claim = ?",
                given_up,
            )
            return work(db)

        result = self._change(both)
        with self._given_up_lock:
            self._given_up = [claim for claim in self._given_up if claim not in given_up]
        return result

    def drop(self, claim: Claim) -> None:
        """Forget this version: its bytes are gone, and a newer version of the file has a row of its own."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM files WHERE id = ? AND claim = ?", (claim.row, claim.name))

        self._change(work)

    def _mark(self, setting: str, marks: Sequence[tuple[Claim, Sequence[Any]]]) -> None:
        def work(db: sqlite3.Connection) -> None:
            for claim, values in marks:
                _mark(db, claim, setting, values)

        if marks:
            self._change(work)

    # --- looking

    def totals(self) -> Totals:
        """Files and bytes by state, from counters that every change keeps: the cost does not grow with rows."""
        # One statement, hence one moment: a row that moves in between would be counted twice, or not at all.
        counts = {
            state: Count(files, size)
            for state, files, size in self._read(
                "SELECT state, files, bytes FROM totals UNION ALL"
                " SELECT -1, count(*), coalesce(sum(size), 0) FROM files WHERE state = 2 AND next_try IS NOT NULL"
            )
        }
        return Totals(
            pending=counts.get(0, Count()),
            uploading=counts.get(1, Count()),
            failed=counts.get(2, Count()),
            waiting=counts.get(-1, Count()),
            archived=counts.get(3, Count()),
            vanished=counts.get(4, Count()),
            pruned=counts.get(5, Count()),
        )

    def oldest_waiting(self) -> float | None:
        """When the ledger first held the pending or retried version that waits longest; seconds since 1970.

        By the order of rows for pending ones, so that the cost does not grow with them.
        """
        rows = self._read(
            "SELECT min(seen_at) FROM ("
            " SELECT seen_at FROM (SELECT seen_at FROM files WHERE state = 0 ORDER BY id LIMIT 1)"
            " UNION ALL"
            " SELECT min(seen_at) FROM files WHERE state = 2 AND next_try IS NOT NULL)"
        )
        return cast("float | None", rows[0][0])

    def find(self, version: FileVersion) -> FileRow | None:
        """The row of this very version."""
        rows = self._read(f"SELECT {_ROW_COLUMNS} FROM files WHERE fingerprint = ?", (version.fingerprint,))
        return _file_row(rows[0]) if rows else None

    def rows(
        self,
        *,
        states: Sequence[FileState] = (),
        query: str = "",
        limit: int = 100,
        before: int | None = None,
    ) -> list[FileRow]:
        """A page of rows, newest first.

        Args:
            states: only these; empty = all.
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
        few = bool(states) and all(state < FileState.ARCHIVED for state in states)
        if few:
            wanted.append("state < 3")  # the small index of open rows has all that is asked for here
        if query:
            wanted.append("instr(lower(CAST(path AS TEXT)), lower(?)) > 0")
            values.append(query.encode("utf-8", "replace").decode())
        # Left to itself, SQLite would walk down a million archived rows to find forty open ones in their order.
        source = "files INDEXED BY files_open" if few else "files"
        chosen = f"SELECT id FROM {source} WHERE {' AND '.join(wanted)} ORDER BY id DESC LIMIT ?"
        rows = self._read(
            f"SELECT {_ROW_COLUMNS} FROM files WHERE id IN ({chosen}) ORDER BY id DESC", (*values, limit)
        )
        return [_file_row(row) for row in rows]

    def archived_rows(self, *, page: int = 1000) -> Iterator[FileRow]:
        """Every archived row, oldest first, without holding the ledger in between."""
        last = 0
        while True:
            rows = self._read(
                f"SELECT {_ROW_COLUMNS} FROM files WHERE id > ? AND state = 3 ORDER BY id LIMIT ?",
                (last, page),
            )
            if not rows:
                return
            for row in rows:
                yield _file_row(row)
            last = rows[-1][0]

    # --- remembering

    def remember(self, name: str, value: str | None) -> None:
        """Keep a small fact under a name; None forgets it."""

        def work(db: sqlite3.Connection) -> None:
            if value is None:
                db.execute("DELETE FROM meta WHERE name = ?", (name,))
            else:
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

        self._change(work)

    def recall(self, name: str) -> str | None:
        """The fact kept under `name`."""
        rows = self._read("SELECT value FROM meta WHERE name = ?", (name,))
        return cast("str", rows[0][0]) if rows else None


def _copy(path: Path, to: sqlite3.Connection) -> None:
    """Raises LedgerError where the file cannot be read whole."""
    failure: sqlite3.Error | None = None
    # Without the right to write beside it, SQLite reads a ledger only where it is told that nobody else writes.
    for way in ("mode=ro", "immutable=1"):
        try:
            with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?{way}", uri=True)) as source:
                source.backup(to)
            return
        except sqlite3.Error as error:
            failure = error
    assert failure is not None
    raise _explained(failure, path) from failure


def _prepare(connection: sqlite3.Connection, path: Path | None) -> None:
    """Check, set up, migrate."""
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise LedgerTooNew(
                f"The ledger {path} was written by a newer version of Cloud Archive (schema {version},"
                f" this one knows {SCHEMA_VERSION}). Update the plugin, or move the ledger aside."
            )
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise LedgerDamaged(f"The ledger {path} is damaged: {verdict}.")
        if path is not None:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA busy_timeout={int(_BUSY_SECONDS * 1000)}")
        for number in range(version, SCHEMA_VERSION):
            connection.execute("BEGIN IMMEDIATE")
            # Another process (`status` beside a first start) may have been faster.
            if connection.execute("PRAGMA user_version").fetchone()[0] == number:
                for statement in MIGRATIONS[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        # A write, so that a read-only disk is found out now and not with the first file.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('opened', ?)", (str(time.time()),))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _explained(error, path) from error


def _commit(connection: sqlite3.Connection, group: list[_Change]) -> None:
    """Run a group in one transaction; each change stands or falls alone, the commit is everybody's."""
    results: list[tuple[_Change, Any, BaseException | None]] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        for change in group:
            connection.execute("SAVEPOINT change")
            try:
                result = change.work(connection)
            except BaseException as error:
                if not connection.in_transaction:
                    raise  # SQLite itself has rolled all of it back: a full disk, for one
                connection.execute("ROLLBACK TO change")
                connection.execute("RELEASE change")
                results.append((change, None, error))
            else:
                connection.execute("RELEASE change")
                results.append((change, result, None))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        for change in group:
            change.done.set_exception(_explained(error))
        return
    for change, result, failure in results:
        if failure is None:
            change.done.set_result(result)
        elif isinstance(failure, sqlite3.Error):
            change.done.set_exception(_explained(failure))
        else:
            change.done.set_exception(failure)


def _fail(connection: sqlite3.Connection, group: list[_Change], error: BaseException) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
    for change in group:
        if not change.done.done():
            change.done.set_exception(LedgerError(f"The ledger failed: {type(error).__name__}."))


def _refuse(changes: queue.SimpleQueue[_Change | None]) -> None:
    while True:
        try:
            change = changes.get_nowait()
        except queue.Empty:
            return
        if change is not None:
            change.done.set_exception(LedgerError("The ledger is closed."))


def _explained(error: sqlite3.Error, path: Path | None = None) -> LedgerError:
    """SQLite's words, in ours. https://www.sqlite.org/rescode.html"""
    where = f"The ledger {path}" if path else "The ledger"
    said = str(error)
    if "malformed" in said or "not a database" in said:
        return LedgerDamaged(f"{where} is damaged: {said}.")
    if "locked" in said or "busy" in said:
        return LedgerError(f"{where} is locked by another program (a backup?): it is tried again by itself.")
    if "full" in said:
        return LedgerError(f"{where} cannot be written: the disk is full. Free some space.")
    if "readonly" in said or "read-only" in said:
        return LedgerError(f"{where} cannot be written: it is read-only. Set CLOUD_ARCHIVE_STATE_DIR.")
    return LedgerError(f"{where} failed: {said}.")


def _add(db: sqlite3.Connection, version: FileVersion, priority: int, now: float) -> int:
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
    signature = (
        version.size_bytes,
        version.mtime_ns,
        _signed(version.device),
        _signed(version.inode),
        mark,
    )
    path = os.fsencode(version.path)
    older = db.execute("SELECT id FROM files WHERE path = ? AND state < 3 AND state <> 1", (path,)).fetchone()
    if older is not None:
        db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, device = ?, inode = ?, fingerprint = ?,"
            " state = 0, next_try = NULL, seen_at = ?, priority = min(priority, ?) WHERE id = ?",
            (*signature, now, priority, older[0]),
        )
        return 1
    db.execute(
        "INSERT INTO files (size, mtime_ns, device, inode, fingerprint, path, state, priority, token,"
        " seen_at) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
        (*signature, path, priority, os.urandom(16), now),
    )
    return 1


def _mark(db: sqlite3.Connection, claim: Claim, setting: str, values: Sequence[Any]) -> None:
    marked = db.execute(
        f"UPDATE files SET {setting} WHERE id = ? AND claim = ?", (*values, claim.row, claim.name)
    ).rowcount
    if marked != 1:
        raise LedgerError(f"{claim.version.path} is no longer claimed by {claim.name}.")


def _claim(db: sqlite3.Connection, claimant: str, choice: str, values: Sequence[Any]) -> Claim | None:
    row = db.execute(
        "UPDATE files SET state = 1, attempts = attempts + 1, next_try = NULL,"
        # Never the same twice, so that giving up an old claim cannot touch a new one.
        " claim = ? || '/' || id || '/' || attempts || '/' || hex(randomblob(4)),"
        " token = coalesce(token, randomblob(16))"
        f" WHERE id = ({choice}) RETURNING claim, {_CLAIM_COLUMNS}",
        (claimant, *values),
    ).fetchone()
    if row is None:
        return None
    name, row_id, path, size, mtime_ns, device, inode, token, attempts, *rest = row
    base_key, key, sha256, upload_id, part_size, seen_at = rest
    return Claim(
        row=row_id,
        name=name,
        version=FileVersion(os.fsdecode(path), size, mtime_ns, _unsigned(device), _unsigned(inode)),
        token=token.hex(),
        attempts=attempts,
        base_key=base_key,
        key=key,
        sha256=sha256.hex() if sha256 else None,
        upload_id=upload_id,
        part_size_bytes=part_size,
        seen_at=seen_at,
    )


def _file_row(row: tuple[Any, ...]) -> FileRow:
    row_id, path, size, mtime_ns, device, inode, state, key, sha256, etag, *rest = row
    attempts, next_try, code, cause, cure, seen_at, archived_at, wrote, freed_at, restored_at = rest
    return FileRow(
        row_id,
        FileVersion(os.fsdecode(path), size, mtime_ns, _unsigned(device), _unsigned(inode)),
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


def _signed(number: int) -> int:
    """SQLite's integers have a sign; inodes of ReFS and ZFS use all 64 bits (ReFS: 128, cut here)."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >= 1 << 63 else number


def _unsigned(number: int) -> int:
    return number + (1 << 64) if number < 0 else number
