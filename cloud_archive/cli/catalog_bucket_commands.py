"""`catalog sync`, `compact`, `export` and `sql`."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..terminal import EXIT_FAILED, format_table, is_terminal, print_error, print_json, print_line
from ..text import count_noun, make_printable
from .arguments import WrongUsage
from .catalog_choice import bucket_catalog, bucket_settings, catalog_root, refuse_if_off
from .catalog_view import catalog_of, catalog_path
from .common import bucket, check_exists, settings_now
from .options import CatalogDirectory, Json, directory_path
from .progress import Progress

if TYPE_CHECKING:
    from ..catalog.bucket.compaction import Compacted
    from ..catalog.bucket.copy import BucketCatalog

_TO_BUCKET = "s3"
_MAX_SHOWN = 1000


def register_bucket_commands(group: typer.Typer) -> None:
    """Add the commands to `catalog`."""
    group.command("sync", short_help="Read what other machines wrote into the bucket's catalog.")(sync)
    group.command("compact", short_help="Merge each month's small catalog files in the bucket.")(compact)
    group.command("export", short_help="Write the catalog as JSON lines or Parquet.")(export)
    group.command("sql", short_help="Query the catalog with SQL (needs DuckDB).")(sql)


@contextlib.contextmanager
def writable_catalog(directory: Path | None) -> Iterator[BucketCatalog]:
    """Open the directory's catalog, or without a directory the copy of the bucket's, together with the bucket.

    Raises:
        WrongUsage: there is neither a directory nor a bucket to read, or the directory is missing and has no ledger.
        SettingsError: the settings are wrong.
        CatalogError: the catalog is off, or can't be opened.
    """
    from ..catalog.bucket.copy import opened_catalog

    settings = bucket_settings(directory)
    if settings is not None:
        with bucket_catalog(settings) as opened:
            yield opened
        return
    root = catalog_root(directory)
    check_exists(root)
    settings = settings_now()
    refuse_if_off(settings)
    with bucket(settings) as store, opened_catalog(catalog_path(root), store, settings) as opened:
        yield opened


def sync(directory: CatalogDirectory = None, json: Json = False) -> None:
    """Read all that other machines wrote into the bucket's catalog, the newest first.

    Catalog files that were damaged are read again. An archive may run meanwhile.
    """
    with writable_catalog(directory) as opened, Progress(is_terminal(sys.stderr), "Reading") as progress:
        syncing = opened.make_sync()
        syncing.forget_damaged()
        result = syncing.sync(
            on_progress=lambda done, total: progress.draw(done, total, f"{done:,}/{total:,} files")
        )
        assets = opened.database.read("SELECT count(*) FROM assets")[0][0]
    for trouble in result.troubles:
        print_error(make_printable(trouble))
    found = {
        "files": result.files,
        "rows": result.rows,
        "left": result.left,
        "troubles": result.troubles,
        "assets": assets,
    }
    if json:
        print_json(found)
    else:
        print_line(
            f"Read {count_noun(result.files, 'catalog file')} with {count_noun(result.rows, 'row')} from the bucket;"
            f" {count_noun(assets, 'archived file')} in the catalog."
        )
    if result.troubles:
        raise typer.Exit(EXIT_FAILED)


def compact(
    month: Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="Only this month.")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the merged files; needs s3:DeleteObject.")
    ] = False,
    directory: CatalogDirectory = None,
    json: Json = False,
) -> None:
    """Merge the small catalog files of each month in the bucket into few large ones.

    The merged files stay, unless --delete. Other machines may write and compact meanwhile. --dir changes nothing here,
    because the directories of one bucket share its files.
    """
    del directory
    from ..catalog.bucket.compaction import compact_month, delete_replaced, months_in
    from ..catalog.bucket.names import CatalogFolder

    if month is not None and not re.fullmatch(r"[0-9]{4}-(?:0[1-9]|1[0-2])", month):
        raise WrongUsage(f"--month {month!r}: give a month, such as 2026-04.")
    settings = settings_now()
    folder = CatalogFolder.of(settings.prefix)
    done: list[Compacted] = []
    with bucket(settings) as store, Progress(is_terminal(sys.stderr), "Compacting") as progress:
        for name, files in months_in(store, folder, month or "").items():
            progress.draw(0, None, name)
            for result in compact_month(store, folder, settings.machine_name, files, now=time.time()):
                if delete:
                    delete_replaced(store, folder, result)
                done.append(result)
    left_out = [one for result in done for one in (*result.left_out, *result.not_deleted)]
    for name, reason in left_out:
        print_error(make_printable(f"{name}: {reason}"))
    written = [result for result in done if result.name]
    if json:
        print_json({"files": [_compacted_json(one) for one in written]})
    elif not written:
        print_line("Nothing to compact.")
    for one in () if json else written:
        then = f", and deleted {one.deleted:,} of them" if delete else ""
        print_line(
            f"{one.month}: merged {count_noun(len(one.replaced), 'catalog file')} into one with"
            f" {count_noun(one.rows, 'row')}{then}."
        )
    if written and not delete and not json:
        print_line("The merged files stay in the bucket. Add --delete to delete them.")
    if left_out:
        raise typer.Exit(EXIT_FAILED)


def _compacted_json(one: Compacted) -> dict[str, Any]:
    return {
        "month": one.month,
        "name": one.name,
        "rows": one.rows,
        "replaced": len(one.replaced),
        "deleted": one.deleted,
    }


def export(
    target: Annotated[str, typer.Argument(metavar="DIR|s3", help="A directory, or s3 for the bucket.")],
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Gzipped JSON lines.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Parquet (needs DuckDB).")] = False,
    directory: CatalogDirectory = None,
    json: Json = False,
) -> None:
    """Write one row for each file in the catalog, with simple columns, into a directory or into the bucket."""
    from ..catalog.export import export_jsonl, export_parquet, parts_of_longer_export

    if jsonl == parquet:
        raise WrongUsage("Give either --jsonl or --parquet.")
    given = None if target == _TO_BUCKET else directory_path(target)
    with catalog_of(directory) as database, tempfile.TemporaryDirectory(prefix="cloud-archive-") as scratch:
        to = given or Path(scratch) / "export"
        files = export_jsonl(database, to) if jsonl else export_parquet(database, to, Path(scratch) / "rows")
        names = _upload_files(files) if given is None else [str(file) for file in files]
        left = parts_of_longer_export(files)
    if json:
        print_json({"files": names})
    else:
        for name in names:
            print_line(f"Wrote {name}")
    for part in left:
        print_error(
            make_printable(f"{part} is of an earlier, longer export: delete it, or its rows count twice.")
        )
    if left:
        raise typer.Exit(EXIT_FAILED)


def _upload_files(files: list[Path]) -> list[str]:
    """Upload files below the catalog's folder, and return their keys."""
    from ..catalog.bucket.names import CatalogFolder, new_ulid
    from ..catalog.bucket.objects import PACK_TYPE, write_proven

    settings = settings_now()
    folder = CatalogFolder.of(settings.prefix)
    export_name = new_ulid()
    keys = []
    with bucket(settings) as store:
        for file in files:
            key = folder.key(f"exports/{export_name}/{file.name}")
            write_proven(store, key, file.read_bytes(), PACK_TYPE)
            keys.append(key)
    return keys


def sql(
    statement: Annotated[str, typer.Argument(metavar="SELECT…", help="A SELECT statement.")],
    directory: CatalogDirectory = None,
    json: Json = False,
) -> None:
    """Query the catalog with SQL: the view `assets` has one row for each file. Needs DuckDB (extra `analytics`)."""
    from ..catalog.export import run_sql

    with catalog_of(directory) as database, tempfile.TemporaryDirectory(prefix="cloud-archive-") as scratch:
        names, rows = run_sql(database, statement, Path(scratch))
    if json:
        print_json({"columns": names, "rows": [[_plain(value) for value in row] for row in rows]})
        return
    shown = [
        [make_printable("" if value is None else str(value)) for value in row] for row in rows[:_MAX_SHOWN]
    ]
    for line in format_table([names, *shown]):
        print_line(line)
    if len(rows) > _MAX_SHOWN:
        print_line(f"… and {len(rows) - _MAX_SHOWN:,} more rows; --json prints all.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    is_json = math.isfinite(value) if isinstance(value, float) else isinstance(value, (str, int))
    return value if value is None or is_json else str(value)
