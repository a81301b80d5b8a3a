"""Create and stop a watchdog observer, and report what it hides."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
)
from watchdog.observers import Observer

from .walk import link_counts_include_folders

_log = logging.getLogger("cloud_archive.watcher")

EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent if sys.platform == "linux" else FileModifiedEvent,
]
"""The events that are used; any other would fill the kernel's queue."""


BATCH_SECONDS = 0.1
"""On Windows watchdog passes events on once there was none for this time; its default is one second."""


# FILE_NOTIFY_CHANGE_FILE_NAME, _DIR_NAME, _SIZE and _LAST_WRITE:
# https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-readdirectorychangesw
WINDOWS_CHANGES = 0x1 | 0x2 | 0x8 | 0x10


def new_observer(root: str) -> Any:
    """Return an observer that is not started, for the directory `root`."""
    # On Linux only the "full" observer can tell a file that was moved into the tree from one that was created.
    if sys.platform == "linux":
        from watchdog.observers.inotify import InotifyObserver

        from .leaf_folders import set_quick_watches

        observer: Any = InotifyObserver(generate_full_events=True)
        if link_counts_include_folders(root):
            set_quick_watches(observer, Path(root).stat().st_dev)
    else:
        if sys.platform == "win32":
            _report_writes_only()
        observer = Observer(timeout=BATCH_SECONDS)
    observer.name = "cloud-archive-observer"
    return observer


def _report_writes_only() -> None:
    """Let watchdog report every write on Windows, and no change of attributes or times of access.

    OneDrive changes the attributes of each file that it removes from the disk. Hashing it would download it again.
    """
    winapi: Any = importlib.import_module("watchdog.observers.winapi")
    winapi.WATCHDOG_FILE_NOTIFY_FLAGS = WINDOWS_CHANGES
    # With this call, watchdog 7.1 takes a write for a change of attributes if a program then sets the mtime back.
    winapi.ReadDirectoryChangesExW = None


def stop_observer(observer: Any, timeout_seconds: float) -> None:
    """Stop the observer, and wait for its threads, at most `timeout_seconds`."""
    # watchdog's own stop() waits without a limit, so it runs in a thread.
    deadline = time.monotonic() + timeout_seconds

    def stop() -> None:
        try:
            observer.stop()
        except Exception:
            _log.debug("The observer did not stop cleanly.", exc_info=True)

    stopper = threading.Thread(target=stop, name="cloud-archive-observer-stop", daemon=True)
    stopper.start()
    stopper.join(timeout_seconds)
    if observer.is_alive() and observer is not threading.current_thread():
        observer.join(max(0.0, deadline - time.monotonic()))


def report_lost_events(
    observer: Any, on_watch_failed: Callable[[str, OSError], None], on_overflow: Callable[[], None]
) -> None:
    """Report overflows of the kernel's queue and folders that can't be watched; watchdog hides both.

    Needs watchdog 7.1 (`InotifyFD.handle_event` and `add_callback`). With version 6 nothing is reported, and the
    regular scan finds what was missed.

    Args:
        on_watch_failed: called with the absolute path of a folder, and the error.
        on_overflow: called when the kernel's queue overflowed.
    """
    reader = getattr(observer, "_inotify_fd", None)
    handle_event = getattr(reader, "handle_event", None)
    add_callback = getattr(reader, "add_callback", None)
    if reader is None or handle_event is None or add_callback is None:
        return

    def handle(event: Any) -> None:
        try:
            handle_event(event)
        except KeyError:
            # 7.1 may not know the folder of a watch that was removed, if the folder was renamed before it was watched.
            if not getattr(event, "is_ignored", False):
                raise
        if getattr(event, "is_queue_overflow", False):
            on_overflow()  # watchdog has set its watches again, so new files have events from now on

    def add(path: bytes, mask: Any, callback: Any, id_: Any) -> Any:
        try:
            if not hasattr(reader, "_get_or_create_watch"):
                return add_callback(path, mask, callback, id_)
            # As `InotifyFD._add_callback`, without its RuntimeWarning, which lists all watches each time a folder is
            # added twice. Folders in new ones always are, and the warning can be megabytes long.
            with reader._lock:
                watch = reader._get_or_create_watch(path, mask)
                watch.callbacks[id_] = callback
                return watch.wd
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                on_watch_failed(os.fsdecode(path), error)
            raise

    reader.handle_event = handle
    reader.add_callback = add


def report_dropped_events(observer: Any, on_overflow: Callable[[], None]) -> None:
    """Report when Windows or macOS had to drop events, which watchdog hides. Call this once the observer runs.

    No-op on other systems, and on Windows with watchdog 6.
    """
    for emitter in observer.emitters:
        buffers = getattr(getattr(emitter, "_reader", None), "_buf_queue", None)
        if buffers is not None:  # Windows: then it reads an empty buffer
            buffers.put = _reporting_put(buffers.put, on_overflow)
        elif hasattr(emitter, "events_callback"):  # FSEvents
            emitter.queue_events = _reporting_queue_events(emitter.queue_events, on_overflow)


def _reporting_put(put: Callable[[Any], None], on_overflow: Callable[[], None]) -> Callable[[Any], None]:
    def report(item: Any) -> None:
        put(item)
        if not item[0]:
            on_overflow()

    return report


def _reporting_queue_events(
    queue_events: Callable[[Any, list[Any]], None], on_overflow: Callable[[], None]
) -> Callable[[Any, list[Any]], None]:
    def report(timeout: Any, events: list[Any]) -> None:
        dropped = any(getattr(event, "must_scan_subdirs", False) for event in events)
        queue_events(timeout, events)
        if dropped:
            on_overflow()

    return report
