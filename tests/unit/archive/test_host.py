"""Beginning and ending an archive, and faults that pass."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import open_archive, ownership
from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.engine import Engine
from cloud_archive.catalog.catalog import Catalog
from cloud_archive.errors import CloudArchiveError, RequestRefused
from cloud_archive.ledger.recovery import open_ledger
from tests.functional.archives import ENVIRON, engine_on, refuse_thread
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def test_an_engine_that_cannot_begin_keeps_no_other_from_it(tmp_path: Path, root: Path) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("Invalid endpoint")

    state = tmp_path / "state"
    engine = Engine(root, state_base=state, environ=ENVIRON, make_store=broken, machine_wide=False)
    engine.start(autostart=True)
    try:
        with engine_on(root, MemoryStore(), state) as other:
            wait_until(lambda: other.status(scan=False).state.value == "idle", "the other one archives")
            assert engine.status().state.value == "unavailable"
    finally:
        engine.close(1)


def test_the_end_waits_for_a_hung_catalog_no_longer_than_for_uploads(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    close = Catalog.close

    def closing(catalog: Catalog, timeout_seconds: float) -> None:
        waits.append(timeout_seconds)
        close(catalog, timeout_seconds)

    monkeypatch.setattr(Catalog, "close", closing)
    store, hanging, end = MemoryStore(), threading.Event(), threading.Event()

    def hang(operation: str, key: str) -> None:
        if operation == "ListObjectsV2":
            hanging.set()
            end.wait(60)

    store.on_call = hang
    try:
        with engine_on(root, store, tmp_path / "state") as engine:
            engine.catalog().facets("")  # whoever views the catalog has it read the bucket at once
            assert hanging.wait(60), "the catalog reads the bucket"
            engine.close(0.2)
    finally:
        end.set()
    assert len(waits) == 1
    assert 0 <= waits[0] <= 0.2


@pytest.mark.parametrize("fault", ["ledger", "root"])
def test_a_fault_at_the_start_that_passes_costs_time_only(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    store = MemoryStore()
    real = open_ledger

    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    if fault == "ledger":
        monkeypatch.setattr(open_archive, "open_ledger", failing)
    engine = Engine(
        root,
        state_base=tmp_path / "state",
        environ=ENVIRON,
        make_store=lambda *_, **__: store,
        machine_wide=False,
    )
    if fault == "root":
        root.rmdir()
    engine.start(autostart=True)
    try:
        assert not engine.status().running
        assert engine.status().errors
        if fault == "ledger":
            monkeypatch.setattr(open_archive, "open_ledger", real)
        else:
            root.mkdir()
        wait_until(lambda: engine.status(scan=False).running and engine.problems == (), "it begins")
    finally:
        engine.close(60)


@pytest.mark.parametrize(
    "refused",
    [
        *("cloud-archive-worker-3", "cloud-archive-watches", "cloud-archive-scan", "cloud-archive-keeper"),
        "cloud-archive-ledger-keeper",
    ],
)
def test_a_start_that_fails_late_leaves_nothing_open(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(MemoryStore, "close", lambda store: closed.append("store"))
    monkeypatch.setattr(ownership, "STANDBY_SECONDS", 3600.0)
    monkeypatch.setattr(ownership, "LONGEST_STANDBY_SECONDS", 3600.0)
    refuse_thread(monkeypatch, refused)
    before = set(threading.enumerate())
    with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
        assert engine.problems == (
            "The archive can't start: the system allows no more threads. Raise its limit: pids.max of the container,"
            " or `ulimit -u`.",
        )
        assert closed == ["store"]
        names = {"cloud-archive-notify", "cloud-archive-ledger-keeper", "cloud-archive-standby"}
        wait_until(
            lambda: {thread.name for thread in set(threading.enumerate()) - before} <= names,
            "the threads of the archive have ended",
        )


class _NotedLock:
    """A lock that notes which threads wait for it."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.waiting: set[str] = set()

    def __enter__(self) -> None:
        self.waiting.add(threading.current_thread().name)
        self._lock.acquire()
        self.waiting.remove(threading.current_thread().name)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("starter", ["cloud-archive-standby", "user"])
