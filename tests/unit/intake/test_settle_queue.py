"""The settle queue: what it counts, hands over, and tries again."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from cloud_archive.beneath import open_file
from cloud_archive.files import FileVersion, stat_version
from cloud_archive.intake import settle_queue, settle_rules
from cloud_archive.intake.settle_entry import WaitingFile
from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.intake.settle_rules import QUIET_TIME, UNREADABLE

from .settle_bench import CLOSED, CREATED, IN_NEW_FOLDER, MOVED, SCANNED, WRITTEN, Bench


def test_a_close_upgrades_a_file_that_waits_by_its_creation(bench: Bench) -> None:
    bench.write("a.bin", b"1")
    bench.hint("a.bin", CREATED)
    bench.go(0.3)
    bench.write("a.bin", b"12345")
    bench.hint("a.bin", CLOSED)
    assert bench.done_after(1) == pytest.approx(0.5)
    assert bench.complete == [("a.bin", 5, False)]


def test_a_scan_does_not_downgrade_or_delay_a_file_that_was_closed(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    bench.go(0.4)
    bench.hint("a.bin", SCANNED)
    bench.hint("a.bin", CREATED)
    assert bench.done_after(1) == pytest.approx(0.1)


def test_a_file_that_was_empty_counts_again_once_a_scan_finds_it_written(bench: Bench) -> None:
    bench.write("a.bin", b"")
    bench.hint("a.bin", CREATED)
    bench.go(0.5)
    assert bench.queue.pending_files == 0
    bench.write("a.bin", b"data")  # and no event comes, because the watcher was stopped
    bench.hint("a.bin", SCANNED)
    assert bench.queue.pending_files == 1
    assert [each.path for each in bench.queue.waiting()] == ["a.bin"]
    assert bench.done_after(60) >= 2.0, "the quiet time counts from the hint"


def test_a_file_is_counted_at_every_moment_of_its_hand_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    readers: list[threading.Thread] = []
    drop = SettleQueue._drop

    def drop_and_read(self: SettleQueue, path: str) -> None:
        drop(self, path)
        readers.append(threading.Thread(target=lambda: counts.append(self.pending_files)))
        readers[-1].start()
        readers[-1].join(0.2)  # without the lock, it reads here

    monkeypatch.setattr(SettleQueue, "_drop", drop_and_read)
    bench.acknowledges = False
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    bench.done_after(60)
    for reader in readers:
        reader.join(60)
    assert counts == [1]


def test_an_empty_file_is_reported_once_and_never_pending(bench: Bench) -> None:
    bench.write("a.bin", b"")
    bench.hint("a.bin", CLOSED)
    bench.go(9.9)
    assert (bench.empty, bench.queue.pending_files, bench.queue.waiting()) == ([], 0, ())
    bench.go(0.2)
    assert bench.empty == ["a.bin"]
    for _ in range(3):
        bench.hint("a.bin", SCANNED)
        bench.go(60)
    assert bench.empty == ["a.bin"]
    assert bench.complete == []
    bench.write("a.bin", b"x")
    bench.hint("a.bin", SCANNED)
    bench.done_after(3)
    bench.write("a.bin", b"")
    bench.hint("a.bin", CLOSED)
    bench.go(11)
    assert bench.empty == ["a.bin", "a.bin"]


def test_a_file_that_vanishes_is_dropped_silently(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CREATED)
    bench.go(1)
    (bench.root / "a.bin").unlink()
    assert bench.go(5) is None
    assert (bench.complete, bench.unreadable, bench.queue.pending_files) == ([], [], 0)


def test_a_file_that_cannot_be_opened_by_its_name_is_dropped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event on Windows may give a file's short name: `stat` finds it, and `open_file` refuses it as a link."""

    def refuse(root: Path, path: str) -> BinaryIO:
        raise FileNotFoundError(2, "This is a link", path)

    monkeypatch.setattr(settle_rules, "open_file", refuse)
    bench.write("A~1.BIN")
    bench.hint("A~1.BIN", WRITTEN)
    assert bench.go(60) is None
    assert (bench.complete, bench.unreadable, bench.queue.pending_files) == ([], [], 0)


def test_what_is_no_regular_file_is_dropped(bench: Bench) -> None:
    if os.name != "nt":
        os.mkfifo(bench.root / "pipe")
        (bench.root / "loop").symlink_to("loop")
    (bench.root / "folder").mkdir()
    for name in ("pipe", "loop", "folder", "missing", "missing/below"):
        bench.hint(name, SCANNED)
    assert bench.go(5) is None
    assert bench.complete == []


