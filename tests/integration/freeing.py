"""Free local disk of an archive, as one pass of the engine does."""

from __future__ import annotations

import time

from cloud_archive.intake.open_files import has_writer
from cloud_archive.maintenance.free import FreeReport, Limits, LocalCleaner
from tests.integration.archives import HOUR, Archive

DAY = 24 * HOUR


def free_files(
    archive: Archive, limits: Limits | None = None, *, dry_run: bool = False, free_bytes: int = 10**12
) -> FreeReport:
    with archive.ledger() as ledger, archive.store() as store:
        cleaner = LocalCleaner(
            ledger,
            store,
            archive.root,
            limits or Limits(older_than_seconds=DAY),
            has_writer=has_writer,
            clock=time.time,
            free_bytes=lambda root: free_bytes,
        )
        return cleaner.run_once(dry_run=dry_run)


def backdate_archiving(archive: Archive, seconds: float) -> None:
    """Move the time of archiving of every row back by `seconds`."""
    with archive.ledger() as ledger:
        ledger.change(lambda db: db.execute("UPDATE files SET archived_at = archived_at - ?", (seconds,)))


def local_names(archive: Archive) -> list[str]:
    """Return the names of the local files. It reads no file, since a file may be removed meanwhile."""
    return sorted(
        path.relative_to(archive.root).as_posix() for path in archive.root.rglob("*") if path.is_file()
    )
