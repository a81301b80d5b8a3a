"""`restore`: bring files back from the bucket."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import DONE, FAILED, complain, is_terminal, say, say_json
from ..text import counted, shown, size
from .arguments import DIRECTORY_VARIABLE, Json, WrongUsage
from .common import archive_root, bucket, ledger_of, ledger_path, moment, parsed, reading_scope, settings_now

if TYPE_CHECKING:
    from ..maintenance.restore import Item, RestoreReport, Wanted


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore", short_help="Bring files back from the bucket.")(restore)


def restore(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATTERN…]", help="gitignore-style, such as '*.png'; none: all.", show_default=False
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="DIR", help=f"Where to; default: {DIRECTORY_VARIABLE}.", show_default=False
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="P", help="Only keys below P; the rest of a key is the path."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Modified at or after: 2026-04-01, 7d.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Modified before; a day counts to its end.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only what this session archived.")
    ] = None,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Older versions of a file too, beside the newest.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would come.")] = False,
    json: Json = False,
) -> None:
    """Bring the newest version of each file back, checked against its SHA-256. Never overwrites a different local file.

    Works on a machine that never archived anything. Run it again after a break: what is there is not fetched again.
    """
    from ..maintenance.restore import Wanted

    target = Path(os.path.abspath(to)) if to is not None else archive_root(None)  # noqa: PTH100
    if target is None:
        raise WrongUsage(f"Where to? Give --to DIR, or set {DIRECTORY_VARIABLE}.")
    if target.exists() and not target.is_dir():
        raise WrongUsage(f"--to {target} is no directory.")
    wanted = Wanted(
        tuple(patterns or ()), moment("--since", since), moment("--until", until, end=True), session
    )
    for pattern in patterns or ():
        parsed("PATTERN", pattern, lambda text: Wanted((text,)).spec())
    report = _run(target, wanted, prefix, all_versions=all_versions, dry_run=dry_run, json=json)
    for item in report.items:
        if item.cause:
            complain(shown(f"{item.key}: {item.cause}"))
    if json:
        say_json(report.to_json())
    else:
        _show(report, target)
    raise typer.Exit(FAILED if report.failed else DONE)


def _run(
    target: Path, wanted: Wanted, prefix: str | None, *, all_versions: bool, dry_run: bool, json: bool
) -> RestoreReport:
    from ..maintenance.restore import restore as run
    from .progress import Progress

    settings = settings_now()
    watched = _watched(target)
    with (
        bucket(settings) as store,
        ledger_of(watched or archive_root(None), needed=False) as ledger,
        Progress(is_terminal(sys.stderr), "Restoring") as progress,
    ):

        def ended(item: Item, report: RestoreReport) -> None:
            progress.draw(0, None, f"{report.restored:,} files, {size(report.restored_bytes)}")
            if dry_run and not json and item.path and item.result.value == "restored":
                say(f"{shown(item.path)}  {size(item.size_bytes)}")

        return run(
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


def _watched(target: Path) -> Path | None:
    """The watched directory that the target is, or lies in: the one that has a ledger here."""
    for folder in (target, *target.parents):
        if ledger_path(folder).is_file():
            return folder
    return None


def _show(report: RestoreReport, target: Path) -> None:
    would = "Would restore" if report.dry_run else "Restored"
    say(
        f"{would} {counted(report.restored, 'file')} ({size(report.restored_bytes)}) to {shown(str(target))}."
    )
    if report.already:
        say(f"There already: {report.already:,}.")
    if report.renamed:
        say(
            f"Under another name, for a different file has theirs or no file may have it: {report.renamed:,}."
        )
    if report.older:
        say(f"Older versions left out: {report.older:,}. With --all-versions they come beside the newest.")
    if report.guessed:
        say(
            f"With a number that may belong to the name, or mark a version: {report.guessed:,}."
            " They were archived before that was noted, and came back under their keys' names."
        )
    if report.unproven:
        say(f"Without a checksum to compare with: {report.unproven:,}.")
    if report.failed:
        say(f"Failed: {report.failed:,}.")
