"""`restore` from real stores, on machines without a ledger and into watched directories."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from cloud_archive.ledger.rows import FileState
from cloud_archive.maintenance.restore import RestoreReport, restore
from cloud_archive.scope import KeyScope
from tests.integration.archives import Archive
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store

NAMES = [
    "a.png",
    "sub/deep/b.mp4",
    "with space.png",
    "smile 😀.png",
    "quote'\".png",
    "hash#question?percent%41.png",
]


def bring_back(archive: Archive, target: Path, prefix: str = "out", *, known: bool = False) -> RestoreReport:
    with archive.store() as store:
        if not known:
            return restore(store, target, scope=KeyScope.folder(prefix))
        with archive.ledger() as ledger:
            return restore(store, target, scope=KeyScope.folder(prefix), ledger=ledger, watched=archive.root)


def test_without_ledger_and_disk_every_byte_and_time_comes_back(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for number, name in enumerate(NAMES):
        archive.write(name, age_seconds=1e6 + number)
    archive.write("large.mp4", os.urandom(9 * 1024 * 1024), age_seconds=5000)
    archive.archive_all()
    before = archive.local_files()
    shutil.rmtree(archive.root)
    shutil.rmtree(archive.state)
    report = bring_back(archive, tmp_path / "elsewhere")
    assert archive.local_files(tmp_path / "elsewhere") == before, "every byte, and every nanosecond"
    assert (report.restored, report.unproven, report.failed) == (len(NAMES) + 1, 0, 0)
    assert bring_back(archive, tmp_path / "elsewhere").already == len(NAMES) + 1


@pytest.mark.parametrize(
    "key", ["../../evil.png", "/evil.png", "a/../../../evil.png", "C:\\evil.png", "CON", "a\\..\\b"]
)
def test_a_hostile_key_in_a_real_bucket_stays_inside(tmp_path: Path, moto_s3: S3Server, key: str) -> None:
    archive = Archive(tmp_path, moto_s3)
    moto_s3.put(f"out/{key}", b"evil")
    target = tmp_path / "x" / "y" / "target"
    bring_back(archive, target)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(target in path.parents for path in everything)
    assert [path.read_bytes() for path in everything] == [b"evil"]


@pytest.mark.parametrize("prefix", ["out", "out/{Y}-{m}-{d}", "{session_id}"])
def test_files_restored_into_the_watched_directory_are_not_uploaded_again(
    tmp_path: Path, seaweedfs: S3Server, prefix: str
) -> None:
    archive = Archive(tmp_path, seaweedfs, S3_PREFIX=prefix)
    bodies = {archive.write(f"sub/{number}.png") for number in range(5)}
    archive.archive_all()
    keys = seaweedfs.keys()
    shutil.rmtree(archive.root)
    archive.root.mkdir()
    head = "out" if prefix.startswith("out") else ""
    report = bring_back(archive, archive.root, head, known=True)
    assert report.restored == 5
    assert {body for body, _ in archive.local_files().values()} == bodies
    with archive.running() as engine:
        assert engine.flush(60)
        assert engine.status().uploaded_files == 0
    assert seaweedfs.keys() == keys, "no second copy, under whatever key"


def test_files_restored_under_a_running_engine_are_not_uploaded_again(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs, S3_PREFIX="out/{Y}")
    for number in range(5):
        archive.write(f"{number}.png")
    archive.archive_all()
    keys = seaweedfs.keys()
    shutil.rmtree(archive.root)
    archive.root.mkdir()
    with archive.running() as engine:
        assert engine.flush(60)
        # As the command does it: in another process than the engine, through the same ledger.
        assert bring_back(archive, archive.root, "out", known=True).restored == 5
        (archive.root / "new.png").write_bytes(b"new")
        wait_until(lambda: engine.status().uploaded_files == 1, "the new file arrives")
        assert engine.flush(60)
        assert engine.status().uploaded_files == 1
    assert len(seaweedfs.keys()) == len(keys) + 1


def test_a_new_ledger_learns_what_was_restored(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"a", age_seconds=100)
    archive.archive_all()
    (archive.state / "ledger.sqlite3").unlink()
    (archive.root / "a.png").unlink()
    report = bring_back(archive, archive.root, known=True)
    assert report.restored == 1
    with archive.ledger() as ledger:
        (row,) = ledger.rows()
        assert (row.state, row.key, row.version.path) == (FileState.ARCHIVED, "out/a.png", "a.png")
        assert row.restored_at is not None


def test_two_restores_at_once_make_one_copy_of_each_file(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for number in range(20):
        archive.write(f"{number}.png", b"%d" % number, age_seconds=50)
    archive.archive_all()
    target = tmp_path / "target"
    threads = [threading.Thread(target=bring_back, args=(archive, target)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bodies = {path: body for path, (body, _) in archive.local_files(target).items()}
    assert bodies == {f"{number}.png": b"%d" % number for number in range(20)}


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_the_newest_version_of_every_name_comes_back_without_ledger_and_disk(
    tmp_path: Path, any_s3: S3Server
) -> None:
    archive = Archive(tmp_path, any_s3, S3_PREFIX="out/{Y}")
    names = ["latest.png", "sub/ü (1).png", "n" * 251 + ".png", "control\x01.png"]
    archive.write("latest (1).png", b"a file that is really called so", age_seconds=100)
    versions = {name: [b"%d of %s" % (number, name.encode()) for number in range(3)] for name in names}
    for number in range(3):
        for name in names:
            archive.write(name, versions[name][number], age_seconds=50 - number)
        archive.archive_all()
    shutil.rmtree(archive.state)
    target = tmp_path / "elsewhere"
    report = bring_back(archive, target)
    assert (report.failed, report.renamed, report.guessed, report.older) == (0, 0, 0, 8)
    (year,) = target.iterdir()
    expected = {name: bodies[2] for name, bodies in versions.items()}
    expected["latest (1).png"] = b"a file that is really called so"
    assert {path: body for path, (body, _) in archive.local_files(year).items()} == expected
    with archive.store() as store:
        again = restore(store, target, scope=KeyScope.folder("out"), all_versions=True)
    assert (again.already, again.restored, again.failed) == (5, 8, 0)
    everything = sorted(body for body, _ in archive.local_files(target).values())
    assert everything == sorted(
        [*(body for bodies in versions.values() for body in bodies), b"a file that is really called so"]
    )
