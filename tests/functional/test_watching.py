"""Real files, observer and settle thread: from a write to a complete version."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from cloud_archive.files import HintKind
from cloud_archive.intake.settle_rules import BEING_WRITTEN
from tests.functional.watched import DEADLINE_SECONDS, HAS_WATCHDOG_6, QUIET, Pipeline, small_png
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these promises are Linux's")


def _assert_once_each(pipeline: Pipeline) -> None:
    twice = [version for version, times in Counter(pipeline.versions).items() if times > 1]
    assert not twice


def test_the_close_of_a_png_is_noticed(pipeline: Pipeline) -> None:
    (pipeline.root / "a.png").write_bytes(small_png())
    pipeline.wait_for("a.png")
    assert ("a.png", HintKind.CLOSED) in pipeline.hints


def test_a_file_that_grows_is_complete_once_and_whole(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, quiet=QUIET._replace(closed=3600.0, longest_interval=0.1))
    pipeline.start()
    for _ in range(30):
        with (tmp_path / "a.bin").open("ab") as file:
            file.write(b"x" * 1000)
        threading.Event().wait(0.05)
    pipeline.queue._rules.quiet = QUIET  # not before, because a busy machine may hold up this thread
    pipeline.wait_for("a.bin")
    pipeline.wait_until_settled()
    assert [version.size_bytes for version in pipeline.versions] == [30_000]
    pipeline.stop()


def test_a_file_that_grows_while_it_stays_open_is_complete_after_its_close(
    pipeline: Pipeline,
) -> None:
    with (pipeline.root / "a.bin").open("wb", buffering=0) as file:
        for _ in range(30):
            file.write(b"x" * 1000)
            threading.Event().wait(0.05)
        assert pipeline.versions == []
    pipeline.wait_for("a.bin")
    assert [version.size_bytes for version in pipeline.versions] == [30_000]


def test_a_writer_that_pauses_with_the_file_open_is_waited_for_when_a_scan_found_it(
    tmp_path: Path,
) -> None:
    """Without an observer only the scan and the lease keep half a file from the store."""
    pipeline = Pipeline(tmp_path)
    pipeline.settle.start()
    data = small_png()
    writer = (tmp_path / "a.png").open("wb", buffering=0)
    try:
        writer.write(data)  # it looks whole, but its writer still has it open
        pipeline.scan()
        wait_until(lambda: [each.reason for each in pipeline.queue.waiting()] == [BEING_WRITTEN], "it waits")
        threading.Event().wait(0.5)
        assert pipeline.versions == []
    finally:
        writer.close()
    pipeline.wait_for("a.png")
    assert pipeline.settle.stop(60)


def test_two_hundred_files_in_nested_new_directories_are_each_complete_once(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.start()
    wanted = []
    for number in range(200):
        path = f"day {number % 4}/run {number % 20}/set/image {number}.png"
        (pipeline.root / path).parent.mkdir(parents=True, exist_ok=True)
        (pipeline.root / path).write_bytes(small_png(number))
        wanted.append(path)
    pipeline.wait_for(*wanted)
    pipeline.wait_until_settled()
    assert sorted(pipeline.paths) == sorted(wanted)
    assert {path for path, _ in pipeline.hints} == set(wanted)
    _assert_once_each(pipeline)
    assert pipeline.lost == []
    pipeline.stop()


def test_a_file_in_a_directory_made_and_filled_at_once_is_never_missed(pipeline: Pipeline) -> None:
    wanted = []
    for number in range(60):
        path = f"{number}/a/b/c/x.png"
        (pipeline.root / f"{number}/a/b/c").mkdir(parents=True)
        (pipeline.root / path).write_bytes(small_png(number))
        wanted.append(path)
    pipeline.wait_for(*wanted)


def test_a_file_that_was_closed_before_its_new_directory_was_watched_needs_no_settle_time(
    tmp_path: Path,
) -> None:
    pipeline = Pipeline(tmp_path, settle_seconds=3600.0)
    pipeline.start()
    wanted = [f"{number}/a.png" for number in range(60)]
    for number, path in enumerate(wanted):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(small_png(number))
    pipeline.wait_for(*wanted)
    pipeline.stop()


def test_files_in_a_directory_that_is_moved_in_are_found(pipeline: Pipeline, tmp_path: Path) -> None:
    wanted = []
    for number in range(50):
        path = f"moved/{number % 5}/{number}.png"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(small_png(number))
        wanted.append(path)
    (tmp_path / "moved").rename(pipeline.root / "moved")
    pipeline.wait_for(*wanted)
    _assert_once_each(pipeline)
    assert {kind for _, kind in pipeline.hints} == {HintKind.MOVED}
    if HAS_WATCHDOG_6:
        return
    # and what is written into it afterwards has events of its own
    (pipeline.root / "moved/3/late.png").write_bytes(small_png(99))
    pipeline.wait_for("moved/3/late.png")


def test_a_directory_renamed_with_fifty_files_in_it_is_found_under_its_new_name(
    pipeline: Pipeline,
) -> None:
    (pipeline.root / "old").mkdir()
    for number in range(50):
        (pipeline.root / f"old/{number}.png").write_bytes(small_png(number))
    pipeline.wait_for(*(f"old/{number}.png" for number in range(50)))
    (pipeline.root / "old").rename(pipeline.root / "new")
    pipeline.wait_for(*(f"new/{number}.png" for number in range(50)))
    _assert_once_each(pipeline)
    (pipeline.root / "new/late.png").write_bytes(small_png(99))
    pipeline.wait_for("new/late.png")


def test_half_a_file_of_another_user_is_not_complete_while_its_writer_pauses(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For such a file a read lease is refused, and /proc does not show who has it open."""
    monkeypatch.setattr("cloud_archive.intake.open_files._check_lease", lambda root, path: None)
    monkeypatch.setattr("cloud_archive.intake.open_files._check_proc", lambda root, path: None)
    with (pipeline.root / "a.bin").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        end = time.monotonic() + DEADLINE_SECONDS
        while [each.reason for each in pipeline.queue.waiting()] != [BEING_WRITTEN]:
            assert not pipeline.versions
            assert time.monotonic() < end
            threading.Event().wait(0.02)
        writer.write(b" and half")
    pipeline.wait_for("a.bin")
    assert [version.size_bytes for version in pipeline.versions] == [13]


