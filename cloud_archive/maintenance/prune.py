"""Delete the objects that a plan names; see prune_plan.py.

Right before objects are deleted, HEADs compare their ETags, sizes and times with the plan, and the caller says which of
them are favourites. Changed objects and favourites stay.

Stores may answer wrongly about deletions, so the bucket is listed once afterwards. An object that is still there counts
as failed, and one that is gone as deleted, even if the store answered otherwise. If the store can't be asked, its
answers to the deletions count.

Each deletion is committed to the ledger before its request, and the rows of its object are marked as pruned. If the
store refuses the deletion, or if the object is found to be there, they count as archived again. So no row says archived
without its object. If the process is killed, `interrupted_prune` finds out what became of the objects.

An archive that runs at the same time may need a planned object: a file was written again with the same bytes, and the
archive counts the object as the proof of this version. Or `restore` recorded a file from it that the plan does not
know. Such an object stays. Once its deletion is committed, the archive begins no attempt with its key, and `restore`
records no file there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import CloudArchiveError, LedgerError, StoreError
from ..executor import CallTimeout, call_within, unawaited_threads
from ..ledger.deletions import begin_deletions, forget_deletions, rows_archived_since, undo_deletions
from ..ledger.history import archived_at_keys, mark_pruned, requeue_missing
from ..ledger.ledger import Ledger
from ..store.base import ObjectStore
from ..store.failures import is_denied
from .batched import batched
from .prune_plan import PARALLEL_HEADS, FindFavorites, PruneCandidate, PrunePlan, no_favorites
from .retry import with_retries

DELETE_BATCH = 100  # small, so that each deletion soon follows its comparison
CHANGED = "It was written or deleted since the plan was made, so it was left alone. Run prune again."
IN_USE = (
    "A file was archived there or restored from there since the plan was made, or is being archived there now, so it"
    " was left alone. Run prune again."
)
STILL_THERE = (
    "The store said that it deleted this object, but it is still there."
    " The access key may lack the right s3:DeleteObject."
)
FAVORITE = "It became a favourite after the plan was made, so it was left alone."
NO_ANSWER = "Prune was interrupted before the store answered, and the object is still there."
UNCHECKED = "The store did not answer, so the object may be deleted. Run `prune`, then `catalog rebuild`."
AWAY_BATCHES = 3  # the run ends after so many in a row for which the store was away or busy
INTERRUPTED_SECONDS = 2.0  # after Ctrl-C: for finding out what was deleted
DENIED = "The store denies deletion. Unlike archiving, prune needs the right s3:DeleteObject on this bucket and prefix."


@dataclass(slots=True)
class PruneReport:
    """What `prune` deleted.

    Attributes:
        deleted_at: the key of each deleted object, and when its deletion was requested, in seconds since 1970.
        failed: the key of each object that stays or may stay, and the cause.
        untried: how many objects were left because `prune` stopped early.
        recorded: the deletions are recorded outside the ledger; see `prune`.
        error: a LedgerError or Ctrl-C that ended it early or kept it from correcting the ledger's rows; raise it once
            the deletions are recorded.
    """

    deleted: int = 0
    deleted_bytes: int = 0
    deleted_at: dict[str, float] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    untried: int = 0
    recorded: bool = True
    error: LedgerError | KeyboardInterrupt | None = None


def prune(
    store: ObjectStore,
    ledger: Ledger | None,
    plan: PrunePlan,
    *,
    favorites: FindFavorites = no_favorites,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    record: Callable[[PruneReport], bool] = lambda report: True,
    clock: Callable[[], float] = time.time,
) -> PruneReport:
    """Delete the planned objects that have not changed, in batches.

    It stops after a batch of which the store denied every deletion, after `AWAY_BATCHES`, and before a batch whose
    favourites are unknown; also at a LedgerError and at Ctrl-C, which become `PruneReport.error`.

    Args:
        favorites: called for each batch right before it is deleted.
        on_progress: called with the number of objects done, and the total.
        record: called once with what was deleted, to record it outside the ledger; returns whether that was possible.
            If not, the ledger keeps the deletions for `interrupted_prune`.
        clock: seconds since 1970.
    """
    report = PruneReport()
    run = _Run(store, ledger, plan, favorites, on_progress, clock, report)
    run.nothing_deletes.set()
    if ledger is not None:
        run.archived = dict.fromkeys((one.key for one in plan.candidates), frozenset())
    try:
        with unawaited_threads(PARALLEL_HEADS, "cloud-archive-prune") as pool:
            run.delete_batches(pool)
    except (LedgerError, KeyboardInterrupt) as error:
        report.error = error
    answers = run.answers
    report.untried = len(plan.candidates) - len(report.failed) - len(answers)
    tried = [one for one in plan.candidates if one.key in answers]
    there = _find_remaining(run, tried) if tried else frozenset()
    for one in tried:
        answer = answers[one.key]
        if one.key in there:
            report.failed.append((one.key, STILL_THERE if answer is None else answer))
        else:
            report.deleted += 1
            report.deleted_bytes += one.size_bytes
            report.deleted_at[one.key] = run.requested_at[one.key]
    if tried and ledger is not None:
        try:
            _correct_rows(ledger, plan, tried, answers, there)
        except LedgerError as error:
            report.error = report.error or error
    report.recorded = record(report)
    if report.recorded and ledger is not None:
        try:
            forget_deletions(ledger, list(report.deleted_at))
        except LedgerError as error:
            report.error = report.error or error
    return report


@dataclass(slots=True)
class _Run:
    """One run.

    Attributes:
        answers: why the store did not delete an object, by key; None: it said that it did.
        requested_at: when each deletion was begun, by key.
        unsure: keys of objects that may be deleted, because the store did not answer or failed.
        nothing_deletes: unset while a request that deletes is under way. Ctrl-C does not end that request.
        archived: by planned key: the rows that were archived or restored since the plan was made, until
            `archived_until` in seconds since 1970. Each batch continues to read there, because reading all of them each
            time would take too long.
    """

    store: ObjectStore
    ledger: Ledger | None
    plan: PrunePlan
    favorites: FindFavorites
    on_progress: Callable[[int, int], None]
    clock: Callable[[], float]
    report: PruneReport
    answers: dict[str, str | None] = field(default_factory=dict)
    requested_at: dict[str, float] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    nothing_deletes: threading.Event = field(default_factory=threading.Event)
    archived: dict[str, frozenset[int]] = field(default_factory=dict)
    archived_until: float | None = None

    def delete_batches(self, pool: Executor) -> None:
        """Delete the objects that may go. LedgerError: the ledger can't be read or written."""
        report, total, away = self.report, len(self.plan.candidates), 0
        for batch in batched(self.plan.candidates, DELETE_BATCH):
            changes = list(pool.map(lambda one: _find_change(self.store, one), batch))
            is_away = all(isinstance(one, StoreError) and one.failure.transient for one in changes)
            away = away + 1 if is_away else 0
            try:
                kept = self.favorites([one.key for one in batch])
            except CloudArchiveError as error:
                report.failed += [(one.key, f"Not deleted: {error}") for one in batch]
                return
            unchanged = []
            for one, change in zip(batch, changes, strict=True):
                if one.key in kept:
                    report.failed.append((one.key, FAVORITE))
                elif isinstance(change, StoreError):
                    report.failed.append((one.key, f"It could not be compared with the plan: {change}"))
                elif change:
                    report.failed.append((one.key, change))
                else:
                    unchanged.append(one)
            denied = self._delete(pool, unchanged)
            self.on_progress(len(report.failed) + len(self.answers), total)
            if denied or away == AWAY_BATCHES:
                return

    def _delete(self, pool: Executor, planned: Sequence[PruneCandidate]) -> bool:
        """Delete a batch, and add the store's answers. Return whether the store denied every deletion.

        Objects that an archive needs stay.
        """
        keys = [one.key for one in planned]
        self.answers |= dict.fromkeys(keys, NO_ANSWER)
        self.requested_at |= dict.fromkeys(keys, self.clock())
        for key in (in_use := self._begin(planned)):
            del self.answers[key]
            self.report.failed.append((key, IN_USE))
        keys = [key for key in keys if key not in in_use]
        self.unsure.update(keys)
        refused: list[str] = []
        denied = 0
        answered: list[tuple[str, StoreError | None]] = []
        interrupted = threading.Event()

        def delete() -> None:
            try:
                for answer in self.store.delete(keys):
                    answered.append(answer)
                    if interrupted.is_set():
                        return
            finally:
                self.nothing_deletes.set()

        try:
            self.nothing_deletes.clear()
            pool.submit(delete).result()
        finally:
            interrupted.set()
            for key, error in list(answered):
                self.answers[key] = None if error is None else DENIED if is_denied(error) else str(error)
                if error is not None and error.failure.transient:
                    continue
                self.unsure.discard(key)
                if error is not None:
                    refused.append(key)
                    denied += is_denied(error)
            if self.ledger is not None and refused:
                undo_deletions(self.ledger, refused)
        return bool(keys) and denied == len(keys)

    def _begin(self, planned: Sequence[PruneCandidate]) -> Set[str]:
        """Commit that these objects are about to be deleted. Return the keys of those that an archive needs."""
        if self.ledger is None or not planned:
            return frozenset()
        rows = {one.key: one.rows for one in planned}
        try:
            since, self.archived_until = self.archived_until or self.plan.made_at, self.ledger.clock()
            for row, key in rows_archived_since(self.ledger, since):
                if key in self.archived:
                    self.archived[key] |= {row}
            needed = {key for key in rows if self.archived[key] - {row.row for row in rows[key]}}
            free = {key: rows[key] for key in rows if key not in needed}
            since = max(self.plan.made_at, self.archived_until)
            return needed | begin_deletions(self.ledger, free, since=since)
        except LedgerError:
            for key in rows:
                del self.answers[key]
            raise


