"""Reading what other machines wrote: in any order, from anybody, with everything that can be wrong."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.bucket.compaction import compact_month, delete_replaced, months_in
from cloud_archive.catalog.bucket.names import new_ulid
from cloud_archive.catalog.bucket.tables import queue_edits
from cloud_archive.catalog.bucket.writer import SegmentWriter
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.rows import ArchivedObject, add_archived
from cloud_archive.errors import StoreError
from cloud_archive.store.failures import explain
from tests.memory_store import MemoryStore, refuse
from tests.unit.catalog.bucket.machines import (
    BUCKET,
    FOLDER,
    NOW,
    ROWS,
    SHA,
    NewMachine,
    edit,
    month_body,
    put,
    write,
)
from tests.unit.catalog.cataloguing import add_described


def test_a_new_machine_finds_what_others_wrote(store: MemoryStore, other: NewMachine) -> None:
    seed = 2**64 - 1
    facts: dict[str, Any] = {"prompt": "a red fox",
             "models": ["fox.safetensors"], "seed": str(seed), "width": 8, "height": 9,
             "loras": [{"name": "fur", "strength": 0.5}], "has_workflow": True, "job_id": "j", "session_id": "s",
             "mime_type": "image/png", "texts": ["hidden text"], "source": "png", "steps": 20}  # fmt: skip
    write(store, [put("out/a.png", mtime_ns=5, **facts), put("out/b.mp4")])
    write(store, [put("out/c.png", machine="pod-2")], machine="pod-2")
    result = other.sync.sync()
    assert (result.files, result.rows, result.left, result.troubles) == (2, 3, 0, [])
    fox, video, third = other.found()
    assert (fox["key"], fox["machine"], fox["job_id"], fox["width"], fox["sha256"]) == (
        "out/a.png", "pod-1", "j", 8, SHA
    )  # fmt: skip
    assert (fox["metadata"]["prompt"], fox["metadata"]["seed"], fox["metadata"]["steps"]) == (
        "a red fox",
        seed,
        20,
    )
    assert fox["metadata"]["loras"] == [{"name": "fur", "strength": 0.5}]
    assert (fox["has_workflow"], fox["has_prompt"], video["has_workflow"]) == (True, False, False)
    assert third["machine"] == "pod-2"
    assert [one["key"] for one in other.found('"hidden text"')] == ["out/a.png"]
    assert [one["key"] for one in other.found("model:fox")] == ["out/a.png"]
    # What is read once is not read again.
    reads = store.count("GetObject")
    assert other.sync.sync().files == 0
    assert store.count("GetObject") == reads


def test_a_file_that_is_not_read_here_yet_takes_the_description(
    store: MemoryStore, other: NewMachine
) -> None:
    one = ArchivedObject("out/a.png", "a.png", 1, 5, NOW, SHA, "pod-1", "s")
    other.database.change(lambda db: add_archived(db, BUCKET, [one]))
    write(store, [put("out/a.png", prompt="a red fox", reader=7)])
    other.sync.sync()
    assert [found["key"] for found in other.found('"red fox"')] == ["out/a.png"]
    # It counts as read by the reader that its row names: a better one may read it again.
    assert other.database.read("SELECT reader FROM assets") == [(7,)]


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    seen = set()
    for seed in range(12):
        shuffled = random.Random(seed).sample(ROWS, len(ROWS))
        store = MemoryStore()
        for number, row in enumerate(shuffled):
            write(store, [row], now=NOW + number)
        if seed % 2:
            write(store, shuffled)  # and each once more
        other = NewMachine(tmp_path, store)
        other.sync.sync()
        seen.add(json.dumps(other.everything(), sort_keys=True))
        other.database.close()
    assert len(seen) == 1
    first, third = json.loads(seen.pop())
    assert (first["key"], first["metadata"]["prompt"], first["machine"]) == ("out/a.png", "replaced", "pod-1")
    assert (first["rating"], first["tags"], first["note"]) == (5, ["y"], "new")
    assert (third["metadata"]["prompt"], third["job_id"]) == ("back again", "j")


@pytest.mark.usefixtures("decoded")
def test_a_month_s_file_replaces_segments_and_the_newest_come_first(
    store: MemoryStore, other: NewMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.bucket.sync._PARALLEL", 1)  # requests are sent in their order
    old = write(store, [put("out/a.png")], now=NOW - 40 * 86400)
    names = [write(store, [put(f"out/{n}.png")]) for n in range(3)]
    month = f"months/2026-11/{new_ulid(NOW)}.jsonl.gz"
    rows = [put(f"out/{n}.png") for n in range(2)]
    store.add(FOLDER.key(month), month_body(rows, names[:2]))
    other.sync.sync()
    read = [key for operation, key in store.calls if operation == "GetObject"]
    assert FOLDER.key(month) in read
    assert read[-1] == FOLDER.key(old)
    assert len(other.found()) == 4
    states: dict[str, str] = dict(other.database.read("SELECT name, state FROM bucket_files"))
    assert [states[name] for name in (*names, month, old)] == ["replaced", "replaced", "read", "read", "read"]


@pytest.mark.usefixtures("decoded")
def test_many_replaced_segments_hide_no_older_file(store: MemoryStore, other: NewMachine) -> None:
    write(store, [put("out/old.png")], now=NOW - 40 * 86400)
    names = [write(store, [put(f"out/{n}.png")]) for n in range(20)]
    month = f"months/2026-11/{new_ulid(NOW)}.jsonl.gz"
    rows = [put(f"out/{n}.png") for n in range(20)]
    store.add(FOLDER.key(month), month_body(rows, names))
    result = other.sync.sync()
    assert (len(other.found()), result.files, result.left) == (21, 2, 0)


def test_only_the_last_days_are_listed_when_following(store: MemoryStore, other: NewMachine) -> None:
    write(store, [put("out/old.png")], now=NOW - 40 * 86400)
    write(store, [put("out/new.png")], now=NOW)
    write(store, [put("out/ahead.png")], now=NOW + 20 * 3600)  # its clock is ahead
    assert other.sync.sync(recent=True).files == 2
    assert [one["key"] for one in other.found()] == ["out/ahead.png", "out/new.png"]
    assert other.sync.sync().files == 1


def test_what_the_store_does_not_give_is_tried_again(store: MemoryStore, other: NewMachine) -> None:
    names = [write(store, [put(f"out/{n}.png")], now=NOW + n) for n in range(3)]

    def fail(operation: str, key: str) -> None:
        if operation == "GetObject" and key == FOLDER.key(names[1]):
            refuse("SlowDown", 503, key)
        if operation == "GetObject" and key == FOLDER.key(names[0]):
            refuse("NoSuchKey", 404, key)

    store.on_call = fail
    result = other.sync.sync()
    assert (result.files, result.left) == (1, 1)
    store.on_call = lambda operation, key: None
    assert other.sync.sync().files == 2
    assert len(other.found()) == 3


@pytest.mark.parametrize("code", ["NotS3", "NoSuchBucket"])
def test_a_404_that_says_nothing_about_the_file_does_not_show_that_it_was_replaced(
    store: MemoryStore, other: NewMachine, code: str
) -> None:
    for number in range(3):
        write(store, [put(f"out/{number}.png")], now=NOW + number)
    (files,) = months_in(store, FOLDER).values()
    store.on_call = lambda operation, key: refuse(code, 404, key) if operation == "GetObject" else None
    with pytest.raises(StoreError):
        list(compact_month(store, FOLDER, "m", files, now=NOW))
    if code == "NotS3":
        result = other.sync.sync()
        assert (result.left, result.replaced, len(result.troubles)) == (3, 0, 3)
    else:
        with pytest.raises(StoreError, match="bucket"):
            other.sync.sync()


def test_a_file_in_cold_storage_is_left_out_alone(store: MemoryStore, other: NewMachine) -> None:
    names = [write(store, [put(f"out/{n}.png")], now=NOW + n) for n in range(3)]

    def fail(operation: str, key: str) -> None:
        if operation == "GetObject" and key == FOLDER.key(names[1]):
            refuse("InvalidObjectState", 403, key)

    store.on_call = fail
    result = other.sync.sync()
    assert (result.files, result.left) == (2, 1)
    assert "storage class" in result.troubles[0]


def test_what_a_listing_showed_before_it_broke_off_is_read(
    store: MemoryStore, other: NewMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write(store, [put(f"out/{number}.png")], now=NOW + number)
    whole = store.list

    def half(prefix: str, *, limit: int | None = None) -> Iterator[Any]:
        yield from whole(prefix, limit=3)
        if prefix.endswith("segments/"):
            refuse("SlowDown", 503, prefix)

    monkeypatch.setattr(store, "list", half)
    with pytest.raises(StoreError):
        other.sync.sync()
    assert [one["key"] for one in other.found()] == ["out/0.png", "out/1.png", "out/2.png"]
    # One that shows only a part without saying so, and a segment that arrives late: the next listing has them.
    monkeypatch.setattr(store, "list", lambda prefix: whole(prefix, limit=4))
    assert other.sync.sync().files == 1
    monkeypatch.setattr(store, "list", whole)
    write(store, [put("out/late.png")], now=NOW - 9 * 86400)
    assert other.sync.sync().files == 2


@pytest.mark.parametrize(
    ("operation", "right"), [("ListObjectsV2", "s3:ListBucket"), ("GetObject", "s3:GetObject")]
)
def test_credentials_that_may_not_read_are_told_which_right_is_missing(
    store: MemoryStore, other: NewMachine, operation: str, right: str
) -> None:
    write(store, [put("out/a.png")])

    def deny(asked: str, key: str) -> None:
        if asked == operation:
            raise StoreError(operation, key, explain("AccessDenied"), status=403)

    store.on_call = deny
    with pytest.raises(StoreError, match=right) as denied:
        other.sync.sync()
    assert str(denied.value).startswith("These credentials may not read the catalog in the bucket: ")
    assert " key" not in str(denied.value), "a key is the name of an object"


def test_it_says_about_how_many_rows_are_left_while_it_reads(store: MemoryStore, other: NewMachine) -> None:
    rows = [[put(f"out/{first}-{n}.png") for n in range(1000)] for first in range(4)]
    for number, part in enumerate(rows):
        write(store, part, now=NOW + number)
    left: list[int] = []
    result = other.sync.sync(on_progress=lambda done, total: left.append(other.sync.progress.left_rows))
    assert result.rows == 4000
    size = sum(len(one.body) for one in store.objects.values())
    assert (left[0], other.sync.progress.left_rows) == (round(size / 120), 0)
    assert 3000 in left, "after the first of four equal parts"


def test_a_stopped_sync_goes_on_later(store: MemoryStore, other: NewMachine) -> None:
    for number in range(6):
        write(store, [put(f"out/{number}.png")], now=NOW + number)
    turns = itertools.count()
    result = other.sync.sync(may_go_on=lambda: next(turns) < 2)
    assert (result.files, result.left) == (2, 4)
    assert [one["key"] for one in other.found()] == ["out/4.png", "out/5.png"]
    assert other.sync.sync().files == 4


def test_files_that_a_month_s_file_replaced_are_not_left(store: MemoryStore, other: NewMachine) -> None:
    for number in range(2):
        write(store, [put(f"out/old-{number}.png")], now=NOW - 40 * 86400)
    names = [write(store, [put(f"out/{number}.png")]) for number in range(20)]
    month = f"months/2026-11/{new_ulid(NOW)}.jsonl.gz"
    rows = [put(f"out/{number}.png") for number in range(20)]
    store.add(FOLDER.key(month), month_body(rows, names))
    known: list[int] = []
    turns = itertools.count()
    result = other.sync.sync(
        may_go_on=lambda: next(turns) < 2, on_progress=lambda done, total: known.append(total)
    )
    assert (result.files, result.left) == (2, 1)
    assert known == [23, 3]


def test_rows_of_replaced_files_are_not_left(store: MemoryStore, other: NewMachine) -> None:
    rows = [put(f"out/{number}.png", prompt=f"fox {number}") for number in range(2000)]
    write(store, [put("out/old.png")], now=NOW - 80 * 86400)
    write(store, [put("out/old-2.png")], now=NOW - 40 * 86400)
    names = [write(store, rows[first : first + 1000]) for first in (0, 1000)]
    month = f"months/2026-11/{new_ulid(NOW)}.jsonl.gz"
    store.add(FOLDER.key(month), month_body(rows, names))
    left: list[int] = []
    other.sync.sync(on_progress=lambda done, total: left.append(other.sync.progress.left_rows))
    assert len(left) == 3
    assert left[2] < 100, "one row in a small file"


def test_a_file_that_failed_before_a_sync_was_stopped_is_left_too(
    store: MemoryStore, other: NewMachine
) -> None:
    names = [write(store, [put(f"out/{number}.png")], now=NOW + number) for number in range(3)]
    store.on_call = lambda operation, key: (
        refuse("SlowDown", 503, key) if key == FOLDER.key(names[2]) else None
    )
    turns = itertools.count()
    result = other.sync.sync(may_go_on=lambda: next(turns) < 2)
    assert (result.files, result.left) == (1, 2)


def test_a_segment_that_is_replaced_and_deleted_during_the_listing_is_not_missed(
    store: MemoryStore, other: NewMachine
) -> None:
    for number in range(3):
        write(store, [put(f"out/{number}.png")], now=NOW + number)
    listed: list[str] = []

    def replace(operation: str, key: str) -> None:
        listed.append(key)
        if len(listed) == 2:
            store.on_call = lambda operation, key: None
            (files,) = months_in(store, FOLDER).values()
            for result in compact_month(store, FOLDER, "pod-2", files, now=NOW + 9):
                delete_replaced(store, FOLDER, result)

    store.on_call = replace
    while other.sync.sync().replaced:
        pass
    assert len(other.found()) == 3


def test_edits_apply_to_an_asset_that_comes_later(store: MemoryStore, other: NewMachine) -> None:
    write(store, [edit("out/a.png", NOW, hidden=True, rating=2)])
    other.sync.sync()
    write(store, [put("out/a.png", NOW - 100)], now=NOW - 100)
    other.sync.sync()
    (one,) = other.found("is:hidden")
    assert (one["rating"], one["hidden"]) == (2, True)
    assert asset_id(BUCKET, "out/a.png").hex == one["id"].replace("-", "")


def test_a_store_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    program = """
import threading, time
from types import SimpleNamespace
from cloud_archive.catalog.bucket.sync import _Pass

