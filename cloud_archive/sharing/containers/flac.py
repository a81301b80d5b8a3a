"""FLAC: keep STREAMINFO, the seek table and the audio."""

from __future__ import annotations

from collections.abc import Iterator

from .audio_tags import find_trailing_tags, skip_leading_tags
from .pieces import Piece, StripSource, Unstrippable

STREAM_INFO, PADDING, SEEK_TABLE = 0, 1, 3
_MAX_BLOCKS = 4096


def flac_blocks(source: StripSource, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of each metadata block (without its header of 4 bytes), up to the last one."""
    for _ in range(_MAX_BLOCKS):
        head = source.read(offset, 4)
        start = offset + 4
        offset = start + int.from_bytes(head[1:], "big")
        if offset > end:
            raise Unstrippable("a metadata block extends beyond the end")
        yield head[0] & 0x7F, start, offset
        if head[0] & 0x80:
            return
    raise Unstrippable("it has too many metadata blocks")


def strip_flac(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: the file is broken."""
    start, end = skip_leading_tags(source), find_trailing_tags(source)
    if source.read(start, 4) != b"fLaC":
        raise Unstrippable("its audio doesn't start where it should")
    kept: dict[int, tuple[int, int]] = {}
    audio = start + 4
    for kind, block_start, block_end in flac_blocks(source, start + 4, end):
        if kind in (STREAM_INFO, SEEK_TABLE):
            kept.setdefault(kind, (block_start, block_end))
        audio = block_end
    if STREAM_INFO not in kept:
        raise Unstrippable("its STREAMINFO block is missing")
    if audio != end and source.read(audio, 2) not in (b"\xff\xf8", b"\xff\xf9"):
        raise Unstrippable("its audio doesn't start where it should")
    yield b"fLaC"
    for index, (kind, (block_start, block_end)) in enumerate(sorted(kept.items())):
        last = 0x80 if index == len(kept) - 1 else 0
        yield bytes([kind | last]) + (block_end - block_start).to_bytes(3, "big")
        yield source.span(block_start, block_end)
    yield source.span(audio, end)


def blank_flac_blocks(source: StripSource, start: int, end: int) -> Iterator[Piece]:
    """Yield metadata blocks that are inside another container: those not kept become padding of the same size."""
    last_end = start
    for kind, block_start, block_end in flac_blocks(source, start, end):
        if kind in (STREAM_INFO, SEEK_TABLE):
            yield source.span(block_start - 4, block_end)
        else:
            head = source.read(block_start - 4, 4)
            yield bytes([head[0] & 0x80 | PADDING]) + head[1:]
            yield source.blank(block_start, block_end)
        last_end = block_end
    yield source.blank(last_end, end)
