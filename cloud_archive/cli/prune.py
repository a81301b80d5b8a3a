"""`prune`: delete old objects below the prefix; a dry run unless `--yes`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CatalogError, LedgerError, StoreError
from ..terminal import (
    EXIT_DONE,
    EXIT_FAILED,
    format_table,
    interrupt_on_signals,
    is_terminal,
    print_error,
    print_json,
    print_line,
)
from ..text import count_noun, format_bytes, make_printable
from .arguments import WrongUsage
from .common import (
    age_seconds,
    bucket,
    deletable_scope,
    ledger_of,
    ledger_path,
    settings_now,
    size_bytes,
    unambiguous_root,
)
from .options import Directory, Json

if TYPE_CHECKING:
    from ..catalog.bucket.copy import BucketCatalog
    from ..catalog.bucket.favorites import Favorites
    from ..config.settings import Settings
    from ..ledger.ledger import Ledger
    from ..maintenance.prune import PruneReport
    from ..maintenance.prune_plan import PrunePlan, PruneRule
    from ..scope import KeyScope
    from ..store.base import ObjectStore
    from .progress import Progress

_OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", metavar="AGE", help="Delete objects older than this, such as 30d."),
]
_KeepBytes = Annotated[
    str | None, typer.Option("--keep-bytes", metavar="SIZE", help="Delete the oldest until SIZE remains.")
]
_MAX_SHOWN = 20
_LOCK_SECONDS = 10.0  # an archive that finishes an interrupted prune holds the lock, too
_NOTHING_DELETED = "Nothing is deleted. Fix this and try again, or add --favorites to delete favourites too."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prune", short_help="Delete old objects below the prefix; dry run unless --yes.")(prune)


def prune(
    directory: Directory = None,
    older_than: _OlderThan = None,
    keep_bytes: _KeepBytes = None,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="P", help="Only keys below P.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also delete what other programs wrote below the prefix.")
    ] = False,
    favorites: Annotated[bool, typer.Option("--favorites", help="Also delete favourites.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted (the default).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete these objects.")] = False,
    json: Json = False,
) -> None:
    """Delete old objects below the prefix from the bucket. Needs the right s3:DeleteObject; archiving does not.

    Objects that other programs wrote stay, unless --all. Favourites of all machines stay, unless --favorites. Local
    files stay, and are not uploaded again.
    """
    from ..maintenance.prune import prune as run
    from ..maintenance.prune_plan import no_favorites, plan_prune
    from .progress import Progress

    if yes and dry_run:
        raise WrongUsage("Give --yes or --dry-run, not both.")
    rule, settings = _rule(older_than, keep_bytes, everything), settings_now()
    scope = deletable_scope(prefix, settings)
    if everything and (scope.is_whole_bucket or prefix == ""):
        raise WrongUsage(
            "--all without a prefix would delete other programs' objects in the whole bucket: give --prefix P."
        )
    shown_prefix = (prefix or "").strip("/") or settings.prefix
    root = unambiguous_root(directory)
    with (
        interrupt_on_signals(),
        ledger_of(root, needed=False) as ledger,
        bucket(settings) as store,
        _only_prune(settings, store, ledger if yes else None),
        Progress(is_terminal(sys.stderr), "Pruning", asks_store=True) as progress,
        _known_favorites(settings, store, scope, root, progress, wanted=not favorites) as known,
    ):
        plan = plan_prune(
            store,
            ledger,
            scope=scope,
            rule=rule,
            now=time.time(),
            favorites=known.find if known else no_favorites,
            on_progress=lambda listed: progress.draw(0, None, f"{listed:,} objects listed"),
        )
        if yes:
            show = lambda done, total: progress.draw(done, total, f"{done:,}/{total:,} deleted")  # noqa: E731
            find, record = known.find_now if known else no_favorites, partial(_record, settings, store)
            report = run(store, ledger, plan, favorites=find, on_progress=show, record=record)
    _print_result(plan, report if yes else None, shown_prefix, json=json)
    if not yes:
        raise typer.Exit(EXIT_DONE)
    failed = report.failed or plan.unchecked or not report.recorded
    raise report.error or typer.Exit(EXIT_FAILED if failed else EXIT_DONE)


@contextlib.contextmanager
def _only_prune(settings: Settings, store: ObjectStore, ledger: Ledger | None) -> Iterator[None]:
    """Keep out other prunes of this ledger, and first finish one that was killed. No-op without a ledger.

    Raises:
        LedgerError: another one runs, or the ledger can't be used.
    """
    if ledger is None or ledger.path is None:
        yield
        return
    from ..ledger.deletions import forget_other_destinations
    from ..state import prune_lock
    from .interrupted_prune import finish_prune

    with prune_lock(ledger.path.parent, _LOCK_SECONDS) as held:
        if not held:
            raise LedgerError(
                "Another prune of this archive is running, or the archive finds out what an interrupted one has"
                " deleted. Wait until that has ended, and try again."
            )
        finish_prune(settings, ledger, store, holds_lock=True)
        if forget_other_destinations(ledger, settings.destination):
            print_error(
                "An earlier prune of another bucket was interrupted: what it has deleted there is not looked up any"
                " more. Run cloud-archive catalog rebuild for that bucket."
            )
        yield


@contextlib.contextmanager
def _known_favorites(
    settings: Settings,
    store: ObjectStore,
    scope: KeyScope,
    root: Path | None,
    progress: Progress,
    *,
    wanted: bool,
) -> Iterator[Favorites | None]:
    """Read and yield the favourites of all machines; None if not `wanted`.

    Raises:
        FavoritesUnknown: they can't be read, so nothing may be deleted.
    """
    if not wanted:
        yield None
        return
    from ..catalog.bucket.favorites import Favorites, FavoritesUnknown, own_catalog
    from ..catalog.database import CATALOG_NAME

    with contextlib.ExitStack() as stack:
        try:
            all_settings = [settings, *_settings_above(settings, store, scope)]
            opened = [_open_copy(one, store, stack) for one in all_settings]
            own = None
            if root is not None:
                own = stack.enter_context(own_catalog(ledger_path(root).with_name(CATALOG_NAME)))
            known = Favorites(opened, own)
            known.load(
                lambda done, total: progress.draw(
                    done, total, f"{done:,}/{total:,} parts of the catalog read"
                )
            )
        except FavoritesUnknown as error:
            raise FavoritesUnknown(error.cause, _NOTHING_DELETED) from error
        except (OSError, CatalogError, StoreError) as error:
            raise FavoritesUnknown(f"{error}", _NOTHING_DELETED) from error
        yield known


def _settings_above(settings: Settings, store: ObjectStore, scope: KeyScope) -> Iterator[Settings]:
    """Yield settings for each other archive that has a catalog above the scope, if this access key may list it.

    Raises:
        StoreError: the bucket can't be listed.
    """
    from ..catalog.bucket.names import CatalogFolder
    from ..catalog.bucket.tombstones import has_catalog
    from ..store.failures import is_denied

    for head in scope.above:
        try:
            if has_catalog(store, CatalogFolder.of(head)):
                yield replace(settings, prefix=head.rstrip("/"))
        except ValueError:  # --prefix has a part that no S3_PREFIX may have
            continue
        except StoreError as error:
            if not is_denied(error):
                raise


def _open_copy(settings: Settings, store: ObjectStore, stack: contextlib.ExitStack) -> BucketCatalog:
    """Open this destination's copy of the catalog until `stack` ends, or a temporary one if no copy can be kept.

    Raises:
        CatalogError, OSError: the temporary one can't be made either.
    """
    from ..catalog.bucket.copy import copy_path, opened_catalog
    from ..catalog.database import CATALOG_NAME

    if settings.catalog != "off":  # else this machine keeps no catalog, but others may
        with contextlib.suppress(OSError, CatalogError):  # such as a container without a home directory
            return stack.enter_context(opened_catalog(copy_path(settings), store, settings))
    temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="cloud-archive-prune-"))
    return stack.enter_context(opened_catalog(Path(temporary) / CATALOG_NAME, store, settings))


def _record(settings: Settings, store: ObjectStore, report: PruneReport) -> bool:
    """Record the deletions in the bucket's catalog. If that fails, print the cause and return False.

    After Ctrl-C it has `INTERRUPTED_SECONDS` for that. Ctrl-C during it ends it, and becomes the report's error.
    """
    from ..catalog.bucket.tombstones import record_deletions
    from ..executor import CallTimeout, call_within
    from ..maintenance.prune import INTERRUPTED_SECONDS

    def write() -> None:
        record_deletions(settings, store, report.deleted_at)

    try:
        if isinstance(report.error, KeyboardInterrupt):
            call_within(INTERRUPTED_SECONDS, write, "cloud-archive-prune-record")
        else:
            write()
    except (StoreError, CallTimeout, KeyboardInterrupt) as error:
        cause = error if isinstance(error, StoreError) else "the store did not answer in time."
        if isinstance(error, KeyboardInterrupt):
            report.error, cause = error, "prune was interrupted."
        print_error(
            f"The objects were deleted, but the bucket's catalog may still list them: {cause}"
            " Run cloud-archive catalog rebuild to remove them from it."
        )
        return False
    return True


def _rule(older_than: str | None, keep_bytes: str | None, everything: bool) -> PruneRule:
    from ..maintenance.prune_plan import PruneRule

    if older_than is None and keep_bytes is None:
        raise WrongUsage("Give --older-than AGE or --keep-bytes SIZE to say what to delete.")
    rule = PruneRule(
        age_seconds("--older-than", older_than), size_bytes("--keep-bytes", keep_bytes), everything
    )
    if rule.older_than_seconds is None and rule.keep_bytes is None:
        raise WrongUsage(
            "Nothing to delete: `off` keeps everything. Give an age such as 30d, or a size such as 500GB."
        )
    return rule


def _print_result(plan: PrunePlan, report: PruneReport | None, prefix: str, *, json: bool) -> None:
    for key, cause in report.failed if report is not None else ():
        print_error(make_printable(f"{key}: {cause}"))
    for key, cause in plan.unchecked:
        print_error(make_printable(f"{key}: It could not be checked, so it was left alone: {cause}"))
    if report is not None and report.untried:
        verb = "was" if report.untried == 1 else "were"
        print_error(f"Prune stopped early: {count_noun(report.untried, 'object')} {verb} not tried.")
    if json:
        answer: dict[str, Any] = {
            "dry_run": report is None,
            "prefix": prefix,
            "files": len(plan.candidates),
            "bytes": plan.size_bytes,
            "kept_files": plan.kept_files,
            "kept_bytes": plan.kept_bytes,
            "foreign_files": plan.foreign_files,
            "unchecked_files": len(plan.unchecked),
            "favorite_files": plan.favorite_files,
            "favorite_bytes": plan.favorite_bytes,
            "objects": [one.to_json() for one in plan.candidates],
        }
        if report is not None:
            answer |= {
                "deleted": report.deleted,
                "deleted_bytes": report.deleted_bytes,
                "untried": report.untried,
                "failed": [{"s3_key": key, "cause": cause} for key, cause in report.failed],
            }
        print_json(answer)
        return
    place = f"below {make_printable(prefix)}/" if prefix else "in the bucket"
    if report is not None:
        print_line(
            f"Deleted {count_noun(report.deleted, 'object')} ({format_bytes(report.deleted_bytes)}) {place}."
        )
        return
    _print_plan(plan, place)


def _print_plan(plan: PrunePlan, place: str) -> None:
    from ..archive.session import local_time

    lines = [
        [
            local_time(one.written_at).replace("T", " "),
            format_bytes(one.size_bytes),
            make_printable(one.key),
        ]
        for one in plan.candidates[:_MAX_SHOWN]
    ]
    for line in format_table([["written", "size", "object"], *lines]) if lines else []:
        print_line(line)
    if len(plan.candidates) > _MAX_SHOWN:
        print_line(f"… and {len(plan.candidates) - _MAX_SHOWN:,} more")
    print_line(
        f"Would delete {count_noun(len(plan.candidates), 'object')} ({format_bytes(plan.size_bytes)}) {place}."
    )
    only_copies = sum(one.only_copy for one in plan.candidates)
    if only_copies:
        have = "has" if only_copies == 1 else "have"
        print_line(f"{only_copies:,} of them {have} no local file: the object is the only copy.")
    print_line(f"Would keep: {count_noun(plan.kept_files, 'object')} ({format_bytes(plan.kept_bytes)}).")
    if plan.favorite_files:
        kept = f"{count_noun(plan.favorite_files, 'favourite')} ({format_bytes(plan.favorite_bytes)})"
        print_line(f"Favourites stay: {kept} would be deleted otherwise. Add --favorites to delete them too.")
    if plan.foreign_files:
        print_line(f"Not written by Cloud Archive, so left alone: {plan.foreign_files:,}.")
    if plan.candidates:
        print_line("Nothing was deleted. Add --yes to delete.")
