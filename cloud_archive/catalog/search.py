"""Search the catalog: pages with stable cursors, totals, and facets."""

from __future__ import annotations

import base64
import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .assets import assets_json
from .matching import LED_BELOW, MAX_INTEGER, find_matches
from .query import QueryError, parse_query
from .schema import KINDS, LORA, MODEL, SAMPLER

SORTS = ("created_at", "name", "size")
ORDERS = ("asc", "desc")
MAX_LIMIT = 500
DEFAULT_LIMIT = 50
FACET_VALUES = 100  # of each facet, the most frequent
_SORT_COLUMNS = {"created_at": "created", "name": "name", "size": "size"}
_WALKED_COLUMNS = ("created", "name")  # those with an index
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
    matches = find_matches(db, parse_query(query))
    total = matches.count(db)
    column = _SORT_COLUMNS[sort]
    condition, values = matches.condition, list(matches.values)
    if after:
        condition += f" AND (a.{column}, a.id) {'>' if order == 'asc' else '<'} (?, ?)"
        values += _cursor_values(after, sort, order)
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


def _cursor(sort: str, order: str, value: int | str, row: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, order, value, row]).encode()).decode().rstrip("=")


def _cursor_values(text: str, sort: str, order: str) -> list[Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        its_sort, its_order, value, row = found
        if (its_sort, its_order) != (sort, order) or type(value) is not (str if sort == "name" else int):
            raise ValueError(text)
        if type(row) is not int or not -MAX_INTEGER <= row <= MAX_INTEGER:
            raise ValueError(text)
        if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueError(text)
        return [value, row]
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
    db.execute(
        f"INSERT INTO temp.recipe_counts SELECT a.recipe, count(*) FROM {matches.tables} WHERE {condition}"
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
