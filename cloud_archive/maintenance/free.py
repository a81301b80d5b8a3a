"""Free local disk: remove files that are archived and were just proven to be in the bucket, the oldest first.

A file goes only where all of this holds, in this order:

1. its row says archived, and the file on the disk has that version's size and modification time;
2. it is older than an hour and than the age that was asked for: see `Limits`;
3. no process has it open for writing, as far as the system can tell;
4. at this moment the bucket answers a HEAD that proves the object: see `evidence.confirmed_now`;
5. the local bytes, hashed now, are the archived ones;
6. right before it goes, nothing about the file has changed since it was hashed.

Nothing goes, and nothing is noted as gone, while the directory is not the one whose files the ledger knows.

A process that is killed in between has removed nothing that the bucket does not hold. What was removed and not yet
noted is noted by the next run, which finds it gone. No symbolic link below the watched directory is followed, and no
directory is removed.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..beneath import open_folder
from ..errors import FailureScope, FileProblem, FileUnreadable, FileVanished, StoreError
from ..files import FileVersion, hash_file, stat_version
from ..ledger.history import mark_freed, oldest_local_files
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..store.base import ObjectStore
from ..store.evidence import confirmed_now

logger = logging.getLogger("cloud_archive.free")

YOUNGEST_SECONDS = 3600.0
PAGE = 200
DOUBT_SECONDS = 3600.0  # how long a row that could not be proven is left alone
MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What to free. Both None frees nothing; with both, a file goes for either reason.

    Attributes:
        older_than_seconds: files older than this, by their modification time and, where `restore` brought them
            back, by that time; at least an hour counts.
        min_free_bytes: the oldest files until so much of the disk is free.
        age_from_archiving: the age begins no earlier than the archiving. For limits that apply by themselves: an
            old file that was just copied in must not go at once.
    """

    older_than_seconds: float | None = None
    min_free_bytes: int | None = None
    age_from_archiving: bool = False

    @property
    def off(self) -> bool:
        """Nothing is asked for."""
        return self.older_than_seconds is None and self.min_free_bytes is None


@dataclass(frozen=True, slots=True)
class Freed:
    """One file that was (or, in a dry run, would be) removed."""

    path: str
    size_bytes: int
    key: str

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {"path": self.path, "size_bytes": self.size_bytes, "s3_key": self.key}


@dataclass(slots=True)
class FreeReport:
    """What one run did.

    Attributes:
        unproven: files that stay because the bucket does not hold them as it should, with their keys.
        kept: files that stay because somebody writes to them, their bytes are not the archived ones, or the
            system refuses.
        gone: rows whose file was removed or replaced by somebody else.
    """

    dry_run: bool = False
    freed: int = 0
    freed_bytes: int = 0
    kept: int = 0
    gone: int = 0
    unproven: list[str] = field(default_factory=list)
    files: list[Freed] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "dry_run": self.dry_run,
            "freed": self.freed,
            "freed_bytes": self.freed_bytes,
            "kept": self.kept,
            "unproven": self.unproven,
            "files": [one.to_json() for one in self.files],
        }


