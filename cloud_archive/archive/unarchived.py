"""The files in the watched directory without a row in the ledger: new, older (the baseline), or left out.

A file whose row was compacted counts as one with a row.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..files import SkipReason, fingerprints
from ..intake.selection import Selection
from ..intake.walk import stable_inodes, walk
from ..ledger.doubts import Comparison, Doubts, compare
from ..ledger.ledger import Ledger
from ..text import count_noun

BATCH = 500  # the least number of files in a batch; the largest is three times that

FoundFile = tuple[str, os.stat_result]


@dataclass(slots=True)
class Tally:
    """Counts of the files in the directory without a row in the ledger.

    Attributes:
        unseen: files that are to be archived. `count_unarchived` adds those with a row that must be hashed first.
        baseline: files of the baseline.
        skipped: files that are left out, by reason; a folder that is left out counts as one.
    """

    unseen: int = 0
    baseline: int = 0
    skipped: Counter[SkipReason] = field(default_factory=Counter)

    def count(self, reason: SkipReason | None, is_old: bool) -> None:
        """Count one file; no-op for files of this program. Arguments: see `UnarchivedFile`."""
        if reason is SkipReason.OWN:
            return
        if reason is not None:
            self.skipped[reason] += 1
        elif is_old:
            self.baseline += 1
        else:
            self.unseen += 1

    def count_older(self, files: Iterable[FoundFile], selection: Selection) -> None:
        """Count files of the baseline."""
        skip, wanted = selection.skip_reason, 0
        for path, stat in files:
            reason = skip(path)
            if reason is None and stat.st_size:
                wanted += 1
            else:
                self.count(reason or SkipReason.EMPTY, True)
        self.baseline += wanted

    def add(self, other: Tally) -> None:
        """Add the counts of another part of the directory."""
        self.unseen += other.unseen
        self.baseline += other.baseline
        self.skipped.update(other.skipped)

    @property
    def skipped_files(self) -> int:
        """How many files and folders are left out."""
        return self.skipped.total() if hasattr(self.skipped, "total") else sum(self.skipped.values())


class UnarchivedFile(NamedTuple):
    """A file, or a folder that is left out, without a row in the ledger.

    Attributes:
        reason: why it is left out; None if it is not.
        is_old: the baseline holds it.
    """

    path: str
    size_bytes: int
    reason: SkipReason | None
    is_old: bool

    @property
    def state(self) -> str:
        """What users see: `skipped`, `baseline`, or `unseen` if it is to be archived."""
        if self.reason is not None:
            return "skipped"
        return "baseline" if self.is_old else "unseen"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `GET /cloud-sync/files`: the fields of a ledger row, and `reason` as a word."""
        reason, cause = "", ""
        if self.reason is not None:
            reason, cause = self.reason.value, self.reason.sentence
        elif self.is_old:
            reason, cause = "baseline", "It was there before archiving began."
        names = (
            "id",
            "s3_key",
            "sha256",
            "code",
            "cure",
            "seen_at",
            "uploaded_at",
            "freed_at",
            "next_try_at",
        )
        return {
            **dict.fromkeys(names),
            "path": self.path,
            "file_name": self.path.rstrip("/").rpartition("/")[2],
            "state": self.state,
            "size_bytes": self.size_bytes,
            "attempts": 0,
            "reason": reason,
            "cause": cause,
        }


