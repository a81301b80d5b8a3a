"""Decide which keys of a bucket are an archive's outputs. Pure.

>>> scope = KeyScope(PrefixTemplate.parse("comfy-{Y}/x"))
>>> [scope.holds(key) for key in ("comfy-2026/x/a.png", "comfy-old/x/a.png", ".cloud-archive/check")]
[True, False, False]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from .keys import (
    MONTHS,
    OLD_PROBE_NAME,
    PLACEHOLDER_PATTERN,
    RESERVED_FOLDER,
    VERSION_FOLDER,
    WEEKDAYS,
    PrefixTemplate,
)

_VALUE_PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "Y": r"[0-9]{4}",
        "y": r"[0-9]{2}",
        "m": r"(?:0[1-9]|1[0-2])",
        "d": r"(?:0[1-9]|[12][0-9]|3[01])",
        "H": r"(?:[01][0-9]|2[0-3])",
        "M": r"[0-5][0-9]",
        "S": r"[0-5][0-9]",
        "j": r"(?:00[1-9]|0[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-6])",
        "W": r"(?:[0-4][0-9]|5[0-3])",
        "w": r"[0-6]",
        "U": r"(?:[0-4][0-9]|5[0-3])",
        "V": r"(?:0[1-9]|[1-4][0-9]|5[0-3])",
        "B": f"(?:{'|'.join(MONTHS)})",
        "b": f"(?:{'|'.join(month[:3] for month in MONTHS)})",
        "A": f"(?:{'|'.join(WEEKDAYS)})",
        "a": f"(?:{'|'.join(day[:3] for day in WEEKDAYS)})",
        "session_id": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    }
)
_CATALOG = f"/{RESERVED_FOLDER}/{VERSION_FOLDER}"


class KeyScope:
    """The keys that `prune`, `restore` and `report` work on: below the prefix, outside the reserved folder.

    Args:
        template: the archive's prefix.
        below: only keys in this folder of the bucket, without placeholders; default: no limit.
        anywhere: `below` replaces the prefix, and may lie outside it.

    Attributes:
        head: the folder that holds every key, empty or ending in `/`.
        listing_prefix: the prefix for a listing of the keys.
        above: the folders above `listing_prefix` in which another archive may keep its catalog; `""` is the root.
        is_possible: False if `below` lies outside the prefix, so that there are no keys.
        is_whole_bucket: neither a prefix nor `below` limits the keys.
    """

    def __init__(self, template: PrefixTemplate, below: str | None = None, *, anywhere: bool = False) -> None:
        folder = (below or "").strip("/")
        chosen = PrefixTemplate(folder) if anywhere and below is not None else template
        self._pattern = _pattern(chosen.text)
        self._below = f"{folder}/" if folder else ""
        self.head = self._below or chosen.static_head
        literal = f"{chosen.text}/".split("{", 1)[0] if chosen.text else ""
        self.listing_prefix = max(self._below, literal, key=len)
        folders = [f"{name}/" for name in self.listing_prefix.split("/")[:-1]]
        above = ("".join(folders[:count]) for count in range(len(folders)))
        self.above = tuple(head for head in above if head != template.static_head)
        heads = {template.static_head, chosen.static_head}
        self._reserved = tuple(f"{head}{RESERVED_FOLDER}/" for head in heads)
        self._probes = frozenset(f"{head}{OLD_PROBE_NAME}" for head in heads)

        shared = "/".join(chosen.text.split("/")[: len(folder.split("/"))])
        self.is_possible = not folder or _pattern(shared).match(self._below) is not None
        self.is_whole_bucket = not chosen.text and not folder

    @classmethod
    def folder(cls, prefix: str) -> KeyScope:
        """Return the scope of a prefix without placeholders; an empty one is the whole bucket."""
        return cls(PrefixTemplate(prefix.strip("/")))

    def holds(self, key: str) -> bool:
        """Return whether `key` is an output."""
        return (
            key.startswith(self._below)
            and self._pattern.match(key) is not None
            and not key.startswith(self._reserved)
            and key not in self._probes
            and not self.other_archive(key)
        )

    def other_archive(self, key: str) -> str:
        """Return the folder of the other archive whose catalog has this object; empty: it is in none."""
        head, found, _ = key.partition(_CATALOG)
        return f"{head}/" if found and not key.startswith(self._reserved) else ""


def _pattern(template: str) -> re.Pattern[str]:
    """Return a pattern for the start of a key: the rendered template and a slash.

    A placeholder that occurs twice must have the same value in both places.
    """
    if not template:
        return re.compile("")
    seen: set[str] = set()
    pieces: list[str] = []
    position = 0
    for match in PLACEHOLDER_PATTERN.finditer(template):
        name: str | None = match.group(1)
        if name is None:
            continue  # a brace in the name of a folder that a user gave
        pieces.append(re.escape(template[position : match.start()]))
        pieces.append(f"(?P={name})" if name in seen else f"(?P<{name}>{_VALUE_PATTERNS[name]})")
        seen.add(name)
        position = match.end()
    return re.compile(f"{''.join(pieces)}{re.escape(template[position:])}/")
