"""`compact`: shrink the ledger. Of files that were archived long ago, it keeps only fingerprints."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from ..private_files import database_bytes
from ..terminal import EXIT_DONE, is_terminal, print_json, print_line
from ..text import count_noun, format_bytes
from .arguments import WrongUsage
from .common import age_seconds, ledger_of, ledger_path, needed_root
from .options import Directory, Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compact", short_help="Shrink the ledger; dry run unless --yes.")(compact)


def compact(
    directory: Directory = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="AGE", help="Compact files archived longer ago than this, such as 365d."
        ),
    ] = "365d",
    yes: Annotated[
        bool, typer.Option("--yes", help="Shrink it. Default: only show what would be done.")
    ] = False,
    json: Json = False,
) -> None:
    """Shrink the ledger of DIR: keep only a fingerprint of each file that was archived long ago.

    These files are not uploaded again, and `restore` finds them in the bucket. `verify` no longer checks them, `free`
    no longer removes them, `status` no longer counts them, and `report` counts them only with --bucket or --by model.
    """
    from ..ledger.history import compact as compact_rows
    from ..ledger.history import count_compactable_rows, vacuum
    from .progress import Progress

    seconds = age_seconds("--older-than", older_than)
    if seconds is None:
        raise WrongUsage("--older-than off would compact nothing: give an age, such as 365d.")
    root = needed_root(directory)
    path = ledger_path(root)
    size_before = database_bytes(path)  # measured first, because opening the ledger may write to it
    with ledger_of(root, needed=True) as ledger:
        assert ledger is not None
        archived_before, error = time.time() - seconds, None
        if yes:
            with Progress(is_terminal(sys.stderr), "Compacting") as progress:
                rows = compact_rows(
                    ledger,
                    archived_before,
                    on_progress=lambda done: progress.draw(0, None, f"{done:,} files"),
                )
                error = vacuum(ledger)
        else:
            rows = count_compactable_rows(ledger, archived_before)
    size_after = database_bytes(path)
    if json:
        print_json(
            {"dry_run": not yes, "files": rows, "size_bytes_before": size_before, "size_bytes": size_after}
        )
    elif yes:
        print_line(
            f"Compacted {count_noun(rows, 'file')}: the ledger takes {format_bytes(size_after)} now,"
            f" and took {format_bytes(size_before)} before."
        )
        if error is not None:
            print_line(f"The space was not given back to the disk. {error} Then run this command again.")
    else:
        print_line(
            f"Would compact {count_noun(rows, 'file')} of a ledger of {format_bytes(size_before)}."
            + (" Add --yes to compact it." if rows else "")
        )
    raise typer.Exit(EXIT_DONE)
