"""What is recovered from a damaged ledger, and what a ledger in memory keeps."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import LedgerDamaged, LedgerError
from cloud_archive.ledger import recovery
from cloud_archive.ledger.history import compact, mark_pruned
from cloud_archive.ledger.ledger import COMPARE_WITH_BUCKET, FIRST_START_BEGUN, Ledger
from cloud_archive.ledger.recovery import IN_MEMORY_NOTICE, move_aside, open_ledger, recover_baseline
from cloud_archive.state import LEDGER_NAME

from .ledger_helpers import Clock, archive, claimed, version


def test_the_baseline_is_saved_from_a_damaged_ledger(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path)
    ledger.open()
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", "123")
    ledger.close()
    aside = move_aside(path)
    assert not path.exists()
    fresh = Ledger(path)
    fresh.open()
    assert recover_baseline(aside, fresh)
    assert fresh.unknown([version("old.png"), version("new.png")]) == [version("new.png")]
    fresh.close()


def test_databases_that_are_moved_aside_in_one_second_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.ledger.recovery.time.strftime", lambda _: "20260401-123456")
    path = tmp_path / "l.sqlite3"
    kept = []
    for content in ("first", "second"):
        path.write_text(content)
        path.with_name("l.sqlite3-wal").write_text(f"{content} log")
        kept.append(move_aside(path))

    assert [each.read_text() for each in kept] == ["first", "second"]
    assert [each.with_name(f"{each.name}-wal").read_text() for each in kept] == ["first log", "second log"]


def test_a_database_of_which_one_file_cannot_be_moved_aside_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.ledger.recovery.time.strftime", lambda _: "20260401-123456")
    monkeypatch.setattr("cloud_archive.ledger.recovery.secrets.token_hex", lambda _: "0")
    names = ("l.sqlite3", "l.sqlite3-wal", "l.sqlite3-shm")
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "l.damaged-20260401-123456-0.sqlite3-shm").mkdir()  # a file can't replace it
    with pytest.raises(OSError, match="damaged"):
        move_aside(tmp_path / "l.sqlite3")
    assert {file.name: file.read_text() for file in tmp_path.iterdir() if file.is_file()} == {
        name: name for name in names
    }


@pytest.mark.parametrize("first_start", ["123", None])
def test_what_was_compacted_or_pruned_stays_known_after_a_rescue_whatever_the_backfill(
    tmp_path: Path, clock: Clock, first_start: str | None
) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path, clock=clock)
    ledger.open()
    ledger.add([version("compacted.png"), version("pruned.png")])
    for _ in range(2):
        archive(ledger, claimed(ledger))
    mark_pruned(ledger, ledger.rows(query="pruned"))
    ledger.change(
        lambda db: db.execute("UPDATE files SET archived_at = 0 WHERE path = ?", (b"compacted.png",))
    )
    assert compact(ledger, clock.now) == 1
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", first_start)
    ledger.close()
    aside = move_aside(path)
    fresh = Ledger(path)
    fresh.open()
    assert recover_baseline(aside, fresh) is (first_start is not None)
    fresh.clear_baseline()  # as CLOUD_ARCHIVE_BACKFILL=all does
    known = [version("compacted.png"), version("pruned.png")]
    assert fresh.unknown([*known, version("old.png")]) == [version("old.png")]
    assert fresh.add(known) == 0
    fresh.close()


def test_nothing_is_saved_from_garbage(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_bytes(b"\xff" * 9000)
    fresh = Ledger(None)
    fresh.open()
    assert not recover_baseline(tmp_path / "x.sqlite3", fresh)
    fresh.close()


class Killed(BaseException):
    """The process was killed at this moment."""


def test_a_recovery_that_was_killed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, _, _ = open_ledger(tmp_path)
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", "123")
    ledger.close()
    real, damages = Ledger.open, [LedgerDamaged("The ledger is damaged.")]

    def damaged_once(ledger: Ledger, copy_of: Path | None = None) -> None:
        if damages:
            raise damages.pop()
        real(ledger, copy_of)

    def killed(_: Path, fresh: Ledger) -> bool:
        fresh.close()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "open", damaged_once)
        patch.setattr(recovery, "recover_baseline", killed)
        with pytest.raises(Killed):
            open_ledger(tmp_path)
    again, _, everything = open_ledger(tmp_path)
    assert not everything
    assert again.unknown([version("old.png"), version("new.png")]) == [version("new.png")]
    again.close()


def test_what_is_recovered_is_kept_in_memory_if_the_new_ledger_cannot_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, _, _ = open_ledger(tmp_path)
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", "123")
    ledger.close()
    real_open, damages = Ledger.open, [LedgerDamaged("The ledger is damaged.")]
    real_add = Ledger.add_to_baseline

    def damaged_once(ledger: Ledger, copy_of: Path | None = None) -> None:
        if damages:
            raise damages.pop()
        real_open(ledger, copy_of)

    def full(ledger: Ledger, *args: Any, **how: Any) -> None:
        if ledger.path is not None:
            raise LedgerError("The disk is full.")
        real_add(ledger, *args, **how)

    monkeypatch.setattr(Ledger, "open", damaged_once)
    monkeypatch.setattr(Ledger, "add_to_baseline", full)
    ledger, notices, everything = open_ledger(tmp_path)
    assert (ledger.path, ledger.saved_as) == (None, tmp_path / LEDGER_NAME)
    assert notices == [f"The disk is full. {IN_MEMORY_NOTICE}"]
    assert not everything
    assert ledger.unknown([version("old.png"), version("new.png")]) == [version("new.png")]
    ledger.close()


def test_the_whole_directory_is_compared_until_a_scan_of_it_has_ended(tmp_path: Path) -> None:
    open_ledger(tmp_path)[0].close()
    (tmp_path / LEDGER_NAME).write_bytes(b"\xff" * 9000)
    for _ in range(2):  # the second time after a kill during the first scan
        ledger, _, everything = open_ledger(tmp_path)
        assert everything
        ledger.close()
    ledger, _, _ = open_ledger(tmp_path)
    ledger.remember("first_start", "123")  # the scan has ended
    ledger.close()
    ledger, _, everything = open_ledger(tmp_path)
    assert not everything
    ledger.close()


@pytest.mark.parametrize("disk", ["takes a small file", "takes nothing"])
def test_a_first_start_in_memory_survives_a_kill_only_where_its_moment_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    (tmp_path / LEDGER_NAME).mkdir()  # so that no ledger can be made
    if disk == "takes nothing":
        monkeypatch.setattr(recovery, "write_private", _refuse)
    ledger, (notice,), _ = open_ledger(tmp_path, began=100.0)
    assert ledger.path is None
    assert ledger.survives_kill is (disk == "takes a small file")
    assert ("count as old ones" in notice) is (disk == "takes nothing")
    assert notice.endswith(IN_MEMORY_NOTICE)
    ledger.close()
    (tmp_path / LEDGER_NAME).rmdir()
    after, _, _ = open_ledger(tmp_path, began=200.0)
    assert after.survives_kill
    assert after.recall(FIRST_START_BEGUN) == ("100.0" if disk == "takes a small file" else "200.0")
    after.close()


def test_a_ledger_in_memory_after_the_first_start_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ledger(tmp_path)[0].close()
    monkeypatch.setattr(recovery, "write_private", _refuse)
    monkeypatch.setattr("cloud_archive.ledger.database.BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ledger, _, _ = open_ledger(tmp_path)
    assert (ledger.path, ledger.survives_kill) == (None, True)
    ledger.close()


def test_a_second_start_in_memory_knows_when_the_first_start_began(tmp_path: Path) -> None:
    (tmp_path / LEDGER_NAME).mkdir()  # so that no ledger can be made
    open_ledger(tmp_path, began=100.0)[0].close()
    ledger, _, _ = open_ledger(tmp_path, began=200.0)
    assert ledger.recall(FIRST_START_BEGUN) == "100.0"
    assert ledger.recall(COMPARE_WITH_BUCKET) is not None
    ledger.close()


def test_a_damaged_ledger_that_cannot_be_renamed_is_left_and_the_archive_works_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LEDGER_NAME).write_bytes(b"\xff" * 9000)
    monkeypatch.setattr(recovery, "move_aside", _refuse)
    ledger, (notice,), everything = open_ledger(tmp_path)
    assert (ledger.path, ledger.saved_as, everything) == (None, None, True)
    assert "is damaged" in notice
    assert notice.endswith(IN_MEMORY_NOTICE)
    assert (tmp_path / LEDGER_NAME).read_bytes() == b"\xff" * 9000
    ledger.close()


@pytest.mark.parametrize(
    ("intact", "damaged"),
    [
        # SQLite names the damaged table in its error, and Python can't decode that.
        (b"tablemetameta", b"table\xf3etameta"),
        (b"CREATE TABLE meta (name", b"CREATE TABLE meta (nbme"),
        (b" code TEXT", b" codx TEXT"),
        (b"123456.0", b"12345\xf3.0"),
    ],
)
def test_a_ledger_with_damaged_names_or_texts_is_replaced(
    tmp_path: Path, intact: bytes, damaged: bytes
) -> None:
    path = tmp_path / LEDGER_NAME
    open_ledger(tmp_path, began=123456.0)[0].close()
    body = path.read_bytes()
    assert intact in body
    path.write_bytes(body.replace(intact, damaged))
    ledger, (notice,), everything = open_ledger(tmp_path)
    assert (ledger.path, everything) == (path, True)
    assert "The ledger was damaged" in notice
    ledger.close()


@pytest.mark.parametrize("content", [None, b""])
def test_a_lost_ledger_whose_leftovers_cannot_be_renamed_is_replaced_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    open_ledger(tmp_path, began=100.0)[0].close()
    path = tmp_path / LEDGER_NAME
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(recovery, "move_aside", _refuse)
    ledger, (notice,), _ = open_ledger(tmp_path, began=200.0)
    assert (ledger.path, ledger.saved_as) == (None, path)
    assert (ledger.recall(FIRST_START_BEGUN), ledger.survives_kill) == ("100.0", True)
    assert ledger.recall(COMPARE_WITH_BUCKET) is not None
    assert notice.startswith("The ledger was missing")
    assert notice.endswith(IN_MEMORY_NOTICE)
    ledger.close()


def test_a_ledger_that_fails_just_after_it_was_opened_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Path | None] = []
    real = Ledger.close

    def close(ledger: Ledger) -> None:
        closed.append(ledger.path)
        real(ledger)

    def full(*_: object) -> None:
        raise LedgerError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "close", close)
        patch.setattr(recovery, "_commit_first_start", full)
        ledger, _, _ = open_ledger(tmp_path)
    assert ledger.path is None
    assert closed == [tmp_path / LEDGER_NAME]
    ledger.close()


def _refuse(*_: object) -> None:
    raise OSError("no space")
