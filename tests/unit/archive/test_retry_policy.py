"""When a failed upload is tried again; time is moved by hand."""

from __future__ import annotations

import itertools

import pytest

from cloud_archive.archive.gate import LONGEST_PAUSE_SECONDS, Gate
from cloud_archive.archive.retry_policy import FEW_GIVEN_UP, RetryPolicy
from cloud_archive.errors import (
    CloudArchiveError,
    FileUnreadable,
    KeyBeingPruned,
    KeyRejected,
    RootReplaced,
    StoreError,
)
from cloud_archive.files import FileVersion
from cloud_archive.ledger.rows import Claim
from cloud_archive.store.failures import explain

NOW = 1_700_000_000.0


def claim(row: int = 1, attempts: int = 1) -> Claim:
    return Claim(row=row, name=f"me/{row}", version=FileVersion("a.png", 1, 1), token="t", attempts=attempts)


def refusal(code: str) -> StoreError:
    return StoreError("PutObject", "k", explain(code))


@pytest.fixture
def gate() -> Gate:
    return Gate(4, jitter=lambda: 1.0)


@pytest.fixture
def policy(gate: Gate) -> RetryPolicy:
    return RetryPolicy(gate, clock=lambda: 0.0, wall_clock=lambda: NOW)


@pytest.mark.parametrize(
    ("error", "code", "longest_seconds"),
    [
        (FileUnreadable("a.png", "no"), "FileUnreadable", 60.0),
        (RootReplaced("another directory"), "RootReplaced", 10.0),
        (KeyBeingPruned("k"), "KeyBeingPruned", 10.0),
        (CloudArchiveError("a bug"), "InternalError", 300.0),
    ],
)
def test_what_is_wrong_on_this_machine_is_tried_again_with_growing_pauses(
    policy: RetryPolicy, gate: Gate, error: CloudArchiveError, code: str, longest_seconds: float
) -> None:
    first, late = policy.decide(claim(), error), policy.decide(claim(attempts=30), error)
    assert first.code == late.code == code
    assert first.cause == str(error)
    assert first.next_try is not None
    assert late.next_try is not None
    assert 0.5 <= first.next_try - NOW <= 1.0
    assert longest_seconds / 2 <= late.next_try - NOW <= longest_seconds
    assert gate.closed is None, "it says nothing about the store"


def test_a_key_that_cannot_be_made_waits_for_a_retry(policy: RetryPolicy) -> None:
    decision = policy.decide(claim(), KeyRejected("k", "too long"))
    assert (decision.code, decision.next_try) == ("KeyRejected", None)
    assert decision.cure


def test_a_file_that_the_store_refuses_for_good_waits_for_a_retry_and_stops_nobody(
    policy: RetryPolicy, gate: Gate
) -> None:
    error = refusal("EntityTooLarge")
    decision = policy.decide(claim(), error)
    assert (decision.cause, decision.cure) == (error.failure.cause, error.failure.cure)
    assert decision.next_try is None
    assert gate.closed is None


def test_a_store_that_is_away_closes_the_gate_until_the_next_try(policy: RetryPolicy, gate: Gate) -> None:
    decision = policy.decide(claim(), refusal("ConnectionRefused"))
    assert gate.closed is not None
    assert decision.next_try == NOW + gate.closed.until


def test_a_store_that_asks_for_more_time_gets_it(policy: RetryPolicy) -> None:
    error = StoreError("PutObject", "k", explain("SlowDown"), status=503, retry_after_seconds=30)
    decision = policy.decide(claim(), error)
    assert decision.next_try == NOW + 30


def test_once_the_store_takes_an_object_those_that_failed_because_of_it_are_named(
    policy: RetryPolicy,
) -> None:
    policy.decide(claim(), refusal("ConnectionRefused"))
    policy.decide(claim(2), CloudArchiveError("a bug"))
    assert policy.store_accepted() == {"ConnectionRefused"}
    assert policy.store_accepted() is None, "nothing changed"


def test_a_refusal_of_one_file_among_successes_is_the_fault_of_the_file(policy: RetryPolicy) -> None:
    """The store refuses each attempt with `AccessDenied`, and accepts other files in between."""
    assert policy.decide(claim(1), refusal("AccessDenied")).next_try is not None
    policy.store_accepted()
    assert policy.decide(claim(1), refusal("AccessDenied")).next_try is None
    assert policy.decide(claim(2), refusal("AccessDenied")).next_try is not None, "another file"
    policy.archived(1)
    assert policy.decide(claim(1), refusal("AccessDenied")).next_try is not None, "its history is over"


