"""`verify`: compare every archived file with the bucket."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import CloudArchiveError, EngineUnavailable
from ..terminal import EXIT_DONE, EXIT_FAILED, is_terminal, print_error, print_json, print_line
from ..text import count_noun, format_bytes, make_printable
from .common import bucket, ledger_of, needed_root, settings_now, wake_engine
from .interrupted_prune import finish_prune
from .options import Directory, Json
from .status import older_words

if TYPE_CHECKING:
    from ..ledger.ledger import Ledger
    from ..maintenance.verify import Finding, VerifyReport

_MAX_NAMED = 1000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", short_help="Compare every archived file with the bucket.")(verify)


def verify(
    directory: Directory = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every object back and hash it.")] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Archive again what the bucket lacks and DIR still holds."),
    ] = False,
    json: Json = False,
) -> None:
    """Compare every archived file of DIR with the bucket: is the object there, with the same size and checksum?

    Exit status 0: the bucket holds every file as it was archived; 1: a file is missing, different or unchecked, or
    waits to be archived again.
    """
    from ..archive.destination import confirm_destination
    from ..maintenance.verify import verify as run
    from .progress import Progress

    root = needed_root(directory)
    settings = settings_now()
    with ledger_of(root, needed=True) as ledger, bucket(settings) as store:
        assert ledger is not None
        finish_prune(settings, ledger, store)
        older = _baseline_files(root, ledger)
        with Progress(is_terminal(sys.stderr), "Verifying", asks_store=True) as progress:
            report = run(
                ledger,
                store,
                root,
                deep=deep,
                repair=repair,
                rename=settings.conflict_rename,
                on_progress=lambda done, total: progress.draw(
                    done, total or None, f"{done:,}/{total:,}" if total else ""
                ),
            )
        if report.intact:
            confirm_destination(ledger, settings.destination)
    _name(report)
    if report.queued:
        wake_engine(root)
    if json:
        print_json(report.to_json() | {"baseline_files": older})
    else:
        _show(report, repair=repair, running=bool(report.waiting) and _engine_runs(root))
        if older:
            print_line(older_words(older))
    raise typer.Exit(EXIT_DONE if report.intact else EXIT_FAILED)


def _name(report: VerifyReport) -> None:
    """Print each finding with its cause; a cause that all of them share is printed once, at the end."""
    named = sorted(report.findings[:_MAX_NAMED], key=lambda finding: finding.path)
    causes = {finding.cause for finding in named if finding.cause}
    for finding in named:
        print_error(_describe(finding, with_cause=len(causes) > 1))
    if report.checked - report.same > len(named):
        print_error(f"… and {report.checked - report.same - len(named):,} more")
    if len(causes) == 1:
        print_error(make_printable(f"Not checked: {causes.pop()}"))


def _describe(finding: Finding, *, with_cause: bool = True) -> str:
    what = {"missing": "missing from the bucket", "different": "different in the bucket"}.get(
        finding.verdict.value, "could not be checked"
    )
    where = "" if finding.local else "; also missing locally"
    then = (
        "; queued again" if finding.queued else "; kept, another writer replaced it" if finding.kept else ""
    )
    cause = f": {finding.cause}" if finding.cause and with_cause else ""
    return make_printable(f"{finding.path}: {what} ({finding.key}){where}{then}{cause}")


def _baseline_files(root: Path, ledger: Ledger) -> int:
    """Return how many older files the directory holds; 0 if it can't be read now."""
    from ..archive.ownership import engine_state_directory
    from ..archive.unwatched import count_unarchived
    from ..ledger.recovery import remember_log_files
    from ..own_files import OwnFiles
    from .ledger_view import selection_of

    if not ledger.has_baseline():
        return 0
    with contextlib.suppress(CloudArchiveError):
        own = OwnFiles(root, engine_state_directory(root, os.environ), remember_log_files(ledger))
        return count_unarchived(root, selection_of(os.environ, own), ledger).baseline
    return 0


def _engine_runs(root: Path) -> bool:
    from ..api.client import running_engine

    with contextlib.suppress(EngineUnavailable):
        return running_engine(root) is not None
    return False


def _show(report: VerifyReport, *, repair: bool, running: bool) -> None:
    objects = report.head_requests + report.read_requests
    requests = f"{count_noun(report.list_requests, 'list request')}, {count_noun(objects, 'object request')}"
    if report.read_requests:
        requests += f", {format_bytes(report.bytes_read)} read back"
    if report.listing_refused:
        print_line("This access key may not list the bucket, so each object was requested by itself.")
        if report.undecided:
            print_line(
                "The store may refuse a missing object like one that may not be read: allow s3:ListBucket to tell them"
                " apart."
            )
    if report.checked:
        print_line(f"Checked {count_noun(report.checked, 'file')} ({requests}).")
    if report.checked > report.same:
        print_line(
            f"Missing: {report.missing:,}. Different: {report.different:,}. Not checked: {report.undecided:,}."
            f" Also missing locally: {report.lost:,}."
        )
    elif report.checked:
        what = "All of them" if report.intact else "The files that were checked"
        print_line(f"{what} are in the bucket, as they were archived.")
    elif report.intact:
        print_line("Nothing was checked: the ledger lists no archived file.")
    if report.replaced:
        print_line(
            f"Replaced by newer versions, because S3_ENABLE_CONFLICT_RENAME is off: {report.replaced:,}."
        )
    if report.lost:
        verb, them = ("is", "it") if report.lost == 1 else ("are", "them")
        print_line(
            f"{count_noun(report.lost, 'file')} {verb} lost: neither the bucket nor this disk holds {them} as archived."
            f" Put {them} back from a backup and verify again. `cloud-archive compact` takes old files out of this"
            " check."
        )
    if report.kept:
        print_line(
            f"Kept objects of other writers, which a repair would overwrite: {report.kept:,}. To archive your files"
            " under other names, set S3_ENABLE_CONFLICT_RENAME=true for the archive and for verify --repair."
        )
    if report.waiting:
        verb, them = ("waits", "it") if report.waiting == 1 else ("wait", "them")
        then = f"The running archive uploads {them}." if running else f"The next start uploads {them}."
        print_line(
            f"{count_noun(report.waiting, 'file')} {verb} to be archived again. {then} Verify again after that."
        )
    elif not repair and report.missing + report.different > report.lost:
        print_line("Add --repair to archive again those that are still on this disk.")
