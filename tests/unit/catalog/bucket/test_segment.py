"""Segments: what is written is read again, and what a stranger wrote costs no more than its limits."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.catalog.bucket.fields import FIELDS
from cloud_archive.catalog.bucket.names import (
    CatalogFolder,
    is_pack_name,
    machine_part,
    new_month_name,
    new_names,
    new_ulid,
    parse_name,
)
from cloud_archive.catalog.bucket.segment import MAX_ROW_BYTES, Decoded, SegmentError, decode, encode

from .machines import month_body

PAGE = Path(__file__).parents[4] / "docs" / "catalog-format.md"
NOW = 1_795_608_000.0
PUT = {"op": "put", "clock": NOW, "machine": "pod", "key": "out/fox.png", "size": 3, "seed": str(2**64 - 1)}
HEADER = {"op": "header", "version": 1}


def read(body: bytes, piece_bytes: int = 1000) -> tuple[list[dict[str, Any]], Decoded]:
    found = Decoded()
    pieces = (body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes))
    return list(decode(pieces, found, size_bytes=len(body))), found


def packed(*lines: dict[str, Any] | bytes) -> bytes:
    return gzip.compress(
        b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)
    )


def test_what_is_written_is_read_again() -> None:
    rows = [
        PUT,
        {"op": "set", "clock": NOW, "machine": "pod", "key": "a", "tags_added": ["é", "x\n"], "note": ""},
    ]
    body = encode(rows, machine="pod", now=NOW)
    found_rows, found = read(body, 7)
    assert found_rows == rows
    assert (found.rows, found.skipped) == (2, {})
    header = json.loads(gzip.decompress(body).splitlines()[0])
    assert (header["written_by"], header["rows"]) == ("pod", 2)
    names = [f"segments/{n}" for n in range(2500)]
    assert read(month_body(rows, names))[1].replaces == names


def test_the_example_of_the_page_is_read_and_its_table_is_the_code_s() -> None:
    page = PAGE.read_text("utf-8")
    example = re.search(r"```jsonl\n(.*?)```", page, re.DOTALL)
    assert example is not None
    rows, found = read(gzip.compress(example[1].encode()))
    assert [row["op"] for row in rows] == ["put", "set", "del"]
    assert found.skipped == {}
    assert set(rows[0]) == set(json.loads(example[1].splitlines()[1]))
    table = [
        line
        for line in page.splitlines()
        if re.match(r"\| `\w+` \| \w+ \| (put|set|del|header|replaces|all)", line)
    ]
    assert table == [
        f"| `{one.name}` | {one.kind} | {', '.join(one.rows)} | {one.meaning} |" for one in FIELDS
    ]


@pytest.mark.parametrize(
    "bad",
    [
        b"[" * 500_000,
        b'{"op":"put","clock":1,"key":"a","models":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"op":"put","clock":1e999,"key":"a"}',
        b'{"op":"put","clock":1,"key":7}',
        b'{"op":"put","clock":1}',
        b'{"op":"put","clock":1,"key":"' + b"k" * 1025 + b'"}',
        b'{"op":"put","clock":1,"key":"a","size":' + b"9" * 5000 + b"}",
        b'{"op":"put","clock":1,"key":"a","note":"' + b"x" * MAX_ROW_BYTES + b'"}',
        b'{"op":"put","clock":true,"key":"a"}',
        b'{"op":"drop table assets","clock":1,"key":"a"}',
        b'{"op":"put","clock":1,"key":"\\ud800"}',
        b"\xff\xfe",
        b"null",
    ],
)
def test_a_row_that_breaks_a_limit_is_skipped_and_the_others_are_read(bad: bytes) -> None:
    rows, found = read(packed(HEADER, bad, PUT))
    assert rows == [PUT]
    assert sum(found.skipped.values()) == 1


def test_a_gzip_bomb_a_cut_and_a_newer_version_are_refused() -> None:
    bomb = gzip.compress(json.dumps(HEADER).encode() + b"\n" + b" " * 300_000_000)
    for body, says in (
        (bomb, "expands"),
        (encode([PUT], machine="m", now=NOW) + gzip.compress(b"") * 101, "members"),
        (encode([PUT], machine="m", now=NOW)[:-9], "early"),
        (b"no gzip at all", "gzip"),
        (b"", "header"),
        (packed(PUT), "header"),
        (packed({"op": "header", "version": True}), "header"),
    ):
        with pytest.raises(SegmentError, match=says) as error:
            read(body)
        assert not error.value.newer
    with pytest.raises(SegmentError, match="version 2") as error:
        read(packed({"op": "header", "version": 2}, PUT))
    assert error.value.newer


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_break_the_reader(noise: bytes, wrapped: bool) -> None:
    body = gzip.compress(json.dumps(HEADER).encode() + b"\n" + noise) if wrapped else noise
    try:
        rows, _ = read(body, 13)
    except SegmentError:
        return
    assert all(row["op"] in ("put", "set", "del") for row in rows)


def test_damaged_bytes_are_noticed() -> None:
    body = bytearray(encode([PUT] * 50, machine="m", now=NOW))
    body[len(body) // 2] ^= 255
    with pytest.raises(SegmentError):
        read(bytes(body))


def test_names_sort_by_time_and_tricks_are_no_names() -> None:
    assert sorted([new_ulid(2.0), new_ulid(1.0), new_ulid(3.0)])[0].startswith(new_ulid(1.0)[:10])
    assert len({new_ulid(NOW) for _ in range(1000)}) == 1000
    segment, pack = new_names("pod/../../1", NOW)
    name = parse_name(segment)
    assert name is not None
    assert (name.kind, name.period, name.month) == ("segments", "2026-11-25", "2026-11")
    assert is_pack_name(pack)
    month = parse_name(new_month_name("2026-11", NOW))
    assert month is not None
    assert max([month, name], key=lambda one: one.order) is month
    for trick in ("../x", "segments/2026-11-25/../x.jsonl.gz", f"{segment}\n", "packs/../segments", "", pack):
        assert parse_name(trick) is None
    assert not is_pack_name("packs/2026-11-25/../../etc.pack")
    assert machine_part("") == "machine"


def test_the_folder_follows_the_constant_part_of_the_prefix() -> None:
    for prefix, base in (
        ("outputs/{Y}-{m}", "outputs/.cloud-archive/v1/"),
        ("comfy-{Y}/x", ".cloud-archive/v1/"),
        ("", ".cloud-archive/v1/"),
        ("out", "out/.cloud-archive/v1/"),
    ):
        assert CatalogFolder.of(prefix).base == base
    folder = CatalogFolder.of("out")
    held = {
        key: folder.holds_output(key) for key in ("out/a.png", "out/", "a.png", "out/.cloud-archive/v1/x")
    }
    assert held == {"out/a.png": True, "out/": False, "a.png": False, "out/.cloud-archive/v1/x": False}
    assert folder.name(folder.key("x")) == "x"
    assert folder.name("elsewhere/x") == ""


def test_the_names_in_a_strangers_file_take_no_gigabyte() -> None:
    row = {"op": "replaces", "names": [f"{number:03x}" for number in range(1000)]}
    data = gzip.compress(
        b"\n".join(
            [b'{"op":"header","version":1}', *[json.dumps(row, separators=(",", ":")).encode()] * 2600]
        )
    )
    with pytest.raises(SegmentError, match="too many files"):
        list(decode([data], Decoded(), size_bytes=len(data)))
