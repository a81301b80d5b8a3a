"""Files that change, move or are written to while local disk is freed: they stay."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from cloud_archive.errors import FileUnreadable
from cloud_archive.files import FileVersion
from cloud_archive.maintenance import free
from cloud_archive.maintenance.free import Limits, LocalCleaner
from tests.integration.archives import Archive
from tests.integration.freeing import DAY, free_files, local_names
from tests.servers import S3Server

pytestmark = pytest.mark.store


def test_a_file_that_changed_since_stays(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for name in ("size.png", "time.png", "other file.png", "same file moved.png"):
        archive.write(name, name.encode(), age_seconds=2 * DAY)
    archive.archive_all()
    archive.write("size.png", b"changed", age_seconds=2 * DAY)
    archive.write("time.png", b"time.pnG", age_seconds=3 * DAY)
    for name, body in (
        ("other file.png", b"OTHER FILE.PNG"),
        ("same file moved.png", b"same file moved.png"),
    ):
        old = (archive.root / name).stat()
        fresh = archive.root / f"{name}.fresh"
        fresh.write_bytes(body)
        os.utime(fresh, ns=(old.st_atime_ns, old.st_mtime_ns))
        fresh.replace(archive.root / name)  # another inode with the same size and mtime
    report = free_files(archive)
    assert local_names(archive) == ["other file.png", "size.png", "time.png"], "only equal bytes may go"
    assert (report.freed, report.kept, report.gone) == (1, 1, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux and Windows can tell")
def test_a_file_that_somebody_writes_to_stays(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", age_seconds=2 * DAY)
    archive.archive_all()
    with (archive.root / "a.png").open("r+b"):
        assert free_files(archive).kept == 1
    assert free_files(archive).freed == 1


def test_a_file_that_is_written_to_while_the_bucket_is_asked_stays(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"before", age_seconds=2 * DAY)
    archive.archive_all()
    looks: list[str] = []

    def writes_after_the_proof(root: Path, path: str) -> bool:
        looks.append(path)
        if (
            len(looks) == 2
        ):  # called once before the bucket is asked, and once right before the file is removed
            archive.write("a.png", b"after!", age_seconds=2 * DAY - 1)
        return False

    with archive.ledger() as ledger, archive.store() as store:
        cleaner = LocalCleaner(
            ledger, store, archive.root, Limits(DAY), has_writer=writes_after_the_proof, clock=time.time
        )
        report = cleaner.run_once()
    assert (report.freed, report.kept, len(looks)) == (0, 1, 2)
    assert archive.local_files()["a.png"][0] == b"after!"


def test_nothing_is_removed_through_a_folder_that_became_a_link(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("d/a.png", age_seconds=2 * DAY)
    archive.archive_all()
    elsewhere = tmp_path / "elsewhere"
    (archive.root / "d").rename(elsewhere)
    (archive.root / "d").symlink_to(elsewhere)
    assert free_files(archive).freed == 0
    assert (elsewhere / "a.png").exists()


def test_a_folder_that_becomes_a_link_right_before_the_removal_keeps_what_it_names(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("d/a.png", age_seconds=2 * DAY)
    archive.archive_all()
    folder, elsewhere = archive.root / "d", tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    looks: list[str] = []

    def swaps_after_the_hash(root: Path, path: str) -> bool:
        looks.append(path)
        if len(looks) == 2:
            folder.rename(archive.root / "moved away")
            folder.symlink_to(elsewhere)
        return False

    with archive.ledger() as ledger, archive.store() as store:
        cleaner = LocalCleaner(
            ledger, store, archive.root, Limits(DAY), has_writer=swaps_after_the_hash, clock=time.time
        )
        report = cleaner.run_once()
    assert (report.freed, report.gone, len(looks)) == (0, 1, 2)
    assert (elsewhere / "a.png").exists()
    assert (archive.root / "moved away/a.png").exists()


def test_another_file_with_the_same_bytes_and_times_is_not_the_one_that_was_hashed(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", age_seconds=2 * DAY)
    archive.archive_all()
    twin = archive.root / "twin"
    shutil.copy2(archive.root / "a.png", twin)
    looks: list[str] = []

    def replaces_after_the_hash(root: Path, path: str) -> bool:
        looks.append(path)
        if len(looks) == 2:
            twin.replace(root / path)
        return False

    with archive.ledger() as ledger, archive.store() as store:
        cleaner = LocalCleaner(
            ledger, store, archive.root, Limits(DAY), has_writer=replaces_after_the_hash, clock=time.time
        )
        assert cleaner.run_once().kept == 1
    assert local_names(archive) == ["a.png"]


def test_a_file_that_cannot_be_inspected_does_not_count_as_gone(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", age_seconds=2 * DAY)
    archive.archive_all()

    def refuse(root: Path, path: str) -> FileVersion:
        raise FileUnreadable(path, "Input/output error")

    monkeypatch.setattr(free, "stat_version", refuse)
    report = free_files(archive)
    assert (report.freed, report.gone, report.kept) == (0, 0, 1)
    with archive.ledger() as ledger:
        assert [row.freed_at for row in ledger.rows()] == [None]
