"""A rebuild asks several objects at once, never more than it may, and commits each step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_archive.catalog.bucket.names import CatalogFolder, new_names
from cloud_archive.catalog.bucket.segment import encode
from cloud_archive.catalog.bucket.sync import CatalogSync
from cloud_archive.catalog.bucket.writer import SegmentWriter
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.reading import AssetReader
from cloud_archive.catalog.rebuild import AT_ONCE, Rebuilt, plan_rebuild, rebuild
from cloud_archive.errors import StoreError
from cloud_archive.keys import PrefixTemplate
from cloud_archive.scope import KeyScope
from tests.memory_store import WRITTEN, MemoryStore, StoredObject, refuse
from tests.unit.catalog.searched import names

from .cataloguing import BUCKET, png

SCOPE = KeyScope(PrefixTemplate.parse("out"))
FOLDER = CatalogFolder.of("out")


def rebuilt(
    database: CatalogDatabase,
    store: MemoryStore,
    on_progress: Callable[[int, int], None] = lambda added, read: None,
) -> Rebuilt:
    plan = plan_rebuild(database, store, SCOPE, BUCKET)
    reader = AssetReader(database, None, store, keep_graphs=False, at_once=AT_ONCE)
    return rebuild(plan, database, store, SCOPE, BUCKET, reader, machine="pod-1", on_progress=on_progress)


def test_sixteen_requests_at_once_and_no_more(tmp_path: Path) -> None:
    store = MemoryStore()
    for number in range(2 * AT_ONCE):
        store.add(f"out/{number:02}.png", png(f"fox {number}"))
    all_there = {name: threading.Barrier(AT_ONCE) for name in ("HeadObject", "GetObject")}
    lock = threading.Lock()
    waiting = dict.fromkeys(all_there, 0)
    most = dict.fromkeys(all_there, 0)

    def wait(operation: str, key: str) -> None:
        if operation in all_there:
            with lock:
                waiting[operation] += 1
                most[operation] = max(most[operation], waiting[operation])
            all_there[operation].wait(60)
            with lock:
                waiting[operation] -= 1

    store.on_call = wait
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    assert rebuilt(database, store).unread == 0
    assert most == dict.fromkeys(all_there, AT_ONCE)
    assert database.read("SELECT count(*) FROM assets WHERE reader > 0") == [(2 * AT_ONCE,)]
    database.close()


@pytest.mark.parametrize(
    ("operation", "first"), [("HeadObject", "out/00.png"), ("GetObject", f"out/{AT_ONCE - 1}.png")]
)
def test_ctrl_c_waits_for_no_request_that_hangs(tmp_path: Path, operation: str, first: str) -> None:
    store = MemoryStore()
    for number in range(AT_ONCE):
        store.add(f"out/{number:02}.png", png(f"fox {number}"))
    go_on, hangs, ended = threading.Event(), threading.Event(), list[str]()
    keys: set[str] = set()

    def on_call(called: str, key: str) -> None:
        if called != operation:
            return
        if key == first:  # its result is the first that the caller waits for
            assert hangs.wait(60)
            raise KeyboardInterrupt  # in a thread; the caller gets it from there
        keys.add(key)
        if len(keys) == AT_ONCE - 1:
            hangs.set()
        go_on.wait(60)
        ended.append(key)

    store.on_call = on_call
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    try:
        with pytest.raises(KeyboardInterrupt):
            rebuilt(database, store)
        assert ended == []
    finally:
        go_on.set()
        database.close()


def test_a_store_that_fails_in_the_middle_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.rebuild.HEADS", 4)
    store = MemoryStore()
    for number in range(12):
        store.add(f"out/{number:02}.png", png(f"fox {number}"))

    def fail(operation: str, key: str) -> None:
        if operation == "HeadObject" and key >= "out/08":
            refuse("SlowDown", 503, key)

    store.on_call = fail
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    with pytest.raises(StoreError):
        rebuilt(database, store)
    assert len(plan_rebuild(database, store, SCOPE, BUCKET).unknown) == 4
    store.on_call = lambda operation, key: None
    heads = store.count("HeadObject")
    assert rebuilt(database, store).unread == 0
    assert store.count("HeadObject") == heads + 4
    database.close()


def test_the_files_added_and_the_files_read_are_counted_apart(tmp_path: Path) -> None:
    store = MemoryStore()
    for number in range(3):
        store.add(f"out/{number}.png", png(f"fox {number}"))
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    seen: list[tuple[int, ...]] = []
    rebuilt(database, store, lambda *counts: seen.append(counts))
    assert seen == [(3, 0), (3, 3)]
    database.close()


@pytest.mark.parametrize("mtime", ["99999999999", "-99999999999.5"])
def test_a_time_that_takes_more_than_64_bits_stops_nothing(tmp_path: Path, mtime: str) -> None:
    store = MemoryStore()
    store.objects["out/far.png"] = StoredObject(png("far"), {"mtime": mtime})
    store.add("out/fox.png", png("fox"))
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    assert rebuilt(database, store) == Rebuilt(added=2, gone=0, unread=0)
    assert set(names(database, "")) == {"far.png", "fox.png"}
    database.close()


def test_what_changes_after_the_listing_is_not_counted(tmp_path: Path) -> None:
    store = MemoryStore()
    for name in ("a", "b"):
        store.add(f"out/{name}.png", png(name))
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    rebuilt(database, store)
    kept = {name: store.objects.pop(f"out/{name}.png") for name in ("a", "b")}
    for name in ("c", "d"):
        store.add(f"out/{name}.png", png(name))

    def change(operation: str, key: str) -> None:
        if operation == "HeadObject":
            store.objects["out/a.png"] = kept["a"]
            store.objects.pop("out/c.png", None)

    store.on_call = change
    assert rebuilt(database, store) == Rebuilt(added=1, gone=1, unread=0)
    database.close()


def test_an_object_that_is_there_again_is_found_on_every_machine(tmp_path: Path) -> None:
    """Its deletion was noted by a clock that is ahead; or somebody brought back the object of that time."""
    store = MemoryStore()
    store.add("out/fox.png", png("a fox"))
    digest = store.objects["out/fox.png"].metadata["sha256"]
    rows: list[dict[str, object]] = [
        {
            "op": "put",
            "clock": WRITTEN,
            "machine": "pod-2",
            "key": "out/fox.png",
            "sha256": digest,
            "reader": 1,
        },
        {"op": "del", "clock": WRITTEN + 3600, "machine": "pod-3", "key": "out/fox.png"},
    ]
    segment, _ = new_names("pod-2", WRITTEN)
    store.add(FOLDER.key(segment), encode(rows, machine="pod-2", now=WRITTEN))
    for name in ("rebuilding", "first", "second"):
        database, _ = open_catalog(tmp_path / f"{name}.sqlite3")
        CatalogSync(lambda database=database: database, store, FOLDER, BUCKET).sync()  # type: ignore[misc]
        if name == "rebuilding":
            assert database.read("SELECT name FROM assets") == []
            rebuilt(database, store)
            writer = SegmentWriter(
                lambda database=database: database,  # type: ignore[misc]
                store,
                FOLDER,
                machine="pod-1",
                keep_graphs=False,
            )
            writer.write_all()
        assert database.read("SELECT name FROM assets") == [("fox.png",)], name
        database.close()
