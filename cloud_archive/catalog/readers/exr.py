"""OpenEXR: string attributes of the header, and the size of the picture."""

from __future__ import annotations

import struct

from ..source import BoundedSource
from .facts import FactsBuilder, read_text

_MAX_ATTRIBUTES = 256
_STANDARD_NAMES = ("type", "view", "channels")


def read_exr(source: BoundedSource, facts: FactsBuilder) -> None:
    offset = 8
    for _ in range(_MAX_ATTRIBUTES):
        name, offset = _name(source, offset)
        if not name:
            return
        kind, offset = _name(source, offset)
        (length,) = struct.unpack("<I", source.read_exactly(offset, 4))
        start = offset + 4
        if kind == "box2i" and name == "dataWindow":
            left, top, right, bottom = struct.unpack("<iiii", source.read_exactly(start, 16))
            facts.set_size(right - left + 1, bottom - top + 1)
        elif kind == "string" and name not in _STANDARD_NAMES:
            facts.add_text(name, read_text(source, start, length))
        offset = start + length


def _name(source: BoundedSource, offset: int) -> tuple[str, int]:
    data, separator, _ = source.read(offset, 256).partition(b"\0")
    if not separator:
        raise ValueError("an attribute's name doesn't end")
    return data.decode("latin-1"), offset + len(data) + 1
