"""Which assets a caller may see, and a ZIP of several."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from cloud_archive.api.gallery import GalleryScope, scope_of, zip_pieces
from cloud_archive.api.routes import GALLERY_HEADER
from cloud_archive.catalog.catalog import Catalog
from cloud_archive.errors import RequestRefused


class Files:
    """The files of a catalog, each in pieces of 4 bytes; an exception among them is raised there."""

    gallery_setting, machine = "own", "Fox"

    def __init__(self) -> None:
        self._pieces: dict[uuid.UUID, list[bytes | Exception]] = {}

    @property
    def catalog(self) -> Catalog:
        return cast(Catalog, self)

    def add(
        self, name: str, *pieces: bytes | Exception, size: int | None = None, created_at: str = "2026-04-01"
    ) -> dict[str, Any]:
        identity = uuid.UUID(int=len(self._pieces))
        self._pieces[identity] = list(pieces)
        whole = sum(len(piece) for piece in pieces if isinstance(piece, bytes))
        size = whole if size is None else size
        return {"id": str(identity), "name": name, "key": name, "size": size, "created_at": created_at}

    def pieces(self, identity: uuid.UUID, wanted: range) -> Iterator[bytes]:
        for piece in self._pieces[identity]:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def opened(pieces: Iterator[bytes]) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(pieces)))


def test_own_sees_the_files_of_this_machine_only() -> None:
    scope = GalleryScope("own", 'fo"x')
    assert scope.only_machine() == 'fo"x'
    assert not scope.shows_others
    own = {"id": "1", "machine": 'FO"X'}
    assert scope.check(own) is own
    for machine in ("bear", None):
        with pytest.raises(RequestRefused) as refused:
            scope.check({"id": "1", "machine": machine})
        assert refused.value.status == 404


def test_all_sees_everything_and_off_sees_nothing() -> None:
    everything, nothing = GalleryScope("all", "fox"), GalleryScope("off", "fox")
    assert everything.only_machine() is None
    assert everything.check({"id": "1", "machine": "bear"})["id"] == "1"
    assert everything.shows_others
    for call in (nothing.only_machine, lambda: nothing.check({"id": "1", "machine": "fox"})):
        with pytest.raises(RequestRefused) as refused:
            call()
        assert refused.value.status == 403


@pytest.mark.parametrize(
    ("headers", "public", "machine"),
    [({}, False, None), ({GALLERY_HEADER: "1"}, False, "Fox"), ({}, True, "Fox")],
)
def test_only_pages_are_limited(headers: dict[str, str], public: bool, machine: str | None) -> None:
    request = cast(web.Request, SimpleNamespace(headers=headers))
    assert scope_of(request, Files().catalog, public=public).only_machine() == machine


def test_a_zip_holds_each_file_under_a_name_of_its_own() -> None:
    files = Files()
    names = ["fox.png", "FOX.png", "fox", "fox", "../evil", "...", ""]
    assets = [files.add(name, b"!", name.encode()) for name in names]
    archive = opened(zip_pieces(files.catalog, assets))
    expected = ["fox.png", "FOX (1).png", "fox", "fox (1)", "evil", "file", "file (1)"]
    assert archive.namelist() == expected
    assert [archive.read(name) for name in expected] == [b"!" + name.encode() for name in names]


@pytest.mark.parametrize("created_at", ["1970-01-01", "3000-01-01", "yesterday"])
def test_a_moment_that_a_zip_cannot_hold_becomes_its_first(created_at: str) -> None:
    files = Files()
    archive = opened(zip_pieces(files.catalog, [files.add("a", b"a", created_at=created_at)]))
    assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_an_empty_file_is_in_the_zip_and_one_that_cannot_be_read_is_named() -> None:
    files = Files()
    gone = files.add("gone.png", RequestRefused(404, "This file was deleted."), size=4)
    archive = opened(zip_pieces(files.catalog, [files.add("empty"), gone]))
    assert archive.namelist() == ["empty", "errors.txt"]
    assert archive.read("errors.txt") == b"gone.png: This file was deleted."


def test_a_file_that_ends_early_or_fails_in_the_middle_breaks_the_zip() -> None:
    files = Files()
    short = files.add("short.png", b"1234", size=8)
    failing = files.add("failing.png", b"1234", OSError("the disk is gone"), size=8)
    for asset, message in ((short, "short.png ended early"), (failing, "the disk is gone")):
        with pytest.raises(OSError, match=message):
            list(zip_pieces(files.catalog, [asset]))


def test_the_list_of_errors_never_takes_the_name_of_a_file() -> None:
    files = Files()
    gone = files.add("gone.png", RequestRefused(404, "This file was deleted."), size=4)
    archive = opened(zip_pieces(files.catalog, [files.add("errors.txt", b"mine"), gone]))
    assert archive.namelist() == ["errors.txt", "errors (1).txt"]
    assert archive.read("errors.txt") == b"mine"
    assert archive.read("errors (1).txt") == b"gone.png: This file was deleted."


def test_a_file_that_is_just_too_large_for_the_old_format_is_in_a_zip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real limit is 2 GiB - 1."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 8)
    files = Files()
    archive = opened(zip_pieces(files.catalog, [files.add("a", b"1234", b"56789")]))
    assert archive.read("a") == b"123456789"
