"""The catalog's tables. A new schema version builds them again; it keeps only the tables in KEPT_COLUMNS.

`recipes` holds what the images of one prompt have in common. The two trigram indexes keep no positions (`detail=none`),
so they take less space, and give only candidates for a search (see lookup.py).
"""

from __future__ import annotations

SCHEMA_VERSION = 6

# The kinds of a recipe's names. OTHER_MODEL: a model file of the graph that is neither in `models` nor in `loras`.
MODEL, LORA, SAMPLER, OTHER_MODEL = 1, 2, 3, 4
SEED_MASK = (1 << 16) - 1

# The columns of tables whose rows may be nowhere else. These rows are also saved from a damaged catalog.
KEPT_COLUMNS: dict[str, tuple[str, ...]] = {
    "edits": ("uuid", "field", "value", "clock", "machine"),
    "jobs": ("job_id", "client_id", "finished_at", "status", "graphs", "options"),
    "outputs": ("path", "finished_at", "job_id", "node", "type", "facts"),
    "bucket_tombstones": ("uuid", "key", "clock", "machine"),  # only those that the bucket lacks
}
KEPT_TABLES: tuple[str, ...] = (
    """CREATE TABLE edits (
        uuid BLOB NOT NULL,
        field TEXT NOT NULL,          -- favorite, rating, note, hidden, or tag:NAME
        value NOT NULL,               -- 0 for a tag that was removed
        clock REAL NOT NULL,          -- seconds since 1970; the later edit wins, then the greater machine name
        machine TEXT NOT NULL,
        PRIMARY KEY (uuid, field)
    ) WITHOUT ROWID""",
    "CREATE INDEX edits_field ON edits (field, value)",
    """CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY,
        client_id TEXT,
        finished_at REAL NOT NULL,
        status TEXT,
        graphs BLOB,                  -- see compress_graphs; NULL: ComfyUI gave none, or the catalog keeps no graphs
        options TEXT NOT NULL         -- JSON
    ) WITHOUT ROWID""",
    """CREATE TABLE outputs (
        path TEXT NOT NULL,           -- relative to the directory that `type` names, with /
        finished_at REAL NOT NULL,    -- of the job
        job_id TEXT NOT NULL,
        node TEXT,
        type TEXT NOT NULL,           -- output, temp or input
        facts BLOB,                   -- what the graph says of this file; NULL if the graph itself is kept
        PRIMARY KEY (path, finished_at, job_id)
    ) WITHOUT ROWID""",
    "CREATE INDEX outputs_job ON outputs (job_id)",
)

# Files are counted by slots of a quarter of an hour: since 1980, every time zone's offset has been a multiple of that.
SLOT_SECONDS = 900


def slot_of(created: str) -> str:
    """Return the SQL expression for the slot of a time in nanoseconds.

    SQLite rounds towards 0, so a time before 1970 needs the second term.
    """
    slot = SLOT_SECONDS * 10**9
    return f"{created} / {slot} - ({created} % {slot} < 0)"


def _count_statement(row: str, files: int) -> str:
    """Return a trigger's statement that adds `files` to the count of `row` (`new` or `old`), unless it is hidden."""
    return (
        "INSERT INTO tally_changes SELECT"
        f" coalesce({row}.recipe, 0), coalesce({row}.machine, 0), {row}.kind, {slot_of(f'{row}.created')},"
        f" {files} WHERE {row}.hidden = 0 ON CONFLICT DO UPDATE SET files = files + excluded.files;"
    )


# How many files there are, without hidden ones; see tallies.py. 0: no recipe, or no machine.
_TALLY_COLUMNS = "recipe INTEGER, machine INTEGER, kind INTEGER, slot INTEGER, files INTEGER NOT NULL"
TALLY_TABLES: tuple[str, ...] = (
    f"CREATE TABLE tallies ({_TALLY_COLUMNS}, PRIMARY KEY (recipe, machine, kind, slot)) WITHOUT ROWID",
    f"CREATE TABLE tally_changes ({_TALLY_COLUMNS}, PRIMARY KEY (recipe, machine, kind, slot)) WITHOUT ROWID",
    """CREATE TABLE slot_totals (
        machine INTEGER, kind INTEGER, slot INTEGER, files INTEGER NOT NULL, PRIMARY KEY (machine, kind, slot)
    ) WITHOUT ROWID""",
    """CREATE TABLE name_totals (
        kind INTEGER, name INTEGER, files INTEGER NOT NULL, PRIMARY KEY (kind, name)
    ) WITHOUT ROWID""",
    f"CREATE TRIGGER assets_added AFTER INSERT ON assets BEGIN {_count_statement('new', 1)} END",
    f"CREATE TRIGGER assets_removed AFTER DELETE ON assets BEGIN {_count_statement('old', -1)} END",
    "CREATE TRIGGER assets_changed AFTER UPDATE OF hidden, recipe, machine, kind, created ON assets BEGIN"
    f" {_count_statement('old', -1)} {_count_statement('new', 1)} END",
)

