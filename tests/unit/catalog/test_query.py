"""The query language: what each query means, and what a wrong one is told."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.catalog.query import FIELDS, QueryError, Term, parse_query

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("  ", ()),
        ("fox", (Term("", "fox"),)),
        ("red fox", (Term("", "red"), Term("", "fox"))),
        ('"red fox" snow', (Term("", "red fox"), Term("", "snow"))),
        ('"red fox', (Term("", "red fox"),)),
        ('machine:"fo""x" red', (Term("machine", 'fo"x'), Term("", "red"))),
        ('"" """fox"""', (Term("", '"fox"'),)),
        ("-blurry", (Term("", "blurry", negated=True),)),
        ('-"bad hands"', (Term("", "bad hands", negated=True),)),
        ("狐 雪", (Term("", "狐"), Term("", "雪"))),
        ("red fox red -red", (Term("", "red"), Term("", "fox"), Term("", "red", negated=True))),
        ("model:flux", (Term("model", "flux"),)),
        ('model:"flux dev"', (Term("model", "flux dev"),)),
        ("-lora:fur", (Term("lora", "fur", negated=True),)),
        ("seed:18446744073709551615", (Term("seed", 2**64 - 1),)),
        ("rating:>=4", (Term("rating", 4, ">="),)),
        ("width:<2048", (Term("width", 2048, "<"),)),
        ("TYPE:Image", (Term("type", "image"),)),
        ("is:favorite -is:hidden", (Term("is", "favorite"), Term("is", "hidden", negated=True))),
        ('"model:" photo: flux:', (Term("", "model:"), Term("", "photo:"), Term("", "flux:"))),
        ("tag:model: red", (Term("tag", "model:"), Term("", "red"))),
        ("path:2026/fox_00001_.png", (Term("path", "2026/fox_00001_.png"),)),
        ('model:"//nas/fox" model://nas/fox', (Term("model", "//nas/fox"), Term("", "model://nas/fox"))),
        ("https://example.com/fox", (Term("", "https://example.com/fox"),)),
        ("16:9 (red:1.2)", (Term("", "16:9"), Term("", "(red:1.2)"))),
        (
            "(red fox:1.2), ((a model:.9))",
            tuple(Term("", word) for word in ("(red", "fox:1.2),", "((a", "model:.9))")),
        ),
        (
            "(red fox:-1.2), [a red:0.5]",
            tuple(Term("", word) for word in ("(red", "fox:-1.2),", "[a", "red:0.5]")),
        ),
        ("path:1).png", (Term("path", "1).png"),)),
        ("path:1.2 seed:42", (Term("path", "1.2"), Term("seed", 42))),
        ("- fox -- snow -", (Term("", "fox"), Term("", "snow"))),
        ('"-" path:- --fox', (Term("", "-"), Term("path", "-"), Term("", "-fox", negated=True))),
        ("since:7d", (Term("since", datetime(2026, 11, 21, 12, tzinfo=timezone.utc).timestamp()),)),
        ("since:2026-11-25", (Term("since", datetime(2026, 11, 25, tzinfo=timezone.utc).timestamp()),)),
        ("until:2026-11-25", (Term("until", datetime(2026, 11, 26, tzinfo=timezone.utc).timestamp()),)),
        ("until:9999-12-31", (Term("until", datetime(9999, 12, 31, tzinfo=timezone.utc).timestamp()),)),
        (
            "until:2026-11-25T18:30",
            (Term("until", datetime(2026, 11, 25, 18, 30, tzinfo=timezone.utc).timestamp()),),
        ),
    ],
)
def test_a_query_means_these_terms(text: str, terms: tuple[Term, ...]) -> None:
    assert parse_query(text, NOW) == terms


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("colour:red", ", ".join(FIELDS)),
        ("embedding:bad_hands", "To search for this text, put it in quotes."),
        ("no-such_field2:red", 'no field "no-such_field2"'),
        ("type:picture", "image, video, audio, 3d, other"),
        ("is:big", "favorite, hidden"),
        ("rating:good", "whole number"),
        ("since:yesterday", "2026-11-25"),
        ("since:99999999999d", "2026-11-25"),
        ("until:20261125", "2026-11-25"),
        ("until:2026W483", "2026-11-25"),
        ("since:2026-11-25Z", "2026-11-25T18:30"),
        ('model:""', "no value"),
        ("-Model: flux", '"model:" has no value'),
        (" ".join(map(str, range(301))), "more than 300"),
        ("a" * 5000, "longer than 4,000"),
    ],
)
def test_a_wrong_query_is_told_what_is_accepted(text: str, part: str) -> None:
    with pytest.raises(QueryError) as error:
        parse_query(text, NOW)
    assert part in str(error.value)


@given(text=st.text(alphabet='ab:"- >=<7d狐rating since type', max_size=40))
def test_any_text_is_a_query_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert all(term.field in ("", *FIELDS) for term in parse_query(text, NOW))


@pytest.mark.parametrize("machine", ["fox", 'fo"x', '"'])
@pytest.mark.parametrize("query", ["", '"', 'fo"', '-"red', "a " * 2000, " ".join(map(str, range(300)))])
def test_the_condition_on_a_machine_is_added_to_every_query(query: str, machine: str) -> None:
    added = Term("machine", machine)
    assert parse_query(query, machine=machine) == (added, *parse_query(query))
