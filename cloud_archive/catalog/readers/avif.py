"""AVIF and HEIF: EXIF and XMP items, and the size of the picture."""

from __future__ import annotations

import struct
from itertools import islice

from ..source import BoundedSource
from .exif import read_exif
from .facts import FactsBuilder, decode_text, read_text
from .mp4 import Box, boxes
from .xmp import read_xmp

_MAX_ITEMS = 256


def read_avif(source: BoundedSource, facts: FactsBuilder) -> None:
    for box in boxes(source, 0, source.size):
        if box.kind == b"meta":
            _read_meta(source, box, facts)
            return


def _read_meta(source: BoundedSource, meta: Box, facts: FactsBuilder) -> None:
    kinds: dict[int, bytes] = {}
    places: dict[int, tuple[int, int]] = {}
    for box in boxes(source, meta.start + 4, meta.end):
        if box.kind == b"iinf":
            kinds = _item_kinds(source, box)
        elif box.kind == b"iloc":
            places = _item_places(read_text(source, box.start, box.end - box.start))
        elif box.kind == b"iprp":
            _read_size(source, box, facts)
    for item, kind in kinds.items():
        if kind not in (b"Exif", b"mime") or item not in places:
            continue
        data = read_text(source, *places[item])
        if kind == b"Exif":
            read_exif(data[4 + int.from_bytes(data[:4], "big") :], facts)
        else:
            read_xmp(decode_text(data), facts)


def _item_kinds(source: BoundedSource, box: Box) -> dict[int, bytes]:
    wide = source.read_exactly(box.start, 1)[0] > 0
    kinds = {}
    for entry in islice(boxes(source, box.start + (8 if wide else 6), box.end), _MAX_ITEMS):
        head = source.read(entry.start, 14)
        if head[0] == 2:
            kinds[int.from_bytes(head[4:6], "big")] = head[8:12]
        elif head[0] == 3:
            kinds[int.from_bytes(head[4:8], "big")] = head[10:14]
    return kinds


def _item_places(data: bytes) -> dict[int, tuple[int, int]]:
    """Return (offset, length) of each item's first extent, from the data of an `iloc` box.

    Items whose offsets don't count from the file's start (construction methods 1 and 2) are left out.
    """
    version = data[0]
    offset_size, length_size, base_size, index_size = data[4] >> 4, data[4] & 15, data[5] >> 4, data[5] & 15
    count = int.from_bytes(data[6 : 8 if version < 2 else 10], "big")
    at = 8 if version < 2 else 10

    def take(size: int) -> int:
        nonlocal at
        if at + size > len(data):
            raise ValueError("the item list ends early")
        at += size
        return int.from_bytes(data[at - size : at], "big")

    places: dict[int, tuple[int, int]] = {}
    for _ in range(min(count, _MAX_ITEMS)):
        item = take(2 if version < 2 else 4)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size)
        for index in range(min(take(2), _MAX_ITEMS)):
            if version and index_size:
                take(index_size)
            offset, length = take(offset_size), take(length_size)
            if index == 0 and method == 0:
                places[item] = (base + offset, length)
    return places


def _read_size(source: BoundedSource, properties: Box, facts: FactsBuilder) -> None:
    """Keep the largest size: tiles and thumbnails have sizes, too."""
    for container in boxes(source, properties.start, properties.end):
        if container.kind != b"ipco":
            continue
        for box in islice(boxes(source, container.start, container.end), _MAX_ITEMS):
            if box.kind == b"ispe":
                width, height = struct.unpack(">II", source.read_exactly(box.start + 4, 8))
                if width * height > (facts.width or 0) * (facts.height or 0):
                    facts.set_size(width, height)
