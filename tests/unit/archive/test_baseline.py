"""Which files count as older than the first start."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cloud_archive.archive import baseline
from cloud_archive.archive.baseline import BaselineBuilder, is_older
from cloud_archive.files import stat_version
from cloud_archive.ledger.ledger import FIRST_START, FIRST_START_BEGUN, Ledger

OLD = 1_000_000_000.0


def old_file(root: Path, name: str = "old.png") -> tuple[int, os.stat_result]:
    """Return fingerprint and stat of a file whose mtime is old."""
    (root / name).write_bytes(b"old")
    os.utime(root / name, (OLD, OLD))
    return stat_version(root, name).fingerprint, (root / name).stat()


@pytest.mark.parametrize(
    ("backfill", "started_before", "adds"),
    [
        ("missed", False, True),
        ("missed", True, False),
        ("none", False, True),
        ("none", True, True),
        ("all", False, False),
        ("all", True, False),
    ],
)
def test_which_scans_leave_old_files_alone(
    root: Path, ledger: Ledger, backfill: str, started_before: bool, adds: bool
) -> None:
    if started_before:
        ledger.remember(FIRST_START, "1.0")
    fingerprint, stat = old_file(root)
    builder = BaselineBuilder(ledger, root, backfill, started_at=time.time())
    file = (fingerprint, ("old.png", stat))
    assert builder.add_old([file]) == (([file[1]], []) if adds else ([], [file]))
    builder.finish()
    assert (ledger.unknown([stat_version(root, "old.png")]) == []) is adds
    assert ledger.recall(FIRST_START) is not None


def test_all_clears_what_was_left_alone_before(root: Path, ledger: Ledger) -> None:
    fingerprint, stat = old_file(root)
    first = BaselineBuilder(ledger, root, "missed", started_at=time.time())
    first.add_old([(fingerprint, ("old.png", stat))])
    first.finish()
    BaselineBuilder(ledger, root, "all", started_at=time.time())
    assert ledger.unknown([stat_version(root, "old.png")])


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_file_whose_server_has_a_slow_clock_is_new(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    (root / "new.png").write_bytes(b"new")
    entry = stat_version(root, "new.png").fingerprint, ("new.png", (root / "new.png").stat())
    began = time.time() + 60
    if interrupted:
        ledger.remember(FIRST_START_BEGUN, str(began))
    for filesystem, new in (("nfs4", [entry]), (None, [])):
        monkeypatch.setattr(baseline, "network_filesystem", lambda root, kind=filesystem: kind)
        assert BaselineBuilder(ledger, root, "missed", started_at=began).add_old([entry])[1] == new


def test_many_files_share_a_commit(root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_FINGERPRINTS", 3)
    builder = BaselineBuilder(ledger, root, "missed", started_at=time.time() + 3600)
    unknown = []
    for number in range(4):
        fingerprint, stat = old_file(root, f"{number}.png")
        builder.add_old([(fingerprint, (f"{number}.png", stat))])
        versions = [stat_version(root, f"{each}.png") for each in range(number + 1)]
        unknown.append(len(ledger.unknown(versions)))
    assert unknown == [1, 2, 0, 1]
    builder.finish()
    assert ledger.unknown(versions) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_file_with_an_old_date_that_comes_during_the_first_scan_is_new(root: Path, ledger: Ledger) -> None:
    """A kill may follow before it counts as complete, and then only this scan decides about it."""
    builder = BaselineBuilder(ledger, root, "missed", started_at=time.time())
    fingerprint, stat = old_file(root)
    assert builder.add_old([(fingerprint, ("old.png", stat))])[0] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_after_a_first_start_that_was_killed_files_that_came_since_are_new(
    root: Path, ledger: Ledger
) -> None:
    """Moved in with an old mtime: its change time says that it came later."""
    ledger.remember(FIRST_START_BEGUN, str(time.time() - 60))
    builder = BaselineBuilder(ledger, root, "missed", started_at=time.time() + 60)
    fingerprint, stat = old_file(root)
    assert builder.add_old([(fingerprint, ("old.png", stat))])[0] == []


def test_in_doubt_a_file_is_new(root: Path) -> None:
    _, stat = old_file(root)
    assert not is_older(stat, OLD)
    assert is_older(stat, OLD + 3600)
    if os.name != "nt":  # which has no change time
        assert not is_older(stat, OLD + 3600, by_change=True), "its change time is now"
