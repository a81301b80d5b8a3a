"""Rows that belong into the catalog of another S3_PREFIX: they wait, and are written once a writer has that prefix."""

from __future__ import annotations

from typing import Any

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.bucket.names import CatalogFolder
from cloud_archive.catalog.bucket.tables import queue_deletions, queue_edits
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.rows import remove_assets

from ..cataloguing import BUCKET, Stage, png
from .machines import NewMachine, segments, writer_of


def test_after_a_change_of_the_prefix_older_rows_wait_for_the_catalog_that_they_belong_to(
    stage: Stage, elsewhere: NewMachine
) -> None:
    for name in ("a.png", "b.png"):
        stage.archive(name, png(name))
    stage.fill()
    identity = asset_id(BUCKET, "out/a.png")

    def change(db: Any) -> None:
        edit_asset(db, identity, {"favorite": True}, 5.0, "pod-1")
        queue_edits(db, identity.bytes, 5.0, "pod-1")
        queue_deletions(db, BUCKET, ["out/b.png"], 3e9, "pod-1")

    stage.database.change(change)
    before = dict(stage.store.objects)
    other = writer_of(stage, folder=CatalogFolder.of("elsewhere"))
    other.write_all()
    assert (stage.store.objects, other.unwritten()) == (before, 0)
    writer_of(stage).write_all()  # as a command does, while no engine runs
    elsewhere.sync.sync()
    assert [(one["key"], one["favorite"]) for one in elsewhere.found()] == [("out/a.png", True)]


def test_a_flush_writes_what_a_command_with_another_prefix_has_set_aside(stage: Stage) -> None:
    writer = writer_of(stage)
    writer.start()
    try:
        assert writer.flush(60)
        stage.archive("a.png", png("a fox"))
        stage.fill()
        writer_of(stage, folder=CatalogFolder.of("elsewhere")).write_all()
        assert writer.unwritten() == 0
        assert writer.flush(60)
    finally:
        writer.stop()
    assert [[row["key"] for row in rows] for rows in segments(stage)] == [["out/a.png"]]


def test_what_was_set_aside_and_is_gone_or_changed_since_is_not_written(stage: Stage) -> None:
    for name in ("gone.png", "again.png"):
        stage.archive(name, png(name))
    stage.fill()
    other = writer_of(stage, folder=CatalogFolder.of("elsewhere"))
    other.write_all()
    stage.database.change(lambda db: queue_deletions(db, BUCKET, ["out/gone.png"], 3e9, "pod-1"))
    stage.database.change(lambda db: remove_assets(db, BUCKET, ["out/gone.png"]))
    stage.archive("again.png", png("other bytes"))
    stage.filler.wake()
    stage.fill()
    other.write_all()
    ids = [row[0] for row in stage.database.read("SELECT id FROM bucket_unwritten")]
    assert len(ids) == 2
    assert max(ids) < 0
    writer_of(stage).write_all()
    (rows,) = segments(stage)
    assert [(row["op"], row["key"], row.get("prompt")) for row in rows] == [
        ("del", "out/gone.png", None),
        ("put", "out/again.png", "other bytes"),
    ]
    assert stage.database.read("SELECT * FROM bucket_unwritten") == []
