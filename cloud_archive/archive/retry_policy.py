"""When a failed upload is retried, and when the gate closes for all uploads.

| how the attempt failed | next try |
| --- | --- |
| the watched directory is missing, or is another one | after 1 s, doubling to 10 s |
| `prune` is deleting the object with the file's key | after 1 s, doubling to 10 s |
| the system refuses to read the file | after 1 s, doubling to 60 s |
| no key can be made, or the store refuses this file permanently | given up |
| the store accepted others between two refusals of this file | given up, or once it accepts another refused file |
| the store failed for this file only, and a retry may help | after 0.5 s, doubling to 300 s |
| the same, although its answer looks as if it concerned every upload | after 0.5 s, doubling to 15 s |
| the store refuses every upload, or does not answer | as soon as the gate lets one through |
| an internal error | after 1 s, doubling to 300 s |

Each of these pauses is shortened by up to half, at random. For what is given up see `given_up`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import CloudArchiveError, FailureScope, StoreError
from ..ledger.rows import Claim
from ..store.failures import concerns_every_request, with_synonyms
from .gate import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Gate, backoff_seconds

FEW_GIVEN_UP = 100
LONGEST_ROUND_SECONDS = 600.0  # between two retries of the files that were given up
# By code: the longest pause in seconds (None: given up), and the cure.
_OWN_FAILURES: Mapping[str, tuple[float | None, str]] = {
    "KeyRejected": (None, "Rename the file or shorten the prefix, then retry."),
    "KeyBeingPruned": (10.0, "Wait until `prune` has ended. If it was killed, that takes up to two minutes."),
    "FileUnreadable": (60.0, "Allow this user to read the file."),
    "RootReplaced": (10.0, ""),
}


def code_of(error: CloudArchiveError) -> str:
    """Return the code that says why an attempt failed: the store's, or our own for other errors."""
    if isinstance(error, StoreError):
        return error.failure.code
    name = type(error).__name__
    return name if name in _OWN_FAILURES else "InternalError"


class RetryDecision(NamedTuple):
    """What the ledger records about a failed attempt.

    `next_try` is in seconds since 1970; None = given up.
    """

    code: str
    cause: str
    cure: str
    next_try: float | None


class RetryPolicy:
    """Decides when to retry, and opens and closes the gate. Safe to use from any thread.

    Args:
        clock: the gate's clock, in monotonic seconds.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        # By row and whether the refusal was transient: how many objects the store had accepted at the first one.
        self._refused_rows: dict[tuple[int, bool], int] = {}
        self._given_up: set[int] = set()  # rows that the store refused among successes
        self._refusals_pass = False  # a refused row was accepted since the last round
        self._rounds = 0  # how often the rows that were given up were retried
        self._next_round = -math.inf  # not before this time of `clock`
        self._store_codes: set[str] = set()  # codes of failures that closed the gate since it last opened

    def decide(self, claim: Claim, error: CloudArchiveError) -> RetryDecision:
        """Return what to record about this failure. Close the gate if every upload would fail."""
        if isinstance(error, StoreError):
            failure, pause = error.failure, self._pause_after(claim, error)
            return self._decision(failure.code, failure.cause, failure.cure, pause)
        code = code_of(error)
        longest, cure = _OWN_FAILURES.get(code, (300.0, ""))
        pause = None if longest is None else backoff_seconds(claim.attempts, first=1.0, longest=longest)
        return self._decision(code, str(error), cure, pause)

    def store_accepted(self) -> set[str] | None:
        """Note that the store accepted or proved an object.

        Returns:
            If the gate opened or lets one more upload in: the codes of the failures that had closed it. Files that
            failed with these can be retried at once. Else None.
        """
        if not self._gate.note_success():
            return None
        with self._lock:
            codes, self._store_codes = self._store_codes, set()
        return codes

    def archived(self, row: int) -> set[int]:
        """Forget the refusals of this row. Return the rows that were given up, if they are to be retried now.

        If the store refused this row before, its refusals pass: some servers learn later of a new right. But a rule may
        refuse the others for good. So each gets one try, which can't close the gate, and more than `FEW_GIVEN_UP` get
        none. The pauses between these rounds grow, because after the store refused everything many rows pass one by
        one, and each of them would begin a round.
        """
        self._refused_rows.pop((row, True), None)
        passed = self._refused_rows.pop((row, False), None) is not None
        with self._lock:
            self._refusals_pass |= passed and bool(self._given_up)
            now = self._clock()
            if not self._refusals_pass or now < self._next_round or len(self._given_up) > FEW_GIVEN_UP:
                return set()
            self._refusals_pass = False
            self._rounds += 1
            self._next_round = now + backoff_seconds(self._rounds, first=1.0, longest=LONGEST_ROUND_SECONDS)
            again, self._given_up = self._given_up, set()
        return again

    def retry_all(self) -> None:
        """Forget the refusals of all rows, and let one upload try now."""
        with self._lock:
            self._given_up.clear()
            self._refusals_pass, self._rounds, self._next_round = False, 0, -math.inf
        self._refused_rows.clear()
        self._gate.end_pause()

    def _decision(self, code: str, cause: str, cure: str, pause: float | None) -> RetryDecision:
        next_try = None if pause is None else self._wall_clock() + pause
        return RetryDecision(code, cause, cure, next_try)

    def _pause_after(self, claim: Claim, error: StoreError) -> float | None:
        """Return the seconds until the next try; None = given up."""
        failure = error.failure
        if failure.scope is FailureScope.FILE:
            if not failure.transient:
                return None
            return backoff_seconds(claim.attempts, first=0.5, longest=300.0)
        successes = self._gate.successes
        first = self._refused_rows.setdefault((claim.row, failure.transient), successes)
        if first < successes:
            # The store accepted other files between two refusals of this one.
            if not failure.transient and not _passes(error):
                with self._lock:
                    self._given_up.add(claim.row)
                return None
            if self._gate.closed is None and not failure.throttled:
                return backoff_seconds(
                    claim.attempts, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS
                )
        with self._lock:
            self._store_codes.add(failure.code)
        return self._gate.note_refusal(failure, self._clock(), retry_after_seconds=error.retry_after_seconds)


def _passes(error: StoreError) -> bool:
    """Return whether a refusal among successes will pass: some servers learn of a new access key or bucket later.

    A wrong signature may be due to the object's key.
    """
    return concerns_every_request(error) and error.failure.code not in with_synonyms("SignatureDoesNotMatch")
