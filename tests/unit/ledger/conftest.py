"""A ledger on disk whose clock a test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.ledger.ledger import Ledger

from .ledger_helpers import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=clock)
    ledger.open()
    yield ledger
    ledger.close()
