"""Search the catalog: pages with stable cursors, and totals."""

from __future__ import annotations

import base64
import heapq
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .assets import assets_json
from .json_text import load_json
from .lookup import fold_case
from .matching import MAX_INTEGER, Matches, find_matches
from .query import CursorError, parse_query
from .recipes import each_text, in_pieces
from .schema import MODEL

MAX_RANKED = 5_000  # of more matches, the pages by relevance hold only the newest
WALKED_FROM = 5_000  # from so many matches on, walking in the page's order is tried before sorting
MAX_STEPS = 100_000  # of a walk, about 50 ms: after that, sorting is faster
_SORT_COLUMNS = {"created_at": "created", "name": "name", "size": "size"}
_WALKED_COLUMNS = ("created", "name")  # those with an index
_NOWHERE = 10_000  # counts as the place of a word that the prompt does not hold


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search. `total` counts all matches, also those that MAX_RANKED leaves out."""

    assets: list[dict[str, Any]]
    total: int
    next_cursor: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the page as the HTTP interface answers it."""
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
    limit: int = 50,
    after: str | None = None,
    machine: str | None = None,
) -> Page:
    """Return one page of the assets that `query` finds.

    Args:
        after: `next_cursor` of the page before. The page begins behind the last asset of that one, whatever came or
            went meanwhile.
        machine: see `parse_query`.

    Raises:
        QueryError: the query can't be read; CursorError: `after` is no cursor of this sort and order.
    """
    terms = parse_query(query, machine=machine)
    start = None if after is None else _cursor_values(after, sort, order)
    matches = find_matches(db, terms)
    total = matches.count(db)
    if sort == "relevance":
        words = [fold_case(str(term.value)) for term in terms if not term.field and not term.negated]
        return _by_relevance(db, matches, words, total, order, limit, start)
    wanted = _Wanted(_SORT_COLUMNS[sort], order, limit + 1, None if start is None else (start[0], start[1]))
    found = None
    if total >= WALKED_FROM and wanted.column in _WALKED_COLUMNS and matches.is_walkable:
        found = _walk(db, matches, wanted)
    if found is None:
        found = _sorted(db, matches, wanted)
    return _page(db, found, total, sort, order, limit)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which of the matches are wanted: the first `count` in an order, behind the asset `start`.

    Attributes:
        column: what they are sorted by, and then by their row: a column of `assets`, or `relevance`.
        order: `asc` or `desc`.
        start: (value, row); None: from the beginning.
    """

    column: str
    order: str
    count: int
    start: tuple[Any, int] | None = None

    def condition(self) -> tuple[str, tuple[Any, ...]]:
        """Return SQL that follows `WHERE …` to leave out all up to `start`, and its values."""
        if self.start is None:
            return "", ()
        return f" AND (a.{self.column}, a.id) {'>' if self.order == 'asc' else '<'} (?, ?)", self.start

    def pick(self, rows: Iterable[tuple[Any, int]]) -> list[tuple[Any, int]]:
        start = self.start
        if self.order == "asc":
            return heapq.nsmallest(
                self.count, rows if start is None else (row for row in rows if row > start)
            )
        return heapq.nlargest(self.count, rows if start is None else (row for row in rows if row < start))


def _page(
    db: sqlite3.Connection,
    found: Sequence[tuple[Any, int]],
    total: int,
    sort: str,
    order: str,
    limit: int,
    *more: int,
) -> Page:
    """Return the page of the first `limit` of (value, row); `more`: further values for its cursor."""
    following = _cursor(sort, order, *found[limit - 1], *more) if len(found) > limit else None
    return Page(assets_json(db, [row for _, row in found[:limit]]), total, following)


def _walk(
    db: sqlite3.Connection,
    matches: Matches,
    wanted: _Wanted,
    since: int | None = None,
    steps: int | None = None,
) -> list[tuple[Any, int]] | None:
    """Return the wanted (value, row) by going through all assets in their order until enough match.

    Args:
        since: return all that were created since then (nanoseconds since 1970), whatever `wanted.count` says.
        steps: how many assets for which `matches.rest` holds to go through; None: MAX_STEPS, or no limit if
            `matches.rest` alone decides.

    Returns:
        None: the steps were not enough, so that sorting is faster.
    """
    beyond, values = wanted.condition()
    if since is not None:
        beyond, values = " AND a.created >= ?", (since,)
    steps = steps or (MAX_STEPS if not matches.only_rest else MAX_INTEGER)
    found: list[tuple[Any, int]] = []
    column, order = wanted.column, wanted.order
    for row, recipe, value in db.execute(
        f"SELECT a.id, a.recipe, a.{column} FROM assets a INDEXED BY assets_{column}"
        f" WHERE {matches.rest}{beyond} ORDER BY a.{column} {order}, a.id {order}",
        (*matches.values, *values),
    ):
        if matches.holds(row, recipe):
            found.append((value, row))
            if len(found) == wanted.count and since is None:
                return found
        steps -= 1
        if steps == 0:
            return None
    return found


def _sorted(db: sqlite3.Connection, matches: Matches, wanted: _Wanted) -> list[tuple[Any, int]]:
    column, order = wanted.column, wanted.order
    if matches.has_few_recipes:
        return wanted.pick((value, row) for row, value in matches.rows(db, f"a.id, a.{column}"))
    condition, values = matches.condition(db)
    beyond, more = wanted.condition()
    found = db.execute(
        # The plus keeps SQLite from going through an index in its order, and looking at every row.
        f"SELECT a.{column}, a.id FROM assets a WHERE {condition}{beyond}"
        f" ORDER BY +a.{column} {order}, a.id {order} LIMIT ?",
        (*values, *more, wanted.count),
    )
    return found.fetchall()


def _by_relevance(
    db: sqlite3.Connection,
    matches: Matches,
    words: Sequence[str],
    total: int,
    order: str,
    limit: int,
    start: Sequence[Any] | None,
) -> Page:
    """Order by how early a prompt names the words: what a picture shows stands first in most prompts.

    A word counts with its place in the prompt, in characters; one that is found elsewhere counts as far behind.
    """
    since = -MAX_INTEGER if start is None else start[2]
    newest = _newest(db, matches, total, since)
    if start is None and total > MAX_RANKED:
        newest = heapq.nlargest(MAX_RANKED, newest)
        since = newest[-1][0]
    places = _places(db, [row for _, row in newest], words)
    wanted = _Wanted("relevance", order, limit + 1, None if start is None else (start[0], start[1]))
    found = wanted.pick((places[row], row) for _, row in newest)
    return _page(db, found, total, "relevance", order, limit, since)


def _newest(db: sqlite3.Connection, matches: Matches, total: int, since: int) -> list[tuple[int, int]]:
    """Return (created, row) of the matches that were created since `since`.

    For the first page (`since` is -MAX_INTEGER) that may be the newest MAX_RANKED only.
    """
    found = None
    steps = 5 * MAX_STEPS
    if total >= WALKED_FROM and matches.is_walkable and not matches.has_few_recipes:
        walk_since = None if since == -MAX_INTEGER else since
        found = _walk(db, matches, _Wanted("created", "desc", MAX_RANKED), walk_since, steps)
    if found is None:
        found = [(created, row) for row, created in matches.rows(db, "a.id, a.created") if created >= since]
    return found


def _places(db: sqlite3.Connection, rows: Sequence[int], words: Sequence[str]) -> dict[int, int]:
    """Return by row how early the prompt names the words: minus the sum of their places."""
    prompts: dict[int, int | None] = {}
    for marks, piece in in_pieces(rows):
        prompts.update(
            db.execute(
                f"SELECT a.id, r.prompt FROM assets a LEFT JOIN recipes r ON r.id = a.recipe WHERE a.id IN ({marks})",
                piece,
            ).fetchall()
        )
    ranks: dict[int | None, int] = {None: -_NOWHERE * len(words)}
    for prompt, text in each_text(db, "texts", set(prompts.values()) - {None}):
        small = fold_case(text)
        ranks[prompt] = -sum(min(small.find(word), _NOWHERE - 2) + 1 or _NOWHERE for word in words)
    return {row: ranks.get(prompt, ranks[None]) for row, prompt in prompts.items()}


def _cursor(sort: str, order: str, *values: int | str) -> str:
    text = json.dumps([sort, order, *values], ensure_ascii=False)  # escapes could exceed the limit of `after`
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _cursor_values(text: str, sort: str, order: str) -> list[Any]:
    try:
        found = load_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        its_sort, its_order, *values = found
        kinds = {"name": [str, int], "relevance": [int, int, int]}.get(sort, [int, int])
        if (its_sort, its_order) != (sort, order) or [type(value) for value in values] != kinds:
            raise ValueError(text)
        if any(type(value) is int and not -MAX_INTEGER <= value <= MAX_INTEGER for value in values):
            raise ValueError(text)
        return list(values)
    except (ValueError, TypeError):
        raise CursorError(
            "after must be the next_cursor of an earlier page with the same sort and order."
        ) from None


def files_by_model(db: sqlite3.Connection) -> list[tuple[str | None, int, int]]:
    """Return (model, or None: unknown; files; bytes), with hidden files. A file with two models counts for each."""
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
