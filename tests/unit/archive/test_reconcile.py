"""The scan as truth: what it may leave out because nothing has changed."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.reconcile import Reconciler
from cloud_archive.archive.unarchived import look_up
from cloud_archive.files import FileVersion, fingerprints
from cloud_archive.intake.selection import Selection
from cloud_archive.intake.walk import scan
from cloud_archive.ledger.ledger import FIRST_START, Ledger
from cloud_archive.ledger.recovery import open_ledger


@contextmanager
def reconciling(root: Path, ledger: Ledger, backfill: str = "all") -> Iterator[tuple[Reconciler, list[str]]]:
    """A reconciler that scans when it is asked only, after its first scan; and what it has told of as new."""
    told: list[str] = []
    reconciler = Reconciler(
        root,
        ledger,
        Selection((), ()),
        on_new=told.append,
        on_doubts=lambda doubts: None,
        on_done=lambda: None,
        backfill=backfill,
        interval_seconds=0,
        polling=lambda: False,
        started_at=2000.0,
    )
    thread = threading.Thread(target=reconciler.run, name="reconciler")
    thread.start()
    try:
        reconciler.now(10)
        yield reconciler, told
    finally:
        reconciler.stop()
        thread.join(60)


def _written(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    yield ledger
    ledger.close()


@pytest.fixture
def root(tmp_path: Path, ledger: Ledger) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        (root / name).write_bytes(b"x")
    ledger.add(list(scan(root)))
    return root


@pytest.fixture
def lookups(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each look into the ledger asked for."""
    counts: list[int] = []
    ask = ledger.unknown_fingerprints

    def asked(fingerprints: Sequence[int]) -> set[int]:
        counts.append(len(fingerprints))
        return ask(fingerprints)

    monkeypatch.setattr(ledger, "unknown_fingerprints", asked)
    return counts


def test_while_nothing_changes_the_ledger_is_not_asked_again(
    root: Path, ledger: Ledger, lookups: list[int]
) -> None:
    with reconciling(root, ledger) as (reconciler, told):
        reconciler.now(10)
        lookups.clear()
        assert reconciler.now(10) == 0
        assert lookups == []
        assert told == []


def test_a_file_that_is_new_or_written_to_is_seen_at_once(
    root: Path, ledger: Ledger, lookups: list[int]
) -> None:
    with reconciling(root, ledger) as (reconciler, told):
        reconciler.now(10)
        (root / "sub" / "b.png").write_bytes(b"longer")
        assert reconciler.now(10) == 1
        (root / "c.png").write_bytes(b"x")
        assert reconciler.now(10) == 2
        assert reconciler.now(10) == 2, "what the ledger still does not know counts each time"
        assert set(told) == {"sub/b.png", "c.png"}


def test_whoever_writes_to_the_ledger_makes_all_be_looked_up_again(root: Path, ledger: Ledger) -> None:
    """A file that the ledger has forgotten (it was gone, say, and is back as it was) is as new as any."""
    with reconciling(root, ledger) as (reconciler, told):
        assert reconciler.now(10) == 0
        assert reconciler.now(10) == 0
        with sqlite3.connect(ledger.path or "") as other:
            other.execute("UPDATE files SET state = 4 WHERE path = ?", (b"a.png",))
        other.close()
        assert reconciler.now(10) == 1
        assert told == ["a.png"]


def test_many_fingerprints_at_once_are_those_of_each(tmp_path: Path) -> None:
    """The ledger's rows hold the one, a scan asks with the other."""
    for number, moment_ns in enumerate((0, -5, 1_700_000_000_123_456_789, 10**19)):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"x" * number)
        with contextlib.suppress(OverflowError, OSError):
            os.utime(path, ns=(moment_ns, moment_ns))
    found = [(path.name, path.stat()) for path in tmp_path.iterdir()] + [("\udcff.png", tmp_path.stat())]
    assert list(fingerprints(found)) == [FileVersion.of_stat(*each).fingerprint for each in found]
    assert fingerprints([]) == ()


