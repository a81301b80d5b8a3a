"""Opening ledger and store, and making the archiver."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import open_archive
from cloud_archive.archive.metrics import NullRecorder
from cloud_archive.archive.open_archive import ArchiveParts
from cloud_archive.archive.session import Session
from cloud_archive.config.settings import load_settings
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.state import FALLBACK_NAME, LEDGER_NAME
from cloud_archive.store.base import Capabilities, CreateOnly
from tests.functional.archives import ENVIRON
from tests.memory_store import MemoryStore
from tests.servers import wait_until


class Stores:
    """Makes stores in memory, and keeps the arguments of each."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    def __call__(self, settings: Any, **how: Any) -> MemoryStore:
        self.made.append(how)
        return MemoryStore()


def parts(root: Path, make_store: Any, *, backfill: str | None = None, **environ: str) -> ArchiveParts:
    return ArchiveParts(
        root=root,
        environ={**ENVIRON, **environ},
        backfill=backfill,
        make_store=make_store,
        session_id="session",
        session_started_at=time.time(),
        started_at=time.time(),
        metrics=NullRecorder(),
        on_change=lambda: None,
    )


def test_what_a_session_learned_about_a_store_is_known_to_the_next(root: Path, tmp_path: Path) -> None:
    stores = Stores()
    made = parts(root, stores)
    settings = load_settings(ENVIRON)
    first = made.open(settings, tmp_path, unlocked=False, session=None)
    assert stores.made[0]["capabilities"] is None
    stores.made[0]["on_capabilities"](Capabilities(create_only=CreateOnly.HONOURED))
    first.close()
    made.open(settings, tmp_path, unlocked=False, session=None).close()
    assert stores.made[1]["capabilities"].create_only is CreateOnly.HONOURED


def test_a_ledger_is_closed_again_where_the_store_cannot_be_made(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("Invalid endpoint")

    close, closed = Ledger.close, list[Path | None]()

    def close_and_note(ledger: Ledger) -> None:
        closed.append(ledger.path)
        close(ledger)

    monkeypatch.setattr(Ledger, "close", close_and_note)
    with pytest.raises(ValueError, match="Invalid endpoint"):
        parts(root, broken).open(load_settings(ENVIRON), tmp_path, unlocked=False, session=None)
    assert closed == [tmp_path / LEDGER_NAME]


@pytest.mark.parametrize("part", ["Catalog.start", "open_jobs"])
def test_everything_is_closed_again_where_a_later_part_cannot_be_opened(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("Too many open files")

    closed: list[str] = []
    monkeypatch.setattr(MemoryStore, "close", lambda store: closed.append("store"))
    before = set(threading.enumerate())
    monkeypatch.setattr(f"{open_archive.__name__}.{part}", broken)
    with pytest.raises(OSError, match="Too many open files"):
        parts(root, Stores()).open(load_settings(ENVIRON), tmp_path, unlocked=False, session=None)
    wait_until(lambda: set(threading.enumerate()) <= before, "all its threads have ended")
    assert closed == ["store"]


def test_the_users_setting_goes_before_the_default_of_the_caller(root: Path, tmp_path: Path) -> None:
    for environ, backfill in (({}, "all"), ({"CLOUD_ARCHIVE_BACKFILL": "none"}, "none")):
        made = parts(root, Stores(), backfill="all", **environ)
        settings = load_settings({**ENVIRON, **environ})
        opened = made.open(settings, tmp_path, unlocked=False, session=None)
        assert opened.archiver.settings.backfill == backfill
        opened.close()


def test_a_missing_lock_and_an_odd_place_for_the_state_are_notices(root: Path, tmp_path: Path) -> None:
    place = tmp_path / FALLBACK_NAME
    place.mkdir()
    session = Session()
    opened = parts(root, Stores()).open(load_settings(ENVIRON), place, unlocked=True, session=session)
    assert opened.archiver.session is session
    opened.close()
    notices = " ".join(session.notices)
    assert "No lock could be made" in notices
    # This user has a home directory: the state stays where an earlier start put it.
    assert "the usual state directory could not be used, now or at an earlier start" in notices
    assert "CLOUD_ARCHIVE_STATE_DIR" in notices
