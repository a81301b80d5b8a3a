"""Freeing local disk: only files that are proven in the bucket at that moment are removed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.intake.open_files import has_writer
from cloud_archive.ledger.rows import FileState
from cloud_archive.maintenance.free import YOUNGEST_SECONDS, Limits, LocalCleaner
from cloud_archive.scope import KeyScope
from tests.fork_server import popen
from tests.integration.archives import HOUR, Archive
from tests.integration.freeing import DAY, backdate_archiving, free_files, local_names
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store


def test_old_files_go_and_young_ones_stay_and_the_ledger_knows(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("sub/old.png", age_seconds=2 * DAY)
    archive.write("large.mp4", os.urandom(9 * 1024 * 1024), age_seconds=2 * DAY)
    archive.write("young.png", age_seconds=2 * HOUR)
    archive.archive_all()
    archive.write("never archived.png", age_seconds=3 * DAY)
    assert free_files(archive, dry_run=True).freed == 2
    assert len(local_names(archive)) == 4, "a dry run removes nothing"
    report = free_files(archive)
    assert (report.freed, report.unproven) == (2, [])
    assert local_names(archive) == ["never archived.png", "young.png"]
    with archive.ledger() as ledger:
        assert {row.version.path: row.freed_at is not None for row in ledger.rows()} == {
            "sub/old.png": True,
            "large.mp4": True,
            "young.png": False,
        }
        assert all(row.state is FileState.ARCHIVED for row in ledger.rows())
    assert free_files(archive).freed == 0


def test_for_space_alone_nothing_younger_than_an_hour_goes(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", age_seconds=HOUR - 60)
    archive.write("b.png", age_seconds=HOUR + 60)
    archive.archive_all()
    assert free_files(archive, Limits(None, 10**15), free_bytes=0).freed == 1
    assert local_names(archive) == ["a.png"]


def test_for_a_full_disk_the_oldest_go_until_there_is_room(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for days in (3, 1, 4, 2):
        archive.write(f"{days} days.png", b"x" * 1000, age_seconds=days * DAY)
    archive.archive_all()
    limits = Limits(min_free_bytes=10_000)
    assert free_files(archive, limits, free_bytes=10_000).freed == 0
    report = free_files(archive, limits, free_bytes=8_500)
    assert [one.path for one in report.files] == ["4 days.png", "3 days.png"]
    assert local_names(archive) == ["1 days.png", "2 days.png"]


def test_a_limit_that_applies_by_itself_counts_from_the_later_of_mtime_and_archiving(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("copied in.png", age_seconds=30 * DAY)
    archive.archive_all()
    limits = Limits(7 * DAY, age_from_archiving=True)
    assert free_files(archive, limits).freed == 0, "it was archived a moment ago"
    backdate_archiving(archive, 7 * DAY + 60)
    assert free_files(archive, limits).freed == 1


def test_an_old_file_that_stays_does_not_keep_the_others(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("restored.png", age_seconds=9 * DAY)
    archive.write("a.png", age_seconds=3 * DAY)
    archive.write("young.png", age_seconds=2 * HOUR)
    archive.archive_all()
    with archive.ledger() as ledger:
        back = time.time() - 2 * HOUR
        ledger.change(
            lambda db: db.execute("UPDATE files SET restored_at = ? WHERE path = ?", (back, b"restored.png"))
        )
    assert [one.path for one in free_files(archive).files] == ["a.png"]
    assert local_names(archive) == ["restored.png", "young.png"]


def test_the_ledger_is_not_read_before_a_file_is_due(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", age_seconds=9 * DAY)
    archive.archive_all()
    now = [time.time()]
    reads: list[str] = []
    with archive.ledger() as ledger, archive.store() as store:
        read = ledger.read

        def noted(sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
            reads.append(sql)
            return read(sql, values)

        monkeypatch.setattr(ledger, "read", noted)
        cleaner = LocalCleaner(
            ledger,
            store,
            archive.root,
            Limits(DAY, age_from_archiving=True),
            has_writer=has_writer,
            clock=lambda: now[0],
        )
        assert cleaner.run_once().freed == 0
        assert reads
        reads.clear()
        now[0] += DAY - YOUNGEST_SECONDS - 60  # files younger than an hour were no candidates before
        assert cleaner.run_once().freed == 0
        assert not reads, "a run every 15 s must not walk through the ledger"
        now[0] += YOUNGEST_SECONDS
        assert cleaner.run_once().freed == 0
        reads.clear()
        assert cleaner.run_once().freed == 0
        assert not reads, "a run every 15 s must not walk through the ledger"
        now[0] += 120
        assert cleaner.run_once().freed == 1


def test_the_local_bytes_are_hashed_right_before_they_go(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"archived", age_seconds=2 * DAY)
    archive.archive_all()
    local = archive.root / "a.png"
    before = local.stat()
    with local.open("r+b") as file:
        file.write(b"ARCHIVED")
    os.utime(local, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (local.stat().st_ino, local.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    report = free_files(archive)
    assert (report.freed, report.kept) == (0, 1)
    assert local.read_bytes() == b"ARCHIVED", "the only copy of these bytes"


@pytest.mark.parametrize("what", ["gone", "other bytes", "other size", "other bytes with our metadata"])
def test_an_object_that_was_tampered_with_behind_our_back_keeps_its_local_file(
    tmp_path: Path, seaweedfs: S3Server, what: str
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"true", age_seconds=2 * DAY)
    archive.write("b.png", b"fine", age_seconds=2 * DAY)
    archive.archive_all()
    client, bucket = seaweedfs.client, seaweedfs.bucket
    if what == "gone":
        client.delete_object(Bucket=bucket, Key="out/a.png")
    elif what == "other bytes with our metadata":
        facts = seaweedfs.metadata("out/a.png")
        client.put_object(Bucket=bucket, Key="out/a.png", Body=b"fake", Metadata=facts)
    else:
        seaweedfs.put("out/a.png", b"fake" if what == "other bytes" else b"longer")
    report = free_files(archive)
    assert (report.freed, report.unproven) == (1, ["a.png"])
    assert local_names(archive) == ["a.png"]


def test_a_store_that_is_away_frees_nothing(tmp_path: Path, own_seaweedfs: S3Server) -> None:
    from cloud_archive.errors import StoreError

    archive = Archive(tmp_path, own_seaweedfs)
    archive.write("a.png", age_seconds=2 * DAY)
    archive.archive_all()
    assert own_seaweedfs.embedded is not None
    own_seaweedfs.embedded.stop()
    with pytest.raises(StoreError):
        free_files(archive)
    assert local_names(archive) == ["a.png"]


def test_a_restored_file_is_not_removed_again_at_once(tmp_path: Path, seaweedfs: S3Server) -> None:
    from cloud_archive.maintenance.restore import restore

    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", age_seconds=2 * DAY)
    archive.archive_all()
    before = archive.local_files()
    assert free_files(archive).freed == 1
    with archive.ledger() as ledger, archive.store() as store:
        restore(store, archive.root, scope=KeyScope.folder("out"), ledger=ledger, watched=archive.root)
    assert archive.local_files() == before
    assert free_files(archive).freed == 0
    with archive.ledger() as ledger:
        assert ledger.rows()[0].freed_at is None


@pytest.mark.parametrize(
    ("limit", "value"),
    [("CLOUD_ARCHIVE_DELETE_LOCAL_AFTER", "1d"), ("CLOUD_ARCHIVE_MIN_FREE_DISK", "1000000TB")],
)
def test_the_engine_frees_by_itself_and_says_what_stays(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, limit: str, value: str
) -> None:
    monkeypatch.setattr("cloud_archive.archive.freeing.FREE_SECONDS", 0.1)
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", age_seconds=2 * DAY)
    archive.write("lost.png", age_seconds=2 * DAY)
    archive.write("young.png")
    archive.archive_all()
    backdate_archiving(archive, 2 * DAY)
    seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/lost.png")
    with archive.running() as engine:
        assert engine.flush(60)
        assert engine.status().keeps_local_files
    assert len(local_names(archive)) == 3, "off by default"
    with archive.running(**{limit: value}) as engine:
        assert not engine.status().keeps_local_files
        wait_until(lambda: local_names(archive) == ["lost.png", "young.png"], "a.png goes")
        wait_until(lambda: any("lost.png stays" in e for e in engine.status().errors), "it says so")
        assert engine.flush(60), "a file that was freed does not count as missing"
        assert "cloud_archive_freed_files_total 1.0" in engine.metrics_text()
    assert seaweedfs.keys() == ["out/a.png", "out/young.png"]


PROGRAM = """
import sys, threading, time
from pathlib import Path
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.free import YOUNGEST_SECONDS, LocalCleaner, Limits
from cloud_archive.config.settings import load_settings
from cloud_archive.store.s3 import S3Store
from cloud_archive.intake import open_files
root, ledger_path, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(ledger_path)
ledger.open()

