"""Free local disk: remove archived files, the oldest first, right after proving that the bucket holds them.

A file is removed only if all of this holds, checked in this order:

1. Its row says archived, and a limit asks for that version (see `Limits`).
2. The file has that version's size and modification time.
3. No process has it open for writing, as far as the system can tell.
4. The local bytes, hashed now, are the archived ones.
5. The bucket holds these bytes now (see `evidence.confirmed_now`): checked after the hashing, which takes minutes for a
   large file.
6. Right before the removal, the row still says archived (`prune` marks rows before it deletes objects), and the file
   has not changed since it was hashed.

Nothing is removed or recorded while the directory is not the one whose files the ledger knows. If the process is
killed after a removal, the next run finds the file gone and records it. No symbolic link below the watched directory is
followed.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..beneath import open_folder
from ..errors import FailureScope, FileUnreadable, FileVanished, StoreError
from ..files import FileVersion, hash_file, stat_version
from ..ledger.history import mark_freed, newest_archived, oldest_local_files
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow
from ..store.base import ObjectStore
from ..store.evidence import confirmed_now, head_if_allowed
from ..store.failures import is_denied
from .retry import with_retries

if TYPE_CHECKING:
    from ..config.settings import Settings

logger = logging.getLogger("cloud_archive.free")

YOUNGEST_SECONDS = 3600.0
PAGE_ROWS = 200
RECHECK_SECONDS = 3600.0  # until a file that could not be proven or removed is hashed again
MAX_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What to free. With both limits, either one is enough to remove a file.

    Attributes:
        older_than_seconds: remove files older than this, counted from the modification time, or from the restore if
            that was later.
        min_free_bytes: remove the oldest files until this much of the disk is free, but none younger than an hour,
            unless `older_than_seconds` is less.
        age_from_archiving: count the age from the archiving, if that was later, so that an old file that was just
            copied in is not removed at once.
    """

    older_than_seconds: float | None = None
    min_free_bytes: int | None = None
    age_from_archiving: bool = False

    @classmethod
    def of_settings(cls, settings: Settings) -> Limits:
        """Return the limits of automatic freeing."""
        return cls(settings.delete_local_after_seconds, settings.min_free_disk_bytes, age_from_archiving=True)

    @property
    def youngest_seconds(self) -> float:
        """How long every file stays."""
        age = self.older_than_seconds
        return YOUNGEST_SECONDS if age is None else min(age, YOUNGEST_SECONDS)

    @property
    def is_off(self) -> bool:
        return self.older_than_seconds is None and self.min_free_bytes is None


@dataclass(frozen=True, slots=True)
class FreedFile:
    """A file that was removed (in a dry run: would be)."""

    path: str
    size_bytes: int
    key: str

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "size_bytes": self.size_bytes, "s3_key": self.key}


@dataclass(slots=True)
class FreeReport:
    """The result of one run.

    Attributes:
        unproven: paths of files that stay because the bucket could not be shown to hold their bytes.
        kept: how many files stay because a process writes to them, they changed, or the system refuses.
        refused: the path of each file that the system does not let this user read or remove, and its message.
        gone: how many rows have a file that was removed or replaced by another program.
    """

    dry_run: bool = False
    freed: int = 0
    freed_bytes: int = 0
    kept: int = 0
    gone: int = 0
    unproven: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    files: list[FreedFile] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "freed": self.freed,
            "freed_bytes": self.freed_bytes,
            "kept": self.kept,
            "unproven": self.unproven,
            "refused": [{"path": path, "cause": cause} for path, cause in self.refused],
            "files": [file.to_json() for file in self.files],
        }


