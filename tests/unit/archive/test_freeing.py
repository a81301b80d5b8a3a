"""Deleting local files that are proven in the bucket, as the settings ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.archive.events import Event, StatusChanged
from cloud_archive.archive.freeing import FreeingLoop
from cloud_archive.archive.session import Session
from cloud_archive.config.settings import load_settings
from cloud_archive.ledger.known_root import KnownRoot
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.free import FreeReport, Limits
from tests.functional.archives import ENVIRON
from tests.memory_store import MemoryStore


def test_nothing_is_deleted_unless_the_settings_ask_for_it() -> None:
    assert Limits.of_settings(load_settings(ENVIRON)).is_off
    assert not load_settings(ENVIRON).frees_local_files
    for limit in ({"CLOUD_ARCHIVE_DELETE_LOCAL_AFTER": "7d"}, {"CLOUD_ARCHIVE_MIN_FREE_DISK": "20GB"}):
        settings = load_settings({**ENVIRON, **limit})
        assert not Limits.of_settings(settings).is_off
        assert settings.frees_local_files


def test_a_notice_stands_for_as_long_as_a_file_cannot_be_proven(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.freeing.FREE_SECONDS", 0.0)
    session, events, stopping = Session(), list[Event](), threading.Event()
    loop = FreeingLoop(
        load_settings({**ENVIRON, "CLOUD_ARCHIVE_DELETE_LOCAL_AFTER": "7d"}),
        root,
        ledger,
        MemoryStore(),
        known_root=KnownRoot(root, ledger),
        session=session,
        on_event=events.append,
    )
    shown: list[tuple[str, ...]] = []
    ends: Iterator[list[str] | OSError] = iter(
        [["lost.png"], ["lost.png", "gone.png"], OSError("Input/output error"), [], []]
    )

    def run_once(_: threading.Event) -> FreeReport:
        shown.append(session.notices)
        end = next(ends)
        if len(shown) == 5:
            stopping.set()
        if isinstance(end, OSError):
            raise end
        return FreeReport(unproven=end)

    monkeypatch.setattr(loop._cleaner, "run_once", run_once)
    loop.run(stopping)
    assert [len(notices) for notices in shown] == [0, 1, 1, 1, 0]
    assert shown[1][0].startswith("lost.png stays on this disk")
    assert shown[2][0].startswith("2 files stay on this disk")
    assert "Input/output error" in shown[3][0]
    assert [type(event) for event in events] == [StatusChanged] * 4
