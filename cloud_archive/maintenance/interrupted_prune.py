"""Finish a `prune` that was killed: find out which of its objects are gone, and record that.

`prune` commits each deletion to the ledger before its request (`ledger.deletions`). What it leaves there when it is
killed is looked up object by object. If the object is there with the bytes of its rows, they count as archived again.
If it is gone, they stay pruned, and the bucket's catalog gets to know it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import StoreError
from ..executor import unawaited_threads
from ..ledger.deletions import (
    Deletion,
    forget_deletions,
    has_deletions,
    undo_deletions,
    unfinished_deletions,
)
from ..ledger.ledger import Ledger
from ..state import prune_lock
from ..store.base import ObjectStore
from ..store.evidence import Expected, Verdict, check_object

# A request that a killed process has sent may still delete the object, but hardly after this time.
PENDING_SECONDS = 60.0
_PAGE = 100
_PARALLEL = 8


def finish_interrupted_prune(
    ledger: Ledger, store: ObjectStore, record: Callable[[Mapping[str, float]], None]
) -> bool:
    """Finish the deletions of an earlier `prune`, and return whether none is left. No-op while a `prune` runs.

    Deletions younger than `PENDING_SECONDS` are left, and those whose objects the store does not let us look up.

    Args:
        record: called with the key of each object that is gone, and when its deletion was requested, in seconds since
            1970; records that in the bucket's catalog.

    Raises:
        StoreError: the store does not answer, or `record` could not write. What is recorded so far stays recorded.
        LedgerError: the ledger can't be read or written.
    """
    if ledger.path is None or not has_deletions(ledger):
        return True
    with prune_lock(ledger.path.parent) as held:
        if held:
            finish_own_prune(ledger, store, record)
    return not has_deletions(ledger)


def finish_own_prune(
    ledger: Ledger, store: ObjectStore, record: Callable[[Mapping[str, float]], None]
) -> None:
    """As `finish_interrupted_prune`, for a caller that holds the lock."""
    before, last = ledger.clock() - PENDING_SECONDS, ""
    with unawaited_threads(_PARALLEL, "cloud-archive-prune") as pool:
        while page := unfinished_deletions(ledger, before=before, after_key=last, limit=_PAGE):
            last = page[-1].key
            verdicts = dict(zip(page, pool.map(lambda one: _look_up(store, one), page), strict=True))
            gone = {one.key: one.requested_at for one, found in verdicts.items() if found is Verdict.MISSING}
            if gone:
                record(gone)
            there = [one.key for one, found in verdicts.items() if found is Verdict.SAME]
            undo_deletions(ledger, there)
            # Other bytes are another writer's object, so the rows stay pruned.
            replaced = [one.key for one, found in verdicts.items() if found is Verdict.DIFFERENT]
            forget_deletions(ledger, [*gone, *replaced])


def _look_up(store: ObjectStore, deletion: Deletion) -> Verdict:
    """Return whether the object is there, with the bytes of its rows; UNDECIDED if the store denies to say so.

    Raises StoreError if it does not answer.
    """
    try:
        if not deletion.rows:
            return Verdict.MISSING if store.head(deletion.key) is None else Verdict.SAME
        verdict = Verdict.MISSING
        for expected in {Expected.of_row(row) for row in deletion.rows}:  # versions that replaced each other
            verdict = check_object(store, deletion.key, expected)
            if verdict is not Verdict.DIFFERENT:
                break
        return verdict
    except StoreError as error:
        if error.status is None or error.failure.transient:
            raise
        return Verdict.UNDECIDED
