"""Which objects are versions of one file, and which is the newest."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from cloud_archive.files import format_timestamp_ns
from cloud_archive.maintenance.restore_versions import (
    Version,
    family_key,
    has_number,
    newest_first,
    version_of,
)
from cloud_archive.store.base import ObjectInfo

SECOND = 10**9
WRITTEN = datetime.fromtimestamp(1000, timezone.utc)


def object_at(key: str, **metadata: str) -> ObjectInfo:
    named = {name.replace("_", "-"): value for name, value in metadata.items()}
    return ObjectInfo(key, 1, "etag", None, None, named, WRITTEN)


@pytest.mark.parametrize(
    ("key", "numbered"),
    [("out/a (1).png", True), ("out/a (1a2b3c4d).png", True), ("out/a.png", False), ("out (1)/a.png", False)],
)
def test_a_number_in_the_name_may_mark_a_version(key: str, numbered: bool) -> None:
    assert has_number(key) is numbered


def test_a_family_is_a_name_with_and_without_numbers_in_one_folder() -> None:
    assert family_key("out/a.png") == family_key("out/a (1).png") == family_key("out/a (100).png")
    assert len({family_key(key) for key in ("out/a.png", "out/b.png", "a.png", "in/a.png", "out/a.jpg")}) == 5


def test_the_path_comes_from_the_metadata_else_from_the_key() -> None:
    assert version_of(object_at("out/sub/a (1).png", path="sub/a.png"), "out/").path == "sub/a.png"
    assert version_of(object_at("out/sub/a (1).png"), "out/").path == "sub/a (1).png"


def test_the_time_is_that_of_the_archiving_else_that_of_the_object() -> None:
    stated = object_at("out/a.png", archived_at=format_timestamp_ns(5 * SECOND))
    assert version_of(stated, "out/").archived_at_ns == 5 * SECOND
    assert version_of(object_at("out/a.png"), "out/").archived_at_ns == 1000 * SECOND
    assert version_of(object_at("out/a.png", archived_at="never"), "out/").archived_at_ns == 1000 * SECOND
    assert version_of(object_at("out/a.png")._replace(last_modified=None), "out/").archived_at_ns == 0


@pytest.mark.parametrize(
    ("key", "metadata", "is_guess"),
    [
        ("out/a (1).png", {"archive_token": "t"}, True),
        ("out/a.png", {"archive_token": "t"}, False),
        ("out/a (1).png", {}, False),  # another program's name
        ("out/a (1).png", {"archive_token": "t", "archived_at": "1"}, False),
        ("out/a (1).png", {"archive_token": "t", "path": "a.png"}, False),
    ],
)
def test_a_number_is_a_guess_only_where_an_older_version_wrote_it(
    key: str, metadata: dict[str, str], is_guess: bool
) -> None:
    assert version_of(object_at(key, **metadata), "out/").is_guess is is_guess


def test_versions_are_ordered_by_time_and_at_one_time_by_key() -> None:
    def version(key: str, archived_at_ns: int, path: str = "a.png") -> Version:
        return Version(object_at(key), path, archived_at_ns)

    first, other = version("a.png", 1), version("b.png", 9, "b.png")
    same_time = [version(f"a ({number}).png", 5) for number in (9, 10, 2)]
    found = newest_first([first, other, *same_time])
    assert found == [[same_time[1], same_time[0], same_time[2], first], [other]]
