"""Packs: the graphs and thumbnails of a segment's rows, one after another."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from typing import Any

from ..json_text import JsonLimits, load_json

MAX_PACK_BYTES = 32 * 1024 * 1024
MAX_GRAPHS_BYTES = 8 * 1024 * 1024  # gzipped
MAX_EXPANDED_BYTES = 20 * 1024 * 1024
_MAX_PARSED_BYTES = 96 * 1024 * 1024  # in memory


class PackBuilder:
    """Collects the pieces of one pack; equal ones are kept once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._known: dict[bytes, tuple[int, int]] = {}
        self.size_bytes = 0

    def add(self, data: bytes) -> tuple[int, int]:
        """Return (offset, length) of `data` in the pack; (0, 0): it is empty, or there is no room."""
        if not data:
            return 0, 0
        digest = hashlib.sha256(data).digest()
        if digest not in self._known:
            if self.size_bytes + len(data) > MAX_PACK_BYTES:
                return 0, 0
            self._known[digest] = (self.size_bytes, len(data))
            self._pieces.append(data)
            self.size_bytes += len(data)
        return self._known[digest]

    def body(self) -> bytes:
        return b"".join(self._pieces)


def zip_graphs(prompt: Any, workflow: Any) -> bytes:
    """Return both graphs as packs hold them; empty if they are too large."""
    text = json.dumps({"prompt": prompt, "workflow": workflow}, separators=(",", ":")).encode()
    data = gzip.compress(text, 6, mtime=0)
    return data if len(data) <= MAX_GRAPHS_BYTES and len(text) <= MAX_EXPANDED_BYTES else b""


def unzip_graphs(data: bytes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the prompt graph and the workflow of a piece of a pack. ValueError: it holds none, or expands too far."""
    expander = zlib.decompressobj(31)
    try:
        text = expander.decompress(data, MAX_EXPANDED_BYTES)
        if expander.unconsumed_tail or not expander.eof:
            raise ValueError("these graphs are too large, or end early")
        limits = JsonLimits(characters=MAX_EXPANDED_BYTES, memory_bytes=_MAX_PARSED_BYTES)
        found = load_json(text.decode(), limits)
    except zlib.error as error:
        raise ValueError(f"these are no graphs: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("these are no graphs")
    graphs = [
        found.get(name) if isinstance(found.get(name), dict) else None for name in ("prompt", "workflow")
    ]
    return graphs[0], graphs[1]
