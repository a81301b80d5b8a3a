"""A settle queue whose clock, writers and containers a test controls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cloud_archive.files import HintKind
from cloud_archive.intake.containers import ContainerState
from cloud_archive.intake.settle_entry import CompleteFile
from cloud_archive.intake.settle_queue import SettleQueue

CREATED, CLOSED, MOVED, SCANNED, IN_NEW_FOLDER, WRITTEN = (
    HintKind.CREATED,
    HintKind.CLOSED,
    HintKind.MOVED,
    HintKind.SCANNED,
    HintKind.IN_NEW_FOLDER,
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
        self.acknowledges = True
        self.before_check: Callable[[str], None] = lambda name: None
        self.queue = SettleQueue(
            root,
            settle_seconds=2.0,
            on_complete=self._complete,
            on_empty=self.empty.append,
            on_unreadable=lambda path, reason: self.unreadable.append((path, reason)),
            clock=lambda: self.now,
            writer_of=self._writer_of,
            inspect=self._inspect,
            wall_clock=lambda: 0.0,  # no file is old, however slow the test is
        )

    def _writer_of(self, root: Path, path: str) -> bool | None:
        name = path.rpartition("/")[2]
        self.asked.append(name)
        return self.writer.get(name, False)

    def _inspect(self, stream: BinaryIO, name: str, size_bytes: int) -> ContainerState:
        self.before_check(name)
        return self.container.get(name, ContainerState.UNKNOWN)

    def _complete(self, file: CompleteFile) -> None:
        version, partial = file.version, file.looks_incomplete
        self.written.append(file.written)
        # No lock may be held here: another thread must get at the queue.
        other = threading.Thread(target=self.queue.waiting)
        other.start()
        other.join(60)
        assert not other.is_alive()
        if self.refuse_with is not None:
            raise self.refuse_with
        self.complete.append((version.path, version.size_bytes, partial))
        if self.acknowledges:
            self.queue.acknowledge([version])

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
                return wait
            self.now += wait

    def done_after(self, limit: float) -> float:
        """Let the clock run until the next file is complete; return how many seconds that took, at most `limit`."""
        began, count = self.now, len(self.complete)
        while len(self.complete) == count:
            assert self.now - began <= limit, self.queue.waiting()
            wait = self.queue.poll(self.now)
            if len(self.complete) == count:
                self.now += wait or 0.0
        return self.now - began
