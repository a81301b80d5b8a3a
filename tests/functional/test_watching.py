"""Real files, observer and settle thread: from a write to a complete version."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cloud_archive.files import FileVersion, HintKind
from cloud_archive.intake.settle_entry import CompleteFile
from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.intake.settle_rules import BEING_WRITTEN, QuietTimes
from cloud_archive.intake.settle_thread import SettleThread
from cloud_archive.intake.walk import scan
from cloud_archive.intake.watcher import Watcher
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these promises are Linux's")

DEADLINE_SECONDS = 60.0
QUIET = QuietTimes(closed_whole=0.1, closed=0.3, closed_incomplete=0.3, incomplete=1.0, empty=0.5)


class Pipeline:
    """The watcher and the settle thread, connected as the archiver connects them."""

    def __init__(self, root: Path, settle_seconds: float = 0.4, quiet: QuietTimes = QUIET) -> None:
        self.root = root
        self.changed = threading.Condition()
        self.hints: list[tuple[str, HintKind]] = []
        self.versions: list[FileVersion] = []
        self.incomplete: list[str] = []
        self.empty: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        self.lost: list[str] = []
        self.handler_error: Exception | None = None
        self.queue = SettleQueue(
            root,
            settle_seconds=settle_seconds,
            on_complete=self._complete,
            on_empty=lambda path: self._note(self.empty, path),
            on_unreadable=lambda path, reason: self._note(self.unreadable, (path, reason)),
            quiet=quiet,
        )
        self.settle = SettleThread(self.queue)
        self.watcher = Watcher(
            root,
            mode="native",
            on_hint=self._hint,
            on_lost=lambda reason: self._note(self.lost, reason),
        )

    def _note(self, where: list[Any], what: Any) -> None:
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def _hint(self, path: str, kind: HintKind) -> None:
        if self.handler_error is not None:
            raise self.handler_error
        self.settle.hint(path, kind)
        self._note(self.hints, (path, kind))

    def _complete(self, file: CompleteFile) -> None:
        version = file.version
        if file.looks_incomplete:
            self.incomplete.append(version.path)
        self.queue.acknowledge([version])
        self._note(self.versions, version)

    def start(self) -> None:
        self.settle.start()
        self.watcher.start()

    def stop(self) -> None:
        self.watcher.stop(60)
        assert self.settle.stop(60)

    def scan(self) -> None:
        for found in scan(self.root):
            self.settle.hint(found.path, HintKind.SCANNED)

    def until(self, true: Callable[[], bool], what: str = "") -> None:
        with self.changed:
            assert self.changed.wait_for(true, DEADLINE_SECONDS), (
                what,
                self.queue.waiting()[:5],
                self.lost,
            )

    def wait_for(self, *paths: str) -> None:
        self.until(lambda: set(paths) <= set(self.paths), f"{len(self.versions)} of {len(paths)}")

    def wait_until_settled(self) -> None:
        """Wait until every hinted file is settled."""
        end = time.monotonic() + DEADLINE_SECONDS
        while self.queue.pending_files:
            assert time.monotonic() < end, self.queue.waiting()[:5]
            threading.Event().wait(0.02)

    @property
    def paths(self) -> list[str]:
        return [version.path for version in self.versions]

    def threads(self) -> list[threading.Thread]:
        observer = self.watcher._observer
        return [observer, *observer.emitters]


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    root = tmp_path / "output"
    root.mkdir()
    pipeline = Pipeline(root)
    pipeline.start()
    yield pipeline
    pipeline.stop()


def _png(number: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (number % 256, number // 256, 7)).save(out, "PNG")
    return out.getvalue()


def _assert_once_each(pipeline: Pipeline) -> None:
    twice = [version for version, times in Counter(pipeline.versions).items() if times > 1]
    assert not twice


def test_a_png_is_complete_within_a_moment_of_its_close(pipeline: Pipeline) -> None:
    began = time.monotonic()
    (pipeline.root / "a.png").write_bytes(_png())
    pipeline.wait_for("a.png")
    assert ("a.png", HintKind.CLOSED) in pipeline.hints
    assert time.monotonic() - began >= 0.1


def test_a_file_that_grows_is_complete_once_and_whole(tmp_path: Path) -> None:
    # 2 s: longer than a busy machine may hold up this thread.
    pipeline = Pipeline(tmp_path, quiet=QUIET._replace(closed=2.0))
    pipeline.start()
    for _ in range(30):
        with (tmp_path / "a.bin").open("ab") as file:
            file.write(b"x" * 1000)
        threading.Event().wait(0.05)
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
    data = _png()
    writer = (tmp_path / "a.png").open("wb", buffering=0)
    try:
        writer.write(data)  # it looks whole, but its writer still has it open
        pipeline.scan()
        threading.Event().wait(1.5)
        assert pipeline.versions == []
        assert [each.reason for each in pipeline.queue.waiting()] == [BEING_WRITTEN]
        writer.write(b"")
    finally:
        writer.close()
    pipeline.wait_for("a.png")
    assert pipeline.settle.stop(60)


def test_the_first_half_of_a_png_waits_for_the_second(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, settle_seconds=0.1, quiet=QUIET._replace(incomplete=60.0))
    pipeline.settle.start()
    data = _png()
    (tmp_path / "a.png").write_bytes(data[:-20])
    pipeline.scan()
    threading.Event().wait(0.6)
    assert pipeline.versions == []
    (tmp_path / "a.png").write_bytes(data)
    pipeline.wait_for("a.png")
    assert [version.size_bytes for version in pipeline.versions] == [len(data)]
    assert pipeline.incomplete == []
    assert pipeline.settle.stop(60)


def test_two_hundred_files_in_nested_new_directories_are_each_complete_once(
    pipeline: Pipeline,
) -> None:
    wanted = []
    for number in range(200):
        path = f"day {number % 4}/run {number % 20}/set/image {number}.png"
        (pipeline.root / path).parent.mkdir(parents=True, exist_ok=True)
        (pipeline.root / path).write_bytes(_png(number))
        wanted.append(path)
    pipeline.wait_for(*wanted)
    pipeline.wait_until_settled()
    assert sorted(pipeline.paths) == sorted(wanted)
    assert {path for path, _ in pipeline.hints} == set(wanted)
    _assert_once_each(pipeline)
    assert pipeline.lost == []


def test_a_file_in_a_directory_made_and_filled_at_once_is_never_missed(pipeline: Pipeline) -> None:
    wanted = []
    for number in range(60):
        path = f"{number}/a/b/c/x.png"
        (pipeline.root / f"{number}/a/b/c").mkdir(parents=True)
        (pipeline.root / path).write_bytes(_png(number))
        wanted.append(path)
    pipeline.wait_for(*wanted)


def test_files_in_a_directory_that_is_moved_in_are_found(pipeline: Pipeline, tmp_path: Path) -> None:
    wanted = []
    for number in range(50):
        path = f"moved/{number % 5}/{number}.png"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(_png(number))
        wanted.append(path)
    (tmp_path / "moved").rename(pipeline.root / "moved")
    pipeline.wait_for(*wanted)
    _assert_once_each(pipeline)
    assert {kind for _, kind in pipeline.hints} == {HintKind.MOVED}
    # and what is written into it afterwards has events of its own
    (pipeline.root / "moved/3/late.png").write_bytes(_png(99))
    pipeline.wait_for("moved/3/late.png")


def test_a_directory_renamed_with_fifty_files_in_it_is_found_under_its_new_name(
    pipeline: Pipeline,
) -> None:
    (pipeline.root / "old").mkdir()
    for number in range(50):
        (pipeline.root / f"old/{number}.png").write_bytes(_png(number))
    pipeline.wait_for(*(f"old/{number}.png" for number in range(50)))
    (pipeline.root / "old").rename(pipeline.root / "new")
    pipeline.wait_for(*(f"new/{number}.png" for number in range(50)))
    _assert_once_each(pipeline)
    (pipeline.root / "new/late.png").write_bytes(_png(99))
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
    (tmp_path / "outside.png").write_bytes(_png(1))
    (tmp_path / "outside.png").rename(pipeline.root / "from outside.png")
    (pipeline.root / ".hidden.tmp").write_bytes(_png(2))
    (pipeline.root / ".hidden.tmp").rename(pipeline.root / "from a temporary name.png")
    pipeline.wait_for("from outside.png", "from a temporary name.png")
    for path in ("from outside.png", "from a temporary name.png"):
        assert (path, HintKind.MOVED) in pipeline.hints


def test_a_second_version_of_a_file_is_complete_as_well(pipeline: Pipeline) -> None:
    path = pipeline.root / "a.png"
    path.write_bytes(_png(1))
    pipeline.wait_for("a.png")
    path.write_bytes(_png(1) + b"")
    os.utime(path, (1, 1))
    pipeline.until(lambda: len(pipeline.versions) >= 2)
    pipeline.wait_until_settled()
    _assert_once_each(pipeline)
    assert pipeline.versions[-1].mtime_ns == 1_000_000_000


def test_names_that_are_no_utf8_and_a_newline_come_through(pipeline: Pipeline) -> None:
    names = [os.fsdecode(b"not utf-8 \xff.png"), "new\nline.png", "e\u0301🎨.png"]
    for name in names:
        (pipeline.root / name).write_bytes(_png())
    pipeline.wait_for(*names)


def test_a_hard_link_is_found_though_it_is_never_closed(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "original.png").write_bytes(_png())
    os.link(tmp_path / "original.png", pipeline.root / "link.png")
    pipeline.wait_for("link.png")


def test_reading_a_file_makes_no_new_hint(pipeline: Pipeline) -> None:
    (pipeline.root / "a.png").write_bytes(_png())
    pipeline.wait_for("a.png")
    pipeline.wait_until_settled()
    before = list(pipeline.hints)
    for _ in range(5):
        (pipeline.root / "a.png").read_bytes()
    (pipeline.root / "b.png").write_bytes(_png(1))
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
    path.write_bytes(_png())
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


def test_an_exception_in_a_callback_does_not_end_the_watching(pipeline: Pipeline) -> None:
    pipeline.handler_error = RuntimeError("odd")
    (pipeline.root / "a.png").write_bytes(_png())
    pipeline.until(lambda: bool(pipeline.lost))
    pipeline.handler_error = None
    assert all(thread.is_alive() for thread in pipeline.threads())
    (pipeline.root / "b.png").write_bytes(_png(1))
    pipeline.wait_for("b.png")


@pytest.mark.parametrize("which", ["observer", "emitter", "reader", "new directories"])
def test_a_thread_that_ended_is_replaced_and_the_loss_is_reported(pipeline: Pipeline, which: str) -> None:
    observer: Any = pipeline.watcher._observer
    directory_scanner = pipeline.watcher._directory_scanner
    assert directory_scanner is not None
    if which == "observer":
        victim: Any = observer
        observer.event_queue.put(observer.stop_event)
        observer.stopped_event.set()
    elif which == "emitter":
        victim = next(iter(observer.emitters))
        victim.stop()
    elif which == "reader":
        victim = getattr(observer, "_inotify_fd", None)
        if victim is None:
            pytest.skip("this watchdog has no reader thread of its own")
        victim.stop()
    else:
        victim = directory_scanner
        directory_scanner.stop()
    victim.join(60)
    assert not victim.is_alive()
    pipeline.watcher.check()
    assert len(pipeline.lost) == 1
    assert "had ended" in pipeline.lost[0]
    assert not pipeline.watcher.polling
    (pipeline.root / "new").mkdir()
    (pipeline.root / "new/a.png").write_bytes(_png())
    pipeline.wait_for("new/a.png")
    pipeline.watcher.check()
    assert len(pipeline.lost) == 1


def test_a_root_removed_and_made_again_is_watched_again(pipeline: Pipeline) -> None:
    pipeline.root.rmdir()
    pipeline.watcher.check()
    assert pipeline.lost == ["the watched directory is gone"]
    assert pipeline.watcher.polling
    pipeline.root.mkdir()
    pipeline.watcher.check()
    assert len(pipeline.lost) == 2
    assert not pipeline.watcher.polling
    (pipeline.root / "a.png").write_bytes(_png())
    pipeline.wait_for("a.png")


def test_a_root_removed_and_made_again_between_two_checks_is_watched_again(
    pipeline: Pipeline,
) -> None:
    emitter = next(iter(pipeline.watcher._observer.emitters))
    pipeline.root.rmdir()
    pipeline.root.mkdir()  # often with the same inode
    emitter.join(60)
    pipeline.watcher.check()
    assert len(pipeline.lost) == 1
    (pipeline.root / "a.png").write_bytes(_png())
    pipeline.wait_for("a.png")


def test_a_root_replaced_by_another_directory_is_watched_again(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.root.rename(tmp_path / "away")
    pipeline.root.mkdir()
    pipeline.watcher.check()
    assert pipeline.lost == ["the watched directory is another one now"]
    (pipeline.root / "a.png").write_bytes(_png())
    pipeline.wait_for("a.png")


@pytest.mark.parametrize("where", ["root", "parent"])
def test_a_root_behind_a_symlink_has_events_and_plain_paths(tmp_path: Path, where: str) -> None:
    real = tmp_path / "volume/output"
    real.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(real if where == "root" else real.parent)
    pipeline = Pipeline(link if where == "root" else link / "output")
    pipeline.start()
    try:
        assert not pipeline.watcher.polling
        (pipeline.root / "a.png").write_bytes(_png())
        (real / "sub").mkdir()
        (real / "sub/b.png").write_bytes(_png(1))
        pipeline.wait_for("a.png", "sub/b.png")
        pipeline.watcher.check()
        assert pipeline.lost == []
    finally:
        pipeline.stop()


def test_a_symlink_that_leads_elsewhere_now_is_watched_there(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    pipeline = Pipeline(link)
    pipeline.start()
    try:
        link.unlink()
        link.symlink_to(tmp_path / "two")
        pipeline.watcher.check()
        assert pipeline.lost == ["the watched directory is another one now"]
        (tmp_path / "two/a.png").write_bytes(_png())
        pipeline.wait_for("a.png")
    finally:
        pipeline.stop()


MOUNTED = """
import subprocess, sys, threading
from pathlib import Path
from cloud_archive.intake.watcher import Watcher
root = Path(sys.argv[1])
(root / "video").mkdir()
hinted, lost = threading.Event(), []
watcher = Watcher(root, mode="native", on_hint=lambda p, k: hinted.set(), on_lost=lost.append)
watcher.start()
watcher.check()
assert not lost
subprocess.run(["mount", "-t", "tmpfs", "none", str(root / "video")], check=True)
watcher.check()
(root / "video/a.png").write_bytes(b"a")
assert hinted.wait(60), "no event"
subprocess.run(["umount", "-l", str(root / "video")], check=True)
watcher.check()
print(lost)
watcher.stop(60)
"""


def test_a_filesystem_mounted_over_a_subfolder_is_watched_at_the_next_check(tmp_path: Path) -> None:
    """In a mount namespace of its own."""
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", MOUNTED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    if "unshare" in done.stderr or "'mount'" in done.stderr:
        pytest.skip("no mounts here")
    reason = "a filesystem was mounted or unmounted in the watched directory"
    assert done.stdout.strip() == str([reason, reason]), done.stderr


def _overflow(pipeline: Pipeline) -> None:
    """Overflow the kernel's queue: stop the reader while more events happen than the queue holds."""
    reader = getattr(pipeline.watcher._observer, "_inotify_fd", None)
    if reader is None or not hasattr(reader, "handle_event"):
        pytest.skip("this watchdog does not report an overflow")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 40_000:
        pytest.skip("the queue is too long to fill in a test")
    with reader._lock:
        (pipeline.root / "kick").touch()  # the reader wakes up and waits for the lock
        first, second = pipeline.root / "first", pipeline.root / "second"
        first.touch()
        for _ in range(limit // 2 + 100):
            first.rename(second)
            second.rename(first)
        (pipeline.root / "during").mkdir()
        (pipeline.root / "during/missed.png").write_bytes(_png())


def test_an_overflow_of_the_systems_queue_is_reported_and_new_directories_are_watched(
    pipeline: Pipeline,
) -> None:
    _overflow(pipeline)
    pipeline.until(lambda: "the system's event queue overflowed" in pipeline.lost)
    pipeline.scan()
    pipeline.wait_for("during/missed.png")
    (pipeline.root / "during/after.png").write_bytes(_png(1))
    pipeline.wait_for("during/after.png")


def test_a_folder_whose_path_watchdog_forgot_does_not_end_its_reader(pipeline: Pipeline) -> None:
    """Quick renames of folders cause this in watchdog; here the test removes the path from its table."""
    reader = getattr(pipeline.watcher._observer, "_inotify_fd", None)
    if reader is None or not hasattr(reader, "handle_event"):
        pytest.skip("this watchdog has another table of paths")
    folder = pipeline.root / "folder"
    folder.mkdir()
    path = os.fsencode(folder)

    def forgotten() -> bool:
        with reader._lock:
            groups = [group for watch in reader._watch_for_wd.values() for group in watch.callbacks.values()]
        return any(group._active_callbacks_by_path.pop(path, None) is not None for group in groups)

    wait_until(forgotten, "the folder is watched")
    folder.rmdir()
    (pipeline.root / "after.png").write_bytes(_png(1))
    pipeline.wait_for("after.png")
    assert pipeline.watcher._dead_thread() is None


LIMITED = """
import sys, threading
from pathlib import Path
from cloud_archive.intake.watcher import Watcher
limit, root, late = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "late"
Path("/proc/sys/user/max_inotify_watches").write_text(limit)
lost = threading.Event()
def folders():
    for number in range(20):
        (root / str(number)).mkdir()
if not late:
    folders()
watcher = Watcher(root, mode="native", on_hint=lambda p, k: None, on_lost=lambda r: lost.set())
watcher.start()
if late:
    assert not watcher.polling, watcher.description
    folders()
    assert lost.wait(60)
print(watcher.polling, watcher.description)
watcher.stop(60)
"""


@pytest.mark.parametrize("when", ["start", "late", "none at all"])
def test_the_limit_of_watches_is_reported_and_scans_take_over(tmp_path: Path, when: str) -> None:
    """In a user namespace of its own, where the limit can be set without touching the machine's."""
    limit = "0" if when == "none at all" else "8"
    done = subprocess.run(
        ["unshare", "-Ur", sys.executable, "-c", LIMITED, limit, str(tmp_path), when],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    if "unshare" in done.stderr or "Permission" in done.stderr or "Read-only" in done.stderr:
        pytest.skip("no user namespaces here")
    told = "polling:" if when == "none at all" else "native events (inotify) and polling:"
    assert done.stdout.strip() == f"True {told} inotify watch limit reached", done.stderr


def test_stop_ends_every_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    pipeline = Pipeline(tmp_path)
    pipeline.start()
    pipeline.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert set(threading.enumerate()) <= before


def test_stop_does_not_wait_for_a_callback_that_hangs(tmp_path: Path) -> None:
    hangs, goes_on, returned = threading.Event(), threading.Event(), threading.Event()

    def hang(path: str, kind: HintKind) -> None:
        hangs.set()
        goes_on.wait(DEADLINE_SECONDS)
        returned.set()

    watcher = Watcher(tmp_path, mode="native", on_hint=hang, on_lost=lambda reason: None)
    watcher.start()
    (tmp_path / "a.png").write_bytes(b"x")
    assert hangs.wait(60)
    watcher.stop(0.3)
    assert not returned.is_set()
    goes_on.set()
