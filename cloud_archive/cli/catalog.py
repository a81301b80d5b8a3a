"""`catalog` and its commands `status` and `rebuild`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import StoreError
from ..store.failures import is_denied
from ..terminal import EXIT_FAILED, is_terminal, print_error, print_json, print_line
from ..text import count_noun, format_bytes, make_printable
from .catalog_bucket_commands import register_bucket_commands, writable_catalog
from .catalog_view import catalog_of
from .common import archive_root, reading_scope
from .options import CatalogDirectory, Json
from .typer_classes import CommandGroup

if TYPE_CHECKING:
    from ..catalog.bucket.copy import BucketCatalog
    from ..catalog.rebuild import RebuildPlan, Rebuilt


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = CommandGroup(no_args_is_help=True, rich_markup_mode=None)
    group.command("status", short_help="Show how many files the catalog holds.")(status)
    group.command("rebuild", short_help="Add the files in the bucket that the catalog lacks.")(rebuild)
    register_bucket_commands(group)
    about = "Show, load, rebuild, merge, export or query the catalog, which knows how each file was made."
    app.add_typer(group, name="catalog", short_help="Show, rebuild, export or query the catalog.", help=about)


def status(directory: CatalogDirectory = None, json: Json = False) -> None:
    """Show how many files the catalog holds, and how many of them it has not read yet."""
    from ..catalog.bucket.sync import file_troubles
    from ..catalog.bucket.tables import unwritten_rows
    from ..catalog.catalog import database_status

    with catalog_of(directory) as database, database.reading() as db:
        found = database_status(db, database.path)
        found |= {"unwritten": unwritten_rows(db), "file_troubles": file_troubles(db)}
    if json:
        print_json(found)
        return
    size = format_bytes(found["size_bytes"])
    print_line(f"{count_noun(found['assets'], 'file')} in the catalog, which takes {size} of this disk.")
    if found["unread"]:
        print_line(
            f"{count_noun(found['unread'], 'file')} not read yet, so found by name only"
            f" ({found['postponed']:,} could not be read and will be retried)."
        )
    else:
        print_line("All files were read.")
    print_line(f"{count_noun(found['edits'], 'edit')}, {count_noun(found['jobs'], 'captured job')}.")
    if found["unwritten"]:
        print_line(f"{count_noun(found['unwritten'], 'row')} not written to the bucket yet.")
    for trouble in found["file_troubles"]:
        print_line(make_printable(trouble))


def rebuild(
    directory: CatalogDirectory = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would cost.")] = False,
    json: Json = False,
) -> None:
    """Add the files in the bucket that the catalog lacks, and read how they were made.

    Lists the objects below the prefix, says how many requests it needs, and then reads only the parts of each file
    that hold its metadata. What the catalog knows already is not read again. An archive may run meanwhile.
    """
    from ..catalog.reading import AssetReader
    from ..catalog.rebuild import AT_ONCE, Rebuilt, plan_rebuild
    from ..catalog.rebuild import rebuild as run
    from .progress import Progress

    root = archive_root(directory)
    with writable_catalog(directory) as opened, Progress(is_terminal(sys.stderr), "Reading") as progress:
        settings, store, database = opened.settings, opened.store, opened.database
        _read_others(opened)
        scope = reading_scope(None, settings)
        plan = plan_rebuild(database, store, scope, settings.bucket)
        if not json:
            print_line(_plan_words(plan))
        result = Rebuilt(0, len(plan.gone), plan.unread + len(plan.unknown))
        if not dry_run:
            reader = AssetReader(
                database,
                root if root is not None and root.is_dir() else None,
                store,
                keep_graphs=settings.catalog == "full",
                at_once=AT_ONCE,
                machine=settings.machine_name,
            )
            result = run(
                plan,
                database,
                store,
                scope,
                settings.bucket,
                reader,
                machine=settings.machine_name,
                on_progress=lambda added, read: progress.draw(0, None, f"{added:,} added, {read:,} read"),
                write=opened.make_writer().write_all,
            )
    _show_result(plan, result, dry_run=dry_run, json=json)


def _read_others(opened: BucketCatalog) -> None:
    """Read the bucket's catalog, so that what it knows is not read from the files again."""
    try:
        for trouble in opened.make_sync().sync().troubles:
            print_error(make_printable(trouble))
    except StoreError as error:
        if not is_denied(error):
            raise
        print_error(str(error))


def _plan_words(plan: RebuildPlan) -> str:
    if not plan.unknown and not plan.unread and not plan.gone:
        return f"{count_noun(plan.listed, 'object')} in the bucket, and the catalog knows all of them."
    return (
        f"{count_noun(plan.listed, 'object')} in the bucket; {count_noun(len(plan.unknown), 'file')} to add,"
        f" {len(plan.gone):,} gone and {plan.unread:,} to read: about {count_noun(plan.requests, 'request')} and"
        f" {format_bytes(plan.read_bytes)} from the store, less where the local file is still there."
    )


def _show_result(plan: RebuildPlan, result: Rebuilt, *, dry_run: bool, json: bool) -> None:
    found: dict[str, Any] = {
        "dry_run": dry_run,
        "listed": plan.listed,
        "added": result.added,
        "to_add": len(plan.unknown) if dry_run else 0,
        "requests": plan.requests,
        "read_bytes": plan.read_bytes,
        "gone": result.gone,
        "unread": result.unread,
    }
    if json:
        print_json(found)
    elif not dry_run:
        verb = "was" if result.gone == 1 else "were"
        gone = f", and noted that {count_noun(result.gone, 'file')} {verb} deleted" if result.gone else ""
        print_line(f"Added {count_noun(result.added, 'file')}{gone}.")
    if result.unread and not dry_run:
        print_error(f"{count_noun(result.unread, 'file')} can't be read now. Run the command again later.")
        raise typer.Exit(EXIT_FAILED)
