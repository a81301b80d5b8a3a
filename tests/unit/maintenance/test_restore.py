"""`restore` against a bucket that says anything."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.cli.restore import _show
from cloud_archive.files import FileVersion, format_timestamp_ns
from cloud_archive.keys import PrefixTemplate, conflict_key, object_key, path_metadata
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance import kept_listing
from cloud_archive.maintenance.restore import (
    RestoreFilter,
    RestoreItem,
    RestoreReport,
    RestoreResult,
    restore,
)
from cloud_archive.maintenance.restore_files import modified_ns
from cloud_archive.scope import KeyScope
from cloud_archive.store.base import ObjectInfo
from cloud_archive.store.evidence import confirmed_now
from tests.memory_store import MemoryStore, StoredObject, refuse
from tests.unit.maintenance.test_safe_paths import HOSTILE

OUT = KeyScope.folder("out")


@pytest.fixture
def store() -> Any:
    return MemoryStore()


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("windows", [False, True])
def test_every_hostile_object_comes_back_and_none_outside(tmp_path: Path, store: Any, windows: bool) -> None:
    target = tmp_path / "a" / "b" / "target"
    for number, key in enumerate(HOSTILE):
        store.add(f"out/{key}", b"%d" % number)
    report = restore(store, target, scope=OUT, windows=windows)
    assert report.failed == 0, report.items
    assert report.restored == len(HOSTILE)
    assert sorted(files(target).values()) == sorted(b"%d" % number for number in range(len(HOSTILE)))
    assert list(files(tmp_path)) == [f"a/b/target/{path}" for path in files(target)], "and nothing beside it"
    assert files(target)["ok/ComfyUI_00001_.png"] == b"%d" % HOSTILE.index("ok/ComfyUI_00001_.png")
    assert restore(store, target, scope=OUT, windows=windows).already == len(HOSTILE)


def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path, store: Any) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "sub").symlink_to(outside)
    (target / "dangling.png").symlink_to(outside / "made.png")
    (target / "real").mkdir()
    (target / "inside").symlink_to(target / "real")
    for key in ("sub/x.png", "dangling.png", "inside/y.png"):
        store.add(key, key.encode())
    report = restore(store, target, scope=KeyScope.folder(""))
    assert report.failed == 0
    assert files(outside) == {}
    assert files(target) == {
        "sub (1)/x.png": b"sub/x.png",
        "dangling (1).png": b"dangling.png",
        "inside (1)/y.png": b"inside/y.png",
    }
    assert report.renamed == 3


def test_a_different_file_is_never_replaced(tmp_path: Path, store: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    (tmp_path / "a (1).png").write_bytes(b"mine too")
    (tmp_path / "same.png").write_bytes(b"equal")
    store.add("out/a.png", b"theirs")
    store.add("out/same.png", b"equal")
    report = restore(store, tmp_path, scope=OUT)
    assert files(tmp_path) == {
        "a.png": b"mine",
        "a (1).png": b"mine too",
        "a (2).png": b"theirs",
        "same.png": b"equal",
    }
    assert (report.restored, report.already, report.renamed) == (1, 1, 1)
    assert store.count("GetObject") == 1, "what is there is not fetched"
    assert restore(store, tmp_path, scope=OUT).already == 2


def test_a_file_in_the_place_of_a_folder_is_gone_round(tmp_path: Path, store: Any) -> None:
    (tmp_path / "a").write_bytes(b"a file")
    store.add("out/a/b.png", b"below it")
    restore(store, tmp_path, scope=OUT)
    assert files(tmp_path) == {"a": b"a file", "a (1)/b.png": b"below it"}


def test_bytes_that_do_not_fit_their_checksum_are_not_kept(tmp_path: Path, store: Any) -> None:
    store.add("out/a.png", b"good")
    store.objects["out/a.png"].body = b"evil"
    report = restore(store, tmp_path, scope=OUT)
    assert files(tmp_path) == {}
    assert report.failed == 1
    assert "don't match the object's checksum" in report.items[0].cause


def test_a_foreign_object_is_proven_by_its_md5_or_said_to_be_unproven(tmp_path: Path, store: Any) -> None:
    store.add_foreign("out/a.png", b"plain")
    store.add_foreign("out/b.png", b"in parts")
    store.objects["out/b.png"].etag = "0" * 32 + "-2"
    report = restore(store, tmp_path, scope=OUT)
    assert (report.restored, report.unproven) == (2, 1)
    assert [item.path for item in report.items if not item.proven] == ["b.png"]
    assert restore(store, tmp_path, scope=OUT).already == 2


def test_times_that_the_store_did_not_keep_are_counted_and_said_once(
    tmp_path: Path, store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        store.add(f"out/{number}.png", b"%d" % number)
    store.add("out/dated.png", b"dated", mtime="1600000000.5")
    report = restore(store, tmp_path, scope=OUT)
    assert (report.restored, report.undated) == (4, 3)
    assert [item.path for item in report.items if item.dated] == ["dated.png"]
    assert (tmp_path / "dated.png").stat().st_mtime == 1600000000.5
    _show(report, tmp_path)
    assert (
        capsys.readouterr().out.count(
            "with the time of the upload, because the objects state no modification time: 3."
        )
        == 1
    )
    again = restore(store, tmp_path, scope=OUT)
    assert (again.already, again.undated) == (4, 0), "those times were said before"


def test_the_bucket_is_listed_once_however_many_versions_it_holds(
    tmp_path: Path, three_versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_listing, "MEMORY_BYTES", 100)  # the rest goes to the disk
    odd = "out/ünicode \udcff.png"
    three_versions.add(odd, b"odd")
    report = restore(three_versions, tmp_path, scope=OUT)
    assert three_versions.count("ListObjectsV2") == 1
    assert (report.restored, report.older, report.failed) == (3, 3, 0)


def test_a_store_that_fails_now_and_then_is_asked_again(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.maintenance.retry.FIRST_PAUSE_SECONDS", 0.001)
    store.add("out/a.png", b"body")
    refusals = iter(["InternalError", "SlowDown"])

    def before(operation: str, key: str) -> None:
        if operation == "GetObject" and (code := next(refusals, None)):
            refuse(code, 503, key)

    store.on_call = before
    assert restore(store, tmp_path, scope=OUT).restored == 1
    assert files(tmp_path) == {"a.png": b"body"}


def test_an_interrupted_run_leaves_no_file_that_is_not_whole_and_the_next_one_goes_on(
    tmp_path: Path, store: Any
) -> None:
    for number in range(40):
        store.add(f"out/{number:02}.png", bytes([number]) * 5000)
    seen = threading.Event()

    def stop(item: RestoreItem, report: RestoreReport) -> None:
        if report.restored == 7:
            seen.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(store, tmp_path, scope=OUT, workers=2, on_item=stop)
    assert seen.is_set()
    assert all(len(body) == 5000 for body in files(tmp_path).values())
    first = len(files(tmp_path))
    store.calls.clear()
    report = restore(store, tmp_path, scope=OUT)
    assert len(files(tmp_path)) == 40
    assert (report.already, report.restored) == (first, 40 - first)
    assert store.count("GetObject") == 40 - first


def test_what_a_kill_left_half_written_hurts_nothing_and_goes_in_time(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("out/a.png", b"x" * 5000)
    leftover = tmp_path / f".{'1' * 24}.part"
    leftover.write_bytes(b"x" * 100)
    os.utime(leftover, (1e9, 1e9))  # as of a file that is whole and about to get its name
    restore(store, tmp_path, scope=OUT)
    assert files(tmp_path) == {"a.png": b"x" * 5000, leftover.name: b"x" * 100}, "another run may be at it"
    (tmp_path / "a.png").unlink()
    monkeypatch.setattr("cloud_archive.maintenance.restore_files.LEFTOVER_SECONDS", -1.0)
    restore(store, tmp_path, scope=OUT)
    assert files(tmp_path) == {"a.png": b"x" * 5000}


def test_patterns_times_and_sessions_choose(tmp_path: Path, store: Any) -> None:
    day = 86_400
    for name, age, session in (("a.png", 1, "s1"), ("b.png", 10, "s2"), ("video/c.mp4", 20, "s1")):
        moment = 1_700_000_000 - age * day
        store.add(f"out/{name}", name.encode(), mtime=f"{moment}.000000000", **{"archive-session": session})
    now = 1_700_000_000.0

    def chosen(wanted: RestoreFilter) -> list[str]:
        report = restore(store, tmp_path, scope=OUT, wanted=wanted, dry_run=True)
        return sorted(item.path for item in report.items)

    assert chosen(RestoreFilter()) == ["a.png", "b.png", "video/c.mp4"]
    assert chosen(RestoreFilter(("*.png", "!b.png"))) == ["a.png"]
    assert chosen(RestoreFilter(("video/",))) == ["video/c.mp4"]
    assert chosen(RestoreFilter(since=now - 15 * day)) == ["a.png", "b.png"]
    assert chosen(RestoreFilter(since=now - 15 * day, until=now - 5 * day)) == ["b.png"]
    assert chosen(RestoreFilter(session="s1")) == ["a.png", "video/c.mp4"]
    assert list(tmp_path.iterdir()) == [], "a dry run writes nothing"


def test_a_dry_run_says_where_things_would_be(tmp_path: Path, store: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    (tmp_path / "b.png").write_bytes(b"b")
    store.add("out/a.png", b"theirs")
    store.add("out/b.png", b"b")
    report = restore(store, tmp_path, scope=OUT, dry_run=True)
    assert (report.restored, report.already) == (1, 1)
    assert report.items[0].path == "a (1).png"
    assert store.count("GetObject") == 0


def test_marks_for_folders_are_passed_over(tmp_path: Path, store: Any) -> None:
    store.add_foreign("out/", b"")
    store.add_foreign("out/sub/", b"")
    store.add("out/sub/a.png", b"a")
    assert restore(store, tmp_path, scope=OUT).restored == 1
    assert files(tmp_path) == {"sub/a.png": b"a"}


@pytest.mark.parametrize(
    "mtime", ["1700000000.123456789", "1700000000", "-5.5", "nan", "1e400", "99999999999999999999", "x", ""]
)
def test_any_mtime_in_the_metadata_is_survived(tmp_path: Path, store: Any, mtime: str) -> None:
    store.add("out/a.png", b"a", mtime=mtime)
    assert restore(store, tmp_path, scope=OUT).restored == 1
    if mtime == "1700000000.123456789":
        assert (tmp_path / "a.png").stat().st_mtime_ns == 1_700_000_000_123_456_789


def test_a_name_that_the_disk_refuses_fails_alone(tmp_path: Path, store: Any) -> None:
    store.add("out/" + "x" * 300, b"too long for a name")
    store.add("out/fine.png", b"fine")
    report = restore(store, tmp_path, scope=OUT)
    assert (report.restored, report.failed) == (1, 1)
    assert report.items[0].result in (RestoreResult.FAILED, RestoreResult.RESTORED)
    assert files(tmp_path) == {"fine.png": b"fine"}


def test_without_hard_links_nothing_is_replaced_either(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "a.png").write_bytes(b"mine")
    store.add("out/a.png", b"theirs")
    restore(store, tmp_path, scope=OUT)
    assert files(tmp_path) == {"a.png": b"mine", "a (1).png": b"theirs"}


@pytest.mark.parametrize("nanoseconds", [0, 1, -1, -1_500_000_000, 1_700_000_000_123_456_789, -(10**18) - 7])
def test_a_time_of_modification_comes_back_to_the_nanosecond_also_from_before_1970(nanoseconds: int) -> None:
    text = format_timestamp_ns(nanoseconds)
    assert float(text) == pytest.approx(nanoseconds / 1e9)  # decimal seconds, as rclone reads them
    assert modified_ns(ObjectInfo("k", 1, None, None, None, {"mtime": text}, None)) == nanoseconds


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
        ledger.mark_archived(claim, key=key, sha256=sha256, etag=hashlib.md5(body).hexdigest(), wrote=True)


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


def test_a_replaced_object_is_named_and_never_adopted(tmp_path: Path, store: Any, ledger: Ledger) -> None:
    root = tmp_path / "output"
    root.mkdir()
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


def test_a_local_file_is_hashed_whatever_its_size_and_time(
    tmp_path: Path, store: Any, ledger: Ledger
) -> None:
    root = tmp_path / "output"
    root.mkdir()
    store.add("out/a.png", b"good", mtime="1700000000.123456789")
    local = root / "a.png"
    local.write_bytes(b"mine")
    os.utime(local, ns=(1_700_000_000_123_456_789,) * 2)
    report = restore(store, root, scope=OUT, ledger=ledger, watched=root)
    assert (report.restored, report.renamed) == (1, 1)
    assert files(root) == {"a.png": b"mine", "a (1).png": b"good"}
    assert [row.version.path for row in ledger.rows()] == ["a (1).png"], "nothing is said of the other one"


def test_a_replaced_object_with_fitting_metadata_is_no_version_that_was_archived(
    tmp_path: Path, store: Any, ledger: Ledger
) -> None:
    root = tmp_path / "output"
    root.mkdir()
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
    tmp_path: Path, store: Any, ledger: Ledger
) -> None:
    root = tmp_path / "output"
    root.mkdir()
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
    assert "replaced meanwhile" in report.items[0].cause or report.items[0].cause
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
