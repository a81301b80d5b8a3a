"""PNG and animated PNG: tEXt, zTXt, iTXt, eXIf and ComfyUI's `comf` chunks, before and after the pixels."""

from __future__ import annotations

import struct
import zlib

from ..source import BoundedSource
from .exif import read_exif
from .facts import FactsBuilder, decode_text, inflate, read_text
from .xmp import read_xmp

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_METADATA_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"comf")
_TAIL_BYTES = 1024 * 1024


def read_png(source: BoundedSource, facts: FactsBuilder) -> None:
    """Walk the chunks; end at the pixels of a still picture if a chunk before them held a graph."""
    offset = 8
    duration_seconds = 0.0
    while offset + 12 <= source.size:
        length, kind = struct.unpack(">I4s", source.read_exactly(offset, 8))
        start = offset + 8
        if kind == b"IHDR":
            facts.set_size(*struct.unpack(">II", source.read_exactly(start, 8)))
        elif kind == b"acTL":
            facts.mime_type = "image/apng"
        elif kind == b"fcTL":
            numerator, denominator = struct.unpack(">HH", source.read_exactly(start + 20, 4))
            duration_seconds += numerator / (denominator or 100)
            facts.set_duration(duration_seconds)
        elif kind == b"IDAT" and facts.has_graph() and facts.mime_type != "image/apng":
            return
        elif kind in (b"IDAT", b"fdAT") and source.few_reads_left:
            facts.duration_seconds = None  # not all frames were counted
            return _read_tail(source, offset, facts)
        elif kind in _METADATA_CHUNKS:
            _read_chunk(kind, read_text(source, start, length), facts)
        elif kind == b"IEND":
            return
        offset = start + length + 4


def _read_chunk(kind: bytes, data: bytes, facts: FactsBuilder) -> None:
    if kind == b"eXIf":
        return read_exif(data, facts)
    name, _, rest = data.partition(b"\0")
    key = name.decode("latin-1")
    if kind in (b"tEXt", b"comf"):
        text = decode_text(rest)
    elif kind == b"zTXt":
        text = decode_text(inflate(rest[1:]))
    else:
        compressed, rest = rest[:1] == b"\1", rest[2:]
        _language, _, rest = rest.partition(b"\0")
        _translated, _, rest = rest.partition(b"\0")
        text = decode_text(inflate(rest) if compressed else rest)
    if key.lower().startswith("xml:com.adobe.xmp"):
        read_xmp(text, facts)
    else:
        facts.add_text(key, text)


def _read_tail(source: BoundedSource, start: int, facts: FactsBuilder) -> None:
    """Find metadata chunks in the last megabyte: in a bucket, walking there costs one request for each chunk."""
    start = max(start, source.size - _TAIL_BYTES)
    tail = source.read_exactly(start, source.size - start)
    found = sorted(position for kind in _METADATA_CHUNKS for position in _positions(tail, kind))
    for position in found[:40]:
        (length,) = struct.unpack_from(">I", tail, position - 4)
        end = position + 4 + length
        if end + 4 <= len(tail) and zlib.crc32(tail[position:end]) == struct.unpack_from(">I", tail, end)[0]:
            _read_chunk(tail[position : position + 4], tail[position + 4 : end], facts)


def _positions(data: bytes, word: bytes) -> list[int]:
    positions: list[int] = []
    position = data.find(word, 4)
    while position >= 0 and len(positions) < 40:
        positions.append(position)
        position = data.find(word, position + 4)
    return positions
