"""The ledger's schema, as migrations that only go forward. Never edit a released migration.

States are those of `rows.FileState`: 0 pending, 1 uploading, 2 failed, 3 archived, 4 vanished, 5 pruned. A query should
repeat each term of a partial index's condition, or SQLite may not use the index
(https://www.sqlite.org/partialindex.html).
"""

from __future__ import annotations

_FIRST: tuple[str, ...] = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE files (
        id INTEGER PRIMARY KEY,
        path BLOB NOT NULL,          -- as the filesystem gives it, relative, with /
        size INTEGER NOT NULL,       -- bytes
        mtime_ns INTEGER NOT NULL,
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        fingerprint INTEGER NOT NULL, -- of path, size and mtime: one row per version
        state INTEGER NOT NULL,
        priority INTEGER NOT NULL,   -- smaller is claimed earlier
        token BLOB,                  -- of this row, in the object's metadata; NULL once archived
        claim TEXT,                  -- who uploads it; NULL unless uploading
        attempts INTEGER NOT NULL DEFAULT 0,
        next_try REAL,               -- seconds since 1970; NULL on a failed row: never by itself
        base_key TEXT,               -- rendered at the first attempt
        key TEXT,                    -- tried last, or archived at
        sha256 BLOB,
        etag TEXT,
        upload_id TEXT,              -- a multipart upload of ours that has not ended
        part_size INTEGER,
        code TEXT, cause TEXT, cure TEXT,
        seen_at REAL NOT NULL,
        archived_at REAL,            -- or vanished at, or pruned at
        wrote INTEGER,               -- 1: the object is of our making; 0: it was found there with the same bytes
        freed_at REAL,               -- its local file is gone: removed after proof, or found gone or replaced
        restored_at REAL             -- its local file came back from the bucket
    )""",
    "CREATE UNIQUE INDEX files_fingerprint ON files (fingerprint)",
    "CREATE INDEX files_queue ON files (priority, size, id) WHERE state = 0",
    "CREATE INDEX files_oldest ON files (id) WHERE state = 0",
    "CREATE INDEX files_held ON files (next_try) WHERE state = 0 AND next_try IS NOT NULL",
    "CREATE INDEX files_failed ON files (next_try, size) WHERE state = 2",
    "CREATE INDEX files_open ON files (path, state) WHERE state < 3",
    "CREATE INDEX files_multipart ON files (upload_id) WHERE upload_id IS NOT NULL",
    # Reports sum up by time without touching the rows; freeing takes the oldest local file first.
    "CREATE INDEX files_archived ON files (archived_at, size) WHERE state = 3",
    "CREATE INDEX files_local ON files (mtime_ns) WHERE state = 3 AND freed_at IS NULL",
    # Multipart uploads of ours that are to be aborted.
    "CREATE TABLE abandoned (key TEXT, upload_id TEXT, PRIMARY KEY (key, upload_id)) WITHOUT ROWID",
    # Versions without a row, at 12 bytes each.
    "CREATE TABLE baseline (fingerprint INTEGER PRIMARY KEY)",
    "CREATE TABLE totals (state INTEGER PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL)",
    "INSERT INTO totals VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0)",
    """CREATE TRIGGER files_added AFTER INSERT ON files BEGIN
        UPDATE totals SET files = files + 1, bytes = bytes + new.size WHERE state = new.state;
    END""",
    """CREATE TRIGGER files_moved AFTER UPDATE OF state, size ON files
    WHEN old.state <> new.state OR old.size <> new.size BEGIN
        UPDATE totals SET files = files - 1, bytes = bytes - old.size WHERE state = old.state;
        UPDATE totals SET files = files + 1, bytes = bytes + new.size WHERE state = new.state;
    END""",
    """CREATE TRIGGER files_removed AFTER DELETE ON files BEGIN
        UPDATE totals SET files = files - 1, bytes = bytes - old.size WHERE state = old.state;
    END""",
)

# 1 = the version was archived once. NULL = it is a baseline file; see `ledger`.
_COMPACTED: tuple[str, ...] = ("ALTER TABLE baseline ADD COLUMN archived INTEGER",)

# Which conflict numbers of a key are taken, and by which bytes; see `rows.record_conflicts`.
_CONFLICTS: tuple[str, ...] = (
    "CREATE TABLE conflicts (key_hash INTEGER, content_hash INTEGER, number INTEGER NOT NULL,"
    " PRIMARY KEY (key_hash, content_hash)) WITHOUT ROWID",
)

# The change time (ctime) minus the mtime in nanoseconds: 0 for most files, which takes no space. NULL = unknown.
_CHANGE_TIMES: tuple[str, ...] = ("ALTER TABLE files ADD COLUMN ctime_offset INTEGER",)

# Pending rows that failed before: the status counts them each second, beside a backlog of any length.
_TRIED: tuple[str, ...] = ("CREATE INDEX files_tried ON files (size) WHERE state = 0 AND cause IS NOT NULL",)

# Batches of files that a scan has found to be known, see `known_batches`. The epoch counts the changes after which such
# a file may be unknown, doubtful or in another state. A batch with a pending row is never known, so archiving a file
# doesn't count.
_COUNT_EPOCH = "BEGIN UPDATE meta SET value = value + 1 WHERE name = 'known_epoch'; END"
_KNOWN_BATCHES: tuple[str, ...] = (
    "CREATE TABLE known_batches (hash BLOB PRIMARY KEY, epoch INTEGER NOT NULL, counts TEXT NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('known_epoch', '0')",
    "CREATE TRIGGER known_row_added AFTER INSERT ON files WHEN new.state IN (3, 5) OR new.priority < 0 "
    + _COUNT_EPOCH,
    "CREATE TRIGGER known_row_changed AFTER UPDATE OF fingerprint, state, inode, ctime_offset ON files"
    " WHEN old.state >= 3 AND (new.state NOT IN (3, 5) OR new.fingerprint <> old.fingerprint"
    " OR new.inode <> old.inode OR new.ctime_offset IS NOT old.ctime_offset) " + _COUNT_EPOCH,
    "CREATE TRIGGER known_row_removed AFTER DELETE ON files WHEN old.state IN (3, 5) " + _COUNT_EPOCH,
    "CREATE TRIGGER known_older_removed AFTER DELETE ON baseline " + _COUNT_EPOCH,
)

# See `deletions`. `row` is 0 for an object that no row knows; `archived_at` is what the row had before it was marked as
# pruned. `under_way` is 0 once no request can delete the object any more.
_DELETIONS: tuple[str, ...] = (
    "CREATE TABLE deletions (key TEXT NOT NULL, row INTEGER NOT NULL, archived_at REAL, requested_at REAL NOT NULL,"
    " under_way INTEGER NOT NULL, PRIMARY KEY (key, row)) WITHOUT ROWID",
)

# `prune` keeps the objects of files that were restored since its plan.
_RESTORED: tuple[str, ...] = (
    "CREATE INDEX files_restored ON files (restored_at) WHERE state = 3 AND restored_at IS NOT NULL",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    _COMPACTED,
    _CONFLICTS,
    _CHANGE_TIMES,
    _TRIED,
    _KNOWN_BATCHES,
    _DELETIONS,
    _RESTORED,
)
SCHEMA_VERSION = len(MIGRATIONS)
