"""Archiving single files without an engine, on a store in memory."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_archive.cli import direct_upload
from cloud_archive.cli.direct_upload import DirectUpload, Item, UploadResult
from cloud_archive.config.settings import load_settings
from tests.functional.archives import ENVIRON
from tests.memory_store import Hanging, MemoryStore, refuse


def uploaded(
    store: MemoryStore, *items: Item, give_up_seconds: float = 60.0
) -> tuple[list[UploadResult], list[Item]]:
    """Return the results in the order of `items`, and the items in the order in which they ended."""
    ended: list[Item] = []
    upload = DirectUpload(
        load_settings(ENVIRON),
        items,
        session_id="session",
        on_done=lambda item, _: ended.append(item),
        make_store=lambda _: store,
        give_up_seconds=give_up_seconds,
    )
    found = upload.run()
    return [found[item] for item in items], ended


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    made = []
    for name in ("a.png", "sub/b.png"):
        (tmp_path / Path(name).name).write_bytes(name.encode())
        made.append(Item(tmp_path / Path(name).name, name))
    return made


def test_each_file_is_archived_below_the_prefix_and_ends_once(items: list[Item]) -> None:
    store = MemoryStore()
    results, ended = uploaded(store, *items)
    assert store.bodies() == {"out/a.png": b"a.png", "out/sub/b.png": b"sub/b.png"}
    assert [(one.key, one.size_bytes, one.already) for one in results] == [
        ("out/a.png", 5, False),
        ("out/sub/b.png", 9, False),
    ]
    assert sorted(ended, key=str) == sorted(items, key=str)
    assert all(one.already for one in uploaded(store, *items)[0]), "its bytes are in the bucket before"


def test_a_file_that_is_missing_fails_alone(items: list[Item], tmp_path: Path) -> None:
    gone = Item(tmp_path / "gone.png", "gone.png")
    results, _ = uploaded(MemoryStore(), gone, items[0])
    assert (results[0].key, results[1].key) == (None, "out/a.png")
    assert results[0].cause


def test_a_store_that_refuses_for_good_ends_it_with_the_cause(items: list[Item]) -> None:
    store = MemoryStore()
    store.on_call = lambda operation, key: refuse("AccessDenied", 403)
    results, ended = uploaded(store, *items)
    assert [one.key for one in results] == [None, None]
    assert all("denies access" in one.cause and "Given up" not in one.cause for one in results)
    assert len(ended) == 2


def test_a_file_that_still_grows_is_waited_for(items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it grows, however long that takes."""
    now = 0.0

    def still_grows(*_: object) -> bool:
        nonlocal now
        if now == 150:
            return False
        now += 10
        with items[0].local.open("ab") as file:
            file.write(b"+")
        return True

    monkeypatch.setattr(direct_upload, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    monkeypatch.setattr(direct_upload, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(direct_upload, "has_writer", still_grows)
    (result,), _ = uploaded(MemoryStore(), items[0], give_up_seconds=60.0)
    assert (result.cause, result.size_bytes) == ("", len(b"a.png") + 15)


def test_without_progress_it_gives_up_and_says_so(items: list[Item]) -> None:
    store = MemoryStore()
    store.on_call = lambda operation, key: refuse("SlowDown", 503)
    (result,), _ = uploaded(store, items[0], give_up_seconds=0.3)
    assert result.cause.endswith("Given up after 0 s without success.")


def test_a_store_that_does_not_answer_is_the_cause(items: list[Item], hang: Hanging) -> None:
    store = MemoryStore()
    store.on_call = lambda operation, key: hang(key)
    (result,), _ = uploaded(store, items[0], give_up_seconds=0.3)
    assert result.cause == "The store did not answer. Given up after 0 s without success."


def test_an_interruption_aborts_a_multipart_upload_whose_part_is_under_way(
    tmp_path: Path, hang: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_upload, "_ABORT_SECONDS", 60.0)
    store = MemoryStore()
    store.on_call = lambda operation, key: hang(key) if operation == "UploadPart" else None
    (tmp_path / "long.mp4").write_bytes(bytes(8 * 1024 * 1024 + 1))

    def interrupt(_: int) -> None:
        if hang.begun.is_set():
            raise KeyboardInterrupt

    upload = DirectUpload(
        load_settings(ENVIRON),
        [Item(tmp_path / "long.mp4", "long.mp4")],
        session_id="session",
        on_bytes=interrupt,
        make_store=lambda _: store,
    )
    with pytest.raises(KeyboardInterrupt):
        upload.run()
    assert store.count("CreateMultipartUpload") == 1
    assert not store.uploads