def test_an_unreadable_file_is_reported_once_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("a.bin")
    real = open_file

    def refuse(root: Path, path: str) -> BinaryIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(settle_rules, "open_file", refuse)
    bench.hint("a.bin", CLOSED)
    bench.go(300)
    assert bench.unreadable == [("a.bin", "Permission denied")]
    assert bench.queue.waiting() == (WaitingFile("a.bin", 4, UNREADABLE),)
    assert bench.queue.unreadable() == [("a.bin", "Permission denied")]
    monkeypatch.setattr(settle_rules, "open_file", real)
    assert bench.done_after(61) <= 60
    assert bench.queue.unreadable() == []


def test_a_scan_tries_an_unreadable_file_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("a.bin")
    real = open_file

    def refuse(root: Path, path: str) -> BinaryIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(settle_rules, "open_file", refuse)
    bench.hint("a.bin", SCANNED)
    bench.go(5)
    monkeypatch.setattr(settle_rules, "open_file", real)
    bench.hint("a.bin", SCANNED)
    assert bench.done_after(1) == 0.0


def test_a_path_longer_than_the_system_takes_is_reported_and_holds_up_nobody(
    bench: Bench,
) -> None:
    bench.write("a.bin")
    bench.hint("x/" * 3000 + "a.png", SCANNED)
    bench.hint("a.bin", CLOSED)
    bench.go(1)
    assert [each[0] for each in bench.complete] == ["a.bin"]
    assert "long" in bench.unreadable[0][1]


def test_a_look_that_fails_in_an_odd_way_loses_nothing_and_holds_up_nobody(bench: Bench) -> None:
    def fail(name: str) -> None:
        if name == "odd.bin":
            raise RuntimeError("odd")

    bench.before_check = fail
    for name in ("odd.bin", "a.bin"):
        bench.write(name)
        bench.hint(name, CLOSED)
    bench.go(1)
    assert [each[0] for each in bench.complete] == ["a.bin"]
    assert bench.unreadable == [("odd.bin", "odd")]
    bench.before_check = lambda name: None
    bench.done_after(61)
    assert [each[0] for each in bench.complete] == ["a.bin", "odd.bin"]


