"""`prune`: delete old objects of this prefix; shows what would go until `--yes` says so."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..terminal import DONE, FAILED, complain, is_terminal, say, say_json, table
from ..text import counted, shown, size
from .arguments import Directory, Json, WrongUsage
from .common import age_seconds, archive_root, archive_scope, bucket, ledger_of, settings_now, size_bytes

if TYPE_CHECKING:
    from ..maintenance.prune import Plan, PruneReport

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prune", short_help="Delete old objects of this prefix; dry run unless --yes.")(prune)


def prune(
    directory: Directory = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Objects written longer ago, such as 30d."),
    ] = None,
    keep_bytes: Annotated[
        str | None,
        typer.Option(
            "--keep-bytes", metavar="SIZE", help="The oldest, until the rest has no more than SIZE."
        ),
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="P", help="Only keys below P.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what other programs wrote below the prefix.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go: the default.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it.")] = False,
    json: Json = False,
) -> None:
    """Delete old objects of this prefix from the bucket. Needs the right to delete, which archiving does not.

    Only objects that Cloud Archive wrote, unless --all. Local files stay, and are not uploaded again.
    """
    from ..maintenance.prune import Rule, plan_prune
    from ..maintenance.prune import prune as run
    from .progress import Progress

    if older_than is None and keep_bytes is None:
        raise WrongUsage("What may go? Give --older-than AGE or --keep-bytes SIZE.")
    if yes and dry_run:
        raise WrongUsage("--yes or --dry-run, not both.")
    rule = Rule(age_seconds("--older-than", older_than), size_bytes("--keep-bytes", keep_bytes), everything)
    if rule.older_than_seconds is None and rule.keep_bytes is None:
        raise WrongUsage("What may go? An age or a size of `off` leaves everything.")
    settings = settings_now()
    scope = archive_scope(prefix, settings)
    if everything and (scope.is_whole_bucket or prefix == ""):
        raise WrongUsage("--all without a prefix would be the whole bucket: give --prefix P.")
    shown_prefix = prefix.strip("/") if prefix is not None else settings.prefix
    with (
        ledger_of(archive_root(directory), needed=False) as ledger,
        bucket(settings) as store,
        Progress(is_terminal(sys.stderr), "Pruning") as progress,
    ):
        plan = plan_prune(
            store,
            ledger,
            scope=scope,
            rule=rule,
            now=time.time(),
            on_progress=lambda listed: progress.draw(0, None, f"{listed:,} objects seen"),
        )
        if not yes:
            _answer(plan, None, shown_prefix, json=json)
            raise typer.Exit(DONE)
        report = run(
            store,
            ledger,
            plan,
            on_progress=lambda done, total: progress.draw(done, total, f"{done:,}/{total:,} deleted"),
        )
    for key, cause in report.failed:
        complain(shown(f"{key}: {cause}"))
    _answer(plan, report, shown_prefix, json=json)
    raise typer.Exit(FAILED if report.failed else DONE)


def _answer(plan: Plan, report: PruneReport | None, prefix: str, *, json: bool) -> None:
    if json:
        found: dict[str, Any] = {
            "dry_run": report is None,
            "prefix": prefix,
            "files": len(plan.candidates),
            "bytes": plan.size_bytes,
            "kept_files": plan.kept_files,
            "kept_bytes": plan.kept_bytes,
            "foreign_files": plan.foreign_files,
            "objects": [one.to_json() for one in plan.candidates],
        }
        if report is not None:
            found |= {
                "deleted": report.deleted,
                "deleted_bytes": report.deleted_bytes,
                "failed": [{"s3_key": key, "cause": cause} for key, cause in report.failed],
            }
        say_json(found)
        return
    place = f"below {shown(prefix)}/" if prefix else "in the bucket"
    if report is not None:
        say(f"Deleted {counted(report.deleted, 'object')} ({size(report.deleted_bytes)}) {place}.")
        return
    _show(plan, place)


def _show(plan: Plan, place: str) -> None:
    from ..archive.session import local_time

    lines = [
        [local_time(one.written_at).replace("T", " "), size(one.size_bytes), shown(one.key)]
        for one in plan.candidates[:_SHOWN]
    ]
    for line in table([["written", "size", "object"], *lines]) if lines else []:
        say(line)
    if len(plan.candidates) > _SHOWN:
        say(f"… and {len(plan.candidates) - _SHOWN:,} more")
    say(f"Would delete {counted(len(plan.candidates), 'object')} ({size(plan.size_bytes)}) {place}.")
    last = sum(one.only_copy for one in plan.candidates)
    if last:
        say(f"Of these, {last:,} have no local file any more: theirs is the only copy.")
    say(f"Would stay: {counted(plan.kept_files, 'object')} ({size(plan.kept_bytes)}).")
    if plan.foreign_files:
        say(f"Not written by Cloud Archive, so left alone: {plan.foreign_files:,}.")
    if plan.candidates:
        say("Nothing was deleted. Add --yes to delete.")