def test_a_refused_file_that_passes_brings_back_those_that_were_given_up(
    policy: RetryPolicy, gate: Gate
) -> None:
    def give_up(row: int) -> None:
        policy.decide(claim(row), refusal("AccessDenied"))
        policy.store_accepted()
        assert policy.decide(claim(row), refusal("AccessDenied")).next_try is None

    give_up(1)
    assert policy.archived(7) == set(), "it was never refused"
    policy.decide(claim(2), refusal("ConnectionClosed"))
    assert policy.archived(2) == set(), "the store did not refuse it"
    policy.decide(claim(3), refusal("AccessDenied"))
    policy.store_accepted()
    assert policy.archived(3) == {1}
    assert policy.decide(claim(1), refusal("AccessDenied")).next_try is None
    assert gate.closed is None, "it holds back no other file"
    policy.retry_all()
    for row in range(100, 101 + FEW_GIVEN_UP):
        give_up(row)
    policy.decide(claim(4), refusal("AccessDenied"))
    assert policy.archived(4) == set(), "probably a rule refuses them"


def test_files_that_are_refused_for_good_are_retried_ever_less_often(gate: Gate) -> None:
    """After the store refused everything for hours, many refused files pass one after another."""
    now = [0.0]
    policy = RetryPolicy(gate, clock=lambda: now[0], wall_clock=lambda: NOW)
    waiting = range(10, 3610)
    for row in (1, *waiting):
        policy.decide(claim(row), refusal("AccessDenied"))
    retried = []
    for row in waiting:
        now[0] += 1.0
        policy.store_accepted()
        policy.decide(claim(1), refusal("AccessDenied"))
        if policy.archived(row):
            retried.append(now[0])
    assert 5 <= len(retried) <= 20
    assert retried[1] - retried[0] <= 2.0
    assert all(later - earlier <= 601.0 for earlier, later in itertools.pairwise(retried))


def test_a_pause_does_not_forget_that_refusals_pass(gate: Gate) -> None:
    now = [0.0]
    policy = RetryPolicy(gate, clock=lambda: now[0], wall_clock=lambda: NOW)

    def give_up(row: int) -> None:
        policy.decide(claim(row), refusal("AccessDenied"))
        policy.store_accepted()
        policy.decide(claim(row), refusal("AccessDenied"))

    give_up(1)
    policy.decide(claim(2), refusal("AccessDenied"))
    assert policy.archived(2) == {1}
    give_up(3)
    policy.decide(claim(4), refusal("AccessDenied"))
    assert policy.archived(4) == set(), "too soon"
    now[0] = 1.0
    assert policy.archived(5) == {3}, "also after a file that was never refused"
    assert policy.archived(6) == set()


@pytest.mark.parametrize(
    "code", ["InvalidAccessKeyId", "InvalidTokenId", "ExpiredToken", "NoSuchBucket", "RequestTimeTooSkewed"]
)
def test_no_file_is_given_up_while_only_some_servers_know_the_key_or_bucket(
    policy: RetryPolicy, code: str
) -> None:
    policy.decide(claim(1), refusal(code))
    policy.store_accepted()
    decision = policy.decide(claim(1, attempts=30), refusal(code))
    assert decision.next_try is not None
    assert NOW < decision.next_try <= NOW + LONGEST_PAUSE_SECONDS
    policy.decide(claim(2), refusal("SignatureDoesNotMatch"))
    policy.store_accepted()
    assert policy.decide(claim(2), refusal("SignatureDoesNotMatch")).next_try is None


def test_a_file_that_fails_among_successes_holds_no_other_back(policy: RetryPolicy, gate: Gate) -> None:
    """A proxy answers each attempt at one file with a web page, as if there were no store."""
    policy.decide(claim(1), refusal("NotS3"))
    assert gate.closed is not None
    policy.store_accepted()
    decision = policy.decide(claim(1, attempts=30), refusal("NotS3"))
    assert gate.closed is None
    assert decision.next_try is not None
    assert NOW < decision.next_try <= NOW + LONGEST_PAUSE_SECONDS
    policy.decide(claim(2), refusal("NotS3"))
    assert gate.closed is not None, "another file"
    until = gate.closed.until
    gate.end_pause()
    policy.decide(claim(1), refusal("NotS3"))
    assert gate.closed.until >= until, "it counts while nothing shows that the store is there"


def test_a_file_that_failed_among_successes_is_not_given_up_when_the_keys_are_revoked(
    policy: RetryPolicy,
) -> None:
    policy.decide(claim(1), refusal("ConnectionClosed"))
    policy.store_accepted()
    assert policy.decide(claim(1), refusal("AccessDenied")).next_try is not None


def test_retry_all_forgets_refusals_and_lets_one_upload_try_at_once(policy: RetryPolicy, gate: Gate) -> None:
    policy.decide(claim(1), refusal("AccessDenied"))
    policy.store_accepted()
    policy.decide(claim(2), refusal("ConnectionRefused"))
    assert gate.enter(0.0) is not None
    policy.retry_all()
    assert gate.enter(0.0) is None
    assert policy.decide(claim(1), refusal("AccessDenied")).next_try is not None
