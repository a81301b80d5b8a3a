"""Many versions of one name: their keys, their requests and their metadata."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.workers import WorkerPool
from cloud_archive.errors import StoreError
from cloud_archive.intake.walk import scan
from cloud_archive.keys import object_key, object_path
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.store.failures import explain
from cloud_archive.upload.uploader import Uploader
from tests.memory_store import MemoryStore


class Versions:
    """One directory, its ledger and a bucket in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = MemoryStore()
        self.ledger = Ledger(None)
        self.ledger.open()
        self.moment = 1_700_000_000

    def archive(self, name: str, body: bytes) -> str:
        """Write the file, archive it, and return its key."""
        local = os.path.join(os.fsencode(self.root), os.fsencode(name))  # noqa: PTH118 - bytes
        Path(os.fsdecode(local)).write_bytes(body)
        self.moment += 1
        os.utime(local, (self.moment, self.moment))
        self.ledger.add(self.ledger.unknown(list(scan(self.root))))
        pool = WorkerPool(
            self.ledger,
            lambda parts: Uploader(
                self.store,
                self.root,
                make_key=lambda path: object_key("out", path),
                session_id="s",
                conflicts=self.ledger.conflicts,
            ),
            self.root,
            count=1,
            name="test",
        )
        claim = self.ledger.claim("test")
        assert claim is not None
        assert pool.upload(claim) is None
        pool.stop(1)
        row = self.ledger.find(claim.version)
        assert row is not None
        return row.key or ""


@pytest.fixture
def versions(tmp_path: Path) -> Any:
    made = Versions(tmp_path)
    yield made
    made.ledger.close()


def test_no_version_fails_for_its_name_and_each_costs_a_few_requests(versions: Versions) -> None:
    for number in range(105):
        body = b"version %d" % number
        versions.store.calls.clear()
        key = versions.archive("latest.png", body)
        label = number if number <= 100 else hashlib.sha256(body).hexdigest()[:8]
        assert key == ("out/latest.png" if number == 0 else f"out/latest ({label}).png")
        assert len(versions.store.calls) <= 4, versions.store.calls
    assert sorted(versions.store.bodies().values()) == sorted(b"version %d" % n for n in range(105))


def test_without_the_ledger_of_before_the_free_name_is_found_as_well(versions: Versions) -> None:
    for number in range(101):
        versions.store.add(f"out/a ({number}).png" if number else "out/a.png", b"%d" % number)
    assert versions.archive("a.png", b"new") == f"out/a ({hashlib.sha256(b'new').hexdigest()[:8]}).png"


def test_a_hash_in_a_name_that_is_taken_gets_more_digits(versions: Versions) -> None:
    sha256 = hashlib.sha256(b"new").hexdigest()
    for number in range(101):
        versions.store.add(f"out/a ({number}).png" if number else "out/a.png", b"%d" % number)
    versions.store.add(f"out/a ({sha256[:8]}).png", b"somebody else's")
    assert versions.archive("a.png", b"new") == f"out/a ({sha256[:16]}).png"


def test_bytes_that_come_back_make_no_second_copy(versions: Versions) -> None:
    keys = [versions.archive("a.png", body) for body in (b"A", b"B", b"C", b"B", b"A", b"D", b"C")]
    names = ["", " (1)", " (2)", " (1)", "", " (3)", " (2)"]
    assert keys == [f"out/a{name}.png" for name in names]
    assert len(versions.store.objects) == 4


def test_the_same_bytes_of_another_machine_between_our_own_make_no_second_copy(versions: Versions) -> None:
    versions.archive("a.png", b"A")
    versions.store.add("out/a (1).png", b"B")
    assert versions.archive("a.png", b"C") == "out/a (2).png"
    assert versions.archive("a.png", b"B") == "out/a (1).png"
    assert len(versions.store.objects) == 3


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
@pytest.mark.parametrize(
    "name", ["n" * 251 + ".png", "日" * 83 + ".png", "x\x01y.png", "\x02" * 200 + ".png"]
)
def test_long_and_odd_names_get_keys_that_stores_and_disks_take(versions: Versions, name: str) -> None:
    for number in range(3):
        key = versions.archive(name, b"%d" % number)
        last = key.rpartition("/")[2]
        assert len(last.encode()) <= 255
        assert last.endswith(".png")
        assert "\x01" not in last
        metadata = versions.store.objects[key].metadata
        assert object_path(key, metadata.get("path", "")) == f"out/{name}"


def test_the_metadata_has_the_path_and_the_time_of_archiving(versions: Versions) -> None:
    (versions.root / "sub").mkdir()
    first, second = versions.archive("sub/ü.png", b"1"), versions.archive("sub/ü.png", b"2")
    one, two = (versions.store.objects[key].metadata for key in (first, second))
    assert "path" not in one
    assert two["path"] == "sub/%C3%BC.png"
    assert float(one["archived-at"]) < float(two["archived-at"])


def test_metadata_alone_proves_no_bytes(versions: Versions) -> None:
    """An object with our metadata and size whose bytes can't be read proves nothing: the file gets another name."""
    sha256 = hashlib.sha256(b"good").hexdigest()
    versions.store.add("out/a.png", b"evil", sha256=sha256)
    versions.store.objects["out/a.png"].etag = "opaque"

    def denied(operation: str, key: str) -> None:
        if operation == "GetObject":
            raise StoreError(operation, key, explain("AccessDenied"), status=403)

    versions.store.on_call = denied
    assert versions.archive("a.png", b"good") == "out/a (1).png"
