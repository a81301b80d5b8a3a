"""Whether the watched directory is still the one whose files the ledger knows.

A volume that is not mounted leaves an empty directory in its place, or another volume takes it. Until the known
directory is back, or the operator accepts the new one, nothing counts as vanished or freed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from ..errors import RootReplaced
from ..files import directory_identity, fingerprints
from ..intake.walk import walk
from .history import expected_paths
from .ledger import KNOWN_ROOT, Ledger

logger = logging.getLogger("cloud_archive.root")

SAMPLE = 500  # files of the ledger that are looked for in a directory with other numbers
BATCH = 1000
REFUSED_SECONDS = 2.0  # how long an unknown directory is not searched again
CURE = (
    "Mount its volume again; if it is meant to be a new directory, run `cloud-archive rescan --accept-root`."
)


class KnownRoot:
    """Compares the watched directory with the one that the ledger belongs to. Safe to use from any thread.

    While this object lives another device or inode is another directory; the same inode on another device that
    holds a file of the ledger is the same volume, mounted again. At a start both numbers may have changed (another
    container), so that there one file of the ledger suffices.

    Args:
        root: the watched directory; it may be missing.
        ledger: remembers device and inode.
    """

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self._root = root
        self._ledger = ledger
        self._lock = threading.Lock()
        self._known: tuple[int, int] | None = None
        self._refused: tuple[tuple[int, int], float] | None = None

    def trouble(self) -> str | None:
        """Return why this is not the known directory, with what to do; None where it is.

        Raises:
            LedgerError: the ledger cannot be read or written.
        """
        with self._lock:
            now = directory_identity(self._root)
            if now is None:
                return f"The watched directory {self._root} is not there."
            if now == self._known:
                return None
            if not self._was_refused(now):
                if self._recognise(now):
                    self._keep(now)
                    return None
                self._refused = (now, time.monotonic())
            if self._known is None:
                why = "holds none of the files that the archive knows. Is its volume mounted?"
            else:
                why = "is another directory now. Was its volume unmounted?"
            return f"The watched directory {self._root} {why} {CURE}"

    def check(self) -> None:
        """Do nothing where the directory is the known one.

        Raises:
            RootReplaced: it is not.
            LedgerError: the ledger cannot be read or written.
        """
        trouble = self.trouble()
        if trouble is not None:
            raise RootReplaced(trouble)

    def accept(self) -> None:
        """Take the directory that is there now for the known one: the operator says so.

        Raises:
            RootReplaced: there is no directory.
            LedgerError: it cannot be remembered.
        """
        with self._lock:
            now = directory_identity(self._root)
            if now is None:
                raise RootReplaced(f"The watched directory {self._root} is not there.")
            self._keep(now)
        logger.warning("%s is accepted as the watched directory", self._root)

    def _keep(self, now: tuple[int, int]) -> None:
        if self._remembered() != now:
            self._ledger.remember(KNOWN_ROOT, f"{now[0]}:{now[1]}")
        self._known, self._refused = now, None

    def _remembered(self) -> tuple[int, int] | None:
        device, _, inode = (self._ledger.recall(KNOWN_ROOT) or "").partition(":")
        return (int(device), int(inode)) if device else None

    def _was_refused(self, now: tuple[int, int]) -> bool:
        refused = self._refused
        return refused is not None and refused[0] == now and time.monotonic() - refused[1] < REFUSED_SECONDS

    def _recognise(self, now: tuple[int, int]) -> bool:
        remembered = self._known or self._remembered()
        if now == remembered:
            return True
        expected = expected_paths(self._ledger, SAMPLE)
        if not expected:
            return True  # it can't be mistaken for another one
        if self._known is not None and now[1] != self._known[1]:
            return False
        # A ledger of an earlier version remembers no directory, but where its files lay.
        if remembered is None and expected[0][1] == now[0]:
            return True
        return self._holds_one(path for path, _ in expected)

    def _holds_one(self, expected: Iterable[str]) -> bool:
        """Return whether a file of the ledger is there: by its path, or one of any age by its fingerprint."""
        if any(os.path.isfile(self._root / path) for path in expected):  # noqa: PTH113 - never raises
            return True
        found = ((path, stat) for path, stat in walk(self._root) if stat.st_size)
        while batch := list(islice(found, BATCH)):
            if len(self._ledger.unknown_fingerprints(fingerprints(batch))) < len(batch):
                return True
        return False
