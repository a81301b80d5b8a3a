"""Parse search queries: words, "phrases", `field:value` and `-` for not; `""` in a phrase is a quote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

from ..text import clean_text, parse_time
from .limits import MAX_DAY_QUERY_CHARACTERS, QUERY_TOO_LONG
from .local_time import from_local

Comparison = Literal["=", ">=", "<=", ">", "<"]

TEXT_FIELDS = ("model", "lora", "sampler", "machine", "job", "tag", "path")
NUMBER_FIELDS = ("seed", "rating", "width", "height")
TIME_FIELDS = ("since", "until")
TYPES = ("image", "video", "audio", "3d", "other")
FLAGS = ("favorite", "hidden")
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, *TIME_FIELDS, "type", "is")

# A word before a colon is no field if an address follows (`//`), or a pasted prompt's weight: `1.2)`, `-1.2)`, `0.5]`.
# In `path:1).png` it is a field.
_TOKEN = re.compile(
    r"(?P<minus>-)?(?:(?P<field>[A-Za-z_][A-Za-z0-9_-]{0,29}):(?!//|-?[\d.]+[)\]](?!\.\w)))?(?:\"(?P<phrase>(?:[^\"]|\"\")*)\"?|(?P<word>[^\s\"]+))|(?P<rest>\S)"
)
_NUMBER = re.compile(r"(>=|<=|>|<|=)?(\d{1,20})")
_AGE = re.compile(r"(\d{1,6})([smhdw])")
_AGE_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MAX_TERMS = 300  # beside times, which the library adds to each query


class QueryError(ValueError):
    """The query can't be read; the message names what was wrong and what is accepted."""


class CursorError(QueryError):
    """The cursor is not one of this sort and order."""


@dataclass(frozen=True)
class Term:
    """One condition.

    Attributes:
        field: empty for a word or phrase that may stand anywhere.
        value: a text, a number, or for a time seconds since 1970.
        comparison: for numbers.
    """

    field: str
    value: str | int | float
    comparison: Comparison = "="
    negated: bool = False


def parse_query(text: str, now: datetime | None = None, *, machine: str | None = None) -> tuple[Term, ...]:
    """Return the conditions of `text`, each once; all of them must hold.

    Args:
        now: for `since:7d`. Dates are in its time zone; if it has none, they are local.
        machine: find only files that this machine archived.

    Raises:
        QueryError: a field is unknown, its value is not understood, or the query is too long.
    """
    if len(text) > MAX_DAY_QUERY_CHARACTERS:
        raise QueryError(QUERY_TOO_LONG)
    # A terminal may pass on bytes that are no text: no prompt and no name holds them.
    text = clean_text(text)
    terms: dict[Term, None] = {}
    for match in _TOKEN.finditer(text):
        phrase = match["phrase"]
        value = match["word"] if phrase is None else phrase.replace('""', '"')
        field = (match["field"] or "").lower()
        # A `-` alone negates nothing, as a `"` alone quotes nothing: the user is still typing.
        if value is None or not (field or (value.strip("-") if phrase is None else value.strip())):
            continue
        if not field and phrase is None and value.endswith(":") and value[:-1].lower() in FIELDS:
            field, value = value[:-1].lower(), ""
        terms[_term(field, value.strip(), bool(match["minus"]), now or datetime.now())] = None
    if sum(term.field not in TIME_FIELDS for term in terms) > _MAX_TERMS:
        raise QueryError(f"The query has more than {_MAX_TERMS} different conditions; leave some out.")
    own = () if machine is None else (Term("machine", clean_text(machine)),)
    return (*own, *terms)


def _term(field: str, value: str, negated: bool, now: datetime) -> Term:
    if field and field not in FIELDS:
        raise QueryError(
            f'There is no field "{field}". The fields are: {", ".join(FIELDS)}.'
            " To search for this text, put it in quotes."
        )
    if field and not value:
        raise QueryError(
            f'"{field}:" has no value: write one right after the colon, or search for "{field}:" in quotes.'
        )
    if field in NUMBER_FIELDS:
        return _number_term(field, value, negated)
    if field in TIME_FIELDS:
        return Term(field, _time(field, value, now), negated=negated)
    if field == "type":
        return Term(field, _one_of(field, value, TYPES), negated=negated)
    if field == "is":
        return Term(field, _one_of(field, value, FLAGS), negated=negated)
    return Term(field, value, negated=negated)


def _number_term(field: str, value: str, negated: bool) -> Term:
    match = _NUMBER.fullmatch(value)
    if match is None:
        raise QueryError(
            f'"{field}:{value}": accepted is a whole number, also with >=, <=, > or < before it.'
        )
    return Term(field, int(match[2]), cast("Comparison", match[1] or "="), negated)


def _one_of(field: str, value: str, accepted: tuple[str, ...]) -> str:
    if value.lower() not in accepted:
        raise QueryError(f'"{field}:{value}": accepted are {", ".join(accepted)}.')
    return value.lower()


def _time(field: str, value: str, now: datetime) -> float:
    """Return a time as seconds since 1970. A date alone means its start, or for `until` its end."""
    age = _AGE.fullmatch(value)
    try:
        if age:
            return (now.astimezone() - timedelta(seconds=int(age[1]) * _AGE_SECONDS[age[2]])).timestamp()
        moment = parse_time(value, end=field == "until")
        if moment.tzinfo is None:
            # Without a zone, Python takes the local offset of that moment, not today's.
            moment = moment.replace(tzinfo=now.tzinfo)
        return from_local(moment) if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError, OSError):
        raise QueryError(
            f'"{field}:{value}": accepted is a date such as 2026-11-25, a time such as 2026-11-25T18:30, '
            "or an age such as 7d."
        ) from None
