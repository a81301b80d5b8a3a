"""Writing segments: when, what, and what is left where the store fails or the process is killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.assets import add_tags_and_note, edit_asset
from cloud_archive.catalog.bucket import outgoing
from cloud_archive.catalog.bucket.packs import unzip_graphs
from cloud_archive.catalog.bucket.tables import queue_deletions, queue_edits, queue_puts
from cloud_archive.catalog.bucket.writer import WRITE_AFTER_SECONDS, SegmentWriter
from cloud_archive.catalog.database import CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.graph_facts import Lora
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.rows import remove_assets
from cloud_archive.catalog.thumbnails.thumbnails import Thumbnails
from cloud_archive.errors import CatalogError, StoreError
from cloud_archive.ledger.history import mark_pruned
from tests.memory_store import refuse
from tests.servers import wait_until

from .. import writers
from ..cataloguing import BUCKET, Stage, add_described, graph, png
from .machines import FOLDER, NewMachine, segments, writer_of


def test_a_segment_and_its_pack_hold_what_the_catalog_knows(stage: Stage, tmp_path: Path) -> None:
    stage.archive("a.png", png("a red fox", 2**64 - 1))
    stage.archive("plain.txt", b"x")
    stage.fill()
    thumbnails = Thumbnails(tmp_path, stage.root, stage.store)
    thumbnails.open()
    writer = writer_of(stage, thumbnails=thumbnails)
    assert writer.unwritten() == 2
    writer._make_thumbnails()
    puts = stage.store.count("PutObject")
    assert writer.write_all() == 1
    thumbnails.close()
    assert stage.store.count("PutObject") - puts == 2
    assert writer.unwritten() == 0
    ((text, fox),) = [sorted(rows, key=lambda row: str(row["key"]), reverse=True) for rows in segments(stage)]
    assert (fox["key"], fox["prompt"], fox["seed"], fox["machine"]) == (
        "out/a.png",
        "a red fox",
        str(2**64 - 1),
        "pod-1",
    )
    assert (fox["has_prompt"], fox["width"], fox["models"]) == (True, 8, ["fox_v1.safetensors"])
    assert "prompt" not in text
    pack = stage.store.objects[FOLDER.key(fox["pack"])].body
    graphs = unzip_graphs(pack[fox["graphs_offset"] :][: fox["graphs_length"]])
    assert graphs == (graph("a red fox", 2**64 - 1), writers.WORKFLOW)
    assert pack[fox["thumbnail_offset"] :][: fox["thumbnail_length"]].startswith(b"RIFF")
    assert writer.write_all() == 0


def test_other_machines_read_the_row_of_a_file_with_a_very_long_prompt(
    stage: Stage, elsewhere: NewMachine
) -> None:
    stage.archive("a.png", png("fox " * 300_000))
    stage.fill()
    writer_of(stage).write_all()
    elsewhere.sync.sync()
    assert (len(elsewhere.found("fox")), elsewhere.troubles()) == (1, [])


def test_other_machines_read_the_row_of_a_file_with_very_long_names(
    stage: Stage, elsewhere: NewMachine
) -> None:
    many = tuple("狐" * 490 + str(number) for number in range(1000))
    found = Description(
        prompt="a fox " + "🦊" * 100_000,
        models=many,
        input_images=tuple("狐" * 2000 + str(number) for number in range(1000)),
        loras=tuple(Lora(name, 1.0) for name in many),
        sampler="euler",
    )
    add_described(stage.database, "out/a.png", found)
    (asset,) = stage.database.read("SELECT id FROM assets")
    stage.database.change(lambda db: queue_puts(db, [asset[0]]))
    writer_of(stage).write_all()
    elsewhere.sync.sync()
    assert (len(elsewhere.found("fox")), elsewhere.troubles()) == (1, [])


def test_a_segment_ends_before_its_puts_are_too_large(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "_MAX_CHARACTERS", 100_000)
    for number in range(5):
        stage.archive(f"{number}.png", png(f"fox {number} " * 6_000))
    stage.fill()
    assert writer_of(stage).write_all() == 2
    assert sorted(len(rows) for rows in segments(stage)) == [2, 3]


def test_a_row_stays_unwritten_until_its_segment_is_proven(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    writer = writer_of(stage)

    def fail(operation: str, key: str) -> None:
        if key.endswith(".jsonl.gz"):
            refuse("SlowDown", 503, key)

    stage.store.on_call = fail
    with pytest.raises(StoreError):
        writer.write_all()
    assert writer.unwritten() == 1
    assert len([key for key in stage.store.objects if key.endswith(".pack")]) == 1
    stage.store.on_call = lambda operation, key: None
    assert writer.write_all() == 1
    assert [[row["key"] for row in rows] for rows in segments(stage)] == [["out/a.png"]]


def test_a_row_that_changes_while_it_is_written_is_written_again(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    writer = writer_of(stage)
    identity = asset_id(BUCKET, "out/a.png")

    def edit(operation: str, key: str) -> None:
        stage.store.on_call = lambda operation, key: None
        stage.database.change(lambda db: edit_asset(db, identity, {"rating": 3}, 5.0, "pod-1"))
        stage.database.change(lambda db: queue_edits(db, identity.bytes, 5.0, "pod-1"))

    stage.store.on_call = edit
    assert writer.write_all() == 2
    assert [[row["op"] for row in rows] for rows in segments(stage)] == [["put"], ["set"]]
    assert writer.unwritten() == 0


def test_edits_of_one_moment_are_one_row(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    identity = asset_id(BUCKET, "out/a.png")
    for clock, changes in (
        (1.0, {"tags": ["old", "kept"], "rating": 2, "hidden": True}),
        (2.0, {"tags": ["kept", "new"], "note": "x", "favorite": True, "hidden": False}),
    ):
        stage.database.change(lambda db, c=clock, e=changes: edit_asset(db, identity, e, c, "pod-1"))  # type: ignore[misc]
        stage.database.change(lambda db, c=clock: queue_edits(db, identity.bytes, c, "pod-1"))  # type: ignore[misc]
    writer_of(stage).write_all()
    edits = [row for rows in segments(stage) for row in rows if row["op"] == "set"]
    first, second = sorted(edits, key=lambda row: float(row["clock"]))
    assert first == {
        "op": "set",
        "clock": 1.0,
        "machine": "pod-1",
        "key": "out/a.png",
        "rating": 2,
        "tags_added": ["kept"],
    }
    assert second == {
        "op": "set", "clock": 2.0, "machine": "pod-1", "key": "out/a.png", "favorite": True, "hidden": False,
        "note": "x", "tags_added": ["new"], "tags_removed": ["old"],
    }  # fmt: skip


def test_edits_of_a_file_that_is_not_catalogued_yet_are_written_with_it(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    identity = asset_id(BUCKET, "out/a.png")
    stage.database.change(lambda db: add_tags_and_note(db, identity, ["job"], "", 1.0, "pod-1"))
    stage.database.change(lambda db: queue_edits(db, identity.bytes, 1.0, "pod-1"))
    writer_of(stage).write_all()
    assert segments(stage) == []
    stage.fill()
    writer_of(stage).write_all()
    assert [row["tags_added"] for rows in segments(stage) for row in rows if row["op"] == "set"] == [["job"]]


def test_what_was_pruned_becomes_a_tombstone_no_earlier_than_its_put(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    writer = writer_of(stage)
    writer.write_all()
    mark_pruned(stage.ledger, stage.ledger.rows(limit=10))
    stage.filler.wake()
    stage.fill()
    assert writer.unwritten() == 1
    writer.write_all()
    (put,), (gone,) = segments(stage)
    assert (gone["op"], gone["key"]) == ("del", "out/a.png")
    assert gone["clock"] >= put["clock"]


def test_a_backlog_takes_two_requests_for_a_thousand_files(stage: Stage) -> None:
    for number in range(2500):
        add_described(stage.database, f"out/{number}.png", Description(prompt=f"fox {number}", source="png"))
    stage.database.change(
        lambda db: (
            db.execute(
                "INSERT INTO bucket_unwritten (uuid, kind, field, since) SELECT uuid, 0, '', 1.0 FROM assets"
            ).rowcount
        )
    )
    before = len(stage.store.calls)
    assert writer_of(stage).write_all() == 3
    assert len(stage.store.calls) - before <= 6
    assert [len(rows) for rows in segments(stage)] == [1000, 1000, 500]


def test_the_thread_writes_when_something_is_due_and_nothing_uploads(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    uploads, later = threading.Event(), [0.0]
    writer = writer_of(stage, may_write=lambda: not uploads.is_set(), clock=lambda: time.time() + later[0])
    writer.start()
    try:
        # Not before five minutes have passed, not while files are uploaded.
        assert writer._seconds_until_due() == pytest.approx(WRITE_AFTER_SECONDS, abs=60)
        assert writer.unwritten() == 1
        uploads.set()
        later[0] = WRITE_AFTER_SECONDS + 60
        writer.wake()
        assert writer._step() is not None
        assert writer.unwritten() == 1
        uploads.clear()
        writer.wake()
        wait_until(lambda: writer.unwritten() == 0, "written")
    finally:
        writer.stop()


def test_a_catalog_that_can_t_be_read_is_tried_again_only_after_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.bucket.writer._FIRST_RETRY_SECONDS", 600.0)
    tries = []

    def fail() -> CatalogDatabase:
        tries.append(1)
        raise CatalogError("The disk is gone.")

    writer = SegmentWriter(fail, stage.store, FOLDER, machine="pod-1", keep_graphs=True)
    with pytest.raises(CatalogError) as failed:
        writer._step()
    writer._postpone(failed.value, writer._wanted)
    wait = writer._step()
    assert wait is not None
    assert wait > 300.0
    assert len(tries) == 1


def test_after_a_damaged_catalog_was_replaced_thumbnails_are_made_again(stage: Stage, tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path, stage.root, stage.store)
    thumbnails.open()
    writer = writer_of(stage, thumbnails=thumbnails)
    for name in ("a.png", "b.png"):
        stage.archive(name, png(name))
    stage.fill()
    writer._make_thumbnails()
    stage._replace()
    stage.archive("c.png", png("c.png"))
    stage.filler = stage.new_filler()
    stage.fill()
    writer._make_thumbnails()
    writer.write_all()
    thumbnails.close()
    (rows,) = segments(stage)
    pictured = {row["key"] for row in rows if row.get("thumbnail_length")}
    assert pictured == {"out/a.png", "out/b.png", "out/c.png"}


@pytest.mark.parametrize("loss", ["damage", "older schema"])
def test_what_the_bucket_does_not_hold_yet_outlives_the_catalog(stage: Stage, loss: str) -> None:
    for name in ("written.png", "gone.png", "kept.png"):
        stage.archive(name, png(name))
    stage.fill()
    writer = writer_of(stage)
    identity = asset_id(BUCKET, "out/kept.png")

    def delete(db: Any, key: str, clock: float) -> None:
        queue_deletions(db, BUCKET, [key], clock, "pod-1")
        remove_assets(db, BUCKET, [key])

    def edit(db: Any) -> None:
        edit_asset(db, identity, {"rating": 3}, 5.0, "pod-1")
        queue_edits(db, identity.bytes, 5.0, "pod-1")

    stage.database.change(lambda db: delete(db, "out/written.png", 3e9))
    writer.write_all()
    stage.database.change(lambda db: delete(db, "out/gone.png", 4e9))
    stage.database.change(edit)
    before = len(segments(stage))
    if loss == "damage":
        stage._replace()
    else:
        stage.database.change(lambda db: db.execute("PRAGMA user_version = 3") and None)
        stage.database.close()
        stage.database, _ = open_catalog(stage.path)
    stage.archive("kept.png", png("kept.png"), mtime=1_700_000_001.0)
    stage.filler = stage.new_filler()
    stage.fill()
    writer.write_all()
    rows = [row for rows in segments(stage)[before:] for row in rows]
    assert [(row["key"], row["clock"]) for row in rows if row["op"] == "del"] == [("out/gone.png", 4e9)]
    assert [(row["key"], row["rating"]) for row in rows if row["op"] == "set"] == [("out/kept.png", 3)]
    assert stage.database.read("SELECT key FROM bucket_tombstones") == [("out/gone.png",)]


@pytest.mark.parametrize("step", ["open", "rescue"])
def test_a_replacement_of_the_catalog_that_fails_loses_no_edit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stage.archive("a.png", png("a.png"))
    stage.fill()
    identity = asset_id(BUCKET, "out/a.png")
    stage.database.change(lambda db: edit_asset(db, identity, {"rating": 3}, 5.0, "pod-1"))
    real_open = CatalogDatabase.open

    def fail(*of: Any) -> Any:
        if step == "open":
            real_open(*of)  # so the new file is there already
        raise CatalogError("The disk is full.")

    with monkeypatch.context() as patch:
        if step == "open":
            patch.setattr(CatalogDatabase, "open", fail)
        else:
            patch.setattr("cloud_archive.catalog.database.rescue", fail)
        for _ in range(2):
            with pytest.raises(CatalogError, match="disk is full"):
                stage._replace()
    stage._replace()
    assert stage.database.read("SELECT value FROM edits WHERE field = 'rating'") == [(3,)]
    assert len(list(stage.base.glob("catalog.damaged-*.sqlite3"))) == 1