class LocalCleaner:
    """Free the disk of one watched directory. Files that could not be proven or removed wait `RECHECK_SECONDS`.

    Args:
        has_writer: whether a process has a file open for writing; None = the system can't tell.
        clock: seconds since 1970.
        free_bytes: returns the free space of the disk that holds `root`.
        on_freed: called with each file that was removed.
        check_root: raises RootReplaced if `root` is not the directory whose files the ledger knows.
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
        on_freed: Callable[[FreedFile], None] = lambda freed: None,
        check_root: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._store, self._root, self._limits = ledger, store, root, limits
        self._has_writer, self._clock, self._free_bytes = has_writer, clock, free_bytes
        self._on_freed = on_freed
        self._check_root = check_root
        # Row and archived at: until when it stays.
        self._doubtful: dict[tuple[int, float | None], float] = {}
        self._kept: dict[tuple[int, float | None], float] = {}
        self._nothing_due_before = 0.0

    def run_once(self, stop: threading.Event | None = None, *, dry_run: bool = False) -> FreeReport:
        """Free what the limits allow, once.

        Args:
            stop: set it to end the run after the current file.
            dry_run: prove and list, but remove nothing.

        Raises:
            StoreError: the store does not answer, or refuses for a cause that concerns other objects too.
            LedgerError: the ledger can't be read or written.
            OSError: the free space can't be read, for example because the directory is missing.
            RootReplaced: the directory is not, or no longer, the known one.
        """
        report = FreeReport(dry_run=dry_run)
        now = self._clock()
        wanted_bytes = 0 if self._limits.is_off else self._bytes_to_free()
        if self._limits.is_off or (not wanted_bytes and now < self._nothing_due_before):
            return report
        self._check_root()
        # A file that is no candidate yet was written or restored within `youngest_seconds`, or will be archived later.
        # So it is not due before this.
        age = self._age_seconds
        next_due = now - self._limits.youngest_seconds + age if self._limits.age_from_archiving else now
        for row in self._candidates(now):
            if stop is not None and stop.is_set():
                return report
            due = self._due(row)
            if due > now and wanted_bytes <= report.freed_bytes:
                earliest = row.version.mtime_ns / 1e9 + self._age_seconds
                if earliest > now:
                    next_due = min(next_due, earliest)  # the other files are younger, so none is due before
                    break
                next_due = min(next_due, due)
                continue
            next_due = now
            if self._doubtful.get((row.row, row.archived_at), 0.0) > now:
                report.unproven.append(row.version.path)  # checked recently
            elif self._kept.get((row.row, row.archived_at), 0.0) > now:
                report.kept += 1
            else:
                self._free_if_proven(row, report, stop or threading.Event())
        self._nothing_due_before = next_due
        return report

    def _bytes_to_free(self) -> int:
        """Return how many bytes the limit on free space still lacks."""
        limit = self._limits.min_free_bytes
        return 0 if limit is None else max(0, limit - self._free_bytes(self._root))

    def _candidates(self, now: float) -> Iterator[FileRow]:
        before = now - self._limits.youngest_seconds
        after = (-(1 << 62), 0)
        while True:
            rows = oldest_local_files(self._ledger, before_ns=int(before * 1e9), after=after, limit=PAGE_ROWS)
            for row in rows:
                restored_at = row.restored_at
                if restored_at is None or restored_at <= before:
                    yield row
            if len(rows) < PAGE_ROWS:
                return
            after = (rows[-1].version.mtime_ns, rows[-1].row)

    @property
    def _age_seconds(self) -> float:
        """The age at which a file is removed even if there is enough space."""
        age = self._limits.older_than_seconds
        return math.inf if age is None else age

    def _due(self, row: FileRow) -> float:
        """Return when the file reaches that age, in seconds since 1970."""
        since = max(row.version.mtime_ns / 1e9, row.restored_at or 0.0)
        if self._limits.age_from_archiving:
            since = max(since, row.archived_at or 0.0)
        return since + self._age_seconds

    def _free_if_proven(self, row: FileRow, report: FreeReport, stop: threading.Event) -> None:
        path = row.version.path
        try:
            current = stat_version(self._root, path)
        except FileVanished:
            current = None
        except FileUnreadable as error:
            report.kept += 1
            report.refused.append((path, error.reason))
            return
        if current is None or not current.has_same_size_and_mtime(row.version):
            self._note_gone(row, report)
            return
        if self._has_writer(self._root, path):
            report.kept += 1
            return
        try:
            hashed = hash_file(self._root, path)
            if hashed is None:
                cause = "it changed while it was hashed."
            elif hashed[1] != row.sha256:
                cause = "its bytes are not those that were archived."
                self._kept[row.row, row.archived_at] = self._clock() + RECHECK_SECONDS
            elif not self._is_proven(row, stop):
                self._doubtful[row.row, row.archived_at] = self._clock() + RECHECK_SECONDS
                report.unproven.append(path)
                logger.warning(
                    "%s stays: it is not proven that the bucket holds it as %s. Run `cloud-archive verify --repair`.",
                    path,
                    row.key,
                )
                return
            else:
                cause = "" if report.dry_run else self._remove(row, hashed[0])
        except (FileVanished, FileNotFoundError, NotADirectoryError):
            self._note_gone(row, report)
            return
        except (FileUnreadable, OSError) as error:
            message = error.reason if isinstance(error, FileUnreadable) else error.strerror or str(error)
            report.refused.append((path, message))
            self._kept[row.row, row.archived_at] = self._clock() + RECHECK_SECONDS
            cause = f"{message}."
        if cause:
            logger.warning("%s stays: %s", path, cause)
            report.kept += 1
            return
        self._record(row, report)

    def _note_gone(self, row: FileRow, report: FreeReport) -> None:
        self._check_root()  # again, because the volume may just have been unmounted
        report.gone += 1
        if not report.dry_run:
            mark_freed(self._ledger, [row.row])

    def _is_proven(self, row: FileRow, stop: threading.Event) -> bool:
        try:
            return with_retries(lambda: confirmed_now(row, self._store), pause=stop.wait)
        except StoreError as error:
            # Without s3:ListBucket, AWS denies the HEAD of a missing object. A firewall may answer for one name only.
            may_concern_one = is_denied(error) or error.failure.code in ("NotS3", "ProxyRefused")
            if may_concern_one and self._may_head():
                return False
            if error.failure.scope is FailureScope.STORE or error.status is None:
                raise
            return False

    def _may_head(self) -> bool:
        """Return whether the store answers a HEAD of the object that was archived last."""
        return any(head_if_allowed(self._store, row.key or "")[0] for row in newest_archived(self._ledger, 1))

    def _remove(self, row: FileRow, hashed: FileVersion) -> str:
        """Remove the file that was hashed. Return why it stays; empty if it was removed."""
        path = row.version.path
        if self._has_writer(self._root, path):
            return "a program is writing to it."
        now_known = self._ledger.find(row.version)
        if now_known is None or (now_known.state, now_known.key) != (row.state, row.key):
            return "the ledger no longer counts it as archived there."
        parent, _, name = path.rpartition("/")
        # Open the folder again, because it may have been moved while a large file was hashed.
        with open_folder(self._root, parent) as folder:
            now = FileVersion.of_stat(path, folder.stat(name))
            if now != hashed:
                return "it changed while it was hashed."
            folder.unlink(name)
        mark_freed(self._ledger, [row.row])
        logger.info("Removed the local file %s; the bucket holds it as %s.", path, row.key)
        return ""

    def _record(self, row: FileRow, report: FreeReport) -> None:
        freed = FreedFile(row.version.path, row.version.size_bytes, row.key or "")
        report.freed += 1
        report.freed_bytes += freed.size_bytes
        if len(report.files) < MAX_LISTED:
            report.files.append(freed)
        if not report.dry_run:
            self._on_freed(freed)
