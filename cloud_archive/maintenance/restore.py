"""Restore files from the bucket into a directory, also on a machine without the ledger.

The newest version of each path gets the file's name; with `all_versions` the others are restored beside it, as
`name (1)`.

The bucket is listed once, to its end, before the first file is restored: a key with a number must be checked together
with the keys of its family, which may come later in the listing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import CloudArchiveError, StoreError
from ..executor import unawaited_threads
from ..ledger.key_index import KeyIndex
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..scope import KeyScope
from ..store.base import ObjectInfo, ObjectStore
from .kept_listing import kept_listing
from .restore_files import FilePlacer, modified_ns, states_mtime
from .restore_patterns import RestorePatterns
from .restore_versions import Version, family_key, has_number, newest_first, version_of
from .retry import with_retries

CLOCK_SLACK_SECONDS = 86_400.0  # how far the clocks of store and archive may differ
MAX_LISTED = 10_000
AWAY_PER_WORKER = 3  # per worker: so many HEADs in a row with the store away or busy end the run
STOPPING_SECONDS = 2.0  # after Ctrl-C or an error: for removing partial files
GUESSED = (
    "An older version of Cloud Archive wrote it, so the number may belong to the file's name. It was restored under the"
    " name of its key."
)


@dataclass(frozen=True, slots=True)
class RestoreFilter:
    """Which objects to restore.

    Attributes:
        patterns: gitignore patterns over the path below the prefix, or whole keys; empty = all.
        since, until: seconds since 1970. Only files that were modified at or after `since` and before `until`. If an
            object does not say when its file was modified, the time of its upload counts.
        session: only what this session archived.
    """

    patterns: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    session: str | None = None

    def compiled(self) -> RestorePatterns:
        """Return the compiled patterns. ValueError: one is invalid."""
        return RestorePatterns(self.patterns)


class RestoreResult(Enum):
    RESTORED = "restored"
    ALREADY = "already there"
    OLDER = "an older version"
    SKIPPED = "not wanted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RestoreItem:
    """An object, and what happened to it.

    Attributes:
        path: the file's path relative to the target; in a dry run, the path it would get.
        proven, renamed: see `PlacedFile`.
        dated: False if the object's metadata has no mtime, so that the file has the time of its upload instead.
        is_guess: see `Version`.
        cause: why it failed, or why it is a guess.
    """

    key: str
    result: RestoreResult
    size_bytes: int = 0
    path: str = ""
    proven: bool = True
    renamed: bool = False
    dated: bool = True
    is_guess: bool = False
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "s3_key": self.key,
            "result": self.result.value,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "proven": self.proven,
            "dated": self.dated,
            "cause": self.cause,
        }


@dataclass(slots=True)
class RestoreReport:
    """Counts of objects; `items` holds at most 10,000 of those that were restored or failed.

    Attributes:
        stopped_early: the store stayed away, so some objects may not have been tried.
        unmatched: the patterns that choose no object, without those that negate.
    """

    restored: int = 0
    already: int = 0
    older: int = 0
    skipped: int = 0
    failed: int = 0
    renamed: int = 0
    unproven: int = 0
    undated: int = 0
    guessed: int = 0
    restored_bytes: int = 0
    dry_run: bool = False
    stopped_early: bool = False
    unmatched: list[str] = field(default_factory=list)
    items: list[RestoreItem] = field(default_factory=list)

    def add(self, item: RestoreItem) -> None:
        result = item.result
        if result is RestoreResult.SKIPPED:
            self.skipped += 1
            return
        if result is RestoreResult.OLDER:
            self.older += 1
            return
        self.guessed += item.is_guess
        if result is RestoreResult.ALREADY:
            self.already += 1
            return
        if result is RestoreResult.FAILED:
            self.failed += 1
        else:
            self.restored += 1
            self.restored_bytes += item.size_bytes
            self.renamed += item.renamed
            self.unproven += not item.proven
            self.undated += not item.dated
        if len(self.items) < MAX_LISTED:
            self.items.append(item)

    def to_json(self) -> dict[str, Any]:
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "items"}
        return {**values, "files": [item.to_json() for item in self.items]}


def restore(
    store: ObjectStore,
    target: Path,
    *,
    scope: KeyScope,
    wanted: RestoreFilter | None = None,
    all_versions: bool = False,
    ledger: Ledger | None = None,
    watched: Path | None = None,
    dry_run: bool = False,
    workers: int = 8,
    windows: bool = os.name == "nt",
    on_item: Callable[[RestoreItem, RestoreReport], None] = lambda item, report: None,
) -> RestoreReport:
    """Restore objects to files. Stops early if the store stays away.

    Args:
        target: the directory to write to; made if missing, except in a dry run.
        scope: only these keys. The part of a key after the scope's head is the path.
        ledger: has the paths of objects without a path in their metadata; may belong to another directory.
        watched: the ledger's directory, if `target` is or lies in it. Restored files are then recorded as archived.
        dry_run: compare, but write nothing.
        windows: make names that are valid on Windows.
        on_item: called in the caller's thread for each object, except unwanted and older ones.

    Raises:
        CloudArchiveError: the target can't be made, its disk is full, the listing can't be kept, or the ledger can't be
            read.
        StoreError: the bucket can't be listed.
        ValueError: a pattern is invalid.
    """
    wanted = wanted or RestoreFilter()
    if not dry_run:
        _make_directory(target)
    report = RestoreReport(dry_run=dry_run)
    placer = FilePlacer(store, target, ledger, watched, windows=windows)
    run = _Restore(store, scope, placer, wanted, wanted.compiled(), all_versions, dry_run, target, workers)

    for items in _restored_groups(run, ledger, workers):
        for item in items:
            report.add(item)
            if item.result not in (RestoreResult.SKIPPED, RestoreResult.OLDER):
                on_item(item, report)
    report.skipped += run.unwanted
    report.stopped_early = run.store_is_away
    report.unmatched = [] if run.store_is_away else run.patterns.unmatched()
    return report


def _restored_groups(run: _Restore, ledger: Ledger | None, workers: int) -> Iterator[list[RestoreItem]]:
    """Restore in `workers` threads and yield the items of each group."""
    with unawaited_threads(workers, "cloud-archive-restore") as pool:
        under_way: set[Future[list[RestoreItem]]] = set()
        try:
            for group, rows in run.groups(ledger):
                if run.store_is_away:
                    break
                under_way.add(pool.submit(run.restore_group, group, rows))
                if len(under_way) >= workers * 4:
                    finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            yield from (future.result() for future in as_completed(under_way))
        except BaseException:
            run.placer.stopping.set()
            wait([future for future in under_way if not future.cancel()], STOPPING_SECONDS)
            raise


def _make_directory(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CloudArchiveError(f"{target} can't be made: {error.strerror}.") from error


@dataclass(slots=True)
class _Restore:
    """One run. Call `groups` in the caller's thread, `restore_group` in any."""

    store: ObjectStore
    scope: KeyScope
    placer: FilePlacer
    wanted: RestoreFilter
    patterns: RestorePatterns
    all_versions: bool
    dry_run: bool
    target: Path
    workers: int
    unwanted: int = 0
    unanswered: int = 0  # HEADs in a row; without a lock, because one more or less does no harm
    store_is_away: bool = False

    # --- selecting objects

    def groups(
        self, ledger: Ledger | None
    ) -> Iterator[tuple[list[ObjectInfo], Mapping[str, Sequence[FileRow]]]]:
        """Yield the objects of each family with their rows of the ledger. Most objects are alone, and get no rows."""
        families: set[str] = set()
        together: dict[str, list[ObjectInfo]] = {}

        def find_family(info: ObjectInfo) -> None:
            if has_number(info.key):
                families.add(family_key(info.key))

        with kept_listing(self._listed(), find_family) as listed:
            for info in listed():
                family = family_key(info.key)
                if family in families:
                    together.setdefault(family, []).append(info)
                elif self._may_be_wanted(info):
                    yield [info], {}
                else:
                    self.unwanted += 1
        if not together:
            return
        with KeyIndex(ledger) if ledger is not None else nullcontext() as index:
            for group in together.values():
                yield group, index.find([info.key for info in group]) if index is not None else {}

    def _listed(self) -> Iterator[ObjectInfo]:
        for info in self.store.list(self.scope.listing_prefix):
            # Consoles write keys with a slash at the end as folders.
            if self.scope.holds(info.key) and not info.key.endswith("/"):
                yield info

    def _may_be_wanted(self, info: ObjectInfo) -> bool:
        """Return False if the listing shows that the object is unwanted. The path of a key with `%` may differ."""
        path = info.key[len(self.scope.head) :]
        if "%" not in path and not self.patterns.choose(info.key, path):
            return False
        since, written = self.wanted.since, info.last_modified
        return since is None or written is None or written.timestamp() + CLOCK_SLACK_SECONDS >= since

    def _is_wanted(self, version: Version) -> bool:
        wanted, info = self.wanted, version.info
        if not self.patterns.choose(info.key, version.path):
            return False
        if wanted.session is not None and info.metadata.get("archive-session") != wanted.session:
            return False
        if wanted.since is None and wanted.until is None:
            return True
        moment = modified_ns(info)
        if moment is None:
            return False
        seconds = moment / 1e9
        return (wanted.since is None or seconds >= wanted.since) and (
            wanted.until is None or seconds < wanted.until
        )

    # --- restoring

    def restore_group(
        self, group: Sequence[ObjectInfo], rows: Mapping[str, Sequence[FileRow]]
    ) -> list[RestoreItem]:
        """Restore the newest wanted version of each path in the group, and with `all_versions` the others.

        Do nothing if the store is away.
        """
        if self.store_is_away:
            return []
        items: list[RestoreItem] = []
        versions: list[Version] = []
        for info in group:
            result = self._attempt(info, lambda info=info: self._read_version(info, rows))  # type: ignore[misc]
            if isinstance(result, RestoreItem):
                items.append(result)
            elif self._is_wanted(result):
                versions.append(result)
            else:
                items.append(RestoreItem(info.key, RestoreResult.SKIPPED))
        by_path = newest_first(versions)
        taken: set[str] = set()
        items += [self._restore_version(newest, taken, beside=False) for newest, *_ in by_path]
        for version in (older for _, *others in by_path for older in others):
            items.append(
                self._restore_version(version, taken, beside=True)
                if self.all_versions
                else RestoreItem(version.info.key, RestoreResult.OLDER)
            )
        return items

    def _read_version(self, info: ObjectInfo, rows: Mapping[str, Sequence[FileRow]]) -> Version | RestoreItem:
        try:
            current = with_retries(lambda: self.store.head(info.key))
        except StoreError as error:
            self.unanswered = self.unanswered + 1 if error.failure.transient else 0
            self.store_is_away = self.store_is_away or self.unanswered >= AWAY_PER_WORKER * self.workers
            raise
        self.unanswered = 0
        if current is None:
            return RestoreItem(info.key, RestoreResult.FAILED, cause="It was deleted meanwhile.")
        return version_of(current, self.scope.head, rows.get(info.key, ()))

    def _restore_version(self, version: Version, taken: set[str], *, beside: bool) -> RestoreItem:
        info = version.info

        def place() -> RestoreItem:
            if self.dry_run:
                placed = self.placer.plan(version, beside=beside, taken=taken)
            else:
                placed = self.placer.restore(version, beside=beside)
            return RestoreItem(
                info.key,
                RestoreResult.RESTORED if placed.is_new else RestoreResult.ALREADY,
                info.size_bytes,
                placed.path,
                proven=placed.proven,
                renamed=placed.renamed and not beside,
                dated=states_mtime(info),
                is_guess=version.is_guess,
                cause=GUESSED if version.is_guess else "",
            )

        item = self._attempt(info, place)
        assert isinstance(item, RestoreItem)
        return item

    def _attempt(self, info: ObjectInfo, work: Callable[[], Version | RestoreItem]) -> Version | RestoreItem:
        """Do the work for one object; an error becomes a failed item, except that of a full disk, which is raised."""
        if self.placer.stopping.is_set():
            return RestoreItem(info.key, RestoreResult.SKIPPED)
        try:
            return work()
        except StoreError as error:
            cause = str(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                raise CloudArchiveError(
                    f"The disk of {self.target} is full. Restored files are kept. Free some space and run it again."
                ) from error
            cause = f"The target directory can't be used: {error.strerror or error}."
        except (CloudArchiveError, ValueError) as error:
            cause = str(error)
        return RestoreItem(info.key, RestoreResult.FAILED, info.size_bytes, cause=cause)
