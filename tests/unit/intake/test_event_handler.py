"""Events become hints."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from watchdog.events import DirCreatedEvent, DirMovedEvent, FileClosedEvent, FileCreatedEvent, FileMovedEvent

from cloud_archive.files import HintKind
from cloud_archive.intake.event_handler import EventHandler, FolderScanner


def test_a_handler_that_meets_an_exception_reports_a_loss_and_never_raises(tmp_path: Path) -> None:
    lost: list[str] = []

    def fail(path: str, kind: HintKind) -> None:
        raise RuntimeError("odd")

    folder_scanner = FolderScanner(lambda path, kind, stopping: None)
    handler = EventHandler(str(tmp_path), fail, folder_scanner, lost.append)
    handler.dispatch(FileCreatedEvent(str(tmp_path / "a.png")))
    assert lost == ["an event could not be handled"]


def test_events_become_hints_with_relative_paths(tmp_path: Path) -> None:
    hints: list[tuple[str, HintKind]] = []
    folders: list[tuple[str, HintKind]] = []
    scanned = threading.Event()

    def scan_folder(path: str, kind: HintKind, stopping: threading.Event) -> None:
        folders.append((path, kind))
        scanned.set()

    folder_scanner = FolderScanner(scan_folder)
    handler = EventHandler(
        str(tmp_path), lambda path, kind: hints.append((path, kind)), folder_scanner, lambda reason: None
    )
    inside, outside = str(tmp_path / "s/a.png"), str(tmp_path) + "-other/a.png"
    handler.dispatch(FileCreatedEvent(inside))
    handler.dispatch(FileClosedEvent(inside))
    handler.dispatch(FileMovedEvent(inside + ".tmp", inside))
    handler.dispatch(FileMovedEvent("", inside))
    handler.dispatch(FileMovedEvent(inside, ""))
    handler.dispatch(FileCreatedEvent(outside))
    handler.dispatch(FileMovedEvent(inside, inside, is_synthetic=True))
    assert hints == [
        ("s/a.png", HintKind.CREATED if sys.platform == "linux" else HintKind.WRITTEN),
        ("s/a.png", HintKind.CLOSED),
        ("s/a.png", HintKind.MOVED),
        ("s/a.png", HintKind.MOVED),
    ]
    folder_scanner.start()
    handler.dispatch(DirMovedEvent(str(tmp_path / "old"), str(tmp_path / "new")))
    assert scanned.wait(60)
    assert folders == [("new", HintKind.MOVED)]
    scanned.clear()
    handler.dispatch(DirCreatedEvent(str(tmp_path / "made")))
    assert scanned.wait(60)
    linux = sys.platform == "linux"
    assert folders[1:] == [("made", HintKind.IN_NEW_FOLDER if linux else HintKind.SCANNED)]
    folder_scanner.stop()
    folder_scanner.join(60)
    assert not folder_scanner.is_alive()
