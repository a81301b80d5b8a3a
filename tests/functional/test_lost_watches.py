"""What ends the watching, from an exception to a lost directory, is reported and repaired; a stop ends it for good."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.files import HintKind
from cloud_archive.intake.watcher import Watcher
from tests.functional.watched import DEADLINE_SECONDS, HAS_WATCHDOG_6, Pipeline, small_png
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these promises are Linux's")


def test_an_exception_in_a_callback_does_not_end_the_watching(pipeline: Pipeline) -> None:
    pipeline.handler_error = RuntimeError("odd")
    (pipeline.root / "a.png").write_bytes(small_png())
    pipeline.until(lambda: bool(pipeline.lost))
    pipeline.handler_error = None
    assert all(thread.is_alive() for thread in pipeline.threads())
    (pipeline.root / "b.png").write_bytes(small_png(1))
    pipeline.wait_for("b.png")


@pytest.mark.parametrize("which", ["observer", "emitter", "reader", "new directories"])
def test_a_thread_that_ended_is_replaced_and_the_loss_is_reported(pipeline: Pipeline, which: str) -> None:
    observer: Any = pipeline.watcher._observer
    folder_scanner = pipeline.watcher._folder_scanner
    assert folder_scanner is not None
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
        victim = folder_scanner
        folder_scanner.stop()
    victim.join(60)
    assert not victim.is_alive()
    pipeline.watcher.check()
    assert len(pipeline.lost) == 1
    assert "had ended" in pipeline.lost[0]
    assert not pipeline.watcher.polling
    (pipeline.root / "new").mkdir()
    (pipeline.root / "new/a.png").write_bytes(small_png())
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
    (pipeline.root / "a.png").write_bytes(small_png())
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
    (pipeline.root / "a.png").write_bytes(small_png())
    pipeline.wait_for("a.png")


def test_a_root_replaced_by_another_directory_is_watched_again(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.root.rename(tmp_path / "away")
    pipeline.root.mkdir()
    pipeline.watcher.check()
    assert pipeline.lost == ["the watched directory appeared or was replaced"]
    (pipeline.root / "a.png").write_bytes(small_png())
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
        (pipeline.root / "a.png").write_bytes(small_png())
        (real / "sub").mkdir()
        (real / "sub/b.png").write_bytes(small_png(1))
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
        assert pipeline.lost == ["the watched directory appeared or was replaced"]
        (tmp_path / "two/a.png").write_bytes(small_png())
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
        timeout=120,  # more than the wait of a minute
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
        (pipeline.root / "during/missed.png").write_bytes(small_png())


def test_an_overflow_of_the_systems_queue_is_reported_and_new_directories_are_watched(
    pipeline: Pipeline,
) -> None:
    _overflow(pipeline)
    pipeline.until(lambda: "the system's event queue overflowed" in pipeline.lost)
    pipeline.scan()
    pipeline.wait_for("during/missed.png")
    (pipeline.root / "during/after.png").write_bytes(small_png(1))
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
    (pipeline.root / "after.png").write_bytes(small_png(1))
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
    if HAS_WATCHDOG_6 and when != "none at all":
        pytest.skip("this watchdog hides that folders are not watched, or watches none")
    limit = "0" if when == "none at all" else "8"
    done = subprocess.run(
        ["unshare", "-Ur", sys.executable, "-c", LIMITED, limit, str(tmp_path), when],
        capture_output=True,
        text=True,
        timeout=120,  # more than the wait of a minute
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