def test_a_rename_into_place_counts_as_complete(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(small_png(1))
    (tmp_path / "outside.png").rename(pipeline.root / "from outside.png")
    (pipeline.root / ".hidden.tmp").write_bytes(small_png(2))
    (pipeline.root / ".hidden.tmp").rename(pipeline.root / "from a temporary name.png")
    pipeline.wait_for("from outside.png", "from a temporary name.png")
    for path in ("from outside.png", "from a temporary name.png"):
        assert (path, HintKind.MOVED) in pipeline.hints


def test_a_second_version_of_a_file_is_complete_as_well(pipeline: Pipeline) -> None:
    path = pipeline.root / "a.png"
    path.write_bytes(small_png(1))
    pipeline.wait_for("a.png")
    with path.open("wb", buffering=0) as file:
        file.write(small_png(1))
        os.utime(path, (1, 1))  # before the close: no event would show it
    pipeline.until(lambda: len(pipeline.versions) >= 2)
    pipeline.wait_until_settled()
    _assert_once_each(pipeline)
    assert pipeline.versions[-1].mtime_ns == 1_000_000_000


def test_names_that_are_no_utf8_and_a_newline_come_through(pipeline: Pipeline) -> None:
    names = [os.fsdecode(b"not utf-8 \xff.png"), "new\nline.png", "e\u0301🎨.png"]
    for name in names:
        (pipeline.root / name).write_bytes(small_png())
    pipeline.wait_for(*names)


def test_a_hard_link_is_found_though_it_is_never_closed(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "original.png").write_bytes(small_png())
    os.link(tmp_path / "original.png", pipeline.root / "link.png")
    pipeline.wait_for("link.png")


def test_reading_a_file_makes_no_new_hint(pipeline: Pipeline) -> None:
    (pipeline.root / "a.png").write_bytes(small_png())
    pipeline.until(lambda: ("a.png", HintKind.CLOSED) in pipeline.hints)  # its last one
    before = list(pipeline.hints)
    for _ in range(5):
        (pipeline.root / "a.png").read_bytes()
    (pipeline.root / "b.png").write_bytes(small_png(1))
    pipeline.wait_for("b.png")
    assert [hint for hint in pipeline.hints if hint[0] == "a.png"] == before


def test_an_empty_file_is_reported(pipeline: Pipeline) -> None:
    (pipeline.root / "a.bin").touch()
    pipeline.until(lambda: pipeline.empty == ["a.bin"])
    assert pipeline.versions == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="gives up root for a moment")
def test_a_file_without_read_permission_is_reported_and_archived_once_it_is_readable() -> None:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "a.png"
    path.write_bytes(small_png())
    path.chmod(0)
    pipeline = Pipeline(folder, settle_seconds=0.1)
    try:
        os.seteuid(65534)
        pipeline.settle.start()
        pipeline.scan()
        pipeline.until(lambda: bool(pipeline.unreadable))
    finally:
        os.seteuid(0)
    assert pipeline.unreadable == [("a.png", "Permission denied")]
    path.chmod(0o644)
    pipeline.scan()
    pipeline.wait_for("a.png")
    assert pipeline.settle.stop(60)
    path.unlink()
    folder.rmdir()
