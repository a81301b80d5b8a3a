"""`free`: remove local files right after proving that the bucket holds them."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import EXIT_DONE, EXIT_FAILED, print_error, print_json, print_line
from ..text import count_noun, format_bytes, format_duration, make_printable
from .arguments import WrongUsage
from .common import age_seconds, bucket, ledger_of, needed_root, settings_now, size_bytes
from .options import Directory, Json

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..ledger.ledger import Ledger
    from ..maintenance.free import FreedFile, FreeReport, Limits


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("free", short_help="Remove local files that are proven in the bucket.")(free)


def free(
    directory: Directory = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Remove files that were modified longer ago, such as 7d."
        ),
    ] = None,
    min_free: Annotated[
        str | None,
        typer.Option(
            "--min-free",
            metavar="SIZE",
            help="Remove the oldest files until SIZE of the disk is free, such as 20GB.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove archived files from DIR, the oldest first, each right after proving that the bucket holds its bytes.

    Files that changed since they were archived stay, and with --min-free alone those younger than an hour. Without
    --older-than and --min-free, CLOUD_ARCHIVE_DELETE_LOCAL_AFTER and CLOUD_ARCHIVE_MIN_FREE_DISK apply. If these are
    not set either, all archived files are removed.
    """
    from ..intake.open_files import has_writer
    from ..ledger.known_root import KnownRoot
    from ..maintenance.free import LocalCleaner

    root = needed_root(directory)
    limits = _limits(older_than, min_free, settings := settings_now())
    if not root.is_dir():
        raise WrongUsage(f"The directory {root} does not exist. Correct the path.")
    with ledger_of(root, needed=True) as ledger, bucket(settings) as store:
        assert ledger is not None
        cleaner = LocalCleaner(
            ledger,
            store,
            root,
            limits,
            has_writer=has_writer,
            clock=time.time,
            on_freed=lambda freed: None if json else _show_file(freed),
            check_root=KnownRoot(root, ledger).check,
        )
        report = cleaner.run_once(dry_run=dry_run)
        why = _why_nothing(report, ledger, limits, root)
    for path in report.unproven:
        print_error(
            make_printable(f"{path}: kept, because it is not proven that the bucket holds its bytes.")
        )
    for path, cause in report.refused:
        print_error(make_printable(f"{path}: kept: {cause}."))
    if json:
        print_json(report.to_json())
    else:
        _show(report)
        if why:
            print_line(why)
    raise typer.Exit(EXIT_FAILED if report.unproven or report.refused else EXIT_DONE)


def _limits(older_than: str | None, min_free: str | None, settings: Settings) -> Limits:
    from ..maintenance.free import Limits

    if older_than is None and min_free is None:
        limits = Limits(settings.delete_local_after_seconds, settings.min_free_disk_bytes)
        return Limits(older_than_seconds=0.0) if limits.is_off else limits
    limits = Limits(age_seconds("--older-than", older_than), size_bytes("--min-free", min_free))
    if limits.is_off:
        raise WrongUsage("--older-than and --min-free are off: give an AGE or a SIZE to say what to remove.")
    return limits


def _why_nothing(report: FreeReport, ledger: Ledger, limits: Limits, root: Path) -> str:
    from ..ledger.history import count_local_files

    if report.freed or report.kept or report.unproven:
        return ""
    count = count_local_files(ledger)
    if report.dry_run:
        count -= report.gone  # a dry run does not record that they are gone
    if not count:
        return "The ledger lists no archived file on this disk."
    files = count_noun(count, "archived file")
    free_bytes = shutil.disk_usage(root).free
    if limits.older_than_seconds is None and free_bytes >= (limits.min_free_bytes or 0):
        return f"Nothing is due: the disk has {format_bytes(free_bytes)} free."
    age = max(limits.older_than_seconds or 0.0, limits.youngest_seconds)
    verb = "was" if count == 1 else "were"
    return f"Nothing is due: {files} {verb} modified or restored less than {format_duration(age)} ago."


def _show_file(one: FreedFile) -> None:
    print_line(f"{make_printable(one.path)}  {format_bytes(one.size_bytes)}  {make_printable(one.key)}")


def _show(report: FreeReport) -> None:
    for one in report.files if report.dry_run else ():
        _show_file(one)
    would = "Would remove" if report.dry_run else "Removed"
    print_line(f"{would} {count_noun(report.freed, 'local file')} ({format_bytes(report.freed_bytes)}).")
    if report.kept:
        print_line(f"Kept, because they changed, are being written or can't be removed: {report.kept:,}.")
    if report.unproven:
        print_line("Run `cloud-archive verify --repair` to archive again what the bucket does not hold.")
