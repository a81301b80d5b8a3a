"""Search the catalog: pages with stable cursors, totals, and facets."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .assets import assets_json
from .matching import LED_BELOW, MAX_INTEGER, VISIBLE, Matches, find_matches
from .query import QueryError, parse_query
from .schema import KINDS, LORA, MODEL, SAMPLER

SORTS = ("created_at", "name", "size", "relevance")
ORDERS = ("asc", "desc")
MAX_LIMIT = 500
DEFAULT_LIMIT = 50
FACET_VALUES = 100  # of each facet, the most frequent
_SORT_COLUMNS = {"created_at": "created", "name": "name", "size": "size"}
_WALKED_COLUMNS = ("created", "name")  # those with an index
RANKED = 20_000  # so many matches are ordered by relevance, the newest
_PLACE = "coalesce(nullif(min(instr(lower(p.text), ?), 9999), 0), 10000)"  # of a word in the prompt
_SLOT_SECONDS = 900  # every time zone's offset is a multiple of that


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search. `total` counts all pages."""

    assets: list[dict[str, Any]]
    total: int
    next_cursor: str | None

    def to_json(self) -> dict[str, Any]:
        """As the HTTP interface answers it."""
        return {
            "assets": self.assets,
            "total": self.total,
            "has_more": self.next_cursor is not None,
            "next_cursor": self.next_cursor,
        }


def search(
    db: sqlite3.Connection,
    query: str = "",
    *,
    sort: str = "created_at",
    order: str = "desc",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page:
    """Return one page of the assets that `query` finds.

    Args:
        after: `next_cursor` of the page before. A page begins behind the last asset of that one, whatever came or
            went meanwhile.

    Raises:
        QueryError: the query can't be read, or `after` is no cursor of this sort and order.
    """
    terms = parse_query(query)
    matches = find_matches(db, terms)
    total = matches.count(db)
    if sort == "relevance":
        words = [str(term.value).lower() for term in terms if not term.field and not term.negated]
        return _by_relevance(db, matches, words, total, order, limit, after)
    column = _SORT_COLUMNS[sort]
    condition, values = matches.condition, list(matches.values)
    if after:
        condition += f" AND (a.{column}, a.id) {'>' if order == 'asc' else '<'} (?, ?)"
        values += _cursor_values(after, sort, order)[:2]
    # Many matches: going through the assets in the page's order finds it sooner than sorting.
    walked = not matches.is_led and total >= LED_BELOW and column in _WALKED_COLUMNS
    key = f"a.{column}" if walked else f"+a.{column}"
    found = db.execute(
        f"SELECT a.id, a.{column} FROM {matches.tables}{f' INDEXED BY assets_{column}' if walked else ''}"
        f" WHERE {condition} ORDER BY {key} {order}, a.id {order} LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    following = None
    if len(found) > limit:
        row, value = found[limit - 1]
        following = _cursor(sort, order, value, row)
    return Page(assets_json(db, [row for row, _ in found[:limit]]), total, following)


def _by_relevance(
    db: sqlite3.Connection,
    matches: Matches,
    words: Sequence[str],
    total: int,
    order: str,
    limit: int,
    after: str | None,
) -> Page:
    """Order by how early a prompt names the words: what a picture shows stands first in most prompts.

    A word counts with its place in the prompt, in characters; one that is found elsewhere counts as far behind. Of
    many matches the newest RANKED are ordered.
    """
    start = [0, 0, -MAX_INTEGER] if after is None else _cursor_values(after, "relevance", order)
    since = start[2]
    if after is None and total > RANKED:
        since = db.execute(
            f"SELECT a.created FROM {matches.tables} WHERE {matches.condition}"
            " ORDER BY a.created DESC LIMIT 1 OFFSET ?",
            (*matches.values, RANKED - 1),
        ).fetchone()[0]
    places = " + ".join([_PLACE] * len(words)) or "0"
    beyond = "" if after is None else f" WHERE (rank, id) {'>' if order == 'asc' else '<'} (?, ?)"
    found = db.execute(
        f"SELECT id, rank FROM (SELECT a.id, -({places}) AS rank FROM {matches.tables}"
        " LEFT JOIN recipes r ON r.id = a.recipe LEFT JOIN texts p ON p.id = r.prompt"
        f" WHERE {matches.condition} AND a.created >= ?){beyond} ORDER BY rank {order}, id {order} LIMIT ?",
        (*words, *matches.values, since, *(start[:2] if after else ()), limit + 1),
    ).fetchall()
    following = None
    if len(found) > limit:
        row, rank = found[limit - 1]
        following = _cursor("relevance", order, rank, row, since)
    return Page(assets_json(db, [row for row, _ in found[:limit]]), total, following)


def _cursor(sort: str, order: str, *values: int | str) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, order, *values]).encode()).decode().rstrip("=")


