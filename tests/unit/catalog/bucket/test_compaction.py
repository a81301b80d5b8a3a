"""Compaction: nothing is lost, nothing comes back, whoever compacts at the same time."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.bucket import compaction
from cloud_archive.catalog.bucket.compaction import (
    Compacted,
    compact_crowded_months,
    compact_month,
    delete_replaced,
    months_in,
    note_compacted,
)
from cloud_archive.catalog.bucket.names import new_names
from cloud_archive.catalog.bucket.segment import Decoded, decode
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from tests.functional.archives import ENVIRON
from tests.memory_store import MemoryStore, refuse

from .machines import FOLDER, NOW, NewMachine, edit, gone, month_body, put, write


def compact(
    store: MemoryStore, *, delete: bool = False, machine: str = "m", now: float = NOW
) -> list[Compacted]:
    done = []
    for files in months_in(store, FOLDER).values():
        for result in compact_month(store, FOLDER, machine, files, now=now):
            if delete:
                delete_replaced(store, FOLDER, result)
            done.append(result)
    return done


def seen_by_a_new_machine(tmp_path: Path, store: MemoryStore) -> Any:
    other = NewMachine(tmp_path, store)
    other.sync.sync()
    found = other.everything()
    other.database.close()
    return json.loads(json.dumps(found))


def filled(seed: int) -> MemoryStore:
    dice = random.Random(seed)
    store = MemoryStore()
    for number in range(40):
        rows: list[dict[str, Any]] = []
        for place in range(3):
            # No machine edits twice at one time.
            key, clock = (
                f"out/{dice.randrange(12)}.png",
                NOW + dice.randrange(100) + number / 64 + place / 256,
            )
            machine = f"pod-{dice.randrange(3)}"
            rows.append(
                dice.choice(
                    [
                        put(
                            key,
                            clock,
                            machine=machine,
                            prompt=f"fox {clock}",
                            sha256=f"{int(clock) % 7:02x}" * 32,
                        ),
                        gone(key, clock),
                        edit(key, clock, machine, rating=dice.randrange(6), tags_added=["a"]),
                        edit(key, clock, machine, tags_removed=["a"], note=str(clock)),
                    ]
                )
            )
        write(store, rows, machine=f"pod-{number % 3}", now=NOW + number)
    return store


@pytest.mark.parametrize("delete", [False, True])
def test_compaction_changes_nothing_that_is_seen(tmp_path: Path, delete: bool) -> None:
    for seed in range(5):
        store = filled(seed)
        before = seen_by_a_new_machine(tmp_path, store)
        assert before
        (result,) = compact(store, delete=delete)
        assert len(result.replaced) == 40
        assert seen_by_a_new_machine(tmp_path, store) == before
        files = [name for files in months_in(store, FOLDER).values() for _, name in files]
        assert len(files) == (1 if delete else 41)
        # Once more, after one more segment.
        write(store, [put("out/late.png", NOW)], now=NOW + 500)
        compact(store, delete=delete)
        assert seen_by_a_new_machine(tmp_path, store) == [
            *before,
            *seen_by_a_new_machine(tmp_path, store)[-1:],
        ]


def test_a_rating_that_readers_ignore_takes_no_place(tmp_path: Path) -> None:
    store = MemoryStore()
    write(store, [put("out/a.png"), edit("out/a.png", NOW, rating=3)])
    write(store, [edit("out/a.png", NOW + 1, rating=9)])
    before = seen_by_a_new_machine(tmp_path, store)
    assert compact(store, delete=True)
    assert seen_by_a_new_machine(tmp_path, store) == before


def test_what_a_month_file_holds_already_is_not_written_again(tmp_path: Path) -> None:
    store = filled(1)
    before = seen_by_a_new_machine(tmp_path, store)
    (first,) = compact(store)
    objects = set(store.objects)
    (again,) = compact(store)
    assert set(store.objects) == objects
    assert (again.name, again.rows, sorted(again.replaced)) == (
        first.name,
        first.rows,
        sorted(first.replaced),
    )
    (deleting,) = compact(store, delete=True)
    assert (deleting.deleted, list(store.objects)) == (40, [FOLDER.key(first.name)])
    assert compact(store, delete=True) == []
    assert seen_by_a_new_machine(tmp_path, store) == before


def test_only_a_month_file_replaces_others(tmp_path: Path) -> None:
    store = MemoryStore()
    victim = write(store, [put("out/a.png")], now=NOW + 1)
    name, _ = new_names("stranger", NOW)
    store.add(FOLDER.key(name), month_body([put("out/b.png")], [victim], "stranger"))
    (result,) = compact(store)
    assert result.rows == 2
    assert [one["key"] for one in seen_by_a_new_machine(tmp_path, store)] == ["out/a.png", "out/b.png"]


def test_two_that_compact_and_delete_at_once_lose_and_resurrect_nothing(tmp_path: Path) -> None:
    """The second compacts from a listing of before, at every possible moment of the first."""
    for moment in range(0, 84, 3):
        store = filled(1)
        before = seen_by_a_new_machine(tmp_path, store)
        listing = months_in(store, FOLDER)
        turns = [0]

        def second(
            operation: str,
            key: str,
            listing: Any = listing,
            moment: int = moment,
            turns: list[int] = turns,
            store: MemoryStore = store,
        ) -> None:
            turns[0] += 1
            if turns[0] == moment + 1:
                store.on_call = lambda operation, key: None
                for files in listing.values():
                    for result in compact_month(store, FOLDER, "second", files, now=NOW + 1):
                        delete_replaced(store, FOLDER, result)

        store.on_call = second
        compact(store, delete=True, machine="first")
        store.on_call = lambda operation, key: None
        assert seen_by_a_new_machine(tmp_path, store) == before, moment
        compact(store, delete=True)
        assert seen_by_a_new_machine(tmp_path, store) == before, moment


def test_what_cannot_be_read_stays(tmp_path: Path) -> None:
    store = filled(2)
    before = seen_by_a_new_machine(tmp_path, store)
    bad = new_names("evil", NOW)[0]
    store.add(FOLDER.key(bad), b"no gzip")
    (result,) = compact(store, delete=True)
    assert [name for name, _ in result.left_out] == [bad]
    assert FOLDER.key(bad) in store.objects
    assert seen_by_a_new_machine(tmp_path, store) == before


@pytest.mark.parametrize(("state", "expected"), [("read", 1), ("replaced", 1), ("damaged", 0), ("newer", 0)])
def test_a_month_file_counts_as_read_only_if_all_that_it_replaces_were_read(
    tmp_path: Path, state: str, expected: int
) -> None:
    store = filled(5)
    mine = NewMachine(tmp_path, store)
    mine.sync.sync()
    (result,) = compact(store)
    change = "UPDATE bucket_files SET state = ? WHERE name = ?"
    mine.database.change(lambda db: db.execute(change, (state, result.replaced[0])) and None)
    mine.database.change(lambda db: note_compacted(db, result))
    ((count,),) = mine.database.read("SELECT count(*) FROM bucket_files WHERE name = ?", (result.name,))
    assert count == expected
    mine.database.close()


def test_a_month_file_that_was_there_is_still_read(tmp_path: Path) -> None:
    """It may hold rows of files that another machine has deleted before this one read them."""
    store = filled(5)
    mine = NewMachine(tmp_path, store)
    mine.sync.sync()
    write(store, [put("out/new.png")], now=NOW + 100)
    (result,) = compact(store)
    del store.objects[FOLDER.key(result.replaced[-1])]
    (again,) = compact(store)
    assert (again.name, len(again.replaced)) == (result.name, len(result.replaced) - 1)
    mine.database.change(lambda db: note_compacted(db, again))
    mine.sync.sync()
    assert "out/new.png" in [one["key"] for one in mine.everything()]
    mine.database.close()


def test_half_a_character_in_a_stranger_s_tag_keeps_no_month_from_being_compacted() -> None:
    store = MemoryStore()
    lines = [{"op": "header", "version": 1}, edit("out/a.png", NOW, tags_added=["\ud800"])]
    name, _ = new_names("evil", NOW)
    store.add(FOLDER.key(name), gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    write(store, [put("out/a.png")])
    (result,) = compact(store)
    assert result.rows == 2


def test_large_months_become_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(3)
    before = seen_by_a_new_machine(tmp_path, store)
    monkeypatch.setattr(compaction, "MAX_GROUP_BYTES", 3000)
    assert len(compact(store, delete=True)) > 2
    assert seen_by_a_new_machine(tmp_path, store) == before


def test_a_large_month_is_not_written_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(3)
    before = seen_by_a_new_machine(tmp_path, store)
    monkeypatch.setattr(compaction, "MAX_GROUP_BYTES", 3000)
    for run in range(6):  # the later ones merge month files
        compact(store, now=NOW + 100 + run)
    objects = set(store.objects)
    compact(store, now=NOW + 200)
    assert set(store.objects) == objects
    assert seen_by_a_new_machine(tmp_path, store) == before
    compact(store, delete=True, now=NOW + 201)
    assert not [key for key in store.objects if FOLDER.name(key).startswith("segments/")]
    assert seen_by_a_new_machine(tmp_path, store) == before


def test_a_crowded_month_is_compacted_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(4)
    other = NewMachine(tmp_path, store)
    other.sync.sync()
    settings = load_settings(ENVIRON)
    asked: list[int] = []

    def compacted(*, chosen: bool = True) -> int:
        def is_chosen(machines: int) -> bool:
            asked.append(machines)
            return chosen

        compact_crowded_months(store, FOLDER, settings, other.database, lambda: True, {}, is_chosen)
        return len([name for name in map(FOLDER.name, store.objects) if name.startswith("months/")])

    monkeypatch.setattr(compaction, "CROWDED_FILES", 40)
    assert (compacted(), asked) == (0, [])
    monkeypatch.setattr(compaction, "CROWDED_FILES", 39)
    assert (compacted(chosen=False), asked) == (0, [3])  # one of three machines is enough
    assert compacted() == 1
    # What it wrote itself need not be read, and the month is not crowded any more.
    assert other.sync.sync().files == 0
    calls = len(store.calls)
    assert (compacted(), len(store.calls)) == (1, calls)
    other.database.close()


def test_a_month_that_another_machine_compacted_is_not_compacted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(5)
    other = NewMachine(tmp_path, store)
    other.sync.sync()
    compact(store)
    assert other.sync.sync().files == 1
    monkeypatch.setattr(compaction, "CROWDED_FILES", 39)
    calls = len(store.calls)
    compact_crowded_months(
        store, FOLDER, load_settings(ENVIRON), other.database, lambda: True, {}, lambda machines: True
    )
    assert len(store.calls) == calls
    other.database.close()


def test_segments_that_cannot_be_merged_are_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "CROWDED_FILES", 3)
    store = MemoryStore()

    def write_unmergeable(count: int) -> None:
        for number in range(count):
            write(store, [put(f"out/{number}.png", NOW), put("", NOW)])  # a row without a key is skipped

    write_unmergeable(4)
    other = NewMachine(tmp_path, store)
    other.sync.sync()
    unmerged: dict[str, int] = {}

    def reads(*, may_go_on: bool = True) -> int:
        before = len(store.calls)
        compact_crowded_months(
            store,
            FOLDER,
            load_settings(ENVIRON),
            other.database,
            lambda: may_go_on,
            unmerged,
            lambda machines: True,
        )
        return len([1 for operation, _ in store.calls[before:] if operation == "GetObject"])

    assert reads(may_go_on=False) == 0
    assert (reads(), reads()) == (4, 0)
    write_unmergeable(3)
    other.sync.sync()
    assert reads() == 0
    for number in range(4):
        write(store, [put(f"out/new-{number}.png", NOW)], now=NOW + number)
    other.sync.sync()
    assert (reads(), reads()) == (11, 0)
    assert len([name for name in map(FOLDER.name, store.objects) if name.startswith("months/")]) == 1
    other.database.close()


def test_what_a_large_file_of_the_month_replaced_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "CROWDED_FILES", 39)
    store = filled(6)
    other = NewMachine(tmp_path, store)

    def replaced() -> list[int]:
        other.sync.sync()
        before = set(store.objects)
        compact_crowded_months(
            store, FOLDER, load_settings(ENVIRON), other.database, lambda: True, {}, lambda machines: True
        )
        found = []
        for key in store.objects.keys() - before:
            decoded, body = Decoded(), store.objects[key].body
            list(decode([body], decoded, size_bytes=len(body)))
            found.append(len(decoded.replaces))
        return found

    assert replaced() == [40]
    monkeypatch.setattr(
        compaction, "MAX_GROUP_BYTES", 2 * max(len(one.body) for one in store.objects.values()) - 2
    )
    for number in range(40):
        write(store, [put(f"out/{number}.png", NOW)], now=NOW + 100 + number)
    seen = seen_by_a_new_machine(tmp_path, store)
    assert sum(replaced()) == 40
    assert seen_by_a_new_machine(tmp_path, store) == seen
    other.database.close()


@pytest.mark.parametrize(("code", "status", "reads"), [("AccessDenied", 403, 40), ("SlowDown", 503, 80)])
def test_a_month_whose_file_the_store_refuses_for_good_is_not_read_at_each_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int, reads: int
) -> None:
    monkeypatch.setattr(compaction, "CROWDED_FILES", 39)
    store = filled(7)
    other = NewMachine(tmp_path, store)
    other.sync.sync()
    store.on_call = lambda operation, key: (
        refuse(code, status, key) if operation == "PutObject" and "/months/" in key else None
    )
    before = len(store.calls)
    unmerged: dict[str, int] = {}
    refused = 0
    for _ in range(2):
        try:
            compact_crowded_months(
                store,
                FOLDER,
                load_settings(ENVIRON),
                other.database,
                lambda: True,
                unmerged,
                lambda machines: True,
            )
        except StoreError:
            refused += 1
    assert len([1 for operation, _ in store.calls[before:] if operation == "GetObject"]) == reads
    assert refused == reads // 40
    other.database.close()
