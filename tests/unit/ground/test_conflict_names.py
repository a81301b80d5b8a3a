"""Conflict names: the keys of files whose own key is taken, and the paths that they stand for."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.keys import (
    LAST_CONFLICT,
    MAX_CONFLICTS,
    MAX_KEY_BYTES,
    PrefixTemplate,
    conflict_family,
    conflict_key,
    conflict_number,
    object_key,
    object_path,
    path_metadata,
    strip_conflict,
)
from tests.unit.ground.paths import paths

posix = pytest.mark.skipif(os.name == "nt", reason="such names exist on POSIX only")


@pytest.mark.parametrize(
    ("key", "number", "expected"),
    [
        ("x/photo.png", 0, "x/photo.png"),
        ("x/photo.png", 1, "x/photo (1).png"),
        ("x/photo.png", 100, "x/photo (100).png"),
        ("photo.png", 2, "photo (2).png"),
        ("x/photo.tar.gz", 1, "x/photo.tar (1).gz"),
        ("x/.bashrc", 1, "x/.bashrc (1)"),
        ("x/..odd", 1, "x/..odd (1)"),
        ("x/.config.json", 1, "x/.config (1).json"),
        ("x/README", 1, "x/README (1)"),
        ("x.y/README", 1, "x.y/README (1)"),
        ("x/name.", 1, "x/name. (1)"),
        ("x/photo (1).png", 1, "x/photo (1) (1).png"),
    ],
)
def test_a_taken_key_becomes_name_n(key: str, number: int, expected: str) -> None:
    assert conflict_key(key, number) == expected


SHA256 = "1a2b3c4d" + "5" * 56


def test_after_a_hundred_numbers_the_name_carries_digits_of_the_sha256() -> None:
    assert conflict_key("x/photo.png", MAX_CONFLICTS + 1, SHA256) == "x/photo (1a2b3c4d).png"
    assert conflict_key("x/photo.png", MAX_CONFLICTS + 2, SHA256) == f"x/photo ({SHA256[:16]}).png"
    assert conflict_key("x/photo.png", LAST_CONFLICT, SHA256) == f"x/photo ({SHA256}).png"


@pytest.mark.parametrize(
    ("number", "sha256"), [(-1, ""), (LAST_CONFLICT + 1, SHA256), (MAX_CONFLICTS + 1, "")]
)
def test_an_impossible_number_is_a_mistake_of_the_caller(number: int, sha256: str) -> None:
    with pytest.raises(ValueError, match="conflict number"):
        conflict_key("x", number, sha256)


@pytest.mark.parametrize(
    "name",
    ["a" * 251 + ".png", "日" * 83 + ".png", "a" * 255, "a." + "b" * 253, "😀" * 62 + ".webp", "a" * 300],
)
@pytest.mark.parametrize("number", [1, 100, MAX_CONFLICTS + 1, LAST_CONFLICT])
def test_a_long_name_is_shortened_at_a_character_to_make_room_for_its_number(name: str, number: int) -> None:
    key = conflict_key(f"x/{name}", number, SHA256)
    short = key.removeprefix("x/")
    label = str(number) if number <= MAX_CONFLICTS else {101: SHA256[:8], LAST_CONFLICT: SHA256}[number]

    assert 252 <= len(short.encode()) <= 255
    stem, found, extension = short.partition(f" ({label})")
    assert found
    assert name.startswith(stem)
    assert name.endswith(extension)
    assert extension == (os.path.splitext(name)[1] if name.endswith((".png", ".webp")) else "")  # noqa: PTH122


def test_a_name_that_fits_with_its_number_is_left_whole() -> None:
    assert conflict_key("x/" + "a" * 247 + ".png", 1) == "x/" + "a" * 247 + " (1).png"


def test_a_stem_is_shortened_where_the_key_would_be_too_long() -> None:
    folders = "f/" * 500
    key = object_key("", folders + "a" * 20 + ".png")

    assert len(key) == MAX_KEY_BYTES
    assert conflict_key(key, 1) == folders + "a" * 16 + " (1).png"


def test_control_characters_become_percent_escapes() -> None:
    assert object_key("x", "a\x01\n\x7f\x85\ufffe.png") == "x/a%01%0A%7F%C2%85%EF%BF%BE.png"
    assert object_key("x", "sub\r/a.png") == "x/sub%0D/a.png"


@pytest.mark.parametrize("name", ["\x01" * 251 + ".png", "a" * 250 + "\x01.png", "\udcff" * 255])
def test_a_name_that_its_escapes_make_too_long_is_shortened_and_stays_apart(name: str) -> None:
    key = object_key("x", name)
    other = object_key("x", name[:-5] + "\x02" + name[-4:])

    assert len(key.removeprefix("x/")) <= 255
    assert key != other
    assert re.fullmatch(r"x/(?:a|%[0-9A-F]{2})+~[0-9a-f]{8}(?:\.png)?", key)
    assert key.endswith(".png") == name.endswith(".png")


def test_nothing_is_ever_written_into_the_reserved_folder() -> None:
    assert object_key("out", ".cloud-archive/v1/x") == "out/%2Ecloud-archive/v1/x"
    assert object_key("out", "a/.cloud-archive/x") == "out/a/.cloud-archive/x"
    with pytest.raises(ValueError, match="reserved"):
        PrefixTemplate.parse("outputs/.cloud-archive/{Y}")
    assert PrefixTemplate.parse("outputs/{Y}-{m}").reserved_folder == "outputs/.cloud-archive/"
    assert PrefixTemplate.parse("comfy-{Y}/x").reserved_folder == ".cloud-archive/"


@pytest.mark.parametrize("number", [1, 7, 100, 101, LAST_CONFLICT])
@pytest.mark.parametrize("key", ["x/photo.png", "x/.env", "x/name.", "x/" + "a" * 255, "x/a (1).png"])
def test_a_number_is_known_again(key: str, number: int) -> None:
    numbered = conflict_key(key, number, SHA256)

    assert conflict_number(key, numbered, SHA256) == number
    assert conflict_number(key, key, SHA256) == 0
    assert conflict_number(key, "x/other.png", SHA256) is None
    if len(key) < 100:
        assert strip_conflict(numbered) == key


@pytest.mark.parametrize("number", [1, 100, 101, LAST_CONFLICT])
@pytest.mark.parametrize("letter", ["n", "\u00e4", "%E2%80%8B"])
@pytest.mark.parametrize("extension_bytes", [0, 1, 4, 60, 150, 187])
def test_shortened_conflict_names_stay_in_the_family(extension_bytes: int, letter: str, number: int) -> None:
    extension = ("." + "e" * (extension_bytes - 1)) if extension_bytes else ""
    stem = letter * ((255 - extension_bytes) // len(letter.encode()))

    numbered = conflict_key(stem + extension, number, SHA256)

    assert len(numbered.encode()) <= 255
    assert conflict_family(numbered) == conflict_family(stem + extension)


@pytest.mark.parametrize(
    "name", ["a.png", "a (0).png", "a (101).png", "a(1).png", "a (1a2b3c4).png", " (1).png"]
)
def test_what_is_no_conflict_number_is_part_of_the_name(name: str) -> None:
    assert strip_conflict(name) is None


@pytest.mark.parametrize(
    ("path", "number", "told"),
    [
        ("sub/a.png", 0, None),
        ("sub/a.png", 1, "sub/a.png"),
        ("sub/ü 100%.png", 1, "sub/%C3%BC%20100%25.png"),
        ("sub/a\x01.png", 0, "sub/a%01.png"),
        ("s\x01/a.png", 0, "s%01/a.png"),
        pytest.param("s\x01/a\udcff.png", 3, "s%01/a%FF.png", marks=posix),
        (".cloud-archive/a.png", 0, ".cloud-archive/a.png"),
    ],
)
def test_the_metadata_names_the_path_where_the_key_cannot(path: str, number: int, told: str | None) -> None:
    base = object_key("out/2026", path)
    key = conflict_key(base, number)
    found = path_metadata(path, base, key)

    assert found == told
    assert object_path(key.removeprefix("out/"), found or "") == f"2026/{path}"


def test_metadata_never_grows_over_what_a_store_takes() -> None:
    deep = "/".join(["日" * 60] * 4)
    base = object_key("", f"{deep}/a\x01.png")
    assert len(path_metadata(f"{deep}/a\x01.png", base, base) or "") <= 1500
    assert object_path(base, path_metadata(f"{deep}/a\x01.png", base, base) or "") == f"{deep}/a\x01.png"
    assert path_metadata("日" * 255, "日" * 255, "日" * 83 + " (1)") is None


def test_the_metadata_names_no_folder_of_a_file_from_elsewhere() -> None:
    assert path_metadata("home/me/secret/a.png", "out/a.png", "out/a (1).png") == "a.png"
    assert path_metadata("home/me/secret/a.png", "out/a.png", "out/a.png") is None


@pytest.mark.parametrize("told", ["../evil", "other/a.png", "..", "x/../a", "%2E%2E", "", "/", "%00"])
def test_metadata_cannot_lead_into_another_folder(told: str) -> None:
    path = object_path("sub/a (1).png", told)
    assert path in ("sub/a (1).png", "sub/\0")


@pytest.mark.parametrize("told", ["a/b", "a", ""])
@pytest.mark.parametrize("tail", ["", "/"])
def test_metadata_of_an_object_that_stands_for_a_folder_say_nothing(tail: str, told: str) -> None:
    assert object_path(tail, told) == tail


@given(paths, st.integers(0, MAX_CONFLICTS), st.integers(0, MAX_CONFLICTS))
def test_conflict_names_of_a_key_differ_and_stay_in_its_folder(path: str, one: int, other: int) -> None:
    key = object_key("x", path)
    first, second = conflict_key(key, one), conflict_key(key, other)

    assert (first == second) == (one == other)
    assert first.rpartition("/")[0] == key.rpartition("/")[0]
