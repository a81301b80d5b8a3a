"""Find files that were given up and are gone by now, since no attempt would find that out."""

from __future__ import annotations

from pathlib import Path

from ..beneath import stat_file
from ..ledger.ledger import Ledger

FEW_FILES = 100

_PAGE_ROWS = 500


def retry_gone_files(ledger: Ledger, root: Path, *, only_if_few: bool = False) -> int:
    """Retry the given-up versions whose file is gone: the attempt records that. Return how many there were.

    `only_if_few`: do nothing if more than `FEW_FILES` are still to be archived. LedgerError: the ledger can't be read
    or written.
    """
    totals = ledger.totals()
    if not totals.given_up_files or (only_if_few and totals.open.files > FEW_FILES):
        return 0  # the next query takes as long as the backlog is
    gone, before = list[int](), None
    while page := ledger.rows(retried=False, limit=_PAGE_ROWS, before=before):
        gone += [row.row for row in page if _is_gone(root, row.version.path)]
        before = page[-1].row
    return ledger.retry_rows(gone) if gone else 0


def _is_gone(root: Path, path: str) -> bool:
    try:
        stat_file(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass  # not known
    return False