def _find_remaining(run: _Run, tried: Sequence[PruneCandidate]) -> Set[str]:
    """Return the keys of the objects that the bucket still holds, or may hold.

    If the store does not say whether it holds one, its answer to the deletion counts; that of an `unsure` object
    becomes `UNCHECKED`. After Ctrl-C, which may come only now, it has `INTERRUPTED_SECONDS`.
    """
    answers, report = run.answers, run.report
    there, unknown = set[str](), set(answers)

    def find() -> tuple[set[str], set[str]]:
        run.nothing_deletes.wait()  # a deletion under way may end after the listing
        return _list_remaining(run.store, run.plan.listing_prefix, tried, answers)

    if not isinstance(report.error, KeyboardInterrupt):
        try:
            there, unknown = find()
        except KeyboardInterrupt as error:
            report.error = error
    if isinstance(report.error, KeyboardInterrupt):
        with suppress(CallTimeout):
            there, unknown = call_within(INTERRUPTED_SECONDS, find, "cloud-archive-prune-check")
    answers |= dict.fromkeys(run.unsure & unknown, UNCHECKED)
    return there | {key for key in unknown if answers[key] is not None}


def _list_remaining(
    store: ObjectStore, prefix: str, tried: Sequence[PruneCandidate], answers: Mapping[str, str | None]
) -> tuple[set[str], set[str]]:
    """Return the keys of the objects that the bucket still holds, and of those that the store says nothing about.

    One listing decides, and a HEAD if it contradicts the answer to the deletion. If listing is refused, every object
    gets a HEAD.
    """
    unknown = set[str]()
    try:
        listed = with_retries(lambda: {info.key for info in store.list(prefix) if info.key in answers})
        doubtful = [one for one in tried if (one.key in listed) == (answers[one.key] is None)]
    except StoreError as error:
        if error.status is None:
            return set(), set(answers)
        listed, doubtful = set(), list(tried)

    def is_there(one: PruneCandidate) -> bool:
        try:
            return _is_unchanged(store, one)
        except StoreError:
            unknown.add(one.key)
            return False

    there = listed - {one.key for one in doubtful}
    with unawaited_threads(PARALLEL_HEADS, "cloud-archive-prune") as pool:
        exist = list(pool.map(is_there, doubtful))
    return there | {one.key for one, exists in zip(doubtful, exist, strict=True) if exists}, unknown


