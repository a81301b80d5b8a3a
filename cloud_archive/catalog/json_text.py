"""Parse JSON that somebody else wrote, with limits on what it may grow to."""

from __future__ import annotations

import json
from typing import Any

_MAX_TEXT_CHARACTERS = 3 * 1024 * 1024
# What CPython takes for each piece, in bytes; 9 MB in all leave room for the text itself.
_OBJECT_BYTES, _LIST_BYTES, _ITEM_BYTES = 240, 88, 72
_MAX_MEMORY_BYTES = 9 * 1024 * 1024


def load_json(text: str) -> Any:
    """Return what the JSON `text` says; NaN and Infinity are accepted, as Python writes them.

    ValueError: it is no JSON, or it would take more memory than one file may cost.
    """
    memory = (
        text.count("{") * _OBJECT_BYTES
        + text.count("[") * _LIST_BYTES
        + (text.count(",") + text.count(":")) * _ITEM_BYTES
    )
    if len(text) > _MAX_TEXT_CHARACTERS or memory > _MAX_MEMORY_BYTES:
        raise ValueError("this JSON is too large")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("this JSON is nested too deeply") from None


def load_nested_json(text: str) -> Any:
    """Return what the JSON `text` says, decoding again where a whole document was encoded as one string."""
    value = load_json(text)
    for _ in range(2):
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"'):
            value = load_json(value)
    return value
