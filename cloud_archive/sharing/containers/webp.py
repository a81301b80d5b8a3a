"""WebP, still and animated: keep the pixels, the frames, the colour profile and the orientation."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .orientation import minimal_exif, read_orientation
from .pieces import Piece, StripSource, Unstrippable, total_length

_EXIF_FLAG, _XMP_FLAG = 0x08, 0x04
_PIXELS = (b"VP8 ", b"VP8L", b"ALPH")
_FRAME_HEAD_BYTES = 16


def strip_webp(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: the file is broken."""
    end = 8 + int.from_bytes(source.read(4, 4), "little")
    orientation = None
    found: set[bytes] = set()
    for kind, chunk_start, chunk_end in _chunks(source, 12, end):
        found |= {kind} & {b"VP8X", b"EXIF", b"VP8 ", b"VP8L", b"ANMF"}
        if kind == b"EXIF" and b"VP8X" in found and not orientation:
            orientation = read_orientation(source, chunk_start, chunk_end)
    if not found & {b"VP8 ", b"VP8L", b"ANMF"}:
        raise Unstrippable("it has no pixels")
    # The length comes first, so the body is made twice instead of being kept in memory.
    yield b"RIFF" + struct.pack("<I", 4 + total_length(_body(source, end, orientation))) + b"WEBP"
    yield from _body(source, end, orientation)


def _body(source: StripSource, end: int, orientation: int | None) -> Iterator[Piece]:
    for kind, chunk_start, chunk_end in _chunks(source, 12, end):
        if kind == b"VP8X":
            flags = source.read(chunk_start, 1)[0] & ~(_EXIF_FLAG | _XMP_FLAG)
            flags |= _EXIF_FLAG if orientation else 0
            yield struct.pack("<4sIB", kind, 10, flags) + source.read(chunk_start + 1, 9)
        elif kind in (*_PIXELS, b"ICCP", b"ANIM"):
            yield from _chunk(source, kind, chunk_start, chunk_end)
        elif kind == b"ANMF":
            yield kind + struct.pack("<I", total_length(_frame(source, chunk_start, chunk_end)))
            yield from _frame(source, chunk_start, chunk_end)
    if orientation:
        exif = minimal_exif(orientation)
        yield struct.pack("<4sI", b"EXIF", len(exif)) + exif


def _chunks(source: StripSource, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk. The last one may lack its padding byte."""
    source.span(offset, end)
    while offset + 8 <= end:
        kind, length = struct.unpack("<4sI", source.read(offset, 8))
        start = offset + 8
        if start + length > end:
            raise Unstrippable("a chunk extends beyond the end")
        yield kind, start, start + length
        offset = start + length + (length & 1)


def _frame(source: StripSource, start: int, end: int) -> Iterator[Piece]:
    yield source.span(start, start + _FRAME_HEAD_BYTES)
    for kind, chunk_start, chunk_end in _chunks(source, start + _FRAME_HEAD_BYTES, end):
        if kind in _PIXELS:
            yield from _chunk(source, kind, chunk_start, chunk_end)


def _chunk(source: StripSource, kind: bytes, start: int, end: int) -> Iterator[Piece]:
    length = end - start
    yield struct.pack("<4sI", kind, length)
    yield source.span(start, end)
    yield bytes(length & 1)
