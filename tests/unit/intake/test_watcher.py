"""How a watcher starts, when it polls, and what its description says."""

from __future__ import annotations

import queue
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_archive.intake import observer, watcher
from cloud_archive.intake.observer import BATCH_SECONDS, new_observer
from cloud_archive.intake.watcher import Watcher


def _quiet(root: Path, mode: Any) -> Watcher:
    return Watcher(root, mode=mode, on_hint=lambda path, kind: None, on_lost=lambda reason: None)


def test_polling_says_that_it_was_asked_for(tmp_path: Path) -> None:
    one = _quiet(tmp_path, "poll")
    assert (one.polling, one.description) == (True, "polling until its watches are set")
    one.start()
    assert one.polling
    assert one.description == "polling: CLOUD_ARCHIVE_WATCH=poll"
    one.check()
    one.stop(60)
    assert one.description == "polling: stopped"


def test_auto_polls_on_a_network_filesystem_and_native_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "network_filesystem", lambda root: "nfs4")
    one = _quiet(tmp_path, "auto")
    one.start()
    assert (one.polling, one.description) == (True, "polling: nfs4 filesystem")
    one.stop(60)
    two = _quiet(tmp_path, "native")
    two.start()
    assert not two.polling
    two.stop(60)


def test_where_native_watching_cannot_be_set_up_it_polls_says_why_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    lost: list[str] = []
    one = Watcher(
        tmp_path,
        mode="auto",
        on_hint=lambda path, kind: None,
        on_lost=lost.append,
        clock=lambda: now[0],
    )
    real = new_observer

    def refuse(root: str) -> Any:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(watcher, "new_observer", refuse)
    one.start()
    assert (one.polling, one.description) == (True, "polling: inotify instance limit reached")
    monkeypatch.setattr(watcher, "new_observer", real)
    one.check()
    assert one.polling
    now[0] = 61.0
    one.check()
    assert not one.polling
    assert one.description.startswith("native events (")
    assert len(lost) == 1
    one.stop(60)


def test_a_missing_root_is_waited_for(tmp_path: Path) -> None:
    lost: list[str] = []
    root = tmp_path / "later"
    one = Watcher(root, mode="auto", on_hint=lambda path, kind: None, on_lost=lost.append)
    one.start()
    assert one.description == "polling: the watched directory is missing"
    one.check()
    assert lost == []
    root.mkdir()
    one.check()
    assert not one.polling
    assert lost == ["the watched directory appeared or was replaced"]
    one.check()
    assert len(lost) == 1
    one.stop(60)


def test_a_stop_while_a_check_sets_the_watches_again_ends_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    root = tmp_path / "later"
    one = Watcher(root, mode="native", on_hint=lambda path, kind: None, on_lost=lost.append)
    one.start()
    root.mkdir()
    began, goes_on = threading.Event(), threading.Event()

    def slow(directory: str) -> Any:
        began.set()
        assert goes_on.wait(60)
        return new_observer(directory)

    monkeypatch.setattr(watcher, "new_observer", slow)
    check = threading.Thread(target=one.check)
    check.start()
    assert began.wait(60)
    one.stop(0.1)
    goes_on.set()
    check.join(60)
    assert one.description == "polling: stopped"
    assert lost == []
    one.stop(60)


def test_on_windows_every_write_is_an_event_and_waits_only_shortly_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winapi = SimpleNamespace(WATCHDOG_FILE_NOTIFY_FLAGS=0x17F, ReadDirectoryChangesExW=object())
    monkeypatch.setattr(observer, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setitem(sys.modules, "watchdog.observers.winapi", winapi)
    assert new_observer(str(tmp_path)).timeout == BATCH_SECONDS
    assert not winapi.WATCHDOG_FILE_NOTIFY_FLAGS & (0x4 | 0x20 | 0x100), "attributes, last access, security"
    assert winapi.ReadDirectoryChangesExW is None


class Emitters(threading.Thread):
    """An observer with these emitters."""

    schedule = stop = lambda *_, **__: None

    def __init__(self, *emitters: object) -> None:
        super().__init__()
        self.emitters = emitters


def test_events_that_windows_or_macos_dropped_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffers: queue.Queue[tuple[bytes, bool]] = queue.Queue()
    queued: list[Any] = []
    on_windows: Any = SimpleNamespace(_reader=SimpleNamespace(_buf_queue=buffers))
    on_macos: Any = SimpleNamespace(
        events_callback=None, queue_events=lambda timeout, events: queued.append(events.pop())
    )
    lost: list[str] = []
    monkeypatch.setattr(watcher, "new_observer", lambda _: Emitters(on_windows, on_macos))
    one = Watcher(tmp_path, mode="native", on_hint=lambda path, kind: None, on_lost=lost.append)
    one.start()
    buffers.put((b"events", False))
    on_macos.queue_events(1, [SimpleNamespace(must_scan_subdirs=False)])
    assert lost == []
    buffers.put((b"", False))
    on_macos.queue_events(1, [SimpleNamespace(must_scan_subdirs=True)])
    assert lost == ["the system's event queue overflowed"] * 2
    one.stop(60)
    assert (buffers.qsize(), len(queued)) == (2, 2)
