"""Watches are set without listing folders that hold only files, and all events still come."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.files import HintKind
from cloud_archive.intake import walk
from cloud_archive.intake.watcher import Watcher
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

FILES = ("top.png", "a/1.png", "b/2.png", "b/c/3.png", "b/c/d/4.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that were listed."""
    names: list[str] = []
    scandir = os.scandir

    def noted(folder: Any) -> Any:
        if isinstance(folder, (str, bytes)):
            names.append(Path(os.fsdecode(folder)).name)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", noted)
    return names


def started_watcher(root: Path, change: Callable[[str, HintKind], None]) -> Watcher:
    watcher = Watcher(root, mode="native", on_hint=change, on_lost=lambda reason: None)
    watcher.start()
    assert not watcher.polling
    return watcher


@pytest.mark.parametrize("counts", [True, False])
def test_events_come_from_every_folder_whether_or_not_its_links_tell(
    root: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    if not counts:
        monkeypatch.setattr("cloud_archive.intake.observer.link_counts_include_folders", lambda root: False)
    elif not walk.link_counts_include_folders(str(root)):
        pytest.skip("folders are no links here")
    elif not hasattr(importlib.import_module("watchdog.observers.inotify"), "InotifyWatchGroup"):
        pytest.skip("this watchdog lists every folder")
    seen: set[str] = set()
    watcher = started_watcher(root, lambda path, kind: seen.add(path))
    try:
        leaves = {"a", "d"}
        assert leaves.isdisjoint(listed) is counts
        assert {"root", "b", "c"} <= set(listed)
        for name in FILES:
            (root / name).write_bytes(b"more")
        wait_until(lambda: set(FILES) <= seen, "each file is hinted")
        (root / "b/c/d/new/deep").mkdir(parents=True)
        (root / "b/c/d/new/deep/5.png").write_bytes(b"x")
        (root / "moved").mkdir()
        (root / "moved/6.png").write_bytes(b"x")
        wait_until(lambda: {"b/c/d/new/deep/5.png", "moved/6.png"} <= seen, "new folders are watched")
    finally:
        watcher.stop(60)
