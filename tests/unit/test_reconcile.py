"""The scan as truth: what it may leave out because nothing has changed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_archive.files import FileVersion
from cloud_archive.ledger import Ledger
from cloud_archive.reconcile import Reconciler
from cloud_archive.selection import Selection
from cloud_archive.watcher import scan


@contextmanager
def reconciling(root: Path, ledger: Ledger) -> Iterator[tuple[Reconciler, list[str]]]:
    """A reconciler that scans when it is asked only, after its first scan; and what it has told of as new."""
    told: list[str] = []
    reconciler = Reconciler(
        root,
        ledger,
        Selection((), ()),
        on_new=told.append,
        on_done=lambda: None,
        backfill="all",
        interval_seconds=0,
        polling=lambda: False,
        started_at=0.0,
    )
    thread = threading.Thread(target=reconciler.run, name="reconciler")
    thread.start()
    try:
        reconciler.now(10)
        yield reconciler, told
    finally:
        reconciler.stop()
        thread.join(10)


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
    ask = ledger.unknown

    def asked(versions: Sequence[FileVersion]) -> list[FileVersion]:
        counts.append(len(versions))
        return ask(versions)

    monkeypatch.setattr(ledger, "unknown", asked)
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
