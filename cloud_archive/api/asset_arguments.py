"""Check the arguments of calls about archived files. Loaded into ComfyUI's process: standard library only."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ..catalog.limits import (
    MAX_DAY_QUERY_CHARACTERS,
    MAX_NOTE_CHARACTERS,
    MAX_QUERY_CHARACTERS,
    MAX_TAG_CHARACTERS,
    MAX_TAGS,
    QUERY_TOO_LONG,
)
from ..errors import RequestRefused
from ..text import clean_text
from .checks import flag, limited_text, whole_number

SORTS = ("created_at", "name", "size", "relevance")
ORDERS = ("asc", "desc")
DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_CURSOR_CHARACTERS = 2048
MAX_IN_ZIP = 200
EDITABLE = ("tags", "favorite", "rating", "note", "hidden")


def asset_id_of(text: str) -> str:
    """Return the asset id that a URL names, in its usual form. RequestRefused: 404, no asset can have it."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise RequestRefused(404, "There is no asset with this id: it must be a UUID.") from None


def search_arguments(query: Mapping[str, str]) -> dict[str, Any]:
    """Return q, sort, order, limit and after of a search. RequestRefused: 400, names what is wrong."""
    sort, order = query.get("sort") or "created_at", query.get("order") or ""
    if sort not in SORTS:
        raise RequestRefused(400, f"sort must be one of {', '.join(SORTS)}.")
    order = order or ("asc" if sort == "name" else "desc")
    if order not in ORDERS:
        raise RequestRefused(400, f"order must be one of {', '.join(ORDERS)}.")
    limit = whole_number(query, "limit", DEFAULT_LIMIT, MAX_LIMIT)
    after = limited_text(query, "after", MAX_CURSOR_CHARACTERS) or None
    return {
        "q": _query_text(query, MAX_DAY_QUERY_CHARACTERS),
        "sort": sort,
        "order": order,
        "limit": limit,
        "after": after,
    }


def facet_arguments(query: Mapping[str, str]) -> dict[str, Any]:
    """Return q. RequestRefused: 400, it is too long."""
    return {"q": _query_text(query, MAX_QUERY_CHARACTERS)}


def _query_text(query: Mapping[str, str], most_characters: int) -> str:
    text = query.get("q", "")
    if len(text) > most_characters:
        raise RequestRefused(400, f"q: {QUERY_TOO_LONG}")
    return text


def zip_arguments(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the ids of a ZIP, each once, with commas between. RequestRefused: 400, names what is wrong."""
    texts = [text for text in query.get("ids", "").split(",") if text.strip()]
    if not 1 <= len(texts) <= MAX_IN_ZIP:
        raise RequestRefused(400, f"ids must be 1 to {MAX_IN_ZIP} ids of assets, separated by commas.")
    try:
        ids = [str(uuid.UUID(text.strip())) for text in texts]
    except ValueError:
        raise RequestRefused(400, "ids must be ids of assets: UUIDs, separated by commas.") from None
    return {"ids": ",".join(dict.fromkeys(ids))}


def edit_arguments(body: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields to change and their new values. RequestRefused: 400, names what is wrong."""
    unknown = set(body) - set(EDITABLE)
    if unknown or not body:
        named = f"{min(unknown)} can't be changed. " if unknown else ""
        raise RequestRefused(400, f"{named}Send a JSON object with any of {', '.join(EDITABLE)}.")
    for name in ("favorite", "hidden"):
        flag(body, name)
    rating = body.get("rating", 0)
    if isinstance(rating, bool) or not isinstance(rating, int) or not 0 <= rating <= 5:
        raise RequestRefused(400, "rating must be a whole number from 0 to 5.")
    note = body.get("note", "")
    if not isinstance(note, str) or len(note) > MAX_NOTE_CHARACTERS:
        raise RequestRefused(400, f"note must be a text of {MAX_NOTE_CHARACTERS} characters at most.")
    return dict(body) | ({"tags": _tags(body["tags"])} if "tags" in body else {})


def _tags(tags: object) -> list[str]:
    if not isinstance(tags, list) or len(tags) > MAX_TAGS:
        raise RequestRefused(400, f"tags must be a list of {MAX_TAGS} texts at most.")
    found = []
    for tag in tags:
        clean = clean_text(tag).strip() if isinstance(tag, str) else ""
        if not clean or len(clean) > MAX_TAG_CHARACTERS or '"' in clean:
            raise RequestRefused(
                400, f"Each of tags must be a text of 1 to {MAX_TAG_CHARACTERS} characters without quotes."
            )
        found.append(clean)
    return list(dict.fromkeys(found))
