"""Rows after they were archived."""

from __future__ import annotations

from pathlib import Path

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
    assert vacuum(ledger)
    assert ledger.totals().archived.files == 1
    assert ledger.totals().open.files == 1
    ledger.clear_baseline()  # as CLOUD_ARCHIVE_BACKFILL=all does
    assert ledger.unknown([*old, version("gone.png")]) == [version("gone.png")]
    assert ledger.add(old) == 0
    assert ledger.add(old[:1], priority=-1) == 1  # somebody asks for it by name
    ledger.close()
