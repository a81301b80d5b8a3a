"""Filling: from the ledger, the local file, the bucket, the job; after kills, damage and deletion."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.compressed import compress_graphs, decompress_graphs
from cloud_archive.catalog.database import CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description, Job
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.jobs import add_jobs
from cloud_archive.catalog.reading import AssetReader
from cloud_archive.catalog.rows import AssetFile
from cloud_archive.catalog.search import search
from cloud_archive.errors import CatalogDamaged, CatalogError, StoreError
from cloud_archive.ledger.history import mark_pruned
from cloud_archive.ledger.recovery import move_aside
from tests.memory_store import MemoryStore, refuse
from tests.servers import wait_until

from . import writers
from .cataloguing import BUCKET, Stage, graph, png, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as stage:
        yield stage


def found(stage: Stage, query: str = "") -> list[dict[str, Any]]:
    with stage.database.reading() as db:
        return search(db, query, sort="name", order="asc").assets


def job(seed: int = 7, prompt: str = "from the job", filename: str = "a.png", **more: Any) -> dict[str, Any]:
    return {
        "job_id": "job-1",
        "client_id": "c",
        "finished_at": 1_700_000_001.0,
        "status": "success",
        "prompt": graph(prompt, seed),
        "workflow": writers.WORKFLOW,
        "outputs": [{"node": "9", "filename": filename, "subfolder": "", "type": "output"}],
        "options": {},
    } | more


def test_archived_files_are_described_from_disk(stage: Stage) -> None:
    stage.archive("a.png", png("a red fox", 2**64 - 1))
    stage.archive("sub/b.mp4", writers.core_mp4())
    stage.fill()
    (fox,) = found(stage, '"a red fox"')
    assert (fox["metadata"]["seed"], fox["metadata"]["source"]) == (2**64 - 1, "png")
    assert (fox["has_workflow"], fox["has_prompt"]) == (True, True)
    assert (fox["machine"], fox["session_id"], fox["key"]) == ("pod-1", "session-1", "out/a.png")
    assert len(found(stage)) == 2
    assert stage.store.count("GetObject") == 0


def test_a_file_that_is_gone_is_read_from_the_bucket_by_ranges(stage: Stage) -> None:
    body = png("a lost fox")
    stage.archive("a.png", body)
    (stage.root / "a.png").unlink()
    stage.fill()
    assert found(stage, "lost")[0]["width"] == 8
    assert 1 <= stage.store.count("GetObject") <= 3


def test_a_local_file_that_is_another_one_is_not_described(stage: Stage) -> None:
    stage.archive("a.png", png("the archived fox"))
    (stage.root / "a.png").write_bytes(png("a later cat"))
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["the archived fox"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_no_symbolic_link_is_followed(stage: Stage) -> None:
    body = png("inside")
    stage.archive("sub/a.png", body)
    outside = stage.base / "outside"
    (stage.root / "sub").rename(outside)
    (stage.root / "sub").symlink_to(outside)
    stage.fill()
    assert stage.store.count("GetObject") > 0
    assert len(found(stage, "inside")) == 1


def test_nothing_is_read_while_something_uploads(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    (stage.root / "b.png").write_bytes(b"b")
    from cloud_archive.files import stat_version

    stage.ledger.add([stat_version(stage.root, "b.png")])
    claim = stage.ledger.claim("worker")
    assert claim is not None
    assert stage.filler.fill() is False
    assert found(stage) == []
    stage.ledger.mark_vanished(claim)
    stage.fill()
    assert len(found(stage)) == 1


def test_the_job_wins_over_the_file_also_where_it_comes_later(stage: Stage) -> None:
    stage.archive("a.png", png("from the file", 1))
    stage.archive("plain.png", writers.saved(writers.picture(), format="PNG"))
    stage.fill()
    outputs = [
        {"node": "9", "filename": name, "subfolder": "", "type": "output"} for name in ("a.png", "plain.png")
    ]
    assert stage.database.change(lambda db: add_jobs(db, [job(outputs=outputs)])) == 1
    stage.filler.wake()
    stage.fill()
    both = found(stage)
    assert [asset["metadata"]["prompt"] for asset in both] == ["from the job"] * 2
    assert {asset["job_id"] for asset in both} == {"job-1"}
    assert both[0]["metadata"]["source"] == "job"


def test_a_later_job_is_found_for_a_file_whose_key_got_another_name(stage: Stage) -> None:
    stage.archive("sub/a.png", png("from the file"), key="out/sub/a (1).png")
    stage.fill()
    outputs = [{"node": "9", "filename": "a.png", "subfolder": "sub", "type": "output"}]
    stage.database.change(lambda db: add_jobs(db, [job(outputs=outputs)]))
    stage.fill()
    (asset,) = found(stage)
    assert (asset["path"], asset["job_id"]) == ("sub/a.png", "job-1")
    assert asset["metadata"]["prompt"] == "from the job"


def test_a_job_that_comes_while_its_file_is_read_is_not_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = AssetReader.describe

    def describe_and_add_job(reader: AssetReader, asset: AssetFile) -> tuple[Description, Job | None]:
        description = describe(reader, asset)
        monkeypatch.undo()
        stage.database.change(lambda db: add_jobs(db, [job()]))
        return description

    stage.archive("a.png", png("from the file"))
    monkeypatch.setattr(AssetReader, "describe", describe_and_add_job)
    stage.fill()
    (asset,) = found(stage)
    assert (asset["job_id"], asset["metadata"]["prompt"]) == ("job-1", "from the job")


def test_a_job_that_ended_before_the_file_was_written_did_not_write_it(stage: Stage) -> None:
    stage.database.change(lambda db: add_jobs(db, [job(finished_at=1_600_000_000.0)]))
    stage.archive("a.png", png("from the file"))
    stage.fill()
    assert found(stage)[0]["metadata"]["prompt"] == "from the file"


def test_of_two_jobs_the_one_that_wrote_the_file_counts(stage: Stage) -> None:
    later = job(prompt="a rerun that wrote nothing", job_id="job-2", finished_at=1_700_009_000.0)
    stage.database.change(lambda db: add_jobs(db, [later, job()]))
    stage.archive("a.png", png("from the file"))
    stage.fill()
    assert found(stage)[0]["job_id"] == "job-1"


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"job_id": 1},
        {"job_id": "x"},
        {"job_id": "x", "prompt": {}, "finished_at": float("nan")},
        job(outputs=3),
    ],
)
def test_a_job_of_another_shape_harms_nothing(stage: Stage, bad: dict[str, Any]) -> None:
    stage.database.change(lambda db: add_jobs(db, [bad, job(job_id="good")]))
    assert stage.database.read("SELECT count(*) FROM jobs WHERE job_id = 'good'") == [(1,)]


def test_a_job_without_a_graph_is_named_by_its_files(stage: Stage) -> None:
    stage.database.change(lambda db: add_jobs(db, [job(workflow=None) | {"prompt": None}]))
    stage.archive("a.png", png("from the file"))
    stage.fill()
    (asset,) = found(stage, "job:job-1")
    assert (asset["metadata"]["prompt"], asset["metadata"]["source"]) == ("from the file", "png")


def test_fields_keeps_what_a_job_says_and_no_graph(stage: Stage) -> None:
    stage.filler = stage.new_filler(keep_graphs=False)
    stage.archive("plain.png", writers.saved(writers.picture(), format="PNG"))
    one = job(filename="plain.png", seed=2**64 - 1)
    stage.database.change(lambda db: add_jobs(db, [one], keep_graphs=False))
    assert stage.database.read("SELECT graphs FROM jobs") == [(None,)]
    stage.fill()
    (asset,) = found(stage, '"from the job" seed:18446744073709551615')
    assert (asset["job_id"], asset["metadata"]["source"], asset["has_prompt"]) == ("job-1", "job", False)
    assert asset["metadata"]["models"] == ["fox_v1.safetensors"]
    assert stage.database.read("SELECT count(*) FROM graphs") == [(0,)]


def test_graphs_go_when_only_fields_are_to_be_kept(stage: Stage) -> None:
    stage.archive("a.png", png("from the file"))
    stage.archive("b.png", png("another file"))
    stage.database.change(lambda db: add_jobs(db, [job()]))
    stage.fill()
    before = found(stage)
    assert stage.database.read("SELECT count(*) FROM graphs") == [(2,)]
    stage.filler = stage.new_filler(keep_graphs=False)
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = 0") and None)
    stage.fill()
    assert stage.database.read("SELECT count(*) FROM jobs WHERE graphs IS NOT NULL") == [(0,)]
    assert stage.database.read("SELECT count(*) FROM graphs") == [(0,)]
    after = found(stage)
    # What the file holds is still there to be asked for; the job's graph is not.
    assert [one["metadata"] for one in after] == [one["metadata"] for one in before]


def test_secrets_of_a_job_are_not_stored(stage: Stage) -> None:
    secret = "sk-" + "Ab3" * 12
    prompt = graph("a fox") | {"20": {"class_type": "ApiNode", "inputs": {"api_key": secret}}}
    stage.database.change(lambda db: add_jobs(db, [job() | {"prompt": prompt}]))
    stage.archive("a.png", png("x"))
    stage.fill()
    stage.close()
    with sqlite3.connect(stage.path) as db:
        blobs = [row[0] for row in db.execute("SELECT graphs FROM jobs UNION ALL SELECT data FROM graphs")]
    assert blobs
    assert all(secret not in repr(decompress_graphs(blob)) for blob in blobs)
    db.close()
    assert secret.encode() not in stage.path.read_bytes()


def test_the_companion_picture_of_a_video_is_read(stage: Stage) -> None:
    video = b"\0\0\0\x18ftypmp42" + bytes(200)
    stage.archive("clip_00001.mp4", video)
    stage.archive("clip_00001.png", png("a moving fox"))
    (stage.root / "clip_00001.mp4").unlink()
    stage.archive("gone_00001-audio.mp4", video)
    stage.archive("gone_00001.png", png("a distant fox"))
    for name in ("gone_00001-audio.mp4", "gone_00001.png"):
        (stage.root / name).unlink()
    stage.fill()
    prompts = {asset["name"]: asset["metadata"]["prompt"] for asset in found(stage)}
    assert prompts["clip_00001.mp4"] == "a moving fox"
    assert prompts["gone_00001-audio.mp4"] == "a distant fox"


def test_a_pruned_object_leaves_the_catalog_and_its_edits_stay(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    identity = asset_id(BUCKET, "out/a.png")
    stage.database.change(lambda db: edit_asset(db, identity, {"rating": 5}, 1.0, "pod-1"))
    rows = stage.ledger.rows(limit=5)
    mark_pruned(stage.ledger, [row.row for row in rows])
    stage.fill()
    assert found(stage) == []
    assert found(stage, "fox") == []
    stage.record("a.png", png("a fox"))
    stage.fill()
    assert [asset["rating"] for asset in found(stage, "fox")] == [5]


def test_a_replaced_object_is_read_again(stage: Stage) -> None:
    stage.archive("a.png", png("the first"))
    stage.fill()
    stage.archive("a.png", png("the second one"), mtime=1_700_000_100.0)
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["the second one"]
    filler = stage.new_filler()
    assert filler.fill() is False  # nothing changed, so nothing is read again


def test_a_file_that_cannot_be_read_now_is_found_by_name_and_read_later(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    (stage.root / "a.png").unlink()
    real = stage.store.read

    def failing(*_: Any, **__: Any) -> Any:
        refuse("SlowDown", 503, "out/a.png")

    stage.store.read = failing  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        stage.fill()
    assert [asset["name"] for asset in found(stage, "a.png")] == ["a.png"]
    stage.store.read = real  # type: ignore[method-assign]
    stage.database.change(lambda db: db.execute("UPDATE assets SET next_try = 0") and None)
    stage.fill()
    assert len(found(stage, "fox")) == 1


def test_the_thread_fills_and_stops(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.filler.start()
    assert stage.filler.caught_up.wait(60)
    assert "cloud-archive-catalog" in {thread.name for thread in threading.enumerate()}
    stage.filler.stop()
    assert "cloud-archive-catalog" not in {thread.name for thread in threading.enumerate()}
    assert len(found(stage, "fox")) == 1


def test_what_is_archived_later_is_read_without_polling(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.filler.IDLE_SECONDS", 3600.0)
    monkeypatch.setattr("cloud_archive.catalog.filler.GATHER_SECONDS", 0.0)
    looks: list[bool] = []
    fill = stage.filler.fill

    def counted() -> bool:
        looks.append(fill())
        return looks[-1]

    monkeypatch.setattr(stage.filler, "fill", counted)
    stage.filler.start()
    assert stage.filler.caught_up.wait(60)
    resting = len(looks)
    assert not stage.filler._committed.wait(1.2), "an idle ledger wakes nobody"
    assert len(looks) == resting
    stage.archive("a.png", png("a fox"))
    wait_until(lambda: bool(found(stage, "fox")), "the catalog holds the new file")


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


@pytest.mark.parametrize("damage", ["header", "page", "empty", "schema"])
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
    if damage in ("header", "empty"):
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
    assert stage.filler.caught_up.wait(10)
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


def test_memory_store_ranges() -> None:
    store = MemoryStore()
    store.add("k", b"0123456789")
    assert b"".join(store.read("k", 3, byte_range=range(2, 5))) == b"234"


def test_what_an_older_reader_has_read_is_read_again(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = -1, recipe = NULL") and None)
    assert found(stage, '"a fox"') == []
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = 1") and None)
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr("cloud_archive.catalog.rows.READER_VERSION", 2)
        stage.filler = stage.new_filler()
        stage.fill()
        assert len(found(stage, '"a fox"')) == 1
        assert stage.database.read("SELECT reader FROM assets") == [(2,)]


def test_a_newer_reader_reads_the_stored_graph_and_not_the_file(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = stage.archive("a.png", png("a fox", 7))
    stage.archive("text.png", writers.parameters_png())
    stage.fill()
    before = found(stage)
    (stage.root / "a.png").unlink()
    del stage.store.objects[key]
    stage.store.calls.clear()
    monkeypatch.setattr("cloud_archive.catalog.rows.READER_VERSION", 2)
    stage.filler = stage.new_filler()
    stage.fill()
    assert found(stage) == before
    assert stage.database.read("SELECT DISTINCT reader FROM assets") == [(2,)]
    assert stage.store.calls == []


def test_a_replaced_object_is_read_and_not_its_old_graph(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    key = stage.archive("a.png", png("a cat"), mtime=1_700_000_100.0)
    assert key == "out/a.png"
    stage.filler = stage.new_filler()
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["a cat"]


def test_totals_follow_what_is_hidden_added_and_removed(stage: Stage) -> None:
    for name in ("a.png", "b.png"):
        stage.archive(name, png(name))
    stage.fill()
    identity = asset_id(BUCKET, "out/a.png")
    stage.database.change(lambda db: edit_asset(db, identity, {"hidden": True}, 1.0, "pod-1"))
    with stage.database.reading() as db:
        assert (search(db).total, search(db, "is:hidden").total) == (1, 1)
    mark_pruned(stage.ledger, [row.row for row in stage.ledger.rows(limit=5)])
    stage.fill()
    with stage.database.reading() as db:
        assert (search(db).total, search(db, "is:hidden").total) == (0, 0)
    assert stage.database.read("SELECT * FROM tallies") == []


def test_a_store_that_hangs_does_not_hold_up_the_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_archive.catalog.filler.STOP_SECONDS", 0.2)
    stage.archive("a.png", png("a fox"))
    (stage.root / "a.png").unlink()
    asked, answer = threading.Event(), threading.Event()

    def hanging(*_: Any, **__: Any) -> Any:
        asked.set()
        answer.wait(60)
        return iter((b"",))

    stage.store.read = hanging  # type: ignore[method-assign]
    stage.filler.start()
    assert asked.wait(60)
    stage.filler.stop()
    stage.database.close()
    answer.set()
    stage.filler._thread.join(60)
    assert not stage.filler._thread.is_alive()
