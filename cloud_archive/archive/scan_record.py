"""Recognise known batches, in which an earlier scan, of this or an earlier process, found nothing to do.

A known batch costs one hash of what `stat` says about its files, and no look-up in the ledger.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from .. import __version__
from ..errors import LedgerError
from ..files import SkipReason
from ..intake.selection import Selection
from ..ledger.known_batches import KnownBatches, read_known_batches, write_known_batches
from ..ledger.ledger import Ledger
from .unarchived import FoundFile, Tally

logger = logging.getLogger("cloud_archive.reconcile")

_SIZE_AND_TIMES = ("st_size", "st_mtime_ns", "st_ctime_ns")


class BatchCounts(NamedTuple):
    """What a batch of files holds.

    Attributes:
        tally: counts of its files without a row.
        same: how many files have a row and were not touched since.
        is_known: every file that is to be archived has a row, no row is still to be archived or doubtful, and no file
            without a row is this program's own.
    """

    tally: Tally
    same: int
    is_known: bool = True

    def to_json(self) -> str:
        """Return the text that the ledger stores about a known batch."""
        skipped = {reason.value: count for reason, count in self.tally.skipped.items()}
        return json.dumps([self.same, self.tally.baseline, skipped], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> BatchCounts:
        """Return the counts from the text of `to_json`."""
        same, baseline, skipped = json.loads(text)
        tally = Tally(baseline=baseline)
        tally.skipped.update({SkipReason(reason): count for reason, count in skipped.items()})
        return cls(tally, same)


class ScanRecord:
    """Reads and writes the known batches of one directory. For one thread. `inodes`: see `stable_inodes`."""

    def __init__(self, ledger: Ledger, selection: Selection, *, inodes: bool) -> None:
        self._ledger = ledger
        # Part of each hash: other rules may select other files.
        self._rules = repr((__version__, selection.patterns, inodes)).encode("utf-8", "surrogatepass")
        self._facts = attrgetter(*_SIZE_AND_TIMES, "st_ino") if inodes else attrgetter(*_SIZE_AND_TIMES)
        self._before = KnownBatches(0, {})
        self._now: dict[bytes, str] = {}

    def begin(self) -> None:
        """Begin a scan: read the known batches. LedgerError: the ledger can't be read."""
        self._before, self._now = read_known_batches(self._ledger), {}

    def hash_of(self, batch: list[FoundFile]) -> bytes:
        """Return the hash of a batch, which changes with the rules, and with any file's path, size, times or inode."""
        paths, stats = zip(*batch, strict=True)
        digest = hashlib.blake2b(self._rules, digest_size=16)
        digest.update("\0".join(paths).encode("utf-8", "surrogatepass"))
        facts = tuple(chain.from_iterable(map(self._facts, stats)))
        try:
            digest.update(struct.pack(f"<{len(facts)}q", *facts))
        except struct.error:  # more than 63 bits, as inodes of ZFS and ReFS have
            digest.update(repr(facts).encode())
        return digest.digest()

    def find(self, digest: bytes, *, first: bool) -> BatchCounts | None:
        """Return what a known batch holds; None if it must be looked up in the ledger.

        The `first` scan since watching began reports empty files, so it looks up each batch that holds any.
        """
        text = self._before.counts.get(digest)
        if text is None:
            return None
        counts = BatchCounts.from_json(text)
        if first and counts.tally.skipped[SkipReason.EMPTY]:
            return None
        self._now[digest] = text
        return counts

    def keep(self, digest: bytes, counts: BatchCounts) -> None:
        """Add a known batch, for `save`."""
        self._now[digest] = counts.to_json()

    def save(self) -> None:
        """Store the known batches of this scan, which has ended. A LedgerError is only logged."""
        if self._now == self._before.counts:
            return
        try:
            write_known_batches(self._ledger, self._before, self._now)
        except LedgerError as error:
            logger.debug("The known batches could not be stored: %s", error)
