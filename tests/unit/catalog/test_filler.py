"""Filling the catalog: from the ledger, the local file and the bucket, again after a change, and until the end."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.describe import describe, describe_again
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.reading import AssetReader
from cloud_archive.catalog.search import search
from cloud_archive.errors import StoreError
from cloud_archive.ledger.history import mark_pruned
from tests.memory_store import refuse
from tests.servers import wait_until
from tests.unit.catalog.filling import found

from . import writers
from .cataloguing import BUCKET, Stage, png


def test_archived_files_are_described_from_disk(stage: Stage) -> None:
    stage.archive("a.png", png("a red fox", 2**64 - 1))
    stage.archive("sub/b.mp4", writers.core_mp4())
    stage.fill()
    (fox,) = found(stage, '"a red fox"')
    assert (fox["metadata"]["seed"], fox["metadata"]["source"]) == (2**64 - 1, "png")
    assert (fox["has_workflow"], fox["has_prompt"]) == (True, True)
    assert (fox["machine"], fox["session_id"], fox["key"]) == ("pod-1", "session-1", "out/a.png")
    assert len(found(stage)) == 2
    assert stage.store.count("GetObject") == 0


def test_a_file_that_is_gone_is_read_from_the_bucket_by_ranges(stage: Stage) -> None:
    body = png("a lost fox")
    stage.archive("a.png", body)
    (stage.root / "a.png").unlink()
    stage.fill()
    assert found(stage, "lost")[0]["width"] == 8
    assert 1 <= stage.store.count("GetObject") <= 3


def test_a_local_file_that_is_another_one_is_not_described(stage: Stage) -> None:
    stage.archive("a.png", png("the archived fox"))
    (stage.root / "a.png").write_bytes(png("a later cat"))
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["the archived fox"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_no_symbolic_link_is_followed(stage: Stage) -> None:
    body = png("inside")
    stage.archive("sub/a.png", body)
    outside = stage.base / "outside"
    (stage.root / "sub").rename(outside)
    (stage.root / "sub").symlink_to(outside)
    stage.fill()
    assert stage.store.count("GetObject") > 0
    assert len(found(stage, "inside")) == 1


def test_a_file_on_which_a_reader_fails_holds_up_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage.archive("a.png", png("a fox"))
    stage.archive("odd.png", png("an odd fox"))
    fail_on("odd.png", monkeypatch)
    stage.fill()
    assert sorted((asset["name"], asset["metadata"]["prompt"]) for asset in found(stage)) == [
        ("a.png", "a fox"),
        ("odd.png", None),
    ]
    assert "How odd.png was made can't be read: an internal error: TypeError at test_filler.py" in caplog.text
    assert "hidden" not in caplog.text


def test_a_reader_that_fails_later_removes_no_graphs(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage.archive("odd.png", png("an odd fox"))
    stage.fill()
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = 0") and None)
    fail_on("odd.png", monkeypatch)
    stage.fill()
    assert "How odd.png was made can't be read" in caplog.text
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["an odd fox"]
    assert found(stage)[0]["has_workflow"]


@pytest.mark.parametrize("place", ["source.FileSource.read_at", "reading.describe"])
def test_a_file_for_which_memory_was_short_is_read_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    stage.archive("a.png", png("a fox"))
    with monkeypatch.context() as short:
        short.setattr(f"cloud_archive.catalog.{place}", fail)
        stage.fill()
    stage.database.change(lambda db: db.execute("UPDATE assets SET next_try = 0") and None)
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["a fox"]


def fail_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the description of this file fail, as a fault in a reader would."""

    def failing(function: Any, position: int) -> Any:
        def describing(*given: Any, **named: Any) -> Any:
            if given[position] == name:
                raise TypeError("hidden")
            return function(*given, **named)

        return describing

    monkeypatch.setattr("cloud_archive.catalog.reading.describe", failing(describe, 1))
    monkeypatch.setattr("cloud_archive.catalog.reading.describe_again", failing(describe_again, 2))


