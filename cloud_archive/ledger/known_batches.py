"""Remember the batches in which a scan found nothing to do, so that the next one recognises each by one hash.

The schema's triggers increase the epoch whenever a row or baseline entry changes that a known batch may depend on.
After that no batch is known. A file that changes gives its batch another hash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from .ledger import Ledger

_EPOCH = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'known_epoch'"


class KnownBatches(NamedTuple):
    """The batches that were known in this epoch; `counts` is what the caller stored about each, by its hash."""

    epoch: int
    counts: Mapping[bytes, str]


def read_known_batches(ledger: Ledger) -> KnownBatches:
    """Return the batches that are known now."""
    epoch = int(ledger.read(_EPOCH)[0][0])
    return KnownBatches(
        epoch, dict(ledger.read("SELECT hash, counts FROM known_batches WHERE epoch = ?", (epoch,)))
    )


def write_known_batches(ledger: Ledger, before: KnownBatches, counts: Mapping[bytes, str]) -> bool:
    """Replace the known batches. Return False, and change nothing, if the epoch has changed since `before` was read."""

    def work(db: sqlite3.Connection) -> bool:
        if db.execute(_EPOCH).fetchone()[0] != before.epoch:
            return False
        db.execute("DELETE FROM known_batches WHERE epoch <> ?", (before.epoch,))
        gone = [(each,) for each in before.counts.keys() - counts.keys()]
        db.executemany("DELETE FROM known_batches WHERE hash = ?", gone)
        db.executemany(
            "INSERT OR REPLACE INTO known_batches VALUES (?, ?, ?)",
            [
                (each, before.epoch, text)
                for each, text in sorted(counts.items())
                if before.counts.get(each) != text
            ],
        )
        return True

    # A power cut may undo it: then the next scan looks the files up.
    return ledger.change(work, durable=False)
