"""Archiving one file because a user asks for it."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_archive import files
from cloud_archive.archive import recheck
from cloud_archive.archive.upload_request import upload_answer
from cloud_archive.errors import LedgerError, StoreError
from cloud_archive.files import FileVersion
from cloud_archive.ledger.rows import Claim, FileState
from cloud_archive.store.failures import explain
from tests.functional.archives import added, archiving, engine_on, refuse_thread
from tests.memory_store import Hanging, MemoryStore
from tests.servers import wait_until


def test_the_memory_of_failed_uploads_is_freed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error's traceback keeps its frames, and each may keep a body of up to 8 MiB."""
    # pytest keeps all records, and with them the errors.
    monkeypatch.setattr(logging.getLogger("cloud_archive.archiver"), "disabled", True)
    store = MemoryStore()
    held: list[weakref.ref[Any]] = []

    class Refusal(StoreError):
        pass

    def refuse(operation: str, key: str) -> None:
        if operation == "PutObject":
            error = Refusal("PutObject", key, explain("EntityTooLarge"))
            held.append(weakref.ref(error))
            raise error

    store.on_call = refuse
    with archiving(root, store, CLOUD_ARCHIVE_BACKFILL="all") as archiver:
        for number in range(5):
            (root / f"{number}.png").write_bytes(b"x")
        wait_until(lambda: archiver.status(scan=False).failed_files == 5, "all failed")
        submission = archiver.submit("0.png", 60)
        assert isinstance(submission.error, Refusal)
        del submission

        def all_freed() -> bool:
            gc.collect()
            return all(ref() is None for ref in held)

        wait_until(all_freed, "they are freed once the workers have reported them")


def test_a_file_that_waits_because_the_store_refuses_every_file_gets_the_refusal(root: Path) -> None:
    """Another worker has claimed the file before, and does not know of this request."""
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"a")
        assert archiver.ledger.claim("another worker") is not None
        submission = archiver.submit("a.png", 0.05)
        assert (submission.archived, submission.error) == (False, None)
        archiver.pipeline.gate.note_refusal(explain("InvalidAccessKeyId"), 0.0)
        submission = archiver.submit("a.png", 0.05)
        assert isinstance(submission.error, StoreError)
        assert submission.error.failure.code == "InvalidAccessKeyId"
        assert upload_answer("a.png", submission).http_status == 502


@pytest.mark.skipif(os.name == "nt", reason="such names exist on POSIX only")
def test_a_failure_of_a_file_whose_name_is_no_utf8_is_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_archive.errors import FileUnreadable
    from cloud_archive.upload import uploader as module

    def refuse(source: Any, claim: Claim) -> Any:
        raise FileUnreadable(claim.version.path, "Input/output error")

    monkeypatch.setattr(module, "read_content", refuse)
    name = os.fsdecode(b"no\xffutf8.png")
    (root / name).write_bytes(b"x")
    with archiving(root, MemoryStore(), start=False) as archiver:
        submission = archiver.submit(name, 60)
        assert submission.row is not None
        assert submission.row.state is FileState.FAILED
        assert any("can't be read" in error for error in archiver.status().errors)


def test_stop_waits_for_an_upload_that_was_asked_for(root: Path) -> None:
    store = MemoryStore()
    inside, go_on = threading.Event(), threading.Event()

    def slow(operation: str, key: str) -> None:
        inside.set()
        go_on.wait(60)

    store.on_call = slow
    (root / "a.png").write_bytes(b"a")
    with archiving(root, store, start=False) as archiver:
        asking = threading.Thread(target=archiver.submit, args=("a.png", 60))
        asking.start()
        assert inside.wait(60)
        threading.Timer(0.5, go_on.set).start()
        assert archiver.stop(60) == []
        asking.join()
    assert store.bodies() == {"out/a.png": b"a"}


def test_listeners_learn_at_once_that_an_upload_was_asked_for(
    tmp_path: Path, root: Path, hang: Hanging
) -> None:
    """A page would go on to say that it is safe to stop until the first bytes are sent."""
    store = MemoryStore()
    root.mkdir(exist_ok=True)
    (root / "a.png").write_bytes(b"a")
    environ = {"CLOUD_ARCHIVE_EXCLUDE": "*.png", "CLOUD_ARCHIVE_RESCAN_SECONDS": "0"}
    with engine_on(root, store, tmp_path / "state", **environ) as engine:
        pushed: list[dict[str, Any]] = []
        engine.subscribe(pushed.append)
        wait_until(lambda: bool(pushed) and pushed[-1]["safe_to_stop"], "it is safe to stop")
        before = len(pushed)
        store.on_call = lambda operation, key: hang(key) if operation == "PutObject" else None
        asking = threading.Thread(target=engine.upload, args=("a.png", 60))
        asking.start()
        wait_until(lambda: any(not each["safe_to_stop"] for each in pushed[before:]), "it is not")
        hang.end()
        asking.join()


