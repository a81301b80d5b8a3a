"""`restore`: files from the bucket into a directory, on a machine that knows nothing of the archive too.

What is needed comes from the objects themselves: key and metadata give the path, the SHA-256, the times, the session.
The newest version of each path gets the file's name; with `all_versions` the others come beside it, as `name (1)`.
Which objects are versions of one file is told in `restore_versions`, how a file is made of one in `restore_files`.

The bucket is listed twice: the first listing shows which keys have a number, and with that which objects must be looked
at together; the second brings them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from ..errors import CloudArchiveError, KeyRejected, StoreError
from ..ledger.key_index import KeyIndex
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..scope import KeyScope
from ..store.base import ObjectInfo, ObjectStore
from .restore_files import FilePlacer, modified_ns
from .restore_versions import Version, family_key, has_number, newest_first, version_of
from .retry import with_retries

CLOCK_SLACK_SECONDS = 86_400.0  # by which the clocks of store and archive may differ, before a HEAD decides
MOST_KEPT = 10_000
GUESSED = (
    "An older version of Cloud Archive wrote it, and it is not known whether the number belongs to the file's name."
    " It came back under the name of its key."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which objects come back.

    Attributes:
        patterns: gitignore-style, over the path below the prefix; none wants all.
        since, until: seconds since 1970, of the file's last modification where the object tells it, else of the
            object's; `since` included, `until` not.
        session: only what this session archived.
    """

    patterns: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    session: str | None = None

    def spec(self) -> GitIgnoreSpec | None:
        """The patterns, compiled.

        Raises:
            ValueError: one of them is none.
        """
        return GitIgnoreSpec.from_lines(self.patterns) if self.patterns else None


class RestoreResult(Enum):
    """What became of one object."""

    RESTORED = "restored"
    ALREADY = "already there"
    OLDER = "an older version"
    SKIPPED = "not wanted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Item:
    """One object and what became of it.

    Attributes:
        path: where it is (or, in a dry run, would be), relative to the target.
        proven: a checksum that came with the object equals that of the bytes on the disk.
        renamed: another name than the file's, because that is taken or not possible here.
        is_guess: see `Version`.
        cause: why it failed, or what is doubtful about it.
    """

    key: str
    result: RestoreResult
    size_bytes: int = 0
    path: str = ""
    proven: bool = True
    renamed: bool = False
    is_guess: bool = False
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "s3_key": self.key,
            "result": self.result.value,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "proven": self.proven,
            "cause": self.cause,
        }


_COUNTS = (
    "restored",
    "restored_bytes",
    "already",
    "older",
    "skipped",
    "failed",
    "renamed",
    "unproven",
    "guessed",
)


