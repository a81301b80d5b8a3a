"""A watcher and a settle thread on a real directory."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from cloud_archive.files import FileVersion, HintKind
from cloud_archive.intake.settle_entry import CompleteFile
from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.intake.settle_rules import QuietTimes
from cloud_archive.intake.settle_thread import SettleThread
from cloud_archive.intake.walk import scan
from cloud_archive.intake.watcher import Watcher

DEADLINE_SECONDS = 60.0
# The last watchdog for Python 3.10 hides lost events, and watches no folders in one that is moved in.
HAS_WATCHDOG_6 = version("watchdog").startswith("6.")
QUIET = QuietTimes(closed_whole=0.1, closed=0.3, closed_incomplete=0.3, empty=0.5)


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
        self._note(self.hints, (path, kind))  # first, so that no version comes before its hint
        self.settle.hint(path, kind)

    def _complete(self, file: CompleteFile) -> None:
        version = file.version
        if file.looks_incomplete:
            self.incomplete.append(version.path)
        self.queue.acknowledge([version])
        # A close that is seen late is a write to a known version, which the archive compares and does not queue again.
        if not (file.written and version in self.versions):
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


def small_png(number: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (number % 256, number // 256, 7)).save(out, "PNG")
    return out.getvalue()
