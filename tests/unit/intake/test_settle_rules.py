"""When a file is complete, on a clock that the tests move."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloud_archive.files import FileVersion, HintKind
from cloud_archive.intake.containers import ContainerState
from cloud_archive.intake.settle_entry import WaitingFile
from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.intake.settle_rules import BEING_WRITTEN, LOOKS_INCOMPLETE

from .settle_bench import CLOSED, CREATED, IN_NEW_FOLDER, MOVED, SCANNED, Bench


@pytest.mark.parametrize("kind", [CLOSED, MOVED, IN_NEW_FOLDER])
@pytest.mark.parametrize(
    ("container", "seconds"),
    [(ContainerState.COMPLETE, 0.1), (ContainerState.UNKNOWN, 0.5), (ContainerState.INCOMPLETE, 0.5)],
)
def test_a_file_that_is_closed_or_was_renamed_is_complete_after_a_short_quiet_time(
    bench: Bench, kind: HintKind, container: ContainerState, seconds: float
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = container
    bench.hint("a.png", kind)
    assert bench.done_after(1) == pytest.approx(seconds)
    assert bench.complete == [("a.png", 4, container is ContainerState.INCOMPLETE)]
    assert bench.queue.waiting() == ()
    assert bench.queue.pending_files == bench.queue.pending_bytes == 0


@pytest.mark.parametrize("kind", [CREATED, SCANNED])
def test_a_file_known_only_from_a_scan_must_stand_still_for_the_settle_time(
    bench: Bench, kind: HintKind
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.COMPLETE
    bench.hint("a.png", kind)
    assert bench.done_after(5) == pytest.approx(2.0)


def test_each_change_starts_the_settle_time_again(bench: Bench) -> None:
    bench.write("a.bin", b"1")
    bench.hint("a.bin", CREATED)
    for size in range(2, 12):
        bench.go(0.9)
        bench.write("a.bin", b"1" * size)
    assert bench.complete == []
    assert 1.99 <= bench.done_after(5) <= 3.01
    assert bench.complete == [("a.bin", 11, False)]


def test_a_file_replaced_by_another_of_equal_size_and_time_settles_anew(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CREATED)
    bench.go(1.5)
    bench.write("b.bin")
    os.utime(bench.root / "b.bin", ns=(0, (bench.root / "a.bin").stat().st_mtime_ns))
    (bench.root / "b.bin").replace(bench.root / "a.bin")
    bench.go(1.0)
    assert bench.complete == []


def test_a_writer_that_stays_is_waited_for_without_end(bench: Bench) -> None:
    bench.write("a.mp4")
    bench.writer["a.mp4"] = True
    bench.hint("a.mp4", SCANNED)
    bench.go(3600)
    assert bench.complete == []
    assert bench.queue.waiting() == (WaitingFile("a.mp4", 4, BEING_WRITTEN),)
    assert len(bench.asked) < 1900  # at most every 2 s or so
    bench.writer["a.mp4"] = False
    assert bench.done_after(3) <= 2.0


def test_a_writer_matters_also_after_a_close(bench: Bench) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.COMPLETE
    bench.hint("a.png", CLOSED)
    bench.go(0.05)
    bench.writer["a.png"] = True  # reopened during its quiet time
    bench.go(100)
    assert bench.complete == []
    bench.writer["a.png"] = False
    bench.hint("a.png", CLOSED)
    assert bench.done_after(1) == pytest.approx(0.1)


def test_a_file_that_is_known_by_its_creation_is_checked_at_once_when_its_new_folder_is_scanned(
    bench: Bench,
) -> None:
    bench.write("s/a.bin")
    bench.hint("s/a.bin", CREATED)
    bench.go(0.7)
    bench.hint("s/a.bin", IN_NEW_FOLDER)
    bench.go(0)
    assert bench.complete == [("s/a.bin", 4, False)]


def test_a_file_in_a_new_folder_is_closed_once_no_process_writes_to_it(bench: Bench) -> None:
    bench.write("s/a.png")
    bench.container["a.png"] = ContainerState.COMPLETE
    bench.writer["a.png"] = True
    bench.hint("s/a.png", IN_NEW_FOLDER)
    bench.go(100)
    assert bench.complete == []
    bench.writer["a.png"] = False
    bench.hint("s/a.png", CLOSED)
    assert bench.done_after(1) == pytest.approx(0.1)


def test_a_file_in_a_new_folder_still_counts_as_closed_after_a_hand_over_that_failed(bench: Bench) -> None:
    bench.write("s/a.bin")
    bench.hint("s/a.bin", IN_NEW_FOLDER)
    bench.refuse_with = OSError("the ledger is locked")
    bench.go(0.5)
    bench.refuse_with = None
    assert bench.done_after(1.4) < 1.0


def test_a_file_that_is_closed_again_and_again_waits_for_its_last_close(bench: Bench) -> None:
    for size in range(1, 40):
        bench.write("a.bin", b"1" * size)
        bench.hint("a.bin", CLOSED)
        bench.go(0.2)
    assert bench.complete == []
    bench.done_after(1)
    assert bench.complete == [("a.bin", 39, False)]


@pytest.mark.parametrize("kind", [CLOSED, IN_NEW_FOLDER])
def test_a_file_that_grows_after_its_close_must_stand_still(bench: Bench, kind: HintKind) -> None:
    bench.write("a.bin", b"1")
    bench.hint("a.bin", kind)
    bench.go(0.05)
    bench.write("a.bin", b"12")
    bench.go(1.9)
    assert bench.complete == []
    assert bench.done_after(2) <= 0.6


def test_a_copy_that_sets_its_times_after_the_close_stays_quick(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    bench.go(0.01)
    os.utime(bench.root / "a.bin", (5, 5))
    assert bench.done_after(2) <= 0.7


@pytest.mark.parametrize("mtime", [0, 4_000_000_000])
def test_an_mtime_in_1970_or_in_the_future_changes_nothing(bench: Bench, mtime: int) -> None:
    bench.write("a.bin")
    os.utime(bench.root / "a.bin", (mtime, mtime))
    bench.hint("a.bin", SCANNED)
    assert bench.done_after(5) == pytest.approx(2.0)


@pytest.mark.parametrize(("writer", "seconds"), [(False, 2.0), (None, 600.0)])
def test_what_never_looks_whole_is_archived_as_it_is_after_a_quiet_time(
    bench: Bench, writer: bool | None, seconds: float
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.INCOMPLETE
    bench.writer["a.png"] = writer
    bench.hint("a.png", SCANNED)
    assert bench.done_after(700) == pytest.approx(seconds)
    assert bench.complete == [("a.png", 4, True)]


def test_a_file_that_waits_because_it_looks_incomplete_says_so(bench: Bench) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.INCOMPLETE
    bench.writer["a.png"] = None
    bench.hint("a.png", SCANNED)
    bench.go(5)
    assert [each.reason for each in bench.queue.waiting()] == [LOOKS_INCOMPLETE]


@pytest.mark.parametrize(
    ("kind", "container", "seconds"),
    [
        (CREATED, ContainerState.COMPLETE, 600.0),  # created under our watch and not closed: being written
        (CREATED, ContainerState.UNKNOWN, 600.0),
        (CREATED, ContainerState.INCOMPLETE, 600.0),
        (SCANNED, ContainerState.COMPLETE, 2.0),
        (SCANNED, ContainerState.UNKNOWN, 10.0),
        (SCANNED, ContainerState.INCOMPLETE, 600.0),
        (IN_NEW_FOLDER, ContainerState.COMPLETE, 2.0),
        (IN_NEW_FOLDER, ContainerState.UNKNOWN, 10.0),
        (IN_NEW_FOLDER, ContainerState.INCOMPLETE, 600.0),
        (CLOSED, ContainerState.COMPLETE, 0.1),
        (CLOSED, ContainerState.UNKNOWN, 0.5),
        (CLOSED, ContainerState.INCOMPLETE, 600.0),
        (MOVED, ContainerState.COMPLETE, 0.1),
        (MOVED, ContainerState.UNKNOWN, 10.0),  # its writer may have renamed it and go on
        (MOVED, ContainerState.INCOMPLETE, 600.0),
    ],
)
def test_where_the_system_tells_nothing_of_writers_doubt_means_waiting(
    bench: Bench, kind: HintKind, container: ContainerState, seconds: float
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = container
    bench.writer["a.png"] = None
    bench.hint("a.png", kind)
    # How often a file is looked at that counts as being written: every 2 s.
    assert bench.done_after(700) == pytest.approx(seconds, abs=2.0 if kind is CREATED else 0.001)


def test_a_file_that_is_not_closed_yet_counts_as_being_written_until_its_close(bench: Bench) -> None:
    bench.write("a.bin", b"")
    bench.writer["a.bin"] = None
    bench.hint("a.bin", CREATED)
    bench.go(30)  # reported as empty meanwhile
    bench.write("a.bin", b"half")
    bench.hint("a.bin", SCANNED)
    bench.go(60)
    assert [each.reason for each in bench.queue.waiting()] == [BEING_WRITTEN]
    bench.write("a.bin", b"and whole")
    bench.hint("a.bin", CLOSED)
    assert bench.done_after(2) == pytest.approx(0.5)
    bench.write("a.bin", b"longer")
    bench.hint("a.bin", SCANNED)
    assert bench.done_after(20) == pytest.approx(10.0)


def test_what_looked_incomplete_and_is_finished_meanwhile_does_not_wait_for_long(
    bench: Bench,
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.INCOMPLETE
    bench.writer["a.png"] = None
    bench.hint("a.png", SCANNED)
    bench.go(20)
    bench.write("a.png", b"longer")
    bench.container["a.png"] = ContainerState.COMPLETE
    assert bench.done_after(10) <= 4.1
    assert bench.complete == [("a.png", 6, False)]


def test_an_empty_file_with_a_writer_is_not_reported(bench: Bench) -> None:
    bench.write("a.bin", b"")
    bench.writer["a.bin"] = True
    bench.hint("a.bin", CREATED)
    bench.go(60)
    assert bench.empty == []


@pytest.mark.parametrize(("writer", "at_once"), [(False, True), (None, False)])
def test_an_old_file_need_not_stand_still_again_where_nobody_writes(
    tmp_path: Path, writer: bool | None, at_once: bool
) -> None:
    (tmp_path / "old.bin").write_bytes(b"x")
    asked: list[str] = []

    def writer_of(root: Path, path: str) -> bool | None:
        asked.append(path)
        return writer

    done: list[FileVersion] = []
    queue = SettleQueue(
        tmp_path,
        settle_seconds=2,
        on_complete=lambda file: done.append(file.version),
        on_empty=lambda path: None,
        on_unreadable=lambda path, reason: None,
        writer_of=writer_of,
        wall_clock=lambda: (tmp_path / "old.bin").stat().st_ctime + 60,
    )
    queue.hint("old.bin", HintKind.SCANNED, 0.0)
    queue.poll(0.0)
    assert (bool(done), asked) == (at_once, ["old.bin"])
