"""By which files the watched directory is known again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cloud_archive.ledger.known_root import KnownRoot
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import added


@pytest.mark.parametrize("checks", [1, 2])
def test_after_a_refusal_a_copy_is_known_by_what_was_written_before(
    tmp_path: Path, root: Path, checks: int
) -> None:
    away, ledger = tmp_path / "away", Ledger(None)
    ledger.open()
    known = KnownRoot(root, ledger)
    for number in range(checks):
        added(ledger, root, f"{number}.bin", b"a")
        assert known.find_problem() is None
    for number in range(checks - 1):
        (root / f"{number}.bin").unlink()
    root.rename(away)
    root.mkdir()
    assert known.find_problem() is not None
    root.rmdir()
    shutil.copytree(away, root)
    assert KnownRoot(root, ledger).find_problem() is None
    ledger.close()


def test_once_the_known_directory_is_back_what_is_written_into_it_identifies_it(
    tmp_path: Path, root: Path
) -> None:
    away, ledger = tmp_path / "away", Ledger(None)
    ledger.open()
    known = KnownRoot(root, ledger)
    added(ledger, root, "a.bin", b"a")
    assert known.find_problem() is None
    root.rename(away)
    root.mkdir()
    assert known.find_problem() is not None
    root.rmdir()
    away.rename(root)
    assert known.find_problem() is None
    added(ledger, root, "b.bin", b"b")
    (root / "a.bin").unlink()
    root.rename(away)
    shutil.copytree(away, root)
    assert KnownRoot(root, ledger).find_problem() is None
    ledger.close()
