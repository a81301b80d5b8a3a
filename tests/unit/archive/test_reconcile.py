"""The scan: what it hints, and what it need not look up because nothing has changed."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import reconcile
from cloud_archive.archive.reconcile import Reconciler
from cloud_archive.errors import CloudArchiveError
from cloud_archive.files import FileVersion, clock_tick_ns, fingerprints
from cloud_archive.intake.selection import Selection
from cloud_archive.intake.walk import scan, walk
from cloud_archive.ledger.known_root import KnownRoot
from cloud_archive.ledger.ledger import FIRST_START, Ledger
from cloud_archive.ledger.recovery import open_ledger
from tests.servers import wait_until


def make_reconciler(root: Path, ledger: Ledger, **options: Any) -> Reconciler:
    """Return a reconciler that scans only when asked, after its first scan."""
    defaults: dict[str, Any] = {
        "on_new": lambda path: None,
        "on_doubts": lambda doubts: None,
        "on_done": lambda: None,
        "backfill": "missed",
        "interval_seconds": 0,
        "polling": lambda: False,
        "started_at": 2000.0,
        "selection": Selection(),
    }
    return Reconciler(root, ledger, **(defaults | options))


@contextmanager
def reconciling(root: Path, ledger: Ledger, **options: Any) -> Iterator[tuple[Reconciler, list[str]]]:
    """Run a reconciler that starts now; yield it after its first scan, and the paths that it hinted."""
    hinted: list[str] = []
    options = {"backfill": "all", "started_at": time.time()} | options
    reconciler = make_reconciler(root, ledger, on_new=hinted.append, **options)
    thread = threading.Thread(target=reconciler.run, name="reconciler")
    thread.start()
    try:
        reconciler.now(60)
        yield reconciler, hinted
    finally:
        reconciler.stop()
        thread.join(60)


def written(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


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
    """The number of files in each query for unknown files."""
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
    with reconciling(root, ledger) as (reconciler, hinted):
        reconciler.now(60)
        lookups.clear()
        assert reconciler.now(60) == 0
        assert lookups == []
        assert hinted == []


def test_a_file_that_is_new_or_written_to_is_seen_at_once(root: Path, ledger: Ledger) -> None:
    with reconciling(root, ledger) as (reconciler, hinted):
        reconciler.now(60)
        (root / "sub" / "b.png").write_bytes(b"longer")
        assert reconciler.now(60) == 1
        (root / "c.png").write_bytes(b"x")
        assert reconciler.now(60) == 2
        assert reconciler.now(60) == 2, "what the ledger still does not know counts each time"
        assert set(hinted) == {"sub/b.png", "c.png"}


def test_after_another_process_changed_the_ledger_files_are_looked_up_again(
    root: Path, ledger: Ledger
) -> None:
    """A file whose row says vanished, and that is back as it was, is new."""
    with reconciling(root, ledger) as (reconciler, hinted):
        assert reconciler.now(60) == 0
        assert reconciler.now(60) == 0
        with sqlite3.connect(ledger.path or "") as other:
            other.execute("UPDATE files SET state = 4 WHERE path = ?", (b"a.png",))
        other.close()
        assert reconciler.now(60) == 1
        assert hinted == ["a.png"]


def test_fingerprints_of_many_files_equal_those_of_single_ones(tmp_path: Path) -> None:
    """Rows hold the fingerprints of single files; a scan computes those of many at once."""
    for number, moment_ns in enumerate((0, -5, 1_700_000_000_123_456_789, 10**19)):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"x" * number)
        with contextlib.suppress(OverflowError, OSError):
            os.utime(path, ns=(moment_ns, moment_ns))
    found = [(path.name, path.stat()) for path in tmp_path.iterdir()] + [("\udcff.png", tmp_path.stat())]
    assert list(fingerprints(found)) == [FileVersion.of_stat(*each).fingerprint for each in found]
    assert fingerprints([]) == ()


def make_batches_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches of two files, so that a few files are a large directory."""
    monkeypatch.setattr("cloud_archive.archive.unarchived.BATCH", 2)
    monkeypatch.setattr("cloud_archive.archive.reconcile.BATCH", 2)


def mark_archived(ledger: Ledger) -> None:
    """Change the state of every row to archived."""
    ledger.change(lambda db: db.execute("UPDATE files SET state = 3") and None)


