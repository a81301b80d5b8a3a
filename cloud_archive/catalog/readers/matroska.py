"""Matroska and WebM: tags, duration and size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..source import BoundedSource
from .facts import FactsBuilder, read_text

# The ids of https://www.rfc-editor.org/rfc/rfc9559#section-5
_EBML, _DOC_TYPE, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x4282, 0x18538067, 0x1F43B675
_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_INFO, _TIMESTAMP_SCALE, _DURATION = 0x1549A966, 0x2AD7B1, 0x4489
_TRACKS, _TRACK_ENTRY, _VIDEO, _WIDTH, _HEIGHT = 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA
_TAGS, _TAG, _SIMPLE_TAG, _TAG_NAME, _TAG_STRING = 0x1254C367, 0x7373, 0x67C8, 0x45A3, 0x4487
_MAX_ELEMENTS = 4096
_MAX_DEPTH = 6


class _Element(NamedTuple):
    kind: int
    start: int
    end: int


def _number(source: BoundedSource, offset: int, keep_marker: bool) -> tuple[int, int]:
    """Return an EBML number and how many bytes it takes. `keep_marker`: for an id; else -1 means an unknown size."""
    first = source.read_exactly(offset, 1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise ValueError("this is no EBML number")
    value = int.from_bytes(source.read_exactly(offset, length), "big")
    if keep_marker:
        return value, length
    value &= (1 << 7 * length) - 1
    return (-1 if value == (1 << 7 * length) - 1 else value), length


def _elements(source: BoundedSource, offset: int, end: int) -> Iterator[_Element]:
    for _ in range(_MAX_ELEMENTS):
        if offset + 2 > end:
            return
        kind, kind_length = _number(source, offset, True)
        size, size_length = _number(source, offset + kind_length, False)
        start = offset + kind_length + size_length
        stop = end if size < 0 else min(start + size, end)
        yield _Element(kind, start, stop)
        offset = stop


def read_matroska(source: BoundedSource, facts: FactsBuilder) -> None:
    """Read the elements before the first cluster, then those behind it whose positions the seek head gives."""
    for element in _elements(source, 0, source.size):
        if element.kind == _SEGMENT:
            return _read_segment(source, element, facts)
        if element.kind == _EBML:
            for part in _elements(source, element.start, element.end):
                if part.kind == _DOC_TYPE and source.read(part.start, 4) == b"webm":
                    facts.format, facts.mime_type = "webm", "video/webm"


def _read_segment(source: BoundedSource, segment: _Element, facts: FactsBuilder) -> None:
    positions: dict[int, int] = {}
    seen: set[int] = set()
    for element in _elements(source, segment.start, segment.end):
        if element.kind == _CLUSTER:
            break
        seen.add(element.kind)
        if element.kind == _SEEK_HEAD:
            positions.update(_read_seek_head(source, element))
        else:
            _read_part(source, element, facts)
    for kind in (_INFO, _TRACKS, _TAGS):
        if kind in positions and kind not in seen:
            for element in _elements(source, segment.start + positions[kind], segment.end):
                _read_part(source, element, facts)
                break


def _read_seek_head(source: BoundedSource, head: _Element) -> Iterator[tuple[int, int]]:
    for seek in _elements(source, head.start, head.end):
        if seek.kind == _SEEK:
            values = {part.kind: _integer(source, part) for part in _elements(source, seek.start, seek.end)}
            if _SEEK_ID in values and _SEEK_POSITION in values:
                yield values[_SEEK_ID], values[_SEEK_POSITION]


def _read_part(source: BoundedSource, element: _Element, facts: FactsBuilder) -> None:
    if element.kind == _INFO:
        _read_info(source, element, facts)
    elif element.kind == _TRACKS:
        _read_tracks(source, element, facts, 0)
    elif element.kind == _TAGS:
        for tag in _elements(source, element.start, element.end):
            if tag.kind == _TAG:
                for simple in _elements(source, tag.start, tag.end):
                    if simple.kind == _SIMPLE_TAG:
                        _read_simple_tag(source, simple, facts)


def _read_info(source: BoundedSource, info: _Element, facts: FactsBuilder) -> None:
    scale, duration = 1_000_000, 0.0
    for part in _elements(source, info.start, info.end):
        if part.kind == _TIMESTAMP_SCALE:
            scale = _integer(source, part)
        elif part.kind == _DURATION:
            data = source.read_exactly(part.start, part.end - part.start if part.end - part.start <= 8 else 0)
            duration = struct.unpack(">f" if len(data) == 4 else ">d", data)[0]
    facts.set_duration(duration * scale / 1e9)


def _read_tracks(source: BoundedSource, parent: _Element, facts: FactsBuilder, depth: int) -> None:
    size: dict[int, int] = {}
    for part in _elements(source, parent.start, parent.end):
        if part.kind in (_TRACK_ENTRY, _VIDEO) and depth < _MAX_DEPTH:
            _read_tracks(source, part, facts, depth + 1)
        elif part.kind in (_WIDTH, _HEIGHT):
            size[part.kind] = _integer(source, part)
    if len(size) == 2 and facts.width is None:
        facts.set_size(size[_WIDTH], size[_HEIGHT])


def _read_simple_tag(source: BoundedSource, tag: _Element, facts: FactsBuilder) -> None:
    name, text = b"", b""
    for part in _elements(source, tag.start, tag.end):
        if part.kind == _TAG_NAME:
            name = source.read_exactly(part.start, min(part.end - part.start, 200))
        elif part.kind == _TAG_STRING:
            text = read_text(source, part.start, part.end - part.start)
    if name.upper() not in (b"DURATION", b"ENCODER"):
        facts.add_text(name.decode("utf-8", "replace"), text)


def _integer(source: BoundedSource, element: _Element) -> int:
    return int.from_bytes(source.read_exactly(element.start, min(element.end - element.start, 8)), "big")
