"""Count files that are not hidden, without reading a row for each: by recipe, machine, kind and time.

Triggers note each change of an asset in `tally_changes` (schema.py); `fold_tallies` adds these changes to the other
tables in the same transaction. Recipe 0 means no recipe.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from .recipes import in_pieces, load_facts
from .schema import LORA, MODEL, SAMPLER

FEW_RECIPES = 5_000  # the facts of up to so many recipes are read; for more of them `name_uses` is read

Name = tuple[int, int]  # kind (MODEL, LORA, SAMPLER) and row of `names`


@dataclass(slots=True)
class Tally:
    """Numbers of files: by machine, by kind, by slot of time, and by the names of models, LoRAs and samplers."""

    machines: Counter[int] = field(default_factory=Counter)
    kinds: Counter[int] = field(default_factory=Counter)
    slots: Counter[int] = field(default_factory=Counter)
    names: Counter[Name] = field(default_factory=Counter)

    def add(self, machine: int | None, kind: int, slot: int, files: int) -> None:
        """Count files; not in `names`."""
        self.machines[machine or 0] += files
        self.kinds[kind] += files
        self.slots[slot] += files

    def add_all(self, other: Tally) -> None:
        self.machines.update(other.machines)
        self.kinds.update(other.kinds)
        self.slots.update(other.slots)
        self.names.update(other.names)

    def subtract(self, other: Tally) -> None:
        self.machines.subtract(other.machines)
        self.kinds.subtract(other.kinds)
        self.slots.subtract(other.slots)
        self.names.subtract(other.names)


def fold_tallies(db: sqlite3.Connection) -> None:
    """Add what the triggers noted to the counts. Call this at the end of each transaction that changes assets."""
    changes = db.execute(
        "SELECT recipe, machine, kind, slot, files FROM tally_changes WHERE files <> 0"
    ).fetchall()
    db.execute("DELETE FROM tally_changes")
    slots: Counter[tuple[int, int, int]] = Counter()
    recipes: Counter[int] = Counter()
    for recipe, machine, kind, slot, files in changes:
        slots[machine, kind, slot] += files
        recipes[recipe] += files
    names = _names_of(db, {recipe: files for recipe, files in recipes.items() if files})
    _add(db, "tallies", ("recipe", "machine", "kind", "slot"), changes)
    _add(db, "slot_totals", ("machine", "kind", "slot"), [(*key, files) for key, files in slots.items()])
    _add(db, "name_totals", ("kind", "name"), [(*key, files) for key, files in names.items()])


def _add(db: sqlite3.Connection, table: str, key: tuple[str, ...], rows: list[tuple[int, ...]]) -> None:
    rows = sorted(row for row in rows if row[-1])
    marks = ", ".join("?" * (len(key) + 1))
    db.executemany(
        f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT DO UPDATE SET files = files + excluded.files", rows
    )
    where = " AND ".join(f"{column} = ?" for column in key)
    db.executemany(
        f"DELETE FROM {table} WHERE {where} AND files = 0", [row[:-1] for row in rows if row[-1] < 0]
    )


def _names_of(db: sqlite3.Connection, files: dict[int, int]) -> Counter[Name]:
    found: Counter[Name] = Counter()
    for marks, piece in in_pieces(sorted(files)):
        for recipe, stored in db.execute(f"SELECT id, facts FROM recipes WHERE id IN ({marks})", piece):
            facts = load_facts(stored)
            names = {(MODEL, name) for name in facts.models} | {(LORA, name) for name, _ in facts.loras}
            if facts.sampler is not None:
                names.add((SAMPLER, facts.sampler))
            for name in names:
                found[name] += files[recipe]
    return found


def count_all(db: sqlite3.Connection, *, hidden: bool = False) -> int:
    """Return how many files there are; `hidden`: with hidden ones."""
    beside = " + (SELECT count(*) FROM assets WHERE hidden = 1)" if hidden else ""
    return int(db.execute(f"SELECT coalesce(sum(files), 0){beside} FROM slot_totals").fetchone()[0])


def count_files(db: sqlite3.Connection, recipes: Collection[int], *, inverted: bool = False) -> int:
    """Return how many files have one of these recipes, without hidden ones; `inverted`: have none of them."""
    other = _others(db, recipes)
    if inverted or other is not None:
        part = count_files(db, recipes) if inverted else _count(db, other or set())
        return count_all(db) - part
    return _count(db, recipes)


def tally_files(db: sqlite3.Connection, recipes: Collection[int], *, inverted: bool = False) -> Tally:
    """Return the counts of the files that `count_files` counts."""
    other = _others(db, recipes)
    if inverted or other is not None:
        whole = _tally_all(db)
        whole.subtract(tally_files(db, recipes) if inverted else _tally(db, other or set()))
        return whole
    return _tally(db, recipes)


def _others(db: sqlite3.Connection, recipes: Collection[int]) -> set[int] | None:
    """Return all other recipes if counting these is faster; else None."""
    if len(recipes) <= FEW_RECIPES:
        return None
    last = db.execute("SELECT coalesce(max(id), 0) FROM recipes").fetchone()[0]
    return {*range(last + 1)}.difference(recipes) if 2 * len(recipes) > last else None


def _select_tallies(
    db: sqlite3.Connection, recipes: Collection[int], columns: str
) -> Iterable[tuple[int, ...]]:
    """Yield `columns` of `tallies` for these recipes; the recipe must be the first column."""
    if len(recipes) > 10 * FEW_RECIPES:  # reading all rows of `tallies` is faster than so many lookups
        rows = db.execute(f"SELECT {columns} FROM tallies t")
        return (row for row in rows if row[0] in recipes)
    fill_table(db, "counted", recipes)
    return db.execute(f"SELECT {columns} FROM temp.counted c CROSS JOIN tallies t ON t.recipe = c.id")


def _count(db: sqlite3.Connection, recipes: Collection[int]) -> int:
    return sum(files for _, files in _select_tallies(db, recipes, "t.recipe, t.files"))


def _tally(db: sqlite3.Connection, recipes: Collection[int]) -> Tally:
    files: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    found = Tally()
    rows = _select_tallies(db, recipes, "t.recipe, t.machine, t.kind, t.slot, t.files")
    for recipe, machine, kind, slot, count in rows:
        files[recipe] += count
        found.slots[slot] += count
        pairs[machine, kind] += count
    found.names = count_names(db, files)
    for (machine, kind), count in pairs.items():
        found.machines[machine] += count
        found.kinds[kind] += count
    return found


def count_names(db: sqlite3.Connection, files: dict[int, int]) -> Counter[Name]:
    """Return how many files have each model, LoRA and sampler; `files` says how many files each recipe has."""
    if len(files) <= FEW_RECIPES:
        return _names_of(db, files)
    fill_table(db, "counted", files.items(), columns=2)
    rows = db.execute(
        "SELECT u.kind, u.name, sum(c.files) FROM name_uses u JOIN temp.counted c ON c.id = u.recipe"
        f" WHERE u.kind IN ({MODEL}, {LORA}, {SAMPLER}) GROUP BY u.kind, u.name"
    )
    return Counter({(kind, name): count for kind, name, count in rows})


def _tally_all(db: sqlite3.Connection) -> Tally:
    found = Tally()
    for column, counts in (("machine", found.machines), ("kind", found.kinds), ("slot", found.slots)):
        counts.update(dict(db.execute(f"SELECT {column}, sum(files) FROM slot_totals GROUP BY 1").fetchall()))
    rows = db.execute("SELECT kind, name, files FROM name_totals")
    found.names = Counter({(kind, name): files for kind, name, files in rows})
    return found


def fill_table(db: sqlite3.Connection, name: str, rows: Iterable[object], columns: int = 1) -> None:
    """Replace the rows of the temporary table `name (id, files)`: with ids, or with (id, files) if `columns` is 2."""
    db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY, files INTEGER)")
    db.execute(f"DELETE FROM temp.{name}")
    if columns == 1:
        db.executemany(f"INSERT INTO temp.{name} (id) VALUES (?)", ((row,) for row in sorted(rows)))  # type: ignore[type-var]
    else:
        db.executemany(f"INSERT INTO temp.{name} VALUES (?, ?)", rows)  # type: ignore[arg-type]
