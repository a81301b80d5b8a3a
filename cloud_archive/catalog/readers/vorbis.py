"""Vorbis comments, as FLAC, Ogg and Opus carry them."""

from __future__ import annotations

import struct

from .facts import FactsBuilder

_MAX_COMMENTS = 256
_PICTURES = ("metadata_block_picture", "coverart")


def read_comments(data: bytes, facts: FactsBuilder) -> None:
    """Add the comments of one block: a vendor text, a count, and `NAME=text` entries."""
    (length,) = struct.unpack_from("<I", data, 0)
    offset = 4 + length
    (count,) = struct.unpack_from("<I", data, offset)
    offset += 4
    for _ in range(min(count, _MAX_COMMENTS)):
        (length,) = struct.unpack_from("<I", data, offset)
        comment = data[offset + 4 : offset + 4 + length]
        offset += 4 + length
        name, separator, text = comment.partition(b"=")
        key = name[:200].decode("utf-8", "replace").lower()
        if separator and key not in _PICTURES:
            facts.add_text(key, text)
