"""Which files `share` means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.catalog.database import CATALOG_NAME, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.catalog_view import DatabaseAssets
from cloud_archive.cli.share import _assets, _show
from cloud_archive.errors import CloudArchiveError
from tests.commands import run_command
from tests.unit.catalog.cataloguing import BUCKET, add_described


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseAssets]:
    monkeypatch.setenv("S3_BUCKET", BUCKET)
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for name in ("a", "b", "c"):
        add_described(database, f"out/{name}.png", Description(prompt="a red fox"), created=0.0)
    yield DatabaseAssets(database)
    database.close()


def keys(source: DatabaseAssets, *names: str, limit: int = 10) -> list[str]:
    return sorted(asset["key"] for asset in _assets(source, list(names), limit))


def test_names_are_keys_and_paths_each_once(source: DatabaseAssets) -> None:
    assert keys(source, "out/a.png", "a.png", "b.png") == ["out/a.png", "out/b.png"]


def test_words_that_name_no_file_are_one_query(source: DatabaseAssets) -> None:
    assert keys(source, "red", "fox") == ["out/a.png", "out/b.png", "out/c.png"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.png", "other.png"), "path or id other.png"),
        (("b/red",), "path or id b/red, so nothing was shared"),
        (("red", "fox.png"), "path or id fox.png, so nothing was shared"),
        (("blue", "fox"), "'blue fox' finds no file"),
        (("fox",), "finds 3 files. Narrow it, or allow more with --limit"),
    ],
)
def test_what_means_no_file_or_too_many_is_an_error(
    source: DatabaseAssets, names: tuple[str, ...], words: str
) -> None:
    with pytest.raises(CloudArchiveError) as raised:
        keys(source, *names, limit=2)
    assert words in str(raised.value)


@pytest.mark.parametrize("names", [("",), (" ", "\t"), ('""',), ('-""',)])
def test_an_empty_query_does_not_share_everything(source: DatabaseAssets, names: tuple[str, ...]) -> None:
    with pytest.raises(WrongUsage, match="empty"):
        keys(source, *names)


def test_a_path_of_several_files_is_no_query(source: DatabaseAssets) -> None:
    for version in ("out/d.png", "out/d (1).png"):
        add_described(source.database, version, Description(), created=1.0, path="d.png")
    for names in (("d.png",), ("d.png", "fox"), ("a.png", "d.png")):
        with pytest.raises(CloudArchiveError, match=r"Several files have the path d\.png"):
            keys(source, *names)


@pytest.mark.parametrize("query", ['"a.png"', "path:out/a.png", "type:image path:a.png"])
def test_fields_and_phrases_that_hold_a_path_are_a_query(source: DatabaseAssets, query: str) -> None:
    assert keys(source, query) == ["out/a.png"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--expires", "0"), "--expires '0': every link lasts from 1s to 7d"),
        (("--expires", "0.5s"), "--expires '0.5s': every link lasts from 1s to 7d"),
        (("--expires", "off"), "--expires 'off': every link lasts from 1s to 7d"),
        (("--album", " "), "--album must be a title of 1 to 200 characters"),
        (("--limit", "501"), "--limit must be a number from 1 to 500"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    capsys: pytest.CaptureFixture[str], option: tuple[str, str], words: str
) -> None:
    status, _, err = run_command(capsys, "share", "fox", *option)
    assert (status, words in err) == (2, True), err


def test_an_album_stands_for_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    link = {"name": "a\n.png", "expires_at": "2026-04-01T00:00:00Z", "url": "https://store/a.png"}
    found = {"links": [link], "album": None, "share": None, "warnings": ["It may fail."]}
    _show(found)
    assert capsys.readouterr() == (
        "a\\n.png, until 2026-04-01T00:00:00Z:\nhttps://store/a.png\n",
        "It may fail.\n",
    )
    album = {"title": "Foxes", "expires_at": "2026-04-01T00:00:00Z", "url": "https://store/album.html"}
    _show({**found, "album": album, "share": "0123", "warnings": []})
    assert capsys.readouterr().out.splitlines() == [
        "Foxes, until 2026-04-01T00:00:00Z:",
        "https://store/album.html",
        "To delete it: cloud-archive unshare 0123",
    ]


def test_prompts_without_an_album_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(capsys, "share", "a.png", "--with-prompts") == (
        2,
        "",
        "--with-prompts needs --album.\n",
    )