class LocalCleaner:
    """Frees the disk of one watched directory, run by run; remembers what could not be proven.

    Args:
        root: the watched directory.
        limits: what to free.
        has_writer: whether somebody has a file open for writing; None = the system cannot tell.
        clock: seconds since 1970.
        free_bytes: of the disk that holds `root`.
        on_freed: told of each file that went.
        check_root: raises RootReplaced where `root` is not the directory whose files the ledger knows.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: ObjectStore,
        root: Path,
        limits: Limits,
        *,
        has_writer: Callable[[Path, str], bool | None],
        clock: Callable[[], float],
        free_bytes: Callable[[Path], int] = lambda root: shutil.disk_usage(root).free,
        on_freed: Callable[[Freed], None] = lambda freed: None,
        check_root: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._store, self._root, self._limits = ledger, store, root, limits
        self._has_writer, self._clock, self._free_bytes = has_writer, clock, free_bytes
        self._on_freed = on_freed
        self._check_root = check_root
        self._doubtful: dict[int, float] = {}
        self._nothing_due_before = 0.0

    def run_once(self, stop: threading.Event | None = None, *, dry_run: bool = False) -> FreeReport:
        """Free what the limits ask for.

        Args:
            stop: ends the run after the file at hand.
            dry_run: prove and list, remove nothing.

        Raises:
            StoreError: the store is away or refuses all looks; what was not proven stays.
            LedgerError: the ledger cannot be read or written.
            OSError: the directory is not there.
            RootReplaced: it is not the known one; nothing is removed or noted.
        """
        report = FreeReport(dry_run=dry_run)
        now = self._clock()
        missing = 0 if self._limits.off else self._missing_bytes()
        if self._limits.off or (not missing and now < self._nothing_due_before):
            return report
        self._check_root()
        # What is archived from now on is not due before this.
        next_due = now + self._age_seconds if self._limits.age_from_archiving else now
        for row in self._candidates(now):
            if stop is not None and stop.is_set():
                return report
            due = self._due(row)
            if due > now and missing <= report.freed_bytes:
                next_due = min(next_due, due)
                if row.version.mtime_ns / 1e9 + self._age_seconds > now:
                    break  # the rest is younger still
                continue
            next_due = now
            if self._doubtful.get(row.row, 0.0) > now:
                report.unproven.append(row.version.path)  # asked not long ago
            else:
                self._consider(row, report)
        self._nothing_due_before = next_due
        return report

    def _missing_bytes(self) -> int:
        """How much more of the disk must be free."""
        least = self._limits.min_free_bytes
        return 0 if least is None else max(0, least - self._free_bytes(self._root))

    def _candidates(self, now: float) -> Iterator[FileRow]:
        before_ns = int((now - YOUNGEST_SECONDS) * 1e9)
        after = (-(1 << 62), 0)
        while True:
            rows = oldest_local_files(self._ledger, before_ns=before_ns, after=after, limit=PAGE)
            for row in rows:
                back = row.restored_at
                if back is None or back <= now - YOUNGEST_SECONDS:
                    yield row
            if len(rows) < PAGE:
                return
            after = (rows[-1].version.mtime_ns, rows[-1].row)

    @property
    def _age_seconds(self) -> float:
        """The age at which a file is removed, whatever room there is."""
        age = self._limits.older_than_seconds
        return math.inf if age is None else max(age, YOUNGEST_SECONDS)

    def _due(self, row: FileRow) -> float:
        """When the file reaches that age, in seconds since 1970."""
        since = max(row.version.mtime_ns / 1e9, row.restored_at or 0.0)
        if self._limits.age_from_archiving:
            since = max(since, row.archived_at or 0.0)
        return since + self._age_seconds

    def _consider(self, row: FileRow, report: FreeReport) -> None:
        path = row.version.path
        try:
            seen = stat_version(self._root, path)
        except FileVanished:
            seen = None
        except FileUnreadable:
            report.kept += 1
            return
        if seen is None or not seen.has_same_size_and_mtime(row.version):
            self._check_root()  # again: a volume may have been unmounted a moment ago
            report.gone += 1
            if not report.dry_run:
                mark_freed(self._ledger, [row.row])
            return
        if self._has_writer(self._root, path):
            report.kept += 1
            return
        if not self._is_proven(row):
            self._doubtful[row.row] = self._clock() + DOUBT_SECONDS
            report.unproven.append(path)
            logger.warning(
                "%s stays: the bucket does not hold it as %s any more. Run `cloud-archive verify --repair`.",
                path,
                row.key,
            )
            return
        try:
            hashed = hash_file(self._root, path)
            if hashed is None:
                cause = "it changed while it was hashed."
            elif hashed[1] != row.sha256:
                cause = "its bytes are not those that were archived."
            else:
                cause = "" if report.dry_run else self._remove(row, hashed[0])
        except (FileProblem, OSError) as error:
            cause = f"{getattr(error, 'strerror', None) or error}."
        if cause:
            logger.warning("%s stays: %s", path, cause)
            report.kept += 1
            return
        self._note(row, report)

    def _is_proven(self, row: FileRow) -> bool:
        try:
            return confirmed_now(row, self._store)
        except StoreError as error:
            if error.failure.scope is FailureScope.STORE or error.status is None:
                raise
            return False

    def _remove(self, row: FileRow, hashed: FileVersion) -> str:
        """Remove the file that was hashed. Returns why it stays, or an empty text."""
        path = row.version.path
        if self._has_writer(self._root, path):
            return "it is being written to."
        above, _, name = path.rpartition("/")
        # Opened anew: the folder may have been moved elsewhere while a large file was hashed.
        with open_folder(self._root, above) as folder:
            now = FileVersion.of_stat(path, folder.stat(name))
            if now != hashed:
                return "it changed while it was hashed."
            folder.unlink(name)
        mark_freed(self._ledger, [row.row])
        logger.info("Removed %s here: it is in the bucket as %s", path, row.key)
        return ""

    def _note(self, row: FileRow, report: FreeReport) -> None:
        freed = Freed(row.version.path, row.version.size_bytes, row.key or "")
        report.freed += 1
        report.freed_bytes += freed.size_bytes
        if len(report.files) < MOST_KEPT:
            report.files.append(freed)
        if not report.dry_run:
            self._on_freed(freed)
