"""Which files in the directory have no row in the ledger, and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloud_archive.archive import unarchived as module
from cloud_archive.archive.unarchived import (
    Tally,
    UnarchivedFile,
    look_up,
    skip_reason,
    unarchived_files,
    unmatched_sentences,
)
from cloud_archive.files import FileVersion, SkipReason, stat_version
from cloud_archive.intake.selection import Selection
from cloud_archive.ledger.doubts import Doubts
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.own_files import OwnFiles
from tests.archived_rows import mark_archived


def write(root: Path, *names: str, body: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)


def found(root: Path, ledger: Ledger, selection: Selection | None = None) -> dict[str, str]:
    """Each path that is listed, with its state, or the reason why it is left out."""
    files = unarchived_files(
        root, selection or Selection(), ledger, lambda *_: pytest.fail("it could be read")
    )
    return {file.path: file.reason.value if file.reason else file.state for file in files}


def remember_as_old(ledger: Ledger, root: Path, *names: str) -> None:
    ledger.add_to_baseline(stat_version(root, name).fingerprint for name in names)


def test_every_file_without_a_row_is_listed_with_its_state(root: Path, ledger: Ledger) -> None:
    write(root, "known.png", "new.png", "old.png", ".hidden.png", "a.tmp", ".git/config", "sub/b.txt")
    write(root, "empty.png", body=b"")
    ledger.add([stat_version(root, "known.png")])
    remember_as_old(ledger, root, "old.png")
    assert found(root, ledger, Selection(["*.png", "*.tmp"])) == {
        "new.png": "unseen",
        "old.png": "baseline",
        ".hidden.png": SkipReason.HIDDEN.value,
        ".git/": SkipReason.HIDDEN.value,
        "a.tmp": SkipReason.TEMPORARY.value,
        "sub/b.txt": SkipReason.NOT_INCLUDED.value,
        "empty.png": SkipReason.EMPTY.value,
    }


def test_files_of_this_program_are_not_listed(root: Path, ledger: Ledger) -> None:
    write(root, "ours/ledger.sqlite3", "a.png")
    own = OwnFiles(root, root / "ours")
    assert found(root, ledger, Selection((), (), own)) == {"a.png": "unseen"}


def test_files_come_in_batches_and_none_is_lost_between_them(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    names = [f"{number}.png" for number in range(5)]
    write(root, *names, ".a", ".b")
    assert sorted(found(root, ledger)) == sorted([*names, ".a", ".b"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_file_that_was_touched_since_it_was_archived_is_doubtful_and_not_listed(
    root: Path, ledger: Ledger
) -> None:
    write(root, "a.png", ".skipped")
    version = stat_version(root, "a.png")
    ledger.add([version])
    claim = ledger.claim("test")
    assert claim is not None
    mark_archived(ledger, claim, key="out/a.png", sha256="0" * 64, etag=None, read=version)
    moment = version.mtime_ns
    (root / "a.png").unlink()
    write(root, "a.png", body=b"y")
    os.utime(root / "a.png", ns=(moment, moment))
    doubts = Doubts()
    files = list(unarchived_files(root, Selection(), ledger, lambda *_: None, doubts))
    assert [file.path for file in files] == [".skipped"]
    assert doubts.paths == ["a.png"]


def test_the_result_for_a_batch_does_not_depend_on_what_was_likely(root: Path, ledger: Ledger) -> None:
    names = [f"{n}.png" for n in range(5)]
    write(root, *names)
    files = [(name, (root / name).stat()) for name in names]
    versions = [FileVersion.of_stat(*file) for file in files]
    touched = versions[1]._replace(changed_ns=1)
    ledger.add([versions[0], touched, versions[3]])
    ledger.change(lambda db: db.execute("UPDATE files SET state = 3") and None)
    # The last has a row and counts as older too: the row counts.
    ledger.add_to_baseline([versions[2].fingerprint, versions[3].fingerprint])
    for some in (files, files[2:3], files[:1], files[1:4]):
        likely = look_up(some, ledger, inodes=True, baseline_likely=True)
        assert likely == look_up(some, ledger, inodes=True)
    assert likely.known.doubtful == {touched.fingerprint}


def test_counts_add_up_and_leave_our_own_files_out() -> None:
    first, second = Tally(), Tally()
    first.count(None, False)
    first.count(None, False)
    first.count(None, True)
    second.count(SkipReason.HIDDEN, False)
    second.count(SkipReason.HIDDEN, True)
    second.count(SkipReason.OWN, False)
    first.add(second)
    assert (first.unseen, first.baseline, dict(first.skipped)) == (2, 1, {SkipReason.HIDDEN: 2})


def test_a_file_without_a_byte_is_left_out_and_another_reason_comes_first(root: Path) -> None:
    write(root, "a.png", ".b.png", body=b"")
    stat = (root / "a.png").stat()
    assert skip_reason(Selection(), "a.png", stat) is SkipReason.EMPTY
    assert skip_reason(Selection(), ".b.png", stat) is SkipReason.HIDDEN
    write(root, "c.png")
    assert skip_reason(Selection(), "c.png", (root / "c.png").stat()) is None


@pytest.mark.parametrize(
    ("file", "state", "reason", "cause"),
    [
        (UnarchivedFile("a/b.png", 3, None, False), "unseen", "", ""),
        (
            UnarchivedFile("a/b.png", 3, None, True),
            "baseline",
            "baseline",
            "It was there before archiving began.",
        ),
        (
            UnarchivedFile("a/b.png", 3, SkipReason.HIDDEN, True),
            "skipped",
            "hidden",
            SkipReason.HIDDEN.sentence,
        ),
    ],
)
def test_its_json_has_the_fields_of_a_ledger_row(
    file: UnarchivedFile, state: str, reason: str, cause: str
) -> None:
    shown = file.to_json()
    assert (shown["state"], shown["reason"], shown["cause"]) == (state, reason, cause)
    assert (shown["path"], shown["file_name"], shown["size_bytes"]) == ("a/b.png", "b.png", 3)
    assert shown["id"] is shown["s3_key"] is shown["next_try_at"] is None


def test_a_folder_is_shown_by_its_own_name() -> None:
    assert UnarchivedFile("a/.git/", 0, SkipReason.HIDDEN, False).to_json()["file_name"] == ".git"


def test_a_pattern_that_matched_nothing_is_a_warning_only_where_files_were_left_out() -> None:
    selection = Selection(["*.pgn", "*.mp4"])
    selection.note_match("a.mp4")
    tally = Tally()
    assert unmatched_sentences(selection, tally) == []
    tally.count(SkipReason.NOT_INCLUDED, False)
    (sentence,) = unmatched_sentences(selection, tally)
    assert "'*.pgn' has matched no file, and 1 file matched no pattern" in sentence