@pytest.fixture
def queries(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL of each query for several files, in order."""
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
    make_batches_of_two(monkeypatch)
    for number in range(9):
        os.utime(written(root / f"{number}.png"), (1000, 1000))
    known = [file for file in scan(root) if file.mtime_ns == 1000 * 10**9]
    if older:
        ledger.change(lambda db: db.execute("DELETE FROM files") and None)
        ledger.add_to_baseline(file.fingerprint for file in scan(root))
    else:
        ledger.add(known)
        mark_archived(ledger)
    with reconciling(root, ledger, backfill="none") as (reconciler, hinted):
        assert reconciler.tally.baseline == (11 if older else 0)
    assert hinted == []
    # The result of the first batch is known when the third is looked up.
    assert len(queries) == (6 + 2 if older else 6)


def test_new_files_of_a_large_directory_are_hinted_whatever_is_likely(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches_of_two(monkeypatch)
    ledger.remember(FIRST_START, "1.0")
    for number in range(20):
        os.utime(written(root / f"{number:02}.png"), (1000, 1000))
    versions = [file for file in scan(root) if file.path[:2].isdigit()]
    ledger.add_to_baseline(file.fingerprint for file in versions if int(file.path[:2]) % 5 not in (2, 3))
    ledger.add(file for file in versions if int(file.path[:2]) % 5 == 2)
    with reconciling(root, ledger, backfill="missed") as (reconciler, hinted):
        assert reconciler.now(60) == 4
        assert sorted(set(hinted)) == ["03.png", "08.png", "13.png", "18.png"]
        assert (reconciler.tally.baseline, reconciler.tally.unseen) == (12, 4)


def test_a_sweep_gets_every_doubtful_file_of_a_large_batch(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.ledger.doubts.MAX_NAMED", 1)
    files = [(path.name, path.stat()) for path in (written(root / f"{n}.png") for n in range(3))]
    ledger.add(FileVersion.of_stat(*file)._replace(changed_ns=1) for file in files)
    mark_archived(ledger)
    found = make_reconciler(root, ledger).doubtful_paths(lambda: False)
    assert sorted(found) == ["0.png", "1.png", "2.png"]


def test_older_files_are_added_in_pieces_and_to_the_last_one(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batches_of_two(monkeypatch)
    monkeypatch.setattr("cloud_archive.archive.baseline.MAX_FINGERPRINTS", 4)
    ledger.clear_baseline()
    for number in range(11):
        os.utime(written(root / f"old{number}.png"), (1000, 1000))
    with reconciling(root, ledger, backfill="missed") as (reconciler, hinted):
        assert reconciler.now(60) == 0
    assert hinted == []


def test_the_first_scan_is_done_only_once_its_counts_are_known(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.utime(written(root / "old.png"), (1000, 1000))
    seen: list[tuple[bool, int]] = []
    scan_once = Reconciler._scan

    def observed(self: Reconciler, problems: dict[str, str]) -> Any:
        result = scan_once(self, problems)
        seen.append((self.first_done, self.tally.baseline))
        return result

    monkeypatch.setattr(Reconciler, "_scan", observed)
    with reconciling(root, ledger, backfill="missed"):
        assert seen[0] == (True, 1), "whoever sees that the scan is done reads the number of older files"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_after_an_interrupted_first_start_files_that_came_meanwhile_are_not_in_the_baseline(
    tmp_path: Path, root: Path
) -> None:
    """The first start is killed before its scan begins."""
    os.utime(written(root / "old.png"), (1e9, 1e9))
    changed_ns = (root / "old.png").stat().st_ctime_ns
    over_ns = changed_ns + 2 * clock_tick_ns(changed_ns)
    wait_until(lambda: time.time_ns() > over_ns, "its change time, which can't be set, is in the past")
    began = time.time()
    state = tmp_path / "state"
    state.mkdir()
    killed, _, _ = open_ledger(state, began=began)
    killed.close()
    written(root / "meanwhile.png")
    os.utime(written(root / "moved in.png"), (1e9, 1e9))
    second, _, _ = open_ledger(state, began=time.time() + 100)
    hinted: list[str] = []
    try:
        make_reconciler(root, second, on_new=hinted.append, started_at=time.time() + 100)._scan({})
    finally:
        second.close()
    assert sorted(hinted) == ["meanwhile.png", "moved in.png"]


def test_a_scan_that_fails_in_an_unexpected_way_is_reported_and_made_again(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    reconciler = make_reconciler(root, ledger, on_done=done.set, started_at=0)
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
        assert any("Stale" in problem for problem in reconciler.problems)
        reconciler.now(60)
        assert reconciler.first_done
        assert not reconciler.problems
    finally:
        reconciler.stop()
        thread.join(60)


def moved_when(path: str, move: Callable[[], object]) -> Callable[..., Iterator[Any]]:
    """Return a `walk` during which `move` is called once, before the file at `path` is yielded."""
    calls = [move]

    def moving(*arguments: Any, **options: Any) -> Iterator[Any]:
        for found in walk(*arguments, **options):
            if found[0] == path and calls:
                calls.pop()()
            yield found

    return moving


def restless_walk(path: str, *arguments: Any, **options: Any) -> Iterator[Any]:
    """Walk, and report at the end that `path` vanished meanwhile."""
    yield from walk(*arguments, **options)
    options["on_vanished"](path)


@pytest.fixture
def two_folders(tmp_path: Path, ledger: Ledger) -> tuple[Path, str, str]:
    """A directory with two folders, and their names: the scan lists `first` before `last`, which holds a new file."""
    root = tmp_path / "two"
    for name in "ab":
        (root / name).mkdir(parents=True)
        (root / name / "known.png").write_bytes(b"x")
    ledger.add(list(scan(root)))
    first, last = (path.partition("/")[0] for path, _ in walk(root))
    (root / last / "new.png").write_bytes(b"new")
    return root, first, last


def test_a_folder_that_moves_during_a_scan_hides_no_file(
    two_folders: tuple[Path, str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, first, last = two_folders
    with reconciling(root, ledger) as (reconciler, hinted):
        assert set(hinted) == {f"{last}/new.png"}
        hinted.clear()
        move = partial((root / last).rename, root / first / "moved")
        monkeypatch.setattr(reconcile, "walk", moved_when(f"{first}/known.png", move))
        assert reconciler.now(60) == 2
        assert set(hinted) == {f"{first}/moved/known.png", f"{first}/moved/new.png"}


def test_a_directory_that_is_replaced_during_a_scan_is_not_taken_for_an_archived_one(
    two_folders: tuple[Path, str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, first, _ = two_folders

    def unmount() -> None:
        root.rename(root.with_name("elsewhere"))
        root.mkdir()

    with reconciling(root, ledger) as (reconciler, _):
        monkeypatch.setattr(reconciler, "_root_problem", KnownRoot(root, ledger).find_problem)
        assert reconciler.now(60) == 1
        monkeypatch.setattr(reconcile, "walk", moved_when(f"{first}/known.png", unmount))
        with pytest.raises(CloudArchiveError, match="is another directory now"):
            reconciler.now(60)
        assert reconciler.clean_at_hint is None


def test_a_scan_of_another_directory_ends_soon_after_stop(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.unarchived.BATCH", 2)
    for number in range(20):
        (root / f"new {number}.png").write_bytes(b"x")
    hinted: list[str] = []

    def stop(path: str) -> None:
        hinted.append(path)
        reconciler.stop()

    reconciler = make_reconciler(root, ledger, on_new=stop, started_at=0, root_problem=lambda: "Unknown.")
    reconciler.run()
    assert 1 <= len(hinted) <= 6, "no more than the batch that it was working on"


@pytest.mark.parametrize("include", [(), ("*.png",)])
def test_while_folders_move_during_each_scan_the_result_is_unknown(
    two_folders: tuple[Path, str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch, include: Any
) -> None:
    root, _, last = two_folders
    (root / last / "new.png").unlink()

    with reconciling(root, ledger, selection=Selection(include)) as (reconciler, _):
        monkeypatch.setattr(reconcile, "walk", partial(restless_walk, f"{last}/"))
        with pytest.raises(CloudArchiveError, match=f"{last} was moved or removed during the scan"):
            reconciler.now(60)


def test_files_that_nobody_wants_may_vanish_during_a_scan(
    two_folders: tuple[Path, str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _, last = two_folders
    (root / last / "new.png").unlink()

    with reconciling(root, ledger) as (reconciler, _):
        monkeypatch.setattr(reconcile, "walk", partial(restless_walk, "preview.tmp"))
        assert reconciler.now(60) == 0
