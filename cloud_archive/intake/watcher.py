"""Turn the system's file events into hints, and say when events may have been missed."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..files import HintKind, directory_identity, real_path
from .event_handler import EventHandler, FolderScanner
from .mounts import MountEvents
from .observer import EVENTS, new_observer, report_dropped_events, report_lost_events, stop_observer
from .walk import mounts_below, network_filesystem, scan

_log = logging.getLogger("cloud_archive.watcher")

WatchMode = Literal["auto", "native", "poll"]

_MECHANISMS = {"linux": "inotify", "darwin": "FSEvents", "win32": "ReadDirectoryChangesW"}
# The errors of inotify_add_watch that mean a limit, rather than a problem of one folder; inotify(7).
_LIMIT_ERRORS = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_RETRY_SECONDS = 60.0
_STOP_SECONDS = 5.0
_MAX_UNREADABLE = 1000
_UNTIL_SET = "until its watches are set"


class Watcher:
    """Turn the system's events below the watched directory into hints.

    Args:
        root: the watched directory. It may be a symlink, and may be missing for a while.
        mode: `native` = use the system's events; `poll` = use none; `auto` = native, but not on network filesystems.
        on_hint: called with a relative path and the kind of hint, from several threads; must be quick.
        on_lost: called with a reason when events may have been missed, so that a scan is needed.
        clock: monotonic seconds.

    While `polling` is True, the caller must scan on its own schedule. Call `check` every few seconds. `start`, `stop`
    and `check` may be called from any thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        mode: WatchMode,
        on_hint: Callable[[str, HintKind], None],
        on_lost: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(os.path.abspath(root))  # noqa: PTH100  resolve() would follow links
        # Both as they were when the watches were set: the root (see `_watch`), and the filesystems mounted below it.
        self._resolved_root = str(self._root)
        self._mounts: frozenset[tuple[str, str]] = frozenset()
        self._mount_events: MountEvents | None = None  # None unless running
        self._mode = mode
        self._on_hint = on_hint
        self._on_lost = on_lost
        self._clock = clock
        self._lock = threading.RLock()
        self._running = False
        self._stops = 0  # calls of `stop` so far
        self._stops_at_start = 0
        self._setting_up = False
        self._observer: Any = None
        self._folder_scanner: FolderScanner | None = None
        # The observer, the folder scanner, and the threads that watchdog starts itself.
        self._threads: tuple[threading.Thread, ...] = ()
        self._identity: tuple[int, int] | None = None
        self._polling_reason: str | None = _UNTIL_SET
        self._partial_reason: str | None = None  # why native events don't come from the whole tree
        self._retry_at: float | None = None
        # Absolute paths of folders that can't be watched for lack of permission.
        self._unreadable: set[str] = set()

    @property
    def polling(self) -> bool:
        """Whether scans must replace events, because events come from no folder or not from all."""
        return self._polling_reason is not None or self._partial_reason is not None

    @property
    def description(self) -> str:
        """What is in use and why, for the status."""
        if self._polling_reason is not None:
            return f"polling{' ' if self._polling_reason is _UNTIL_SET else ': '}{self._polling_reason}"
        native = f"native events ({_MECHANISMS.get(sys.platform, 'kqueue')})"
        return native if self._partial_reason is None else f"{native} and polling: {self._partial_reason}"

    def start(self, on_set: Callable[[], object] = lambda: None) -> None:
        """Start watching, and return once the watches are set. If `stop` is called meanwhile, watching ends soon after.

        If that fails, `polling` is True, and `description` says why. `on_set` is called once native watches are set,
        just before `polling` shows it.
        """
        with self._lock:
            if self._running:
                return
            self._stops_at_start = self._stops
            self._running = True
            self._mount_events = MountEvents()
            self._watch(on_set)
            if self._stops != self._stops_at_start:
                self._end(_STOP_SECONDS)

    def stop(self, timeout_seconds: float) -> None:
        """Stop watching. No hint comes afterwards, unless the timeout was too short or watches are being set."""
        self._stops += 1
        # If the lock stays held, `start` or `check` is setting watches, and ends the watching afterwards.
        if self._lock.acquire(timeout=min(timeout_seconds, _STOP_SECONDS)):
            try:
                self._end(timeout_seconds)
            finally:
                self._lock.release()

    def _end(self, timeout_seconds: float) -> None:
        self._running = False
        self._unwatch(timeout_seconds)
        if self._mount_events is not None:
            self._mount_events.close()
            self._mount_events = None
        self._polling_reason, self._partial_reason, self._retry_at = "stopped", None, None

    def check(self) -> None:
        """Watch again if events may have stopped, and report that they may have been missed.

        Reasons are a root that is gone, back or replaced, a filesystem that was mounted or unmounted below it, a
        thread that died, a folder that has become readable, and a minute since the last failure. Does nothing while
        watches are being set.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._running or self._mount_events is None:
                return
            identity = directory_identity(self._root)
            if identity != self._identity:
                gone = "the watched directory is gone"
                reason = gone if identity is None else "the watched directory appeared or was replaced"
            elif self._mount_events.changed() and mounts_below(self._resolved_root) != self._mounts:
                reason = "a filesystem was mounted or unmounted in the watched directory"
            elif self._observer is not None and (dead := self._dead_thread()):
                reason = f"the thread {dead} had ended"
            elif self._retry_at is not None and self._clock() >= self._retry_at:
                reason = "watching was tried again"
            elif any(os.access(each, os.R_OK) for each in tuple(self._unreadable)):
                reason = "a folder can be watched now"
            else:
                return
            self._unwatch(_STOP_SECONDS)
            self._watch()
            if self._stops != self._stops_at_start:
                self._end(_STOP_SECONDS)
                return
        finally:
            self._lock.release()
        self._report_lost(reason)

    def _dead_thread(self) -> str | None:
        if not self._observer.emitters:
            return "emitter"
        return next((each.name for each in self._threads if not each.is_alive()), None)

    def _watch(self, on_set: Callable[[], object] = lambda: None) -> None:
        """Set up native watching, or note why that is impossible. Call this with the lock held."""
        self._polling_reason, self._partial_reason, self._retry_at = _UNTIL_SET, None, None
        self._unreadable.clear()
        self._identity = directory_identity(self._root)
        # On Linux watchdog watches no symlink, and FSEvents names paths as they are listed. Windows watches through
        # links and names paths as they were given, and resolving would turn drives into shares.
        self._resolved_root = str(self._root) if sys.platform == "win32" else real_path(self._root)
        self._mounts = mounts_below(self._resolved_root)
        if self._mode == "poll":
            self._polling_reason = "CLOUD_ARCHIVE_WATCH=poll"
        elif self._identity is None:
            self._polling_reason = "the watched directory is missing"
        elif self._mode == "auto" and (network := network_filesystem(self._root)):
            self._polling_reason = f"{network} filesystem"
        if self._polling_reason is not _UNTIL_SET:
            return
        observer: Any = None
        folder_scanner = FolderScanner(self._scan_new_folder)
        self._setting_up = True
        try:
            observer = new_observer(self._resolved_root)
            report_lost_events(observer, self._on_watch_failed, self._on_overflow)
            handler = EventHandler(self._resolved_root, self._on_hint, folder_scanner, self._report_lost)
            folder_scanner.start()
            observer.schedule(handler, self._resolved_root, recursive=True, event_filter=EVENTS)
            observer.start()
            report_dropped_events(observer, self._on_overflow)
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) else None
            self._polling_reason = reason or str(error) or type(error).__name__
            self._retry_at = self._clock() + _RETRY_SECONDS
            _log.warning(
                "Native watching can't be set up, so the directory is polled: %s", self._polling_reason
            )
            folder_scanner.stop()
            if observer is not None:
                stop_observer(observer, _STOP_SECONDS)
            return
        finally:
            self._setting_up = False
        on_set()
        self._polling_reason = None
        self._observer, self._folder_scanner = observer, folder_scanner
        self._threads = (folder_scanner, observer, *observer.emitters)
        for thread in self._threads[1:]:
            self._threads += tuple(
                each for each in vars(thread).values() if isinstance(each, threading.Thread)
            )

    def _unwatch(self, timeout_seconds: float) -> None:
        observer, self._observer = self._observer, None
        folder_scanner, self._folder_scanner = self._folder_scanner, None
        if folder_scanner is not None:
            folder_scanner.stop()
        if observer is not None:
            stop_observer(observer, timeout_seconds)
        if folder_scanner is not None and folder_scanner is not threading.current_thread():
            folder_scanner.join(timeout_seconds)

    def _scan_new_folder(self, path: str, kind: HintKind, stopping: threading.Event) -> None:
        """Hint every file in a new folder, because their own events may have been missed."""
        try:
            for file in scan(self._root, on_error=self._on_scan_error, below=path):
                if stopping.is_set():
                    return
                self._on_hint(file.path, kind)
        except Exception:
            _log.exception("Scanning the new folder %r failed.", path)
            self._report_lost(f"a new folder could not be scanned: {path}")

    def _on_scan_error(self, path: str, reason: str) -> None:
        full_path = str(self._root / path)
        if not os.access(full_path, os.R_OK) and len(self._unreadable) < _MAX_UNREADABLE:
            self._unreadable.add(full_path)
        self._report_lost(f"{path} can't be scanned: {reason}")

    def _on_overflow(self) -> None:
        self._report_lost("the system's event queue overflowed")

    def _on_watch_failed(self, path: str, error: OSError) -> None:
        # Called from watchdog's thread, perhaps under its locks.
        if error.errno in _LIMIT_ERRORS:
            # Without our lock: check() may hold it while it waits for the calling thread.
            self._partial_reason = error.strerror or str(error)
            self._retry_at = self._clock() + _RETRY_SECONDS
        elif error.errno in (errno.EACCES, errno.EPERM) and len(self._unreadable) < _MAX_UNREADABLE:
            self._unreadable.add(path)
        _log.debug("no watch on %r: %s", path, error)
        if not self._setting_up:  # a scan follows the set-up anyway
            self._report_lost(f"a folder could not be watched: {error.strerror or error}")

    def _report_lost(self, reason: str) -> None:
        try:
            self._on_lost(reason)
        except Exception:
            _log.exception("Reporting lost events failed.")
