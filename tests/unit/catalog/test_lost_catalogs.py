"""A catalog that was deleted, is damaged or has an older schema: what is saved and filled again."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.bucket.tables import PUTS, WRITABLE, packed_of, queue_deletions, queue_edits
from cloud_archive.catalog.compressed import compress_graphs
from cloud_archive.catalog.database import CatalogDatabase, open_catalog, start_again
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.jobs import add_jobs
from cloud_archive.errors import CatalogDamaged, CatalogError
from cloud_archive.ledger.recovery import move_aside
from tests.unit.catalog.filling import found, job

from .bucket.machines import NewMachine, put, sync_of, write, writer_of
from .cataloguing import BUCKET, Stage, graph, png


def test_a_deleted_catalog_gives_the_same_results_once_it_is_filled_again(stage: Stage) -> None:
    for number in range(5):
        stage.archive(f"sub/{number}.png", png(f"fox number {number}", number))
    stage.fill()
    before = found(stage)
    stage.database.close()
    for suffix in ("", "-wal", "-shm"):
        stage.path.with_name(stage.path.name + suffix).unlink(missing_ok=True)
    stage.database, _ = open_catalog(stage.path)
    stage.filler = stage.new_filler()
    stage.fill()
    assert found(stage) == before
    assert len(found(stage, '"number 3"')) == 1


def test_a_catalog_of_another_bucket_is_filled_again(stage: Stage) -> None:
    stage.archive("fox.png", png("fox"))
    stage.fill()
    identity = asset_id(BUCKET, "out/fox.png")
    stage.database.change(lambda db: edit_asset(db, identity, {"rating": 5}, 1.0, "pod-1"))
    stage.database.change(lambda db: queue_deletions(db, BUCKET, ["out/old.png"], 1.0, "pod-1"))
    stage.database.forget_other_bucket(BUCKET)
    before = found(stage)
    assert [asset["rating"] for asset in before] == [5]

    stage.database.forget_other_bucket("moved")
    stage.filler = stage.new_filler(bucket="moved")
    stage.fill()
    assert [(asset["id"], asset["rating"]) for asset in found(stage)] == [
        (str(asset_id("moved", "out/fox.png")), 0)
    ]
    kinds = stage.database.read(f"SELECT kind FROM bucket_unwritten WHERE {WRITABLE}")
    assert kinds == [(PUTS,)], "no deletion of the other bucket"

    stage.database.forget_other_bucket(BUCKET)
    stage.filler = stage.new_filler()
    stage.fill()
    assert found(stage) == before


@pytest.mark.parametrize("damage", ["header", "page", "empty", "schema", "name"])
def test_a_damaged_catalog_is_kept_aside_and_its_edits_and_jobs_are_saved(stage: Stage, damage: str) -> None:
    for number in range(60):
        stage.archive(f"{number}.png", png(f"fox number {number} " + "long " * 200, number))
    stage.fill()
    identity = asset_id(BUCKET, "out/7.png")
    stage.database.change(lambda db: edit_asset(db, identity, {"tags": ["best"]}, 1.0, "pod-1"))
    stage.database.change(lambda db: add_jobs(db, [job()]))
    stage.fill()
    before = found(stage)
    stage.database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    page = stage.database.read("SELECT rootpage FROM sqlite_master WHERE name = 'assets'")[0][0]
    stage.database.close()
    size = stage.path.stat().st_size
    with stage.path.open("r+b") as file:
        if damage == "header":
            file.write(b"x" * 50)
        elif damage == "empty":
            file.truncate(0)
        elif damage == "page":
            file.seek((page - 1) * 4096)
            file.write(os.urandom(4096))
        elif damage == "name":
            file.seek(file.read().rindex(b"tableeditsedits") + 5)
            file.write(b"\xf3")  # no text: the error that names the table can't be decoded
    if damage == "schema":
        with sqlite3.connect(stage.path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    assert size > 4096
    stage.database, _ = open_catalog(stage.path)
    stage.filler = stage.new_filler()
    stage.filler.start()
    assert stage.filler.caught_up.wait(60)
    stage.filler.stop()
    after = found(stage)
    if damage in ("header", "empty", "name"):
        for asset in (*before, *after):
            asset["tags"] = []  # nothing of the old file can be read
        assert after == before
    else:
        assert after == before
        assert found(stage, "tag:best")[0]["name"] == "7.png"
        assert stage.database.read("SELECT count(*) FROM jobs") == [(1,)]
    if damage != "empty":
        assert list(stage.base.glob("catalog.damaged-*"))


def test_a_damaged_catalog_that_is_in_use_is_replaced_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def move_aside_later(path: Path) -> Path:
        tries.append(path)
        if len(tries) == 1:
            raise PermissionError("another process has it open")
        return move_aside(path)

    check = stage.database.check

    def find_damage() -> None:
        check()  # raises CatalogError once the catalog is closed
        raise CatalogDamaged("The catalog is damaged.")

    stage.archive("a.png", png("a fox"))
    monkeypatch.setattr("cloud_archive.catalog.database.move_aside", move_aside_later)
    monkeypatch.setattr("cloud_archive.catalog.filler.TROUBLE_SECONDS", 0.01)
    monkeypatch.setattr(stage.database, "check", find_damage)
    stage.filler.start()
    assert stage.filler.caught_up.wait(60)
    stage.filler.stop()
    assert len(tries) == 2
    assert len(found(stage, "fox")) == 1


OLDER_TABLES = (
    "CREATE TABLE edits (uuid BLOB NOT NULL, field TEXT NOT NULL, value NOT NULL, clock REAL NOT NULL,"
    " machine TEXT NOT NULL, PRIMARY KEY (uuid, field)) WITHOUT ROWID",
    "CREATE TABLE jobs (job_id TEXT PRIMARY KEY, client_id TEXT, finished_at REAL NOT NULL, status TEXT,"
    " graphs BLOB NOT NULL, options TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE outputs (path TEXT NOT NULL, finished_at REAL NOT NULL, job_id TEXT NOT NULL, node TEXT,"
    " type TEXT NOT NULL, PRIMARY KEY (path, finished_at, job_id)) WITHOUT ROWID",
    "CREATE TABLE assets (id INTEGER PRIMARY KEY, uuid BLOB NOT NULL)",
    "CREATE TABLE recipes (id INTEGER PRIMARY KEY, texts TEXT)",
    "CREATE VIRTUAL TABLE recipe_text USING fts5(text, content='', columnsize=0, tokenize='trigram')",
    "PRAGMA user_version = 1",
)


def test_a_catalog_of_an_older_schema_is_made_anew_with_its_edits_and_jobs(stage: Stage) -> None:
    stage.archive("a.png", png("from the file"))
    stage.database.close()
    for path in stage.base.glob("catalog.sqlite3*"):
        path.unlink()
    identity = asset_id(BUCKET, "out/a.png")
    with sqlite3.connect(stage.path) as db:
        for statement in OLDER_TABLES:
            db.execute(statement)
        db.execute("INSERT INTO edits VALUES (?, 'rating', 5, 1.0, 'pod-1')", (identity.bytes,))
        graphs = compress_graphs(graph("from the job"), None)
        db.execute("INSERT INTO jobs VALUES ('job-1', NULL, 1700000001.0, 'success', ?, '{}')", (graphs,))
        db.execute("INSERT INTO outputs VALUES ('a.png', 1700000001.0, 'job-1', '9', 'output')")
        db.execute("INSERT INTO assets VALUES (1, ?)", (identity.bytes,))
    db.close()
    with pytest.raises(CatalogError, match="another version"):
        CatalogDatabase(stage.path, read_only=True).open()
    stage.database, notices = open_catalog(stage.path)
    assert notices == []
    stage.filler = stage.new_filler()
    stage.fill()
    (asset,) = found(stage)
    assert (asset["rating"], asset["job_id"]) == (5, "job-1")
    assert asset["metadata"]["prompt"] == "from the job"
    assert not list(stage.base.glob("*damaged*"))
    tables = {row[0] for row in stage.database.read("SELECT name FROM sqlite_master")}
    assert not any(name.startswith("recipe_text") for name in tables)


def test_an_edit_that_was_saved_is_written_once_its_asset_is_known_again(
    stage: Stage, elsewhere: NewMachine
) -> None:
    """The asset may be another machine's, and be read from the bucket only after the first rows were written."""
    identity = asset_id(BUCKET, "out/a.png")
    write(stage.store, [put("out/a.png", machine="pod-2")], machine="pod-2")
    sync = sync_of(stage)
    sync.sync()
    stage.database.change(lambda db: edit_asset(db, identity, {"rating": 4}, 5.0, "pod-1"))
    stage.database.change(lambda db: queue_edits(db, identity.bytes, 5.0, "pod-1"))
    stage.database.close()
    stage.database, _ = start_again(stage.path)
    writer = writer_of(stage)
    assert (writer.write_all(), writer.unwritten()) == (0, 0)
    sync_of(stage).sync()
    assert (writer.unwritten(), writer.write_all()) == (1, 1)
    elsewhere.sync.sync()
    assert [one["rating"] for one in elsewhere.found()] == [4]


