"""Which local files are removed, in which order, and why others stay, with a store in memory."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from cloud_archive.errors import FileUnreadable, RootReplaced, StoreError
from cloud_archive.files import FileVersion, hash_file, stat_version
from cloud_archive.ledger.history import mark_pruned, requeue_missing
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance import free
from cloud_archive.maintenance.free import RECHECK_SECONDS, FreeReport, Limits, LocalCleaner
from cloud_archive.store.base import ObjectInfo
from tests.archived_rows import mark_archived
from tests.memory_store import MemoryStore, refuse

NOW = 2_000_000_000.0
DAY = 86_400.0
AGES = {"old.png": 9 * DAY, "middle.png": 5 * DAY, "young.png": 1800.0}


class Stage:
    """Three archived files in a directory, and a cleaner whose clock and disk a test sets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = NOW
        self.free_bytes = 0
        self.writers: set[str] = set()
        self.store = MemoryStore()
        self.archived_at = NOW - 6 * DAY
        self.ledger = Ledger(None, clock=lambda: self.archived_at)
        self.ledger.open()
        for name, age in AGES.items():
            self.archive(name, age=age, archived_at=NOW - 6 * DAY)
        self.check_root: Callable[[], None] = lambda: None

    def archive(self, name: str, *, age: float, archived_at: float) -> None:
        body = name.encode()
        (self.root / name).write_bytes(body)
        os.utime(self.root / name, (NOW - age, NOW - age))
        version = stat_version(self.root, name)
        self.archived_at = archived_at
        assert self.ledger.add([version]) == 1
        claim = self.ledger.claim_version("test", version)
        assert claim is not None
        self.store.add(f"out/{name}", body)
        sha256, etag = hashlib.sha256(body).hexdigest(), hashlib.md5(body).hexdigest()
        mark_archived(self.ledger, claim, key=f"out/{name}", sha256=sha256, etag=etag)

    def cleaner(self, limits: Limits) -> LocalCleaner:
        return LocalCleaner(
            self.ledger,
            self.store,
            self.root,
            limits,
            has_writer=lambda _, path: path in self.writers,
            clock=lambda: self.now,
            free_bytes=lambda _: self.free_bytes,
            check_root=lambda: self.check_root(),
        )

    def freed(self, *limits: float | None, dry_run: bool = False) -> FreeReport:
        return self.cleaner(Limits(*limits)).run_once(dry_run=dry_run)  # type: ignore[arg-type]

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())


