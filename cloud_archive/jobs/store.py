"""`jobs.sqlite3` keeps jobs and the webhooks that wait, so that neither a kill nor a restart changes an answer.

It is beside the ledger and the catalog and depends on neither: jobs are also known with CLOUD_ARCHIVE_CATALOG=off.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..errors import JobsError
from ..ledger.recovery import move_aside
from ..ledger.transactions import SQLITE_ERRORS, transaction
from ..private_files import NotPrivate, database_uri, make_private_database
from .options import JobOptions
from .records import JobRecord, Output

logger = logging.getLogger("cloud_archive.jobs")

JOBS_NAME = "jobs.sqlite3"
T = TypeVar("T")
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 20.0
_TABLES = (
    """CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY,
        state TEXT NOT NULL,          -- queued, running, finished
        process TEXT NOT NULL,        -- the ComfyUI process that has it; empty if it has finished it
        status TEXT,
        started_at REAL NOT NULL,
        finished_at REAL,
        options TEXT NOT NULL,        -- JSON
        errors TEXT NOT NULL,         -- JSON
        announced INTEGER NOT NULL DEFAULT 0,
        is_open INTEGER NOT NULL      -- 1: something of it can still change
    ) WITHOUT ROWID""",
    "CREATE INDEX jobs_open ON jobs (is_open) WHERE is_open = 1",
    "CREATE INDEX jobs_finished ON jobs (finished_at)",
    """CREATE TABLE outputs (
        job_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        node TEXT,
        name TEXT NOT NULL,
        subfolder TEXT NOT NULL,
        kind TEXT NOT NULL,
        cached INTEGER NOT NULL,
        state TEXT,                   -- NULL: open
        key TEXT, sha256 TEXT, size INTEGER, reason TEXT,
        PRIMARY KEY (job_id, number)
    ) WITHOUT ROWID""",
    "CREATE INDEX outputs_name ON outputs (name)",
    """CREATE TABLE deliveries (
        job_id TEXT PRIMARY KEY,
        message_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        next_try REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX deliveries_due ON deliveries (next_try)",
)


class Delivery(NamedTuple):
    """A webhook that waits; times are in seconds since 1970."""

    job_id: str
    message_id: str
    created_at: float
    tries: int
    next_try: float


_JOB_COLUMNS = "job_id, state, process, status, started_at, finished_at, options, errors, announced"
_OUTPUT_COLUMNS = "number, node, name, subfolder, kind, cached, state, key, sha256, size, reason"