def _correct_rows(
    ledger: Ledger,
    plan: PrunePlan,
    tried: Sequence[PruneCandidate],
    answers: Mapping[str, str | None],
    there: Set[str],
) -> None:
    """Correct the rows of objects that the store answered wrongly about, and queue versions that lost their object."""
    undo_deletions(ledger, [one.key for one in tried if one.key in there and answers[one.key] != UNCHECKED])
    # Also where the store said that it deleted them: an archive that can't open the lock file of another user's prune
    # may have found the object still there, and marked the rows as archived again.
    deleted = [one for one in tried if one.key not in there]
    mark_pruned(ledger, [row for one in deleted for row in one.rows])
    requeue_missing(ledger, archived_at_keys(ledger, [one.key for one in deleted], since=plan.made_at))


def _is_unchanged(store: ObjectStore, planned: PruneCandidate) -> bool:
    """Return whether the object is still as it was planned.

    A HEAD decides. If only its time differs, a listing does, as for the plan: `rclone serve s3` may list an object
    with the time of its file, and answer a HEAD with the time at which it was written. Raises StoreError.
    """
    found = with_retries(lambda: store.head(planned.key))
    if found is None or not planned.has_same_bytes(found):
        return False
    if planned.has_same_time(found):
        return True
    # A key comes before all longer keys that begin with it.
    listed = with_retries(lambda: next(store.list(planned.key, limit=1), None))
    return listed is not None and listed.key == planned.key and planned.has_same_time(listed)


def _find_change(store: ObjectStore, planned: PruneCandidate) -> str | StoreError:
    """Return why this object stays, or why that can't be found out; empty: it is as it was planned."""
    try:
        return "" if _is_unchanged(store, planned) else CHANGED
    except StoreError as error:
        return error
