"""Check that the watched directory is the one whose files the ledger knows.

An unmounted volume leaves an empty directory, or another volume is mounted in its place. Until the known directory is
back, or the operator accepts the new one, no file counts as vanished or freed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from itertools import islice
from pathlib import Path

from ..errors import RootReplaced
from ..files import directory_identity, fingerprints
from ..intake.walk import walk
from .history import expected_files, knows_one
from .ledger import KNOWN_ROOT, LAST_KNOWN, Ledger

logger = logging.getLogger("cloud_archive.root")

SAMPLE = 500  # files of the ledger to search for in a directory with another device or inode
BATCH_FILES = 1000
REFUSED_SECONDS = 2.0  # before an unknown directory is searched again
CURE = (
    "Mount its volume again; if it was emptied or is meant to be a new directory,"
    " run `cloud-archive rescan --accept-root`."
)


class KnownRoot:
    """Compare the watched directory with the one that the ledger belongs to. Safe to use from any thread.

    At a start, device and inode may both have changed (another container), so a single file of the ledger identifies
    the directory. Later a new inode means another directory; a new device means the same volume, mounted again, if
    the directory holds a file of the ledger. Once a directory was refused, files that are written into it don't
    identify it.
    """

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self._root = root
        self._ledger = ledger
        self._lock = threading.Lock()
        self._known: tuple[int, int] | None = None
        self._last_known = ledger.clock()  # when the known directory was seen last, or this began
        self._refused: tuple[tuple[int, int], float] | None = None

    def find_problem(self) -> str | None:
        """Return why this is not the known directory, and what to do; None if it is."""
        with self._lock:
            current = directory_identity(self._root)
            if current is None:
                return f"The watched directory {self._root} is missing."
            if current == self._known and self._refused is None:
                self._last_known = self._ledger.clock()
                return None
            if not self._was_refused(current):
                if self._recognise(current):
                    self._store(current)
                    return None
                self._refused = (current, time.monotonic())
                if self._ledger.recall(LAST_KNOWN) is None:
                    self._ledger.remember(LAST_KNOWN, str(self._last_known))
            if self._known is None:
                why = "holds none of the files that the archive knows. Is its volume mounted?"
            else:
                why = "is another directory now. Was its volume unmounted?"
            return f"The watched directory {self._root} {why} {CURE}"

    def check(self) -> None:
        """Raise RootReplaced if this is not the known directory."""
        problem = self.find_problem()
        if problem is not None:
            raise RootReplaced(problem)

    def accept(self) -> None:
        """Accept the current directory as the known one. Raises RootReplaced if there is none."""
        with self._lock:
            current = directory_identity(self._root)
            if current is None:
                raise RootReplaced(f"The watched directory {self._root} is missing.")
            self._store(current)
        logger.warning("%s was accepted as the watched directory.", self._root)

    def _store(self, current: tuple[int, int]) -> None:
        if self._stored() != current:
            self._ledger.remember(KNOWN_ROOT, f"{current[0]}:{current[1]}")
        if self._ledger.recall(LAST_KNOWN) is not None:
            self._ledger.remember(LAST_KNOWN, None)
        self._known, self._refused, self._last_known = current, None, self._ledger.clock()

    def _stored(self) -> tuple[int, int] | None:
        device, _, inode = (self._ledger.recall(KNOWN_ROOT) or "").partition(":")
        return (int(device), int(inode)) if device else None

    def _was_refused(self, current: tuple[int, int]) -> bool:
        refused = self._refused
        return (
            refused is not None and refused[0] == current and time.monotonic() - refused[1] < REFUSED_SECONDS
        )

    def _recognise(self, current: tuple[int, int]) -> bool:
        stored = self._known or self._stored()
        if current == stored:
            return True
        expected = expected_files(self._ledger, SAMPLE)
        if not expected:
            return True  # no file can be taken for vanished
        if self._known is not None and current[1] != self._known[1]:
            return False
        last_known = self._ledger.recall(LAST_KNOWN)
        if last_known is not None:
            return self._holds_one(seen_by=float(last_known))
        # A ledger of an earlier version stores no directory, only the device of its files.
        if stored is None and expected[0][2] == current[0]:
            return True
        if any(self._holds(path, size) for path, size, _ in expected):
            return True
        return self._holds_one(seen_by=math.inf)

    def _holds(self, path: str, size_bytes: int) -> bool:
        """Return whether there is a file of this size; ComfyUI gives the same names in an empty directory."""
        try:
            return (self._root / path).stat().st_size == size_bytes
        except (OSError, ValueError):
            return False

    def _holds_one(self, seen_by: float) -> bool:
        """Return whether the directory holds a version that the ledger knew at this time."""
        files = ((path, stat) for path, stat in walk(self._root) if stat.st_size)
        while batch := list(islice(files, BATCH_FILES)):
            if knows_one(self._ledger, fingerprints(batch), seen_by):
                return True
        return False
