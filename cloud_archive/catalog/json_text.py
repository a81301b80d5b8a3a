"""Parse JSON that strangers wrote, with limits on the memory and the steps that it may take."""

from __future__ import annotations

import json
import math
from typing import Any

_MAX_TEXT_CHARACTERS = 3 * 1024 * 1024
_MAX_GRAPH_CHARACTERS = 1536 * 1024
# What CPython takes for each piece, in bytes, without the text itself.
_OBJECT_BYTES, _LIST_BYTES, _ITEM_BYTES = 240, 88, 72
_MAX_MEMORY_BYTES = 9 * 1024 * 1024
# Going through a graph costs in proportion to these; the largest of 640 published workflows has 55,000.
_OBJECT_STEPS, _LIST_STEPS = 6, 3
_MAX_STEPS = 80_000


class JsonLimits:
    """What the JSON of one file may cost in all.

    Args:
        of_graphs: less, because every value is visited after parsing.
        characters, memory_bytes: other limits.
    """

    def __init__(
        self,
        *,
        of_graphs: bool = False,
        characters: int = _MAX_TEXT_CHARACTERS,
        memory_bytes: int = _MAX_MEMORY_BYTES,
    ) -> None:
        self._characters = _MAX_GRAPH_CHARACTERS if of_graphs else characters
        self._memory = memory_bytes
        self._steps = float(_MAX_STEPS) if of_graphs else math.inf

    def charge(self, text: str) -> None:
        """Take off what `text` costs. ValueError: that is more than is left."""
        self._characters -= len(text)
        if self._characters < 0:
            raise ValueError("this JSON is too large")
        objects, lists = text.count("{"), text.count("[")
        items = text.count(",") + text.count(":")
        self._memory -= objects * _OBJECT_BYTES + lists * _LIST_BYTES + items * _ITEM_BYTES
        self._steps -= objects * _OBJECT_STEPS + lists * _LIST_STEPS + items + text.count('"') // 2
        if self._memory < 0 or self._steps < 0:
            raise ValueError("this JSON is too large")


def load_json(text: str, limits: JsonLimits | None = None) -> Any:
    """Return what the JSON `text` says; NaN and Infinity are accepted, as Python writes them.

    Args:
        limits: of the file that holds the text; None: the text has limits of its own.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or costs more than is left of the limits.
    """
    (limits or JsonLimits()).charge(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("this JSON is nested too deeply") from None


def load_nested_json(text: str, limits: JsonLimits | None = None) -> Any:
    """Do what `load_json` does, and decode again where a whole document was encoded as one string."""
    limits = limits or JsonLimits()
    value = load_json(text, limits)
    for _ in range(2):
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"'):
            value = load_json(value, limits)
    return value
