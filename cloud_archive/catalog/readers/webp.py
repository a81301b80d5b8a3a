"""WebP, still and animated: EXIF and XMP chunks, the size of the canvas and the duration."""

from __future__ import annotations

import struct

from ..source import BoundedSource
from .exif import read_exif
from .facts import FactsBuilder, decode_text, read_text
from .xmp import read_xmp

_TAIL_BYTES = 1024 * 1024


def read_webp(source: BoundedSource, facts: FactsBuilder) -> None:
    offset = 12
    milliseconds = 0
    while offset + 8 <= source.size:
        kind, length = struct.unpack("<4sI", source.read_exactly(offset, 8))
        start = offset + 8
        if kind == b"VP8X":
            canvas = source.read_exactly(start, 10)
            facts.set_size(
                1 + int.from_bytes(canvas[4:7], "little"), 1 + int.from_bytes(canvas[7:10], "little")
            )
        elif kind == b"ANMF":
            milliseconds += int.from_bytes(source.read_exactly(start + 12, 3), "little")
            facts.set_duration(milliseconds / 1000)
            if source.few_reads_left:
                # Each further frame costs a request in a bucket, so the duration stays unknown.
                facts.duration_seconds = None
                return _read_tail(source, start, facts)
        elif kind == b"VP8 " and facts.width is None:
            width, height = struct.unpack("<HH", source.read_exactly(start + 6, 4))
            facts.set_size(width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and facts.width is None:
            (bits,) = struct.unpack("<I", source.read_exactly(start + 1, 4))
            facts.set_size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        elif kind in (b"EXIF", b"XMP "):
            _read_chunk(kind, read_text(source, start, length), facts)
        offset = start + length + (length & 1)


def _read_chunk(kind: bytes, data: bytes, facts: FactsBuilder) -> None:
    if kind == b"EXIF":
        read_exif(data, facts)
    else:
        read_xmp(decode_text(data), facts)


def _read_tail(source: BoundedSource, start: int, facts: FactsBuilder) -> None:
    """Find the chunks after the frames in the last megabyte, where writers put them."""
    start = max(start, source.size - _TAIL_BYTES)
    tail = source.read_exactly(start, source.size - start)
    for kind in (b"EXIF", b"XMP "):
        position = tail.rfind(kind)
        if position >= 0:
            (length,) = struct.unpack_from("<I", tail, position + 4)
            _read_chunk(kind, tail[position + 8 : position + 8 + length], facts)