def test_a_job_that_was_saved_describes_a_file_whose_row_in_the_bucket_lacks_it(
    stage: Stage, elsewhere: NewMachine
) -> None:
    key = stage.archive("7.png", png("a fox"))
    stage.fill()
    writer_of(stage).write_all()
    stage.database.change(lambda db: add_jobs(db, [job(filename="7.png")]))
    stage.database.close()
    stage.database, _ = start_again(stage.path)
    stage.filler = stage.new_filler()
    assert stage.filler._follow_ledger()  # copied, not read
    sync_of(stage).sync()
    stage.fill()
    writer_of(stage).write_all()
    elsewhere.sync.sync()
    assert [(one["key"], one["job_id"]) for one in elsewhere.found()] == [(key, "job-1")]


def _lose_a_written_job(stage: Stage) -> str:
    """Archive `7.png`, write its job into the bucket, and delete the catalog. Return the file's key."""
    key = stage.archive("7.png", png("of the file"))
    stage.database.change(lambda db: add_jobs(db, [job(filename="7.png")]))
    stage.fill()
    writer_of(stage).write_all()
    stage.database.close()
    for suffix in ("", "-wal", "-shm"):
        stage.path.with_name(stage.path.name + suffix).unlink(missing_ok=True)
    stage.database, _ = open_catalog(stage.path)
    stage.filler = stage.new_filler()
    return key


