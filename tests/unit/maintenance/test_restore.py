"""`restore` against a bucket that says anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.cli.restore import _show
from cloud_archive.maintenance.restore import (
    RestoreFilter,
    RestoreItem,
    RestoreReport,
    restore,
)
from cloud_archive.scope import KeyScope
from tests.memory_store import Hanging, MemoryStore, refuse
from tests.unit.maintenance.restored import OUT, files
from tests.unit.maintenance.test_safe_paths import HOSTILE

posix = pytest.mark.skipif(os.name == "nt", reason="the rules of another system")


@pytest.fixture
def store() -> Any:
    return MemoryStore()


@pytest.mark.parametrize("windows", [pytest.param(False, marks=posix), True])
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


@pytest.mark.skipif(os.name == "nt", reason="a user may make no symlinks")
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


def test_a_name_that_the_system_does_not_allow_counts_as_another_name(tmp_path: Path, store: Any) -> None:
    for key in ("out/a:b.png", "out/plain.png"):
        store.add(key, b"x")
    report = restore(store, tmp_path, scope=OUT, windows=True)
    assert (report.restored, report.renamed) == (2, 1)
    assert list(files(tmp_path)) == ["a%3Ab.png", "plain.png"]


@posix
def test_names_that_are_too_long_for_this_system_are_shortened(tmp_path: Path, store: Any) -> None:
    keys = ["狐" * 100 + ".png", "狐" * 100 + "b.png", "d" * 300 + "/a.png"]  # Windows takes the first two
    for key in keys:
        store.add(f"out/{key}", key.encode())
    report = restore(store, tmp_path, scope=OUT)
    assert (report.restored, report.failed) == (3, 0), report.items
    assert sorted(files(tmp_path).values()) == sorted(key.encode() for key in keys)
    assert all(path.endswith(".png") for path in files(tmp_path))
    assert restore(store, tmp_path, scope=OUT).already == 3


def test_a_name_that_is_too_long_once_it_is_valid_on_windows_is_shortened(tmp_path: Path, store: Any) -> None:
    store.add("out/" + "a:" * 80 + ".png", b"x")
    report = restore(store, tmp_path, scope=OUT, windows=True)
    assert (report.restored, report.renamed) == (1, 1), report.items
    assert report.items[0].path.startswith("a%3Aa%3A")
    assert report.items[0].path.endswith(".png")


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


def test_a_store_that_stays_away_ends_the_run_and_is_not_asked_about_each_object(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_after_another(run: Any, ledger: Any, workers: int) -> Iterator[list[RestoreItem]]:
        for group, rows in run.groups(ledger):  # threads would report them in the order in which they end
            yield run.restore_group(group, rows)

    monkeypatch.setattr("cloud_archive.maintenance.restore._restored_groups", one_after_another)
    monkeypatch.setattr("cloud_archive.maintenance.retry.FIRST_PAUSE_SECONDS", 0)
    for number in range(40):
        store.add(f"out/{number:02}.png", bytes([number]))

    def away(operation: str, key: str) -> None:
        if operation == "HeadObject" and key > "out/09.png" and key not in answered:
            refuse("ConnectTimeout", None, key)

    answered = {"out/12.png"}  # begins the count again
    store.on_call = away
    report = restore(store, tmp_path, scope=OUT, workers=1)
    assert report.to_json()["stopped_early"]
    assert (report.restored, report.failed) == (11, 5)
    store.on_call = lambda operation, key: None
    report = restore(store, tmp_path, scope=OUT)
    assert not report.stopped_early
    assert (report.restored, report.already, report.failed) == (29, 11, 0)


def test_bytes_that_the_store_lost_end_no_run(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.maintenance.retry.FIRST_PAUSE_SECONDS", 0)
    for number in range(10):
        store.add(f"out/{number}.png", bytes([number]))

    def lost(operation: str, key: str) -> None:
        if operation == "GetObject" and key < "out/9.png":
            refuse("InternalError", 500, key)

    store.on_call = lost
    report = restore(store, tmp_path, scope=OUT, workers=1)
    assert (report.restored, report.failed, report.stopped_early) == (1, 9, False)


def test_an_interrupted_run_leaves_no_file_that_is_not_whole_and_the_next_one_goes_on(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.maintenance.restore.STOPPING_SECONDS", 60)
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


@pytest.mark.parametrize("name", ["a", "b"])
def test_ctrl_c_waits_for_no_download_that_hangs(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch, hang: Hanging, name: str
) -> None:
    for each in "ab":
        store.add(f"out/{each}.png", b"body")

    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("GetObject", f"out/{name}.png"):
            hang(key)

    def stop(item: RestoreItem, report: RestoreReport) -> None:
        assert hang.begun.wait(60)
        raise KeyboardInterrupt

    store.on_call = on_call
    monkeypatch.setattr("cloud_archive.maintenance.restore.STOPPING_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        restore(store, tmp_path, scope=OUT, on_item=stop)
    assert hang.ended == []


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

    def unmatched(*patterns: str, until: float | None = None) -> list[str]:
        wanted = RestoreFilter(patterns, until=until)
        return restore(store, tmp_path / "back", scope=OUT, wanted=wanted, dry_run=True).unmatched

    assert unmatched() == unmatched("a.png", "out/b.png", "*.mp4") == unmatched("a.png", until=1.0) == []
    assert unmatched("*.png", "out/a.pn", "typo.png", "!none.png", "") == ["out/a.pn", "typo.png", ""]
    assert list(tmp_path.iterdir()) == [], "a dry run writes nothing"


@pytest.mark.parametrize("pattern", ["!", "[z-a]"])
def test_an_invalid_pattern_is_a_value_error(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"'!'|bad character range z-a$"):
        RestoreFilter((pattern,)).compiled()


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
        kept = 1_700_000_000_123_456_789 if os.name != "nt" else 1_700_000_000_123_456_700
        assert (tmp_path / "a.png").stat().st_mtime_ns == kept


def test_a_name_that_the_disk_refuses_fails_alone(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cloud_archive.maintenance.restore_files.local_parts", lambda path, *, windows: (path,)
    )
    store.add("out/" + "x" * 300, b"too long for a name")
    store.add("out/fine.png", b"fine")
    report = restore(store, tmp_path, scope=OUT)
    assert (report.restored, report.failed) == (1, 1)
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
