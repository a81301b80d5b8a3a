"""Recipes: what the images of one prompt have in common. Texts and names that recipes share are stored once."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..text import clean_text
from .describe import Description
from .schema import LORA, MODEL, OTHER_MODEL, SAMPLER

MAX_TEXT_CHARACTERS = 20_000  # of a recipe's texts in all; beyond that a search reads only its prompts
_MAX_PROMPT_CHARACTERS = 100_000
_MAX_NAME_CHARACTERS = 500
_PIECE = 500  # values in one statement


class RecipeFacts(NamedTuple):
    """The column `facts` of a recipe, a JSON list in this order.

    Attributes:
        models, sampler, scheduler: rows of `names`.
        loras: (row of `names`, strength) each.
        other_texts: rows of `texts` that are no prompts.
        other_names: rows of `names`: models that are neither in `models` nor in `loras`.
        cut_texts: rows of `texts` that were cut off, which only a search uses.
    """

    source: str | None
    confidence: str | None
    models: list[int]
    loras: list[tuple[int, float | None]]
    sampler: int | None
    scheduler: int | None
    steps: int | None
    cfg: float | None
    denoise: float | None
    input_images: list[str]
    other_texts: list[int]
    other_names: list[int]
    cut_texts: list[int]


def load_facts(stored: str) -> RecipeFacts:
    return RecipeFacts(*json.loads(stored))


_NO_FACTS = RecipeFacts(None, None, [], [], None, None, None, None, None, [], [], [], [])


def short_hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def in_pieces(values: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield (placeholders, values) in pieces that one statement takes."""
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE]
        yield ", ".join("?" * len(piece)), piece


def next_row(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0])


def rows_by_text(db: sqlite3.Connection, table: str, texts: Iterable[str]) -> dict[str, int]:
    """Return the row of each text in `words`, `folders` or `names`; add those that are missing."""
    wanted = list(dict.fromkeys(texts))
    found: dict[str, int] = {}
    for marks, piece in in_pieces(wanted):
        found.update(db.execute(f"SELECT text, id FROM {table} WHERE text IN ({marks})", piece).fetchall())
    first = next_row(db, table) if len(found) < len(wanted) else 0
    missing = list(enumerate((text for text in wanted if text not in found), first))
    db.executemany(f"INSERT INTO {table} (id, text) VALUES (?, ?)", missing)
    found.update((text, row) for row, text in missing)
    return found


def recipe_rows(db: sqlite3.Connection, descriptions: Sequence[Description]) -> list[int | None]:
    """Return the recipe of each description; add those that are missing. None: nothing is known."""
    hashes = [_recipe_hash(found) for found in descriptions]
    wanted = {digest: found for digest, found in zip(hashes, descriptions, strict=True) if digest is not None}
    known = _known(db, "recipes", list(wanted))
    missing = [_Recipe(digest, found) for digest, found in wanted.items() if digest not in known]
    if missing:
        first = next_row(db, "recipes")
        _add(db, missing, first)
        known.update((recipe.hash, row) for row, recipe in enumerate(missing, first))
    return [None if digest is None else known[digest] for digest in hashes]


def _recipe_hash(found: Description) -> int | None:
    content = (
        *(found.prompt, found.negative_prompt, found.models, found.loras, found.texts, found.model_names),
        *(
            found.source,
            found.confidence,
            found.sampler,
            found.scheduler,
            found.steps,
            found.cfg,
            found.denoise,
        ),
        found.input_images,
    )
    return short_hash(repr(content)) if any(content) else None


class _Recipe:
    __slots__ = ("found", "hash", "negative", "prompt", "texts", "uses")

    def __init__(self, digest: int, found: Description) -> None:
        self.hash = digest
        self.found = found
        self.prompt, self.negative = map(_prompt, (found.prompt, found.negative_prompt))
        self.texts = _texts(found, self.prompt, self.negative)
        self.uses = _uses(found)

    @property
    def names(self) -> Iterator[str]:
        yield from (name for _, name in self.uses)
        if self.found.scheduler:
            yield _name(self.found.scheduler)

    @property
    def other_texts(self) -> list[str]:
        """Texts that are no prompts and were not cut off."""
        others = set(map(clean_text, self.found.texts)) - {self.prompt, self.negative}
        return [text for text in self.texts if text in others]


