"""`catalog status` and `catalog rebuild`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CloudArchiveError
from ..terminal import EXIT_FAILED, is_terminal, print_error, print_json, print_line
from ..text import count_noun, format_bytes
from .catalog_view import Dir, catalog_of, catalog_path
from .common import bucket, needed_root, reading_scope, settings_now
from .options import Json

if TYPE_CHECKING:
    from ..catalog.rebuild import RebuildPlan


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("status")(status)
    group.command("rebuild")(rebuild)
    app.add_typer(
        group,
        name="catalog",
        short_help="What the catalog holds; rebuild it from the bucket.",
        help="Show what the catalog holds; rebuild it from the bucket.",
    )


def status(directory: Dir = None, json: Json = False) -> None:
    """Show how many files the catalog holds, and how many it has not read yet."""
    from ..catalog.catalog import database_status

    with catalog_of(directory) as database, database.reading() as db:
        found = database_status(db, database.path)
    if json:
        print_json(found)
        return
    print_line(f"{count_noun(found['assets'], 'file')} in the catalog, {format_bytes(found['size_bytes'])}.")
    if found["unread"]:
        print_line(
            f"{count_noun(found['unread'], 'file')} found by name only: not read yet"
            f" ({found['postponed']:,} could not be read and will be retried)."
        )
    else:
        print_line("All files were read.")
    print_line(f"{count_noun(found['edits'], 'edit')}, {count_noun(found['jobs'], 'captured job')}.")


def rebuild(
    directory: Dir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would cost.")] = False,
    json: Json = False,
) -> None:
    """List the bucket below the prefix, and read by ranges what the catalog lacks.

    First says how many requests that takes. What the catalog knows already is not read again; an engine may run.
    """
    from ..catalog.database import open_catalog
    from ..catalog.reading import AssetReader
    from ..catalog.rebuild import plan_rebuild
    from ..catalog.rebuild import rebuild as run
    from ..private_files import make_private_directory
    from .progress import Progress

    settings = settings_now()
    if settings.catalog == "off":
        raise CloudArchiveError("The catalog is off: CLOUD_ARCHIVE_CATALOG is off.")
    root = needed_root(directory)
    path = catalog_path(root)
    make_private_directory(path.parent, keep_mode=path.parent.is_dir())
    database, notices = open_catalog(path)
    for notice in notices:
        print_error(notice)
    scope = reading_scope(None, settings)
    try:
        with bucket(settings) as store, Progress(is_terminal(sys.stderr), "Reading") as progress:
            plan = plan_rebuild(database, store, scope, settings.bucket)
            if not json:
                print_line(_plan_words(plan))
            unread = plan.unread + len(plan.unknown)
            if not dry_run:
                reader = AssetReader(
                    database,
                    root if root.is_dir() else None,
                    store,
                    keep_graphs=settings.catalog == "full",
                )
                unread = run(
                    plan,
                    database,
                    store,
                    scope,
                    settings.bucket,
                    reader,
                    on_progress=lambda done: progress.draw(0, None, f"{done:,} files"),
                )
    finally:
        database.close()
    _show_result(plan, unread, dry_run=dry_run, json=json)


def _plan_words(plan: RebuildPlan) -> str:
    if not plan.unknown and not plan.unread:
        return f"{count_noun(plan.listed, 'object')} in the bucket, and the catalog knows all of them."
    return (
        f"{count_noun(plan.listed, 'object')} in the bucket; {count_noun(len(plan.unknown), 'file')} to add and"
        f" {plan.unread:,} to read: about {count_noun(plan.requests, 'request')} and"
        f" {format_bytes(plan.read_bytes)} from the store, less where the local file is still there."
    )


def _show_result(plan: RebuildPlan, unread: int, *, dry_run: bool, json: bool) -> None:
    found: dict[str, Any] = {
        "dry_run": dry_run,
        "listed": plan.listed,
        "added": 0 if dry_run else len(plan.unknown),
        "to_add": len(plan.unknown) if dry_run else 0,
        "requests": plan.requests,
        "read_bytes": plan.read_bytes,
        "unread": unread,
    }
    if json:
        print_json(found)
    elif not dry_run:
        print_line(f"Added {count_noun(len(plan.unknown), 'file')}.")
    if unread and not dry_run:
        print_error(f"{count_noun(unread, 'file')} can't be read now. Run the command again later.")
        raise typer.Exit(EXIT_FAILED)
