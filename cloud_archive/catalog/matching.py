"""Turn a query's conditions into what must hold for an asset: sets of recipes and of assets, and SQL for the rest.

Words, models, LoRAs and samplers belong to recipes, of which there are far fewer than assets. Of the terms that must
hold, words are looked up last, and the rarest first: if few recipes can still match, a word is compared only with their
texts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from ..text import spellings
from .lookup import (
    NAME_KINDS,
    assets_named,
    escaped,
    estimate_texts,
    like,
    like_condition,
    names_column,
    noted_condition,
    recipes_holding,
    recipes_named,
    whole_condition,
    word_condition,
)
from .query import Term
from .recipes import in_pieces
from .schema import KINDS, SEED_MASK, SEED_OFFSET
from .tallies import FEW_RECIPES, count_files, fill_table

MAX_INTEGER = (1 << 63) - 1
VISIBLE = "a.hidden = 0"
FEW_TAGGED = 20_000  # if more files have a tag, a walk through all files finds them faster than an index
_TAGGED = "FROM edits WHERE field IN (SELECT value FROM json_each(?)) AND value = 1"


@dataclass(slots=True)
class Matches:
    """What must hold for an asset.

    Attributes:
        recipes: the asset's recipe (0: it has none) must be one of these.
        inverted: the asset's recipe must be none of `recipes` instead.
        named: these assets match whatever their recipe is: their names hold the words that it lacks.
        left_out: these assets don't match: their names hold a negated word.
        rest: what else must hold, as SQL over `assets a`; with `values`.
        only_visible: `rest` says only that the asset is not hidden.
        is_walkable: a page can be found by a walk through all assets in its order: `rest` asks for one value of
            `hidden`, and no index finds the matches faster.
    """

    recipes: set[int] = field(default_factory=set)
    inverted: bool = True
    named: set[int] = field(default_factory=set)
    left_out: set[int] = field(default_factory=set)
    rest: str = VISIBLE
    values: tuple[Any, ...] = ()
    only_visible: bool = True
    is_walkable: bool = True

    def holds(self, asset: int, recipe: int | None) -> bool:
        """Return whether an asset matches if `rest` holds for it."""
        if asset in self.named:
            return True
        return self.fits(recipe) and asset not in self.left_out

    def fits(self, recipe: int | None) -> bool:
        """Return whether assets of this recipe match by it."""
        return ((recipe or 0) in self.recipes) != self.inverted

    @property
    def only_rest(self) -> bool:
        """Whether `rest` alone decides."""
        return self.inverted and not (self.recipes or self.left_out)

    @property
    def has_few_recipes(self) -> bool:
        """Whether the recipes are so few that the assets of each are looked up by the index."""
        return not self.inverted and len(self.recipes) <= FEW_RECIPES

    def count(self, db: sqlite3.Connection) -> int:
        if self.only_visible:
            named = sum(1 for _ in rows_of(db, self.named, VISIBLE))
            left_out = sum(self.fits(recipe) for _, recipe in rows_of(db, self.left_out, VISIBLE))
            return count_files(db, self.recipes, inverted=self.inverted) + named - left_out
        if self.has_few_recipes:
            return sum(1 for _ in self.rows(db, "a.id, a.recipe"))
        condition, values = self.condition(db)
        return int(db.execute(f"SELECT count(*) FROM assets a WHERE {condition}", values).fetchone()[0])

    def rows(self, db: sqlite3.Connection, columns: str) -> Iterable[tuple[Any, ...]]:
        """Yield `columns` of every asset that matches, in no order; the first one must be its id."""
        if not self.has_few_recipes:
            condition, values = self.condition(db)
            return db.execute(f"SELECT {columns} FROM assets a WHERE {condition}", values)
        table = "assets a INDEXED BY assets_recipe"
        by_recipe = _rows_in(db, columns, table, "a.recipe", self.recipes, self.rest, self.values)
        by_name = _rows_in(db, columns, "assets a", "a.id", self.named, self.rest, self.values)
        return chain((row for row in by_recipe if row[0] not in self.left_out), by_name)

    def condition(self, db: sqlite3.Connection) -> tuple[str, tuple[Any, ...]]:
        """Return all that must hold as one SQL condition over `assets a`, and its values."""
        if self.only_rest:
            return self.rest, self.values
        fill_table(db, "matching", self.recipes)
        among = "coalesce(a.recipe, 0) IN (SELECT id FROM temp.matching)"
        pieces = [f"NOT {among}" if self.inverted else among]
        if self.left_out:
            fill_table(db, "left_out", self.left_out)
            pieces.append("a.id NOT IN (SELECT id FROM temp.left_out)")
        sql = " AND ".join(pieces)
        if self.named:
            fill_table(db, "named", self.named)
            sql = f"({sql} OR a.id IN (SELECT id FROM temp.named))"
        return f"({self.rest}) AND {sql}", self.values


def _rows_in(
    db: sqlite3.Connection,
    columns: str,
    table: str,
    column: str,
    wanted: Collection[int],
    rest: str,
    values: Sequence[Any],
) -> Iterable[tuple[Any, ...]]:
    for marks, piece in in_pieces(sorted(wanted)):
        # The plus keeps SQLite from going through all that is visible instead.
        sql = f"SELECT {columns} FROM {table} WHERE {column} IN ({marks}) AND +({rest})"
        yield from db.execute(sql, (*piece, *values))


def rows_of(
    db: sqlite3.Connection, assets: Collection[int], rest: str = "1"
) -> Iterable[tuple[int, int | None]]:
    """Yield (id, recipe) of those of `assets` for which `rest` holds."""
    return _rows_in(db, "a.id, a.recipe", "assets a", "a.id", assets, rest, ())


@dataclass(slots=True)
class _Found:
    """A term, the recipes that hold it, and the assets whose names hold it.

    Of a wanted term, only the recipes of assets that are found by name are kept, to save memory.
    """

    term: Term
    recipes: set[int]
    assets: set[int]


def find_matches(db: sqlite3.Connection, terms: Sequence[Term]) -> Matches:
    """Return what must hold for the assets that a query finds. Hidden ones are left out unless it asks about them."""
    pieces: list[str] = []
    values: list[Any] = []
    tags = {term: _find_tag(db, str(term.value)) for term in terms if term.field == "tag"}
    for term in terms:
        if term.field and term.field not in NAME_KINDS:
            sql, its_values = tags[term].sql() if term in tags else _term_sql(term)
            pieces.append(f"NOT coalesce({sql}, 0)" if term.negated else sql)
            values += its_values
    names = {term: assets_named(db, str(term.value)) for term in terms if not term.field}
    looked_up = [term for term in terms if not term.field or term.field in NAME_KINDS]
    # A list of all files whose names hold a frequent word would be long: each name is compared instead.
    compared_terms = [term for term in looked_up if not term.field and names[term] is None]
    listed = [term for term in looked_up if term not in compared_terms]
    found, common, possible = _look_up(db, listed, names)
    for place, term in enumerate(compared_terms):
        sql, its_values = _compared_sql(db, term, possible, place)
        pieces.append(sql)
        values += its_values
    hidden = [term for term in terms if term.field == "is" and term.value == "hidden"]
    # Jobs, seeds and rare tags are found by indexes: the plus keeps SQLite from going through all visible assets.
    is_indexed = any(
        not term.negated
        and (
            term.field == "job"
            or (term.field == "seed" and term.comparison == "=")
            or (term in tags and tags[term].is_rare)
        )
        for term in terms
    )
    if not hidden:
        pieces.append(f"+{VISIBLE}" if is_indexed else VISIBLE)
    matches = _combined(db, found, common)
    matches.rest = " AND ".join(f"({piece})" for piece in pieces) or "1"
    matches.values = tuple(values)
    matches.only_visible = pieces == [VISIBLE]
    matches.is_walkable = not is_indexed and not any(term.negated for term in hidden)
    return matches


def _look_up(
    db: sqlite3.Connection, terms: Sequence[Term], names: dict[Term, set[int] | None]
) -> tuple[list[_Found], set[int] | None, set[int] | None]:
    """Look the terms up. Return them, the recipes that hold all wanted terms, and those that can still match.

    None: no term is wanted, so all can.
    """
    wanted = [term for term in terms if not term.negated]
    by_name = set().union(*(names.get(term) or () for term in wanted))
    of_named = {recipe or 0 for _, recipe in rows_of(db, by_name)}
    if len(wanted) > 1:
        wanted.sort(key=lambda term: -1 if term.field else estimate_texts(db, str(term.value)))
    common: set[int] | None = None
    found = []
    for term in (*wanted, *(term for term in terms if term.negated)):
        within = None if common is None else common | of_named
        recipes = (
            recipes_named(db, term.field, str(term.value))
            if term.field
            else recipes_holding(db, str(term.value), within)
        )
        if not term.negated:
            common = recipes if common is None else common & recipes
            recipes = recipes & of_named
        found.append(_Found(term, recipes, names.get(term) or set()))
    return found, common, None if common is None else common | of_named


def _compared_sql(
    db: sqlite3.Connection, term: Term, possible: set[int] | None, place: int
) -> tuple[str, list[Any]]:
    word = str(term.value)
    recipes = recipes_holding(db, word, possible)
    conditions = [word_condition(names_column("a"), one) for one in spellings(word)]
    conditions.append(noted_condition("a", word))
    sql = " OR ".join(condition for condition, _ in conditions)
    values = [value for _, its_values in conditions for value in its_values]
    if recipes:
        db.create_function(f"among_{place}", 1, recipes.__contains__)
        sql = f"(among_{place}(a.recipe) OR {sql})"
    return f"NOT ({sql})" if term.negated else sql, values


def _combined(db: sqlite3.Connection, found: Sequence[_Found], common: set[int] | None) -> Matches:
    wanted = [one for one in found if not one.term.negated]
    unwanted = [one for one in found if one.term.negated]
    matches = Matches()
    if common is not None:
        matches.inverted, matches.recipes = False, common
    for one in unwanted:
        if matches.inverted:
            matches.recipes |= one.recipes
        else:
            matches.recipes = matches.recipes - one.recipes
        matches.left_out |= one.assets
    by_name = set().union(*(one.assets for one in wanted))
    for asset, recipe in rows_of(db, by_name):
        if matches.holds(asset, recipe):
            continue  # its recipe matches

        def has(one: _Found, asset: int = asset, recipe: int = recipe or 0) -> bool:
            return recipe in one.recipes or asset in one.assets

        if all(map(has, wanted)) and not any(map(has, unwanted)):
            matches.named.add(asset)
    return _without_inversion(db, matches)


def _without_inversion(db: sqlite3.Connection, matches: Matches) -> Matches:
    """Turn "none of these recipes" into "one of those" if few are left, so that their assets are looked up."""
    if not matches.inverted or len(matches.recipes) <= FEW_RECIPES:
        return matches
    last = db.execute("SELECT coalesce(max(id), 0) FROM recipes").fetchone()[0]
    if (
        last - len(matches.recipes) > FEW_RECIPES
        or db.execute("SELECT 1 FROM assets WHERE recipe IS NULL LIMIT 1").fetchone()
    ):
        return matches
    matches.recipes = {*range(1, last + 1)}.difference(matches.recipes)
    matches.inverted = False
    return matches


class _Tag(NamedTuple):
    """A tag that a query asks for.

    Attributes:
        fields: `field` of the edits that add or remove it, in every spelling and case, as a JSON list.
        is_rare: at most FEW_TAGGED files have it.
    """

    fields: str
    is_rare: bool

    def sql(self) -> tuple[str, list[Any]]:
        # The plus keeps SQLite from looking up very many files by their index, one by one.
        return f"{'' if self.is_rare else '+'}a.uuid IN (SELECT uuid {_TAGGED})", [self.fields]


def _find_tag(db: sqlite3.Connection, name: str) -> _Tag:
    is_tag, values = whole_condition("coalesce(field, '')", f"tag:{name}")
    following = "SELECT min(field) FROM edits WHERE field < 'tag;' AND field"
    # The query steps from tag to tag in the index, past the many files that one tag may have. The last step finds NULL.
    found = db.execute(
        f"WITH RECURSIVE tags (field) AS ({following} >= 'tag:' UNION ALL"
        f" SELECT ({following} > tags.field) FROM tags WHERE tags.field IS NOT NULL)"
        f" SELECT field FROM tags WHERE {is_tag}",
        values,
    )
    fields = json.dumps([field for (field,) in found])
    count = f"SELECT count(*) FROM (SELECT 1 {_TAGGED} LIMIT {FEW_TAGGED + 1})"
    return _Tag(fields, db.execute(count, (fields,)).fetchone()[0] <= FEW_TAGGED)


def _term_sql(term: Term) -> tuple[str, list[Any]]:
    value = term.value
    if term.field in ("machine", "job"):
        is_named, names = whole_condition("text", str(value))
        return f"a.{term.field} IN (SELECT id FROM words WHERE {is_named})", names
    if term.field == "path":
        conditions = [_path_sql(one) for one in spellings(str(value))]
        return f"({' OR '.join(sql for sql, _ in conditions)})", [
            one for _, values in conditions for one in values
        ]
    if term.field == "type":
        return "a.kind = ?", [KINDS.index(str(value))]
    if term.field == "is":
        return f"a.{value} = 1", []
    if term.field in ("since", "until"):
        nanoseconds = max(-MAX_INTEGER, min(MAX_INTEGER, int(float(value) * 1e9)))
        return f"a.created {'>=' if term.field == 'since' else '<'} ?", [nanoseconds]
    number = int(value) - SEED_OFFSET if term.field == "seed" else int(value)
    if number > MAX_INTEGER:  # no asset has so large a number
        return f"(a.{term.field} IS NOT NULL AND {int(term.comparison in ('<', '<='))})", []
    if term.field == "seed" and term.comparison == "=":
        return f"a.seed & {SEED_MASK} = ? AND +a.seed = ?", [number & SEED_MASK, number]
    return f"a.{term.field} {term.comparison} ?", [number]


def _path_sql(value: str) -> tuple[str, list[Any]]:
    """Return the condition that the key or the path holds `value`. Folders are few, so they are looked up first."""
    folder, slash, name = value.rpartition("/")
    of_folder = f"a.folder IN (SELECT id FROM folders WHERE {like_condition('text', value)})"
    of_name = like_condition("a.name", value)
    # A path is a text only if the key does not end in it.
    of_path = f"CASE typeof(a.path) WHEN 'text' THEN {like_condition('a.path', value)} END"
    if not slash:
        return f"({of_folder} OR {of_name} OR {of_path})", [like(value)] * 3
    within = f"%{escaped(folder)}/"
    return (
        f"({of_folder} OR ({of_name} AND {of_folder}) OR {of_path})",
        [like(value), f"{escaped(name)}%", within, like(value)],
    )