def _texts(found: Description, prompt: str | None, negative: str | None) -> tuple[str, ...]:
    """Return the texts that a search reads: the prompts, and others up to MAX_TEXT_CHARACTERS in all."""
    texts = {text: None for text in (prompt, negative) if text is not None}
    left = MAX_TEXT_CHARACTERS - sum(map(len, texts))
    for text in map(clean_text, found.texts):
        if left <= 0:
            break
        if text and text not in texts:
            texts[text[:left]] = None
            left -= len(text)
    return tuple(texts)


def _known(db: sqlite3.Connection, table: str, hashes: Sequence[int]) -> dict[int, int]:
    known: dict[int, int] = {}
    for marks, piece in in_pieces(hashes):
        known.update(db.execute(f"SELECT hash, id FROM {table} WHERE hash IN ({marks})", piece).fetchall())
    return known


def _add(db: sqlite3.Connection, recipes: Sequence[_Recipe], first: int) -> None:
    texts = _text_rows(db, {text for recipe in recipes for text in recipe.texts})
    names = rows_by_text(db, "names", (name for recipe in recipes for name in recipe.names))
    rows, text_uses, name_uses = [], [], []
    for row, recipe in enumerate(recipes, first):
        prompt, negative = recipe.prompt, recipe.negative
        rows.append(
            (
                row,
                recipe.hash,
                None if prompt is None else texts[prompt],
                None if negative is None else texts[negative],
                _facts_json(recipe, names, texts),
            )
        )
        text_uses += [(texts[text], row) for text in recipe.texts]
        name_uses += [(kind, names[name], row) for kind, name in recipe.uses]
    db.executemany("INSERT INTO recipes VALUES (?, ?, ?, ?, ?)", rows)
    db.executemany("INSERT INTO text_uses VALUES (?, ?)", sorted(text_uses))
    db.executemany("INSERT INTO name_uses VALUES (?, ?, ?)", sorted(name_uses))


def _text_rows(db: sqlite3.Connection, texts: Iterable[str]) -> dict[str, int]:
    hashes = {text: short_hash(text) for text in texts}
    known = _known(db, "texts", list(hashes.values()))
    missing = [text for text, digest in hashes.items() if digest not in known]
    if missing:
        rows = list(enumerate(missing, next_row(db, "texts")))
        db.executemany(
            "INSERT INTO texts VALUES (?, ?, ?)", [(row, hashes[text], text) for row, text in rows]
        )
        db.executemany("INSERT INTO text_index (rowid, text) VALUES (?, ?)", rows)
        known.update((hashes[text], row) for row, text in rows)
    return {text: known[digest] for text, digest in hashes.items()}


def _prompt(text: str | None) -> str | None:
    return None if text is None else clean_text(text)[:_MAX_PROMPT_CHARACTERS]


def _name(text: str) -> str:
    return clean_text(text)[:_MAX_NAME_CHARACTERS]


def _uses(found: Description) -> set[tuple[int, str]]:
    models, loras = set(map(_name, found.models)), {_name(lora.name) for lora in found.loras}
    uses = {(MODEL, name) for name in models} | {(LORA, name) for name in loras}
    uses |= {(OTHER_MODEL, name) for name in map(_name, found.model_names) if name not in models | loras}
    return uses | ({(SAMPLER, _name(found.sampler))} if found.sampler else set())


