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

LED_BELOW = 20_000  # so many files that a condition may leave, and it leads the search
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
        is_led: the tables begin with the few assets that one of the conditions leaves.
        only_visible: nothing is asked but that files are not hidden.
    """

    tables: str
    condition: str
    values: tuple[Any, ...]
    is_led: bool
    only_visible: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """The temporary tables of one condition, and about how many assets it leaves."""

    term: Term
    recipes: str
    names: str | None
    assets: int

    @property
    def sql(self) -> str:
        recipes = f"+a.recipe IN temp.{self.recipes}"
        return recipes if self.names is None else f"({recipes} OR a.id IN temp.{self.names})"


def find_matches(db: sqlite3.Connection, terms: Sequence[Term]) -> Matches:
    """Return where the terms hold. Hidden assets are left out unless the query asks about them."""
    looked_up = [
        _look_up(db, term, place)
        for place, term in enumerate(terms)
        if not term.field or term.field in _NAME_KINDS
    ]
    leading = min(
        (one for one in looked_up if not one.term.negated), key=lambda one: one.assets, default=None
    )
    if leading is not None and leading.assets >= LED_BELOW:
        leading = None
    pieces: list[str] = []
    values: list[Any] = []
    asks_hidden = any(term.field == "is" and term.value == "hidden" for term in terms)
    if not asks_hidden:
        pieces.append(VISIBLE if leading is None else f"+{VISIBLE}")
    for one in looked_up:
        if one is not leading:
            pieces.append(f"NOT coalesce({one.sql}, 0)" if one.term.negated else one.sql)
    for term in terms:
        if term.field and term.field not in _NAME_KINDS:
            sql, its_values = _term_sql(term)
            pieces.append(f"NOT coalesce({sql}, 0)" if term.negated else sql)
            values += its_values
    tables = "assets a"
    if leading is not None:
        _lead(db, leading)
        tables = "temp.led l CROSS JOIN assets a ON a.id = l.id"
    condition = " AND ".join(f"({piece})" for piece in pieces) or "1"
    return Matches(tables, condition, tuple(values), leading is not None, pieces == [VISIBLE])


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
        return _Found(term, recipes, None, _assets_of(db, recipes))
    names = _fresh_table(db, f"names_{place}")
    candidates, values = _candidates(value)
    holds, holds_values = _holds("t.text", value)
    db.execute(
        f"{insert} SELECT u.recipe FROM text_uses u WHERE u.text IN (SELECT t.id FROM texts t"
        f" WHERE {candidates.format(id='t.id', index='text_index')} {holds})",
        (*values, *holds_values),
    )
    holds, holds_values = _holds("s.name", value)
    found = db.execute(
        f"INSERT INTO temp.{names} SELECT s.id FROM assets s"
        f" WHERE {candidates.format(id='s.id', index='name_index')} {holds}",
        (*values, *holds_values),
    ).rowcount
    return _Found(term, recipes, names, _assets_of(db, recipes) + found)


def _fresh_table(db: sqlite3.Connection, name: str) -> str:
    db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY)")
    db.execute(f"DELETE FROM temp.{name}")
    return name


def _assets_of(db: sqlite3.Connection, recipes: str) -> int:
    """How many assets have one of these recipes; where they are many, LED_BELOW is enough to know."""
    found = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM temp.{recipes} r CROSS JOIN assets a ON a.recipe = r.id"
        f" LIMIT {LED_BELOW})"
    )
    return int(found.fetchone()[0])


def _lead(db: sqlite3.Connection, leading: _Found) -> None:
    table = _fresh_table(db, "led")
    assets = f"SELECT a.id FROM temp.{leading.recipes} r CROSS JOIN assets a ON a.recipe = r.id"
    names = f" UNION SELECT id FROM temp.{leading.names}" if leading.names else ""
    db.execute(f"INSERT INTO temp.{table} {assets}{names}")


def _candidates(word: str) -> tuple[str, list[str]]:
    """Which rows may hold a word, by the trigram index; it knows no word under three characters."""
    if len(word) < 3:
        return "1", []
    last = len(word) - 3
    grams = dict.fromkeys(word[start : start + 3] for start in (*range(0, last, 2), last))
    quoted = " AND ".join('"' + gram.replace('"', '""') + '"' for gram in grams)
    return "{id} IN (SELECT rowid FROM {index} WHERE {index} MATCH ?)", [quoted]


def _holds(column: str, word: str) -> tuple[str, list[str]]:
    """Whether a text holds the word, whatever its case. Where the index says so for certain it isn't compared."""
    if len(word) == 3:
        return "", []
    if any(ord(letter) > 127 and letter.lower() != letter.upper() for letter in word):
        return f"AND holds_word({column}, ?)", [word]
    # LIKE costs several times what instr costs, and most words are written small.
    return f"AND (instr({column}, ?) OR {column} {_LIKE})", [word.lower(), like(word)]


def holds_word(text: str, word: str) -> bool:
    """Whether `text` holds `word`, whatever the case of letters in any script; a function for SQLite."""
    return word.lower() in text.lower()


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
