"""Files that were given up and are gone by now."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.archive import given_up as module
from cloud_archive.archive.given_up import retry_gone_files
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import added


def give_up(ledger: Ledger, root: Path, path: str) -> None:
    added(ledger, root, path, b"x")
    claim = ledger.claim("test")
    assert claim is not None
    ledger.mark_failed(claim, code="EntityTooLarge", cause="", cure="", next_try=None)


def given_up_paths(ledger: Ledger) -> list[str]:
    return sorted(row.version.path for row in ledger.rows(retried=False))


def test_only_files_that_are_gone_are_tried_again(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE_ROWS", 2)
    for name in ("a.png", "b.png", "c.png", "d.png", "e.png"):
        give_up(ledger, root, name)
    for gone in ("a.png", "d.png"):
        (root / gone).unlink()
    assert retry_gone_files(ledger, root) == 2
    assert given_up_paths(ledger) == ["b.png", "c.png", "e.png"]
    assert retry_gone_files(ledger, root) == 0


def test_a_large_backlog_is_not_read_between_two_scans(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW_FILES", 1)
    give_up(ledger, root, "a.png")
    (root / "a.png").unlink()
    added(ledger, root, "b.png", b"x")
    assert retry_gone_files(ledger, root, only_if_few=True) == 0
    assert retry_gone_files(ledger, root) == 1


def test_a_file_whose_folder_is_a_file_by_now_is_gone(root: Path, ledger: Ledger) -> None:
    (root / "folder").mkdir()
    give_up(ledger, root, "folder/a.png")
    (root / "folder" / "a.png").unlink()
    (root / "folder").rmdir()
    (root / "folder").write_bytes(b"x")
    assert retry_gone_files(ledger, root) == 1


def test_a_file_that_cannot_be_looked_at_is_not_taken_for_gone(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(root: Path, path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    give_up(ledger, root, "a.png")
    monkeypatch.setattr(module, "stat_file", unreadable)
    assert retry_gone_files(ledger, root) == 0
    assert given_up_paths(ledger) == ["a.png"]
