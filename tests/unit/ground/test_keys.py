"""Object keys: prefix templates, and the keys of paths."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cloud_archive.errors import KeyRejected
from cloud_archive.keys import (
    MAX_KEY_BYTES,
    PLACEHOLDERS,
    PrefixTemplate,
    object_key,
    object_path,
    path_metadata,
)
from tests.unit.ground.paths import paths

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
        ("a\nb", "control characters and their like are not accepted: remove U+000A"),
        ("a\x7fb", "remove U+007F"),
        ("a\x85b", "control characters and their like are not accepted: remove U+0085"),
        ("a\x9fb", "remove U+009F"),
        ("a\ufffeb", "remove U+FFFE"),
        ("a\udcffb", "UTF-8"),
        ("a" * 1023, "no room for a name"),
        ("ä" * 512, "no room for a name"),
        ("{session_id}" + "a" * (1023 - 36), "no room for a name"),
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
    ],
)
def test_a_key_is_the_prefix_and_the_path(prefix: str, path: str, key: str) -> None:
    assert object_key(prefix, path) == key


def test_bytes_that_are_no_utf8_become_percent_escapes() -> None:
    assert object_key(
        "x", os.fsdecode(b"caf\xe9-\xff.png") if os.name != "nt" else "caf\udce9-\udcff.png"
    ) == ("x/caf%E9-%FF.png")
    assert object_key("x", "a\ud83d.png") == "x/a%ED%A0%BD.png"


def test_a_backslash_is_escaped_because_stores_take_it_for_a_slash() -> None:
    key = object_key("x", "back\\slash.png")
    assert key == "x/back%5Cslash.png"
    stored = path_metadata("back\\slash.png", key, key)
    assert stored is not None
    assert object_path("back%5Cslash.png", stored) == "back\\slash.png"


def test_a_folder_with_a_backslash_is_known_in_keys_from_before_it_was_escaped() -> None:
    assert object_path("back\\slash/a%0A.png", "back\\slash/a%0A.png") == "back\\slash/a\n.png"


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


raw_paths = st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=4).map(
    lambda parts: b"/".join(parts).replace(b"\0", b"x").decode("utf-8", "surrogateescape")
)


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


@given(st.text(alphabet="ab/", max_size=8), paths, paths)
def test_distinct_valid_paths_have_distinct_keys(prefix: str, one: str, other: str) -> None:
    assume(one != other and "%" not in one + other)  # a name may read like the escapes of another one

    assert object_key(prefix, one) != object_key(prefix, other)
