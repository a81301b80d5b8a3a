"""A lost or damaged ledger: no file is archived twice, none is forgotten. A real ledger, a store in memory."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import datetime as real_datetime
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.ledger.ledger import COMPARE_WITH_BUCKET
from cloud_archive.state import LEDGER_NAME
from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def _delete(path: Path) -> None:
    path.unlink()


def _cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _fill_with_noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def _damage_pages(path: Path) -> None:
    body = bytearray(path.read_bytes())
    for page in range(4096, len(body), 4096):
        body[page : page + 400] = random.Random(page).randbytes(400)
    path.write_bytes(bytes(body))


class Clock:
    """A clock that gives the day in keys."""

    day = 1

    @classmethod
    def now(cls) -> real_datetime:
        return real_datetime(2026, 4, cls.day, 12)


def _wait_until_idle(engine: Engine) -> None:
    wait_until(lambda: engine.status(scan=False).state.value == "idle", "it is idle")


@pytest.mark.parametrize("damage", [_delete, _cut_to_nothing, _cut_in_half, _fill_with_noise, _damage_pages])
def test_what_is_archived_is_known_by_the_bucket_and_what_waited_still_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    """The day in the keys is another one by then."""
    monkeypatch.setattr("cloud_archive.archive.pipeline.datetime", Clock)
    monkeypatch.setattr(Clock, "day", 1)
    store, root, state = MemoryStore(), tmp_path / "output", tmp_path / "state"
    root.mkdir()
    (root / "old.bin").write_bytes(b"from before the first start")
    os.utime(root / "old.bin", (1e9, 1e9))
    with engine_on(root, store, state, S3_PREFIX="{Y}-{m}-{d}") as engine:
        _wait_until_idle(engine)
        (root / "folder").mkdir()
        (root / "folder/a.bin").write_bytes(b"a")
        (root / "b.bin").write_bytes(b"b")
        assert engine.flush(60)
    first = store.bodies()
    assert len(first) == 2
    (root / "waits.bin").write_bytes(b"written while nothing ran")
    ledger = state / LEDGER_NAME
    damage(ledger)
    monkeypatch.setattr(Clock, "day", 2)
    with engine_on(root, store, state, S3_PREFIX="{Y}-{m}-{d}") as engine:
        assert engine.flush(60)
        status = engine.status()
        assert any("The ledger was" in error for error in status.errors)
        assert status.already_archived_files == 2
        engine.archiver().pipeline.forget_bucket_index()
        assert engine.archiver().ledger.recall(COMPARE_WITH_BUCKET) is None
    # Where nothing could be read from the old ledger, nothing is known to be old.
    new = {Path(key).name for key in store.bodies().keys() - first.keys()}
    assert new - {"old.bin"} == {"waits.bin"}
    if damage in (_delete, _cut_to_nothing):
        assert "old.bin" not in new
    else:
        assert list(state.glob("ledger.damaged-*.sqlite3"))
    bodies = sorted(store.bodies().values())
    assert len(bodies) == len(set(bodies))


def test_a_numbered_name_of_an_earlier_day_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.pipeline.datetime", Clock)
    monkeypatch.setattr(Clock, "day", 1)
    store, root, state = MemoryStore(), tmp_path / "output", tmp_path / "state"
    with engine_on(root, store, state, S3_PREFIX="{d}") as engine:
        _wait_until_idle(engine)
        store.put("01/a.bin", b"x", sha256="", content_type="", metadata={}, create_only=True)
        (root / "a.bin").write_bytes(b"a")
        assert engine.flush(60)
    assert sorted(store.bodies()) == ["01/a (1).bin", "01/a.bin"]
    _delete(state / LEDGER_NAME)
    monkeypatch.setattr(Clock, "day", 2)
    with engine_on(root, store, state, S3_PREFIX="{d}") as engine:
        assert engine.flush(60)
    assert sorted(store.bodies()) == ["01/a (1).bin", "01/a.bin"]


def test_a_first_start_has_lost_nothing(tmp_path: Path) -> None:
    store, root, state = MemoryStore(), tmp_path / "output", tmp_path / "state"
    for _ in range(2):
        with engine_on(root, store, state) as engine:
            _wait_until_idle(engine)
            assert engine.status().errors == ()
