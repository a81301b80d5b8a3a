"""When the ledger is reopened; its checks are made by hand."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.ledger_keeper import FAILED_CHECKS, LedgerKeeper
from cloud_archive.archive.open_archive import OpenArchive
from cloud_archive.archive.open_jobs import OpenJobs
from cloud_archive.catalog.catalog import Catalog
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import LedgerError
from cloud_archive.intake.selection import Selection
from cloud_archive.jobs.jobs import Jobs
from cloud_archive.jobs.store import JOBS_NAME, JobStore
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import ENVIRON, archiving
from tests.memory_store import MemoryStore


class Reopened:
    """A ledger keeper, and the path of each reopening that it asks for."""

    def __init__(self) -> None:
        self.paths: list[Path | None] = []
        self.opened: OpenArchive | None = None
        self.keeper = LedgerKeeper(lambda: self.opened, self.paths.append, threading.Event())


def open_archive(archiver: Archiver) -> OpenArchive:
    root, settings = archiver.root, load_settings(ENVIRON)
    catalog = Catalog(root, root, settings, archiver.ledger, archiver.store, session=("s", 0.0))
    jobs = Jobs(JobStore(root / JOBS_NAME), root, archiver.ledger, Selection())
    return OpenArchive(archiver, archiver.ledger, catalog, OpenJobs(jobs))


def fail(*_: object) -> None:
    raise LedgerError("The disk is gone.")


def test_only_a_ledger_that_fails_several_times_in_a_row_is_reopened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Reopened()
    it.keeper.check()
    with archiving(root, MemoryStore(), start=False) as archiver:
        it.opened = open_archive(archiver)
        with monkeypatch.context() as broken:
            broken.setattr(archiver.ledger, "totals", fail)
            broken.setattr(archiver.ledger, "probe", fail)
            for _ in range(FAILED_CHECKS - 1):
                it.keeper.check()
            assert it.paths == []
        it.keeper.check()
        with monkeypatch.context() as broken:
            broken.setattr(archiver.ledger, "totals", fail)
            broken.setattr(archiver.ledger, "probe", fail)
            for _ in range(FAILED_CHECKS):
                it.keeper.check()
        assert it.paths == [None]


def test_where_reading_works_and_a_commit_failed_writing_is_tried(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Reopened()
    with archiving(root, MemoryStore(), start=False) as archiver:
        it.opened = open_archive(archiver)
        monkeypatch.setattr(archiver.ledger, "probe", fail)
        it.keeper.check()
        assert it.keeper._failed_checks == 0
        archiver.pipeline._pool.ledger_problem = "The disk is full."
        it.keeper.check()
        assert it.keeper._failed_checks == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
def test_a_ledger_whose_file_was_deleted_is_saved_until_it_is_reopened(root: Path) -> None:
    it = Reopened()
    with archiving(root, MemoryStore(), start=False) as archiver:
        it.opened = open_archive(archiver)
        path = archiver.ledger.path
        assert path is not None
        archiver.ledger.remember("kept", "1")
        path.unlink()
        it.keeper.check()
        it.keeper.check()  # the first reopening came to nothing, as while the watched directory is missing
        assert it.paths == [path, path]
        archiver.ledger.save(path)  # as at the reopening
        saved = Ledger(path)
        saved.open()
        assert saved.recall("kept") == "1"
        saved.close()


def test_a_ledger_in_memory_goes_back_to_its_disk_once_that_can_be_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Reopened()
    disk = tmp_path / "saved.sqlite3"
    with archiving(root, MemoryStore(), start=False) as archiver:
        it.opened = open_archive(archiver)
        monkeypatch.setattr(archiver.ledger, "saved_as", disk)
        with monkeypatch.context() as full:
            full.setattr(archiver.ledger, "save", fail)
            it.keeper.check()
        assert it.paths == []
        it.keeper.check()
        assert it.paths == [disk]
        assert disk.exists()
        monkeypatch.setattr(archiver.ledger, "saved_as", None)
