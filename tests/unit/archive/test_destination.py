"""The notice that files were archived to another destination, with a clock that is wrong for a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloud_archive.archive.destination import destination_notices
from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger
from tests.archived_rows import mark_archived


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger(None)
    ledger.open()
    yield ledger
    ledger.close()


def start(ledger: Ledger, destination: str, now: float) -> str:
    """Start a session at this time, in seconds since 1970. Return its notice."""
    ledger.clock = lambda: now
    return " ".join(destination_notices(ledger, destination))


def archive(ledger: Ledger, path: str, now: float) -> None:
    ledger.clock = lambda: now
    ledger.add([FileVersion(path, 1, 1)])
    claim = ledger.claim("test")
    assert claim is not None
    mark_archived(ledger, claim, key=path, sha256="ab" * 32, etag=None)


def test_files_are_counted_by_their_destination_although_the_clock_was_wrong_at_a_start(
    ledger: Ledger,
) -> None:
    today = 1_700_000_000.0
    assert start(ledger, "here/first", today) == ""
    archive(ledger, "a.png", today + 1)
    archive(ledger, "b.png", today + 2)
    assert start(ledger, "here/second", 60.0).startswith("2 files"), "the machine has no clock of its own"
    archive(ledger, "c.png", today + 3)
    assert start(ledger, "here/second", today + 4).startswith("2 files")
    assert start(ledger, "here/first", 60.0).startswith("1 file that")