asked = threading.Event()

class Hanging:
    def read(self, key, size):
        asked.set()
        time.sleep(600)

wanted = [(SimpleNamespace(key="a", size_bytes=1), SimpleNamespace(text="a"))]
one_pass = _Pass(wanted, Hanging(), None, None)
threading.Thread(target=lambda: [one.body.result() for one in one_pass.fetch()], daemon=True).start()
asked.wait(60)
"""
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)


def test_tags_that_two_machines_add_at_the_same_time_both_stay(tmp_path: Path, store: MemoryStore) -> None:
    identity = asset_id(BUCKET, "out/fox.png")
    machines = {name: NewMachine(tmp_path, store) for name in ("x", "y")}
    for name, machine in machines.items():
        add_described(machine.database, "out/fox.png", Description())

        def tag(db: sqlite3.Connection, name: str = name) -> None:
            edit_asset(db, identity, {"tags": ["old"]}, 1.0, "pod-1")
            edit_asset(db, identity, {"tags": ["old", name]}, 2.0, name)
            queue_edits(db, identity.bytes, 2.0, name)

        machine.database.change(tag)
        writer = SegmentWriter(
            lambda machine=machine: machine.database,  # type: ignore[misc]
            store,
            FOLDER,
            machine=name,
            keep_graphs=False,
        )
        writer.write_all()
    for machine in machines.values():
        machine.sync.sync()
        assert [one["tags"] for one in machine.found()] == [["old", "x", "y"]]
        machine.database.close()
