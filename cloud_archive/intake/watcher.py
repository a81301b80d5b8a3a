"""What the filesystem tells: `scan()` of a tree, and hints from the system's own events.

Yields paths and decides nothing. Events are hints, the scan is the truth: whatever may have been missed is said
through `on_lost`, and somebody scans. The only module that imports watchdog.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from ..files import HintKind, directory_identity
from .walk import (
    _everything,
    mounts_below,
    network_filesystem,
    scan,
)

_log = logging.getLogger("cloud_archive.watcher")

WatchMode = Literal["auto", "native", "poll"]

# Only what is used: it keeps the kernel's queue short. Close events exist on Linux; elsewhere a modification is the
# only sign that a file was written anew.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent if sys.platform == "linux" else FileModifiedEvent,
]
_KINDS: dict[str, HintKind] = {
    "created": HintKind.CREATED if sys.platform == "linux" else HintKind.WRITTEN,
    "modified": HintKind.WRITTEN,
    "closed": HintKind.CLOSED,
    "moved": HintKind.MOVED,
}
_MECHANISMS = {"linux": "inotify", "darwin": "FSEvents", "win32": "ReadDirectoryChangesW"}
# What inotify_add_watch answers at a limit, rather than about one directory; inotify(7).
_LIMITS = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_RETRY_SECONDS = 60.0
_MOST_DARK = 1000

# fmt: on


class Watcher:
    """Turns the system's events below one directory into hints.

    Args:
        root: the watched directory, which may be a symlink; it may be missing for a while.
        mode: `native` = the system's events; `poll` = none; `auto` = native, but not on network filesystems.
        on_hint: called with a relative path and how it came to notice; from several threads, must be quick.
        on_lost: called with a reason when events may have been missed, so that somebody scans at once.
        wants_directory: asked before a directory that is new is looked into; see `scan`.

    Polling has no thread here: whoever reads `polling` scans on a schedule of its own. Call `check` every few
    seconds. `start`, `stop` and `check` may be called from any thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        mode: WatchMode,
        on_hint: Callable[[str, HintKind], None],
        on_lost: Callable[[str], None],
        wants_directory: Callable[[str], bool] = _everything,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(os.path.abspath(root))  # noqa: PTH100  resolve() would follow links
        self._place = str(self._root)  # where it really is, since watches are set
        self._mounts: frozenset[tuple[str, str]] = frozenset()  # the filesystems mounted below it
        self._mode = mode
        self._on_hint = on_hint
        self._on_lost = on_lost
        self._wants_directory = wants_directory
        self._clock = clock
        self._lock = threading.RLock()
        self._running = False
        self._setting_up = False
        self._observer: Any = None
        self._subtrees: _Subtrees | None = None
        self._identity: tuple[int, int] | None = None
        self._why_polling: str | None = "not started"
        self._why_blind: str | None = None  # native, but part of the tree has no watch
        self._retry_at: float | None = None
        self._dark: set[str] = set()  # directories without a watch for want of permission

    @property
    def polling(self) -> bool:
        """Whether events do not come, or not from everywhere, so that scans must take their place."""
        return self._why_polling is not None or self._why_blind is not None

    @property
    def description(self) -> str:
        """What is in use and why, as the status shows it."""
        if self._why_polling is not None:
            return f"polling: {self._why_polling}"
        native = f"native events ({_MECHANISMS.get(sys.platform, 'kqueue')})"
        return native if self._why_blind is None else f"{native} and polling: {self._why_blind}"

    def start(self) -> None:
        """Begin. Never fails: where native events cannot be had it polls, and `description` says why."""
        with self._lock:
            if not self._running:
                self._running = True
                self._watch()

    def stop(self, timeout_seconds: float) -> None:
        """End; hints may come until this returns, none after it unless the time ran out."""
        with self._lock:
            self._running = False
            self._unwatch(timeout_seconds)
            self._why_polling, self._why_blind, self._retry_at = "stopped", None, None

    def check(self) -> None:
        """See whether events still come, and make them come again where they do not.

        Notices a root that is gone, back or another one, a filesystem that was mounted or unmounted below it, and a
        thread that died, and tries again after a limit.
        """
        with self._lock:
            if not self._running:
                return
            identity = directory_identity(self._root)
            if identity != self._identity:
                gone = "the watched directory is gone"
                reason = gone if identity is None else "the watched directory is another one now"
            elif mounts_below(self._place) != self._mounts:
                reason = "a filesystem was mounted or unmounted in the watched directory"
            elif self._observer is not None and (dead := self._dead_thread()):
                reason = f"the thread {dead} had ended"
            elif self._retry_at is not None and self._clock() >= self._retry_at:
                reason = "watching was tried again"
            elif any(os.access(each, os.R_OK) for each in tuple(self._dark)):
                reason = "a directory can be watched now"
            else:
                return
            self._unwatch(5.0)
            self._watch()
        self._lost(reason)

    def _dead_thread(self) -> str | None:
        """The name of a thread that should run and does not; watchdog's own helpers included."""
        threads: list[threading.Thread] = [self._observer, *self._observer.emitters]
        for thread in tuple(threads):
            threads += [each for each in vars(thread).values() if isinstance(each, threading.Thread)]
        if self._subtrees is not None:
            threads.append(self._subtrees)
        if not self._observer.emitters:
            return "emitter"
        return next((each.name for each in threads if not each.is_alive()), None)

    def _watch(self) -> None:
        """Set up native watching, or say why not. With the lock held."""
        self._why_polling = self._why_blind = self._retry_at = None
        self._dark.clear()
        self._identity = directory_identity(self._root)
        # inotify sets no watch through a symlink. Windows follows it by itself, and resolving turns drives into shares.
        self._place = str(self._root) if sys.platform == "win32" else os.path.realpath(self._root)
        self._mounts = mounts_below(self._place)
        if self._mode == "poll":
            self._why_polling = "CLOUD_ARCHIVE_WATCH=poll"
        elif self._identity is None:
            self._why_polling = "the watched directory is missing"
        elif self._mode == "auto" and (network := network_filesystem(self._root)):
            self._why_polling = f"{network} filesystem"
        if self._why_polling is not None:
            return
        observer: Any = None
        subtrees = _Subtrees(self._look_into)
        self._setting_up = True
        try:
            observer = _new_observer()
            _listen_for_losses(observer, self._blind, self._overflowed)
            handler = _Handler(self._place, self._on_hint, subtrees, self._lost)
            subtrees.start()
            observer.schedule(handler, self._place, recursive=True, event_filter=_EVENTS)
            observer.start()
        except Exception as error:
            # Watch and instance limits, permissions, a system without the mechanism: all end in polling.
            reason = error.strerror if isinstance(error, OSError) else None
            self._why_polling = reason or str(error) or type(error).__name__
            self._retry_at = self._clock() + _RETRY_SECONDS
            _log.warning("native watching cannot be set up: %s", self._why_polling)
            subtrees.end()
            if observer is not None:
                _end(observer, 5.0)
            return
        finally:
            self._setting_up = False
        self._observer, self._subtrees = observer, subtrees

    def _unwatch(self, timeout_seconds: float) -> None:
        observer, self._observer = self._observer, None
        subtrees, self._subtrees = self._subtrees, None
        if subtrees is not None:
            subtrees.end()
        if observer is not None:
            _end(observer, timeout_seconds)
        if subtrees is not None and subtrees is not threading.current_thread():
            subtrees.join(timeout_seconds)

    def _look_into(self, path: str, kind: HintKind, ended: threading.Event) -> None:
        """Hint what is in a directory that is new: files in it may never have an event of their own."""
        try:
            if not self._wants_directory(path):
                return
            for found in scan(self._root, self._wants_directory, self._cannot_look, below=path):
                if ended.is_set():
                    return
                self._on_hint(found.path, kind)
        except Exception:
            _log.exception("could not look into %r", path)
            self._lost(f"a new directory could not be looked into: {path}")

    def _cannot_look(self, path: str, reason: str) -> None:
        place = str(self._root / path)
        if not os.access(place, os.R_OK) and len(self._dark) < _MOST_DARK:
            self._dark.add(place)
        self._lost(f"{path} cannot be looked into: {reason}")

    def _overflowed(self) -> None:
        self._lost("the system's event queue overflowed")

    def _blind(self, path: str, error: OSError) -> None:
        """A directory got no watch. Called from watchdog's thread, perhaps under its locks."""
        if error.errno in _LIMITS:
            # Not under our lock: check() may hold it while it waits for the thread that calls this.
            self._why_blind = error.strerror or str(error)
            self._retry_at = self._clock() + _RETRY_SECONDS
        elif error.errno in (errno.EACCES, errno.EPERM) and len(self._dark) < _MOST_DARK:
            self._dark.add(path)
        _log.debug("no watch on %r: %s", path, error)
        if not self._setting_up:  # else whoever set it up scans anyway
            self._lost(f"a directory could not be watched: {error.strerror or error}")

    def _lost(self, reason: str) -> None:
        try:
            self._on_lost(reason)
        except Exception:
            _log.exception("could not report lost events")


