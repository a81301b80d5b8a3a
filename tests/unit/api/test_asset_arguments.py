"""What the catalog's calls may ask for, and what a wrong one is told."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from cloud_archive.api.asset_arguments import (
    MAX_IN_ZIP,
    asset_id_of,
    edit_arguments,
    facet_arguments,
    search_arguments,
    zip_arguments,
)
from cloud_archive.api.checks import as_query
from cloud_archive.errors import RequestRefused


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {"q": "", "sort": "created_at", "order": "desc", "limit": 50, "after": None}),
        (
            {"q": "fox", "sort": "name"},
            {"q": "fox", "sort": "name", "order": "asc", "limit": 50, "after": None},
        ),
        (
            {"sort": "relevance", "limit": "500", "after": "abc"},
            {"q": "", "sort": "relevance", "order": "desc", "limit": 500, "after": "abc"},
        ),
    ],
)
def test_a_search_has_defaults(query: dict[str, str], expected: dict[str, Any]) -> None:
    assert search_arguments(query) == expected


def test_a_search_may_be_a_json_body() -> None:
    body = {"q": "fox", "limit": 20, "after": None}
    assert search_arguments(as_query(body)) == search_arguments({"q": "fox", "limit": "20"})
    for wrong in (True, ["fox"], {"a": 1}):
        with pytest.raises(RequestRefused) as refused:
            as_query({"q": wrong})
        assert (refused.value.status, str(refused.value)) == (400, "q must be a text or a number.")


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ({"sort": "colour"}, "created_at, name, size, relevance"),
        ({"order": "up"}, "asc, desc"),
        ({"limit": "0"}, "from 1 to 500"),
        ({"limit": "501"}, "from 1 to 500"),
        ({"limit": "many"}, "from 1 to 500"),
        ({"after": "x" * 3000}, "2048 characters"),
        ({"q": "x" * 4035}, "^q: The query is longer than 4,000 characters; shorten it.$"),
    ],
)
def test_a_wrong_search_is_told_what_is_accepted(query: dict[str, str], part: str) -> None:
    with pytest.raises(RequestRefused, match=part) as error:
        search_arguments(query)
    assert error.value.status == 400


def test_facets_leave_room_for_the_day_that_the_page_puts_before_their_query() -> None:
    longest = {"q": "x" * 4000}
    assert facet_arguments(longest) == longest
    with pytest.raises(RequestRefused, match="longer than 4,000 characters"):
        facet_arguments({"q": "x" * 4001})


def test_edits_are_checked_and_tags_are_tidied() -> None:
    edits = {
        "tags": [" best ", "best", "\0best", "狐"],
        "favorite": True,
        "rating": 5,
        "note": "",
        "hidden": False,
    }
    assert edit_arguments(edits) == edits | {"tags": ["best", "狐"]}


@pytest.mark.parametrize(
    ("edits", "part"),
    [
        ({}, "tags, favorite, rating, note, hidden"),
        ({"prompt": "x"}, "prompt can't be changed"),
        ({"favorite": 1}, "favorite must be true or false"),
        ({"hidden": "yes"}, "hidden must be true or false"),
        ({"rating": 6}, "from 0 to 5"),
        ({"rating": -1}, "from 0 to 5"),
        ({"rating": 4.5}, "from 0 to 5"),
        ({"rating": True}, "from 0 to 5"),
        ({"note": 3}, "10000 characters"),
        ({"note": "x" * 10_001}, "10000 characters"),
        ({"tags": "best"}, "a list of 100"),
        ({"tags": ["x"] * 101}, "a list of 100"),
        ({"tags": [" "]}, "1 to 100 characters"),
        ({"tags": ["\0"]}, "1 to 100 characters"),
        ({"tags": ["x" * 101]}, "1 to 100 characters"),
        ({"tags": ['a"b']}, "without quotes"),
        ({"tags": [1]}, "1 to 100 characters"),
    ],
)
def test_a_wrong_edit_is_told_what_is_accepted(edits: dict[str, Any], part: str) -> None:
    with pytest.raises(RequestRefused, match=part) as error:
        edit_arguments(edits)
    assert error.value.status == 400


def test_an_id_is_a_uuid() -> None:
    assert asset_id_of("AAAAAAAA-BBBB-5CCC-8DDD-EEEEEEEEEEEE") == "aaaaaaaa-bbbb-5ccc-8ddd-eeeeeeeeeeee"
    with pytest.raises(RequestRefused, match="UUID") as error:
        asset_id_of("1")
    assert error.value.status == 404


def ids(count: int) -> list[str]:
    return [str(uuid.UUID(int=number)) for number in range(count)]


def test_ids_of_a_zip_keep_their_order_and_count_once() -> None:
    first, second = ids(2)
    assert zip_arguments({"ids": f"{second}, {first.upper()},{second}"}) == {"ids": f"{second},{first}"}
    assert len(zip_arguments({"ids": ",".join(ids(MAX_IN_ZIP))})["ids"].split(",")) == MAX_IN_ZIP


@pytest.mark.parametrize("given", ["", " , ", "x", "1,2", ",".join(ids(MAX_IN_ZIP + 1))])
def test_a_zip_of_no_ids_too_many_or_what_is_no_id_is_refused(given: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        zip_arguments({"ids": given})
    assert refused.value.status == 400
