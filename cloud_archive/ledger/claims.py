"""Claim versions for upload, and record the result of each claim.

A worker names its claim when it changes the row, so a worker whose claim was released can't change it.
An attempt is committed before its first byte leaves, and `archived` only after the store has proven the bytes. So a
kill at any moment loses no file, and the next start knows which object an attempt may have left.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from ..errors import KeyBeingPruned
from ..files import FileVersion
from ..keys import MAX_CONFLICTS
from .database import Database
from .rows import (
    Claim,
    PlannedUpload,
    ProvenUpload,
    claim_row,
    claim_rows,
    conflict_hashes,
    identity_values,
    keys_being_pruned,
    record_conflicts,
    update_claimed_row,
)

T = TypeVar("T")

_LONGEST_HOLD_SECONDS = 3600.0
# No other version of the same file is being uploaded. `state < 3` is the condition of the index (see schema.py).
_PATH_IS_FREE = "NOT EXISTS (SELECT 1 FROM files u WHERE u.path = f.path AND u.state < 3 AND u.state = 1)"
# And it is not held. A hold that ends in over an hour was set before the clock was set back, so it doesn't count.
_CLAIMABLE = f"(f.next_try IS NULL OR NOT f.next_try BETWEEN ? AND ?) AND {_PATH_IS_FREE}"
_RETRY_FAILED = "UPDATE files SET state = 0, next_try = NULL WHERE state = 2"
_HORIZON_SECONDS = 3600.0


class ClaimLedger(Database):
    """The part of the ledger that workers use; see `ledger.Ledger`."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, clock=clock)
        self._to_release: list[tuple[int, str]] = []  # row and name of claims
        self._to_release_lock = threading.Lock()
        self._none_waits_since: int | None = None  # `commits` when no failed version had a next try

    def claim(self, claimant: str, *, oldest: bool = False, least_tried: bool = False) -> Claim | None:
        """Claim the next pending version; return None if nothing is due.

        Args:
            claimant: the name of the worker.
            oldest: claim the version with the oldest row. Default: the smallest of the most urgent ones.
            least_tried: claim one of those with the fewest attempts.
        """
        order = "f.id" if oldest else "f.priority, f.size, f.id"
        if least_tried:
            order = f"f.attempts, {order}"

        def work(db: sqlite3.Connection) -> Claim | None:
            now = self.clock()
            return claim_row(
                db,
                claimant,
                f"SELECT f.id FROM files f WHERE f.state = 0 AND {_CLAIMABLE} ORDER BY {order} LIMIT 1",
                (now, now + _LONGEST_HOLD_SECONDS),
            )

        return self._change_and_release(work)

    def claim_several(self, claimant: str, *, most: int, among: int, size_bytes: int) -> list[Claim]:
        """Claim several versions in one commit, in the order of `claim`; a retry is claimed alone.

        Args:
            most: the largest number of versions.
            among: how many workers there are; each claims at most its share of the pending versions.
            size_bytes: the largest total size. The first version may be larger.
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
                    break  # an earlier attempt may have written its object
            return claim_rows(db, claimant, chosen)

        return self._change_and_release(work)

    def claim_version(self, claimant: str, version: FileVersion) -> Claim | None:
        """Claim exactly this version; return None if that is not possible.

        It must be pending, failed or pruned, and no other version of its file may be uploading.
        """
        return self._change_and_release(
            lambda db: claim_row(
                db,
                claimant,
                f"SELECT f.id FROM files f WHERE f.fingerprint = ? AND f.state IN (0, 2, 5) AND {_PATH_IS_FREE}",
                (version.fingerprint,),
            )
        )

    def record_attempt(self, claim: Claim, *, sha256: str, base_key: str, key: str) -> None:
        """Commit what an upload will send and to which key, before its first request.

        Raises KeyBeingPruned if `prune` is deleting the object with this key.
        """
        if self.record_attempts([PlannedUpload(claim, sha256, base_key, key)]):
            raise KeyBeingPruned(key)

    def record_attempts(self, attempts: Sequence[PlannedUpload]) -> set[str]:
        """Record several attempts in one commit; none if a claim was released meanwhile (LedgerError).

        Return the keys whose objects `prune` is deleting: attempts with these are not recorded, and must not be made.
        """

        def work(db: sqlite3.Connection) -> set[str]:
            pruned = keys_being_pruned(db, (attempt.key for attempt in attempts))
            for claim, sha256, base_key, key in attempts:
                if key not in pruned:
                    content = bytes.fromhex(sha256)
                    update_claimed_row(
                        db,
                        claim,
                        "sha256 = ?, base_key = ?, key = ?,"
                        " upload_id = CASE WHEN key = ? AND sha256 = ? THEN upload_id END",
                        (content, base_key, key, key, content),
                    )
            return pruned

        return self.change(work)

    def record_multipart(self, claim: Claim, upload_id: str | None, part_size_bytes: int | None) -> None:
        """Commit that a multipart upload exists or will be begun; None: it is over."""
        self._mark("upload_id = ?, part_size = ?", [(claim, (upload_id, part_size_bytes))])

    def abandon_multipart(self, claim: Claim, key: str, upload_id: str) -> None:
        """Commit that a multipart upload must be aborted; it stays recorded until `forget_abandoned`."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO abandoned VALUES (?, ?)", (key, upload_id))
            # A probe's upload is not the row's.
            setting = (
                "part_size = CASE WHEN upload_id <> ? THEN part_size END, upload_id = nullif(upload_id, ?)"
            )
            update_claimed_row(db, claim, setting, (upload_id, upload_id))

        self.change(work)

    def abandoned(self, limit: int = 20) -> list[tuple[str, str]]:
        """Return (key, upload id) of up to `limit` multipart uploads that must still be aborted.

        In random order, so that those that can't be aborted now don't hold up the others.
        """
        return list(self.read("SELECT key, upload_id FROM abandoned ORDER BY random() LIMIT ?", (limit,)))

    def forget_abandoned(self, key: str, upload_id: str) -> None:
        """Forget a multipart upload that no longer needs an abort."""
        self.execute("DELETE FROM abandoned WHERE key = ? AND upload_id = ?", (key, upload_id))

    def mark_all_archived(self, archived: Sequence[ProvenUpload]) -> None:
        """Mark versions whose bytes the store has proven as archived, in one commit.

        Marks none if a claim was released meanwhile (LedgerError).
        """
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
            then=lambda db: record_conflicts(db, archived),
        )

    def conflicts(self, base_key: str, sha256: str) -> tuple[int | None, frozenset[int]]:
        """Return the conflict number under which these bytes are archived (or None), and all numbers of this key.

        Among the latter, `MAX_CONFLICTS + 1` also stands for all higher ones.
        """
        key_hash, content_hash = conflict_hashes(base_key, sha256)
        known = self.read(
            "SELECT number FROM conflicts WHERE key_hash = ? AND content_hash = ?", (key_hash, content_hash)
        )
        taken = self.read(
            "SELECT DISTINCT min(number, ?) FROM conflicts WHERE key_hash = ?", (MAX_CONFLICTS + 1, key_hash)
        )
        return known[0][0] if known else None, frozenset(number for (number,) in taken)

    def mark_failed(self, claim: Claim, *, code: str, cause: str, cure: str, next_try: float | None) -> None:
        """Mark a version as failed; `next_try` is in seconds since 1970, None = given up; see `archive.given_up`."""
        # They may contain a path with bytes that are not UTF-8, which SQLite can't store as text.
        texts = (text.encode("utf-8", "backslashreplace").decode() for text in (code, cause, cure))
        self._mark(
            "state = 2, claim = NULL, code = ?, cause = ?, cure = ?, next_try = ?",
            [(claim, (*texts, next_try))],
        )

    def mark_vanished(self, claim: Claim) -> None:
        """Mark a version as vanished: its file was gone before it could be archived.

        A version that was archived once and queued again keeps `archived_at`, so that `lost_rows` finds it.
        """
        self._mark(
            "state = 4, claim = NULL, upload_id = NULL, next_try = NULL, archived_at ="
            # The clock may have been set back since, and `lost_rows` compares the two times.
            " coalesce(archived_at, max(seen_at, ?))",
            [(claim, (self.clock(),))],
        )

    def release(self, claim: Claim, *, hold_seconds: float = 0.0) -> None:
        """Release a claim: its version is pending again, and can be claimed after `hold_seconds`."""
        until = self.clock() + hold_seconds if hold_seconds else None
        self._mark("state = 0, claim = NULL, next_try = ?", [(claim, (until,))])

    def unclaim(self, claims: Sequence[Claim]) -> None:
        """Release claims without counting an attempt, because none was begun."""
        self._mark(
            "state = 0, claim = NULL, next_try = NULL, attempts = attempts - 1",
            [(claim, ()) for claim in claims],
        )

    def release_all(self, *, retry_failed: bool) -> int:
        """Release every claim, whoever holds it. Return how many there were."""

        def work(db: sqlite3.Connection) -> int:
            claims = db.execute(
                "UPDATE files SET state = 0, claim = NULL, next_try = NULL WHERE state = 1"
            ).rowcount
            if retry_failed:
                db.execute(_RETRY_FAILED)
            return claims

        return self.change(work)

    def retry_failed(self) -> int:
        """Make every failed version pending now. Return how many there were."""
        return self.execute(_RETRY_FAILED)

    def retry_rows(self, rows: Sequence[int]) -> int:
        """Make the failed ones of these rows pending now. Return how many there were."""
        return self.execute(
            f"{_RETRY_FAILED} AND id IN (SELECT value FROM json_each(?))", (json.dumps(rows),)
        )

    def given_up_samples(self, *, but: Collection[str]) -> dict[int, str]:
        """Return the smallest version of each code that failed for good, by row, without those with these codes."""
        rows = self.read(
            # With min(), SQLite takes the other columns from the row of the minimum.
            "SELECT id, code, min(size) FROM files WHERE state = 2 AND next_try IS NULL"
            " AND code NOT IN (SELECT value FROM json_each(?)) GROUP BY code",
            (json.dumps(sorted(but)),),
        )
        return {row: code for row, code, _ in rows}

    def retry_given_up(self, code: str) -> int:
        """Make the versions pending now that failed for good with this code. Return how many there were."""
        return self.execute(f"{_RETRY_FAILED} AND next_try IS NULL AND code = ?", (code,))

    def requeue_due(self) -> bool:
        """Make the failed versions pending whose next try is due, and release what `release_later` has collected.

        Return whether any version may have become pending. A next try further away than `_HORIZON_SECONDS` was set
        before the clock was set back, so it is due as well.
        """
        now = self.clock()
        releases, commits = bool(self._to_release), self.commits
        if not releases and commits == self._none_waits_since:
            return False  # this is asked every few seconds
        waiting = self.read("SELECT 1 FROM files WHERE state = 2 AND next_try IS NOT NULL LIMIT 1")
        if not waiting and not releases:
            self._none_waits_since = commits
            return False
        requeued = self._change_and_release(
            lambda db: (
                db.execute(
                    f"{_RETRY_FAILED} AND (next_try <= ? OR next_try > ?)", (now, now + _HORIZON_SECONDS)
                ).rowcount
            )
        )
        return releases or requeued > 0

    def requeue_waiting(self, codes: Collection[str]) -> int:
        """Make the failed versions with one of these codes and a next try pending now. Return how many there were."""
        return self.execute(
            f"{_RETRY_FAILED} AND next_try IS NOT NULL AND code IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(codes)),),
        )

    def next_due(self) -> float | None:
        """Return the earliest next try of a failed or held version, in seconds since 1970; None if there is none."""
        rows = self.read(
            "SELECT min(next_try) FROM ("
            " SELECT min(next_try) AS next_try FROM files WHERE state = 2 AND next_try IS NOT NULL"
            " UNION ALL"
            " SELECT min(next_try) FROM files WHERE state = 0 AND next_try IS NOT NULL)"
        )
        return cast("float | None", rows[0][0])

    def release_later(self, claim: Claim) -> None:
        """Let the next call that claims, or `requeue_due`, release a claim whose end isn't committed. Never raises."""
        with self._to_release_lock:
            self._to_release.append((claim.row, claim.name))

    def _change_and_release(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Commit a change together with the releases that `release_later` has collected."""
        # Need not survive a power cut: `record_attempt` makes the claim durable before the first byte leaves.
        with self._to_release_lock:
            releases = tuple(self._to_release)
        if not releases:
            return self.change(work, durable=False)

        def release_and_work(db: sqlite3.Connection) -> T:
            db.executemany(
                "UPDATE files SET state = 0, claim = NULL, next_try = NULL WHERE id = ? AND claim = ?",
                releases,
            )
            return work(db)

        result = self.change(release_and_work, durable=False)
        with self._to_release_lock:
            self._to_release = [claim for claim in self._to_release if claim not in releases]
        return result

    def drop(self, claim: Claim) -> None:
        """Delete a version's row: its bytes are gone, and the ledger knows the file's present version."""
        self.execute("DELETE FROM files WHERE id = ? AND claim = ?", (claim.row, claim.name))

    def _mark(
        self,
        setting: str,
        marks: Sequence[tuple[Claim, Sequence[Any]]],
        *,
        then: Callable[[sqlite3.Connection], None] = lambda db: None,
    ) -> None:
        """Update the rows of claims in one commit; none if a claim was released meanwhile (LedgerError).

        `marks` holds each claim with its values for `setting`.
        """

        def work(db: sqlite3.Connection) -> None:
            for claim, values in marks:
                update_claimed_row(db, claim, setting, values)
            then(db)

        if marks:
            self.change(work)
