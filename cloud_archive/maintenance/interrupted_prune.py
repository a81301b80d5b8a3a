"""Finish a `prune` that was killed: find out which of its objects are gone, and record that.

`prune` commits each deletion to the ledger before its request (`ledger.deletions`). A killed `prune` leaves some there,
and each of their objects is looked up. If the object holds the bytes of its rows, these count as archived again. If it
is gone, they stay pruned, and its deletion is recorded in the bucket's catalog.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

from ..errors import StoreError
from ..executor import unawaited_threads
from ..ledger.deletions import (
    Deletion,
    are_deletions_at,
    forget_deletions,
    has_deletions,
    unblock_keys,
    undo_deletions,
    unfinished_deletions,
)
from ..ledger.ledger import Ledger
from ..state import prune_lock
from ..store.base import ObjectStore
from ..store.evidence import Expected, Verdict, check_object

# A request that a killed process has sent may still delete the object, but hardly after this time.
PENDING_SECONDS = 60.0
_PAGE = 1000  # as many as one segment of the catalog holds
_PARALLEL = 8


def finish_interrupted_prune(
    ledger: Ledger,
    store: ObjectStore,
    record: Callable[[Mapping[str, float]], None],
    *,
    destination: str,
    stopped: Callable[[], bool] = lambda: False,
    holds_lock: bool = False,
) -> bool:
    """Finish the deletions of an earlier `prune`. No-op while another process holds `prune_lock`.

    It leaves deletions that are younger than `PENDING_SECONDS`, those at another destination, and those whose objects
    the store refuses to look up. Only the young ones keep files from being archived at their keys.

    Args:
        record: called with the key of each object that is gone, and when its deletion was requested, in seconds since
            1970; records that in the bucket's catalog.
        destination: of the store; see `Settings.destination`.
        stopped: called between pages; True ends it early.
        holds_lock: the caller holds `prune_lock`. Default: take it.

    Returns:
        False if the store refused to say whether an object is there.

    Raises:
        StoreError: the store does not answer, or `record` could not write. What is recorded so far stays recorded.
        LedgerError: the ledger can't be read or written.
    """
    if not has_deletions(ledger):
        return True
    file = ledger.path or ledger.saved_as
    with nullcontext(True) if holds_lock or file is None else prune_lock(file.parent) as held:
        return not held or _finish(ledger, store, record, destination, stopped)


def _finish(
    ledger: Ledger,
    store: ObjectStore,
    record: Callable[[Mapping[str, float]], None],
    destination: str,
    stopped: Callable[[], bool],
) -> bool:
    before, last, allowed = ledger.clock() - PENDING_SECONDS, "", True
    unblock_keys(ledger, before)
    if not are_deletions_at(ledger, destination):
        return True
    with unawaited_threads(_PARALLEL, "cloud-archive-prune") as pool:
        while not stopped() and (
            page := unfinished_deletions(ledger, before=before, after_key=last, limit=_PAGE)
        ):
            last = page[-1].key
            keys: dict[Verdict, dict[str, float]] = {verdict: {} for verdict in Verdict}
            for one, found in zip(page, pool.map(lambda one: _look_up(store, one), page), strict=True):
                keys[found][one.key] = one.requested_at
            undo_deletions(ledger, keys[Verdict.SAME])
            # Other bytes are another writer's object, so the rows stay pruned.
            forget_deletions(ledger, keys[Verdict.DIFFERENT])
            if gone := keys[Verdict.MISSING]:
                record(gone)
                forget_deletions(ledger, gone)
            allowed &= not keys[Verdict.UNDECIDED]
            if len(keys[Verdict.UNDECIDED]) == len(page):
                break  # it refuses for the others, too
    return allowed


def _look_up(store: ObjectStore, deletion: Deletion) -> Verdict:
    """Return whether the object is there, with the bytes of its rows; UNDECIDED if the store refuses to say so.

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
