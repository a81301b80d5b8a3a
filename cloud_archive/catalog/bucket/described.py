"""Turn put rows of segments into rows of the local catalog."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ...text import clean_text
from ...upload.source import content_type
from ..describe import Description
from ..graph_facts import Lora
from ..recipes import recipe_rows, rows_by_text
from ..rows import folder_and_name, media_kind, stored_path, stored_seed
from ..schema import HAS_PROMPT, HAS_WORKFLOW

_MIME_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,60}/[A-Za-z0-9.+-]{1,100}")
_MAX_PATH = 4096
_MAX_SEED_DIGITS = 20
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_RECIPE_FIELDS = (
    "prompt",
    "negative_prompt",
    "sampler",
    "scheduler",
    "steps",
    "cfg",
    "denoise",
    "source",
    "confidence",
)
_RECIPE_LISTS = ("models", "input_images", "texts", "model_names")
Row = dict[str, Any]


def described_assets(db: sqlite3.Connection, puts: Mapping[bytes, Row]) -> list[tuple[Any, ...]]:
    """Return the values of `rows.INSERTED_COLUMNS` for each put, in their order; `puts` are by their assets' ids.

    Adds texts, names and recipes that the catalog lacks.
    """
    rows = list(puts.values())
    places = [folder_and_name(row["key"]) for row in rows]
    folders = rows_by_text(db, "folders", {folder for folder, _ in places})
    types = [_mime_type(row, name) for row, (_, name) in zip(rows, places, strict=True)]
    words = _Words(db, rows, types)
    recipes = _recipes(db, rows)
    kinds: dict[tuple[str, str], int] = {}
    made = []
    for (identity, row), (folder, name), mime_type, recipe in zip(
        puts.items(), places, types, recipes, strict=True
    ):
        kind = mime_type, name.rpartition(".")[2]
        if kind not in kinds:
            kinds[kind] = media_kind(mime_type, name)
        sha256 = row.get("sha256")
        made.append(
            (
                identity,
                folders[folder],
                name,
                stored_path(_path(row), row["key"]),
                row.get("mtime_ns", int(row["clock"] * 1e9)),
                float(row["clock"]),
                max(0, row.get("size", 0)),
                bytes.fromhex(sha256) if sha256 is not None and _DIGEST.fullmatch(sha256) else None,
                words.id(row.get("machine")),
                words.id(row.get("session_id")),
                kinds[kind],
                words.id(mime_type),
                row.get("width"),
                row.get("height"),
                row.get("duration_seconds"),
                recipe,
                stored_seed(_seed(row.get("seed"))),
                HAS_WORKFLOW * row.get("has_workflow", False) | HAS_PROMPT * row.get("has_prompt", False),
                words.id(row.get("job_id")),
                max(1, row.get("reader", 1)),
            )
        )
    return made


class _Words:
    def __init__(self, db: sqlite3.Connection, rows: Sequence[Row], types: Sequence[str]) -> None:
        texts = set(types)
        for name in ("machine", "session_id", "job_id"):
            texts.update(row[name] for row in rows if name in row)
        clean = {text: clean_text(text) for text in texts}
        ids = rows_by_text(db, "words", clean.values())
        self._ids = {text: ids[one] for text, one in clean.items()}

    def id(self, text: str | None) -> int | None:
        return None if text is None else self._ids[text]


def _recipes(db: sqlite3.Connection, rows: Sequence[Row]) -> list[int | None]:
    known: dict[tuple[Any, ...], int] = {}
    places: list[int] = []
    found: list[Description] = []
    for row in rows:
        get = row.get
        content = (
            *map(get, _RECIPE_FIELDS),
            *[tuple(get(name, ())) for name in _RECIPE_LISTS],
            _loras(row),
        )
        place = known.get(content)
        if place is None:
            place = known[content] = len(found)
            found.append(_description(row))
        places.append(place)
    ids = recipe_rows(db, found)
    return [ids[place] for place in places]


def _description(row: Row) -> Description:
    facts: dict[str, Any] = {name: row.get(name) for name in _RECIPE_FIELDS}
    facts |= {name: tuple(row.get(name, ())) for name in _RECIPE_LISTS}
    return Description(**facts, loras=tuple(Lora(*one) for one in _loras(row)))


def _loras(row: Row) -> tuple[tuple[str, float | None], ...]:
    return tuple([(one["name"], one.get("strength")) for one in row.get("loras", ())])


def _path(row: Row) -> str:
    return clean_text(row.get("path") or row["key"])[:_MAX_PATH]


def _mime_type(row: Row, name: str) -> str:
    found = row.get("mime_type")
    return found if found is not None and _MIME_TYPE.fullmatch(found) else content_type(name)


def _seed(text: str | None) -> int | None:
    is_number = text is not None and len(text) <= _MAX_SEED_DIGITS and text.isascii() and text.isdigit()
    return int(text) if text is not None and is_number else None
