"""JPEG: EXIF and XMP segments, comments, and the size of the picture."""

from __future__ import annotations

import struct

from ..source import BoundedSource
from .exif import read_exif
from .facts import FactsBuilder, decode_text
from .xmp import read_xmp

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_SEGMENTS = 512


def read_jpeg(source: BoundedSource, facts: FactsBuilder) -> None:
    """Walk the segments up to the start of the pixels."""
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        marker, kind = source.read_exactly(offset, 2)
        if marker != 0xFF:
            raise ValueError("this is no JPEG segment")
        if kind == 0xFF:
            offset += 1
            continue
        if kind == 0x01 or 0xD0 <= kind <= 0xD7:  # a marker without a length
            offset += 2
            continue
        if kind in (0xDA, 0xD9):
            return
        (length,) = struct.unpack(">H", source.read_exactly(offset + 2, 2))
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", source.read_exactly(offset + 5, 4))
            facts.set_size(width, height)
        elif kind in (0xE1, 0xFE):
            _read_segment(kind, source.read_exactly(offset + 4, max(length - 2, 0)), facts)
        offset += 2 + length


def _read_segment(kind: int, data: bytes, facts: FactsBuilder) -> None:
    if kind == 0xFE:
        facts.add_text("comment", data)
    elif data.startswith(b"Exif\0\0"):
        read_exif(data, facts)
    elif data.startswith(_XMP):
        read_xmp(decode_text(data[len(_XMP) :]), facts)
