"""Find the recipes that hold a word or a name, and the files whose names or notes hold it.

The trigram index says which texts may hold a word; then these are compared with it. If only a few recipes can match,
all their texts are compared, without the index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from itertools import chain
from unicodedata import ucd_3_2_0

from ..text import spellings
from .recipes import each_text, searched_rows
from .schema import LORA, MODEL, OTHER_MODEL, SAMPLER

NAME_KINDS = {"model": (MODEL, OTHER_MODEL), "lora": (LORA,), "sampler": (SAMPLER,)}
COMPARED_RECIPES = 3_000  # comparing the texts of so many is faster than asking the index for a frequent word
MAX_NAMES = 20_000  # if the names of more files hold a word, these files are not listed
_MAX_TRIGRAMS = 40


def fold_case(text: str) -> str:
    """Return `text` in lower case; also a function in SQL, because SQLite ignores case only in ASCII.

    >>> fold_case("ΣΟΦΟΣ")
    'σοφοσ'
    """
    # Python writes the last sigma of a word as ς, so that the word would not be found inside a longer one.
    return text.lower().replace("ς", "σ")


def searched_names(name: str, path: int | str | bytes) -> str:
    """Return the names in which a word finds an asset: of its key, and of its path if that differs.

    Args:
        name, path: of its row. Also a function in SQL.
    """
    own = path.rpartition("/")[2] if isinstance(path, str) else name
    return name if own == name else f"{name}\n{own}"


def names_column(table: str) -> str:
    """Return the SQL expression for `searched_names` of the rows of `assets`; fast for the usual row."""
    both = f"searched_names({table}.name, {table}.path)"
    return f"CASE typeof({table}.path) WHEN 'text' THEN {both} ELSE {table}.name END"


def like_condition(column: str, word: str) -> str:
    """Return the SQL condition that the text in `column` fits a LIKE pattern made of `word`."""
    folded = f"fold_case({column})" if _has_other_case(word) else column
    return f"{folded} LIKE ? ESCAPE '\\'"


def escaped(text: str) -> str:
    """Return the LIKE pattern of `text` itself, for `like_condition`."""
    return fold_case(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def like(text: str) -> str:
    """Return the LIKE pattern of texts that hold `text`, for `like_condition`."""
    return f"%{escaped(text)}%"


def recipes_named(db: sqlite3.Connection, field: str, value: str) -> set[int]:
    """Return the recipes with a model, LoRA or sampler whose name holds `value`, with `/` or with `\\` in paths."""
    paths = {value, value.replace("\\", "/"), value.replace("/", "\\")}  # ComfyUI on Windows writes `\`
    return set().union(
        *(
            _recipes_named(db, NAME_KINDS[field], *word_condition("text", one))
            for path in paths
            for one in spellings(path)
        )
    )


def _recipes_named(
    db: sqlite3.Connection, kinds: tuple[int, ...], condition: str, values: list[str]
) -> set[int]:
    marks = ", ".join(map(str, kinds))
    return _integers(
        db,
        f"SELECT recipe FROM name_uses WHERE kind IN ({marks})"
        f" AND name IN (SELECT id FROM names WHERE {condition})",
        values,
    )


def recipes_holding(db: sqlite3.Connection, word: str, within: Collection[int] | None = None) -> set[int]:
    """Return the recipes with a text, or the name of a model or LoRA, that holds `word`.

    Args:
        within: only these matter; the answer may hold others too. None: all matter.
    """
    return set().union(*(_recipes_holding(db, one, within) for one in spellings(word)))


def _recipes_holding(db: sqlite3.Connection, word: str, within: Collection[int] | None) -> set[int]:
    if within is not None and len(within) <= COMPARED_RECIPES:
        return _holding_within(db, word, within)
    tables, holds, values = _rows_holding("texts", "text_index", "t.text", word)
    found = _integers(
        db, f"SELECT u.recipe FROM {tables} CROSS JOIN text_uses u ON u.text = t.id WHERE {holds}", values
    )
    return found | _recipes_named(db, (MODEL, LORA, OTHER_MODEL), *word_condition("text", word))


def _holding_within(db: sqlite3.Connection, word: str, recipes: Collection[int]) -> set[int]:
    uses = searched_rows(db, recipes)
    holds = word_matcher(word)
    texts = each_text(db, "texts", {row for texts, _ in uses.values() for row in texts})
    names = each_text(db, "names", {row for _, names in uses.values() for row in names})
    in_texts = {row for row, text in texts if holds(text)}
    in_names = {row for row, text in names if holds(text)}
    return {
        recipe
        for recipe, (its_texts, its_names) in uses.items()
        if not (in_texts.isdisjoint(its_texts) and in_names.isdisjoint(its_names))
    }


def estimate_texts(db: sqlite3.Connection, word: str) -> int:
    """Return about how many texts hold `word`, at most COMPARED_RECIPES."""
    grams = _trigrams(word)
    if not grams:
        return COMPARED_RECIPES
    sql = "SELECT count(*) FROM (SELECT 1 FROM text_index WHERE text_index MATCH ? LIMIT ?)"
    return int(db.execute(sql, (grams, COMPARED_RECIPES)).fetchone()[0])


def assets_named(db: sqlite3.Connection, word: str) -> set[int] | None:
    """Return the assets whose names or notes hold `word`. None: more than MAX_NAMES may hold it."""
    noted, values = noted_condition("a", word)
    found = _integers(db, f"SELECT a.id FROM assets a WHERE {noted} LIMIT {MAX_NAMES + 1}", values)
    for one in spellings(word):
        named = _assets_named(db, one)
        if named is None:
            return None
        found |= named
    return found if len(found) <= MAX_NAMES else None


def noted_condition(table: str, word: str) -> tuple[str, list[str]]:
    """Return the SQL condition that the note of a row of `assets` holds `word`, and its values."""
    conditions = [word_condition("value", one) for one in spellings(word)]
    holds = " OR ".join(sql for sql, _ in conditions)
    return f"{table}.uuid IN (SELECT uuid FROM edits WHERE field = 'note' AND ({holds}))", [
        value for _, values in conditions for value in values
    ]


def _assets_named(db: sqlite3.Connection, word: str) -> set[int] | None:
    grams = _trigrams(word)
    if grams:
        sql = "SELECT count(*) FROM (SELECT 1 FROM name_index WHERE name_index MATCH ? LIMIT ?)"
        if db.execute(sql, (grams, MAX_NAMES + 1)).fetchone()[0] > MAX_NAMES:
            return None
    tables, holds, values = _rows_holding("assets", "name_index", names_column("t"), word)
    found = _integers(db, f"SELECT t.id FROM {tables} WHERE {holds} LIMIT {MAX_NAMES + 1}", values)
    return found if len(found) <= MAX_NAMES else None


def word_condition(column: str, word: str) -> tuple[str, list[str]]:
    """Return the SQL condition that the text in `column` holds `word` in any case, and its values."""
    if _has_other_case(word):
        return f"instr(fold_case({column}), ?)", [fold_case(word)]
    return like_condition(column, word), [like(word)]


def whole_condition(column: str, text: str) -> tuple[str, list[str]]:
    """Return the SQL condition that the text in `column` is `text`, in any case and spelling, and its values."""
    alternatives = [(like_condition(column, one), escaped(one)) for one in spellings(text)]
    return f"({' OR '.join(sql for sql, _ in alternatives)})", [value for _, value in alternatives]


def word_matcher(word: str) -> Callable[[str], bool]:
    """Return a function that tells whether a text holds `word`, as `word_condition` does."""
    if _has_other_case(word):
        folded = fold_case(word)
        return lambda text: folded in fold_case(text)
    small = word.encode().lower()
    return lambda text: small in text.encode().lower()


def _has_other_case(word: str) -> bool:
    return any(ord(letter) > 127 and letter.lower() != letter.upper() for letter in word)


def _trigrams(word: str) -> str:
    """Return the index's query for the texts that may hold `word`; empty if the index can't help."""
    # Up to _MAX_TRIGRAMS: each costs the index less than comparing the texts that it rules out.
    grams = dict.fromkeys(word[start : start + 3] for start in range(min(len(word) - 2, _MAX_TRIGRAMS)))
    return " AND ".join('"' + gram.replace('"', '""') + '"' for gram in grams if all(map(_index_folds, gram)))


def _index_folds(letter: str) -> bool:
    """Return whether the index surely ignores the letter's case: SQLite may not know cases newer than Unicode 3.2."""
    cases = {letter.lower(), letter.upper()}
    return len(cases) == 1 or all(ucd_3_2_0.category(each) != "Cn" for each in "".join(cases))


def _rows_holding(table: str, index: str, column: str, word: str) -> tuple[str, str, list[str]]:
    """Return FROM, WHERE and values of a query for the rows of `table`, as `t`, whose text holds `word`."""
    grams = _trigrams(word)
    sql, values = word_condition(column, word)
    if not grams:
        return f"{table} t", sql, values
    if len(word) == 3 and not _has_other_case(word):  # the word is one trigram: the index alone decides
        return f"(SELECT rowid AS id FROM {index} WHERE {index} MATCH ?) t", "1", [grams]
    return (
        f"{index} CROSS JOIN {table} t ON t.id = {index}.rowid",
        f"{index} MATCH ? AND {sql}",
        [grams, *values],
    )


def _integers(db: sqlite3.Connection, sql: str, values: list[str]) -> set[int]:
    return set(chain.from_iterable(db.execute(sql, values)))
