"""Checks of one argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from cloud_archive.api.checks import flag, limited_text, number_or_nan, whole_number
from cloud_archive.errors import RequestRefused


@pytest.mark.parametrize(
    ("query", "number"), [({}, 5), ({"n": ""}, 5), ({"n": "1"}, 1), ({"n": "9"}, 9), ({"n": " 7 "}, 7)]
)
def test_a_whole_number_has_a_default_and_limits(query: dict[str, str], number: int) -> None:
    assert whole_number(query, "n", 5, 9) == number


def test_a_text_and_a_flag_may_be_left_out() -> None:
    assert (limited_text({}, "q", 3), limited_text({"q": "fox"}, "q", 3)) == ("", "fox")
    assert (flag({}, "on"), flag({"on": True}, "on"), flag({"on": False}, "on")) == (False, True, False)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        *(
            (lambda text=text: whole_number({"n": text}, "n", 5, 9), "n must be a whole number from 1 to 9.")
            for text in ("0", "10", "-1", "1.5", "x", "9" * 5000)
        ),
        (lambda: limited_text({"q": "foxy"}, "q", 3), "q takes 3 characters at most."),
        *(
            (lambda value=value: flag({"on": value}, "on"), "on must be true or false.")
            for value in (1, "true", None)
        ),
    ],
)
def test_anything_else_is_refused_by_name(check: Callable[[], Any], message: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        check()
    assert (refused.value.status, str(refused.value)) == (400, message)


@pytest.mark.parametrize("value", [True, "1", None, [], 10**400, math.nan])
def test_what_is_no_number_is_nan(value: object) -> None:
    assert math.isnan(number_or_nan(value))


def test_a_number_stays_a_number() -> None:
    assert (number_or_nan(3), number_or_nan(-0.5), number_or_nan(math.inf)) == (3.0, -0.5, math.inf)
