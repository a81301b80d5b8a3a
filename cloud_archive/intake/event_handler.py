"""Turn watchdog's events into hints, and scan new folders."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable

from watchdog.events import FileSystemEvent, FileSystemEventHandler

from ..files import HintKind

_log = logging.getLogger("cloud_archive.watcher")

# Without close events (everywhere but on Linux), a modification is the only sign that a file was written to.
_KINDS: dict[str, HintKind] = {
    "created": HintKind.CREATED if sys.platform == "linux" else HintKind.WRITTEN,
    "modified": HintKind.WRITTEN,
    "closed": HintKind.CLOSED,
    "moved": HintKind.MOVED,
}
_IN_NEW_FOLDER = HintKind.IN_NEW_FOLDER if sys.platform == "linux" else HintKind.SCANNED


class EventHandler(FileSystemEventHandler):
    """Turn each event into a hint. `dispatch` never raises, because that would end the observer's thread.

    Args:
        root: the watched directory, resolved.
        on_hint, on_lost: see `watcher.Watcher`.
    """

    def __init__(
        self,
        root: str,
        on_hint: Callable[[str, HintKind], None],
        folder_scanner: FolderScanner,
        on_lost: Callable[[str], None],
    ) -> None:
        self._prefix = root.rstrip(os.sep) + os.sep
        self._on_hint = on_hint
        self._folder_scanner = folder_scanner
        self._on_lost = on_lost

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            # Synthetic events report what is in a new or moved folder, which is scanned anyway.
            if not event.is_synthetic:
                self._handle(event)
        except Exception:
            _log.exception("An event could not be handled.")
            self._on_lost("an event could not be handled")

    def _handle(self, event: FileSystemEvent) -> None:
        kind = _KINDS.get(event.event_type)
        full_path = os.fsdecode((event.dest_path if kind is HintKind.MOVED else event.src_path) or "")
        if kind is None or not full_path.startswith(self._prefix):
            return  # moved out of the tree, or the root itself
        path = full_path[len(self._prefix) :]
        if os.sep != "/":
            path = path.replace(os.sep, "/")
        if event.is_directory:
            self._folder_scanner.put(path, kind if kind is HintKind.MOVED else _IN_NEW_FOLDER)
        else:
            self._on_hint(path, kind)


class FolderScanner(threading.Thread):
    """Scan new folders in a thread, so that the observer's thread can handle events meanwhile.

    Args:
        scan_folder: called with the relative path, the kind of hint for its files, and an event that asks it to stop.
    """

    def __init__(self, scan_folder: Callable[[str, HintKind, threading.Event], None]) -> None:
        super().__init__(name="cloud-archive-new-folders", daemon=True)
        self._scan_folder = scan_folder
        self._paths: queue.SimpleQueue[tuple[str, HintKind] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()

    def put(self, path: str, kind: HintKind) -> None:
        """Queue a folder by its relative path."""
        self._paths.put((path, kind))

    def stop(self) -> None:
        self._stopping.set()
        self._paths.put(None)

    def run(self) -> None:
        while (item := self._paths.get()) is not None and not self._stopping.is_set():
            self._scan_folder(*item, self._stopping)