class JobStore:
    """The database file. May be used from any thread.

    Args:
        read_only: for a command that only reads; the file must exist.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file. One that is damaged or of another version is kept under another name, and a new one is made.

        Raises:
            JobsError: it can't be opened or written; with `read_only`, also if it is damaged or of another version.
        """
        try:
            self._connection = self._connect()
        except SQLITE_ERRORS as error:
            if self.read_only or isinstance(error, sqlite3.OperationalError):
                raise JobsError(f"The list of jobs {self.path} can't be opened: {error}.") from error
            try:
                aside = move_aside(self.path)
            except OSError as blocked:
                raise JobsError(
                    f"The list of jobs {self.path} can't be used ({error}), nor renamed: {blocked}."
                ) from error
            logger.error(
                "The list of jobs can't be used (%s): it is kept as %s, and a new one is made.",
                error,
                aside.name,
            )
            try:
                self._connection = self._connect()
            except sqlite3.Error as again:
                raise JobsError(f"The list of jobs {self.path} can't be opened: {again}.") from again

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only:
            try:
                make_private_database(self.path)
            except NotPrivate as error:
                raise JobsError(f"The list of jobs {self.path} is not used: {error}.") from error
        target = database_uri(self.path, "mode=ro") if self.read_only else str(self.path)
        connection = sqlite3.connect(
            target, uri=self.read_only, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if not self.read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == _SCHEMA_VERSION:
            # The version is in the header. Read the schema too, so that a damaged file fails now.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return
        if version != 0 or self.read_only:
            raise sqlite3.DatabaseError(f"schema {version} is another version's")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")

    def close(self) -> None:
        """Close; calls after this raise JobsError."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._using() as connection:
            found: list[tuple[Any, ...]] = connection.execute(sql, values).fetchall()
            return found

    def change(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """Run `work` in a transaction and commit it. `durable`: it also survives a power cut, not only a kill."""
        with self._using() as connection, transaction(connection, durable=durable):
            return work(connection)

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                raise JobsError("The list of jobs is closed.")
            try:
                yield self._connection
            except SQLITE_ERRORS as error:
                raise JobsError(f"The list of jobs {self.path} failed: {error}.") from error

    # --- jobs

    def find(self, job_id: str) -> JobRecord | None:
        """Return a job with its outputs; None: it is unknown."""
        found = self._jobs("job_id = ?", (job_id,))
        return found[0] if found else None

    def open_jobs(self) -> list[JobRecord]:
        """Return the finished jobs of which something can still change."""
        return self._jobs("is_open = 1 AND state = 'finished'")

    def unfinished(self) -> dict[str, tuple[str, str]]:
        """Return state and process of the jobs that ComfyUI has not finished, as far as is known."""
        rows = self.read("SELECT job_id, state, process FROM jobs WHERE is_open = 1 AND state <> 'finished'")
        return {job_id: (state, process) for job_id, state, process in rows}

    def _jobs(self, condition: str, values: Sequence[Any] = ()) -> list[JobRecord]:
        found = []
        with self._using() as db:
            for row in db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE {condition}", values).fetchall():
                outputs = db.execute(
                    f"SELECT {_OUTPUT_COLUMNS} FROM outputs WHERE job_id = ? ORDER BY number", (row[0],)
                )
                found.append(_job(row, [_output(output) for output in outputs]))
        return found

    def add(self, jobs: Iterable[JobRecord]) -> list[str]:
        """Store jobs that ComfyUI finished, and return the ids of those stored now: each job is stored once."""

        def work(db: sqlite3.Connection) -> list[str]:
            added = []
            for job in jobs:
                known = db.execute(
                    "SELECT 1 FROM jobs WHERE job_id = ? AND process = ''", (job.job_id,)
                ).fetchone()
                if known is None:
                    _insert(db, job)
                    added.append(job.job_id)
            return added

        return self.change(work, durable=True)

    def note_unfinished(self, changes: dict[str, tuple[str, str]], now: float) -> None:
        """Store state and process of jobs that ComfyUI has not finished, also of those that `end_unfinished` ended."""

        def work(db: sqlite3.Connection) -> None:
            for job_id, (state, process) in changes.items():
                updated = db.execute(
                    "INSERT INTO jobs VALUES (?, ?, ?, NULL, ?, NULL, '{}', '[]', 0, 1)"
                    " ON CONFLICT (job_id) DO UPDATE SET state = excluded.state, process = excluded.process,"
                    " status = NULL, finished_at = NULL, errors = '[]', announced = 0, is_open = 1"
                    " WHERE jobs.process <> ''",
                    (job_id, state, process, now),
                )
                if updated.rowcount:
                    db.execute("DELETE FROM deliveries WHERE job_id = ?", (job_id,))

        self.change(work)

    def end_unfinished(self, job_id: str, status: str, error: str, now: float) -> bool:
        """Note that a job will never finish. Return False if it has finished meanwhile."""

        def work(db: sqlite3.Connection) -> bool:
            updated = db.execute(
                "UPDATE jobs SET state = 'finished', status = ?, errors = ?, finished_at = ? WHERE job_id = ?"
                " AND state <> 'finished'",
                (status, json.dumps([error]), now, job_id),
            )
            return updated.rowcount == 1

        return self.change(work, durable=True)

    def set_results(self, job_id: str, outputs: Iterable[Output]) -> None:
        rows = [(o.state, o.key, o.sha256, o.size_bytes, o.reason, job_id, o.number) for o in outputs]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(
                "UPDATE outputs SET state = ?, key = ?, sha256 = ?, size = ?, reason = ?"
                " WHERE job_id = ? AND number = ?",
                rows,
            )

        self.change(work)  # after a power cut it is found in the ledger again

    def announce(self, job_id: str, status: str | None, message_id: str | None, now: float) -> None:
        """Note that a job's result is known, and queue its webhook.

        Args:
            status: do nothing if the job has another one now.
            message_id: None: no webhook is sent.
        """

        def work(db: sqlite3.Connection) -> None:
            updated = db.execute(
                "UPDATE jobs SET announced = 1 WHERE job_id = ? AND announced = 0 AND status IS ?",
                (job_id, status),
            )
            if updated.rowcount and message_id is not None:
                # A job that was removed may finish after all, while the message about its removal waits.
                db.execute(
                    "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, 0, ?)", (job_id, message_id, now, now)
                )

        self.change(work)  # after a power cut the job is still open, and is announced again

    def next_delivery(self) -> Delivery | None:
        """Return the webhook with the earliest next try; None: none waits."""
        rows = self.read(
            "SELECT job_id, message_id, created_at, tries, next_try FROM deliveries ORDER BY next_try LIMIT 1"
        )
        return Delivery(*rows[0]) if rows else None

    def waiting_deliveries(self) -> int:
        """Return how many webhooks wait."""
        return int(self.read("SELECT count(*) FROM deliveries")[0][0])

    def postpone_delivery(self, message_id: str, tries: int, next_try: float) -> None:
        """Set the next try of a webhook, in seconds since 1970, and how many tries it had."""
        values = (tries, next_try, message_id)
        self._execute("UPDATE deliveries SET tries = ?, next_try = ? WHERE message_id = ?", values)

    def hasten_deliveries(self, now: float) -> None:
        """Make every webhook due now, because the receiver answers again."""
        self._execute("UPDATE deliveries SET next_try = min(next_try, ?)", (now,))

    def end_delivery(self, message_id: str) -> None:
        """Delete a webhook that was delivered or given up; not a newer one about the same job."""
        self._execute("DELETE FROM deliveries WHERE message_id = ?", (message_id,))

    def _execute(self, sql: str, values: Sequence[Any]) -> None:
        self.change(lambda db: db.execute(sql, values))

    def close_job(self, job_id: str, status: str | None) -> None:
        """Note that nothing of this job can change any more. Do nothing if it has another `status` now."""
        self._execute("UPDATE jobs SET is_open = 0 WHERE job_id = ? AND status IS ?", (job_id, status))

    def earlier_output(self, output: Output, finished_at: float) -> Output | None:
        """Return the newest archived output with this path whose job ended by `finished_at` (seconds since 1970)."""
        rows = self.read(
            f"SELECT {', '.join(f'o.{name}' for name in _OUTPUT_COLUMNS.split(', '))} FROM outputs o"
            " JOIN jobs j ON j.job_id = o.job_id WHERE o.name = ? AND o.subfolder = ? AND o.kind = ?"
            " AND o.state = 'archived' AND j.finished_at <= ? ORDER BY j.finished_at DESC LIMIT 1",
            (output.name, output.subfolder, output.kind, finished_at),
        )
        return _output(rows[0]) if rows else None

    def was_written_later(self, output: Output, finished_at: float) -> bool:
        """Return whether a job that ended after `finished_at` (seconds since 1970) wrote a file with this path."""
        return bool(
            self.read(
                "SELECT 1 FROM outputs o JOIN jobs j ON j.job_id = o.job_id WHERE o.name = ? AND o.subfolder = ?"
                " AND o.kind = ? AND o.cached = 0 AND j.finished_at > ? LIMIT 1",
                (output.name, output.subfolder, output.kind, finished_at),
            )
        )

    def forget(self, before: float) -> None:
        """Delete closed jobs that ended before this time (seconds since 1970) and have no webhook waiting."""

        def work(db: sqlite3.Connection) -> None:
            old = (
                "SELECT job_id FROM jobs WHERE finished_at < ? AND is_open = 0"
                " AND job_id NOT IN (SELECT job_id FROM deliveries)"
            )
            db.execute(f"DELETE FROM outputs WHERE job_id IN ({old})", (before,))
            db.execute(f"DELETE FROM jobs WHERE job_id IN ({old})", (before,))

        self.change(work)


def _insert(db: sqlite3.Connection, job: JobRecord) -> None:
    db.execute(
        "INSERT OR REPLACE INTO jobs VALUES (?, 'finished', ?, ?, ?, ?, ?, ?, 0, 1)",
        (
            job.job_id,
            job.process,
            job.status,
            job.started_at,
            job.finished_at,
            json.dumps(job.options.to_json()),
            json.dumps(job.errors),
        ),
    )
    db.execute("DELETE FROM outputs WHERE job_id = ?", (job.job_id,))
    db.executemany(
        "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(job.job_id, o.number, o.node, o.name, o.subfolder, o.kind, o.cached),
                *(o.state, o.key, o.sha256, o.size_bytes, o.reason),
            )
            for o in job.outputs
        ],
    )


def _job(row: tuple[Any, ...], outputs: list[Output]) -> JobRecord:
    job_id, state, process, status, started_at, finished_at, options, errors, announced = row
    kept = json.loads(options)
    return JobRecord(
        job_id,
        state,
        process,
        status,
        started_at,
        finished_at,
        JobOptions(tuple(kept.get("tags", ())), kept.get("note", ""), kept.get("urls", False)),
        tuple(json.loads(errors)),
        tuple(outputs),
        bool(announced),
    )


def _output(row: tuple[Any, ...]) -> Output:
    output = Output(*row)
    return output._replace(cached=bool(output.cached))