@dataclass(slots=True)
class RestoreReport:
    """Counts of objects; `items` names at most 10,000 of what was restored or failed."""

    restored: int = 0
    already: int = 0
    older: int = 0
    skipped: int = 0
    failed: int = 0
    renamed: int = 0
    unproven: int = 0
    guessed: int = 0
    restored_bytes: int = 0
    dry_run: bool = False
    items: list[Item] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Count one object."""
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
        if len(self.items) < MOST_KEPT:
            self.items.append(item)

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {"dry_run": self.dry_run, **counts, "files": [item.to_json() for item in self.items]}


def restore(
    store: ObjectStore,
    target: Path,
    *,
    scope: KeyScope,
    wanted: Wanted | None = None,
    all_versions: bool = False,
    ledger: Ledger | None = None,
    watched: Path | None = None,
    dry_run: bool = False,
    workers: int = 8,
    windows: bool = os.name == "nt",
    on_item: Callable[[Item, RestoreReport], None] = lambda item, report: None,
) -> RestoreReport:
    """Bring objects back.

    Args:
        target: made where it is missing (not in a dry run).
        scope: only these keys; what follows its head is the path.
        all_versions: older versions too, beside the newest.
        ledger: tells the path of objects whose metadata doesn't; may be of another directory than `target`.
        watched: the ledger's directory, where `target` is it or lies in it: restored files are known as archived.
        dry_run: look and compare, write nothing.
        on_item: called on the caller's thread for each object but the unwanted.

    Raises:
        CloudArchiveError: the target cannot be written, or its disk is full.
        StoreError: the bucket cannot be listed.
        ValueError: a pattern is invalid.
    """
    chosen = wanted or Wanted()
    if not dry_run:
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CloudArchiveError(f"{target} cannot be made: {error.strerror}.") from error
    report = RestoreReport(dry_run=dry_run)
    placer = FilePlacer(store, target, ledger, watched, windows=windows)
    run = _Restore(store, scope, placer, chosen, chosen.spec(), all_versions, dry_run, target)

    def done(items: Sequence[Item]) -> None:
        for item in items:
            report.add(item)
            if item.result not in (RestoreResult.SKIPPED, RestoreResult.OLDER):
                on_item(item, report)

    with ThreadPoolExecutor(workers, thread_name_prefix="cloud-archive-restore") as pool:
        under_way: set[Future[list[Item]]] = set()
        try:
            for group, rows in run.groups(ledger):
                under_way.add(pool.submit(run.bring, group, rows))
                if len(under_way) >= workers * 4:
                    finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in finished:
                        done(future.result())
            for future in list(under_way):
                done(future.result())
        except BaseException:
            placer.stopping.set()
            for future in under_way:
                future.cancel()
            raise
    report.skipped += run.unwanted
    return report


@dataclass(slots=True)
class _Restore:
    """One run. `groups` is for the caller's thread, `bring` for any."""

    store: ObjectStore
    scope: KeyScope
    placer: FilePlacer
    wanted: Wanted
    spec: GitIgnoreSpec | None
    all_versions: bool
    dry_run: bool
    target: Path
    unwanted: int = 0

    # --- which objects

    def groups(
        self, ledger: Ledger | None
    ) -> Iterator[tuple[list[ObjectInfo], Mapping[str, Sequence[FileRow]]]]:
        """Objects to be looked at together, with what the ledger knows of them: most are alone."""
        families = {family_key(info.key) for info in self._listed() if has_number(info.key)}
        together: dict[str, list[ObjectInfo]] = {}
        for info in self._listed():
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
            # A slash at the end is the mark that consoles write for a folder.
            if self.scope.holds(info.key) and not info.key.endswith("/"):
                yield info

    def _may_be_wanted(self, info: ObjectInfo) -> bool:
        """What the listing alone can tell; of a name with `%` only the metadata tells the path."""
        path = info.key[len(self.scope.head) :]
        if self.spec is not None and "%" not in path and not self.spec.match_file(path):
            return False
        since, written = self.wanted.since, info.last_modified
        return since is None or written is None or written.timestamp() + CLOCK_SLACK_SECONDS >= since

    def _is_wanted(self, version: Version) -> bool:
        wanted, info = self.wanted, version.info
        if self.spec is not None and not self.spec.match_file(version.path):
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

    # --- bringing them

    def bring(self, group: Sequence[ObjectInfo], rows: Mapping[str, Sequence[FileRow]]) -> list[Item]:
        """The newest wanted version of each path in the group, then, if asked for, the others."""
        items: list[Item] = []
        versions: list[Version] = []
        for info in group:
            seen = self._attempt(info, lambda info=info: self._version(info, rows))  # type: ignore[misc]
            if isinstance(seen, Item):
                items.append(seen)
            elif self._is_wanted(seen):
                versions.append(seen)
            else:
                items.append(Item(info.key, RestoreResult.SKIPPED))
        by_path = newest_first(versions)
        taken: set[str] = set()
        items += [self._bring(found[0], taken, beside=False) for found in by_path]
        for version in (older for found in by_path for older in found[1:]):
            items.append(
                self._bring(version, taken, beside=True)
                if self.all_versions
                else Item(version.info.key, RestoreResult.OLDER)
            )
        return items

    def _version(self, info: ObjectInfo, rows: Mapping[str, Sequence[FileRow]]) -> Version | Item:
        seen = with_retries(lambda: self.store.head(info.key))
        if seen is None:
            return Item(info.key, RestoreResult.FAILED, cause="It was deleted meanwhile.")
        return version_of(seen, self.scope.head, rows.get(info.key, ()))

    def _bring(self, version: Version, taken: set[str], *, beside: bool) -> Item:
        info = version.info

        def place() -> Item:
            if self.dry_run:
                placed = self.placer.plan(version, beside=beside, taken=taken)
            else:
                placed = self.placer.bring(version, beside=beside)
            return Item(
                info.key,
                RestoreResult.RESTORED if placed.is_new else RestoreResult.ALREADY,
                info.size_bytes,
                placed.path,
                proven=placed.proven,
                renamed=placed.renamed and not beside,
                is_guess=version.is_guess,
                cause=GUESSED if version.is_guess else "",
            )

        found = self._attempt(info, place)
        assert isinstance(found, Item)
        return found

    def _attempt(self, info: ObjectInfo, work: Callable[[], Version | Item]) -> Version | Item:
        """Do this for one object; only a full disk and a store that is away end the whole run."""
        if self.placer.stopping.is_set():
            return Item(info.key, RestoreResult.SKIPPED)
        try:
            return work()
        except StoreError as error:
            cause = str(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                raise CloudArchiveError(
                    f"The disk of {self.target} is full. What came is kept: free some space and run it again."
                ) from error
            cause = f"{error.strerror or error}."
        except (CloudArchiveError, KeyRejected, ValueError) as error:
            cause = str(error)
        return Item(info.key, RestoreResult.FAILED, info.size_bytes, cause=cause)
