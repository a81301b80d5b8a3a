"""Which name a restored file gets, and what else may stand there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.beneath import Folder
from cloud_archive.files import FileVersion, format_timestamp_ns
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance import restore_files
from cloud_archive.maintenance.restore_files import (
    LEFTOVER_SECONDS,
    FilePlacer,
    RestoreProblem,
    modified_ns,
    states_mtime,
)
from cloud_archive.maintenance.restore_versions import Version, version_of
from cloud_archive.store.base import ObjectInfo
from tests.memory_store import WRITTEN, MemoryStore

SECOND = 10**9


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def placer(store: MemoryStore, root: Path) -> FilePlacer:
    return FilePlacer(store, root, None, None, windows=False)


def stored(store: MemoryStore, path: str, body: bytes, **metadata: str) -> Version:
    store.add(f"out/{path}", body, written=WRITTEN, **metadata)
    info = store.head(f"out/{path}")
    assert info is not None
    return version_of(info, "out/")


def test_a_plan_names_the_file_that_a_restore_then_writes(
    store: MemoryStore, placer: FilePlacer, root: Path
) -> None:
    (root / "sub").write_bytes(b"a file, and no folder")
    (root / "a.png").write_bytes(b"other bytes")
    (root / "x").mkdir()
    (root / "x" / "y").write_bytes(b"a file, and no folder")
    names = {
        "a.png": "a (1).png",
        "sub/b.png": "sub (1)/b.png",
        "x/y/z/c.png": "x/y (1)/z/c.png",
        "d.png": "d.png",
    }
    for path, expected in names.items():
        version = stored(store, path, path.encode())
        planned = placer.plan(version, beside=False, taken=set())
        assert not (root / expected).exists(), "a plan writes nothing"
        assert planned == placer.restore(version, beside=False)
        assert (planned.path, planned.is_new, planned.renamed) == (expected, True, path != expected)
        assert (root / expected).read_bytes() == path.encode()


def test_a_plan_gives_no_name_twice(store: MemoryStore, placer: FilePlacer) -> None:
    taken: set[str] = set()
    names = [
        placer.plan(stored(store, path, path.encode()), beside=beside, taken=taken).path
        for path in ("new/a.png", "b.png")
        for beside in (False, True, True)
    ]
    assert names == ["new/a.png", "new/a (1).png", "new/a (2).png", "b.png", "b (1).png", "b (2).png"]
    assert taken == set(names)


def test_an_equal_file_counts_under_any_of_its_names(
    store: MemoryStore, placer: FilePlacer, root: Path
) -> None:
    (root / "a.png").write_bytes(b"other")
    (root / "a (1).png").write_bytes(b"equal")
    placed = placer.restore(stored(store, "a.png", b"equal"), beside=False)
    assert (placed.path, placed.is_new) == ("a (1).png", False)
    assert sorted(path.name for path in root.iterdir()) == ["a (1).png", "a.png"]


def test_a_key_without_a_name_is_a_problem(store: MemoryStore, placer: FilePlacer) -> None:
    version = stored(store, "/", b"x")
    with pytest.raises(RestoreProblem, match="no file name"):
        placer.plan(version, beside=False, taken=set())
    with pytest.raises(RestoreProblem, match="no file name"):
        placer.restore(version, beside=False)


def test_leftovers_of_killed_runs_go_once_they_are_an_hour_old(
    store: MemoryStore, placer: FilePlacer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_name, other = ".0123456789abcdef01234567.part", ".mine.part"
    for name in (old_name, other):
        (root / name).write_bytes(b"half")
    placer.restore(stored(store, "a.png", b"a"), beside=False)
    assert (root / old_name).exists(), "it may belong to a run under way"
    now = time.time() + LEFTOVER_SECONDS + 60
    monkeypatch.setattr(time, "time", lambda: now)
    FilePlacer(store, root, None, None, windows=False).restore(stored(store, "b.png", b"b"), beside=False)
    assert not (root / old_name).exists()
    assert (root / other).exists()


def test_the_time_of_a_file_is_in_the_metadata_else_it_is_that_of_the_object(
    store: MemoryStore, placer: FilePlacer, root: Path
) -> None:
    stated = stored(store, "a.png", b"a", mtime=format_timestamp_ns(5 * SECOND))
    unstated = stored(store, "b.png", b"b", mtime="yesterday")
    assert [states_mtime(version.info) for version in (stated, unstated)] == [True, False]
    assert modified_ns(stated.info) == 5 * SECOND
    assert modified_ns(unstated.info) == int(WRITTEN) * SECOND
    assert modified_ns(unstated.info._replace(last_modified=None)) is None
    placer.restore(stated, beside=False)
    assert os.stat(root / "a.png").st_mtime_ns == 5 * SECOND  # noqa: PTH116


def test_an_older_version_never_takes_the_files_own_name(store: MemoryStore, placer: FilePlacer) -> None:
    version = stored(store, "a.png", b"older")
    assert placer.plan(version, beside=True, taken=set()).path == "a (1).png"
    assert placer.restore(version, beside=True).path == "a (1).png"


@pytest.mark.parametrize("archived_here", [False, True])
def test_repair_is_advised_only_where_a_ledger_makes_it_possible(
    store: MemoryStore, root: Path, archived_here: bool
) -> None:
    (root / "a.png").write_bytes(b"mine")
    replaced = stored(store, "a.png", b"else", sha256=hashlib.sha256(b"mine").hexdigest())
    with contextlib.closing(Ledger(None)) as ledger:
        ledger.open()
        here = (ledger, root) if archived_here else (None, None)
        with pytest.raises(RestoreProblem, match="has other bytes") as raised:
            FilePlacer(store, root, *here, windows=False).restore(replaced, beside=False)
    assert ("verify --repair" in str(raised.value)) is archived_here


@pytest.mark.parametrize("found_after_download", [False, True])
def test_a_file_that_changes_while_it_is_compared_does_not_count_as_archived(
    store: MemoryStore, root: Path, monkeypatch: pytest.MonkeyPatch, found_after_download: bool
) -> None:
    file = root / "a.png"

    def write(body: bytes, seconds: int) -> None:
        file.write_bytes(body)
        os.utime(file, ns=(seconds * SECOND, seconds * SECOND))

    if found_after_download:
        store.on_call = lambda operation, key: write(b"archived", 5) if operation == "GetObject" else None
    else:
        write(b"archived", 5)

    def hash_then_change(folder: Folder, name: str, size_bytes: int) -> Any:
        found = hash_file(folder, name, size_bytes)
        write(b"new data", 9)
        return found

    hash_file = restore_files._hash_file
    monkeypatch.setattr(restore_files, "_hash_file", hash_then_change)
    with contextlib.closing(Ledger(None)) as ledger:
        ledger.open()
        version = stored(store, "a.png", b"archived")
        placed = FilePlacer(store, root, ledger, root, windows=False).restore(version, beside=False)
        assert (placed.path, placed.is_new) == ("a.png", False)
        assert ledger.find(FileVersion.of_stat("a.png", file.stat())) is None


@pytest.mark.parametrize("nanoseconds", [0, 1, -1, -1_500_000_000, 1_700_000_000_123_456_789, -(10**18) - 7])
def test_a_time_of_modification_comes_back_to_the_nanosecond_also_from_before_1970(nanoseconds: int) -> None:
    text = format_timestamp_ns(nanoseconds)
    assert float(text) == pytest.approx(nanoseconds / 1e9)  # decimal seconds, as rclone reads them
    assert modified_ns(ObjectInfo("k", 1, None, None, None, {"mtime": text}, None)) == nanoseconds
