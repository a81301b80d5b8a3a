"""The files in the watched directory without a row in the ledger: new, older than the archive, or left out.

The scan (reconcile.py) counts them on its way; this module also lists and counts them without archiving anything.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CloudArchiveError
from ..files import SkipReason, fingerprints
from ..intake.selection import Selection
from ..intake.walk import stable_inodes, walk
from ..ledger.doubts import Comparison, Doubts, compare
from ..ledger.ledger import Ledger
from ..text import count_noun

BATCH = 500  # files in a batch at least, and a third of what is in one at most

FoundFile = tuple[str, os.stat_result]


@dataclass(slots=True)
class Tally:
    """Counts of the files in the directory that are not in the ledger.

    Attributes:
        unseen: files that are to be archived and are not known yet, or must be hashed to know.
        baseline: files from before the first start, which are left alone.
        skipped: how many are left out for each reason; a folder that is left out counts once.
    """

    unseen: int = 0
    baseline: int = 0
    skipped: Counter[SkipReason] = field(default_factory=Counter)

    def count(self, reason: SkipReason | None, is_old: bool) -> None:
        """Add one file. Files of this program itself don't count."""
        if reason is SkipReason.OWN:
            return
        if reason is not None:
            self.skipped[reason] += 1
        elif is_old:
            self.baseline += 1
        else:
            self.unseen += 1

    def count_older(self, files: Iterable[FoundFile], selection: Selection) -> None:
        """Add files from before the first start."""
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
        """How many are left out."""
        return self.skipped.total() if hasattr(self.skipped, "total") else sum(self.skipped.values())


class UnarchivedFile(NamedTuple):
    """A file, or a folder that is left out, without a row in the ledger.

    Attributes:
        reason: why it is left out; None where it is not.
        is_old: it was there before the archive began.
    """

    path: str
    size_bytes: int
    reason: SkipReason | None
    is_old: bool

    @property
    def state(self) -> str:
        """What users see: `skipped`, `baseline`, or `unseen` where it is about to be archived."""
        if self.reason is not None:
            return "skipped"
        return "baseline" if self.is_old else "unseen"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `GET /cloud-sync/files`: the fields of a ledger row, and `reason`, a word for programs."""
        reason, cause = "", ""
        if self.reason is not None:
            reason, cause = self.reason.value, self.reason.sentence
        elif self.is_old:
            reason, cause = "baseline", "It was there before the first start."
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
    """Yield the files in lists of `BATCH` to three times as many, and the rest in a shorter one.

    A file's own facts say whether it ends its batch, so that one that comes or goes changes the batch that holds it,
    and few of those that follow.
    """
    ends_batch = max(1, BATCH // 2)  # one file in so many does
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
    """Return why a regular file is left out; None where it is to be archived."""
    return selection.skip_reason(path) or (None if stat.st_size else SkipReason.EMPTY)


class KnownBatch(NamedTuple):
    """A batch of files, and what the ledger knows of them.

    Attributes:
        prints: the fingerprint of each file.
    """

    files: list[FoundFile]
    prints: Sequence[int]
    known: Comparison

    @property
    def older(self) -> list[FoundFile]:
        """The files from before the first start that were not archived since."""
        older = self.known.baseline
        if len(older) == len(self.files):
            return self.files
        if not older:
            return []
        return [file for file, each in zip(self.files, self.prints, strict=True) if each in older]

    @property
    def unknown(self) -> list[tuple[int, FoundFile]]:
        """The files that the ledger does not know, with their fingerprints."""
        unknown = self.known.unknown
        if not unknown:
            return []
        return [(each, file) for file, each in zip(self.files, self.prints, strict=True) if each in unknown]

    def add_doubts(self, doubts: Doubts, selection: Selection) -> None:
        """Add the files that have a row and were touched since."""
        doubts.same += self.known.same
        doubtful = self.known.doubtful
        if doubtful:
            for (path, _), each in zip(self.files, self.prints, strict=True):
                if each in doubtful and selection.wants(path):
                    doubts.add(path)


def look_up(
    batch: list[FoundFile], ledger: Ledger, *, inodes: bool, older_likely: bool = False
) -> KnownBatch:
    """Look the files up in the ledger.

    Args:
        inodes: see `stable_inodes`.
        older_likely: see `compare`; the answer is the same.
    """
    prints = fingerprints(batch)
    return KnownBatch(batch, prints, compare(ledger, batch, prints, inodes=inodes, older_likely=older_likely))


def unarchived_files(
    root: Path,
    selection: Selection,
    ledger: Ledger,
    on_error: Callable[[str, str], None],
    doubts: Doubts | None = None,
) -> Iterator[UnarchivedFile]:
    """Yield every file in the directory that has no row in the ledger, in the order of the directory.

    Args:
        on_error: called with the path and the reason where a folder can't be read.
        doubts: gets the files that have a row and were touched since.
    """
    doubts = doubts or Doubts()
    inodes = stable_inodes(root)
    skipped: list[UnarchivedFile] = []
    files = walk(
        root,
        selection.wants_directory,
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
        unknown, older = found.known.unknown, found.known.baseline
        for (path, stat), each in zip(batch, found.prints, strict=True) if unknown or older else ():
            if each in unknown or each in older:
                reason = skip_reason(selection, path, stat)
                if reason is not SkipReason.OWN:
                    yield UnarchivedFile(path, stat.st_size, reason, each in older)
        yield from skipped
        skipped.clear()
    yield from skipped


def take_stock(root: Path, selection: Selection, ledger: Ledger) -> Tally:
    """Count the files that are not proven in the bucket; changes nothing.

    Raises:
        CloudArchiveError: a folder could not be read.
    """
    problems: list[str] = []
    tally, doubts = Tally(), Doubts()
    for file in unarchived_files(
        root, selection, ledger, lambda path, why: problems.append(f"{path}: {why}"), doubts
    ):
        tally.count(file.reason, file.is_old)
    tally.unseen += doubts.urgent
    if problems:
        raise CloudArchiveError(problems[0])
    return tally


def unmatched_sentences(selection: Selection, tally: Tally) -> list[str]:
    """Return a warning for each include pattern that has matched nothing while other files were left out."""
    count = tally.skipped[SkipReason.NOT_INCLUDED]
    if not count:
        return []
    return [
        f"CLOUD_ARCHIVE_INCLUDE: the pattern {line!r} has matched no file, and {count_noun(count, 'file')} matched no"
        " pattern at all. Check its spelling."
        for line in selection.unmatched
    ]