def test_a_job_that_the_bucket_tells_of_while_its_file_is_read_stays(
    stage: Stage, elsewhere: NewMachine
) -> None:
    key = _lose_a_written_job(stage)
    (stage.root / "7.png").unlink()

    def follow(operation: str, read: str) -> None:
        if read == key:
            stage.store.on_call = lambda operation, key: None
            sync_of(stage).sync()

    stage.store.on_call = follow
    stage.fill()
    writer_of(stage).write_all()
    elsewhere.sync.sync()
    for one in (*found(stage), *elsewhere.found()):
        assert (one["job_id"], one["metadata"]["prompt"]) == ("job-1", "from the job")


def test_graphs_that_the_bucket_tells_of_while_the_file_is_written_stay(stage: Stage) -> None:
    _lose_a_written_job(stage)
    stage.fill()

    def follow(operation: str, written: str) -> None:
        if "/segments/" in written:
            stage.store.on_call = lambda operation, key: None
            sync_of(stage).sync()

    (pack,) = (name for name in stage.store.objects if name.endswith(".pack"))
    stage.store.on_call = follow
    writer_of(stage).write_all()
    assert [one["job_id"] for one in found(stage)] == ["job-1"]
    with stage.database.reading() as db:
        packed = packed_of(db, asset_id(BUCKET, "out/7.png"))
    assert packed is not None
    assert pack.endswith(packed[0])