def test_one_version_is_handed_over_once_unless_it_is_written_to_again(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    bench.go(1)
    for kind in (SCANNED, CREATED):
        bench.hint("a.bin", kind)
        bench.go(3)
    assert bench.written == [True]
    # Its size and times may be as before, but not its bytes.
    for kind in (CLOSED, MOVED, WRITTEN):
        bench.hint("a.bin", kind)
        assert (bench.queue.pending_files, bench.queue.rewritten_files) == (0, 1)
        bench.go(3)
        assert (bench.queue.pending_files, bench.queue.rewritten_files) == (0, 0)
    assert bench.written == [True] * 4
    bench.write("a.bin", b"second")
    bench.hint("a.bin", SCANNED)
    bench.go(3)
    assert [each[1] for each in bench.complete] == [4, 4, 4, 4, 6]
    assert not bench.written[-1]


def test_the_scan_is_believed_again_after_a_while(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    bench.go(60)
    bench.hint("a.bin", SCANNED)
    bench.go(3)
    assert len(bench.complete) == 2


def test_a_version_that_could_not_be_handed_over_is_offered_again(bench: Bench) -> None:
    bench.write("a.bin")
    bench.refuse_with = RuntimeError("the ledger is locked")
    bench.hint("a.bin", CLOSED)
    bench.go(5)
    assert bench.queue.pending_files == 1
    bench.refuse_with = None
    bench.done_after(61)
    assert len(bench.complete) == 1


def test_a_change_during_the_look_is_noticed(bench: Bench) -> None:
    bench.write("a.bin")

    def append(name: str) -> None:
        bench.before_check = lambda name: None
        bench.write("a.bin", b"data and more")

    bench.before_check = append
    bench.hint("a.bin", SCANNED)
    bench.go(2.1)
    assert bench.complete == []
    bench.go(5)
    assert bench.complete == [("a.bin", 13, False)]


def test_a_close_during_the_look_starts_the_quiet_time_again(bench: Bench) -> None:
    bench.write("a.bin")

    def close(name: str) -> None:
        bench.before_check = lambda name: None
        bench.hint("a.bin", CLOSED)

    bench.go(0)
    bench.before_check = close
    bench.hint("a.bin", CLOSED)
    bench.go(0.55)
    assert bench.complete == []
    assert bench.done_after(1) <= 0.1


def test_pending_counts_what_waits_without_empty_files(bench: Bench) -> None:
    bench.write("a.bin", b"123")
    bench.write("b.bin", b"12345")
    bench.write("empty.bin", b"")
    for name in ("a.bin", "b.bin", "empty.bin"):
        bench.hint(name, SCANNED)
    assert bench.queue.pending_files == 3  # nobody has looked yet
    bench.go(0)
    assert (bench.queue.pending_files, bench.queue.pending_bytes) == (2, 8)
    assert [(each.path, each.reason) for each in bench.queue.waiting()] == [
        ("a.bin", QUIET_TIME),
        ("b.bin", QUIET_TIME),
    ]
    bench.write("empty.bin", b"1")
    bench.go(1.5)
    assert (bench.queue.pending_files, bench.queue.pending_bytes) == (3, 9)
    bench.go(10)
    assert (bench.queue.pending_files, bench.queue.pending_bytes) == (0, 0)


def test_what_was_handed_over_counts_until_it_is_taken_and_a_late_hint_does_not_count_it_twice(
    bench: Bench,
) -> None:
    bench.acknowledges = False
    bench.write("a.bin", b"123")
    bench.hint("a.bin", CLOSED)
    bench.done_after(1)
    for kind in (SCANNED, CLOSED):
        bench.hint("a.bin", kind)
        assert (bench.queue.pending_files, bench.queue.pending_bytes) == (1, 3)
        bench.go(0)
        assert (bench.queue.pending_files, bench.queue.pending_bytes) == (1, 3)
    bench.write("a.bin", b"12345")
    bench.hint("a.bin", CLOSED)
    bench.go(0)
    assert (bench.queue.pending_files, bench.queue.pending_bytes) == (2, 8)  # two versions
    assert bench.queue.handed_files == 1
    bench.queue.acknowledge([FileVersion("a.bin", 3, 0, 0, 0)])
    assert (bench.queue.pending_files, bench.queue.pending_bytes, bench.queue.handed_files) == (1, 5, 0)


def test_what_is_refused_by_the_next_stage_counts_once_and_is_offered_again(bench: Bench) -> None:
    bench.write("a.bin", b"123")
    bench.refuse_with = RuntimeError("no")
    bench.hint("a.bin", CLOSED)
    bench.go(0.5)
    assert (bench.queue.pending_files, bench.queue.pending_bytes, bench.queue.handed_files) == (1, 3, 0)
    bench.refuse_with = None
    bench.done_after(5)
    assert (bench.queue.pending_files, bench.queue.pending_bytes, bench.queue.handed_files) == (0, 0, 0)


def test_one_slow_file_holds_up_no_other(bench: Bench) -> None:
    bench.write("slow.bin")
    bench.writer["slow.bin"] = True
    bench.hint("slow.bin", CREATED)
    bench.go(100)
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    assert bench.done_after(1) == pytest.approx(0.5)


def test_twenty_thousand_waiting_files_are_not_looked_at_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    version = FileVersion("x", 5, 5)

    def counted(root: Path, path: str) -> FileVersion:
        nonlocal looks
        looks += 1
        return version

    monkeypatch.setattr(settle_queue, "stat_version", counted)
    for number in range(20_000):
        bench.hint(f"{number}.bin", SCANNED)
    while bench.queue.poll(bench.now) == 0.0:
        pass
    assert looks == 20_000
    bench.now += 0.5
    wait = bench.queue.poll(bench.now)
    assert looks == 20_000
    assert wait is not None
    assert 0 < wait <= 1.5


def test_a_file_closed_again_and_again_does_not_fill_the_memory(bench: Bench) -> None:
    bench.write("a.bin")
    for _ in range(20_000):
        bench.hint("a.bin", CLOSED)
    assert len(bench.queue._heap) < 2_000
    bench.done_after(1)


def test_a_file_whose_close_was_missed_does_not_stay_in_memory(bench: Bench) -> None:
    bench.write("new/a.bin")
    bench.hint("new/a.bin", IN_NEW_FOLDER)
    bench.hint("new/a.bin", CREATED)
    bench.done_after(5)
    assert not bench.queue._open


def test_a_version_that_was_handed_over_does_not_stay_in_memory(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    bench.go(61)
    assert not bench.queue._handed


@pytest.mark.parametrize("checked", [False, True])
def test_a_forgotten_version_is_neither_counted_nor_handed_over(bench: Bench, checked: bool) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    if checked:
        bench.queue.poll(bench.now)
    version = stat_version(bench.root, "a.bin")
    bench.queue.forget(version, bench.now)
    bench.hint("a.bin", SCANNED)
    assert (bench.queue.pending_files, bench.queue.pending_bytes) == (0, 0)
    bench.go(10)
    assert bench.complete == []


def test_a_version_that_a_check_has_found_is_not_forgotten_with_an_older_one(bench: Bench) -> None:
    bench.write("a.bin", b"older")
    version = stat_version(bench.root, "a.bin")
    bench.write("a.bin", b"the newer one")
    bench.hint("a.bin", CLOSED)
    bench.queue.poll(bench.now)
    bench.queue.forget(version, bench.now)
    bench.go(10)
    assert bench.complete == [("a.bin", 13, False)]
