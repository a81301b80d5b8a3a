"""The catalog in a real bucket: written at stop and flush, with keys that may only put, and after kills."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.catalog.bucket.copy import opened_catalog
from cloud_archive.catalog.bucket.names import CatalogFolder, new_names, parse_name
from cloud_archive.catalog.bucket.segment import Decoded, decode, encode
from cloud_archive.catalog.export import asset_rows
from cloud_archive.catalog.identity import asset_id
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import RequestRefused
from cloud_archive.store.s3 import S3Store
from tests.commands import read_json, run_command
from tests.filled import wait_until_filled
from tests.functional.jobs import output, passed_job
from tests.servers import S3Server, wait_until
from tests.unit.catalog import writers
from tests.unit.catalog.cataloguing import graph, png

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]
FOLDER = CatalogFolder.of("out")


def rows_in(server: S3Server) -> list[dict[str, Any]]:
    """Return all rows of all segments in the bucket."""
    found: list[dict[str, Any]] = []
    for key, body in server.objects(FOLDER.base).items():
        if parse_name(FOLDER.name(key)):
            found += decode([body], Decoded(), size_bytes=len(body))
    return found


def test_flush_and_stop_leave_no_row_unwritten(tmp_path: Path, any_s3: S3Server) -> None:
    archive = Archive(tmp_path, any_s3)
    archive.write("a.png", png("a red fox"))
    with archive.running() as engine:
        wait_until(lambda: engine.status().archived_files == 1, "archived")
        assert engine.flush(60)
        assert engine.status().unwritten_rows == 0
        assert [row["prompt"] for row in rows_in(any_s3)] == ["a red fox"]
        archive.write("b.png", png("a black cat"))
        wait_until(lambda: engine.status().archived_files == 2, "archived")
        assert engine.drain(60)
    assert sorted(row["key"] for row in rows_in(any_s3)) == ["out/a.png", "out/b.png"]


def test_sigterm_leaves_no_row_unwritten(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", png("a red fox"))
    environ = {**os.environ, **archive.environ, "CLOUD_ARCHIVE_BACKFILL": "all"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cloud_archive", "watch", str(archive.root)], env=environ
    )
    try:
        wait_until(lambda: "out/a.png" in seaweedfs.keys("out/"), "archived")
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert [(row["key"], row["prompt"]) for row in rows_in(seaweedfs)] == [("out/a.png", "a red fox")]


def test_a_key_that_may_only_put_writes_segments(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.environ |= seaweedfs.put_only()
    archive.write("a.png", png("a red fox"))
    with archive.running() as engine:
        wait_until(lambda: engine.status().archived_files == 1, "archived")
        assert engine.flush(60)
    assert [row["key"] for row in rows_in(seaweedfs)] == ["out/a.png"]


@pytest.fixture
def elsewhere(tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """A machine archived two pictures and ended; commands run on another one, which knows only the bucket."""
    archive = Archive(tmp_path, seaweedfs)
    archive.environ["CLOUD_ARCHIVE_MACHINE_NAME"] = "pod-1"
    archive.write("sub/fox.png", png("a red fox", 2**64 - 1))
    archive.write("cat.png", png("a black cat"))
    with archive.running() as engine:
        wait_until(lambda: engine.status().archived_files == 2, "archived")
        assert engine.drain(60)
    for name, value in archive.environ.items():
        monkeypatch.setenv(name, value)
    return archive


def test_commands_without_a_directory_read_the_bucket_s_catalog(
    elsewhere: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    (fox,) = read_json(capsys, "search", "red", "fox")["assets"]
    assert (fox["key"], fox["machine"], fox["metadata"]["seed"]) == ("out/sub/fox.png", "pod-1", 2**64 - 1)
    status, out, _ = run_command(capsys, "show", "sub/fox.png", "--workflow", "-")
    assert (status, json.loads(out)) == (0, writers.WORKFLOW)
    found = read_json(capsys, "catalog", "status")
    assert (found["assets"], found["unwritten"], found["file_troubles"]) == (2, 0, [])
    assert read_json(capsys, "catalog", "sync")["files"] == 0
    elsewhere.server.put(
        "out/.cloud-archive/v1/segments/2026-01-01/" + "0" * 26 + "-evil.jsonl.gz", b"no gzip"
    )
    status, out, err = run_command(capsys, "catalog", "sync")
    assert (status, "evil" in err) == (1, True)
    prune = ("prune", "--keep-bytes", "1B", "--yes", "--prefix", "out/sub")
    status, out, err = run_command(capsys, *prune)
    assert (status, out) == (1, ""), "the damaged part may say that it is a favourite"
    assert all(words in err for words in ("can't be found out", "evil", "Nothing is deleted."))
    # What prune deletes leaves the catalog of every machine.
    status, out, _ = run_command(capsys, *prune, "--favorites")
    assert (status, "Deleted 1 object" in out) == (0, True)
    found = read_json(capsys, "catalog", "status")
    assert (found["assets"], len(found["file_troubles"])) == (1, 1)


def test_prune_keeps_what_another_machine_marked_as_a_favourite(
    elsewhere: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = {"op": "set", "clock": time.time(), "machine": "pod-2", "key": "out/cat.png", "favorite": True}
    segment, _ = new_names("pod-2", time.time())
    elsewhere.server.put(FOLDER.key(segment), encode([mark], machine="pod-2", now=time.time()))
    status, out, _ = run_command(capsys, "prune", "--keep-bytes", "1B")
    assert (status, "Favourites stay: 1 favourite" in out) == (0, True)
    found = read_json(capsys, "prune", "--keep-bytes", "1B", "--yes")
    assert (found["deleted"], found["favorite_files"]) == (1, 1)
    assert elsewhere.server.keys("out/") == ["out/cat.png"]
    assert read_json(capsys, "prune", "--keep-bytes", "1B", "--yes", "--favorites")["deleted"] == 1


def test_another_machine_follows_a_prune_and_says_that_the_file_was_deleted(
    elsewhere: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = Archive(tmp_path / "other", elsewhere.server, CLOUD_ARCHIVE_MACHINE_NAME="pod-2")
    fox, unknown = asset_id(other.server.bucket, "out/sub/fox.png"), asset_id(other.server.bucket, "out/x")

    def refusal(identity: uuid.UUID) -> str:
        with pytest.raises(RequestRefused) as refused:
            engine.catalog().asset(identity)
        assert refused.value.status == 404
        return str(refused.value)

    with other.running() as engine:
        sync = ("catalog", "sync", "--dir", other.root)
        monkeypatch.setenv("CLOUD_ARCHIVE_STATE_DIR", str(other.state))
        assert run_command(capsys, *sync)[0] == 0
        assert engine.catalog().asset(fox)["machine"] == "pod-1"
        assert run_command(capsys, "prune", "--keep-bytes", "1B", "--yes")[0] == 0
        assert run_command(capsys, *sync)[0] == 0
        assert refusal(fox) == "This file was deleted from the bucket."
        assert refusal(unknown) == f"There is no asset {unknown}."


def test_without_a_directory_no_engine_is_asked_and_jobs_and_shares_come_from_the_bucket(
    tmp_path: Path, seaweedfs: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for name, value in archive.environ.items():
        monkeypatch.setenv(name, value)
    with archive.running() as engine:
        archive.write("fox.png", png("a red fox"))
        wait_until(lambda: engine.status().archived_files == 1, "archived")
        wait_until_filled(engine)
        assert engine.flush(60)
        # The job comes after its file's row was written, and still reaches the bucket.
        engine.catalog().add_jobs([passed_job("job-1", output("fox.png"))])
        identity = asset_id(seaweedfs.bucket, "out/fox.png")
        wait_until(lambda: engine.catalog().asset(identity)["job_id"] == "job-1", "read again")
        assert engine.flush(60)
        only = SimpleNamespace(root=archive.root)
        monkeypatch.setattr("cloud_archive.api.client.running_engines", lambda: [only])
        monkeypatch.setattr(
            "cloud_archive.api.client.running_engine", lambda *_: pytest.fail("an engine was asked")
        )
        found = read_json(capsys, "search", "job:job-1")
        assert [(one["key"], one["metadata"]["source"]) for one in found["assets"]] == [
            ("out/fox.png", "job")
        ]
        job = read_json(capsys, "job", "job-1", "--urls")
        assert (job["state"], [file["key"] for file in job["files"]]) == ("complete", ["out/fox.png"])
        assert urllib.request.urlopen(job["files"][0]["url"]).read() == seaweedfs.read("out/fox.png")
        shared = read_json(capsys, "share", "fox.png", "--album", "Foxes")
        assert b"Foxes" in urllib.request.urlopen(shared["album"]["url"]).read()
    for unknown in ("no-such-job", 'job"-1', "JOB-1"):
        status, _, err = run_command(capsys, "job", unknown)
        assert (status, "has no file of this job" in err) == (1, True)


def test_rows_of_a_machine_that_vanished_come_back_by_rebuild(
    elsewhere: Archive, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server = elsewhere.server
    server.put("out/lost.png", png("a lost owl", 7))
    server.client.delete_object(Bucket=server.bucket, Key="out/cat.png")
    planned = read_json(capsys, "catalog", "rebuild", "--dry-run")
    assert (planned["to_add"], planned["gone"], planned["listed"]) == (1, 1, 2)
    assert planned["requests"] == 3 + 1 + 2
    status, out, _ = run_command(capsys, "catalog", "rebuild")
    assert status == 0
    assert "requests" in out.splitlines()[0]
    assert out.splitlines()[-1] == "Added 1 file, and noted that 1 file was deleted."
    assert read_json(capsys, "catalog", "rebuild")["added"] == 0
    # Another machine needs no rebuild of its own.
    settings = load_settings(elsewhere.environ)
    store = S3Store(settings)
    with opened_catalog(tmp_path / "third" / "catalog.sqlite3", store, settings) as opened:
        opened.make_sync().sync()
        rows = {row["key"]: (row["prompt"], row["machine"]) for row in asset_rows(opened.database)}
    store.close()
    assert rows == {"out/lost.png": ("a lost owl", None), "out/sub/fox.png": ("a red fox", "pod-1")}


REBUILD_UNTIL = """
import sys, threading
from cloud_archive.catalog import rebuild
from cloud_archive.cli import progress
from cloud_archive.cli.app import main

