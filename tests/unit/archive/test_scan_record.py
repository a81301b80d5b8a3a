"""Batches of known files are recognised by one hash, also after a restart; whatever may make a file new undoes that."""

from __future__ import annotations

import os
import sqlite3
import stat as stat_module
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.reconcile import Reconciler
from cloud_archive.archive.scan_record import BatchCounts, ScanRecord
from cloud_archive.archive.unarchived import FoundFile, Tally, batches
from cloud_archive.files import SkipReason
from cloud_archive.intake.selection import Selection
from cloud_archive.intake.walk import scan, walk
from cloud_archive.ledger.history import compact, mark_pruned, requeue_missing
from cloud_archive.ledger.known_batches import read_known_batches, write_known_batches
from cloud_archive.ledger.ledger import FIRST_START, Ledger
from cloud_archive.ledger.rows import FileState
from cloud_archive.own_files import OwnFiles
from tests.archived_rows import mark_archived

OLD = 1_000_000_000.0

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither a change time nor inode numbers")
STARTED = 2_000_000_000.0


class Process:
    """One process's scans of a directory: its ledger, what it hinted, and how many batches it looked up."""

    def __init__(self, root: Path, ledger: Ledger, selection: Selection | None = None) -> None:
        self.hinted: list[str] = []
        self.lookups = 0
        self._read = Ledger.read
        self._ledger = ledger
        self.reconciler = Reconciler(
            root,
            ledger,
            selection or Selection(),
            on_new=self.hinted.append,
            on_doubts=lambda doubts: None,
            on_done=lambda: None,
            backfill="missed",
            interval_seconds=0,
            polling=lambda: False,
            started_at=STARTED,
        )

    def scan(self) -> Tally:
        """Scan once; `hinted` and `lookups` are those of this scan."""
        self.hinted.clear()
        self.lookups = 0

        def counted(sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
            self.lookups += "json_each" in sql
            return self._read(self._ledger, sql, values)

        self._ledger.read = counted  # type: ignore[method-assign]
        try:
            _, tally = self.reconciler._scan({})
        finally:
            del self._ledger.read
        return tally


def write(root: Path, *names: str, body: bytes = b"x", mtime: float = OLD) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)
        os.utime(root / name, (mtime, mtime))


def archive(ledger: Ledger, root: Path, *names: str) -> None:
    """Note these files as archived."""
    ledger.add(file for file in scan(root) if file.path in names)
    for _ in names:
        claim = ledger.claim("test")
        assert claim is not None
        mark_archived(ledger, claim, key=claim.version.path, sha256="0" * 64, etag=None)


def changed(stat: os.stat_result, position: int, value: int) -> os.stat_result:
    """Return a `stat` result in which the number at a position is another one."""
    facts: Any = stat.__reduce__()[1]
    numbers, others = facts
    return os.stat_result((*numbers[:position], value, *numbers[position + 1 :]), others)


@pytest.fixture
def known(root: Path, ledger: Ledger) -> Ledger:
    """A ledger that knows all files of the directory: one of them archived, one older, one excluded."""
    ledger.remember(FIRST_START, "1.0")
    write(root, "archived.png", "older.png", ".hidden.png")
    archive(ledger, root, "archived.png")
    ledger.add_to_baseline(file.fingerprint for file in scan(root) if file.path == "older.png")
    return ledger


def test_after_a_restart_known_files_are_not_looked_up(root: Path, tmp_path: Path, known: Ledger) -> None:
    first = Process(root, known)
    tally = first.scan()
    assert first.lookups > 0
    assert (tally.baseline, tally.skipped_files, tally.unseen) == (1, 1, 0)
    known.close()
    again = Ledger(tmp_path / "ledger.sqlite3")
    again.open()
    try:
        second = Process(root, again)
        assert second.scan() == tally
        assert (second.lookups, second.hinted) == (0, [])
        again.remember("anything", "else")
        assert second.scan() == tally
        assert second.lookups == 0, "a ledger that has changed elsewhere has no say in it"
    finally:
        again.close()


