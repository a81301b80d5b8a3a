"""Which version can be claimed when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    yield ledger
    ledger.close()


def test_a_held_version_is_not_held_longer_by_a_clock_that_is_set_back(tmp_path: Path) -> None:
    now = [1_700_000_000.0]
    ledger = Ledger(tmp_path / "l.sqlite3", clock=lambda: now[0])
    ledger.open()
    ledger.add([FileVersion("a", 1, 1)])
    claim = ledger.claim("x")
    assert claim is not None
    ledger.release(claim, hold_seconds=2)
    assert ledger.claim("x") is None
    now[0] -= 86400
    assert ledger.claim("x") is not None
    ledger.close()


def test_a_version_is_not_taken_while_another_one_of_the_same_file_is_uploaded(ledger: Ledger) -> None:
    """Without renaming both would go to one key, and the older one could come last."""
    ledger.add([FileVersion("a", 1, 1)])
    assert ledger.claim("x") is not None
    newer = FileVersion("a", 2, 2)
    ledger.add([newer])
    assert ledger.claim_version("y", newer) is None
