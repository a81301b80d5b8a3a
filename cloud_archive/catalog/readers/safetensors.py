"""safetensors: `__metadata__` of latents, checkpoints and LoRAs."""

from __future__ import annotations

import struct

from ..json_text import load_json
from ..source import BoundedSource
from .facts import FactsBuilder, decode_text, read_text

_WANTED = (
    "prompt",
    "workflow",
    "parameters",
    "comment",
    "description",
    "modelspec.title",
    "modelspec.description",
)


def read_safetensors(source: BoundedSource, facts: FactsBuilder) -> None:
    """Read the JSON header. Training statistics in it are left out."""
    (length,) = struct.unpack("<Q", source.read_exactly(0, 8))
    header = load_json(decode_text(read_text(source, 8, length)))
    for name, text in header.get("__metadata__", {}).items():
        if isinstance(text, str) and name.lower() in _WANTED:
            facts.add_text(name, text)