def test_while_files_upload_none_is_read_but_a_viewer_gets_names(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    (stage.root / "b.png").write_bytes(b"b")
    from cloud_archive.files import stat_version

    stage.ledger.add([stat_version(stage.root, "b.png")])
    claim = stage.ledger.claim("worker")
    assert claim is not None
    assert stage.filler.fill() is False
    assert found(stage) == []
    stage.filler.note_viewer()
    assert stage.filler.fill() is False
    assert [(asset["name"], asset["has_prompt"]) for asset in found(stage)] == [("a.png", False)]
    stage.ledger.mark_vanished(claim)
    stage.fill()
    assert [asset["has_prompt"] for asset in found(stage)] == [True]


def test_uploads_that_end_after_a_copy_for_a_viewer_do_not_count_as_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.archive("a.png", png("a fox"))
    idle = iter([False])
    monkeypatch.setattr(stage.filler, "may_go_on", lambda: next(idle, True))
    monkeypatch.setattr(AssetReader, "read_some", lambda reader, may_go_on: 0)  # uploads ended just after it
    stage.filler.note_viewer()
    assert stage.filler.fill() is False
    assert not stage.filler.caught_up.is_set()


def test_what_is_archived_while_the_filler_ends_its_work_is_not_taken_for_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush wakes the filler after each file; it must not take the end of an earlier look for that of this one."""
    read_some = AssetReader.read_some

    def read_and_archive(reader: AssetReader, may_go_on: Any) -> int:
        count = read_some(reader, may_go_on)
        monkeypatch.undo()
        stage.archive("b.png", png("a late fox"))
        stage.filler.wake()
        return count

    stage.fill()
    stage.filler.wake()
    monkeypatch.setattr(AssetReader, "read_some", read_and_archive)
    assert stage.filler.fill() is False
    assert not stage.filler.caught_up.is_set()
    stage.fill()
    assert stage.filler.caught_up.is_set()
    assert len(found(stage, "late")) == 1


def test_the_companion_picture_of_a_video_is_read(stage: Stage) -> None:
    video = b"\0\0\0\x18ftypmp42" + bytes(200)
    stage.archive("clip_00001.mp4", video)
    stage.archive("clip_00001.png", png("a moving fox"))
    (stage.root / "clip_00001.mp4").unlink()
    stage.archive("gone_00001-audio.mp4", video)
    stage.archive("gone_00001.png", png("a distant fox"))
    for name in ("gone_00001-audio.mp4", "gone_00001.png"):
        (stage.root / name).unlink()
    stage.fill()
    prompts = {asset["name"]: asset["metadata"]["prompt"] for asset in found(stage)}
    assert prompts["clip_00001.mp4"] == "a moving fox"
    assert prompts["gone_00001-audio.mp4"] == "a distant fox"


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_the_companion_of_an_animation_has_the_number_of_its_key(stage: Stage, ending: str) -> None:
    """Video Helper Suite writes no graph into these, and two machines write files with the same paths."""
    for key, number, prompt in (("clip", 1, "a fox of pod 1"), ("clip (1)", 2, "a fox of pod 2")):
        stage.archive(f"{number}/clip.{ending}", bytes([number]) * 200, key=f"out/{key}.{ending}")
        stage.archive(f"{number}/clip.png", png(prompt), key=f"out/{key}.png")
        for name in (f"clip.{ending}", "clip.png"):
            (stage.root / str(number) / name).unlink()
    stage.fill()
    prompts = {asset["key"]: asset["metadata"]["prompt"] for asset in found(stage)}
    assert prompts[f"out/clip.{ending}"] == "a fox of pod 1"
    assert prompts[f"out/clip (1).{ending}"] == "a fox of pod 2"


def test_the_companion_of_a_local_file_that_is_another_one_is_not_read(stage: Stage) -> None:
    stage.archive("clip.gif", bytes(200), key="out/clip (1).gif")
    stage.archive("clip.png", png("a fox of pod 2"), key="out/clip (1).png")
    (stage.root / "clip.gif").write_bytes(bytes(100))
    (stage.root / "clip.png").write_bytes(png("a cat of pod 1"))
    stage.fill()
    assert {asset["metadata"]["prompt"] for asset in found(stage)} == {"a fox of pod 2"}


def test_a_video_is_read_where_the_store_denies_looking_for_its_companion(stage: Stage) -> None:
    def deny(operation: str, key: str) -> None:
        if operation == "HeadObject":
            refuse("AccessDenied", 403, key)

    stage.store.on_call = deny
    stage.archive("clip.mp4", b"\0\0\0\x18ftypmp42" + bytes(200))
    stage.fill()
    assert stage.filler.caught_up.is_set()
    assert [asset["name"] for asset in found(stage)] == ["clip.mp4"]


def test_a_pruned_object_leaves_the_catalog_and_its_edits_stay(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    identity = asset_id(BUCKET, "out/a.png")
    stage.database.change(lambda db: edit_asset(db, identity, {"rating": 5}, 1.0, "pod-1"))
    rows = stage.ledger.rows(limit=5)
    mark_pruned(stage.ledger, rows)
    stage.fill()
    assert found(stage) == []
    assert found(stage, "fox") == []
    stage.record("a.png", png("a fox"))
    stage.fill()
    assert [asset["rating"] for asset in found(stage, "fox")] == [5]


def test_a_replaced_object_is_read_again(stage: Stage) -> None:
    stage.archive("a.png", png("the first"))
    stage.fill()
    stage.archive("a.png", png("the second one"), mtime=1_700_000_100.0)
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["the second one"]
    filler = stage.new_filler()
    assert filler.fill() is False  # nothing changed, so nothing is read again


def test_a_file_that_cannot_be_read_now_is_found_by_name_and_read_later(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    (stage.root / "a.png").unlink()
    real = stage.store.read

    def failing(*_: Any, **__: Any) -> Any:
        refuse("SlowDown", 503, "out/a.png")

    stage.store.read = failing  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        stage.fill()
    assert [asset["name"] for asset in found(stage, "a.png")] == ["a.png"]
    stage.store.read = real  # type: ignore[method-assign]
    stage.database.change(lambda db: db.execute("UPDATE assets SET next_try = 0") and None)
    stage.fill()
    assert len(found(stage, "fox")) == 1


def test_the_thread_fills_and_stops(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.filler.start()
    assert stage.filler.caught_up.wait(60)
    assert stage.filler._thread.is_alive()
    stage.filler.stop()
    stage.filler._thread.join(60)  # `stop` waits for 5 s
    assert not stage.filler._thread.is_alive()
    assert len(found(stage, "fox")) == 1


def test_what_is_archived_later_is_read_without_polling(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.filler.IDLE_SECONDS", 3600.0)
    monkeypatch.setattr("cloud_archive.catalog.filler.GATHER_SECONDS", 0.0)
    rests = threading.Semaphore(0)
    rest = stage.filler._rest

    def counted() -> None:
        rests.release()
        rest()

    monkeypatch.setattr(stage.filler, "_rest", counted)
    stage.filler.start()
    assert rests.acquire(timeout=60)
    assert stage.filler.caught_up.is_set()
    assert not rests.acquire(timeout=1.2), "an idle ledger wakes nobody"
    stage.archive("a.png", png("a fox"))
    wait_until(lambda: bool(found(stage, "fox")), "the catalog holds the new file")


def test_what_an_older_reader_has_read_is_read_again(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = -1, recipe = NULL") and None)
    assert found(stage, '"a fox"') == []
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = 1") and None)
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr("cloud_archive.catalog.rows.READER_VERSION", 2)
        stage.filler = stage.new_filler()
        stage.fill()
        assert len(found(stage, '"a fox"')) == 1
        assert stage.database.read("SELECT reader FROM assets") == [(2,)]


def test_a_newer_reader_reads_the_stored_graph_and_not_the_file(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = stage.archive("a.png", png("a fox", 7))
    stage.archive("text.png", writers.parameters_png())
    stage.fill()
    before = found(stage)
    (stage.root / "a.png").unlink()
    del stage.store.objects[key]
    stage.store.calls.clear()
    monkeypatch.setattr("cloud_archive.catalog.rows.READER_VERSION", 2)
    stage.filler = stage.new_filler()
    stage.fill()
    assert found(stage) == before
    assert stage.database.read("SELECT DISTINCT reader FROM assets") == [(2,)]
    assert stage.store.calls == []


def test_a_replaced_object_is_read_and_not_its_old_graph(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    key = stage.archive("a.png", png("a cat"), mtime=1_700_000_100.0)
    assert key == "out/a.png"
    stage.filler = stage.new_filler()
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["a cat"]


def test_totals_follow_what_is_hidden_added_and_removed(stage: Stage) -> None:
    for name in ("a.png", "b.png"):
        stage.archive(name, png(name))
    stage.fill()
    identity = asset_id(BUCKET, "out/a.png")
    stage.database.change(lambda db: edit_asset(db, identity, {"hidden": True}, 1.0, "pod-1"))
    with stage.database.reading() as db:
        assert (search(db).total, search(db, "is:hidden").total) == (1, 1)
    mark_pruned(stage.ledger, stage.ledger.rows(limit=5))
    stage.fill()
    with stage.database.reading() as db:
        assert (search(db).total, search(db, "is:hidden").total) == (0, 0)
    assert stage.database.read("SELECT * FROM tallies") == []


def test_a_store_that_hangs_does_not_hold_up_the_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_archive.catalog.filler.STOP_SECONDS", 0.2)
    stage.archive("a.png", png("a fox"))
    (stage.root / "a.png").unlink()
    asked, answer = threading.Event(), threading.Event()

    def hanging(*_: Any, **__: Any) -> Any:
        asked.set()
        answer.wait(60)
        return iter((b"",))

    stage.store.read = hanging  # type: ignore[method-assign]
    stage.filler.start()
    assert asked.wait(60)
    stage.filler.stop()
    assert stage.filler._thread.is_alive(), "it was left to itself"
    stage.database.close()
    answer.set()
    stage.filler._thread.join(60)
    assert not stage.filler._thread.is_alive()
