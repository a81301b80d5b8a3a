"""The engine as routes and commands see it: what it says in each state, and how it answers orders."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import host
from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.engine import Engine
from cloud_archive.archive.ownership import engine_state_directory
from cloud_archive.archive.status import Status
from cloud_archive.errors import CloudArchiveError, LedgerError, RequestRefused
from tests.functional.archives import ENVIRON, engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def engine(root: Path, store: MemoryStore, tmp_path: Path) -> Iterator[Engine]:
    with engine_on(root, store, tmp_path / "state", CLOUD_ARCHIVE_BACKFILL="missed") as running:
        wait_until(lambda: running.has_scanned, "the first scan")
        yield running


def unstarted(root: Path, state: Path, **environ: str) -> Engine:
    return Engine(
        root, state_base=state, environ=environ, make_store=lambda *_, **__: MemoryStore(), machine_wide=False
    )


def test_before_its_start_it_is_starting_and_has_no_archiver(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "READY_SECONDS", 0.0)
    engine = unstarted(root, tmp_path / "state", **ENVIRON)
    assert engine.status().state.value == "starting"
    assert engine.drain(0)
    engine.stop_draining()
    assert not engine.has_scanned
    with pytest.raises(CloudArchiveError, match="not ready"):
        engine.archiver()
    assert "cloud_archive_pending_files 0.0" in engine.metrics_text()
    assert engine.close(0) == []


def test_without_settings_it_says_which_are_missing(root: Path, tmp_path: Path) -> None:
    engine = unstarted(root, tmp_path / "state")
    engine.start()
    try:
        status = engine.status()
        assert (status.state.value, status.running, status.safe_to_stop) == ("not_configured", False, False)
        assert any("S3_BUCKET" in error for error in status.errors)
        with pytest.raises(CloudArchiveError, match="S3_BUCKET"):
            engine.start_watching()
        assert engine.stop_watching().startswith("Already stopped. S3_")
    finally:
        engine.close(0)


def test_a_call_while_it_starts_waits_until_it_has_started(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "READY_SECONDS", 60.0)
    asked, may_open = threading.Event(), threading.Event()

    def make_store(*_: Any, **__: Any) -> MemoryStore:
        may_open.wait(60)
        return MemoryStore()

    engine = Engine(
        root, state_base=tmp_path / "state", environ=ENVIRON, make_store=make_store, machine_wide=False
    )

    def ask() -> str:
        asked.set()
        return engine.start_watching()

    with ThreadPoolExecutor() as pool:
        starting = pool.submit(engine.start)
        answer = pool.submit(ask)
        asked.wait(60)
        may_open.set()
        starting.result(60)
        assert answer.result(60) == "Already archiving."
    engine.close(60)


def test_it_is_starting_until_it_watches(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = unstarted(root, tmp_path / "state", **ENVIRON)
    seen: list[str] = []
    start = Archiver.start

    def seen_start(archiver: Archiver) -> None:
        seen.append(engine.status(scan=False).state.value)
        start(archiver)

    monkeypatch.setattr(Archiver, "start", seen_start)
    engine.start()
    engine.close(60)
    assert seen == ["starting"]


def test_a_status_that_is_made_while_it_begins_to_watch_is_not_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = unstarted(root, tmp_path / "state", **ENVIRON)
    begins, may_start = threading.Event(), threading.Event()
    start, status = Archiver.start, Archiver.status

    def start_later(archiver: Archiver) -> None:
        begins.set()
        may_start.wait(60)
        start(archiver)

    with ThreadPoolExecutor() as pool:
        monkeypatch.setattr(Archiver, "start", start_later)
        starting = pool.submit(engine.start)
        begins.wait(60)

        def made_before_it_watches(archiver: Archiver, **options: bool) -> Status:
            found = status(archiver, **options)
            may_start.set()
            starting.result(60)
            return found

        monkeypatch.setattr(Archiver, "status", made_before_it_watches)
        state = engine.status(scan=False).state
        monkeypatch.setattr(Archiver, "status", status)
    engine.close(60)
    assert state.value == "starting"


def test_a_second_one_stands_by_and_refuses_orders(engine: Engine, root: Path, tmp_path: Path) -> None:
    second = unstarted(root, tmp_path / "state", **ENVIRON)
    stood: list[bool] = []
    second.on_standby = lambda: stood.append(True)
    second.start(autostart=True)
    try:
        assert second.status().state.value == "standby"
        assert second.status().destination.bucket == ENVIRON["S3_BUCKET"]
        assert "Another process is archiving" in second.status().errors[-1]
        assert stood == [True]
        with pytest.raises(CloudArchiveError, match="Another process"):
            second.retry()
        assert second.stop_watching().startswith("Already stopped. Another process is archiving")
        engine.close(60)
        wait_until(lambda: second.status().state.value == "stopped", "it takes over, and does not watch")
    finally:
        second.close(0)


def test_a_standby_that_is_started_after_a_stop_watches_once_it_takes_over(
    engine: Engine, root: Path, tmp_path: Path
) -> None:
    second = unstarted(root, tmp_path / "state", **ENVIRON)
    second.start(autostart=True)
    try:
        second.stop_watching()
        with pytest.raises(CloudArchiveError, match="Another process"):
            second.start_watching()
        engine.close(60)
        wait_until(lambda: second.status().running, "it takes over, and watches")
    finally:
        second.close(0)


def test_orders_answer_with_what_they_did(engine: Engine, root: Path) -> None:
    assert engine.start_watching() == "Already archiving."
    assert engine.retry() == "Nothing to retry."
    (root / "a.png").write_bytes(b"a")
    assert engine.flush(60)
    assert engine.rescan() == "0 new or changed files found."
    assert engine.stop_watching() == "Stopped."
    assert engine.stop_watching() == "Already stopped."
    for order in (engine.rescan, engine.archive_baseline):
        with pytest.raises(RequestRefused, match="start it first") as refused:
            order()
        assert refused.value.status == 409
    assert engine.start_watching() == f"Archiving {root}."


def test_older_files_are_counted_when_they_are_asked_for(
    tmp_path: Path, root: Path, store: MemoryStore
) -> None:
    for name in ("old.png", "older.png"):
        (root / name).write_bytes(name.encode())
        os.utime(root / name, (1e9, 1e9))
    with engine_on(root, store, tmp_path / "state") as engine:
        wait_until(lambda: engine.has_scanned, "the first scan")
        assert engine.archive_baseline() == "2 older files are being archived."
        assert engine.flush(60)
    assert set(store.bodies()) == {"out/old.png", "out/older.png"}


def test_one_file_is_uploaded_and_a_missing_or_outside_file_is_refused(
    engine: Engine, root: Path, store: MemoryStore
) -> None:
    (root / "a.png").write_bytes(b"a")
    assert engine.upload("a.png").http_status == 200
    assert store.bodies() == {"out/a.png": b"a"}
    with pytest.raises(RequestRefused) as raised:
        engine.upload("no.png")
    assert raised.value.status == 404
    with pytest.raises(RequestRefused) as raised:
        engine.upload("../outside.png")
    assert raised.value.status in (403, 404)


def test_files_of_this_program_are_never_uploaded(root: Path, store: MemoryStore) -> None:
    with engine_on(root, store, root / "state") as engine:
        assert engine.state_directory is not None
        own = (engine.state_directory / "ledger.sqlite3").relative_to(root).as_posix()
        with pytest.raises(RequestRefused, match="never archived"):
            engine.upload(own)


def test_files_are_paged_from_the_ledger_or_from_the_directory(engine: Engine, root: Path) -> None:
    (root / "a.png").write_bytes(b"a")
    (root / ".hidden").write_bytes(b"h")
    assert engine.flush(60)
    rows, cursor = engine.files("archived", "", 10, None)
    assert ([row["path"] for row in rows], cursor) == (["a.png"], None)
    assert [row["path"] for row in engine.files("skipped", "", 10, None)[0]] == [".hidden"]
    with pytest.raises(RequestRefused):
        engine.files("no such state", "", 10, None)


def test_a_ledger_that_fails_makes_a_status_and_no_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: object) -> None:
        raise LedgerError("The disk is full.")

    monkeypatch.setattr(engine.archiver(), "status", failing)
    status = engine.status()
    assert (status.state.value, status.errors, status.running) == (
        "unavailable",
        ("The disk is full.",),
        True,
    )


def test_settings_that_delete_local_files_are_in_a_status_without_an_archive(
    root: Path, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletes = {"CLOUD_ARCHIVE_DELETE_LOCAL_AFTER": "7d"}

    def failing(**_: object) -> None:
        raise LedgerError("The disk is full.")

    with engine_on(root, store, tmp_path / "state", **deletes) as first:
        second = unstarted(root, tmp_path / "state", **ENVIRON, **deletes)
        second.start()
        try:
            assert second.status().state.value == "standby"
            assert not second.status().keeps_local_files
        finally:
            second.close(0)
        with monkeypatch.context() as broken:
            broken.setattr(first.archiver(), "status", failing)
            assert not first.status().keeps_local_files


def test_listeners_get_the_status_until_they_unsubscribe(engine: Engine, root: Path) -> None:
    pushed: list[int] = []
    end = engine.subscribe(lambda status: pushed.append(status["uploaded_files"]))
    (root / "a.png").write_bytes(b"a")
    wait_until(lambda: 1 in pushed, "the upload is pushed")
    end()
    others: list[int] = []
    engine.subscribe(lambda status: others.append(status["uploaded_files"]))
    (root / "b.png").write_bytes(b"b")
    wait_until(lambda: 2 in others, "the next upload is pushed")
    assert 2 not in pushed


def test_only_an_engine_whose_process_is_gone_hands_over(tmp_path: Path, root: Path) -> None:
    orphaned = [False]
    engine = Engine(
        root,
        state_base=tmp_path / "state",
        environ=ENVIRON,
        make_store=lambda *_, **__: MemoryStore(),
        machine_wide=False,
        orphaned=lambda: orphaned[0],
    )
    engine.start()
    try:
        assert not engine.request_handover()
        assert not engine.handed_over
        orphaned[0] = True
        assert engine.request_handover()
        engine.wait_for_handover()
        assert engine.handed_over
    finally:
        engine.close(0)


def test_what_is_left_is_known_after_the_end(tmp_path: Path, root: Path, store: MemoryStore) -> None:
    with engine_on(root, store, tmp_path / "state") as engine:
        wait_until(lambda: engine.has_scanned, "the first scan")
        assert engine.remainder is None
        assert engine.drain(60)
    assert engine.remainder is not None
    assert engine.remainder.sentence == "Everything is in the bucket."


def test_the_state_directory_is_where_an_engine_would_be_found(root: Path, tmp_path: Path) -> None:
    environ = {**ENVIRON, "CLOUD_ARCHIVE_STATE_DIR": str(tmp_path / "state")}
    engine = unstarted(root, None, **environ)  # type: ignore[arg-type]
    assert engine.state_directory is None
    assert engine.prepare() == engine_state_directory(root, environ) == engine.state_directory
    engine.close(0)
