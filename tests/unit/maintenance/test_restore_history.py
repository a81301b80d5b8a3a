"""`restore` of the versions of a file, with a ledger and without, and of objects that somebody replaced."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.files import FileVersion
from cloud_archive.keys import PrefixTemplate, conflict_key, object_key, path_metadata
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance import kept_listing
from cloud_archive.maintenance.restore import (
    RestoreFilter,
    restore,
)
from cloud_archive.scope import KeyScope
from cloud_archive.store.evidence import confirmed_now
from tests.archived_rows import mark_archived
from tests.memory_store import MemoryStore, StoredObject
from tests.unit.maintenance.restored import OUT, files


@pytest.fixture
def store() -> Any:
    return MemoryStore()


# --- versions


def add_version(store: MemoryStore, key: str, body: bytes, archived_at: int, path: str | None = None) -> None:
    """As an archive writes it."""
    facts = {"archived-at": f"{archived_at}.000000001"} | ({} if path is None else {"path": path})
    store.add(key, body)
    store.objects[key].metadata.update(facts)


@pytest.fixture
def three_versions(store: MemoryStore) -> MemoryStore:
    add_version(store, "out/latest.png", b"first", 100)
    add_version(store, "out/latest (1).png", b"a file of this name", 150)
    add_version(store, "out/latest (2).png", b"second", 200, "latest.png")
    add_version(store, "out/latest (1) (1).png", b"its second version", 250, "latest%20(1).png")
    add_version(store, "out/latest (1a2b3c4d).png", b"third", 300, "latest.png")
    return store


def test_the_bucket_is_listed_once_however_many_versions_it_holds(
    tmp_path: Path, three_versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_listing, "MEMORY_BYTES", 100)  # the rest goes to the disk
    odd = "out/ünicode \udcff.png"
    three_versions.add(odd, b"odd")
    report = restore(three_versions, tmp_path, scope=OUT)
    assert three_versions.count("ListObjectsV2") == 1
    assert (report.restored, report.older, report.failed) == (3, 3, 0)


def test_the_newest_version_comes_back_under_its_own_name(tmp_path: Path, three_versions: Any) -> None:
    expected = {"latest.png": b"third", "latest (1).png": b"its second version"}
    for already in (0, 2):
        report = restore(three_versions, tmp_path, scope=OUT)
        assert files(tmp_path) == expected
        assert (report.restored, report.already, report.older) == (2 - already, already, 3)
        assert (report.renamed, report.guessed, report.failed) == (0, 0, 0)


def test_with_all_versions_the_others_come_beside_it(tmp_path: Path, three_versions: Any) -> None:
    planned = restore(three_versions, tmp_path, scope=OUT, all_versions=True, dry_run=True)
    names = ["latest.png", *(f"latest ({number}).png" for number in (1, 2, 3)), "latest (1) (1).png"]
    assert sorted(item.path for item in planned.items) == sorted(names)
    for already in (0, 5):
        report = restore(three_versions, tmp_path, scope=OUT, all_versions=True)
        assert (report.restored, report.already, report.older) == (5 - already, already, 0)
        assert (report.renamed, report.failed) == (0, 0)
    assert files(tmp_path) == {
        "latest.png": b"third",
        "latest (1).png": b"its second version",
        "latest (2).png": b"second",
        "latest (3).png": b"first",
        "latest (1) (1).png": b"a file of this name",
    }


def test_the_newest_of_a_time_is_chosen_among_what_is_wanted(tmp_path: Path, store: Any) -> None:
    store.add("out/a.png", b"old", mtime="1000", **{"archived-at": "1000"})
    store.add("out/a (1).png", b"new", mtime="2000", **{"archived-at": "2000", "path": "a.png"})
    restore(store, tmp_path, scope=OUT, wanted=RestoreFilter(until=1500.0))
    assert files(tmp_path) == {"a.png": b"old"}


@pytest.mark.parametrize(
    ("key", "body"),
    [("out/fox.png", b"of pod 1"), ("out/fox (1).png", b"of pod 2"), ("out/100%.png", b"whole")],
)
def test_a_whole_key_chooses_one_of_two_machines_pictures(
    tmp_path: Path, store: Any, key: str, body: bytes
) -> None:
    store.add("out/fox.png", b"of pod 1", **{"archived-at": "1000"})
    store.add("out/fox (1).png", b"of pod 2", **{"archived-at": "2000", "path": "fox.png"})
    store.add("out/100%.png", b"whole", **{"archived-at": "2000"})
    report = restore(store, tmp_path, scope=OUT, wanted=RestoreFilter((key,)))
    assert list(files(tmp_path).values()) == [body]
    assert (report.restored, report.older, report.skipped) == (1, 0, 2)


def test_more_versions_than_numbers_come_back_beside_it(tmp_path: Path, store: Any) -> None:
    for number in range(130):
        key = f"out/a ({number}).png" if number <= 100 else f"out/a ({number:08x}).png"
        add_version(
            store, key if number else "out/a.png", b"%d" % number, number, "a.png" if number else None
        )
    report = restore(store, tmp_path, scope=OUT, all_versions=True)
    assert (report.restored, report.failed) == (130, 0)
    assert sorted(files(tmp_path).values()) == sorted(b"%d" % number for number in range(130))
    assert files(tmp_path)["a.png"] == b"129"


def test_objects_of_before_keep_their_keys_names_and_that_is_said(tmp_path: Path, store: Any) -> None:
    store.add("out/a.png", b"first", written=1000.0)
    store.add("out/a (1).png", b"second, or a file of that name", written=2000.0)
    report = restore(store, tmp_path, scope=OUT)
    assert files(tmp_path) == {"a.png": b"first", "a (1).png": b"second, or a file of that name"}
    assert report.guessed == 1
    (doubtful,) = [item for item in report.items if item.cause]
    assert doubtful.key == "out/a (1).png"
    assert "number may belong to the file's name" in doubtful.cause


def known_rows(ledger: Ledger, keys: dict[str, tuple[str, bytes]]) -> None:
    for number, (key, (path, body)) in enumerate(keys.items()):
        ledger.clock = lambda number=number: 5000.0 + number  # type: ignore[misc]
        ledger.add([FileVersion(path, len(body), number)])
        claim = ledger.claim("test")
        assert claim is not None
        sha256 = hashlib.sha256(body).hexdigest()
        mark_archived(ledger, claim, key=key, sha256=sha256, etag=hashlib.md5(body).hexdigest(), wrote=True)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    made = Ledger(tmp_path / "ledger.sqlite3")
    made.open()
    yield made
    made.close()


def test_the_ledger_tells_what_older_objects_do_not(tmp_path: Path, store: Any, ledger: Ledger) -> None:
    objects = {
        "out/a.png": ("a.png", b"first"),
        "out/a (2).png": ("a.png", b"second"),
        "out/a (1).png": ("a (1).png", b"a file of that name"),
    }
    for key, (_, body) in objects.items():
        store.add(key, body)
    known_rows(ledger, objects)
    target = tmp_path / "target"
    report = restore(store, target, scope=OUT, ledger=ledger)
    assert files(target) == {"a.png": b"second", "a (1).png": b"a file of that name"}
    assert (report.guessed, report.older) == (0, 1)


def test_bytes_that_came_back_are_the_newest_where_the_ledger_knows(
    tmp_path: Path, store: Any, ledger: Ledger
) -> None:
    add_version(store, "out/a.png", b"A", 100)
    add_version(store, "out/a (1).png", b"B", 200, "a.png")
    known_rows(ledger, {"out/a (1).png": ("a.png", b"B"), "out/a.png": ("a.png", b"A")})
    restore(store, tmp_path / "target", scope=OUT, ledger=ledger)
    assert files(tmp_path / "target") == {"a.png": b"A"}


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
@pytest.mark.parametrize(
    "name", ["x\x01y.png", "new\nline.png", "caf\udce9.png", "\x02" * 200 + ".png", "n" * 255]
)
def test_odd_and_long_names_come_back_as_they_were(tmp_path: Path, store: Any, name: str) -> None:
    for number in range(2):
        base = object_key("out", f"sub/{name}")
        key = conflict_key(base, number)
        path = path_metadata(f"sub/{name}", base, key)
        add_version(store, key, b"%d" % number, number, path)
    report = restore(store, tmp_path, scope=OUT)
    assert (report.failed, report.renamed, report.older) == (0, 0, 1)
    assert files(tmp_path) == {f"sub/{name}": b"1"}


def test_the_reserved_folder_and_other_archives_are_not_restored(tmp_path: Path, store: Any) -> None:
    add_version(store, "comfy-2026/a.png", b"a", 1)
    for key in (".cloud-archive/check", ".cloud-archive-check", "comfy-old/b.png", "c.png"):
        store.add(key, b"x")
    restore(store, tmp_path, scope=KeyScope(PrefixTemplate.parse("comfy-{Y}")))
    assert files(tmp_path) == {"comfy-2026/a.png": b"a"}


# --- objects that somebody replaced


def evil(store: MemoryStore, key: str) -> None:
    """Other bytes of the same size under the same metadata, as anybody with the right to put can write them."""
    stored = store.objects[key]
    store.objects[key] = StoredObject(b"!" * len(stored.body), stored.metadata, stored.written)


def test_a_replaced_object_is_named_and_never_adopted(root: Path, store: Any, ledger: Ledger) -> None:
    store.add("out/a.png", b"good", mtime="1700000000.123456789")
    assert restore(store, root, scope=OUT, ledger=ledger, watched=root).restored == 1
    before = ledger.rows()
    evil(store, "out/a.png")
    report = restore(store, root, scope=OUT, ledger=ledger, watched=root)
    assert (report.already, report.failed) == (0, 1)
    assert "so it was replaced" in report.items[0].cause
    assert files(root) == {"a.png": b"good"}
    assert ledger.rows() == before, "neither its ETag nor anything else"
    assert not confirmed_now(before[0], store), "and free keeps the only copy"


def test_a_local_file_is_hashed_whatever_its_size_and_time(root: Path, store: Any, ledger: Ledger) -> None:
    store.add("out/a.png", b"good", mtime="1700000000.123456789")
    local = root / "a.png"
    local.write_bytes(b"mine")
    os.utime(local, ns=(1_700_000_000_123_456_789,) * 2)
    report = restore(store, root, scope=OUT, ledger=ledger, watched=root)
    assert (report.restored, report.renamed) == (1, 1)
    assert files(root) == {"a.png": b"mine", "a (1).png": b"good"}
    assert [row.version.path for row in ledger.rows()] == ["a (1).png"], "nothing is said of the other one"


def test_a_replaced_object_with_fitting_metadata_is_no_version_that_was_archived(
    root: Path, store: Any, ledger: Ledger
) -> None:
    store.add("out/a.png", b"good", mtime="1700000000.123456789")
    restore(store, root, scope=OUT, ledger=ledger, watched=root)
    before = ledger.rows()
    (root / "a.png").unlink()
    store.add("out/a.png", b"evil", mtime="1700000000.123456789")
    report = restore(store, root, scope=OUT, ledger=ledger, watched=root)
    assert report.failed == 1
    assert "so it was replaced" in report.items[0].cause
    assert files(root) == {}
    assert ledger.rows() == before


def test_an_etag_that_is_no_md5_is_believed_after_the_bytes_were_read(
    root: Path, store: Any, ledger: Ledger
) -> None:
    store.add("out/a.png", b"good")
    store.objects["out/a.png"].etag = "opaque"
    (root / "a.png").write_bytes(b"good")
    assert restore(store, root, scope=OUT, ledger=ledger, watched=root).already == 1
    assert store.count("GetObject") == 1
    assert [(row.etag, row.key) for row in ledger.rows()] == [("opaque", "out/a.png")]
    assert restore(store, root, scope=OUT, ledger=ledger, watched=root).already == 1
    assert store.count("GetObject") == 1, "what is proven is not read again"


def test_an_object_that_is_swapped_while_it_is_read_is_not_adopted(tmp_path: Path, store: Any) -> None:
    store.add("out/a.png", b"good")

    def swap(operation: str, key: str) -> None:
        if operation == "GetObject":
            store.add("out/a.png", b"next")

    store.on_call = swap
    report = restore(store, tmp_path, scope=OUT)
    assert report.failed == 1
    assert report.items[0].cause
    assert files(tmp_path) == {}


def test_no_more_is_written_than_the_object_should_have(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("out/a.png", b"12345")
    sent = 0

    def endless(key: str, limit_bytes: int, **how: Any) -> Any:
        nonlocal sent
        while True:
            sent += 1000
            yield b"x" * 1000

    monkeypatch.setattr(store, "read", endless)
    report = restore(store, tmp_path, scope=OUT)
    assert report.failed == 1
    assert "more than the object's 5 bytes" in report.items[0].cause
    assert sent == 1000
    assert files(tmp_path) == {}
