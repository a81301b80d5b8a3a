"""The one request at start that shows whether the store accepts credentials and bucket."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cloud_archive.archive import connection as module
from cloud_archive.archive.connection import ConnectionVerifier
from cloud_archive.errors import StoreError
from cloud_archive.store.base import Capabilities
from cloud_archive.store.failures import explain
from cloud_archive.store.probe import PROBE_BODY
from tests.memory_store import Hanging, MemoryStore
from tests.servers import wait_until


class Changes:
    """Counts the changes, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, 60)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def connection(store: MemoryStore, changes: Changes) -> Iterator[ConnectionVerifier]:
    made = ConnectionVerifier(store, changes)
    yield made
    made.stop()
    if made._thread is not None:
        made._thread.join(60)


def refuse(operation: str, key: str) -> None:
    raise StoreError(operation, key, explain("InvalidAccessKeyId", 403), status=403)


def test_it_is_not_verified_before_the_store_has_answered(
    store: MemoryStore, connection: ConnectionVerifier, changes: Changes
) -> None:
    assert (connection.verified, connection.failure) == (False, None)
    connection.start(wait_seconds=0)
    changes.wait_for(1)
    assert (connection.verified, connection.failure) == (True, None)
    assert store.calls == [("GetObject", store.probe_key)]


def test_the_connection_is_verified_before_the_object_of_check_is_written_again(changes: Changes) -> None:
    store, hanging = MemoryStore(capabilities=Capabilities()), Hanging()
    store.add_foreign(store.probe_key, PROBE_BODY)
    store.on_call = lambda operation, key: hanging(key) if operation == "PutObject" else None
    connection = ConnectionVerifier(store, changes)
    connection.start(wait_seconds=0)
    assert hanging.begun.wait(60)
    assert (connection.verified, connection.failure) == (True, None)
    hanging.end()
    assert connection._thread is not None
    connection._thread.join(60)
    assert store.calls == [("GetObject", store.probe_key), ("PutObject", store.probe_key)]
    assert store.objects[store.probe_key].metadata == {}, "overwritten"


def test_the_connection_writes_no_object_where_none_is(changes: Changes) -> None:
    store = MemoryStore(capabilities=Capabilities())
    connection = ConnectionVerifier(store, changes)
    connection.start(wait_seconds=0)
    assert connection._thread is not None
    connection._thread.join(60)
    assert connection.verified
    assert store.calls == [("GetObject", store.probe_key)]


def test_the_first_request_waits_for_its_time_or_for_request_now(
    store: MemoryStore, connection: ConnectionVerifier, changes: Changes
) -> None:
    connection.start(wait_seconds=3600)
    connection.start(wait_seconds=0)  # it has begun already
    assert store.calls == []
    connection.request_now()
    changes.wait_for(1)
    assert connection.verified


def test_a_refusal_is_shown_and_tried_again_until_it_is_gone(
    store: MemoryStore, connection: ConnectionVerifier, changes: Changes
) -> None:
    store.on_call = refuse
    connection.start(wait_seconds=0)
    changes.wait_for(1)
    assert connection.failure is not None
    assert connection.failure.code == "InvalidAccessKeyId"
    for _ in range(2):  # once the second request is made, the first refusal has been noted
        tried = len(store.calls)
        connection.request_now()
        wait_until(lambda tried=tried: len(store.calls) > tried, "it is tried again")  # type: ignore[misc]
    assert changes.count == 1, "the same refusal is no news"
    store.on_call = lambda operation, key: None
    connection.request_now()
    changes.wait_for(2)
    assert connection.verified
    assert not connection.failure


def test_the_pauses_grow(
    store: MemoryStore, connection: ConnectionVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def pause(attempts: int, *, first: float, longest: float) -> float:
        asked.append(attempts)
        assert (first, longest) == (module.FIRST_PAUSE_SECONDS, module.LONGEST_PAUSE_SECONDS)
        return 0.0 if attempts < 3 else 3600.0

    monkeypatch.setattr(module, "backoff_seconds", pause)
    store.on_call = refuse
    connection.start(wait_seconds=0)
    wait_until(lambda: len(asked) == 3, "three attempts")
    assert asked == [1, 2, 3]


def test_an_upload_that_succeeded_verifies_it_and_no_request_follows(
    store: MemoryStore, connection: ConnectionVerifier, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 3600.0)
    store.on_call = refuse
    connection.start(wait_seconds=0)
    changes.wait_for(1)
    calls = len(store.calls)
    connection.confirm()
    assert (connection.verified, connection.failure) == (True, None)
    assert changes.count == 2
    assert connection._thread is not None
    connection._thread.join(60)
    assert len(store.calls) == calls
    connection.start(wait_seconds=0)
    assert not connection._thread.is_alive()


def test_after_stop_no_request_is_made(
    store: MemoryStore, connection: ConnectionVerifier, changes: Changes
) -> None:
    connection.start(wait_seconds=3600)
    connection.stop()
    assert connection._thread is not None
    connection._thread.join(60)
    assert (store.calls, changes.count) == ([], 0)


def test_a_stop_during_the_request_keeps_its_answer_to_itself(
    store: MemoryStore, connection: ConnectionVerifier, changes: Changes
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(operation: str, key: str) -> None:
        inside.set()
        assert go_on.wait(60)

    store.on_call = slow
    connection.start(wait_seconds=0)
    assert inside.wait(60)
    connection.stop()  # returns, with the request under way
    go_on.set()
    assert connection._thread is not None
    connection._thread.join(60)
    assert (connection.verified, changes.count) == (False, 0)


def test_an_unexpected_error_is_a_failure_like_any_other_and_its_traceback_is_logged(
    store: MemoryStore,
    connection: ConnectionVerifier,
    changes: Changes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(store, "warm_up", lambda: 1 / 0)
    connection.start(wait_seconds=0)
    changes.wait_for(1)
    assert connection.failure is not None
    assert (connection.failure.code, connection.failure.transient) == ("InternalError", True)
    assert "ZeroDivisionError" in caplog.text


def test_a_request_for_which_the_system_has_no_timer_left_is_made_again(
    connection: ConnectionVerifier, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Timer.start

    def refuse_once(timer: threading.Timer) -> None:
        monkeypatch.setattr(threading.Timer, "start", start)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(threading.Timer, "start", refuse_once)
    connection.start(wait_seconds=0)
    changes.wait_for(2)
    assert connection.verified


def test_a_request_without_an_answer_is_shown_and_may_still_succeed(
    store: MemoryStore, connection: ConnectionVerifier, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program can set no time limit for looking up a host name."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    answer = threading.Event()

    def slow(operation: str, key: str) -> None:
        assert answer.wait(60)

    store.on_call = slow
    connection.start(wait_seconds=0)
    try:
        changes.wait_for(1)
        failure = connection.failure
        assert failure is not None
        assert (failure.code, failure.cause) == (
            "ConnectTimeout",
            "The endpoint has not answered for 0.05 s.",
        )
        assert not connection.verified
    finally:
        answer.set()
    changes.wait_for(2)
    assert (connection.verified, connection.failure) == (True, None)
