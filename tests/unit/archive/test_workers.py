"""The upload threads: a real ledger, a store in memory."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.gate import Gate
from cloud_archive.errors import StoreError
from cloud_archive.files import stat_version
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim
from cloud_archive.store.failures import explain
from cloud_archive.upload.source import MEBIBYTE
from tests.functional.archives import added, pool_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


class CountingLedger(Ledger):
    """Counts the calls that claim files."""

    asked = 0

    def claim(self, claimant: str, **how: bool) -> Any:
        self.asked += 1
        return super().claim(claimant, **how)

    def claim_several(self, claimant: str, **how: int) -> list[Claim]:
        self.asked += 1
        return super().claim_several(claimant, **how)


def test_workers_rest_when_there_is_nothing_to_do_after_the_store_asked_for_fewer_requests(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = CountingLedger(tmp_path / "ledger.sqlite3")
    ledger.open()
    gate = Gate(4)
    gate.note_refusal(explain("SlowDown"), 0.0)
    gate.note_success()
    assert gate.narrowed
    pool = pool_on(ledger, root, MemoryStore(), 4, gate)
    kicks: list[str] = []
    monkeypatch.setattr(pool, "kick", lambda: kicks.append("kick"))
    pool.start()
    wait_until(lambda: ledger.asked > 0, "a worker has looked for files")
    assert pool.stop(60)
    ledger.close()
    assert kicks == [], "none woke the others, which would wake it again"


def test_uploads_cut_off_by_stop_are_pending_and_not_failed(root: Path, ledger: Ledger) -> None:
    store = MemoryStore()
    go_on = threading.Event()
    inside = threading.Event()

    def hang(operation: str, key: str) -> None:
        if operation == "UploadPart":
            inside.set()
            go_on.wait(60)

    store.on_call = hang
    added(ledger, root, "film.bin", os.urandom(40 * MEBIBYTE))
    pool = pool_on(ledger, root, store, 1)
    pool.start()
    assert inside.wait(60)
    assert not pool.stop(0.2)
    go_on.set()
    wait_until(lambda: ledger.totals().uploading.files == 0, "the thread has let go")
    assert ledger.totals().pending.files == 1
    assert not [t for t in threading.enumerate() if "part" in t.name and not t.daemon], (
        "would hold up the exit"
    )


def test_an_abort_that_failed_is_retried_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is gone while its multipart upload waits, and the store fails the first abort."""
    store = MemoryStore()
    ledger = Ledger(None)
    ledger.open()
    (root / "a.mp4").write_bytes(b"x")
    version = stat_version(root, "a.mp4")
    ledger.add([version])
    claim = ledger.claim("me")
    assert claim is not None
    upload_id = store.create_multipart("k", content_type="video/mp4", metadata={})
    ledger.record_attempt(claim, sha256="ab" * 32, base_key="k", key="k")
    ledger.record_multipart(claim, upload_id, 8 << 20)
    ledger.release_all(retry_failed=True)
    (root / "a.mp4").unlink()
    fails = iter([True])
    abort = store.abort_multipart

    def abort_later(key: str, name: str) -> None:
        if next(fails, False):
            raise StoreError("AbortMultipartUpload", key, explain("InternalError"), status=500)
        abort(key, name)

    monkeypatch.setattr(store, "abort_multipart", abort_later)
    pool = pool_on(ledger, root, store, count=1)
    again = ledger.claim("me")
    assert again is not None
    pool.upload(again)
    assert ledger.abandoned() == [("k", upload_id)]
    pool.start()
    wait_until(lambda: not ledger.abandoned(), "it is aborted")
    pool.stop(60)
    assert not store.uploads
    ledger.close()


def test_aborts_are_retried_although_there_is_always_something_to_upload(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.workers.ABORT_SECONDS", 0.05)
    store, numbers = MemoryStore(), itertools.count()
    over = threading.Event()

    def bring(*_: str) -> None:
        """Queue the next file before this one is archived."""
        if not over.is_set():
            path = f"{next(numbers)}.png"
            (root / path).write_bytes(path.encode())
            ledger.add([stat_version(root, path)])

    bring()
    claim = ledger.claim("me")
    assert claim is not None
    upload_id = store.create_multipart("k", content_type="video/mp4", metadata={})
    ledger.abandon_multipart(claim, "k", upload_id)
    ledger.release_all(retry_failed=True)
    store.on_call = lambda operation, key: bring() if operation == "PutObject" else None
    pool = pool_on(ledger, root, store, count=1)
    pool.start()
    wait_until(lambda: not ledger.abandoned(), "it is aborted")
    over.set()
    pool.stop(60)
    assert not store.uploads
