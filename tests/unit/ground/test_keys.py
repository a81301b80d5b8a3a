"""Object keys: prefix templates, keys of paths, conflict names."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cloud_archive.errors import KeyRejected
from cloud_archive.keys import (
    LAST_CONFLICT,
    MAX_CONFLICTS,
    MAX_KEY_BYTES,
    PLACEHOLDERS,
    PrefixTemplate,
    conflict_key,
    conflict_number,
    object_key,
    object_path,
    path_metadata,
    strip_conflict,
)

unhurried = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine

MOMENT = datetime(2026, 4, 1, 9, 5, 7)
SESSION = "0b0f5e0e-7c1c-4c8e-9a55-0f3f0a9ad6a1"
NUMERIC = "YymdHMSjWwUV"
CONTRACT = set("YymdHMSjWwUVBbAa")


def rendered(text: str, moment: datetime = MOMENT) -> str:
    return PrefixTemplate.parse(text).render(moment, SESSION)


# --- placeholders


def test_the_placeholders_are_those_of_the_contract() -> None:
    assert set(PLACEHOLDERS) == CONTRACT


def test_every_placeholder_renders_as_the_contract_says() -> None:
    text = "{Y} {y} {m} {d} {H} {M} {S} {j} {W} {w} {U} {V} {B} {b} {A} {a}"

    assert rendered(text) == "2026 26 04 01 09 05 07 091 13 3 13 14 April Apr Wednesday Wed"


@pytest.mark.parametrize("year", [1999, 2000, 2023, 2024, 2025, 2026, 2027, 2028])
def test_numbers_agree_with_strftime_on_every_day_of_a_year(year: int) -> None:
    moment = datetime(year, 1, 1, 23, 59, 59)
    while moment.year == year:
        for letter in NUMERIC:
            assert PLACEHOLDERS[letter](moment) == moment.strftime(f"%{letter}"), (letter, moment)
        moment += timedelta(days=1)


def test_names_of_months_and_weekdays_are_english() -> None:
    months = " ".join(rendered("{B}/{b}", datetime(2026, month, 1)) for month in range(1, 13))
    weekdays = " ".join(rendered("{A}/{a}", datetime(2026, 6, day)) for day in range(1, 8))

    assert months == (
        "January/Jan February/Feb March/Mar April/Apr May/May June/Jun July/Jul August/Aug "
        "September/Sep October/Oct November/Nov December/Dec"
    )
    assert weekdays == (
        "Monday/Mon Tuesday/Tue Wednesday/Wed Thursday/Thu Friday/Fri Saturday/Sat Sunday/Sun"
    )


def test_the_locale_is_never_asked() -> None:
    class Foreign(datetime):
        def strftime(self, format: str) -> str:
            raise AssertionError("strftime speaks the user's language")

        def __format__(self, spec: str) -> str:
            raise AssertionError("format is strftime")

    text = "/".join(f"{{{letter}}}" for letter in sorted(CONTRACT))

    assert "April" in rendered(text, Foreign(2026, 4, 1))


def test_an_aware_moment_is_rendered_in_local_time() -> None:
    aware = datetime(2026, 4, 1, 23, 30, tzinfo=timezone(timedelta(hours=-11)))

    assert rendered("{Y}-{m}-{d} {H}", aware) == aware.astimezone().strftime("%Y-%m-%d %H")


def test_the_session_stands_only_where_the_prefix_names_it() -> None:
    assert rendered("runs/{session_id}/x") == f"runs/{SESSION}/x"
    assert PrefixTemplate.parse("runs/{session_id}").uses_session
    assert not PrefixTemplate.parse("runs/{Y}").uses_session
    assert SESSION not in rendered("runs/{Y}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a/{Q}", "{Q} is not a placeholder"),
        ("a/{}", "{} is not a placeholder"),
        ("a/{ Y}", "{ Y} is not a placeholder"),
        ("a/{year}", "{year} is not a placeholder"),
        ("a/{Y", "a brace that belongs to no placeholder"),
        ("a/Y}", "a brace that belongs to no placeholder"),
        ("{{Y}}", "a brace that belongs to no placeholder"),
        ("{", "a brace that belongs to no placeholder"),
        ("a\\b", "write `/`"),
        ("a/./b", "`.` and `..` are not accepted"),
        ("..", "`.` and `..` are not accepted"),
        ("../{Y}", "`.` and `..` are not accepted"),
        ("s3://bucket/outputs", "without s3://"),
        ("a\nb", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\udcffb", "UTF-8"),
        ("a" * 1023, "no room for a name"),
        ("ä" * 512, "no room for a name"),
    ],
)
def test_a_prefix_that_cannot_be_one_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        PrefixTemplate.parse(text)


def test_the_refusal_of_an_unknown_placeholder_names_all_known_ones() -> None:
    with pytest.raises(ValueError, match="accepted are") as caught:
        PrefixTemplate.parse("{q}")

    assert all(f"{{{name}}}" in str(caught.value) for name in (*CONTRACT, "session_id"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("/", ""),
        ("///", ""),
        ("/a/", "a"),
        ("a//b", "a/b"),
        ("//a///{Y}//", "a/2026"),
        (".hidden/a..b", ".hidden/a..b"),
        ("mit Leerzeichen/ä", "mit Leerzeichen/ä"),
    ],
)
def test_slashes_too_many_in_a_prefix_are_dropped(text: str, expected: str) -> None:
    assert rendered(text) == expected


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("", ""),
        ("/", ""),
        ("comfyui-outputs", "comfyui-outputs/"),
        ("/a/b/", "a/b/"),
        ("outputs/{Y}-{m}-{d}", "outputs/"),
        ("outputs/day-{d}/x", "outputs/"),
        ("a/b/{Y}/c", "a/b/"),
        ("comfy-{Y}", ""),
        ("{Y}/a", ""),
    ],
)
def test_the_static_head_ends_at_the_last_slash_before_a_placeholder(text: str, head: str) -> None:
    assert PrefixTemplate.parse(text).static_head == head


@unhurried
@given(st.text(alphabet="ab/{}YmdB. \\é", max_size=30), st.datetimes())
def test_a_prefix_is_refused_or_renders_clean_whatever_it_holds(text: str, moment: datetime) -> None:
    try:
        template = PrefixTemplate.parse(text)
    except ValueError:
        return
    prefix = template.render(moment, SESSION)

    assert "//" not in prefix
    assert not prefix.startswith("/")
    assert not prefix.endswith("/")
    assert not {"{", "}"} & set(prefix)
    assert f"{prefix}/".startswith(template.static_head)
    assert PrefixTemplate.parse(template.text) == template


# --- object keys


@pytest.mark.parametrize(
    ("prefix", "path", "key"),
    [
        ("comfyui-outputs", "a.png", "comfyui-outputs/a.png"),
        ("comfyui-outputs", "sub/dir/a.png", "comfyui-outputs/sub/dir/a.png"),
        ("", "sub/a.png", "sub/a.png"),
        ("/x//y/", "/sub//a.png", "x/y/sub/a.png"),
        ("x", "100% {Y} #1 ?.png", "x/100% {Y} #1 ?.png"),
        ("x", "日本/ü\u0301.png", "x/日本/ü\u0301.png"),
        ("x", "back\\slash.png", "x/back\\slash.png"),
    ],
)
def test_a_key_is_the_prefix_and_the_path(prefix: str, path: str, key: str) -> None:
    assert object_key(prefix, path) == key


def test_bytes_that_are_no_utf8_become_percent_escapes() -> None:
    assert object_key(
        "x", os.fsdecode(b"caf\xe9-\xff.png") if os.name != "nt" else "caf\udce9-\udcff.png"
    ) == ("x/caf%E9-%FF.png")
    assert object_key("x", "a\ud83d.png") == "x/a%ED%A0%BD.png"


@pytest.mark.parametrize("path", ["", "/", "..", "a/../b", "./a", "a/."])
def test_a_path_that_names_no_file_below_the_directory_is_refused(path: str) -> None:
    with pytest.raises(KeyRejected):
        object_key("x", path)


def test_a_key_of_exactly_1024_bytes_is_accepted_and_one_more_is_refused() -> None:
    assert len(object_key("x", "a" * 1022)) == MAX_KEY_BYTES

    with pytest.raises(KeyRejected, match=r"1,025 bytes of UTF-8 and 1,024 are allowed"):
        object_key("x", "a" * 1023)


def test_the_limit_counts_bytes_and_not_characters() -> None:
    with pytest.raises(KeyRejected) as caught:
        object_key("x", "日" * 400)

    assert "1,202 bytes" in caught.value.reason
    assert caught.value.key.startswith("x/日")


names = st.text(
    alphabet=st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
raw_paths = st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=4).map(
    lambda parts: b"/".join(parts).replace(b"\0", b"x").decode("utf-8", "surrogateescape")
)


@unhurried
@given(st.text(alphabet="ab/", max_size=8), raw_paths)
def test_a_key_is_clean_or_refused_whatever_bytes_the_path_has(prefix: str, path: str) -> None:
    try:
        key = object_key(prefix, path)
    except KeyRejected:
        return

    assert "//" not in key
    assert not key.startswith("/")
    assert not key.endswith("/")
    assert 0 < len(key.encode("utf-8")) <= MAX_KEY_BYTES


@unhurried
@given(st.text(alphabet="ab/", max_size=8), paths, paths)
def test_distinct_valid_paths_have_distinct_keys(prefix: str, one: str, other: str) -> None:
    assume(one != other and "%" not in one + other)  # a name may read like the escapes of another one

    assert object_key(prefix, one) != object_key(prefix, other)


# --- conflict names


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
@pytest.mark.parametrize("key", ["x/photo.png", "x/.env", "x/" + "a" * 255, "x/a (1).png"])
def test_a_number_is_known_again(key: str, number: int) -> None:
    numbered = conflict_key(key, number, SHA256)

    assert conflict_number(key, numbered, SHA256) == number
    assert conflict_number(key, key, SHA256) == 0
    assert conflict_number(key, "x/other.png", SHA256) is None
    if len(key) < 100:
        assert strip_conflict(numbered) == key


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
        ("s\x01/a\udcff.png", 3, "s%01/a%FF.png"),
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


@unhurried
@given(paths, st.integers(0, MAX_CONFLICTS), st.integers(0, MAX_CONFLICTS))
def test_conflict_names_of_a_key_differ_and_stay_in_its_folder(path: str, one: int, other: int) -> None:
    key = object_key("x", path)
    first, second = conflict_key(key, one), conflict_key(key, other)

    assert (first == second) == (one == other)
    assert first.rpartition("/")[0] == key.rpartition("/")[0]
