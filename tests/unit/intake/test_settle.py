"""When a file is complete, on a clock that the tests move."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from cloud_archive.beneath import open_file
from cloud_archive.files import FileVersion, HintKind
from cloud_archive.intake import settle
from cloud_archive.intake.containers import ContainerState
from cloud_archive.intake.settle import (
    BEING_WRITTEN,
    LOOKS_INCOMPLETE,
    QUIET_TIME,
    UNREADABLE,
    CompleteFile,
    SettleQueue,
    SettleThread,
)

CREATED, CLOSED, MOVED, SCANNED, WRITTEN = (
    HintKind.CREATED,
    HintKind.CLOSED,
    HintKind.MOVED,
    HintKind.SCANNED,
    HintKind.WRITTEN,
)


class Bench:
    """A queue on real files, with a clock, a writer and a container that obey the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1000.0
        self.writer: dict[str, bool | None] = {}
        self.container: dict[str, ContainerState] = {}
        self.complete: list[tuple[str, int, bool]] = []
        self.written: list[bool] = []
        self.empty: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.refuse_with: Exception | None = None
        self.takes = True
        self.before_look: Callable[[str], None] = lambda name: None
        self.queue = SettleQueue(
            root,
            settle_seconds=2.0,
            on_complete=self._complete,
            on_empty=self.empty.append,
            on_unreadable=lambda path, reason: self.unreadable.append((path, reason)),
            clock=lambda: self.now,
            writer_of=self._writer_of,
            look=self._look,
        )

    def _writer_of(self, root: Path, path: str) -> bool | None:
        name = path.rpartition("/")[2]
        self.asked.append(name)
        return self.writer.get(name, False)

    def _look(self, stream: BinaryIO, name: str, size_bytes: int) -> ContainerState:
        self.before_look(name)
        return self.container.get(name, ContainerState.UNKNOWN)

    def _complete(self, file: CompleteFile) -> None:
        version, partial = file.version, file.looks_partial
        self.written.append(file.written)
        # No lock may be held here: another thread must get at the queue.
        other = threading.Thread(target=self.queue.waiting)
        other.start()
        other.join(5)
        assert not other.is_alive()
        if self.refuse_with is not None:
            raise self.refuse_with
        self.complete.append((version.path, version.size_bytes, partial))
        if self.takes:
            self.queue.taken([version])

    def write(self, path: str, data: bytes = b"data") -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def hint(self, path: str, kind: HintKind) -> None:
        self.queue.hint(path, kind, self.now)

    def go(self, seconds: float) -> float | None:
        """Let the clock run, polling whenever something is due."""
        end = self.now + seconds
        while True:
            wait = self.queue.poll(self.now)
            if wait is None or self.now + wait > end + 1e-9:
                self.now = end
                return None if wait is None else wait
            self.now += wait

    def done_after(self, limit: float) -> float:
        """Seconds until the next file is complete."""
        began, count = self.now, len(self.complete)
        while len(self.complete) == count:
            assert self.now - began <= limit, self.queue.waiting()
            wait = self.queue.poll(self.now)
            if len(self.complete) == count:
                self.now += wait or 0.0
        return self.now - began


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("kind", [CLOSED, MOVED])
@pytest.mark.parametrize(
    ("container", "seconds"),
    [(ContainerState.WHOLE, 0.1), (ContainerState.UNKNOWN, 0.5), (ContainerState.PARTIAL, 0.5)],
)
def test_a_closed_or_renamed_file_is_complete_after_a_short_quiet_time(
    bench: Bench, kind: HintKind, container: ContainerState, seconds: float
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = container
    bench.hint("a.png", kind)
    assert bench.done_after(1) == pytest.approx(seconds)
    assert bench.complete == [("a.png", 4, container is ContainerState.PARTIAL)]
    assert bench.queue.poll(bench.now) is None
    assert bench.queue.pending_files == bench.queue.pending_bytes == 0


@pytest.mark.parametrize("kind", [CREATED, SCANNED])
def test_a_file_known_only_from_a_scan_must_stand_still_for_the_settle_time(
    bench: Bench, kind: HintKind
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.WHOLE
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
    assert bench.queue.waiting() == (settle.WaitingFile("a.mp4", 4, BEING_WRITTEN),)
    assert len(bench.asked) < 1900  # at most every 2 s or so
    bench.writer["a.mp4"] = False
    assert bench.done_after(3) <= 2.0


def test_a_writer_matters_also_after_a_close(bench: Bench) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.WHOLE
    bench.hint("a.png", CLOSED)
    bench.go(0.05)
    bench.writer["a.png"] = True  # reopened during its quiet time
    bench.go(100)
    assert bench.complete == []
    bench.writer["a.png"] = False
    bench.hint("a.png", CLOSED)
    assert bench.done_after(1) == pytest.approx(0.1)


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


def test_a_file_that_is_closed_again_and_again_waits_for_its_last_close(bench: Bench) -> None:
    for size in range(1, 40):
        bench.write("a.bin", b"1" * size)
        bench.hint("a.bin", CLOSED)
        bench.go(0.2)
    assert bench.complete == []
    bench.done_after(1)
    assert bench.complete == [("a.bin", 39, False)]


def test_a_file_that_grows_after_its_close_must_stand_still(bench: Bench) -> None:
    bench.write("a.bin", b"1")
    bench.hint("a.bin", CLOSED)
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


@pytest.mark.parametrize(("writer", "seconds"), [(False, 30.0), (None, 600.0)])
def test_what_never_looks_whole_is_archived_as_it_is_after_a_long_quiet_time(
    bench: Bench, writer: bool | None, seconds: float
) -> None:
    bench.write("a.png")
    bench.container["a.png"] = ContainerState.PARTIAL
    bench.writer["a.png"] = writer
    bench.hint("a.png", SCANNED)
    bench.go(5)
    assert [each.reason for each in bench.queue.waiting()] == [LOOKS_INCOMPLETE]
    assert bench.done_after(700) == pytest.approx(seconds - 5)
    assert bench.complete == [("a.png", 4, True)]


@pytest.mark.parametrize(
    ("kind", "container", "seconds"),
    [
        (CREATED, ContainerState.WHOLE, 600.0),  # created under our watch and not closed: being written
        (CREATED, ContainerState.UNKNOWN, 600.0),
        (CREATED, ContainerState.PARTIAL, 600.0),
        (SCANNED, ContainerState.WHOLE, 2.0),
        (SCANNED, ContainerState.UNKNOWN, 10.0),
        (SCANNED, ContainerState.PARTIAL, 600.0),
        (CLOSED, ContainerState.WHOLE, 0.1),
        (CLOSED, ContainerState.UNKNOWN, 0.5),
        (CLOSED, ContainerState.PARTIAL, 600.0),
        (MOVED, ContainerState.WHOLE, 0.1),
        (MOVED, ContainerState.UNKNOWN, 10.0),  # its writer may have renamed it and go on
        (MOVED, ContainerState.PARTIAL, 600.0),
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
    bench.container["a.png"] = ContainerState.PARTIAL
    bench.writer["a.png"] = None
    bench.hint("a.png", SCANNED)
    bench.go(20)
    bench.write("a.png", b"longer")
    bench.container["a.png"] = ContainerState.WHOLE
    assert bench.done_after(10) <= 4.1
    assert bench.complete == [("a.png", 6, False)]


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


def test_an_empty_file_with_a_writer_is_not_reported(bench: Bench) -> None:
    bench.write("a.bin", b"")
    bench.writer["a.bin"] = True
    bench.hint("a.bin", CREATED)
    bench.go(60)
    assert bench.empty == []


def test_a_file_that_vanishes_is_dropped_silently(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CREATED)
    bench.go(1)
    (bench.root / "a.bin").unlink()
    assert bench.go(5) is None
    assert (bench.complete, bench.unreadable, bench.queue.pending_files) == ([], [], 0)


def test_what_is_no_regular_file_is_dropped(bench: Bench) -> None:
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

    monkeypatch.setattr(settle, "open_file", refuse)
    bench.hint("a.bin", CLOSED)
    bench.go(300)
    assert bench.unreadable == [("a.bin", "Permission denied")]
    assert bench.queue.waiting() == (settle.WaitingFile("a.bin", 4, UNREADABLE),)
    monkeypatch.setattr(settle, "open_file", real)
    assert bench.done_after(61) <= 60


def test_a_scan_tries_an_unreadable_file_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("a.bin")
    real = open_file

    def refuse(root: Path, path: str) -> BinaryIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(settle, "open_file", refuse)
    bench.hint("a.bin", SCANNED)
    bench.go(5)
    monkeypatch.setattr(settle, "open_file", real)
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

    bench.before_look = fail
    for name in ("odd.bin", "a.bin"):
        bench.write(name)
        bench.hint(name, CLOSED)
    bench.go(1)
    assert [each[0] for each in bench.complete] == ["a.bin"]
    assert bench.unreadable == [("odd.bin", "odd")]
    bench.before_look = lambda name: None
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
        bench.before_look = lambda name: None
        bench.write("a.bin", b"data and more")

    bench.before_look = append
    bench.hint("a.bin", SCANNED)
    bench.go(2.1)
    assert bench.complete == []
    bench.go(5)
    assert bench.complete == [("a.bin", 13, False)]


def test_a_close_during_the_look_starts_the_quiet_time_again(bench: Bench) -> None:
    bench.write("a.bin")

    def close(name: str) -> None:
        bench.before_look = lambda name: None
        bench.hint("a.bin", CLOSED)

    bench.go(0)
    bench.before_look = close
    bench.hint("a.bin", CLOSED)
    bench.go(0.55)
    assert bench.complete == []
    assert bench.done_after(1) <= 0.1


def test_a_forgotten_file_is_not_handed_over_and_may_come_again(bench: Bench) -> None:
    bench.write("a.bin")
    bench.hint("a.bin", CLOSED)
    bench.go(0.2)
    bench.queue.forget("a.bin")
    assert bench.go(5) is None
    assert (bench.complete, bench.queue.pending_bytes) == ([], 0)
    bench.hint("a.bin", SCANNED)
    bench.done_after(3)
    bench.queue.forget("a.bin")
    bench.hint("a.bin", SCANNED)
    bench.done_after(3)


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
    bench.takes = False
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
    bench.queue.taken([FileVersion("a.bin", 3, 0, 0, 0)])
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

    monkeypatch.setattr(settle, "stat_version", counted)
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


def test_a_file_closed_a_million_times_does_not_fill_the_memory(bench: Bench) -> None:
    bench.write("a.bin")
    for _ in range(20_000):
        bench.hint("a.bin", CLOSED)
    assert len(bench.queue._heap) < 2_000
    bench.done_after(1)


def test_the_thread_survives_and_ends_in_time(bench: Bench) -> None:
    done = threading.Event()
    queue = SettleQueue(
        bench.root,
        settle_seconds=0.05,
        on_complete=lambda file: done.set(),
        on_empty=lambda path: None,
        on_unreadable=lambda path, reason: None,
    )
    thread = SettleThread(queue)
    assert not thread.alive
    thread.start()
    assert thread.alive
    bench.write("a.bin")
    thread.hint("a.bin", SCANNED)
    assert done.wait(10)
    assert thread.stop(5)
    assert not thread.alive


def test_the_thread_goes_on_after_a_poll_that_raised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    polled = threading.Event()

    def fail(now: float) -> float | None:
        if polled.is_set():
            second.set()
        polled.set()
        raise RuntimeError("odd")

    second = threading.Event()
    monkeypatch.setattr(bench.queue, "poll", fail)
    thread = SettleThread(bench.queue)
    thread.start()
    assert polled.wait(5)
    thread.hint("a", SCANNED)
    assert second.wait(5)
    assert thread.alive
    assert thread.stop(5)


@pytest.mark.parametrize(("writer", "at_once"), [(False, True), (None, False)])
def test_an_old_file_need_not_stand_still_again_where_nobody_writes(
    tmp_path: Path, writer: bool | None, at_once: bool
) -> None:
    (tmp_path / "old.bin").write_bytes(b"x")
    done: list[FileVersion] = []
    queue = SettleQueue(
        tmp_path,
        settle_seconds=2,
        on_complete=lambda file: done.append(file.version),
        on_empty=lambda path: None,
        on_unreadable=lambda path, reason: None,
        writer_of=lambda root, path: writer,
        wall_clock=lambda: (tmp_path / "old.bin").stat().st_ctime + 60,
    )
    queue.hint("old.bin", HintKind.SCANNED, 0.0)
    queue.poll(0.0)
    assert bool(done) is at_once
