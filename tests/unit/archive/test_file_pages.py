"""Pages of files, by cursor."""

from __future__ import annotations

import time

import pytest

from cloud_archive.archive.file_pages import ledger_page, unarchived_page
from cloud_archive.archive.unarchived import UnarchivedFile
from cloud_archive.errors import RequestRefused
from cloud_archive.files import FileVersion, SkipReason
from cloud_archive.ledger.ledger import Ledger


def test_the_ledger_comes_newest_first_and_its_cursor_goes_on(ledger: Ledger) -> None:
    ledger.add([FileVersion(f"{n}.png", 1, n + 1) for n in range(5)])
    first, cursor = ledger_page(ledger, None, "", 3, None)
    assert [row["path"] for row in first] == ["4.png", "3.png", "2.png"]
    second, end = ledger_page(ledger, "pending,failed", "", 3, cursor)
    assert [row["path"] for row in second] == ["1.png", "0.png"]
    assert end is None


@pytest.mark.parametrize(
    ("state", "cursor", "what"),
    [(None, "-1", "cursor"), (None, "x", "cursor"), (None, str(2**63), "cursor"), ("lost", None, "state")],
)
def test_a_bad_cursor_or_state_is_named(
    ledger: Ledger, state: str | None, cursor: str | None, what: str
) -> None:
    with pytest.raises(RequestRefused, match=what) as refused:
        ledger_page(ledger, state, "", 3, cursor)
    assert refused.value.status == 400


def test_files_without_a_row_are_filtered_and_counted_by_the_cursor() -> None:
    files = [
        UnarchivedFile("A.png", 1, None, True),
        UnarchivedFile("b.tmp", 1, SkipReason.EMPTY, False),
        UnarchivedFile("a2.png", 1, None, True),
        UnarchivedFile("c.png", 1, None, True),
    ]
    first, cursor = unarchived_page(files, "baseline", "a", 1, None)
    assert [row["path"] for row in first] == ["A.png"]
    second, cursor = unarchived_page(files, "baseline", "a", 2, cursor)
    assert [row["path"] for row in second] == ["a2.png"]
    assert cursor is None
    for cursor in ("-2", str(2**63)):
        with pytest.raises(RequestRefused, match="cursor"):
            unarchived_page(files, "baseline", "", 1, cursor)


@pytest.mark.parametrize(
    ("path", "query"), [("a/cafe\u0301.png", "caf\u00e9"), ("a/caf\u00e9.png", "cafe\u0301")]
)
def test_a_name_is_found_with_its_accents_joined_or_apart(ledger: Ledger, path: str, query: str) -> None:
    ledger.add([FileVersion(path, 1, 5), FileVersion("a/cafe.png", 1, 5)])
    assert [row["path"] for row in ledger_page(ledger, None, query, 10, None)[0]] == [path]
    files = [UnarchivedFile(name, 1, None, True) for name in (path, "a/cafe.png")]
    assert [row["path"] for row in unarchived_page(files, "baseline", query, 10, None)[0]] == [path]


def test_failed_files_are_listed_by_whether_they_are_tried_again() -> None:
    ledger = Ledger(None)
    ledger.open()
    for name, next_try in (("again.png", time.time() + 60), ("never.png", None)):
        version = FileVersion(name, 1, 5)
        ledger.add([version])
        claim = ledger.claim_version("w", version)
        assert claim is not None
        ledger.mark_failed(claim, code="C", cause="It failed.", cure="", next_try=next_try)

    def paths(state: str) -> list[str]:
        return [row["path"] for row in ledger_page(ledger, state, "", 10, None)[0]]

    assert paths("retrying") == ["again.png"]
    assert paths("given_up") == ["never.png"]
    assert paths("failed") == ["never.png", "again.png"]
    for state in ("retrying,given_up", "pending,retrying"):
        with pytest.raises(RequestRefused, match=r"Ask for retrying and for given_up one at a time\."):
            paths(state)
    ledger.close()


def test_every_file_without_a_row_is_listed_as_unarchived() -> None:
    files = [
        UnarchivedFile("old.png", 1, None, True),
        UnarchivedFile(".hidden", 1, SkipReason.HIDDEN, False),
        UnarchivedFile("new.png", 1, None, False),
    ]
    rows, _ = unarchived_page(iter(files), "unarchived", "", 10, None)
    assert [row["path"] for row in rows] == ["old.png", ".hidden", "new.png"]
    rows, _ = unarchived_page(iter(files), "baseline", "", 10, None)
    assert [row["path"] for row in rows] == ["old.png"]
