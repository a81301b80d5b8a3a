"""How often the status is pushed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cloud_archive.archive.notifier import PUSH_SECONDS, QUICK_PUSHES, STEADY_SECONDS, Notifier
from cloud_archive.errors import LedgerError
from tests.servers import wait_until


class Pauses(threading.Event):
    """Replaces the event that ends the notifier: keeps the length of each pause, and is set after `count` pauses."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.asked: list[float | None] = []
        self._count = count

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        return len(self.asked) >= self._count


def _pauses(count: int, rests_after: int | None) -> list[float | None]:
    """Return the pauses of a notifier. The status changes during each push, except during push `rests_after`."""
    notifier: Notifier
    pushes = 0
    rested = threading.Event()

    def snapshot() -> dict[str, Any]:
        nonlocal pushes
        pushes += 1
        if pushes == rests_after:
            rested.set()
        else:
            notifier.notify()
        return {}

    notifier = Notifier(snapshot)
    pauses = notifier._stopping = Pauses(count)
    notifier.subscribe(lambda status: None)
    thread = threading.Thread(target=notifier._run)
    thread.start()
    if rests_after is not None:
        assert rested.wait(60)
        wait_until(lambda: thread_waits(notifier), "it waits for a change")
        notifier.notify()
    thread.join(60)
    assert not thread.is_alive()
    return pauses.asked


def thread_waits(notifier: Notifier) -> bool:
    return bool(notifier._changed._cond._waiters)  # type: ignore[attr-defined]


def test_endless_changes_are_pushed_quickly_first_and_then_once_a_second() -> None:
    assert _pauses(QUICK_PUSHES + 3, None) == [PUSH_SECONDS] * (QUICK_PUSHES - 1) + [STEADY_SECONDS] * 4


def test_after_a_moment_without_changes_a_change_is_pushed_quickly_again() -> None:
    asked = _pauses(QUICK_PUSHES + 4, QUICK_PUSHES + 2)
    assert asked[-3:] == [STEADY_SECONDS, PUSH_SECONDS, PUSH_SECONDS]


def test_a_listener_that_unsubscribes_while_a_status_is_built_does_not_get_it() -> None:
    def snapshot() -> dict[str, Any]:
        unsubscribe()
        notifier.notify()
        return {}

    pushed: list[dict[str, Any]] = []
    notifier = Notifier(snapshot)
    notifier._stopping = Pauses(2)
    unsubscribe = notifier.subscribe(pushed.append)
    notifier._run()
    assert pushed == []


@pytest.mark.parametrize(("pauses", "lines"), [(2, []), (3, ["The ledger is closed."])])
def test_a_status_that_fails_as_the_engine_closes_is_no_warning(
    caplog: pytest.LogCaptureFixture, pauses: int, lines: list[str]
) -> None:
    def snapshot() -> dict[str, Any]:
        notifier.notify()
        raise LedgerError("The ledger is closed.")

    notifier = Notifier(snapshot)
    stopping = notifier._stopping = Pauses(pauses)
    notifier.subscribe(lambda status: None)
    notifier._run()
    assert stopping.asked == [PUSH_SECONDS, STEADY_SECONDS, PUSH_SECONDS][:pauses]
    assert caplog.messages == lines


def test_a_new_listener_gets_a_status_and_a_stop_ends_the_thread() -> None:
    pushed = threading.Event()
    notifier = Notifier(dict)
    notifier.start()
    notifier.start()
    notifier.subscribe(lambda status: pushed.set())
    assert pushed.wait(60)
    notifier.stop()
    notifier._thread.join(60)
    assert not notifier._thread.is_alive()
