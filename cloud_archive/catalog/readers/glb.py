"""GLB (binary glTF): the texts in `asset.extras`."""

from __future__ import annotations

import json
import struct

from ..json_text import load_json
from ..source import BoundedSource
from .facts import FactsBuilder, decode_text, read_text


def read_glb(source: BoundedSource, facts: FactsBuilder) -> None:
    """Add each entry of `asset.extras` as a text. The JSON chunk that holds them comes first."""
    length, kind = struct.unpack("<I4s", source.read_exactly(12, 8))
    if kind != b"JSON":
        raise ValueError("the first chunk of this file is no JSON")
    extras = load_json(decode_text(read_text(source, 20, length)))["asset"].get("extras", {})
    for name, value in extras.items():
        facts.add_text(name, value if isinstance(value, str) else json.dumps(value))