@pytest.mark.parametrize(
    "change",
    ["written", pytest.param("rewritten at the same time", marks=posix), "another inode", "renamed", "new"],
    ids=str,
)
def test_a_file_that_has_changed_is_seen(root: Path, known: Ledger, change: str) -> None:
    process = Process(root, known)
    process.scan()
    before = (root / "archived.png").stat()
    times = (before.st_atime_ns, before.st_mtime_ns)
    if change == "written":
        write(root, "archived.png", mtime=OLD + 1)
    elif change == "rewritten at the same time":
        (root / "archived.png").write_bytes(b"y")
        os.utime(root / "archived.png", ns=times)
    elif change == "another inode":
        (root / "archived.png").rename(root / "aside")
        (root / "archived.png").write_bytes(b"y")
        os.utime(root / "archived.png", ns=times)
    elif change == "renamed":
        (root / "archived.png").rename(root / "renamed.png")
    else:
        write(root, "new.png")
    found, _ = process.reconciler._scan({})
    assert found >= 1


def vanish(ledger: Ledger) -> None:
    ledger.change(lambda db: db.execute("UPDATE files SET state = 4") and None)


def forget(ledger: Ledger) -> None:
    ledger.change(lambda db: db.execute("DELETE FROM files") and None)


def requeue(ledger: Ledger) -> None:
    assert requeue_missing(ledger, ledger.rows()) == 1


def set_by_another_process(ledger: Ledger) -> None:
    with sqlite3.connect(ledger.path or "") as other:
        other.execute("UPDATE files SET fingerprint = random()")
    other.close()


def doubt(ledger: Ledger) -> None:
    ledger.change(lambda db: db.execute("UPDATE files SET ctime_offset = -1") and None)


def another_inode(ledger: Ledger) -> None:
    ledger.change(lambda db: db.execute("UPDATE files SET inode = 1") and None)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (vanish, 1),
        (forget, 1),
        (set_by_another_process, 1),
        (doubt, 1),
        pytest.param(another_inode, 1, marks=posix),
        (requeue, 0),
        (Ledger.clear_baseline, 1),
        (lambda ledger: compact(ledger, 1e12), 0),
    ],
)
def test_what_makes_a_known_file_unknown_or_doubtful_has_it_looked_up(
    root: Path, known: Ledger, change: Callable[[Ledger], object], found: int
) -> None:
    process = Process(root, known)
    process.scan()
    process.scan()
    assert process.lookups == 0
    change(known)
    assert process.reconciler._scan({})[0] == found
    process.scan()
    assert (process.lookups > 0) is (found > 0 or change is requeue)


def test_pruned_files_stay_known(root: Path, known: Ledger) -> None:
    process = Process(root, known)
    process.scan()
    mark_pruned(known, known.rows(states=[FileState.ARCHIVED]))
    process.scan()
    assert (process.lookups, process.hinted) == (0, [])


def test_a_file_left_out_that_is_archived_by_hand_no_longer_counts_as_left_out(
    root: Path, known: Ledger
) -> None:
    process = Process(root, known)
    assert process.scan().skipped_files == 1
    known.add((file for file in scan(root) if file.path == ".hidden.png"), priority=-1)
    assert process.scan().skipped_files == 0


def test_files_that_are_still_to_be_archived_are_looked_up_each_time(root: Path, known: Ledger) -> None:
    """They become archived, doubtful or vanished without a change of the epoch."""
    process = Process(root, known)
    write(root, "new.png")
    process.scan()
    assert process.hinted == ["new.png"]
    known.add(file for file in scan(root) if file.path == "new.png")
    process.scan()
    process.scan()
    assert (process.lookups > 0, process.hinted) == (True, [])
    claim = known.claim("test")
    assert claim is not None
    known.mark_vanished(claim)
    process.scan()
    assert process.hinted == ["new.png"]


def test_other_patterns_select_other_files(root: Path, known: Ledger) -> None:
    write(root, "a.txt")
    pictures = Process(root, known, Selection(["*.png"]))
    assert pictures.scan().skipped[SkipReason.NOT_INCLUDED] == 1
    pictures.scan()
    assert pictures.lookups == 0
    everything = Process(root, known)
    everything.scan()
    assert everything.hinted == ["a.txt"]


def test_include_patterns_that_match_known_files_are_noticed(root: Path, known: Ledger) -> None:
    Process(root, known, Selection(["*.png"])).scan()
    selection = Selection(["*.png"])
    process = Process(root, known, selection)
    process.scan()
    assert (process.lookups, selection.unmatched) == (0, ())


