"""The result of one claim: a real ledger, a store in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import LedgerError
from cloud_archive.files import stat_version
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.upload.source import MEBIBYTE
from tests.functional.archives import added, archiving, pool_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def test_a_claim_whose_end_could_not_be_committed_is_taken_up_again(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    real = ledger.mark_all_archived
    failures = iter([True])

    def locked_once(*args: Any, **how: Any) -> None:
        if next(failures, False):
            raise LedgerError("locked by another program")
        real(*args, **how)

    monkeypatch.setattr(ledger, "mark_all_archived", locked_once)
    added(ledger, root, "a.png", b"a")
    pool = pool_on(ledger, root, store)
    pool.start()
    try:
        wait_until(lambda: ledger.totals().archived.files == 1, "archived at the second try")
        wait_until(lambda: pool.ledger_problem is None, "the trouble is over")
    finally:
        pool.stop(60)
    assert store.bodies() == {"a.png": b"a"}


def test_a_version_that_a_newer_row_has_overtaken_does_not_wait_for_ever(root: Path) -> None:
    """The file is overwritten while a part of its older version is sent; the newer one has a row by then."""
    store = MemoryStore()
    with archiving(root, store) as archiver:
        wait_until(lambda: archiver.running and archiver.has_scanned, "first scan")
        (root / "film.bin").write_bytes(b"A" * (9 * MEBIBYTE))

        def overwrite(operation: str, key: str) -> None:
            if operation == "CreateMultipartUpload":
                store.on_call = lambda operation, key: None
                (root / "film.bin").write_bytes(b"new")
                wait_until(
                    lambda: archiver.ledger.find(stat_version(root, "film.bin")) is not None, "its row"
                )

        store.on_call = overwrite
        assert archiver.flush(60), archiver.ledger.rows()
    assert store.bodies() == {"out/film.bin": b"new"}


def test_a_pending_version_whose_file_went_back_to_an_archived_one_does_not_wait_for_ever(root: Path) -> None:
    store = MemoryStore()
    with archiving(root, store, start=False) as archiver:
        archiver.start()
        (root / "a.png").write_bytes(b"one")
        assert archiver.flush(60)
        archiver.stop(60)
        before = (root / "a.png").stat()
        added(archiver.ledger, root, "a.png", b"two!")
        (root / "a.png").write_bytes(b"one")
        os.utime(root / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
        archiver.start()
        assert archiver.flush(60), archiver.ledger.rows()


def test_a_pending_version_whose_file_is_empty_now_is_counted_as_gone(root: Path) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"one")
        (root / "a.png").write_bytes(b"")
        archiver.start()
        assert archiver.flush(60), archiver.ledger.rows()
        assert archiver.status().vanished_files == 1


def test_a_failure_that_cannot_be_recorded_does_not_keep_the_claim(root: Path, ledger: Ledger) -> None:
    store = MemoryStore()
    pool = pool_on(ledger, root, store)
    added(ledger, root, "a.png", b"a")
    claim = ledger.claim("x")
    assert claim is not None

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    ledger_mark, ledger.mark_failed = ledger.mark_failed, broken  # type: ignore[method-assign]
    store.on_call = broken
    with pytest.raises(ValueError, match="a bug"):
        pool.upload(claim)
    ledger.mark_failed = ledger_mark  # type: ignore[method-assign]
    assert ledger.claim("x") is not None
