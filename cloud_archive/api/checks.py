"""Check one argument of a call: a number, a text or a flag. RequestRefused (400) says what is accepted.

Loaded into ComfyUI's process: standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import RequestRefused


def whole_number(query: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    """Return a whole number from 1 to `maximum`; `default` if the query lacks it."""
    try:
        number = int(query.get(name) or default)
    except ValueError:
        number = 0
    if not 1 <= number <= maximum:
        raise RequestRefused(400, f"{name} must be a whole number from 1 to {maximum}.")
    return number


def limited_text(query: Mapping[str, str], name: str, max_characters: int) -> str:
    """Return a text; empty if the query lacks it."""
    text = query.get(name, "")
    if len(text) > max_characters:
        raise RequestRefused(400, f"{name} takes {max_characters} characters at most.")
    return text


def as_query(body: Mapping[str, object]) -> dict[str, str]:
    """Return a JSON body of texts, numbers and nulls as the query of a URL; null counts as missing."""
    for name, value in body.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
            raise RequestRefused(400, f"{name} must be a text or a number.")
    return {name: str(value) for name, value in body.items() if value is not None}


def flag(body: Mapping[str, object], name: str) -> bool:
    """Return true or false; False if the body lacks it."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise RequestRefused(400, f"{name} must be true or false.")
    return value


def number_or_nan(value: object) -> float:
    """Return a number of a JSON body; NaN for everything else, also for true, false and integers beyond a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
