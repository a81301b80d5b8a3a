"""PNG and animated PNG: keep the chunks that decoding and colours need."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from ...catalog.readers.png import SIGNATURE
from .orientation import minimal_exif, read_orientation
from .pieces import Piece, Span, StripSource, Unstrippable

_KEPT = frozenset(
    b"IHDR PLTE IDAT tRNS cHRM gAMA iCCP sRGB sBIT cICP mDCV mDCv cLLI cLLi bKGD hIST pHYs acTL fcTL fdAT".split()
)


def strip_png(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: the file is broken, or an unknown chunk may be needed to decode it."""
    yield SIGNATURE
    offset = len(SIGNATURE)
    oriented = False
    while True:
        length, kind = struct.unpack(">I4s", source.read(offset, 8))
        if (kind == b"IHDR") != (offset == len(SIGNATURE)):
            raise Unstrippable("its header is not its first chunk")
        if kind == b"IEND":
            yield _chunk(b"IEND", b"")
            return
        if kind in _KEPT:
            yield from _kept(source, offset, length)
        elif kind == b"eXIf":
            orientation = read_orientation(source, offset + 8, offset + 8 + length)
            if orientation and not oriented:
                oriented = True
                yield _chunk(b"eXIf", minimal_exif(orientation))
        elif not kind[0] & 0x20:
            raise Unstrippable("it holds an unknown chunk that may be needed to decode it")
        offset += 12 + length


def _kept(source: StripSource, offset: int, length: int) -> Iterator[Piece]:
    """Yield one chunk unchanged. It is read once, and its checksum is compared meanwhile."""
    source.span(offset, offset + length + 12)
    checksum = 0
    yield source.read(offset, 4)
    for block in source.blocks(Span(offset + 4, length + 4)):
        checksum = zlib.crc32(block, checksum)
        yield block
    if source.number(offset + 8 + length, 4) != checksum:
        raise Unstrippable("a checksum in it is wrong")
    yield checksum.to_bytes(4, "big")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
