"""Turn a query's conditions into SQL over `assets a`.

What a word, a model or a sampler is found in is looked up first, into temporary tables: the recipes, and for words the
files' names. So each index is asked once, and the condition that leaves fewest files leads the search.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .query import Term
from .schema import KINDS, LORA, MODEL, NAMED, SAMPLER, SEED_OFFSET

LED_BELOW = 20_000  # so many files that words and names may leave, and they lead the search
MAX_INTEGER = (1 << 63) - 1
VISIBLE = "a.hidden = 0"
_LIKE = "LIKE ? ESCAPE '\\'"
_NAME_KINDS = {"model": (MODEL, NAMED), "lora": (LORA,), "sampler": (SAMPLER,)}


@dataclass(frozen=True, slots=True)
class Matches:
    """Where to look, and what must hold there.

    Attributes:
        tables: what follows FROM; the assets are `a`.
        condition: what follows WHERE.
        rest: what of it has to be asked of assets whose recipe is in `temp.both`.
        is_narrowed: words or names narrow the search: only assets whose recipe is in `temp.both`, or whose id is in
            `temp.named`, can hold all of them.
        is_led: these are so few that `tables` begin with them.
        only_visible: nothing is asked but that files are not hidden.
    """

    tables: str
    condition: str
    rest: str
    values: tuple[Any, ...]
    is_narrowed: bool
    is_led: bool
    only_visible: bool

    def count(self, db: sqlite3.Connection) -> int:
        """Return how many assets match."""
        if self.only_visible:
            return _number(db, "SELECT files FROM totals WHERE hidden = 0")
        if self.is_led or not self.is_narrowed:
            return _number(db, f"SELECT count(*) FROM {self.tables} WHERE {self.condition}", self.values)
        by_recipe = _number(
            db,
            f"SELECT count(*) FROM temp.both r CROSS JOIN assets a ON a.recipe = r.id WHERE {self.rest}",
            self.values,
        )
        by_name = _number(
            db,
            "SELECT count(*) FROM temp.named n CROSS JOIN assets a ON a.id = n.id"
            f" WHERE {self.condition} AND (a.recipe IS NULL OR a.recipe NOT IN temp.both)",
            self.values,
        )
        return by_recipe + by_name


@dataclass(frozen=True, slots=True)
class _Found:
    """The temporary tables of one condition."""

    term: Term
    recipes: str
    names: str | None

    @property
    def sql(self) -> str:
        recipes = f"+a.recipe IN temp.{self.recipes}"
        found = recipes if self.names is None else f"({recipes} OR a.id IN temp.{self.names})"
        return f"NOT coalesce({found}, 0)" if self.term.negated else found


def find_matches(db: sqlite3.Connection, terms: Sequence[Term]) -> Matches:
    """Return where the terms hold. Hidden assets are left out unless the query asks about them."""
    looked_up = [
        _look_up(db, term, place)
        for place, term in enumerate(terms)
        if not term.field or term.field in _NAME_KINDS
    ]
    narrowing = [one for one in looked_up if not one.term.negated]
    rest: list[str] = []
    values: list[Any] = []
    for term in terms:
        if term.field and term.field not in _NAME_KINDS:
            sql, its_values = _term_sql(term)
            rest.append(f"NOT coalesce({sql}, 0)" if term.negated else sql)
            values += its_values
    rest += [one.sql for one in looked_up if one.term.negated]
    visible = [] if any(term.field == "is" and term.value == "hidden" for term in terms) else [VISIBLE]
    is_led = bool(narrowing) and _narrow(db, narrowing) < LED_BELOW
    if is_led:
        _lead(db)
    return Matches(
        tables="temp.led l CROSS JOIN assets a ON a.id = l.id" if is_led else "assets a",
        condition=_all_of([*visible, *rest, *(one.sql for one in narrowing)]),
        # The plus keeps SQLite from going through all that is visible instead.
        rest=_all_of([*(f"+{piece}" for piece in visible), *rest]),
        values=tuple(values),
        is_narrowed=bool(narrowing),
        is_led=is_led,
        only_visible=bool(visible) and not looked_up and not rest,
    )


def _all_of(pieces: Sequence[str]) -> str:
    return " AND ".join(f"({piece})" for piece in pieces) or "1"


def _number(db: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> int:
    return int(db.execute(sql, values).fetchone()[0])


def _narrow(db: sqlite3.Connection, narrowing: Sequence[_Found]) -> int:
    """Fill `temp.both` and `temp.named`; returns about how many assets they leave, at most LED_BELOW of each."""
    both, named = _fresh_table(db, "both"), _fresh_table(db, "named")
    first, *others = narrowing
    within = " AND ".join(f"id IN temp.{one.recipes}" for one in others) or "1"
    db.execute(f"INSERT INTO temp.{both} SELECT id FROM temp.{first.recipes} WHERE {within}")
    for one in narrowing:
        if one.names is not None:
            db.execute(f"INSERT OR IGNORE INTO temp.{named} SELECT id FROM temp.{one.names}")
    return _number(
        db,
        f"SELECT (SELECT count(*) FROM temp.{named}) + (SELECT count(*) FROM (SELECT 1 FROM temp.{both} r"
        f" CROSS JOIN assets a ON a.recipe = r.id LIMIT {LED_BELOW}))",
    )


def _look_up(db: sqlite3.Connection, term: Term, place: int) -> _Found:
    recipes = _fresh_table(db, f"recipes_{place}")
    insert = f"INSERT OR IGNORE INTO temp.{recipes}"
    value = str(term.value)
    if term.field:
        kinds = ", ".join(map(str, _NAME_KINDS[term.field]))
        db.execute(
            f"{insert} SELECT recipe FROM name_uses WHERE kind IN ({kinds}) AND name IN"
            f" (SELECT id FROM names WHERE text {_LIKE})",
            (like(value),),
        )
        return _Found(term, recipes, None)
    names = _fresh_table(db, f"names_{place}")
    rows, holds, values = _holding("texts", "text_index", "t.text", value)
    db.execute(
        f"{insert} SELECT u.recipe FROM {rows} CROSS JOIN text_uses u ON u.text = t.id WHERE {holds}", values
    )
    rows, holds, values = _holding("assets", "name_index", "t.name", value)
    db.execute(f"INSERT INTO temp.{names} SELECT t.id FROM {rows} WHERE {holds}", values)
    return _Found(term, recipes, names)


def _fresh_table(db: sqlite3.Connection, name: str) -> str:
    db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY)")
    db.execute(f"DELETE FROM temp.{name}")
    return name


def _lead(db: sqlite3.Connection) -> None:
    table = _fresh_table(db, "led")
    db.execute(
        f"INSERT INTO temp.{table} SELECT a.id FROM temp.both r CROSS JOIN assets a ON a.recipe = r.id"
        " UNION SELECT id FROM temp.named"
    )


def _holding(table: str, index: str, column: str, word: str) -> tuple[str, str, list[str]]:
    """Return tables, condition and values that give the rows of `table`, as `t`, whose text holds a word.

    The trigram index, which knows no word under three characters, gives candidates; their texts are compared.
    """
    tables, pieces, values = f"{table} t", [], []
    if len(word) >= 3:
        tables = f"{index} CROSS JOIN {table} t ON t.id = {index}.rowid"
        last = len(word) - 3
        grams = dict.fromkeys(word[start : start + 3] for start in (*range(0, last, 2), last))
        pieces.append(f"{index} MATCH ?")
        values.append(" AND ".join('"' + gram.replace('"', '""') + '"' for gram in grams))
    if any(ord(letter) > 127 and letter.lower() != letter.upper() for letter in word):
        pieces.append(f"holds_word({column}, ?)")
        values.append(word)
    elif len(word) != 3:  # of three the index is certain
        # LIKE costs several times what instr costs, and most words are written small.
        pieces.append(f"(instr({column}, ?) OR {column} {_LIKE})")
        values += [word.lower(), like(word)]
    return tables, " AND ".join(pieces), values


def _term_sql(term: Term) -> tuple[str, list[Any]]:
    value = term.value
    if term.field in ("machine", "job"):
        return f"a.{term.field} IN (SELECT id FROM words WHERE text {_LIKE})", [_escaped(str(value))]
    if term.field == "tag":
        return (
            "a.uuid IN (SELECT uuid FROM edits WHERE field >= 'tag:' AND field < 'tag;' AND value = 1"
            f" AND field {_LIKE})",
            [f"tag:{_escaped(str(value))}"],
        )
    if term.field == "path":
        return _path_sql(str(value))
    if term.field == "type":
        return "a.kind = ?", [KINDS.index(str(value))]
    if term.field == "is":
        return f"a.{value} = 1", []
    if term.field in ("since", "until"):
        nanoseconds = max(-MAX_INTEGER, min(MAX_INTEGER, int(float(value) * 1e9)))
        return f"a.created {'>=' if term.field == 'since' else '<'} ?", [nanoseconds]
    number = int(value) - SEED_OFFSET if term.field == "seed" else int(value)
    return f"a.{term.field} {term.comparison} ?", [min(number, MAX_INTEGER)]


def _path_sql(value: str) -> tuple[str, list[Any]]:
    """A part of the key. Folders are few, so that they are looked through first."""
    folder, slash, name = value.rpartition("/")
    sql = f"a.folder IN (SELECT id FROM folders WHERE text {_LIKE})"
    if not slash:
        return f"({sql} OR a.name {_LIKE})", [like(value), like(value)]
    within = f"%{_escaped(folder)}/"
    return f"({sql} OR (a.name {_LIKE} AND {sql}))", [like(value), f"{_escaped(name)}%", within]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def like(text: str) -> str:
    """Return the LIKE pattern of texts that hold `text`."""
    return f"%{_escaped(text)}%"
