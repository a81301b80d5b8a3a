"""Count what a query finds by model, LoRA, sampler, machine, type, tag and day."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any

from .local_time import from_local, to_local
from .matching import Matches, find_matches
from .query import parse_query
from .recipes import texts_by_row
from .schema import KINDS, LORA, MODEL, SAMPLER, SLOT_SECONDS, slot_of
from .tallies import Tally, count_names, tally_files

FACET_VALUES = 100  # of each facet, the most frequent
_SLOT = slot_of("a.created")


def facets(db: sqlite3.Connection, query: str = "", machine: str | None = None) -> dict[str, Any]:
    """Return the facets of `GET /cloud-sync/facets`: each a list of `{"name", "count"}`.

    The most frequent come first, at most FACET_VALUES; of `days` all, the newest first.

    Args:
        machine: see `parse_query`.

    Raises:
        QueryError: the query can't be read.
    """
    matches = find_matches(db, parse_query(query, machine=machine))
    tally = _tally(db, matches)
    names = texts_by_row(db, "names", {name for (_, name), files in tally.names.items() if files})
    words = texts_by_row(db, "words", {word for word, files in tally.machines.items() if word and files})
    found: dict[str, Any] = {
        facet: _most_frequent(
            {
                names[name]: files
                for (its_kind, name), files in tally.names.items()
                if its_kind == kind and files
            }
        )
        for facet, kind in (("models", MODEL), ("loras", LORA), ("samplers", SAMPLER))
    }
    found["machines"] = _most_frequent(
        {words[word]: files for word, files in tally.machines.items() if word and files}
    )
    found["types"] = _most_frequent({KINDS[kind]: files for kind, files in tally.kinds.items() if files})
    found["tags"] = _most_frequent(_tags(db, matches))
    found["days"] = _days(tally.slots)
    return found


def _tally(db: sqlite3.Connection, matches: Matches) -> Tally:
    columns = f"a.id, a.recipe, a.machine, a.kind, {_SLOT}"
    if not matches.only_visible:
        return _tally_rows(db, matches.rows(db, columns))
    found = tally_files(db, matches.recipes, inverted=matches.inverted)
    by_name = Matches(set(), False, matches.named, set())
    if matches.named:
        found.add_all(_tally_rows(db, by_name.rows(db, columns)))
    if matches.left_out:
        rows = Matches(set(), False, matches.left_out, set()).rows(db, columns)
        found.subtract(_tally_rows(db, (row for row in rows if matches.fits(row[1]))))
    return found


def _tally_rows(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> Tally:
    """Count assets; each row is id, recipe, machine, kind, slot."""
    recipes: Counter[int] = Counter()
    counts: Counter[tuple[Any, ...]] = Counter()
    for _, recipe, *key in rows:
        recipes[recipe or 0] += 1
        counts[tuple(key)] += 1
    found = Tally()
    for (machine, kind, slot), files in counts.items():
        found.add(machine, kind, slot, files)
    found.names = count_names(db, recipes)
    return found


def _tags(db: sqlite3.Connection, matches: Matches) -> Counter[str]:
    """Return how many of the matches have each tag. CROSS JOIN starts from the edits, which are few."""
    found: Counter[str] = Counter()
    for row, recipe, tag in db.execute(
        "SELECT a.id, a.recipe, substr(e.field, 5) FROM edits e CROSS JOIN assets a ON a.uuid = e.uuid"
        f" WHERE e.field >= 'tag:' AND e.field < 'tag;' AND e.value = 1 AND +({matches.rest})",
        matches.values,
    ):
        if matches.holds(row, recipe):
            found[tag] += 1
    return found


def _most_frequent(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:FACET_VALUES]
    return [{"name": name, "count": count} for name, count in found]


def _days(slots: Mapping[int, int]) -> list[dict[str, Any]]:
    days: Counter[str] = Counter()
    name, ends = "", float("-inf")
    for slot, count in sorted(slots.items()):
        if not count:
            continue
        if slot * SLOT_SECONDS >= ends:
            try:
                day = to_local(slot * SLOT_SECONDS).date()
                following = datetime.combine(day + timedelta(days=1), time())
                name, ends = day.isoformat(), from_local(following)
            except (ValueError, OverflowError, OSError):
                continue
        days[name] += count
    return [{"name": name, "count": count} for name, count in sorted(days.items(), reverse=True)]
