"""What users see: whether the store was ever reached, and what stopping and starting do."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.ledger.history import mark_pruned
from cloud_archive.ledger.rows import FileState
from cloud_archive.store.failures import explain
from tests.functional.archives import archiving, engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def refusing(code: str, status: int, *operations: str) -> MemoryStore:
    """A store that refuses these operations (default: every one) with this code."""
    store = MemoryStore()

    def refuse(operation: str, key: str) -> None:
        if not operations or operation in operations:
            raise StoreError(operation, key, explain(code, status), status=status)

    store.on_call = refuse
    return store


# --- the connection


def test_an_idle_archive_with_a_wrong_key_is_not_idle_and_says_why(tmp_path: Path) -> None:
    store = refusing("InvalidAccessKeyId", 403)
    with archiving(tmp_path / "root", store) as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "retrying", "the refusal shows")
        status = archiver.status()
        assert not status.connection_verified
        assert status.errors[-1].startswith("The store does not know this access key.")
        assert status.safe_to_stop, "nothing waits"

        store.on_call = lambda operation, key: None
        archiver.retry()
        wait_until(
            lambda: archiver.status(scan=False).state.value == "idle", "the key was corrected at the store"
        )
        status = archiver.status()
        assert status.connection_verified
        assert status.errors == ()


def test_until_the_store_answers_the_archive_is_starting(tmp_path: Path) -> None:
    asked, answer = threading.Event(), threading.Event()
    store = MemoryStore()

    def wait(operation: str, key: str) -> None:
        asked.set()
        assert answer.wait(60)

    store.on_call = wait
    with archiving(tmp_path / "root", store) as archiver:
        assert asked.wait(60), "the store is contacted although there is nothing to upload"
        assert archiver.status().state.value == "starting"
        answer.set()
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "it is idle")
    assert store.calls == [("GetObject", store.probe_key)], "one small request"


def test_a_store_that_does_not_answer_is_asked_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.connection.FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("cloud_archive.archive.connection.LONGEST_PAUSE_SECONDS", 0.05)
    store = refusing("ConnectionRefused", 0)
    with archiving(tmp_path / "root", store) as archiver:
        wait_until(lambda: store.count("GetObject") > 2, "it tries again")
        assert archiver.status(scan=False).state.value == "retrying"
        store.on_call = lambda operation, key: None
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "it is verified")


def test_a_key_that_may_not_read_is_verified_by_a_small_write(tmp_path: Path) -> None:
    store = refusing("AccessDenied", 403, "GetObject", "HeadObject", "ListObjectsV2")
    with archiving(tmp_path / "root", store) as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "it is verified")
    assert list(store.objects) == [store.probe_key]


def test_a_key_that_may_neither_read_nor_write_is_not_verified(tmp_path: Path) -> None:
    store = refusing("AccessDenied", 403)
    with archiving(tmp_path / "root", store) as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "retrying", "the refusal shows")
        assert "may not write" in archiver.status().errors[-1]


def test_an_upload_verifies_the_connection_too(tmp_path: Path) -> None:
    store = refusing("ReadTimeout", 0, "GetObject")
    with archiving(tmp_path / "root", store) as archiver:
        (tmp_path / "root" / "a.png").write_bytes(b"a")
        wait_until(lambda: archiver.status(scan=False).uploaded_files == 1, "it is archived")
        assert archiver.status(scan=False).connection_verified


# --- stop and start


def slow_store() -> tuple[MemoryStore, threading.Event, threading.Event]:
    """Return (store, event that an upload under way sets, event that lets uploads end)."""
    store, begun, go_on = MemoryStore(), threading.Event(), threading.Event()

    def wait(operation: str, key: str) -> None:
        if operation == "PutObject":
            begun.set()
            assert go_on.wait(60)

    store.on_call = wait
    return store, begun, go_on


def test_stop_answers_while_an_upload_is_under_way_and_start_resumes(tmp_path: Path) -> None:
    store, begun, go_on = slow_store()
    root = tmp_path / "root"
    with engine_on(root, store, tmp_path / "state") as engine:
        (root / "a.png").write_bytes(b"a")
        assert begun.wait(60)
        # `stop` does not wait for the upload, which the store still holds up.
        message = engine.stop_watching()
        assert "1 upload in progress will finish" in message
        status = engine.status(scan=False)
        assert (status.running, status.state.value) == (False, "stopped")
        assert [active.path for active in status.active] == ["a.png"], "what still drains is shown"
        assert not status.safe_to_stop

        engine.start_watching()
        assert engine.status(scan=False).running
        (root / "b.png").write_bytes(b"b")
        go_on.set()
        wait_until(lambda: engine.status(scan=False).uploaded_files == 2, "both are archived")
    assert {key for key in store.objects if key != store.probe_key} == {"out/a.png", "out/b.png"}


def test_stop_counts_no_file_that_was_just_archived(tmp_path: Path) -> None:
    archived, go_on = threading.Event(), threading.Event()

    def wait(path: str) -> None:
        archived.set()
        go_on.wait(60)

    with engine_on(tmp_path / "root", MemoryStore(), tmp_path / "state") as engine:
        engine.archiver().on_file = wait
        (tmp_path / "root" / "a.png").write_bytes(b"a")
        assert archived.wait(60)
        message = engine.stop_watching()
        go_on.set()
        assert message == "Stopped. 1 upload in progress will finish."


def test_after_a_stop_uploads_under_way_finish_and_nothing_new_begins(tmp_path: Path) -> None:
    store, begun, go_on = slow_store()
    root = tmp_path / "root"
    root.mkdir()
    with engine_on(root, store, tmp_path / "state", CLOUD_ARCHIVE_WORKERS="1") as engine:
        for name in ("a.png", "b.png"):
            (root / name).write_bytes(name.encode() * 1_000_000)
        assert begun.wait(60)
        # A file that still settles counts as pending, but only the ledger keeps it after the stop.
        wait_until(lambda: engine.archiver().ledger.totals().open.files == 2, "both are in the ledger")
        engine.stop_watching()
        go_on.set()
        wait_until(lambda: not engine.status(scan=False).active, "the upload under way finishes")
        status = engine.status(scan=False)
        assert (status.uploaded_files, status.pending_files) == (1, 1)
        assert len(store.objects) == 1
        engine.start_watching()
        wait_until(lambda: engine.status(scan=False).uploaded_files == 2, "the other one follows")


def test_an_end_while_a_stop_drains_waits_for_what_is_under_way(tmp_path: Path) -> None:
    store, begun, go_on = slow_store()
    root = tmp_path / "root"
    with engine_on(root, store, tmp_path / "state") as engine:
        (root / "a.png").write_bytes(b"a")
        assert begun.wait(60)
        engine.stop_watching()
        drained: list[bool] = []
        drain = threading.Thread(target=lambda: drained.append(engine.drain(60)))
        drain.start()
        go_on.set()
        drain.join(60)
        assert drained == [True]
        assert store.bodies() == {"out/a.png": b"a"}


def test_a_second_signal_counts_also_if_the_drain_has_not_begun(tmp_path: Path) -> None:
    store, begun, go_on = slow_store()
    with engine_on(tmp_path / "root", store, tmp_path / "state") as engine:
        (tmp_path / "root" / "a.png").write_bytes(b"a")
        assert begun.wait(60)
        engine.stop_draining()
        drained: list[bool] = []
        drain = threading.Thread(target=lambda: drained.append(engine.drain(3600)))
        drain.start()
        drain.join(60)
        go_on.set()
        drain.join(60)
        assert drained == [False]


# --- the last line


def last_line(tmp_path: Path, store: MemoryStore, *, drain: bool = True, stop_first: bool = False) -> str:
    root = tmp_path / "root"
    with engine_on(root, store, tmp_path / "state") as engine:
        wait_until(lambda: engine.status(scan=False).state.value in ("idle", "retrying"), "the first scan")
        if stop_first:
            engine.stop_watching()
        (root / "a.png").write_bytes(b"abc")
        if drain:
            engine.drain(60)
    assert engine.remainder is not None
    return engine.remainder.sentence


def test_the_last_line_says_that_everything_is_in_the_bucket(tmp_path: Path) -> None:
    assert last_line(tmp_path, MemoryStore()) == "Everything is in the bucket."


def test_the_last_line_counts_what_is_not_in_the_bucket(tmp_path: Path) -> None:
    line = last_line(tmp_path, refusing("AccessDenied", 403))
    assert line == "1 file (3 B) is not proven in the bucket yet; the next start continues with it."


def test_the_last_line_of_a_stopped_archive_counts_what_came_meanwhile(tmp_path: Path) -> None:
    line = last_line(tmp_path, MemoryStore(), stop_first=True)
    assert line.startswith("1 file ")
    assert "not proven in the bucket yet" in line


def test_the_last_line_does_not_claim_everything_where_nothing_was_scanned(tmp_path: Path) -> None:
    line = last_line(tmp_path, MemoryStore(), drain=False, stop_first=True)
    assert "was not scanned" in line


def test_after_a_prune_neither_flush_nor_the_last_line_claims_that_everything_is_in_the_bucket(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
        (root / "a.png").write_bytes(b"abc")
        assert engine.flush(60)
        assert engine.status().pruned_files == 0
        ledger = engine.archiver().ledger
        mark_pruned(ledger, ledger.rows(states=(FileState.ARCHIVED,), limit=10))
        assert engine.flush(60)
        assert engine.status().pruned_files == 1
        assert engine.drain(60)
    assert engine.remainder is not None
    assert engine.remainder.sentence == (
        "Everything is in the bucket except files whose objects `cloud-archive prune` deleted."
    )


def test_the_last_line_names_older_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "old.png").write_bytes(b"old")
    os.utime(root / "old.png", (1_600_000_000, 1_600_000_000))
    line = last_line(tmp_path, MemoryStore())
    assert line == "Everything is in the bucket except 1 older file. See `cloud-archive upload --baseline`."
