"""Multipart uploads that are resumed, or whose key is taken."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.files import FileVersion, stat_version
from cloud_archive.ledger.rows import Claim
from cloud_archive.store.failures import explain
from cloud_archive.upload.source import MEBIBYTE
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.journal import MemoryJournal
from tests.memory_store import MemoryStore, StoredObject


def test_a_multipart_upload_under_a_conflict_name_goes_on_where_it_was(root: Path) -> None:
    store, journal = MemoryStore(), MemoryJournal()
    body = os.urandom(20 * MEBIBYTE)
    (root / "film.bin").write_bytes(body)
    version = stat_version(root, "film.bin")
    store.objects["film.bin"] = StoredObject(b"theirs", {"sha256": "0" * 64})
    uploader = Uploader(store, root, make_key=lambda path: path, session_id="s")

    def fail_late(operation: str, key: str) -> None:
        if operation == "CompleteMultipartUpload":
            raise StoreError(operation, key, explain("ConnectionClosed"))

    store.on_call = fail_late
    with pytest.raises(StoreError):
        uploader.upload(claim_of(version), journal, lambda sent: None)
    assert journal.key == "film (1).bin"
    store.on_call = lambda operation, key: None
    store.calls.clear()
    outcome = uploader.upload(next_claim(version, journal), journal, lambda sent: None)
    assert outcome.key == "film (1).bin"
    assert [name for name, _ in store.calls].count("UploadPart") == 0
    assert store.objects["film (1).bin"].body == body


def next_claim(version: FileVersion, journal: MemoryJournal) -> Claim:
    """Return the claim for the attempt after the one that `journal` holds, of a file with the key `film.bin`."""
    return claim_of(
        version,
        base_key="film.bin",
        key=journal.key,
        sha256=journal.sha256,
        upload_id=journal.upload_id,
        part_size_bytes=journal.part_size_bytes,
    )


@pytest.mark.parametrize("code", ["NotS3", "NoSuchBucket"])
def test_a_404_that_says_nothing_about_the_upload_leaves_its_parts(root: Path, code: str) -> None:
    store, journal = MemoryStore(), MemoryJournal()
    (root / "film.bin").write_bytes(os.urandom(9 * MEBIBYTE))
    version = stat_version(root, "film.bin")
    uploader = Uploader(store, root, make_key=lambda path: path, session_id="s")
    failing = {"CompleteMultipartUpload": StoreError("Complete", "film.bin", explain("ConnectionClosed"))}

    def fail(operation: str, key: str) -> None:
        if operation in failing:
            raise failing[operation]

    store.on_call = fail
    with pytest.raises(StoreError):
        uploader.upload(claim_of(version), journal, lambda sent: None)
    failing["ListParts"] = StoreError("ListParts", "film.bin", explain(code), status=404)
    with pytest.raises(StoreError) as refused:
        uploader.upload(next_claim(version, journal), journal, lambda sent: None)
    assert refused.value.failure.code == code
    failing.clear()
    store.calls.clear()
    uploader.upload(next_claim(version, journal), journal, lambda sent: None)
    assert [name for name, _ in store.calls].count("UploadPart") == 0


def test_an_upload_that_lost_a_race_for_its_conflict_name_is_aborted_under_that_name(root: Path) -> None:
    store, journal = MemoryStore(), MemoryJournal()
    (root / "film.bin").write_bytes(os.urandom(9 * MEBIBYTE))
    version = stat_version(root, "film.bin")

    def race(operation: str, key: str) -> None:
        if operation == "CompleteMultipartUpload" and key == "film.bin":
            store.on_call = lambda operation, key: None
            store._write("PutObject", "film.bin", b"theirs", {}, create_only=False)

    store.on_call = race
    # An earlier attempt was made at another key, with other bytes.
    claim = claim_of(version, base_key="film.bin", key="film (7).bin", sha256="0" * 64)
    outcome = Uploader(store, root, make_key=lambda path: path, session_id="s").upload(
        claim, journal, lambda sent: None
    )
    assert outcome.key == "film (1).bin"
    assert store.uploads == {}


def test_the_sdk_is_loaded_before_a_large_file_is_hashed(root: Path) -> None:
    class Store(MemoryStore):
        loaded = threading.Event()

        def warm_up(self, *, in_parts: bool = False) -> None:
            if in_parts:
                self.loaded.set()

    def key_of(path: str) -> str:
        assert store.loaded.wait(60)
        return path

    store = Store()
    (root / "film.bin").write_bytes(bytes(9 * MEBIBYTE))
    with ThreadPoolExecutor(1) as parts:
        uploader = Uploader(store, root, make_key=key_of, session_id="s", part_executor=parts)
        uploader.upload(claim_of(stat_version(root, "film.bin")), MemoryJournal(), lambda sent: None)


def test_without_a_thread_for_its_parts_an_upload_fails_with_that_cause(root: Path) -> None:
    class NoThreads(Executor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("can't start new thread")

    (root / "film.bin").write_bytes(os.urandom(9 * MEBIBYTE))
    uploader = Uploader(
        MemoryStore(), root, make_key=lambda path: path, session_id="s", part_executor=NoThreads()
    )
    with pytest.raises(RuntimeError, match="can't start new thread"):
        uploader.upload(claim_of(stat_version(root, "film.bin")), MemoryJournal(), lambda sent: None)