def test_a_reopening_leaves_no_archiver_that_was_started_again_meanwhile(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, starter: str
) -> None:
    away, stop = tmp_path / "away", Archiver.stop
    monkeypatch.setattr(ownership, "STANDBY_SECONDS", 0.01)

    with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "it is idle")
        host, old = engine._host, engine.archiver()
        noted = _NotedLock(host._lock)
        monkeypatch.setattr(host, "_lock", noted)
        user = threading.Thread(target=host.start_watching, name="user")
        old.stop(60)
        root.rename(away)
        if starter != user.name:
            host._stand_by()  # as after a start over a missing directory

        def stop_and_wait(archiver: Archiver, timeout_seconds: float) -> list[str]:
            remaining = stop(archiver, timeout_seconds)
            away.rename(root)
            if starter == user.name:
                user.start()
            wait_until(lambda: old.running or starter in noted.waiting, "it is started again")
            return remaining

        with monkeypatch.context() as patch:
            patch.setattr(Archiver, "stop", stop_and_wait)
            host.reopen(None)
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "it is idle again")
        if starter == user.name:
            user.join()
        assert engine.archiver() is not old
        assert not old.running


def test_the_log_names_a_misspelt_setting_at_the_start(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with engine_on(root, MemoryStore(), tmp_path / "state", CLOUD_ARCHIVE_BACKFIL="all"):
        pass
    assert "correct the name if CLOUD_ARCHIVE_BACKFILL is meant." in caplog.text


def test_the_status_names_a_misspelt_setting_beside_the_missing_one(tmp_path: Path, root: Path) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != "S3_BUCKET"}
    engine = Engine(
        root, state_base=tmp_path / "state", environ={**environ, "S3_BUKET": "b"}, machine_wide=False
    )
    engine.start(autostart=True)
    try:
        assert (
            engine.status().errors[-1] == "S3_BUKET is not a setting: correct the name if S3_BUCKET is meant."
        )
    finally:
        engine.close(60)


def test_an_engine_that_cannot_begin_for_an_unexpected_reason_says_so(tmp_path: Path, root: Path) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("Invalid endpoint")

    engine = Engine(
        root, state_base=tmp_path / "state", environ=ENVIRON, make_store=broken, machine_wide=False
    )
    engine.start(autostart=True)
    try:
        status = engine.status()
        assert status.state.value == "unavailable"
        assert "Invalid endpoint" in status.errors[0]
    finally:
        engine.close(1)


def test_a_request_after_the_end_is_told_that_the_archive_stops(tmp_path: Path, root: Path) -> None:
    with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
        engine.close(1)
        with pytest.raises(CloudArchiveError, match=r"^The archive is stopping\.$"):
            engine.flush(1)


def test_also_after_it_took_over_an_archive_that_stops_says_so(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "STANDBY_SECONDS", 0.01)
    with engine_on(root, MemoryStore(), tmp_path / "state") as first:
        wait_until(lambda: first.status(scan=False).state.value == "idle", "the first one archives")
        with engine_on(root, MemoryStore(), tmp_path / "state") as second:
            assert second.status().state.value == "standby"
            first.close(60)
            wait_until(lambda: second.status(scan=False).state.value == "idle", "it has taken over")
            second.close(60)
            with pytest.raises(RequestRefused, match="stopping"):
                second.flush(1)


def test_a_start_that_cannot_make_the_directory_says_why(tmp_path: Path, root: Path) -> None:
    engine = Engine(
        root,
        state_base=tmp_path / "state",
        environ=ENVIRON,
        make_root=True,
        make_store=lambda *_, **__: MemoryStore(),
        machine_wide=False,
    )
    engine.start(autostart=False)
    try:
        root.rmdir()
        root.write_bytes(b"a file")
        with pytest.raises(CloudArchiveError, match="can't be made"):
            engine.start_watching()
    finally:
        engine.close(60)
