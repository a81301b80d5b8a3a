"""Which scans list the folders again that changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import reconcile
from cloud_archive.errors import CloudArchiveError
from cloud_archive.intake.selection import Selection
from cloud_archive.ledger.ledger import Ledger


@pytest.mark.parametrize("polling", [False, True])
def test_with_events_a_scan_is_thorough_once_somebody_waits_for_one(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, polling: bool
) -> None:
    thorough: list[bool] = []

    def walk(*_: Any, again: bool, **__: Any) -> Iterator[Any]:
        thorough.append(again)
        return iter(())

    monkeypatch.setattr(reconcile, "walk", walk)
    reconciler = reconcile.Reconciler(
        root,
        ledger,
        Selection(),
        on_new=lambda path: None,
        on_doubts=lambda doubts: None,
        on_done=lambda: None,
        backfill="missed",
        interval_seconds=0,
        polling=lambda: polling,
        started_at=0,
    )
    reconciler._scan({})
    with pytest.raises(CloudArchiveError, match="in time"):
        reconciler.now(0)
    reconciler._scan({})
    assert thorough == [polling, True]
