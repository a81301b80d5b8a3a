"""GIF: keep pictures, timing, the loop count and the colour profile."""

from __future__ import annotations

from collections.abc import Iterator

from .pieces import Piece, StripSource, Unstrippable

_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_PROFILE = b"ICCRGBG1012"


def strip_gif(source: StripSource) -> Iterator[Piece]:
    """Yield the copy up to the trailer. Unstrippable: the file is broken."""
    offset = 13 + _table_bytes(source.read(10, 1)[0])
    yield source.span(0, offset)
    while True:
        start = offset
        introducer = source.read(offset, 1)[0]
        if introducer == 0x3B:
            yield b"\x3b"
            return
        if introducer == 0x2C:
            offset = _skip_blocks(source, offset + 11 + _table_bytes(source.read(offset + 9, 1)[0]))
            yield source.span(start, offset)
            continue
        if introducer != 0x21:
            raise Unstrippable("it holds an unknown block")
        label = source.read(offset + 1, 1)[0]
        offset = _skip_blocks(source, offset + 2)
        if label == 0xF9:
            if offset - start != 8:
                raise Unstrippable("the timing of a frame is broken")
            yield source.span(start, offset)
        elif label == 0xFF:
            yield from _application(source, start, offset)


def _application(source: StripSource, start: int, end: int) -> Iterator[Piece]:
    """Yield the loop count or the colour profile; every other application's block is dropped."""
    head = source.read(start, 14) if end - start >= 14 else b""
    if head[2:3] != b"\x0b":
        return
    if head[3:] == _PROFILE:
        yield source.span(start, end)
    elif head[3:] in _LOOPS and end - start >= 19:
        loop = source.read(start + 14, 4)
        if loop[:2] == b"\x03\x01":
            yield head + loop + b"\0"


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_blocks(source: StripSource, offset: int) -> int:
    while length := source.read(offset, 1)[0]:
        offset += 1 + length
    return offset + 1