def of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have scans take two files at a time, so that a few are a large directory."""
    monkeypatch.setattr("cloud_archive.archive.unarchived.BATCH", 2)
    monkeypatch.setattr("cloud_archive.archive.reconcile.BATCH", 2)


def as_archived(ledger: Ledger) -> None:
    """Make each version that is queued an archived one."""
    ledger.change(lambda db: db.execute("UPDATE files SET state = 3") and None)


@pytest.fixture
def queries(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each query for several files, in its order."""
    found: list[str] = []
    read = ledger.read

    def noted(sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        if "json_each" in sql:
            found.append(sql)
        return read(sql, values)

    monkeypatch.setattr(ledger, "read", noted)
    return found


@pytest.mark.parametrize("older", [False, True])
def test_a_large_directory_in_which_nothing_is_new_is_one_query_for_each_batch(
    root: Path, ledger: Ledger, queries: list[str], monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    of_two(monkeypatch)
    for number in range(9):
        os.utime(_written(root / f"{number}.png"), (1000, 1000))
    known = [file for file in scan(root) if file.mtime_ns == 1000 * 10**9]
    if older:
        ledger.change(lambda db: db.execute("DELETE FROM files") and None)
        ledger.add_to_baseline(file.fingerprint for file in scan(root))
    else:
        ledger.add(known)
        as_archived(ledger)
    with reconciling(root, ledger, backfill="none") as (reconciler, told):
        assert reconciler.tally.baseline == (11 if older else 0)
    assert told == []
    # What the first batch shows is known when the third is looked up.
    assert len(queries) == (6 + 2 if older else 6)


def test_what_a_large_directory_holds_is_told_whatever_is_likely(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_two(monkeypatch)
    ledger.remember(FIRST_START, "1.0")
    for number in range(20):
        os.utime(_written(root / f"{number:02}.png"), (1000, 1000))
    versions = [file for file in scan(root) if file.path[:2].isdigit()]
    ledger.add_to_baseline(file.fingerprint for file in versions if int(file.path[:2]) % 5 not in (2, 3))
    ledger.add(file for file in versions if int(file.path[:2]) % 5 == 2)
    with reconciling(root, ledger, backfill="missed") as (reconciler, told):
        assert reconciler.now(60) == 4
        assert sorted(set(told)) == ["03.png", "08.png", "13.png", "18.png"]
        assert (reconciler.tally.baseline, reconciler.tally.unseen) == (12, 4)


def test_the_answer_about_a_batch_does_not_depend_on_what_was_likely(tmp_path: Path, ledger: Ledger) -> None:
    files = [(path.name, path.stat()) for path in (_written(tmp_path / f"{n}.png") for n in range(5))]
    versions = [FileVersion.of_stat(*file) for file in files]
    touched = versions[1]._replace(changed_ns=1)
    ledger.add([versions[0], touched, versions[3]])
    ledger.change(lambda db: db.execute("UPDATE files SET state = 3") and None)
    # The last has a row and counts as older too: the row counts.
    ledger.add_to_baseline([versions[2].fingerprint, versions[3].fingerprint])
    for some in (files, files[2:3], files[:1], files[1:4]):
        likely = look_up(some, ledger, inodes=True, older_likely=True)
        assert likely == look_up(some, ledger, inodes=True)
    assert likely.known.doubtful == {touched.fingerprint}


def test_what_is_older_is_noted_in_pieces_and_to_the_last_file(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_two(monkeypatch)
    monkeypatch.setattr("cloud_archive.archive.baseline.BASELINE_BATCH", 4)
    ledger.clear_baseline()
    for number in range(11):
        os.utime(_written(root / f"old{number}.png"), (1000, 1000))
    with reconciling(root, ledger, backfill="missed") as (reconciler, told):
        assert reconciler.now(10) == 0
    assert told == []


def test_a_first_start_that_was_interrupted_makes_no_baseline_of_what_came_meanwhile(
    tmp_path: Path, root: Path
) -> None:
    """Killed at once: not even its first scan has begun."""
    (root / "old.png").write_bytes(b"old")
    os.utime(root / "old.png", (1e9, 1e9))
    time.sleep(0.1)  # a change time can't be set
    began = time.time()
    state = tmp_path / "state"
    state.mkdir()
    killed, _, _ = open_ledger(state, began=began)
    killed.close()
    (root / "meanwhile.png").write_bytes(b"meanwhile")
    (root / "moved in.png").write_bytes(b"moved in")
    os.utime(root / "moved in.png", (1e9, 1e9))
    second, _, _ = open_ledger(state, began=time.time() + 100)
    hinted: list[str] = []
    try:
        Reconciler(
            root,
            second,
            Selection(),
            on_new=hinted.append,
            on_doubts=lambda doubts: None,
            on_done=lambda: None,
            backfill="missed",
            interval_seconds=0,
            polling=lambda: False,
            started_at=time.time() + 100,
        )._scan({})
    finally:
        second.close()
    assert sorted(hinted) == ["meanwhile.png", "moved in.png"]


def test_a_scan_that_fails_in_an_unexpected_way_is_reported_and_made_again(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    reconciler = Reconciler(
        root,
        ledger,
        Selection(),
        on_new=lambda path: None,
        on_doubts=lambda doubts: None,
        on_done=done.set,
        backfill="missed",
        interval_seconds=0,
        polling=lambda: False,
        started_at=0,
    )
    real = Path.is_dir
    stale = iter([True])

    def is_dir(self: Path, **how: Any) -> bool:
        if self == root and next(stale, False):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(self, **how)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    thread = threading.Thread(target=reconciler.run)
    thread.start()
    try:
        assert done.wait(60)
        assert any("Stale" in trouble for trouble in reconciler.troubles)
        reconciler.now(5)
        assert reconciler.first_done
        assert not reconciler.troubles
    finally:
        reconciler.stop()
        thread.join()
