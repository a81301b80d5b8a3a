"""Files that were given up and are gone by now."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cloud_archive.archive import given_up as module
from cloud_archive.archive.given_up import GivenUpRetries, retry_gone_files
from cloud_archive.ledger.ledger import Ledger
from tests.archived_rows import mark_archived
from tests.functional.archives import added


def give_up(ledger: Ledger, root: Path, path: str, code: str = "EntityTooLarge", size: int = 1) -> None:
    added(ledger, root, path, b"x" * size)
    claim = ledger.claim("test")
    assert claim is not None
    ledger.mark_failed(claim, code=code, cause="", cure="", next_try=None)


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


def test_a_store_that_refuses_for_good_gets_one_request_for_each_cause_and_ever_less_often(
    root: Path, ledger: Ledger
) -> None:
    for number in range(20):
        give_up(ledger, root, f"{number}.mov", "AccessDenied", size=20 - number)
    give_up(ledger, root, "a.iso", "RequestTooLarge")
    give_up(ledger, root, "b.iso", "EntityTooLarge")
    retries, began = GivenUpRetries(ledger), [0.0]
    for now in range(0, 24 * 3600, 10):
        if retries.run_once(float(now)):
            began.append(float(now))
            assert ledger.totals().pending.files == 2
            codes = {"19.mov": "AccessDenied", "a.iso": "RequestTooLarge"}
            for _ in codes:
                claim = ledger.claim("test")
                assert claim is not None
                code = codes[claim.version.path]
                ledger.mark_failed(claim, code=code, cause="", cure="", next_try=None)
    pauses = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert pauses[0] <= 70
    assert max(pauses) <= 3610
    assert 24 <= len(pauses) <= 60


def test_once_the_store_accepts_one_all_others_of_its_cause_are_tried(root: Path, ledger: Ledger) -> None:
    for number in range(200):
        give_up(ledger, root, f"{number}.mov", "AccessDenied")
    give_up(ledger, root, "other.iso", "RequestTooLarge")
    retries = GivenUpRetries(ledger)
    retries.run_once(0.0)
    assert retries.run_once(60.0)
    claims = [ledger.claim("test"), ledger.claim("test")]
    for claim in claims:
        assert claim is not None
        if claim.version.path.endswith(".iso"):
            ledger.mark_failed(claim, code="RequestTooLarge", cause="", cure="", next_try=None)
        else:
            mark_archived(ledger, claim, key="k", sha256="ab" * 32, etag=None)
    assert retries.run_once(62.0)
    assert ledger.totals().pending.files == 199
    assert given_up_paths(ledger) == ["other.iso"]
    assert not retries.run_once(64.0)
