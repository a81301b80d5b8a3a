"""Retry files that were given up: those that are gone by now, and those whose cause may be over."""

from __future__ import annotations

from pathlib import Path

from ..beneath import stat_file
from ..ledger.ledger import Ledger
from ..store.failures import with_synonyms
from .gate import backoff_seconds

FEW_FILES = 100
FIRST_ROUND_SECONDS = 60.0
LONGEST_ROUND_SECONDS = 3600.0

_PAGE_ROWS = 500
# Only a user can cure these: the file must be renamed or become smaller.
_OWN_FAULTS = with_synonyms("KeyTooLongError", "EntityTooLarge", "EntityTooSmall") | {"KeyRejected"}


class GivenUpRetries:
    """Finds out now and then whether a cause for which files were given up is over. For one thread.

    In each round the smallest file of each cause is tried. Only if the store accepts it, the others of that cause are
    tried too, once. The pauses between two rounds double up to an hour. So a store that refuses for good gets a few
    requests an hour, however many files wait, and nobody has to press Retry after the cause is over.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._tried: dict[int, str] = {}  # the rows of the last round, and the codes of their failures
        self._rounds = 0
        self._next_round: float | None = None  # monotonic; None: no file was given up

    def run_once(self, now: float) -> bool:
        """Begin a round if it is time for one. Return whether any file is to be tried now.

        Call it every few seconds while the store is not known to refuse everything. `now`: monotonic seconds.
        LedgerError: the ledger can't be read or written.
        """
        totals = self._ledger.totals()
        if not totals.open.files:
            self._tried, self._rounds, self._next_round = {}, 0, None
            return False
        over = {self._tried.pop(row) for row in self._ledger.archived_among(self._tried)}
        retried = sum(self._ledger.retry_given_up(code) for code in sorted(over))
        if not totals.given_up_files:
            return retried > 0
        if self._next_round is None:
            self._next_round = now + self._pause()
        elif now >= self._next_round:
            self._tried = self._ledger.given_up_samples(but=_OWN_FAULTS)
            retried += self._ledger.retry_rows(list(self._tried))
            self._rounds += 1
            self._next_round = now + self._pause()
        return retried > 0

    def _pause(self) -> float:
        return backoff_seconds(self._rounds + 1, first=FIRST_ROUND_SECONDS, longest=LONGEST_ROUND_SECONDS)


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
    except OSError as error:  # any other error proves nothing
        return isinstance(error, (FileNotFoundError, NotADirectoryError))
    return False
