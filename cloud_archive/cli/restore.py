"""`restore`: download files from the bucket."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import LedgerError
from ..terminal import EXIT_DONE, EXIT_FAILED, is_terminal, print_error, print_json, print_line
from ..text import count_noun, format_bytes, make_printable
from .arguments import DIRECTORY_VARIABLE, WrongUsage
from .common import (
    archive_root,
    bucket,
    enclosing_root,
    ledger_of,
    moment,
    parse_option,
    reading_scope,
    settings_now,
)
from .options import Json, directory_path

if TYPE_CHECKING:
    from ..ledger.ledger import Ledger
    from ..maintenance.restore import RestoreFilter, RestoreItem, RestoreReport

_Target = Annotated[
    Path | None,
    typer.Option(
        "--to",
        metavar="DIR",
        parser=directory_path,
        help=f"Target directory; default: {DIRECTORY_VARIABLE}, else that of the only archive that runs.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore", short_help="Download files from the bucket.")(restore)


def restore(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATTERN…]",
            help="gitignore-style, such as '*.png', or a whole key; default: all.",
            show_default=False,
        ),
    ] = None,
    to: _Target = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="P", help="Only keys below P; the rest of a key is the path."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Modified at or after: 2026-04-01, 7d.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Modified before; a day alone is included.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only files that this session archived.")
    ] = None,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Also restore older versions, beside the newest.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be restored.")] = False,
    json: Json = False,
) -> None:
    """Download the newest version of each file, and check it against its SHA-256. Never overwrites a different file.

    Works on a machine that never archived anything. Run it again after an interruption: existing files are kept.
    Exit status 1: a file could not be restored, or a PATTERN chooses none.
    """
    from ..maintenance.restore import RestoreFilter

    target = Path(os.path.abspath(to)) if to is not None else archive_root(None)  # noqa: PTH100
    if target is None:
        raise WrongUsage(f"Give --to DIR to say where the files go, or set {DIRECTORY_VARIABLE}.")
    if target.exists() and not target.is_dir():
        raise WrongUsage(f"The target {target} is not a directory: give another one with --to.")
    wanted = RestoreFilter(
        tuple(patterns or ()), moment("--since", since), moment("--until", until, end=True), session
    )
    for pattern in patterns or ():
        parse_option("PATTERN", pattern, lambda text: RestoreFilter((text,)).compiled())
    report = _run(target, wanted, prefix, all_versions=all_versions, dry_run=dry_run, json=json)
    _name(report)
    if json:
        print_json(report.to_json())
    else:
        _show(report, target)
    raise typer.Exit(EXIT_FAILED if report.failed or report.unmatched else EXIT_DONE)


def _run(
    target: Path, wanted: RestoreFilter, prefix: str | None, *, all_versions: bool, dry_run: bool, json: bool
) -> RestoreReport:
    from ..maintenance.restore import restore as run
    from .progress import Progress

    settings = settings_now()
    watched = enclosing_root(target)
    with (
        bucket(settings) as store,
        _ledger(watched) as ledger,
        Progress(is_terminal(sys.stderr), "Restoring") as progress,
    ):
        found: list[tuple[str, int]] = []

        def ended(item: RestoreItem, report: RestoreReport) -> None:
            progress.draw(0, None, f"{report.restored:,} files, {format_bytes(report.restored_bytes)}")
            if dry_run and not json and item.path and item.result.value == "restored":
                found.append((item.path, item.size_bytes))

        report = run(
            store,
            target,
            scope=reading_scope(prefix, settings),
            wanted=wanted,
            all_versions=all_versions,
            ledger=ledger,
            watched=watched,
            dry_run=dry_run,
            workers=settings.workers,
            on_item=ended,
        )
    for path, size_bytes in sorted(found):
        print_line(f"{make_printable(path)}  {format_bytes(size_bytes)}")
    return report


@contextlib.contextmanager
def _ledger(watched: Path | None) -> Iterator[Ledger | None]:
    """Open the ledger of `watched`. Without it, open that of the default directory if there is one and it is sound."""
    with contextlib.ExitStack() as stack:
        ledger = None
        try:
            ledger = stack.enter_context(ledger_of(watched or archive_root(None), needed=False))
        except LedgerError as error:
            if watched is not None:  # its ledger must list each file before the file appears
                raise
            print_error(make_printable(f"{error} Restoring without it."))
        yield ledger


def _name(report: RestoreReport) -> None:
    """Print each failure with its cause."""
    for item in report.items:
        if item.cause:
            print_error(make_printable(f"{item.key}: {item.cause}"))
    for pattern in report.unmatched:
        print_error(make_printable(f"The PATTERN '{pattern}' chooses no file below the prefix."))
    if report.stopped_early:
        print_error(
            f"Restore stopped early after {count_noun(report.restored + report.already, 'file')}, because requests"
            " kept failing. Run it again to restore the rest."
        )


def _show(report: RestoreReport, target: Path) -> None:
    would = "Would restore" if report.dry_run else "Restored"
    print_line(
        f"{would} {count_noun(report.restored, 'file')} ({format_bytes(report.restored_bytes)})"
        f" to {make_printable(str(target))}."
    )
    if report.already:
        print_line(f"Already there: {report.already:,}.")
    if report.renamed:
        print_line(
            f"Restored under another name, because their own is taken or not allowed: {report.renamed:,}."
        )
    if report.older:
        print_line(
            f"Older versions left out: {report.older:,}. Add --all-versions to restore them beside the newest."
        )
    if report.guessed:
        print_line(
            f"Restored under the names of their keys: {report.guessed:,}. An older version of Cloud Archive did not"
            " note whether the number in such a key belongs to the file's name."
        )
    if report.unproven:
        print_line(f"Restored without a checksum to compare with: {report.unproven:,}.")
    if report.undated:
        print_line(
            f"Restored with the time of the upload, because the objects state no modification time: {report.undated:,}."
            " Another program wrote them, or the store drops metadata; `cloud-archive check` says which."
        )
    if report.failed:
        print_line(f"Failed: {report.failed:,}.")
    if not report.restored + report.already + report.older + report.failed:
        print_line(_why_nothing(report))


def _why_nothing(report: RestoreReport) -> str:
    if report.skipped:
        return (
            f"No file matches: {count_noun(report.skipped, 'object')} in the bucket left out by PATTERN or options."
            " A PATTERN matches the path, or is a whole key."
        )
    return "There is no object below the prefix: check S3_BUCKET, S3_PREFIX and --prefix."