def test_a_log_of_ours_is_looked_up_because_it_may_become_anothers(root: Path, known: Ledger) -> None:
    write(root, "ours.log", mtime=STARTED + 1)
    logs = [root / "ours.log"]
    process = Process(root, known, Selection(own=OwnFiles(root, root / "state", logs)))
    process.scan()
    process.scan()
    assert (process.lookups > 0, process.hinted) == (True, [])
    other = Process(root, known, Selection(own=OwnFiles(root, root / "state")))
    other.scan()
    assert other.hinted == ["ours.log"]


def test_each_process_hints_an_empty_file_once(root: Path, known: Ledger) -> None:
    write(root, "empty.png", body=b"")
    for _ in range(2):
        process = Process(root, known)
        process.scan()
        assert process.hinted == ["empty.png"]
        assert process.scan().skipped[SkipReason.EMPTY] == 1
        assert (process.lookups, process.hinted) == (0, [])


def test_a_very_first_start_knows_its_files_afterwards(root: Path, ledger: Ledger) -> None:
    write(root, *(f"{number}.png" for number in range(5)))
    first = Process(root, ledger)
    assert first.scan().baseline == 5
    assert first.lookups == 0, "a ledger that knows nothing need not be asked about each file"
    second = Process(root, ledger)
    assert second.scan().baseline == 5
    assert (second.lookups, second.hinted) == (0, [])


def test_a_version_queued_during_the_very_first_scan_is_not_left_alone(root: Path, ledger: Ledger) -> None:
    write(root, "moved-in.png")
    (version,) = scan(root)
    ledger.add([version])
    ledger.add_to_baseline([version.fingerprint])
    assert not ledger.has_baseline()


def test_batches_stay_the_same_where_a_file_comes_or_goes_elsewhere(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.unarchived.BATCH", 10)
    write(root, "a.png")
    stat = (root / "a.png").stat()

    def of_inodes(inodes: Iterator[int]) -> set[tuple[str, ...]]:
        files: list[FoundFile] = []
        for inode in inodes:
            files.append((f"{inode}.png", changed(stat, stat_module.ST_INO, inode * 7919 % 100_003)))
        found = list(batches(iter(files)))
        assert [file for batch in found for file in batch] == files
        assert all(10 <= len(batch) <= 30 for batch in found[:-1])
        return {tuple(path for path, _ in batch) for batch in found}

    before = of_inodes(iter(range(2000)))
    after = of_inodes(iter([*range(500), 5000, *range(500, 1000), *range(1001, 2000)]))
    assert len(before) > 50
    assert len(before - after) < 15


def test_the_hash_of_a_batch_covers_all_that_distinguishes_a_file(root: Path, ledger: Ledger) -> None:
    record = ScanRecord(ledger, Selection(), inodes=True)
    write(root, "a.png", "b.png")
    files = sorted(walk(root))
    stat = files[0][1]
    variants = [
        changed(stat, stat_module.ST_INO, 7),
        changed(stat, stat_module.ST_INO, 1 << 64),  # as on ReFS
        changed(stat, stat_module.ST_SIZE, 2),
    ]
    write(root, "a.png", mtime=OLD + 1)
    variants.append((root / "a.png").stat())
    hashes = {record.hash_of(files), record.hash_of(files[:1])}
    hashes |= {record.hash_of([("a.png", each), files[1]]) for each in variants}
    hashes.add(record.hash_of([("\udcff.png", stat), files[1]]))
    assert len(hashes) == 7
    other = ScanRecord(ledger, Selection(), inodes=False)
    assert other.hash_of([("a.png", stat)]) == other.hash_of([("a.png", variants[0])])


def test_counts_survive_the_ledger() -> None:
    tally = Tally(baseline=3)
    tally.skipped.update({SkipReason.HIDDEN: 2, SkipReason.EMPTY: 1})
    counts = BatchCounts(tally, 4)
    assert BatchCounts.from_json(counts.to_json()) == counts


def test_what_was_found_before_a_change_of_the_ledger_is_not_kept(known: Ledger) -> None:
    before = read_known_batches(known)
    forget(known)
    assert write_known_batches(known, before, {b"hash": "counts"}) is False
    now = read_known_batches(known)
    assert (now.epoch > before.epoch, dict(now.counts)) == (True, {})
    assert write_known_batches(known, now, {b"hash": "counts", b"other": "x"})
    assert write_known_batches(known, read_known_batches(known), {b"other": "y"})
    assert dict(read_known_batches(known).counts) == {b"other": "y"}
