"""MP4 and QuickTime: metadata keys (`mdta`), `udta` texts, duration and size. `moov` may be anywhere."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from ..source import BoundedSource
from .facts import FactsBuilder, decode_utf16, read_text
from .xmp import read_xmp

_MAX_BOXES = 4096
_MAX_KEYS = 256
_CONTAINERS = (b"moov", b"trak", b"mdia", b"mvex")
_TEXT_BOXES = {
    b"\xa9cmt": "comment",
    b"\xa9des": "description",
    b"desc": "description",
    b"ldes": "description",
    b"\xa9nam": "title",
    b"\xa9inf": "information",
    b"cprt": "copyright",
}


class Box(NamedTuple):
    """One box: its kind, where its payload starts, and where it ends."""

    kind: bytes
    start: int
    end: int


def boxes(source: BoundedSource, offset: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two offsets, up to `_MAX_BOXES`. A box of size zero reaches to `end`."""
    for _ in range(_MAX_BOXES):
        if offset + 8 > end:
            return
        size, kind = struct.unpack(">I4s", source.read_exactly(offset, 8))
        start = offset + 8
        if size == 1:
            (size,) = struct.unpack(">Q", source.read_exactly(start, 8))
            start += 8
        elif size == 0:
            size = end - offset
        if size < start - offset:
            return
        yield Box(kind, start, min(offset + size, end))
        offset += size


class _Movie:
    """What `mvhd` says and `mehd` needs: the ticks in a second."""

    def __init__(self) -> None:
        self.timescale = 0


def read_mp4(source: BoundedSource, facts: FactsBuilder) -> None:
    """Walk the top level up to `moov`, then down into it."""
    movie = _Movie()
    for box in boxes(source, 0, source.size):
        if box.kind == b"moov":
            return _read_container(source, box, facts, movie)
        if box.kind == b"udta":
            _read_container(source, box, facts, movie)


def _read_container(source: BoundedSource, container: Box, facts: FactsBuilder, movie: _Movie) -> None:
    # Texts are read last, because a text that is over a limit ends the reading of the file.
    texts = []
    for box in boxes(source, container.start, container.end):
        if box.kind in (b"udta", b"meta"):
            texts.append(box)
        elif box.kind in _CONTAINERS:
            _read_container(source, box, facts, movie)
        elif container.kind == b"udta":
            _read_user_text(source, box, facts)
        else:
            _read_header(source, box, facts, movie)
    for box in texts:
        if box.kind == b"udta":
            _read_container(source, box, facts, movie)
        else:
            _read_meta(source, box, facts)


def _read_header(source: BoundedSource, box: Box, facts: FactsBuilder, movie: _Movie) -> None:
    if box.kind in (b"mvhd", b"mehd"):
        is_64_bit = source.read_exactly(box.start, 1)[0] == 1
        if box.kind == b"mvhd":
            layout, position = (">IQ", 20) if is_64_bit else (">II", 12)
            movie.timescale, ticks = struct.unpack(
                layout, source.read_exactly(box.start + position, struct.calcsize(layout))
            )
        else:
            layout = ">Q" if is_64_bit else ">I"
            (ticks,) = struct.unpack(layout, source.read_exactly(box.start + 4, struct.calcsize(layout)))
        if movie.timescale:
            facts.set_duration(ticks / movie.timescale)
    elif box.kind == b"tkhd":
        width, height = struct.unpack(">II", source.read_exactly(box.end - 8, 8))
        if facts.width is None:
            facts.set_size(width >> 16, height >> 16)


def _read_meta(source: BoundedSource, meta: Box, facts: FactsBuilder) -> None:
    # QuickTime's `meta` has no version field; ISO's has four bytes before its first box.
    start = meta.start if source.read(meta.start + 4, 4) == b"hdlr" else meta.start + 4
    keys: list[str] = []
    for box in boxes(source, start, meta.end):
        if box.kind == b"keys":
            keys = _read_keys(source, box)
        elif box.kind == b"ilst":
            _read_items(source, box, keys, facts)


def _read_keys(source: BoundedSource, box: Box) -> list[str]:
    return [
        source.read_exactly(key.start, min(key.end - key.start, 200)).decode("utf-8", "replace")
        for key in islice(boxes(source, box.start + 8, box.end), _MAX_KEYS)
    ]


def _read_items(source: BoundedSource, items: Box, keys: list[str], facts: FactsBuilder) -> None:
    for item in boxes(source, items.start, items.end):
        number = int.from_bytes(item.kind, "big")
        name = keys[number - 1] if 0 < number <= len(keys) else _TEXT_BOXES.get(item.kind)
        for box in boxes(source, item.start, item.end):
            if box.kind == b"name":
                name = source.read_exactly(box.start + 4, min(box.end - box.start - 4, 200)).decode(
                    "utf-8", "replace"
                )
            elif box.kind == b"data" and name:
                (data_type,) = struct.unpack(">I", source.read_exactly(box.start, 4))
                if data_type in (0, 1, 2):  # unspecified, UTF-8, UTF-16
                    data = read_text(source, box.start + 8, box.end - box.start - 8)
                    facts.add_text(
                        name.rpartition(".")[2], decode_utf16(data, "utf-16-be") if data_type == 2 else data
                    )


def _read_user_text(source: BoundedSource, box: Box, facts: FactsBuilder) -> None:
    if box.kind == b"XMP_":
        read_xmp(read_text(source, box.start, box.end - box.start).decode("utf-8", "replace"), facts)
    elif box.kind[:1] == b"\xa9" and box.end - box.start > 4:
        # QuickTime has a 16-bit length and a 16-bit language before the text. 3GPP has four zero bytes there.
        (length,) = struct.unpack(">H", source.read_exactly(box.start, 2))
        room = box.end - box.start - 4
        if length == room & 0xFFFF:  # ffmpeg cuts off the upper bits of a longer text's length
            length = room
        name = _TEXT_BOXES.get(box.kind, box.kind[1:].decode("latin-1"))
        facts.add_text(name, read_text(source, box.start + 4, min(length or room, room)))