class _Handler(FileSystemEventHandler):
    """Called by the observer's thread for each event, and never raises: an exception would end that thread."""

    def __init__(
        self,
        place: str,
        on_hint: Callable[[str, HintKind], None],
        subtrees: _Subtrees,
        lost: Callable[[str], None],
    ) -> None:
        self._prefix = place.rstrip(os.sep) + os.sep
        self._on_hint = on_hint
        self._subtrees = subtrees
        self._lost = lost

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            # Synthetic ones stand for the content of a directory that was moved; that is scanned here anyway.
            if not event.is_synthetic:
                self._handle(event)
        except Exception:
            _log.exception("an event could not be handled")
            self._lost("an event could not be handled")

    def _handle(self, event: FileSystemEvent) -> None:
        kind = _KINDS.get(event.event_type)
        place = os.fsdecode((event.dest_path if kind is HintKind.MOVED else event.src_path) or "")
        if kind is None or not place.startswith(self._prefix):
            return  # moved out of the tree, or the root itself
        path = place[len(self._prefix) :]
        if os.sep != "/":
            path = path.replace(os.sep, "/")
        if event.is_directory:
            # A file in a new directory may have been closed before the directory was watched.
            self._subtrees.put(path, kind if kind is HintKind.MOVED else HintKind.SCANNED)
        else:
            self._on_hint(path, kind)


