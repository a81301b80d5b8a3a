"""The lock, standing by and the hand-over."""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import open_archive
from cloud_archive.archive.ownership import Ownership
from cloud_archive.ledger.recovery import open_ledger
from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def test_a_lock_that_cannot_be_made_is_no_other_engine(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state directory is on a read-only disk: archive without a lock, because no other engine holds it."""
    from filelock import FileLock

    def refuse(self: Any, *args: Any, **how: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    store = MemoryStore()
    with engine_on(root, store, tmp_path / "state") as engine:
        status = engine.status(scan=False)
        assert status.state.value != "standby"
        assert any("No lock could be made" in error for error in status.errors)


def test_a_standby_outlives_a_fault_that_passes(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, store = tmp_path / "state", MemoryStore()
    failed = threading.Event()
    real = open_ledger

    def failing(*arguments: Any, **named: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **named)

    with engine_on(root, MemoryStore(), state) as first:
        wait_until(lambda: first.status(scan=False).state.value == "idle", "it archives")
        with engine_on(root, store, state) as standby:
            assert standby.status().state.value == "standby"
            monkeypatch.setattr(open_archive, "open_ledger", failing)
            first.close(60)
            assert failed.wait(60)
            wait_until(lambda: standby.status(scan=False).running, "it takes over after all")
            assert standby.problems == ()
            (root / "after.bin").write_bytes(b"after")
            assert standby.flush(60)
    assert store.bodies() == {"out/after.bin": b"after"}


def owner(root: Path, state: Path, orphaned: Callable[[], bool] = lambda: False) -> Ownership:
    return Ownership(
        root, {}, state_base=state, prefer_environment=False, machine_wide=False, orphaned=orphaned
    )


def test_one_owner_at_a_time_and_the_next_after_its_release(root: Path, tmp_path: Path) -> None:
    first, second = owner(root, tmp_path / "state"), owner(root, tmp_path / "state")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    assert not second.unlocked
    second.release()


def test_only_an_orphaned_engine_hands_over(root: Path, tmp_path: Path) -> None:
    gone = threading.Event()
    it = owner(root, tmp_path / "state", gone.is_set)
    assert not it.agree_to_handover()
    assert not it.handed_over
    gone.set()
    assert it.agree_to_handover()
    assert it.handed_over
    it.wait_for_handover()


def test_standing_by_tries_until_it_succeeds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.ownership.STANDBY_SECONDS", 0.01)
    it, tries, taken = owner(root, tmp_path / "state"), itertools.count(1), threading.Event()

    def begin() -> bool:
        if next(tries) < 3:
            return False
        taken.set()
        return True

    assert not it.stands_by
    it.stand_by(begin, failed=lambda: True)
    assert taken.wait(60)
    assert it.stands_by
    it.close()
    assert next(tries) == 4


@pytest.mark.parametrize(
    ("fault", "line"),
    [(False, "Took over the archive of"), (True, "The fault is over: opened the archive of")],
)
def test_the_log_tells_a_takeover_from_the_end_of_a_fault_of_its_own(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: bool,
    line: str,
) -> None:
    monkeypatch.setattr("cloud_archive.archive.ownership.STANDBY_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "cloud_archive.engine")
    it = owner(root, tmp_path / "state")
    it.stand_by(lambda: True, failed=lambda: fault)
    wait_until(lambda: caplog.messages == [f"{line} {root}"], "the end is logged")
    it.close()


def test_closing_ends_a_standby_that_never_got_its_turn(root: Path, tmp_path: Path) -> None:
    it = owner(root, tmp_path / "state")
    it.stand_by(lambda: False, failed=lambda: False)
    it.close()
    it.wait_for_handover()
    assert not any(thread.name == "cloud-archive-standby" for thread in threading.enumerate())


def test_only_one_thread_stands_by(root: Path, tmp_path: Path) -> None:
    it, names = owner(root, tmp_path / "state"), list[str]()
    for _ in range(2):
        it.stand_by(lambda: False, failed=lambda: False)
        names = [thread.name for thread in threading.enumerate()]
    it.close()
    assert names.count("cloud-archive-standby") == 1