def _facts_json(recipe: _Recipe, names: Mapping[str, int], texts: Mapping[str, int]) -> str:
    found = recipe.found
    others = recipe.other_texts
    cut_off = set(recipe.texts).difference(others, (recipe.prompt, recipe.negative))
    facts = RecipeFacts(
        source=found.source,
        confidence=found.confidence,
        models=[names[_name(name)] for name in found.models],
        loras=[(names[_name(lora.name)], lora.strength) for lora in found.loras],
        sampler=names[_name(found.sampler)] if found.sampler else None,
        scheduler=names[_name(found.scheduler)] if found.scheduler else None,
        steps=found.steps,
        cfg=found.cfg,
        denoise=found.denoise,
        input_images=list(map(clean_text, found.input_images)),
        other_texts=[texts[text] for text in others],
        other_names=[names[name] for kind, name in sorted(recipe.uses) if kind == OTHER_MODEL],
        cut_texts=sorted(texts[text] for text in cut_off),
    )
    return json.dumps(facts, separators=(",", ":"))


def names_in_facts(facts: RecipeFacts) -> Iterator[int]:
    """Yield the rows of `names` that an asset shows of a recipe's facts."""
    yield from facts.models
    yield from (name for name, _ in facts.loras)
    yield from (row for row in (facts.sampler, facts.scheduler) if row is not None)


def metadata_of(facts: RecipeFacts | None, name_of: Callable[[int], str | None]) -> dict[str, Any]:
    """Return `metadata` of an asset without prompts and seed; `name_of` gives the text of a row in `names`."""
    facts = facts or _NO_FACTS
    return {
        "models": [name_of(row) for row in facts.models],
        "loras": [{"name": name_of(row), "strength": strength} for row, strength in facts.loras],
        "sampler": None if facts.sampler is None else name_of(facts.sampler),
        "scheduler": None if facts.scheduler is None else name_of(facts.scheduler),
        "steps": facts.steps,
        "cfg": facts.cfg,
        "denoise": facts.denoise,
        "input_images": facts.input_images,
        "source": facts.source,
        "confidence": facts.confidence,
    }


def searched_rows(db: sqlite3.Connection, rows: Iterable[int]) -> dict[int, tuple[set[int], set[int]]]:
    """Return for each of these recipes the rows of `texts` and of `names` in which a word is searched."""
    found: dict[int, tuple[set[int], set[int]]] = {}
    for marks, piece in in_pieces(sorted(rows)):
        for row, prompt, negative, stored in db.execute(
            f"SELECT id, prompt, negative, facts FROM recipes WHERE id IN ({marks})", piece
        ):
            facts = load_facts(stored)
            names = {*facts.models, *(name for name, _ in facts.loras), *facts.other_names}
            found[row] = {prompt, negative, *facts.other_texts, *facts.cut_texts} - {None}, names
    return found


def whole_recipes(db: sqlite3.Connection, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return by row what `metadata` of an asset holds without the seed, and a put's `texts` and `model_names`."""
    found: dict[int, tuple[int | None, int | None, RecipeFacts]] = {}
    for marks, piece in in_pieces(sorted(set(rows))):
        for row, prompt, negative, facts in db.execute(
            f"SELECT id, prompt, negative, facts FROM recipes WHERE id IN ({marks})", piece
        ):
            found[row] = prompt, negative, load_facts(facts)
    used = {
        text for prompt, negative, facts in found.values() for text in (prompt, negative, *facts.other_texts)
    }
    texts = texts_by_row(db, "texts", used - {None})
    names = texts_by_row(
        db,
        "names",
        {row for *_, facts in found.values() for row in (*names_in_facts(facts), *facts.other_names)},
    )
    return {
        row: {
            "prompt": texts.get(prompt),
            "negative_prompt": texts.get(negative),
            **metadata_of(facts, names.get),
            "texts": [texts[text] for text in facts.other_texts],
            "model_names": [names[name] for name in facts.other_names],
        }
        for row, (prompt, negative, facts) in found.items()
    }


def texts_by_row(db: sqlite3.Connection, table: str, rows: Iterable[Any]) -> dict[Any, str]:
    """Return the texts of these rows of a table with a column `text`."""
    return dict(each_text(db, table, rows))


def each_text(db: sqlite3.Connection, table: str, rows: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """Yield (row, text) as `texts_by_row` returns them, without holding all texts in memory."""
    for marks, piece in in_pieces(sorted(rows)):
        yield from db.execute(f"SELECT id, text FROM {table} WHERE id IN ({marks})", piece)