@pytest.fixture
def stage(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr("cloud_archive.maintenance.retry.FIRST_PAUSE_SECONDS", 0.0)
    made = Stage(root)
    yield made
    made.ledger.close()


def paths(report: FreeReport) -> list[str]:
    return [file.path for file in report.files]


@pytest.mark.parametrize("dry_run", [False, True])
def test_files_over_the_age_go_the_oldest_first(stage: Stage, dry_run: bool) -> None:
    report = stage.freed(4 * DAY, dry_run=dry_run)
    assert paths(report) == ["old.png", "middle.png"]
    assert (report.freed, report.freed_bytes, report.dry_run) == (2, 17, dry_run)
    assert stage.left == (sorted(AGES) if dry_run else ["young.png"])
    assert stage.freed(4 * DAY).freed == (2 if dry_run else 0)


def test_for_space_alone_no_file_younger_than_an_hour_goes(stage: Stage) -> None:
    assert paths(stage.freed(None, 10**15)) == ["old.png", "middle.png"]
    stage.now += 1801
    assert paths(stage.freed(None, 10**15)) == ["young.png"]


@pytest.mark.parametrize("age", [0.0, 1799.0])
def test_an_age_of_less_than_an_hour_counts_as_it_was_given(stage: Stage, age: float) -> None:
    assert paths(stage.freed(1801.0)) == ["old.png", "middle.png"]
    assert paths(stage.freed(age)) == ["young.png"]


def test_only_as_many_go_as_the_disk_lacks(stage: Stage) -> None:
    stage.free_bytes = 100
    assert paths(stage.freed(None, 100)) == []
    assert paths(stage.freed(None, 105)) == ["old.png"]


def test_an_object_in_cold_storage_that_must_be_read_keeps_only_its_own_file(stage: Stage) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("GetObject", "out/old.png"):
            refuse("InvalidObjectState", 403, key)

    stage.store.objects["out/old.png"].etag = "0" * 32
    stage.store.on_call = on_call
    report = stage.freed(4 * DAY)
    assert (paths(report), report.unproven) == (["middle.png"], ["old.png"])


@pytest.mark.parametrize("code", ["AccessDenied", "NotS3", "ProxyRefused"])
def test_an_object_that_alone_is_refused_keeps_only_its_own_file(stage: Stage, code: str) -> None:
    """It is missing, and the access key may not list; or a firewall refuses its name."""

    def on_call(operation: str, key: str) -> None:
        if key in denied:
            refuse(code, 403, key)

    denied = {"out/old.png"}
    stage.store.on_call = on_call
    report = stage.freed(4 * DAY)
    assert (paths(report), report.unproven) == (["middle.png"], ["old.png"])
    denied.add("out/young.png")  # the object that was archived last
    with pytest.raises(StoreError):
        stage.freed(4 * DAY)


def test_a_store_that_is_busy_for_a_moment_ends_nothing(stage: Stage) -> None:
    def on_call(operation: str, key: str) -> None:
        if stage.store.count(operation) == 1:
            refuse("SlowDown", 503, key)

    stage.store.on_call = on_call
    assert paths(stage.freed(4 * DAY)) == ["old.png", "middle.png"]


def test_without_limits_nothing_goes(stage: Stage) -> None:
    assert stage.freed().freed == 0
    assert Limits().is_off
    assert not Limits(1.0).is_off
    assert not Limits(None, 1).is_off


def test_the_age_may_count_from_the_archiving(stage: Stage) -> None:
    old_enough = Limits(8 * DAY, age_from_archiving=True)  # all were archived six days ago
    assert stage.cleaner(old_enough).run_once().freed == 0
    assert paths(stage.freed(8 * DAY)) == ["old.png"]


def test_an_age_of_seconds_may_count_from_the_archiving(stage: Stage) -> None:
    stage.now = NOW - 6 * DAY + 1
    cleaner = stage.cleaner(Limits(2.0, age_from_archiving=True))
    assert cleaner.run_once(dry_run=True).freed == 0
    stage.now += 2
    assert paths(cleaner.run_once(dry_run=True)) == ["old.png"]


def test_a_file_goes_once_it_is_due_although_an_older_one_was_archived_later(stage: Stage) -> None:
    stage.archive("copied.png", age=10 * DAY, archived_at=NOW)
    cleaner = stage.cleaner(Limits(11 * DAY, age_from_archiving=True))
    assert paths(cleaner.run_once()) == []
    stage.now = NOW + 5 * DAY + 1  # the others were archived six days ago
    assert paths(cleaner.run_once()) == ["old.png"]


def test_a_file_goes_once_it_is_due_although_it_was_young_at_the_last_run(stage: Stage) -> None:
    cleaner = stage.cleaner(Limits(2 * DAY, age_from_archiving=True))
    assert paths(cleaner.run_once()) == ["old.png", "middle.png"]
    assert paths(cleaner.run_once()) == []
    stage.now = NOW - 1800.0 + 2 * DAY + 1
    assert paths(cleaner.run_once()) == ["young.png"]


@pytest.mark.parametrize("body", [b"other", b"OLD.png"])
def test_a_file_that_changed_stays(stage: Stage, body: bytes) -> None:
    before = (stage.root / "old.png").stat()
    (stage.root / "old.png").write_bytes(body)
    os.utime(stage.root / "old.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    report = stage.freed(8 * DAY)
    same_size = len(body) == before.st_size
    assert (report.freed, report.kept, report.gone) == (0, int(same_size), int(not same_size))
    assert stage.left == sorted(AGES)


def test_a_file_that_is_written_to_stays(stage: Stage) -> None:
    stage.writers.add("old.png")
    for dry_run in (True, False):
        report = stage.freed(8 * DAY, dry_run=dry_run)
        assert (report.freed, report.kept) == (0, 1)
    assert "old.png" in stage.left


@pytest.mark.parametrize("function", ["stat_version", "open_folder"])
def test_a_file_that_the_system_refuses_to_read_or_remove_is_named_with_the_cause(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def refuse_it(root: Path, path: str) -> NoReturn:
        if function == "stat_version":
            raise FileUnreadable(path, "Permission denied")
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(free, function, refuse_it)
    report = stage.freed(8 * DAY)
    assert (report.freed, report.kept, report.refused) == (0, 1, [("old.png", "Permission denied")])
    assert stage.left == sorted(AGES)


def test_a_file_that_the_bucket_lost_stays_and_is_checked_again_after_an_hour(stage: Stage) -> None:
    cleaner = stage.cleaner(Limits(8 * DAY))
    lost = stage.store.objects.pop("out/old.png")
    assert cleaner.run_once().unproven == ["old.png"]
    stage.store.objects["out/old.png"] = lost
    assert cleaner.run_once().unproven == ["old.png"], "no request before that"
    stage.now += RECHECK_SECONDS
    assert paths(cleaner.run_once()) == ["old.png"]


@pytest.mark.parametrize("why", ["refused", "other bytes"])
def test_a_file_that_must_stay_is_hashed_again_only_after_an_hour(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    hashed: list[str] = []

    def hash_and_note(root: Path, path: str) -> tuple[FileVersion, str] | None:
        hashed.append(path)
        found = hash_file(root, path)
        assert found is not None
        return found[0], "00" * 32 if why == "other bytes" else found[1]

    def refuse_it(root: Path, path: str) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(free, "hash_file", hash_and_note)
    if why == "refused":
        monkeypatch.setattr(free, "open_folder", refuse_it)
    cleaner = stage.cleaner(Limits(8 * DAY))
    assert [cleaner.run_once().kept for _ in range(2)] == [1, 1]
    assert hashed == ["old.png"]
    stage.now += RECHECK_SECONDS
    assert cleaner.run_once().kept == 1
    assert hashed == ["old.png"] * 2


def test_a_file_that_was_archived_again_is_checked_at_once(stage: Stage) -> None:
    cleaner = stage.cleaner(Limits(8 * DAY))
    body = stage.store.objects.pop("out/old.png").body
    assert cleaner.run_once().unproven == ["old.png"]
    (row,) = [row for row in stage.ledger.rows() if row.version.path == "old.png"]
    assert requeue_missing(stage.ledger, [row]) == 1
    stage.archived_at += 1
    claim = stage.ledger.claim_version("test", row.version)
    assert claim is not None
    stage.store.add("out/old.png", body)
    sha256, etag = hashlib.sha256(body).hexdigest(), hashlib.md5(body).hexdigest()
    mark_archived(stage.ledger, claim, key="out/old.png", sha256=sha256, etag=etag)
    assert paths(cleaner.run_once()) == ["old.png"]


def test_a_file_that_is_gone_already_is_recorded(stage: Stage) -> None:
    (stage.root / "old.png").unlink()
    assert stage.freed(8 * DAY, dry_run=True).gone == 1
    assert stage.freed(8 * DAY).gone == 1
    assert stage.freed(8 * DAY).gone == 0


@pytest.mark.parametrize("function", ["hash_file", "open_folder"])
def test_a_file_that_vanishes_while_it_is_checked_is_recorded_as_gone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    call = getattr(free, function)

    def vanish(root: Path, path: str) -> object:
        (stage.root / "old.png").unlink()
        return call(root, path)

    monkeypatch.setattr(free, function, vanish)
    report = stage.freed(8 * DAY)
    assert (report.freed, report.kept, report.gone) == (0, 0, 1)
    assert stage.freed(8 * DAY).gone == 0


def test_a_store_that_is_away_ends_the_run(stage: Stage) -> None:
    stage.store.on_call = lambda operation, key: refuse("SlowDown", None)
    with pytest.raises(StoreError):
        stage.freed(8 * DAY)
    stage.store.on_call = lambda operation, key: refuse("KeyTooLongError", 400)
    assert stage.freed(8 * DAY).freed == 0
    assert stage.left == sorted(AGES)


def test_in_another_directory_nothing_is_removed_or_recorded(stage: Stage) -> None:
    def replaced() -> None:
        raise RootReplaced("It is another directory.")

    stage.check_root = replaced
    with pytest.raises(RootReplaced):
        stage.freed(1.0)
    assert stage.left == sorted(AGES)
    assert all(row.freed_at is None for row in stage.ledger.rows())


def test_a_stop_ends_the_run_before_the_next_file(stage: Stage) -> None:
    stop = threading.Event()
    stop.set()
    assert stage.cleaner(Limits(1.0)).run_once(stop).freed == 0
    assert stage.left == sorted(AGES)


def test_the_bucket_is_asked_after_the_file_was_hashed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing a large file takes minutes, in which another machine may delete the object."""

    def deleted_meanwhile(root: Path, path: str) -> object:
        stage.store.objects.pop(f"out/{path}", None)
        return hash_file(root, path)

    monkeypatch.setattr(free, "hash_file", deleted_meanwhile)
    report = stage.freed(8 * DAY)
    assert (report.freed, report.unproven) == (0, ["old.png"])
    assert "old.png" in stage.left


def test_a_file_stays_whose_object_is_pruned_right_after_its_proof(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = stage.store.head

    def pruned_afterwards(key: str) -> ObjectInfo | None:
        info = head(key)
        mark_pruned(stage.ledger, [row for row in stage.ledger.rows() if row.key == key])
        stage.store.objects.pop(key, None)
        return info

    monkeypatch.setattr(stage.store, "head", pruned_afterwards)
    report = stage.freed(8 * DAY)
    assert (report.freed, report.kept) == (0, 1)
    assert "old.png" in stage.left
