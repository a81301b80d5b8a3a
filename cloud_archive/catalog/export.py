"""Give the catalog to other programs: JSON lines, Parquet, or SQL by DuckDB (extra `analytics`)."""

from __future__ import annotations

import glob
import gzip
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import CatalogError
from .database import CatalogDatabase
from .search import search

PART_ROWS = 100_000
_PAGE = 500
COLUMNS: dict[str, str] = {
    "id": "VARCHAR",
    "key": "VARCHAR",
    "name": "VARCHAR",
    "path": "VARCHAR",
    "size": "BIGINT",
    "mime_type": "VARCHAR",
    "sha256": "VARCHAR",
    "created_at": "TIMESTAMP",
    "machine": "VARCHAR",
    "session_id": "VARCHAR",
    "job_id": "VARCHAR",
    "width": "BIGINT",
    "height": "BIGINT",
    "duration_seconds": "DOUBLE",
    "prompt": "VARCHAR",
    "negative_prompt": "VARCHAR",
    "models": "VARCHAR[]",
    "loras": "STRUCT(name VARCHAR, strength DOUBLE)[]",
    "seed": "UBIGINT",
    "sampler": "VARCHAR",
    "scheduler": "VARCHAR",
    "steps": "BIGINT",
    "cfg": "DOUBLE",
    "denoise": "DOUBLE",
    "input_images": "VARCHAR[]",
    "source": "VARCHAR",
    "confidence": "VARCHAR",
    "has_workflow": "BOOLEAN",
    "has_prompt": "BOOLEAN",
    "tags": "VARCHAR[]",
    "favorite": "BOOLEAN",
    "rating": "BIGINT",
    "note": "VARCHAR",
    "hidden": "BOOLEAN",
}
"""The columns of an export and of the view `assets`, with DuckDB's types."""


def asset_rows(database: CatalogDatabase) -> Iterator[dict[str, Any]]:
    """Yield every asset, hidden ones too, with the columns of COLUMNS."""
    for query in ("", "is:hidden"):
        after = None
        while True:
            with database.reading() as db:
                page = search(db, query, sort="created_at", order="asc", limit=_PAGE, after=after)
            for asset in page.assets:
                facts = asset.pop("metadata")
                yield {name: asset.get(name, facts.get(name)) for name in COLUMNS}
            after = page.next_cursor
            if after is None:
                break


def export_jsonl(database: CatalogDatabase, directory: Path) -> list[Path]:
    """Write gzipped JSON lines, PART_ROWS a file, over those of an earlier export. Return the files.

    Raises:
        OSError: they can't be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    rows = asset_rows(database)
    row = next(rows, None)
    while row is not None or not files:
        files.append(_part(directory, len(files) + 1, ".jsonl.gz"))
        with gzip.open(files[-1], "wt", encoding="utf-8", compresslevel=4) as file:
            for _ in range(PART_ROWS):
                if row is None:
                    break
                text = json.dumps(row, ensure_ascii=False)
                file.write(text.encode("utf-8", "replace").decode() + "\n")
                row = next(rows, None)
    return files


def _part(directory: Path, number: int, suffix: str) -> Path:
    return directory / f"assets-{number:04}{suffix}"


def parts_of_longer_export(files: Sequence[Path]) -> list[Path]:
    """Return the parts of an earlier, longer export that follow these files.

    They are not deleted, because a name alone does not prove whose they are.
    """
    last, found = files[-1], list[Path]()
    suffix = last.name[last.name.index(".") :]
    while (part := _part(last.parent, len(files) + len(found) + 1, suffix)).exists():
        found.append(part)
    return found


def export_parquet(database: CatalogDatabase, directory: Path, scratch: Path) -> list[Path]:
    """Write Parquet files, one for each file of `export_jsonl`, over those of an earlier export. Return the files.

    Args:
        scratch: a directory for temporary files; the caller deletes it.

    Raises:
        CatalogError: DuckDB is not installed, or can't write a file.
        OSError: the directory or a temporary file can't be written.
    """
    connection = connect()
    import duckdb

    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for file in export_jsonl(database, scratch):
        target = _part(directory, len(files) + 1, ".parquet")
        try:
            connection.execute(
                f"COPY ({_read(file.parent, file.name)}) TO '{_quoted(str(target))}' (FORMAT parquet, COMPRESSION zstd)"
            )
        except duckdb.Error as error:
            raise CatalogError(f"{target} can't be written: {_first_line(error)}") from error
        files.append(target)
    return files


def run_sql(
    database: CatalogDatabase, statement: str, scratch: Path
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run SQL by DuckDB over the view `assets`. Return the columns' names and the rows.

    Raises:
        CatalogError: DuckDB is not installed, or refuses the statement.
        OSError: a temporary file can't be written.
    """
    connection = connect()
    import duckdb

    export_jsonl(database, scratch)
    connection.execute(f"CREATE VIEW assets AS {_read(scratch, '*.jsonl.gz')}")
    try:
        connection.execute(statement)
        names = [column[0] for column in connection.description or ()]
        return names, connection.fetchall() if names else []
    except duckdb.Error as error:
        raise CatalogError(f"DuckDB can't run this: {_first_line(error)}") from error


def connect() -> Any:
    """Return a DuckDB connection in memory that installs nothing. CatalogError: DuckDB is missing."""
    if importlib.util.find_spec("duckdb") is None:
        raise CatalogError(f"This needs DuckDB. Run: {sys.executable} -m pip install duckdb")
    import duckdb

    return duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})


def _read(directory: Path, pattern: str) -> str:
    files = _quoted(str(Path(glob.escape(str(directory)), pattern)))
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    options = f"format = 'newline_delimited', compression = 'gzip', columns = {{{columns}}}"
    return f"SELECT * FROM read_json('{files}', {options})"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _quoted(text: str) -> str:
    return text.replace("'", "''")
