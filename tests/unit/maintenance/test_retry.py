"""Which failures are retried, how often, and how long the pauses are."""

from __future__ import annotations

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.maintenance.retry import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MAX_TRIES,
    with_retries,
)
from cloud_archive.store.failures import explain

PASSING = StoreError("Head", "k", explain("SlowDown", 503), status=503)
LASTING = StoreError("Head", "k", explain("AccessDenied", 403), status=403)


class Calls:
    """Fails as often as there are errors, then returns `done`."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0
        self.pauses: list[float] = []

    def __call__(self) -> str:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_failure_that_passes_is_retried_after_growing_pauses() -> None:
    calls = Calls(*[PASSING] * (MAX_TRIES - 1))
    assert with_retries(calls, pause=calls.pauses.append) == "done"
    assert calls.count == MAX_TRIES
    for number, pause in enumerate(calls.pauses):
        assert 0.5 <= pause / (FIRST_PAUSE_SECONDS * 2**number) < 1.5


def test_the_last_failure_is_raised() -> None:
    calls = Calls(*[PASSING] * 9)
    with pytest.raises(StoreError):
        with_retries(calls, pause=calls.pauses.append)
    assert (calls.count, len(calls.pauses)) == (MAX_TRIES, MAX_TRIES - 1), "no pause after the last try"


def test_no_try_follows_a_pause_that_ends_the_retries() -> None:
    calls = Calls(PASSING)
    with pytest.raises(StoreError):
        with_retries(calls, pause=lambda seconds: True)
    assert calls.count == 1


@pytest.mark.parametrize("error", [LASTING, ValueError("a defect")])
def test_what_no_retry_helps_is_raised_at_once(error: Exception) -> None:
    calls = Calls(error)
    with pytest.raises(type(error)):
        with_retries(calls, pause=calls.pauses.append)
    assert (calls.count, calls.pauses) == (1, [])


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (1e6, LONGEST_PAUSE_SECONDS)])
def test_the_store_may_ask_for_a_longer_pause_up_to_a_limit(asked: float, waited: float) -> None:
    calls = Calls(StoreError("Head", "k", PASSING.failure, status=503, retry_after_seconds=asked))
    with_retries(calls, pause=calls.pauses.append)
    assert calls.pauses == [waited]