rebuild.HEADS = 4
step = int(sys.argv[1])

def draw(self, done, total, text):
    added, _, read, _ = text.split()  # "4 added, 0 read"
    if int(added) + int(read) >= step:
        print("reached", flush=True)
        threading.Event().wait()

progress.Progress.draw = draw
main(["catalog", "rebuild"])
"""


def test_a_rebuild_that_is_killed_goes_on_where_it_was(
    elsewhere: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    server = elsewhere.server
    for number in range(12):
        server.put(f"out/lost_{number}.png", png(f"owl {number}"))
    assert read_json(capsys, "catalog", "rebuild", "--dry-run")["to_add"] == 12
    for step, left in ((4, {"to_add": 8, "unread": 12}), (12 - 4 + 12, {"to_add": 0, "unread": 0})):
        process = subprocess.Popen(
            [sys.executable, "-c", REBUILD_UNTIL, str(step)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert any(line == "reached\n" for line in process.stdout)
        process.kill()
        process.wait(60)
        process.stdout.close()
        planned = read_json(capsys, "catalog", "rebuild", "--dry-run")
        assert {name: planned[name] for name in left} == left
    assert read_json(capsys, "catalog", "rebuild")["added"] == 0
    rows = [row["key"] for row in rows_in(server) if "lost" in row["key"]]
    assert sorted(rows) == sorted(f"out/lost_{number}.png" for number in range(12))


def test_edits_reach_every_machine_and_the_later_one_wins(tmp_path: Path, seaweedfs: S3Server) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = Archive(tmp_path / "1", seaweedfs)
    first.write("fox.png", png("a red fox"))
    second = Archive(tmp_path / "2", seaweedfs)
    identity = asset_id(seaweedfs.bucket, "out/fox.png")
    with first.running() as one, second.running() as two:
        wait_until(lambda: one.status().archived_files == 1, "archived")
        assert one.flush(60)

        def sync_and_read(engine: Engine) -> dict[str, Any]:
            catalog = engine.catalog()
            assert catalog._link is not None
            catalog._link._make_sync().sync()
            return catalog.asset(identity)

        assert sync_and_read(two)["rating"] == 0
        two.catalog().edit(identity, {"rating": 4, "tags": ["a", "b"], "note": "from two"})
        assert two.flush(60)
        assert (sync_and_read(one)["rating"], sync_and_read(one)["tags"]) == (4, ["a", "b"])
        one.catalog().edit(identity, {"rating": 5, "tags": ["b", "c"]})
        assert one.flush(60)
        found = sync_and_read(two)
        assert (found["rating"], found["tags"], found["note"]) == (5, ["b", "c"], "from two")
        # Another program deletes the object: the row goes at the next request for it.
        seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/fox.png")
        with pytest.raises(RequestRefused, match="deleted"):
            list(two.catalog().pieces(identity, range(1)))
        assert two.flush(60)
        with pytest.raises(RequestRefused, match="deleted from the bucket"):
            sync_and_read(one)


def test_thumbnail_and_graphs_come_from_the_machine_that_wrote_them(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = Archive(tmp_path / "1", seaweedfs)
    first.write("fox.png", png("a red fox"))
    with first.running() as engine:
        wait_until_filled(engine)
        catalog = engine.catalog()
        assert catalog._link is not None
        wait_until(lambda: catalog._link is not None and catalog._link.writer._pictured > 0, "pictured")
        assert engine.flush(60)
    second = Archive(tmp_path / "2", seaweedfs)
    with second.running() as engine:
        catalog = engine.catalog()
        assert catalog._link is not None
        catalog._link._make_sync().sync()
        identity = asset_id(seaweedfs.bucket, "out/fox.png")
        seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/fox.png")
        found = catalog.thumbnail(identity)
        assert (found.mime_type, found.data[:4]) == ("image/webp", b"RIFF")
        prompt, workflow = catalog.graphs(identity)
        assert (prompt, workflow) == (graph("a red fox"), writers.WORKFLOW)


def test_a_key_that_may_not_read_says_which_right_is_missing(
    elsewhere: Archive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in elsewhere.server.put_only().items():
        monkeypatch.setenv(name, value)
    status, _, err = run_command(capsys, "catalog", "sync")
    assert (status, "s3:ListBucket" in err) == (1, True)


def test_compact_export_and_sql(
    elsewhere: Archive, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    elsewhere.write("owl.png", png("a white owl"))
    with elsewhere.running() as engine:
        wait_until(lambda: engine.status().archived_files == 3, "archived")
        assert engine.drain(60)
    server = elsewhere.server
    segments = [key for key in server.keys(FOLDER.base) if "/segments/" in key]
    (month,) = read_json(capsys, "catalog", "compact", "--delete")["files"]
    assert (month["rows"], month["replaced"], month["deleted"]) == (3, len(segments), len(segments))
    assert [key for key in server.keys(FOLDER.base) if "/segments/" in key] == []
    assert run_command(capsys, "catalog", "compact")[1] == "Nothing to compact.\n"
    for form in ("jsonl", "parquet"):
        (file,) = read_json(capsys, "catalog", "export", f"--{form}", str(tmp_path / form))["files"]
        assert Path(file).is_file()
    (key,) = read_json(capsys, "catalog", "export", "--jsonl", "s3")["files"]
    exported = [json.loads(line) for line in gzip.decompress(server.read(key)).splitlines()]
    assert sorted(row["prompt"] for row in exported) == ["a black cat", "a red fox", "a white owl"]
    found = read_json(capsys, "catalog", "sql", "SELECT count(*), max(seed) FROM assets")
    assert found["rows"] == [[3, 2**64 - 1]]
    statement = f"SELECT count(*) AS files FROM '{tmp_path}/parquet/*.parquet' WHERE prompt LIKE '%fox%'"
    status, out, _ = run_command(capsys, "catalog", "sql", statement)
    assert (status, out.split()) == (0, ["files", "1"])
    status, _, err = run_command(capsys, "catalog", "sql", "SELEKT")
    assert (status, "DuckDB" in err) == (1, True)