DERIVED_TABLES: tuple[str, ...] = (
    "CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",  # MIME types, machines, sessions, jobs
    "CREATE TABLE folders (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",  # models, LoRAs, samplers, schedulers
    # Prompts and other texts of graphs. A search looks for a word here, in `names`, file names and notes.
    "CREATE TABLE texts (id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, text TEXT NOT NULL)",
    "CREATE UNIQUE INDEX texts_hash ON texts (hash)",
    """CREATE TABLE recipes (
        id INTEGER PRIMARY KEY,
        hash INTEGER NOT NULL,        -- of all that follows
        prompt INTEGER, negative INTEGER,   -- texts
        facts TEXT NOT NULL           -- JSON: the rest of an asset's metadata, without the seed; see recipes.py
    )""",
    "CREATE UNIQUE INDEX recipes_hash ON recipes (hash)",
    "CREATE TABLE text_uses (text INTEGER, recipe INTEGER, PRIMARY KEY (text, recipe)) WITHOUT ROWID",
    """CREATE TABLE name_uses (
        kind INTEGER NOT NULL,        -- MODEL, LORA, SAMPLER, OTHER_MODEL
        name INTEGER NOT NULL,
        recipe INTEGER NOT NULL,
        PRIMARY KEY (kind, name, recipe)
    ) WITHOUT ROWID""",
    """CREATE TABLE assets (
        id INTEGER PRIMARY KEY,
        uuid BLOB NOT NULL,           -- UUIDv5 of bucket and key
        folder INTEGER NOT NULL,      -- the key up to its last slash
        name TEXT NOT NULL,           -- the rest of the key
        path,                         -- its length if the key ends in it; else the text, or bytes if it is no UTF-8
        size INTEGER NOT NULL,
        created INTEGER NOT NULL,     -- the file's mtime, in nanoseconds
        archived REAL NOT NULL,       -- seconds since 1970
        sha256 BLOB,
        kind INTEGER NOT NULL,        -- index in KINDS
        mime INTEGER, machine INTEGER, session INTEGER, job INTEGER,  -- words
        width INTEGER, height INTEGER, duration REAL,
        recipe INTEGER,
        seed INTEGER,                 -- minus 2**63, so that unsigned 64-bit numbers fit and keep their order
        has INTEGER NOT NULL DEFAULT 0,   -- HAS_WORKFLOW, HAS_PROMPT, or their sum
        reader INTEGER NOT NULL DEFAULT 0,    -- version of the reader that read it; 0: to be read
        tries INTEGER NOT NULL DEFAULT 0, next_try REAL,  -- of reading; seconds since 1970
        hidden INTEGER NOT NULL DEFAULT 0, favorite INTEGER NOT NULL DEFAULT 0, rating INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE UNIQUE INDEX assets_uuid ON assets (uuid)",
    # Pages by time or name follow these indexes, so that a million rows need no sorting. The first one holds the recipe
    # too, so that a search can check words and models without reading the row.
    "CREATE INDEX assets_created ON assets (hidden, created, recipe)",
    "CREATE INDEX assets_name ON assets (name)",
    "CREATE INDEX assets_recipe ON assets (recipe)",
    # 16 bits of the seed are enough to find it, and take a third less space.
    f"CREATE INDEX assets_seed ON assets (seed & {SEED_MASK}) WHERE seed IS NOT NULL",
    "CREATE INDEX assets_job ON assets (job) WHERE job IS NOT NULL",
    "CREATE INDEX assets_unread ON assets (id) WHERE reader = 0",
    *TALLY_TABLES,
    # Graphs as they were found, without secrets; only with CLOUD_ARCHIVE_CATALOG=full.
    "CREATE TABLE graphs (asset INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE VIRTUAL TABLE text_index USING"
    " fts5(text, content='', columnsize=0, detail='none', tokenize='trigram')",
    "CREATE VIRTUAL TABLE name_index USING"
    " fts5(text, content='', columnsize=0, detail='none', tokenize='trigram')",
)

KINDS: tuple[str, ...] = ("other", "image", "video", "audio", "3d")
SEED_OFFSET = 1 << 63
MAX_CLOCK = 9e9  # seconds since 1970, in the year 2255: as nanoseconds it fits into 64 bits
HAS_WORKFLOW, HAS_PROMPT = 1, 2
