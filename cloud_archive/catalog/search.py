"""Search the catalog: pages with stable cursors, totals, and facets."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .assets import ASSET_COLUMNS, ASSET_JOINS, asset_json
from .query import QueryError, Term, parse_query
from .schema import KINDS, LORA, MODEL, NAMED, SAMPLER, SEED_OFFSET

SORTS = ("created_at", "name", "size")
ORDERS = ("asc", "desc")
MAX_LIMIT = 500
DEFAULT_LIMIT = 50
FACET_VALUES = 100  # of each facet, the most frequent
_SORT_COLUMNS = {"created_at": "created", "name": "name", "size": "size"}
_WALKED_FROM = (
    20_000  # so many matches, and walking in the order of time finds a page sooner than sorting them
)
_NOT_HIDDEN = "(a.hidden = 0)"
_SLOT_SECONDS = 900  # every time zone's offset is a multiple of that
_MAX_INTEGER = (1 << 63) - 1


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
    condition, values = _condition(parse_query(query))
    if condition == _NOT_HIDDEN:
        total = int(db.execute("SELECT files FROM totals WHERE hidden = 0").fetchone()[0])
    else:
        counted = _by_recipe(condition)
        total = int(db.execute(f"SELECT count(*) FROM assets a WHERE {counted}", values).fetchone()[0])
    column = _SORT_COLUMNS[sort]
    beyond = ">" if order == "asc" else "<"
    walked = column == "created" and total >= _WALKED_FROM
    page_condition, page_values = condition if walked else _by_recipe(condition), list(values)
    if after:
        page_condition += f" AND (a.{column}, a.id) {beyond} (?, ?)"
        page_values += _cursor_values(after, sort, order)
    key = f"a.{column}" if walked or column != "created" else f"+a.{column}"
    found = db.execute(
        f"SELECT a.id, a.{column} FROM assets a{' INDEXED BY assets_created' if walked else ''}"
        f" WHERE {page_condition} ORDER BY {key} {order}, a.id {order} LIMIT ?",
        (*page_values, limit + 1),
    ).fetchall()
    following = None
    if len(found) > limit:
        row, value = found[limit - 1]
        following = _cursor(sort, order, value, row)
    return Page(_assets(db, [row for row, _ in found[:limit]]), total, following)


def _assets(db: sqlite3.Connection, rows: Sequence[int]) -> list[dict[str, Any]]:
    marks = ", ".join("?" * len(rows))
    found = {
        row[0]: asset_json(db, row[1:])
        for row in db.execute(
            f"SELECT a.id, {ASSET_COLUMNS} FROM assets a{ASSET_JOINS} WHERE a.id IN ({marks})", rows
        ).fetchall()
    }
    return [found[row] for row in rows if row in found]


def _cursor(sort: str, order: str, value: int | str, row: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, order, value, row]).encode()).decode().rstrip("=")


def _cursor_values(text: str, sort: str, order: str) -> list[Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        its_sort, its_order, value, row = found
        if (its_sort, its_order) != (sort, order) or type(value) is not (str if sort == "name" else int):
            raise ValueError(text)
        if type(row) is not int or not -_MAX_INTEGER <= row <= _MAX_INTEGER:
            raise ValueError(text)
        if isinstance(value, int) and not -_MAX_INTEGER <= value <= _MAX_INTEGER:
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
    condition, values = _condition(parse_query(query))
    condition = _by_recipe(condition)
    db.execute("CREATE TEMP TABLE IF NOT EXISTS recipe_counts (recipe INTEGER PRIMARY KEY, files INTEGER)")
    db.execute("DELETE FROM temp.recipe_counts")
    db.execute(
        f"INSERT INTO temp.recipe_counts SELECT recipe, count(*) FROM assets a WHERE {condition}"
        " AND recipe IS NOT NULL GROUP BY recipe",
        values,
    )
    found: dict[str, Any] = {
        name: _counts(
            db.execute(
                "SELECT w.text, sum(c.files) FROM recipe_words rw JOIN temp.recipe_counts c ON c.recipe = rw.recipe"
                " JOIN words w ON w.id = rw.word WHERE rw.kind = ? GROUP BY rw.word ORDER BY 2 DESC, 1 LIMIT ?",
                (kind, FACET_VALUES),
            )
        )
        for name, kind in (("models", MODEL), ("loras", LORA), ("samplers", SAMPLER))
    }
    machines: dict[int, int] = {}
    kinds: dict[str, int] = {}
    slots: dict[int, int] = {}
    for machine, kind, slot, count in db.execute(
        f"SELECT a.machine, a.kind, a.created / {_SLOT_SECONDS * 10**9}, count(*) FROM assets a"
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
            "SELECT substr(e.field, 5), count(*) FROM edits e JOIN assets a ON a.uuid = e.uuid"
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
        "SELECT w.text, count(*), sum(a.size) FROM recipe_words rw JOIN words w ON w.id = rw.word"
        " JOIN assets a ON a.recipe = rw.recipe WHERE rw.kind = ? GROUP BY rw.word",
        (MODEL,),
    ).fetchall()
    without = db.execute(
        "SELECT NULL, count(*), coalesce(sum(size), 0) FROM assets a WHERE NOT EXISTS"
        " (SELECT 1 FROM recipe_words rw WHERE rw.kind = ? AND rw.recipe = a.recipe)",
        (MODEL,),
    ).fetchall()
    return [row for row in (*named, *without) if row[1]]


def _condition(terms: Sequence[Term]) -> tuple[str, list[Any]]:
    """Return the terms as SQL over `assets a`. Hidden assets are left out unless the query asks for them."""
    pieces: list[str] = []
    values: list[Any] = []
    if not any(term.field == "is" and term.value == "hidden" for term in terms):
        pieces.append("a.hidden = 0")  # _NOT_HIDDEN where it is the only one
    for term in terms:
        sql, its_values = _term_sql(term)
        pieces.append(f"NOT coalesce({sql}, 0)" if term.negated else sql)
        values += its_values
    return " AND ".join(f"({piece})" for piece in pieces) or "1", values


def _by_recipe(condition: str) -> str:
    """Keep SQLite from going through all assets by time where a recipe or a name leads to the few that count."""
    return condition.replace("(a.hidden = 0)", "(+a.hidden = 0)") if "a.recipe IN" in condition else condition


def _term_sql(term: Term) -> tuple[str, list[Any]]:
    value = term.value
    if not term.field:
        return _anywhere(str(value))
    if term.field in ("model", "lora", "sampler"):
        kinds = {"model": (MODEL, NAMED), "lora": (LORA,), "sampler": (SAMPLER,)}[term.field]
        return (
            "a.recipe IN (SELECT rw.recipe FROM recipe_words rw WHERE"
            f" rw.kind IN ({', '.join(map(str, kinds))}) AND rw.word IN"
            " (SELECT id FROM words WHERE text LIKE ? ESCAPE '\\'))",
            [_like(str(value))],
        )
    if term.field in ("machine", "job"):
        return f"a.{term.field} IN (SELECT id FROM words WHERE text LIKE ? ESCAPE '\\')", [
            _escaped(str(value))
        ]
    if term.field == "tag":
        return (
            "a.uuid IN (SELECT uuid FROM edits WHERE field >= 'tag:' AND field < 'tag;' AND value = 1"
            " AND field LIKE ? ESCAPE '\\')",
            [f"tag:{_escaped(str(value))}"],
        )
    if term.field == "path":
        return _path_sql(str(value))
    if term.field == "type":
        return "a.kind = ?", [KINDS.index(str(value))]
    if term.field == "is":
        return f"a.{value} = 1", []
    if term.field in ("since", "until"):
        nanoseconds = max(-_MAX_INTEGER, min(_MAX_INTEGER, int(float(value) * 1e9)))
        return f"a.created {'>=' if term.field == 'since' else '<'} ?", [nanoseconds]
    number = int(value) - SEED_OFFSET if term.field == "seed" else int(value)
    return f"a.{term.field} {term.comparison} ?", [min(number, _MAX_INTEGER)]


def _anywhere(word: str) -> tuple[str, list[Any]]:
    """A word in the prompts, texts or name. The trigram index knows no word under three characters."""
    if len(word) >= 3:
        quoted = '"' + word.replace('"', '""') + '"'
        return (
            "a.recipe IN (SELECT rowid FROM recipe_text WHERE recipe_text MATCH ?)"
            " OR a.id IN (SELECT rowid FROM name_text WHERE name_text MATCH ?)",
            [quoted, quoted],
        )
    like = _like(word)
    return (
        "a.recipe IN (SELECT id FROM recipes WHERE prompt LIKE ? ESCAPE '\\' OR negative LIKE ? ESCAPE '\\'"
        " OR texts LIKE ? ESCAPE '\\' OR facts LIKE ? ESCAPE '\\') OR a.name LIKE ? ESCAPE '\\'",
        [like] * 5,
    )


def _path_sql(value: str) -> tuple[str, list[Any]]:
    """A part of the key. Folders are few, so that they are looked through first."""
    folder, slash, name = value.rpartition("/")
    sql = "a.folder IN (SELECT id FROM folders WHERE text LIKE ? ESCAPE '\\')"
    if not slash:
        return f"{sql} OR a.name LIKE ? ESCAPE '\\'", [_like(value), _like(value)]
    within = f"%{_escaped(folder)}/"
    return (
        f"{sql} OR (a.name LIKE ? ESCAPE '\\' AND {sql})",
        [_like(value), f"{_escaped(name)}%", within],
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _like(text: str) -> str:
    return f"%{_escaped(text)}%"
