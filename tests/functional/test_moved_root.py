"""The directory and its state at another path: what waited is archived there. Real ledgers, a store in memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.errors import StoreError
from cloud_archive.state import LEDGER_NAME, platform_state_directory
from cloud_archive.store.failures import explain
from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def _refuse(operation: str, key: str) -> None:
    raise StoreError(operation, key, explain("ConnectionRefused"))


def _write(path: Path, moment: float = 1e9) -> None:
    """Write a file with an mtime long before any start."""
    path.write_bytes(path.name.encode())
    os.utime(path, (moment, moment))


def _wait_until_idle(engine: Engine) -> None:
    wait_until(lambda: engine.status(scan=False).state.value == "idle", "it is idle")


def _archive_a_part(store: MemoryStore, root: Path, state: Path) -> None:
    """Leave one file from before the first start, one that is archived, one that waits, and one never seen."""
    root.mkdir(parents=True)
    _write(root / "older.bin")
    with engine_on(root, store, state) as engine:
        _wait_until_idle(engine)
        (root / "archived.bin").write_bytes(b"archived")
        assert engine.flush(60)
        store.on_call = _refuse
        _write(root / "waits.bin")
        wait_until(lambda: engine.archiver().ledger.totals().waiting.files == 1, "it was tried")
    store.on_call = lambda operation, key: None
    _write(root / "unseen.bin")


def _archived_at_start(store: MemoryStore, root: Path, state: Path, **environ: str) -> list[str]:
    """Return the keys that a start at this path adds, and that a second one leaves as they are."""
    before = store.bodies().keys()
    for _ in range(2):
        with engine_on(root, store, state, **environ) as engine:
            _wait_until_idle(engine)
            assert engine.flush(60)
            older = engine.status().baseline_files
            added = sorted(store.bodies().keys() - before)
            assert older == len(list(root.glob("*.bin"))) - len(added)
    return added


@pytest.mark.parametrize("inside", [False, True])
def test_what_waited_is_archived_where_the_directory_went_with_its_state(
    tmp_path: Path, inside: bool
) -> None:
    store, volume, mounted = MemoryStore(), tmp_path / "workspace", tmp_path / "runpod-volume"
    state = Path("output/state" if inside else "state")
    _archive_a_part(store, volume / "output", volume / state)
    shutil.copytree(volume / state, tmp_path / "kept")
    volume.rename(mounted)
    added = _archived_at_start(store, mounted / "output", mounted / state)
    assert added == ["out/unseen.bin", "out/waits.bin"]
    assert (mounted / state / LEDGER_NAME).read_bytes() == (tmp_path / "kept" / LEDGER_NAME).read_bytes()
    # Back at the first path, and then again at the second one, each ledger goes on.
    mounted.rename(volume)
    (volume / "output/back.bin").write_bytes(b"back")
    with engine_on(volume / "output", store, volume / state) as engine:
        assert engine.flush(60)
    volume.rename(mounted)
    (mounted / "output/there.bin").write_bytes(b"there")
    with engine_on(mounted / "output", store, mounted / state) as engine:
        assert engine.flush(60)
    assert sorted(store.bodies()) == [
        f"out/{name}.bin" for name in ("archived", "back", "there", "unseen", "waits")
    ]


def test_a_directory_that_moved_without_its_platform_state_is_continued(tmp_path: Path) -> None:
    store, old, new = MemoryStore(), tmp_path / "old", tmp_path / "new"
    place = platform_state_directory()
    _archive_a_part(store, old, place / "old-0123456789ab")
    old.rename(new)
    assert _archived_at_start(store, new, place / "new-0123456789ab") == ["out/unseen.bin", "out/waits.bin"]


def test_a_copy_and_its_original_archive_what_waited_once(tmp_path: Path) -> None:
    """A copy may be the first half of a move, and the original may be on another machine."""
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    shutil.copytree(old, new)
    with engine_on(old, store, state) as engine:
        _wait_until_idle(engine)
        store.on_call = _refuse
        _write(old / "later.bin")
        shutil.copy2(old / "later.bin", new)
        wait_until(lambda: engine.archiver().ledger.totals().waiting.files == 1, "it was tried")
        store.on_call = lambda operation, key: None
        with engine_on(new, store, state) as copy:  # reads a ledger that is in use
            assert copy.flush(60)
            assert copy.status().baseline_files == 4
        assert engine.flush(60)
    names = ("archived", "later", "unseen", "waits")
    assert sorted(store.bodies()) == [f"out/{name}.bin" for name in names]


def test_another_directory_with_the_same_state_directory_begins_anew(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    shutil.rmtree(old)
    new.mkdir()
    for name in ("older", "archived", "waits", "unseen"):
        _write(new / f"{name}.bin", 1e9 + 1)
    _write(new / "waits.bin")  # one file alone may have been copied
    assert _archived_at_start(store, new, state) == []


def test_with_backfill_all_everything_is_compared_after_a_move(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    old.rename(new)
    with engine_on(new, store, state, CLOUD_ARCHIVE_BACKFILL="all") as engine:
        assert engine.flush(60)
        assert engine.status().already_archived_files == 1
    assert sorted(store.bodies()) == [f"out/{name}.bin" for name in ("archived", "older", "unseen", "waits")]


def test_a_damaged_ledger_of_another_path_is_no_reason_to_fail(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    old.rename(new)
    (state / LEDGER_NAME).write_bytes(b"no database" * 1000)
    assert _archived_at_start(store, new, state) == []
