"""The status as built from the archive's parts; a real ledger, a store in memory, nothing watched or all of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.status import State
from cloud_archive.beneath import open_file
from cloud_archive.errors import StoreError
from cloud_archive.intake import settle_rules
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.failures import explain
from tests.functional.archives import added, archiving
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def test_while_nothing_is_watched_the_queue_shows(root: Path) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"123")
        status = archiver.status(scan=False)
        assert (status.running, status.state) == (False, State.STOPPED)
        assert (status.pending_files, status.pending_bytes, status.total_files) == (1, 3, 1)
        assert not status.safe_to_stop
        assert not archiver.gauges().watching


def test_a_status_that_counts_a_pending_file_is_not_safe(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last file may be archived after it was counted, and before it is asked whether it is safe."""
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"a")
        monkeypatch.setattr(archiver.safety, "safe_to_stop", lambda **how: True)
        status = archiver.status()
        assert (status.pending_files, status.safe_to_stop) == (1, False)


def test_a_bucket_or_prefix_that_equals_a_short_secret_is_not_shown(root: Path) -> None:
    with archiving(
        root,
        MemoryStore(),
        start=False,
        S3_SECRET_ACCESS_KEY="hunter",
        S3_BUCKET="hunter",
        S3_PREFIX="hunter",
    ) as archiver:
        destination = archiver.status(scan=False).destination
        assert destination is not None
        assert (destination.endpoint, destination.bucket, destination.prefix) == (
            "AWS us-east-1",
            "***",
            "***",
        )


def test_an_upload_under_way_shows_its_key_and_what_is_left_to_send(root: Path) -> None:
    store = MemoryStore()
    inside, go_on = threading.Event(), threading.Event()

    def hold(operation: str, key: str) -> None:
        if operation == "PutObject" and key.endswith("a.png"):
            inside.set()
            go_on.wait(60)

    store.on_call = hold
    # No events: a late one would have the file counted twice for a moment.
    with archiving(root, store, CLOUD_ARCHIVE_WATCH="poll") as archiver:
        (root / "a.png").write_bytes(b"123")
        archiver.rescan(60)
        assert inside.wait(60)
        wait_until(lambda: archiver.status(scan=False).state is State.UPLOADING, "the connection is verified")
        status = archiver.status(scan=False)
        assert [(active.file_name, active.s3_key) for active in status.active] == [("a.png", "out/a.png")]
        assert status.pending_files == 1
        assert archiver.gauges().oldest_seen_at is not None
        go_on.set()
        assert archiver.flush(60)
        assert archiver.status().safe_to_stop
        status = archiver.status(scan=False)
        assert (status.uploaded_files, status.active) == (1, ())


def test_the_gauge_is_not_safe_while_an_archived_file_may_hold_new_bytes(root: Path) -> None:
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"abc")
        assert archiver.flush(60)
        wait_until(
            lambda: archiver.gauges().safe_to_stop, "it is safe, also once the event of the close has come"
        )
        watch = archiver.pipeline.watch
        assert watch is not None
        watch.rechecker.stop()
        watch.rechecker.put("a.png", written=True)
        assert not archiver.gauges().safe_to_stop
        assert not archiver.status().safe_to_stop


def test_with_only_an_unreadable_file_left_everything_waits_for_its_next_try(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, path: str) -> Any:
        if path == "dark.png":
            raise PermissionError(13, "Permission denied")
        return open_file(folder, path)

    monkeypatch.setattr(settle_rules, "open_file", refuse)
    store = MemoryStore()
    inside, go_on = threading.Event(), threading.Event()

    def hold(operation: str, key: str) -> None:
        if key.endswith("light.png"):
            inside.set()
            go_on.wait(60)

    store.on_call = hold
    with archiving(root, store) as archiver:
        (root / "dark.png").write_bytes(b"dark")
        wait_until(lambda: archiver.status(scan=False).state is State.RETRYING, "nothing else is left")
        assert archiver.status(scan=False).pending_files == 1
        (root / "light.png").write_bytes(b"light")
        assert inside.wait(60)
        assert archiver.status(scan=False).state is State.UPLOADING
        go_on.set()
        wait_until(lambda: archiver.status(scan=False).state is State.RETRYING, "the other one is archived")


def test_why_the_store_refuses_stands_once_and_last(root: Path) -> None:
    store = MemoryStore()

    def refuse(operation: str, key: str) -> None:
        if operation == "PutObject":
            raise StoreError(operation, key, explain("ConnectionRefused"))

    store.on_call = refuse
    with archiving(root, store) as archiver:
        for number in range(3):
            (root / f"{number}.png").write_bytes(b"x")
        wait_until(lambda: archiver.refusal is not None, "the store refuses")
        sentence = explain("ConnectionRefused").sentence
        wait_until(lambda: archiver.status(scan=False).errors[-1:] == (sentence,), "it is shown")
        assert archiver.status(scan=False).errors.count(sentence) == 1
        store.on_call = lambda operation, key: None
        assert archiver.flush(60)
        assert archiver.status().errors == ()


HONOURED, IGNORED, REJECTED, UNKNOWN = (
    CreateOnly.HONOURED,
    CreateOnly.IGNORED,
    CreateOnly.REJECTED,
    CreateOnly.UNKNOWN,
)


@pytest.mark.parametrize(
    ("single", "in_parts", "environ", "risk"),
    [
        (HONOURED, HONOURED, {}, ""),
        (HONOURED, IGNORED, {}, "large_files"),  # as Ceph RGW 16.2
        (REJECTED, HONOURED, {}, ""),  # as Swift 2.30: all files go in parts
        (IGNORED, IGNORED, {}, "all_files"),
        (REJECTED, REJECTED, {}, "all_files"),
        (UNKNOWN, UNKNOWN, {}, ""),
        (IGNORED, UNKNOWN, {}, ""),
        (IGNORED, IGNORED, {"S3_PREFIX": "pods/{session_id}"}, ""),
        (IGNORED, IGNORED, {"S3_ENABLE_CONFLICT_RENAME": "false"}, ""),
    ],
)
def test_a_store_that_cannot_refuse_to_overwrite_is_a_risk(
    single: CreateOnly, in_parts: CreateOnly, environ: Any, risk: str, root: Path
) -> None:
    store = MemoryStore(Capabilities(single, in_parts))
    with archiving(root, store, start=False, **environ) as archiver:
        assert archiver.status(scan=False).to_json()["overwrite_risk"] == risk


def test_the_metrics_read_the_totals_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"123")
        reads: list[None] = []
        totals = archiver.ledger.totals

        def counted() -> Any:
            reads.append(None)
            return totals()

        monkeypatch.setattr(archiver.ledger, "totals", counted)
        gauges = archiver.gauges()
        assert (gauges.totals.pending.files, gauges.has_work, len(reads)) == (1, True, 1)