class _Subtrees(threading.Thread):
    """Looks into new directories, so that the observer's thread goes on handling events meanwhile."""

    def __init__(self, look_into: Callable[[str, HintKind, threading.Event], None]) -> None:
        super().__init__(name="cloud-archive-new-directories", daemon=True)
        self._look_into = look_into
        self._paths: queue.SimpleQueue[tuple[str, HintKind] | None] = queue.SimpleQueue()
        self._ended = threading.Event()

    def put(self, path: str, kind: HintKind) -> None:
        self._paths.put((path, kind))

    def end(self) -> None:
        self._ended.set()
        self._paths.put(None)

    def run(self) -> None:
        while (item := self._paths.get()) is not None and not self._ended.is_set():
            self._look_into(*item, self._ended)


def _new_observer() -> Any:
    # On Linux only the "full" observer tells a file that was moved in from outside from one that was created.
    if sys.platform == "linux":
        from watchdog.observers.inotify import InotifyObserver

        observer: Any = InotifyObserver(generate_full_events=True)
    else:
        observer = Observer()
    observer.name = "cloud-archive-observer"
    return observer


def _end(observer: Any, timeout_seconds: float) -> None:
    """Stop and join; watchdog's own stop() waits without a limit, for threads and for a handler at work."""
    deadline = time.monotonic() + timeout_seconds

    def stop() -> None:
        try:
            observer.stop()
        except Exception:
            _log.debug("the observer did not stop cleanly", exc_info=True)

    stopper = threading.Thread(target=stop, name="cloud-archive-observer-stop", daemon=True)
    stopper.start()
    stopper.join(timeout_seconds)
    if observer.is_alive() and observer is not threading.current_thread():
        observer.join(max(0.0, deadline - time.monotonic()))


def _listen_for_losses(
    observer: Any, blind: Callable[[str, OSError], None], overflowed: Callable[[], None]
) -> None:
    """Hear of what watchdog keeps to itself: the queue's overflow, and directories that got no watch.

    watchdog 7.1 (`InotifyFD.handle_event`, `InotifyWatchGroup._add_callback`) logs the one and swallows the other.
    Older versions have no such place (5 and 6 drop both silently); there the regular scan has to do.
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
            # 7.1 may forget the path of a folder that was renamed before its watch: then both are gone now.
            if not getattr(event, "is_ignored", False):
                raise
        if getattr(event, "is_queue_overflow", False):
            overflowed()  # after watchdog set its watches anew: what appears from now on has events again

    def add(path: bytes, mask: Any, callback: Any, id_: Any) -> Any:
        try:
            if not hasattr(reader, "_get_or_create_watch"):
                return add_callback(path, mask, callback, id_)
            # As `InotifyFD._add_callback` does, but for its warning: a directory nested in a new one is added
            # twice in the ordinary course, and each time 7.1 writes out all its watches in a RuntimeWarning,
            # megabytes of it in a large tree (and where warnings are errors, its thread ends).
            with reader._lock:
                watch = reader._get_or_create_watch(path, mask)
                watch.callbacks[id_] = callback
                return watch.wd
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                blind(os.fsdecode(path), error)
            raise

    reader.handle_event = handle
    reader.add_callback = add
