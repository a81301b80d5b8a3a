"""What is recovered from a damaged ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.ledger.history import compact, mark_pruned
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.recovery import move_aside, recover_baseline

from .ledger_helpers import Clock, archive, claimed, version


def test_the_baseline_is_saved_from_a_damaged_ledger(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path)
    ledger.open()
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", "123")
    ledger.close()
    aside = move_aside(path)
    assert not path.exists()
    fresh = Ledger(path)
    fresh.open()
    assert recover_baseline(aside, fresh)
    assert fresh.unknown([version("old.png"), version("new.png")]) == [version("new.png")]
    fresh.close()


@pytest.mark.parametrize("first_start", ["123", None])
def test_what_was_compacted_or_pruned_stays_known_after_a_rescue_whatever_the_backfill(
    tmp_path: Path, clock: Clock, first_start: str | None
) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path, clock=clock)
    ledger.open()
    ledger.add([version("compacted.png"), version("pruned.png")])
    for _ in range(2):
        archive(ledger, claimed(ledger))
    mark_pruned(ledger, [row.row for row in ledger.rows(query="pruned")])
    ledger.change(
        lambda db: db.execute("UPDATE files SET archived_at = 0 WHERE path = ?", (b"compacted.png",))
    )
    assert compact(ledger, clock.now) == 1
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", first_start)
    ledger.close()
    aside = move_aside(path)
    fresh = Ledger(path)
    fresh.open()
    assert recover_baseline(aside, fresh) is (first_start is not None)
    fresh.clear_baseline()  # as CLOUD_ARCHIVE_BACKFILL=all does
    known = [version("compacted.png"), version("pruned.png")]
    assert fresh.unknown([*known, version("old.png")]) == [version("old.png")]
    assert fresh.add(known) == 0
    fresh.close()


def test_nothing_is_saved_from_garbage(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_bytes(b"\xff" * 9000)
    fresh = Ledger(None)
    fresh.open()
    assert not recover_baseline(tmp_path / "x.sqlite3", fresh)
    fresh.close()
