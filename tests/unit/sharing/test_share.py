"""One call of `share`: which files it shares, and what it says of the others."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_archive.catalog.readers.facts import FileFacts
from cloud_archive.catalog.readers.read import read_facts
from cloud_archive.catalog.source import BoundedSource
from cloud_archive.errors import CloudArchiveError, RequestRefused, StoreError
from cloud_archive.sharing import copies, strip
from cloud_archive.sharing.links import LONGEST, NOT_READABLE
from cloud_archive.sharing.share import ShareOrder, share
from cloud_archive.store.base import ObjectStore
from cloud_archive.store.failures import explain
from tests.memory_store import MemoryStore
from tests.unit.catalog.cataloguing import png

PNG = png("a red fox")
WEEK = 7 * 86_400.0


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for name in ("fox.png", "bear.png"):
        store.add(f"out/{name}", PNG)
    store.add("out/notes.txt", b"notes")
    return store


def asset(name: str, body: bytes = PNG) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "key": f"out/{name}",
        "mime_type": "image/png",
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "metadata": {"prompt": "a red fox"},
    }


def shared(store: MemoryStore, *assets: dict[str, Any], **order: Any) -> dict[str, Any]:
    how = ShareOrder(**{"expires_seconds": 60.0, **order})
    return share(cast(ObjectStore, store), "out", assets, how)


def refuse(store: MemoryStore, operation: str, code: str, status: int) -> None:
    def on_call(called: str, key: str) -> None:
        if called == operation:
            raise StoreError(operation, key, explain(code, status), status=status)

    store.on_call = on_call


def test_links_lead_to_the_files_themselves(store: MemoryStore) -> None:
    answer = shared(store, asset("fox.png"), asset("bear.png"))
    assert [link["key"] for link in answer["links"]] == ["out/fox.png", "out/bear.png"]
    assert (answer["share"], answer["album"], answer["errors"], answer["warnings"]) == (None, None, [], [])


def test_a_file_that_is_gone_is_named_and_the_others_are_shared(store: MemoryStore) -> None:
    answer = shared(store, asset("gone.png"), asset("fox.png"))
    assert [link["name"] for link in answer["links"]] == ["fox.png"]
    assert [error["name"] for error in answer["errors"]] == ["gone.png"]


def test_a_title_that_is_no_valid_text_is_cleaned(store: MemoryStore) -> None:
    album = shared(store, asset("fox.png"), album="Fox\udcff")["album"]
    assert album["title"] == "Fox?"
    assert b"<h1>Fox?</h1>" in store.objects[album["key"]].body


def test_copies_and_albums_are_in_the_share_that_the_answer_names(store: MemoryStore) -> None:
    answer = shared(store, asset("fox.png"), strip_metadata=True, album="Foxes")
    folder = f"out/.cloud-archive/v1/shares/{answer['share']}/"
    assert answer["links"][0]["key"] == f"{folder}fox.png"
    assert answer["album"]["key"] == f"{folder}album.html"
    assert b"<h1>Foxes</h1>" in store.objects[f"{folder}album.html"].body


@pytest.mark.parametrize(
    ("assets", "order", "status"),
    [
        ([], {}, 400),
        ([asset("gone.png")], {}, 404),
        ([asset("notes.txt", b"notes")], {"strip_metadata": True}, 422),
    ],
)
def test_where_nothing_can_be_shared_the_first_cause_is_the_answer(
    store: MemoryStore, assets: list[dict[str, Any]], order: dict[str, Any], status: int
) -> None:
    with pytest.raises(RequestRefused) as refused:
        shared(store, *assets, **order)
    assert refused.value.status == status


def test_an_error_of_the_store_itself_is_passed_on(store: MemoryStore) -> None:
    refuse(store, "GetObject", "InvalidAccessKeyId", 403)
    with pytest.raises(CloudArchiveError) as failed:
        shared(store, asset("fox.png"))
    assert isinstance(failed.value, StoreError)


@pytest.mark.parametrize("code", ["NoSuchBucket", "NotS3"])
def test_a_missing_bucket_or_a_web_page_does_not_mean_that_a_file_is_gone(
    store: MemoryStore, code: str
) -> None:
    refuse(store, "GetObject", code, 404)
    with pytest.raises(CloudArchiveError) as failed:
        shared(store, asset("gone.png"))
    assert explain(code, 404).cause in str(failed.value)
    assert not isinstance(failed.value, RequestRefused) or failed.value.status == 502


def test_a_key_that_may_not_read_shares_with_a_warning(store: MemoryStore) -> None:
    refuse(store, "GetObject", "AccessDenied", 403)
    answer = shared(store, asset("fox.png"), asset("gone.png"))
    assert (len(answer["links"]), answer["warnings"]) == (2, [NOT_READABLE])


@pytest.mark.parametrize(("seconds", "warnings"), [(WEEK, []), (WEEK + 1, [LONGEST])])
def test_more_than_a_week_is_warned_of(store: MemoryStore, seconds: float, warnings: list[str]) -> None:
    assert shared(store, asset("fox.png"), expires_seconds=seconds)["warnings"] == warnings


def test_a_copy_without_room_on_this_disk_is_named_and_the_others_are_shared(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(store: ObjectStore, asset: dict[str, Any], target: Path) -> None:
        if asset["name"] == "bear.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(store, asset, target)

    original = copies._download
    monkeypatch.setattr(copies, "_download", download)
    answer = shared(store, asset("fox.png"), asset("bear.png"), strip_metadata=True)
    assert [link["name"] for link in answer["links"]] == ["fox.png"]
    (error,) = answer["errors"]
    assert error["name"] == "bear.png"
    assert tempfile.gettempdir() in error["message"]
    assert os.strerror(errno.ENOSPC) in error["message"]


def test_a_file_that_needs_too_much_memory_is_named_and_the_others_are_shared(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(source: BoundedSource, *, whole: bool = False) -> FileFacts | None:
        if whole and not refused:
            refused.append(source)
            raise MemoryError
        return read_facts(source, whole=whole)

    refused: list[BoundedSource] = []
    monkeypatch.setattr(strip, "read_facts", read)
    answer = shared(store, asset("bear.png"), asset("fox.png"), strip_metadata=True)
    assert [link["name"] for link in answer["links"]] == ["fox.png"]
    (error,) = answer["errors"]
    assert error["name"] == "bear.png"
    assert "too little memory" in error["message"]


def fail_album(store: MemoryStore, *also: str) -> None:
    def on_call(called: str, key: str) -> None:
        if (called == "PutObject" and key.endswith("album.html")) or called in also:
            raise StoreError(called, key, explain("AccessDenied", 403), status=403)

    store.on_call = on_call


def in_shares(store: MemoryStore) -> list[str]:
    return [key for key in store.objects if "/shares/" in key]


def test_an_album_that_cannot_be_written_leaves_no_copies(store: MemoryStore) -> None:
    fail_album(store)
    with pytest.raises(StoreError) as failed:
        shared(store, asset("fox.png"), asset("bear.png"), strip_metadata=True, album="Foxes")
    assert failed.value.status == 403
    assert in_shares(store) == []
    assert "out/fox.png" in store.objects


def test_copies_whose_links_cannot_be_signed_are_deleted(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def presign(*_: object) -> None:
        raise StoreError("Presign", None, explain("NoCredentials"))

    monkeypatch.setattr(store, "presign", presign)
    with pytest.raises(CloudArchiveError):
        shared(store, asset("fox.png"), strip_metadata=True)
    assert in_shares(store) == []


def test_an_interrupted_share_leaves_no_copies(store: MemoryStore) -> None:
    def picture(asset: object) -> None:
        raise KeyboardInterrupt

    order = ShareOrder(60.0, strip_metadata=True, album="Foxes")
    with pytest.raises(KeyboardInterrupt):
        share(cast(ObjectStore, store), "out", [asset("fox.png")], order, picture=picture)
    assert in_shares(store) == []


@pytest.mark.parametrize("put", ["bear.png", "album.html"])
def test_a_share_that_nobody_waits_for_ends_and_leaves_no_copies(store: MemoryStore, put: str) -> None:
    left = threading.Event()

    def on_call(called: str, key: str) -> None:
        if called == "PutObject" and key.endswith(put):
            left.set()

    store.on_call = on_call
    order = ShareOrder(60.0, strip_metadata=True, album="Foxes")
    assets = [asset("fox.png"), asset("bear.png"), asset("fox.png")]
    with pytest.raises(CloudArchiveError):
        share(cast(ObjectStore, store), "out", assets, order, cancelled=left.is_set)
    assert in_shares(store) == []
    assert store.count("PutObject") == (2 if put == "bear.png" else 4)


@pytest.mark.parametrize("refused", ["DeleteObject", "ListObjectsV2"])
def test_copies_that_cannot_be_deleted_are_named_with_the_cure(store: MemoryStore, refused: str) -> None:
    fail_album(store, refused)
    with pytest.raises(RequestRefused) as failed:
        shared(store, asset("fox.png"), strip_metadata=True, album="Foxes")
    (left,) = in_shares(store)
    share_id = left.split("/")[-2]
    assert failed.value.status == 502
    assert explain("AccessDenied", 403).cause in str(failed.value)
    assert f"cloud-archive unshare {share_id}" in str(failed.value)


def test_where_no_copy_was_written_nothing_is_listed(store: MemoryStore) -> None:
    with pytest.raises(RequestRefused):
        shared(store, asset("notes.txt", b"notes"), strip_metadata=True)
    assert store.count("ListObjectsV2") == 0


def test_an_album_shows_a_file_whose_picture_cannot_be_made_by_its_name(store: MemoryStore) -> None:
    def picture(asset: Any) -> tuple[bytes, str]:
        if asset["name"] == "bear.png":
            raise RequestRefused(404, "There is no asset bear.")
        return b"a picture", "image/webp"

    order = ShareOrder(60.0, album="Animals")
    assets = [asset("fox.png"), asset("bear.png")]
    answer = share(cast(ObjectStore, store), "out", assets, order, picture=picture)
    page = store.objects[answer["album"]["key"]].body
    assert (page.count(b"<li>"), page.count(b"<img")) == (2, 1)
    assert b">bear.png</a>" in page


def test_an_album_without_room_on_this_disk_is_an_error_with_its_cause(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(CloudArchiveError) as failed:
        shared(store, asset("fox.png"), album="Foxes")
    assert str(tmp_path / "missing") in str(failed.value)
    if os.name != "nt":  # which has texts of its own
        assert os.strerror(errno.ENOENT) in str(failed.value)


def test_a_store_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    program = """
import threading, time
from cloud_archive.sharing.share import ShareOrder, share

asked = threading.Event()

class Hanging:
    def read(self, key, most, *, byte_range):
        asked.set()
        time.sleep(600)

assets = [{"key": "out/fox.png", "size": 7}]
threading.Thread(target=share, args=(Hanging(), "out", assets, ShareOrder(60.0)), daemon=True).start()
assert asked.wait(60)
"""
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)