def _cursor_values(text: str, sort: str, order: str) -> list[Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        its_sort, its_order, *values = found
        kinds = {"name": [str, int], "relevance": [int, int, int]}.get(sort, [int, int])
        if (its_sort, its_order) != (sort, order) or [type(value) for value in values] != kinds:
            raise ValueError(text)
        if any(type(value) is int and not -MAX_INTEGER <= value <= MAX_INTEGER for value in values):
            raise ValueError(text)
        return list(values)
    except (ValueError, TypeError):
        raise QueryError(
            "after must be the next_cursor of an earlier page with the same sort and order."
        ) from None


def facets(db: sqlite3.Connection, query: str = "") -> dict[str, Any]:
    """Return how many of the assets that `query` finds have which model, LoRA, sampler, machine, type, tag and day.

    Each facet is a list of `{"name", "count"}`, the most frequent first and at most 100; days newest first.

    Raises:
        QueryError: the query can't be read.
    """
    matches = find_matches(db, parse_query(query))
    condition, values = matches.condition, matches.values
    db.execute("CREATE TEMP TABLE IF NOT EXISTS recipe_counts (recipe INTEGER PRIMARY KEY, files INTEGER)")
    db.execute("DELETE FROM temp.recipe_counts")
    # All that is visible is counted in the recipes' order, without looking at the assets.
    where = "assets a INDEXED BY assets_recipe" if matches.only_visible else matches.tables
    visible = f"+{VISIBLE}" if matches.only_visible else condition
    db.execute(
        f"INSERT INTO temp.recipe_counts SELECT a.recipe, count(*) FROM {where} WHERE {visible}"
        " AND a.recipe IS NOT NULL GROUP BY a.recipe",
        values,
    )
    found: dict[str, Any] = {
        name: _counts(
            db.execute(
                "SELECT n.text, sum(c.files) FROM name_uses u JOIN temp.recipe_counts c ON c.recipe = u.recipe"
                " JOIN names n ON n.id = u.name WHERE u.kind = ? GROUP BY u.name ORDER BY 2 DESC, 1 LIMIT ?",
                (kind, FACET_VALUES),
            )
        )
        for name, kind in (("models", MODEL), ("loras", LORA), ("samplers", SAMPLER))
    }
    machines: dict[int, int] = {}
    kinds: dict[str, int] = {}
    slots: dict[int, int] = {}
    for machine, kind, slot, count in db.execute(
        f"SELECT a.machine, a.kind, a.created / {_SLOT_SECONDS * 10**9}, count(*) FROM {matches.tables}"
        f" WHERE {condition} GROUP BY 1, 2, 3",
        values,
    ):
        if machine is not None:
            machines[machine] = machines.get(machine, 0) + count
        kinds[KINDS[kind]] = kinds.get(KINDS[kind], 0) + count
        slots[slot] = slots.get(slot, 0) + count
    names = {id_: _word(db, id_) for id_ in machines}
    found["machines"] = _most_frequent({names[id_]: count for id_, count in machines.items()})
    found["types"] = _most_frequent(kinds)
    found["tags"] = _counts(
        db.execute(
            f"SELECT substr(e.field, 5), count(*) FROM {matches.tables} CROSS JOIN edits e ON e.uuid = a.uuid"
            f" WHERE e.field >= 'tag:' AND e.field < 'tag;' AND e.value = 1 AND {condition}"
            " GROUP BY e.field ORDER BY 2 DESC, 1 LIMIT ?",
            (*values, FACET_VALUES),
        )
    )
    found["days"] = _days(slots)
    return found


def _word(db: sqlite3.Connection, row: int) -> str:
    return str(db.execute("SELECT text FROM words WHERE id = ?", (row,)).fetchone()[0])


def _counts(rows: Any) -> list[dict[str, Any]]:
    return [{"name": name, "count": count} for name, count in rows]


def _most_frequent(counts: dict[str, int]) -> list[dict[str, Any]]:
    return _counts(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:FACET_VALUES])


def _days(slots: dict[int, int]) -> list[dict[str, Any]]:
    days: dict[str, int] = {}
    for slot, count in slots.items():
        try:
            day = datetime.fromtimestamp(slot * _SLOT_SECONDS).date().isoformat()
        except (ValueError, OverflowError, OSError):
            continue
        days[day] = days.get(day, 0) + count
    return _counts(sorted(days.items(), reverse=True))


def files_by_model(db: sqlite3.Connection) -> list[tuple[str | None, int, int]]:
    """Return (model, files, bytes) over all assets, hidden ones too; None: no model is known of these.

    A file that was made with two models counts for each.
    """
    named = db.execute(
        "SELECT n.text, count(*), sum(a.size) FROM name_uses u JOIN names n ON n.id = u.name"
        " JOIN assets a ON a.recipe = u.recipe WHERE u.kind = ? GROUP BY u.name",
        (MODEL,),
    ).fetchall()
    without = db.execute(
        "SELECT NULL, count(*), coalesce(sum(size), 0) FROM assets a WHERE NOT EXISTS"
        " (SELECT 1 FROM name_uses u WHERE u.kind = ? AND u.recipe = a.recipe)",
        (MODEL,),
    ).fetchall()
    return [row for row in (*named, *without) if row[1]]
