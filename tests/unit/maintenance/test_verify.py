"""Archived rows against the bucket, with a store in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.errors import LedgerError, StoreError
from cloud_archive.ledger.doubts import queue_rewritten
from cloud_archive.ledger.history import mark_pruned
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.verify import Finding, VerifyReport, verify
from cloud_archive.store.base import ObjectInfo
from cloud_archive.store.evidence import Verdict
from cloud_archive.store.failures import explain
from tests.archived_rows import mark_archived
from tests.functional.archives import added
from tests.memory_store import Hanging, MemoryStore

NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.sqlite3")
    made.open()
    yield made
    made.close()


@pytest.fixture
def store(ledger: Ledger, root: Path) -> MemoryStore:
    """A bucket that holds four archived files."""
    made = MemoryStore()
    for name in NAMES:
        body = name.encode()
        version = added(ledger, root, name, body)
        claim = ledger.claim_version("test", version)
        assert claim is not None
        made.add(f"out/{name}", body)
        sha256, md5 = hashlib.sha256(body).hexdigest(), hashlib.md5(body).hexdigest()
        mark_archived(ledger, claim, key=f"out/{name}", sha256=sha256, etag=md5)
    return made


def verified(
    ledger: Ledger, store: MemoryStore, root: Path, repair: bool = False
) -> tuple[VerifyReport, list[Finding]]:
    findings: list[Finding] = []
    return verify(ledger, store, root, on_finding=findings.append, repair=repair), findings


def test_one_listing_is_enough_where_everything_is_there(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    report, findings = verified(ledger, store, root)
    assert report.intact
    assert (report.checked, report.same, findings) == (4, 4, [])
    assert (report.list_requests, report.head_requests, report.read_requests) == (1, 0, 0)


def test_a_missing_and_a_replaced_object_are_found_and_queued_by_repair(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    del store.objects["out/a.png"]
    store.add_foreign("out/b.png", b"other")
    report, findings = verified(ledger, store, root)
    assert not report.intact
    found = {one.path: (one.verdict, one.local, one.queued) for one in findings}
    assert found == {
        "a.png": (Verdict.MISSING, True, False),
        "b.png": (Verdict.DIFFERENT, True, False),
    }
    report, _ = verified(ledger, store, root, repair=True)
    assert report.queued == 2
    assert sorted(row.version.path for row in ledger.rows() if row.state.word == "pending") == [
        "a.png",
        "b.png",
    ]


class OldListing(MemoryStore):
    """Lists an object with the size that it had before it was written again."""

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        for info in super().list(prefix, limit=limit):
            yield info._replace(size_bytes=1) if info.key == "out/a.png" else info


def test_a_size_in_a_listing_alone_does_not_make_an_object_different(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    late = OldListing()
    late.objects = store.objects
    report, findings = verified(ledger, late, root)
    assert (report.intact, findings, report.head_requests) == (True, [], 1)


def test_a_lost_file_that_this_disk_no_longer_has_cannot_be_repaired(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    del store.objects["out/a.png"]
    (root / "a.png").unlink()
    report, findings = verified(ledger, store, root, repair=True)
    assert (report.lost, report.queued) == (1, 0)
    assert [(one.path, one.local, one.queued) for one in findings] == [("a.png", False, False)]


def test_ctrl_c_waits_for_no_request_that_hangs(
    ledger: Ledger, store: MemoryStore, root: Path, hang: Hanging
) -> None:
    def on_call(operation: str, key: str) -> None:
        if operation == "GetObject" and key == "out/a.png":
            hang(key)

    def interrupt(done: int, total: int) -> None:
        assert hang.begun.wait(60)
        raise KeyboardInterrupt

    store.on_call = on_call
    with pytest.raises(KeyboardInterrupt):
        verify(ledger, store, root, deep=True, on_progress=interrupt)
    assert hang.ended == []


def test_without_the_right_to_list_each_object_gets_a_request(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    def deny(operation: str, key: str) -> None:
        if operation == "ListObjectsV2":
            raise StoreError(operation, key, explain("AccessDenied"), status=403)

    store.on_call = deny
    report, _ = verified(ledger, store, root)
    assert report.intact
    assert report.head_requests == 4
    assert report.listing_refused


def test_a_cap_that_is_reached_ends_the_check(
    ledger: Ledger, store: MemoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(operation: str, key: str) -> None:
        if operation == "HeadObject":
            raise StoreError(operation, key, explain("CapExceeded"), status=403)

    monkeypatch.setattr("cloud_archive.maintenance.retry.FIRST_PAUSE_SECONDS", 0.0)
    store.on_call = refuse
    store.objects["out/a.png"].etag = "changed"
    with pytest.raises(StoreError, match="a cap that is set at the provider"):
        verified(ledger, store, root)


def test_a_version_that_is_pruned_during_the_check_is_not_missing(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    def prune(operation: str, key: str) -> None:
        if (operation, key) == ("GetObject", "out/a.png"):
            mark_pruned(ledger, [row for row in ledger.rows() if row.key == key])
            del store.objects[key]

    store.on_call = prune
    report = verify(ledger, store, root, deep=True)
    assert (report.checked, report.same, report.missing) == (3, 3, 0)


@pytest.mark.parametrize("deep", [False, True])
def test_a_lost_object_of_bytes_that_were_rewritten_with_size_and_mtime_is_missing(
    ledger: Ledger, store: MemoryStore, root: Path, deep: bool
) -> None:
    [row] = [row for row in ledger.rows() if row.key == "out/a.png"]
    assert queue_rewritten(ledger, row, row.version)
    del store.objects["out/a.png"]
    report = verify(ledger, store, root, deep=deep)
    assert (report.checked, report.same, report.missing) == (4, 3, 1)


def test_only_bytes_that_were_read_back_are_counted(ledger: Ledger, store: MemoryStore, root: Path) -> None:
    def deny(operation: str, key: str) -> None:
        if (operation, key) == ("GetObject", "out/a.png"):
            raise StoreError(operation, key, explain("AccessDenied"), status=403)

    store.on_call = deny
    del store.objects["out/b.png"]
    report = verify(ledger, store, root, deep=True)
    assert (report.same, report.missing, report.undecided) == (2, 1, 1)
    assert (report.read_requests, report.bytes_read) == (4, len("c.png") + len("d.png"))


def test_what_a_newer_version_replaced_is_no_fault_only_where_renaming_is_off(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    newer = b"newer bytes of a.png"
    claim = ledger.claim_version("test", added(ledger, root, "a.png", newer))
    assert claim is not None
    store.add("out/a.png", newer)
    sha256, md5 = hashlib.sha256(newer).hexdigest(), hashlib.md5(newer).hexdigest()
    mark_archived(ledger, claim, key="out/a.png", sha256=sha256, etag=md5)

    report = verify(ledger, store, root)
    assert (report.intact, report.checked, report.different, report.replaced) == (False, 5, 1, 0)
    for deep in (False, True):
        report = verify(ledger, store, root, rename=False, deep=deep)
        assert (report.intact, report.checked, report.same, report.replaced) == (True, 4, 4, 1)

    store.add_foreign("out/a.png", b"of another program")
    report = verify(ledger, store, root, rename=False)
    assert (report.intact, report.different, report.replaced) == (False, 1, 1)


@pytest.mark.parametrize("archived", [True, False])
def test_what_is_replaced_during_the_check_is_no_fault_where_renaming_is_off(
    ledger: Ledger, store: MemoryStore, root: Path, archived: bool
) -> None:
    newer = b"newer bytes of a.png"

    def replace(operation: str, key: str) -> None:
        store.on_call = lambda operation, key: None
        claim = ledger.claim_version("test", added(ledger, root, "a.png", newer))
        assert claim is not None
        sha256 = hashlib.sha256(newer).hexdigest()
        ledger.record_attempt(claim, sha256=sha256, base_key="out/a.png", key="out/a.png")
        store.add("out/a.png", newer)
        if archived:
            mark_archived(ledger, claim, key="out/a.png", sha256=sha256, etag=None)

    store.on_call = replace
    report = verify(ledger, store, root, rename=False)
    assert (report.intact, report.same, report.different, report.replaced) == (True, 3, 0, 1)


def test_an_older_version_that_came_back_to_the_disk_is_checked_although_it_was_replaced(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    times = (root / "a.png").stat().st_mtime_ns
    newer = b"newer bytes of a.png"
    claim = ledger.claim_version("test", added(ledger, root, "a.png", newer))
    assert claim is not None
    store.add("out/a.png", newer)
    sha256, md5 = hashlib.sha256(newer).hexdigest(), hashlib.md5(newer).hexdigest()
    mark_archived(ledger, claim, key="out/a.png", sha256=sha256, etag=md5)
    (root / "a.png").write_bytes(b"a.png")
    os.utime(root / "a.png", ns=(times, times))

    report = verify(ledger, store, root, rename=False, repair=True)
    assert (report.different, report.queued, report.replaced) == (1, 1, 0)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("foreign", [False, True])
def test_a_repair_overwrites_no_object_of_another_writer_where_renaming_is_off(
    ledger: Ledger, store: MemoryStore, root: Path, deep: bool, foreign: bool
) -> None:
    theirs = b"of another machine"
    if foreign:
        store.add_foreign("out/a.png", theirs)
    else:
        store.add("out/a.png", theirs, sha256=hashlib.sha256(theirs).hexdigest())
    store.add("out/b.png", b"rot", sha256=hashlib.sha256(b"b.png").hexdigest())
    del store.objects["out/c.png"]
    findings: list[Finding] = []
    report = verify(ledger, store, root, rename=False, repair=True, deep=deep, on_finding=findings.append)
    assert (report.intact, report.different, report.missing) == (False, 2, 1)
    assert (report.kept, report.queued, report.replaced, report.lost) == (1, 2, 0, 0)
    assert {finding.path: (finding.kept, finding.queued) for finding in findings} == {
        "a.png": (True, False),
        "b.png": (False, True),
        "c.png": (False, True),
    }
    with_renaming = verify(ledger, store, root, repair=True)
    assert (with_renaming.kept, with_renaming.queued) == (0, 1)


@pytest.mark.parametrize("deep", [False, True])
def test_a_repair_replaces_an_older_version_of_ours_that_came_back(
    ledger: Ledger, store: MemoryStore, root: Path, deep: bool
) -> None:
    """As from a backup of the bucket. Renaming is off."""
    for name in ("a.png", "b.png"):
        newer = f"newer bytes of {name}".encode()
        claim = ledger.claim_version("test", added(ledger, root, name, newer))
        assert claim is not None
        sha256, md5 = hashlib.sha256(newer).hexdigest(), hashlib.md5(newer).hexdigest()
        mark_archived(ledger, claim, key=f"out/{name}", sha256=sha256, etag=md5)
    report = verify(ledger, store, root, rename=False, repair=True, deep=deep)
    assert (report.different, report.kept, report.queued) == (2, 0, 2)


def test_a_full_disk_of_temporary_files_is_not_taken_for_the_ledgers(
    ledger: Ledger, store: MemoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = ledger.connect()
    connection.execute("PRAGMA temp.max_page_count = 1")
    monkeypatch.setattr(ledger, "connect", lambda: connection)
    with pytest.raises(LedgerError, match=r"^The disk with the temporary files is full\. Free some space"):
        verify(ledger, store, root)


@pytest.mark.parametrize("code", ["ConnectionRefused", "InvalidAccessKeyId", "AccessDenied"])
def test_a_store_that_stops_answering_during_a_repair_hides_no_other_writer(
    ledger: Ledger, store: MemoryStore, root: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.maintenance.retry.FIRST_PAUSE_SECONDS", 0.0)
    store.add_foreign("out/a.png", b"of another program")

    def deny(operation: str, key: str) -> None:
        if operation == "HeadObject":
            raise StoreError(
                operation, key, explain(code), status=None if code == "ConnectionRefused" else 403
            )

    store.on_call = deny
    if code == "AccessDenied":
        report = verify(ledger, store, root, rename=False, repair=True, deep=True)
        assert (report.kept, report.queued) == (1, 0)
    else:
        with pytest.raises(StoreError):
            verify(ledger, store, root, rename=False, repair=True, deep=True)


def test_progress_ends_at_the_total_that_includes_versions_that_vanished(
    ledger: Ledger, store: MemoryStore, root: Path
) -> None:
    del store.objects["out/a.png"]
    verified(ledger, store, root, repair=True)
    (root / "a.png").unlink()
    claim = ledger.claim("test")
    assert claim is not None
    ledger.mark_vanished(claim)
    seen: list[tuple[int, int]] = []
    report = verify(ledger, store, root, on_progress=lambda done, total: seen.append((done, total)))
    assert (report.checked, report.missing) == (4, 1)
    assert seen == [(done, 4) for done in range(1, 5)]