def batches(files: Iterator[FoundFile]) -> Iterator[list[FoundFile]]:
    """Yield the files in lists of `BATCH` to three times as many; the last list may be shorter.

    A file's inode and size decide whether it ends its batch. So a file that is added or removed changes few batches.
    """
    ends_batch = max(1, BATCH // 2)  # one file in so many ends its batch
    while batch := list(islice(files, BATCH)):
        last = batch[-1][1]
        while BATCH <= len(batch) < 3 * BATCH and (last.st_ino + last.st_size) % ends_batch:
            following = next(files, None)
            if following is None:
                break
            batch.append(following)
            last = following[1]
        yield batch


def skip_reason(selection: Selection, path: str, stat: os.stat_result) -> SkipReason | None:
    """Return why a regular file is left out, by the selection or because it is empty; else None."""
    return selection.skip_reason(path) or (None if stat.st_size else SkipReason.EMPTY)


def unscanned_sentence(root: Path, path: str, reason: str) -> str:
    """Return why a scan is not complete: this folder or file can't be read; `path`: "" is the root."""
    return f"{path or root} can't be scanned: {reason}."


def may_hold_wanted(selection: Selection, path: str) -> bool:
    """Return whether this is a file to archive, or a folder (ending in `/`), in which such a file may lie."""
    return path.endswith("/") or selection.wants(path)


def moved_sentence(path: str) -> str:
    """Return why a scan is not complete: this file or folder may be elsewhere now."""
    return f"{path.rstrip('/')} was moved or removed during the scan."


class LookedUpBatch(NamedTuple):
    """A batch of files, with the fingerprint of each, and what the ledger knows of them."""

    files: list[FoundFile]
    fingerprints: Sequence[int]
    known: Comparison

    @property
    def older(self) -> list[FoundFile]:
        """The files of the baseline."""
        older = self.known.baseline
        if len(older) == len(self.files):
            return self.files
        if not older:
            return []
        return [file for file, each in zip(self.files, self.fingerprints, strict=True) if each in older]

    @property
    def unknown(self) -> list[tuple[int, FoundFile]]:
        """The files that the ledger does not know, each with its fingerprint."""
        unknown = self.known.unknown
        if not unknown:
            return []
        return [
            (each, file) for file, each in zip(self.files, self.fingerprints, strict=True) if each in unknown
        ]

    def add_doubts(self, doubts: Doubts, selection: Selection) -> None:
        """Add the wanted files that were touched since they were archived, and count the untouched ones."""
        doubts.same += self.known.same
        for path in self.doubtful_paths(selection):
            doubts.add(path)

    def doubtful_paths(self, selection: Selection) -> Iterator[str]:
        """Yield the paths of the wanted files that were touched since they were archived."""
        doubtful = self.known.doubtful
        if doubtful:
            for (path, _), each in zip(self.files, self.fingerprints, strict=True):
                if each in doubtful and selection.wants(path):
                    yield path

    def unarchived(self, selection: Selection) -> Iterator[UnarchivedFile]:
        """Yield the files without a row in the ledger, without those of this program."""
        unknown, older = self.known.unknown, self.known.baseline
        if not unknown and not older:
            return
        for (path, stat), each in zip(self.files, self.fingerprints, strict=True):
            if each in unknown or each in older:
                reason = skip_reason(selection, path, stat)
                if reason is not SkipReason.OWN:
                    yield UnarchivedFile(path, stat.st_size, reason, each in older)


def look_up(
    batch: list[FoundFile], ledger: Ledger, *, inodes: bool, baseline_likely: bool = False
) -> LookedUpBatch:
    """Look the files up in the ledger. `inodes`, `baseline_likely`: see `compare`."""
    prints = fingerprints(batch)
    return LookedUpBatch(
        batch, prints, compare(ledger, batch, prints, inodes=inodes, baseline_likely=baseline_likely)
    )


def unarchived_files(
    root: Path,
    selection: Selection,
    ledger: Ledger,
    on_error: Callable[[str, str], None],
    doubts: Doubts | None = None,
) -> Iterator[UnarchivedFile]:
    """Yield every file in the directory without a row in the ledger, and what is left out; none of this program's own.

    Args:
        on_error: called with the path of each folder or file that can't be read, and the reason.
        doubts: gets the files that were touched since they were archived.
    """
    doubts = doubts or Doubts()
    inodes = stable_inodes(root)
    skipped: list[UnarchivedFile] = []
    files = walk(
        root,
        selection.wants_folder,
        on_error,
        on_skipped=lambda path, reason: (
            None if selection.is_own(path) else skipped.append(UnarchivedFile(path, 0, reason, False))
        ),
    )
    for batch in batches(files):
        for path, _ in batch if selection.unmatched else ():
            selection.note_match(path)
        found = look_up(batch, ledger, inodes=inodes)
        found.add_doubts(doubts, selection)
        yield from found.unarchived(selection)
        yield from skipped
        skipped.clear()
    yield from skipped


def unmatched_sentences(selection: Selection, tally: Tally) -> list[str]:
    """Return a warning for each include pattern that has matched no file; none if every file matched a pattern."""
    count = tally.skipped[SkipReason.NOT_INCLUDED]
    if not count:
        return []
    return [
        f"CLOUD_ARCHIVE_INCLUDE: the pattern {line!r} has matched no file, and {count_noun(count, 'file')} matched no"
        " pattern at all. Check its spelling."
        for line in selection.unmatched
    ]
