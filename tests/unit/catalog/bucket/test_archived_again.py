"""What a machine and the others know of a file that is archived or described again."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.assets import utc_time
from cloud_archive.catalog.bucket.names import parse_name
from cloud_archive.catalog.bucket.segment import Decoded, decode
from cloud_archive.catalog.bucket.tables import packed_of, unwritten_rows
from cloud_archive.catalog.bucket.tombstones import write_tombstones
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.jobs import add_jobs
from cloud_archive.ledger.history import mark_pruned

from ..cataloguing import BUCKET, Stage, graph, png
from ..filling import job
from .machines import FOLDER, NewMachine, gone, put, sync_of, write, writer_of


def test_a_file_that_is_archived_again_with_the_same_bytes_is_written_again(
    stage: Stage, tmp_path: Path
) -> None:
    writer = writer_of(stage)
    for mtime in (1_700_000_000.0, 1_700_000_060.0):
        stage.archive("a.png", png("a fox"), mtime=mtime)
        stage.fill()
        assert writer.write_all() == 1
        other = NewMachine(tmp_path, stage.store)
        other.sync.sync()
        (asset,) = other.found("fox")
        assert asset["created_at"] == utc_time(int(mtime * 1e9))
        # Another machine, whose rows are not read here yet.
        write_tombstones(stage.store, FOLDER, "pod-2", {asset["key"]: time.time()})
        other.sync.sync()
        assert other.found("fox") == []
        other.database.close()


def test_a_file_that_another_machine_archives_after_a_prune_stays(
    stage: Stage, elsewhere: NewMachine
) -> None:
    writer = writer_of(stage)
    key = stage.archive("a.png", png("a fox"))
    stage.fill()
    writer.write_all()
    mark_pruned(stage.ledger, stage.ledger.rows())
    write(stage.store, [put(key, time.time(), machine="pod-2", prompt="a hound")], machine="pod-2")
    stage.fill()  # this machine learns of the prune only now
    writer.write_all()
    elsewhere.sync.sync()
    assert [asset["key"] for asset in elsewhere.found("hound")] == [key]
    assert elsewhere.found("fox") == []


def test_a_key_that_was_overwritten_loses_its_place_in_a_pack(stage: Stage) -> None:
    """Else the old file's graphs and thumbnail would be shown as the new one's."""
    identity = asset_id(BUCKET, stage.archive("a.png", png("a fox")))
    stage.fill()
    writer_of(stage).write_all()
    with stage.database.reading() as db:
        assert packed_of(db, identity) is not None
    stage.archive("a.png", b"other bytes, and no graph", mtime=1_700_000_060.0)
    stage.fill()
    with stage.database.reading() as db:
        assert packed_of(db, identity) is None


def test_a_key_that_is_overwritten_while_its_row_is_written_gets_no_place_in_the_old_pack(
    stage: Stage,
) -> None:
    identity = asset_id(BUCKET, stage.archive("a.png", png("a fox")))
    stage.fill()

    def overwrite(operation: str, key: str) -> None:
        if operation == "PutObject":
            stage.store.on_call = lambda operation, key: None
            stage.archive("a.png", b"other bytes, and no graph", mtime=1_700_000_060.0)
            stage.fill()

    stage.store.on_call = overwrite
    assert writer_of(stage).write_next()
    with stage.database.reading() as db:
        assert packed_of(db, identity) is None
        assert unwritten_rows(db) == 1


def test_an_older_row_of_the_bucket_does_not_keep_a_job_from_being_written(
    stage: Stage, elsewhere: NewMachine
) -> None:
    """The job came after the first row, which a month file of another machine repeats."""
    stage.archive("a.png", png("a fox"))
    stage.fill()
    writer = writer_of(stage)
    writer.write_all()
    (segment,) = (key for key in stage.store.objects if parse_name(FOLDER.name(key)))
    body = stage.store.objects[segment].body
    job = {
        "job_id": "job-1",
        "finished_at": 1_700_000_001.0,
        "prompt": graph("a fox"),
        "outputs": [{"filename": "a.png", "node": "9"}],
    }
    stage.database.change(lambda db: add_jobs(db, [job]))
    stage.filler.wake()
    stage.fill()
    write(stage.store, list(decode([body], Decoded(), size_bytes=len(body))), machine="pod-2")
    sync_of(stage).sync()
    with stage.database.reading() as db:
        assert unwritten_rows(db) == 1
    writer.write_all()
    elsewhere.sync.sync()
    assert [asset["job_id"] for asset in elsewhere.found("fox")] == ["job-1"]


def test_a_put_that_a_sync_reads_before_it_leaves_the_queue_brings_its_pack(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.archive("a.png", png("of the file"))
    stage.fill()
    writer_of(stage).write_all()
    earlier = {name for name in stage.store.objects if name.endswith(".pack")}
    stage.database.change(lambda db: add_jobs(db, [job()]))
    stage.fill()
    write_object = stage.store.put

    def put_and_sync(key: str, *args: Any, **more: Any) -> Any:
        result = write_object(key, *args, **more)
        if "/segments/" in key:
            sync_of(stage).sync()
        return result

    monkeypatch.setattr(stage.store, "put", put_and_sync)
    writer_of(stage).write_all()
    (pack,) = {name for name in stage.store.objects if name.endswith(".pack")} - earlier
    with stage.database.reading() as db:
        packed = packed_of(db, asset_id(BUCKET, "out/a.png"))
    assert packed is not None
    assert pack == FOLDER.key(packed[0])


def test_a_key_that_was_overwritten_is_written_once_the_new_bytes_are_read(
    stage: Stage, elsewhere: NewMachine
) -> None:
    """Else other machines would take the old bytes' prompt for the new ones', and keep it."""
    stage.archive("a.png", png("a fox"))
    stage.fill()
    stage.archive("a.png", png("a hound"), mtime=1_700_000_060.0)
    assert stage.filler._follow_ledger()  # copied, not read
    writer = writer_of(stage)
    writer.write_all()
    elsewhere.sync.sync()
    stage.fill()
    writer.write_all()
    elsewhere.sync.sync()
    assert [one["metadata"]["prompt"] for one in elsewhere.found()] == ["a hound"]


def test_the_same_bytes_that_are_archived_after_an_unknown_deletion_stay(
    stage: Stage, elsewhere: NewMachine
) -> None:
    now = time.time()
    body = png("a fox")
    theirs = put("out/a.png", now - 100, machine="pod-2", prompt="a fox", sha256=sha256(body).hexdigest())
    write(stage.store, [theirs], machine="pod-2")
    syncing = sync_of(stage)
    syncing.sync()
    write(stage.store, [gone("out/a.png", now - 50)], machine="pod-2")
    stage.archive("a.png", body)  # this machine learns of the deletion only after that
    stage.fill()
    writer_of(stage).write_all()
    syncing.sync()
    stage.filler = stage.new_filler()  # it compares the whole ledger
    stage.fill()
    writer_of(stage).write_all()
    elsewhere.sync.sync()
    assert [(one["key"], one["machine"]) for one in elsewhere.found("fox")] == [("out/a.png", "pod-1")]
