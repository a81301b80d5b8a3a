"""JPEG: keep tables, frames, scans, the orientation, and what the colours need."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

from .orientation import minimal_exif, read_orientation
from .pieces import Piece, StripSource, Unstrippable

_SCAN, _END = 0xDA, 0xD9
_TABLES_AND_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD} - {0xC8})
_SCAN_BLOCK_BYTES = 4096  # small, so that a file of very many empty scans costs little
# Not `\xff+`: a search through many \xff bytes would then take quadratic time.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def strip_jpeg(source: StripSource) -> Iterator[Piece]:
    """Yield the pieces of the copy. It ends with the picture: what follows in the file is left out.

    Unstrippable: the file is broken, or holds an unknown segment.
    """
    yield source.read(0, 2)
    offset = 2
    oriented = False
    while True:
        marker, kind = source.read(offset, 2)
        if marker != 0xFF:
            raise Unstrippable("a segment doesn't start where it should")
        if kind == 0xFF:
            offset += 1
            continue
        if kind == _END:
            yield b"\xff\xd9"
            return
        length = source.number(offset + 2, 2)
        start, end = offset + 4, offset + 2 + length
        if length < 2:
            raise Unstrippable("a segment is too short")
        source.span(offset, end)
        if kind in _TABLES_AND_FRAMES or kind == _SCAN:
            yield source.span(offset, end)
        elif kind == 0xE0 and end - start >= 14 and source.read(start, 5) == b"JFIF\0":
            # A JFIF segment may hold a thumbnail, so keep only the fields before it.
            yield b"\xff\xe0\0\x10" + source.read(start, 12) + b"\0\0"
        elif kind == 0xE1 and not oriented and source.up_to(start, 6) == b"Exif\0\0":
            orientation = read_orientation(source, start, end)
            if orientation:
                oriented = True
                exif = b"Exif\0\0" + minimal_exif(orientation)
                yield b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        elif kind == 0xE2 and source.up_to(start, 12) == b"ICC_PROFILE\0":
            yield source.span(offset, end)
        elif kind == 0xEE and end - start >= 12 and source.read(start, 5) == b"Adobe":
            # It says which colours the components stand for.
            yield b"\xff\xee\0\x0e" + source.read(start, 12)
        elif not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            raise Unstrippable("it holds an unknown segment")
        offset = end
        if kind == _SCAN:
            offset = yield from _scan(source, end)


def _scan(source: StripSource, start: int) -> Generator[Piece, None, int]:
    """Yield the coded pixels up to the next marker, and return the marker's offset."""
    position = start
    while block := source.up_to(position, _SCAN_BLOCK_BYTES):
        found = _MARKER.search(block)
        # A \xff at the end may begin a marker, so read it again with the next block.
        end = found.start() if found else len(block) - block.endswith(b"\xff")
        yield block[:end]
        position += end
        if found:
            return position
        if not end:
            break
    raise Unstrippable("it ends early")
