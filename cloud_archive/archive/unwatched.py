"""Count the files that are not archived, while nothing watches the directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import CloudArchiveError
from ..files import SkipReason
from ..intake.selection import Selection
from ..intake.walk import stable_inodes, walk
from ..ledger.doubts import Doubts
from ..ledger.ledger import Ledger
from .scan_record import ScanRecord
from .unarchived import Tally, batches, look_up, may_hold_wanted, moved_sentence, unscanned_sentence


def count_unarchived(
    root: Path, selection: Selection, ledger: Ledger, interrupted: Callable[[], bool] = lambda: False
) -> Tally:
    """Scan the directory, and count the files without a row and those that must be hashed before it is safe to stop.

    It does not change the ledger.

    Args:
        interrupted: called before each batch; True ends the scan.

    Raises:
        CloudArchiveError: a folder, a file or the ledger can't be read, a file or folder was moved or removed
            meanwhile, or the scan was interrupted.
    """
    inodes = stable_inodes(root)
    tally, doubts = Tally(), Doubts()
    problems: list[str] = []
    record = ScanRecord(ledger, selection, inodes=inodes)
    record.begin()
    files = walk(
        root,
        selection.wants_folder,
        lambda path, why: problems.append(unscanned_sentence(root, path, why)),
        on_skipped=lambda path, reason: tally.count(
            SkipReason.OWN if selection.is_own(path) else reason, False
        ),
        on_vanished=lambda path: (
            problems.append(moved_sentence(path)) if may_hold_wanted(selection, path) else None
        ),
    )
    for batch in batches(files):
        if interrupted():
            raise CloudArchiveError("The scan of the watched directory was interrupted.")
        for path, _ in batch if selection.unmatched else ():
            selection.note_match(path)
        counts = record.find(record.hash_of(batch), first=False)
        if counts is not None:
            tally.add(counts.tally)
            doubts.same += counts.same
            continue
        found = look_up(batch, ledger, inodes=inodes)
        found.add_doubts(doubts, selection)
        for file in found.unarchived(selection):
            tally.count(file.reason, file.is_old)
    tally.unseen += doubts.urgent
    if problems:
        raise CloudArchiveError(problems[0])
    return tally