def has_writer(root, path):
    if len(list(root.iterdir())) <= left:
        threading.Event().wait()  # it is killed here at the latest
    return open_files.has_writer(root, path)

LocalCleaner(ledger, S3Store(load_settings()), root, Limits(86400.0), has_writer=has_writer, clock=time.time).run_once()
"""


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_killed_at_any_moment_no_file_is_gone_that_the_bucket_does_not_hold(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    bodies = {f"{n:03}.png": archive.write(f"{n:03}.png", age_seconds=2 * DAY) for n in range(90)}
    archive.archive_all()
    for number in range(0, 90, 10):  # removed by another program
        seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key=f"out/{number:03}.png")
    kept = {f"{number:03}.png" for number in range(0, 90, 10)}
    environment = {**os.environ, **archive.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [sys.executable, "-c", PROGRAM, str(archive.root), str(archive.state / "ledger.sqlite3")]
    for attempt in range(6):
        # Kill it after a number of files is gone, so that it is at work on a machine of any speed.
        target = len(local_names(archive)) - attempt - 1
        process = popen([*arguments, str(target)], env=environment)
        wait_until(lambda target=target: len(local_names(archive)) <= target, "some files go")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        in_bucket = set(seaweedfs.keys())
        for name in bodies.keys() - set(local_names(archive)):
            assert f"out/{name}" in in_bucket, name
        assert kept <= set(local_names(archive))
    free_files(archive)
    assert set(local_names(archive)) == kept
    assert all(seaweedfs.read(f"out/{name}") == bodies[name] for name in sorted(bodies.keys() - kept)[:20])
    with archive.ledger() as ledger:
        noted = {row.version.path for row in ledger.rows(limit=500) if row.freed_at is not None}
    assert noted == bodies.keys() - kept, "also a file that was removed before the kill and not recorded"
