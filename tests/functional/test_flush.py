"""`flush` ends when everything is in the bucket, when its time is up, or when its caller gave up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.directory_watch import DirectoryWatch
from cloud_archive.archive.open_archive import MIN_CATALOG_SECONDS
from cloud_archive.archive.safety import Safety
from cloud_archive.catalog.catalog import Catalog
from cloud_archive.errors import StoreError
from cloud_archive.store.failures import explain
from tests.functional.archives import archiving, engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


class AwayStore(MemoryStore):
    def put(self, key: str, body: bytes, **_: object) -> None:  # type: ignore[override]
        raise StoreError("PutObject", key, explain("ServiceUnavailable"), status=503)


def test_twenty_given_up_flushes_end_and_the_next_one_ends_in_its_own_time(tmp_path: Path) -> None:
    root = tmp_path / "output"
    with archiving(root, AwayStore()) as archiver:
        (root / "a.png").write_bytes(b"a")
        wait_until(
            lambda: archiver.ledger.totals().pending.files + archiver.ledger.totals().failed.files > 0,
            "it waits",
        )
        cancelled = threading.Event()
        waiting = [threading.Thread(target=flush, args=(archiver, cancelled), daemon=True) for _ in range(20)]
        for thread in waiting:
            thread.start()
        cancelled.set()
        wait_until(lambda: not any(thread.is_alive() for thread in waiting), "all of them ended")
        assert not archiver.flush(0.5)


def flush(archiver: Archiver, cancelled: threading.Event) -> None:
    assert not archiver.flush(3600, cancelled.is_set)


@pytest.mark.parametrize("catalog", ["off", "full"])
def test_a_flush_that_writes_no_catalog_checks_the_directory_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: str
) -> None:
    store, root = MemoryStore(), tmp_path / "output"
    with engine_on(root, store, tmp_path / "state", CLOUD_ARCHIVE_CATALOG=catalog) as engine:
        (root / "a.png").write_bytes(b"a")
        assert engine.flush(60)
        checks: list[float] = []
        flush = Safety.flush

        def counted(safety: Safety, timeout_seconds: float, cancelled: Callable[[], bool]) -> bool:
            checks.append(timeout_seconds)  # a late event may make one check scan twice
            return flush(safety, timeout_seconds, cancelled)

        monkeypatch.setattr(Safety, "flush", counted)
        assert engine.flush(60)
        assert len(checks) == 1


@pytest.mark.parametrize(("watch", "events_come"), [("auto", True), ("auto", False), ("poll", False)])
def test_a_file_that_comes_while_the_catalog_is_written_is_in_the_bucket_when_a_flush_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: str, events_come: bool
) -> None:
    if not events_come:  # on a busy machine, an event may come after the end of the flush
        monkeypatch.setattr(DirectoryWatch, "_on_hint", lambda *_: None)
    store, root = MemoryStore(), tmp_path / "output"
    arrives, may_arrive = threading.Event(), threading.Event()

    def on_call(operation: str, key: str) -> None:
        if operation == "PutObject" and "/segments/" in key and not arrives.is_set():
            arrives.set()
            (root / "late.png").write_bytes(b"late")
            threading.Timer(1.0, may_arrive.set).start()
        elif operation == "PutObject" and key == "out/late.png":
            may_arrive.wait(60)

    store.on_call = on_call
    with engine_on(root, store, tmp_path / "state", CLOUD_ARCHIVE_WATCH=watch) as engine:
        (root / "a.png").write_bytes(b"a")
        assert engine.flush(60)
        assert store.bodies() == {"out/a.png": b"a", "out/late.png": b"late"}
        assert engine.status(scan=False).unwritten_rows == 0


def test_a_flush_without_time_gives_the_catalog_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "output"
    with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
        given: list[float] = []
        monkeypatch.setattr(Safety, "flush", lambda *_: True)

        def flush(_: Catalog, seconds: float, cancelled: Callable[[], bool]) -> bool:
            given.append(seconds)
            return seconds > 0

        monkeypatch.setattr(Catalog, "flush", flush)
        assert engine.flush(0)
    assert given == [MIN_CATALOG_SECONDS]
