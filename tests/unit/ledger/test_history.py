"""Rows after they were archived."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloud_archive.errors import LedgerError
from cloud_archive.ledger.history import compact, count_compactable_rows, vacuum
from cloud_archive.ledger.ledger import Ledger

from .ledger_helpers import Clock, archive, claimed, version


def test_old_rows_are_compacted_and_their_files_stay_known(tmp_path: Path, clock: Clock) -> None:
    ledger = Ledger(tmp_path / "l.sqlite3", clock=clock)
    ledger.open()
    old = [version(f"old-{number}.png") for number in range(300)]
    ledger.add(old)
    for _ in old:
        archive(ledger, claimed(ledger))
    ledger.add([version("gone.png")])
    ledger.mark_vanished(claimed(ledger))
    clock.now += 1000
    ledger.add([version("young.png"), version("waits.png")])
    archive(ledger, claimed(ledger))
    assert count_compactable_rows(ledger, clock.now - 500) == 301
    assert compact(ledger, clock.now - 500, page=100) == 301
    assert vacuum(ledger) is None
    assert ledger.totals().archived.files == 1
    assert ledger.totals().open.files == 1
    ledger.clear_baseline()  # as CLOUD_ARCHIVE_BACKFILL=all does
    assert ledger.unknown([*old, version("gone.png")]) == [version("gone.png")]
    assert ledger.add(old) == 0
    assert ledger.add(old[:1], priority=-1) == 1  # somebody asks for it by name
    ledger.close()


@pytest.fixture
def shrinkable(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of many pages, most of which are empty."""
    ledger = Ledger(tmp_path / "l.sqlite3")
    ledger.open()
    ledger.add_to_baseline(range(20_000))
    ledger.clear_baseline()
    with closing(ledger.connect()) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yield ledger
    ledger.close()


def test_a_program_that_reads_the_ledger_keeps_its_size(
    shrinkable: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.ledger.database.BUSY_SECONDS", 0.05)
    assert shrinkable.path is not None
    with closing(sqlite3.connect(shrinkable.path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM files").fetchall()
        size = shrinkable.path.stat().st_size
        why = vacuum(shrinkable)
        assert shrinkable.path.stat().st_size == size
        assert "another program" in str(why)
    assert vacuum(shrinkable) is None
    assert shrinkable.path.stat().st_size < size


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")
def test_a_full_disk_is_not_taken_for_another_program(shrinkable: Ledger) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        why = vacuum(shrinkable)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(why, LedgerError)
    assert "another program" not in str(why)


def test_a_vacuum_that_gets_no_connection_says_why(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    error = LedgerError("The ledger can't be opened.")

    def refuse() -> None:
        raise error

    monkeypatch.setattr(ledger, "connect", refuse)
    assert vacuum(ledger) is error
