"""`verify`: every archived file against the bucket."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import DONE, FAILED, complain, is_terminal, say, say_json
from ..text import counted, shown, size
from .arguments import Directory, Json
from .common import bucket, ledger_of, needed_root, settings_now, wake_engine

if TYPE_CHECKING:
    from ..maintenance.verify import Finding, VerifyReport

_NAMED = 1000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", short_help="Compare every archived file with the bucket.")(verify)


def verify(
    directory: Directory = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every object back and hash it.")] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="What is missing or different, and still in DIR, is archived again."),
    ] = False,
    json: Json = False,
) -> None:
    """Compare every file that the ledger of DIR has as archived with the bucket: present, size, checksum.

    Exit status 0: everything is there as it was archived; 1: something is not, also where it was put back
    into the queue.
    """
    from ..maintenance.verify import verify as run
    from .progress import Progress

    root = needed_root(directory)
    settings = settings_now()
    with ledger_of(root, needed=True) as ledger, bucket(settings) as store:
        assert ledger is not None
        with Progress(is_terminal(sys.stderr), "Verifying") as progress:
            report = run(
                ledger,
                store,
                root,
                deep=deep,
                repair=repair,
                on_progress=lambda done, total: progress.draw(done, total, f"{done:,}/{total:,}"),
            )
    for finding in report.findings[:_NAMED]:
        complain(_words(finding))
    named = min(len(report.findings), _NAMED)
    if report.checked - report.same > named:
        complain(f"… and {report.checked - report.same - named:,} more")
    woken = bool(report.queued) and wake_engine(root)
    if json:
        say_json(report.to_json())
    else:
        _show(report, repair=repair, woken=woken)
    raise typer.Exit(DONE if report.sound else FAILED)


def _words(finding: Finding) -> str:
    what = {"missing": "missing from the bucket", "different": "different in the bucket"}.get(
        finding.verdict.value, "could not be looked at"
    )
    where = "" if finding.local else "; it is not on this disk either"
    then = "; back in the queue" if finding.queued else ""
    cause = f": {finding.cause}" if finding.cause else ""
    return shown(f"{finding.path}: {what} ({finding.key}){cause}{where}{then}")


def _show(report: VerifyReport, *, repair: bool, woken: bool) -> None:
    requests = f"{report.list_requests:,} listings, {report.head_requests:,} looks"
    if report.read_requests:
        requests += f", {size(report.bytes_read)} read back"
    if report.listing_refused:
        say("This key may not list the bucket, so each object was looked at by itself.")
    say(f"Checked {counted(report.checked, 'file')} with {requests}.")
    if report.sound:
        say("All of them are in the bucket, as they were archived.")
        return
    say(
        f"Missing: {report.missing:,}. Different: {report.different:,}. Not looked at: {report.undecided:,}."
        f" Not on this disk either: {report.lost:,}."
    )
    if report.queued:
        then = "The archive that runs takes them up." if woken else "They are archived at the next start."
        say(f"Back in the queue: {report.queued:,}. {then} Verify again after that.")
    elif not repair and report.missing + report.different > report.lost:
        say("With --repair, those that are still on this disk are archived again.")
