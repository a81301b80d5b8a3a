"""GIF: comments, XMP, size and duration."""

from __future__ import annotations

import struct

from ..source import BoundedSource
from .facts import MAX_TEXT_BYTES, FactsBuilder, decode_text
from .xmp import read_xmp


def read_gif(source: BoundedSource, facts: FactsBuilder) -> None:
    """Walk the blocks. The duration is known only if the walk reaches the end."""
    width, height, flags = struct.unpack("<HHB", source.read_exactly(6, 5))
    facts.set_size(width, height)
    offset = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    hundredths = 0
    while True:
        introducer = source.read_exactly(offset, 1)[0]
        if introducer == 0x3B:
            break
        if introducer == 0x2C:
            flags = source.read_exactly(offset + 9, 1)[0]
            offset += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
            offset = _skip_blocks(source, offset)
            continue
        if introducer != 0x21:
            raise ValueError("this is no GIF block")
        label = source.read_exactly(offset + 1, 1)[0]
        if label == 0xF9:
            hundredths += struct.unpack("<H", source.read_exactly(offset + 4, 2))[0]
        if label == 0xFE:
            text, offset = _read_blocks(source, offset + 2)
            facts.add_text("comment", text)
        elif label == 0xFF and source.read(offset + 3, 11) == b"XMP DataXMP":
            offset = _read_xmp_packet(source, offset + 14, facts)
        else:
            offset = _skip_blocks(source, offset + 2)
    facts.set_duration(hundredths / 100)


def _read_xmp_packet(source: BoundedSource, offset: int, facts: FactsBuilder) -> int:
    """Read an XMP packet, and return the offset after it.

    The packet is not split into blocks. Skipping it as blocks still finds its end: its trailer counts down, so that
    each of its bytes, taken for a length, leads to the final zero.
    """
    end = _skip_blocks(source, offset)
    read_xmp(decode_text(source.read_exactly(offset, min(end - offset, MAX_TEXT_BYTES))), facts)
    return end


def _skip_blocks(source: BoundedSource, offset: int) -> int:
    while length := source.read_exactly(offset, 1)[0]:
        offset += 1 + length
    return offset + 1


def _read_blocks(source: BoundedSource, offset: int) -> tuple[bytes, int]:
    parts = []
    while length := source.read_exactly(offset, 1)[0]:
        parts.append(source.read_exactly(offset + 1, length))
        offset += 1 + length
        if len(parts) * 255 > MAX_TEXT_BYTES:
            raise ValueError("a comment of this file is too long")
    return b"".join(parts), offset + 1