def test_two_requests_for_one_file_both_get_the_error_of_its_upload(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    both_wait = threading.Semaphore(0)

    def refuse(operation: str, key: str) -> None:
        if operation == "PutObject":
            for _ in range(2):
                assert both_wait.acquire(timeout=60)
            raise StoreError("PutObject", key, explain("EntityTooLarge"))

    store.on_call = refuse
    (root / "a.png").write_bytes(b"a")
    with archiving(root, store, start=False) as archiver:
        claim_version = archiver.ledger.claim_version

        def counted(*args: Any) -> Claim | None:
            claim = claim_version(*args)
            both_wait.release()
            return claim

        monkeypatch.setattr(archiver.ledger, "claim_version", counted)
        with ThreadPoolExecutor(2) as pool:
            requests = [pool.submit(archiver.submit, "a.png", 60) for _ in range(2)]
            answers = [upload_answer("a.png", request.result()) for request in requests]
    assert [answer.http_status for answer in answers] == [502, 502]
    assert answers[0].message == answers[1].message


def test_a_file_that_is_queued_as_a_newer_version_meanwhile_is_not_called_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver, ThreadPoolExecutor(1) as pool:
        added(archiver.ledger, root, "a.png", b"a")
        claim = archiver.ledger.claim("another worker")
        assert claim is not None
        asked = threading.Event()
        claim_version = archiver.ledger.claim_version

        def noted(*args: Any) -> Claim | None:
            found = claim_version(*args)
            asked.set()
            return found

        monkeypatch.setattr(archiver.ledger, "claim_version", noted)
        request = pool.submit(archiver.submit, "a.png", 60)
        assert asked.wait(60), "another worker has it, so it waits"
        archiver.ledger.release(claim)
        added(archiver.ledger, root, "a.png", b"newer")
        answer = upload_answer("a.png", request.result())
        assert (answer.http_status, answer.message) == (202, "a.png is queued.")


def test_a_file_that_is_rewritten_while_it_is_hashed_is_not_called_archived_before_its_new_bytes_are(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    rewrites = iter([True])

    def hash_after_rewrite(root: Path, path: str, **how: Any) -> Any:
        if next(rewrites, False):
            (root / path).write_bytes(b"newer bytes")
        return files.hash_file(root, path, **how)

    (root / "a.png").write_bytes(b"a")
    with archiving(root, store, start=False) as archiver:
        assert archiver.submit("a.png", 60).archived
        monkeypatch.setattr(recheck, "hash_file", hash_after_rewrite)
        assert archiver.submit("a.png", 60).archived
    assert store.bodies() == {"out/a.png": b"a", "out/a (1).png": b"newer bytes"}


def test_the_answer_says_whether_the_file_was_archived_before(root: Path) -> None:
    (root / "a.png").write_bytes(b"a")
    with archiving(root, MemoryStore(), start=False) as archiver:
        for already in (False, True):
            answer = upload_answer("a.png", archiver.submit("a.png", 60))
            assert answer.file is not None
            assert answer.file["already_archived"] is already


def test_an_archived_file_that_a_program_opens_again_is_not_called_archived(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.png").write_bytes(b"a")
    with archiving(root, MemoryStore(), start=False) as archiver:
        assert archiver.submit("a.png", 60).archived
        monkeypatch.setattr(recheck, "has_writer", lambda *_: True)
        answer = upload_answer("a.png", archiver.submit("a.png", 0.1))
    assert answer.http_status == 202


@pytest.mark.parametrize("fails", ["the ledger", "the thread"])
def test_a_file_whose_request_fails_is_archived_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        version = added(archiver.ledger, root, "a.png", b"a")
        find, calls = archiver.ledger.find, itertools.count(1)

        def fail_once(version: FileVersion) -> Any:
            if next(calls) == 2:  # the second call comes after the request has queued the file again
                raise LedgerError("disk I/O error")
            return find(version)

        with monkeypatch.context() as patch:
            if fails == "the ledger":
                patch.setattr(archiver.ledger, "find", fail_once)
            else:
                refuse_thread(patch, "cloud-archive-asked-1")
            with pytest.raises((LedgerError, RuntimeError)):
                archiver.submit("a.png", 60)
        archiver.ledger.requeue_due()
        row = archiver.ledger.find(version)
        assert row is not None
        assert row.state is FileState.PENDING


def test_a_file_that_still_settles_is_counted_once(root: Path) -> None:
    with archiving(
        root, MemoryStore(), CLOUD_ARCHIVE_WATCH="poll", CLOUD_ARCHIVE_SETTLE_SECONDS="600"
    ) as archiver:
        assert archiver.flush(60)
        (root / "a.bin").write_bytes(b"abc")
        wait_until(lambda: archiver.status(scan=False).pending_files == 1, "a scan has found it")
        assert archiver.submit("a.bin", 60).archived
        status = archiver.status(scan=False)
        assert (status.uploaded_files, status.pending_files, status.total_files) == (1, 0, 1)
