"""Matroska and WebM: elements that players don't need become Void elements, so that every position stays valid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .flac import blank_flac_blocks
from .pieces import Piece, StripSource, Unstrippable, Zeros

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_SEEK, _SEEK_ID = 0x4DBB, 0x53AB
_TRACK_TYPE, _CODEC_ID, _CODEC_PRIVATE = 0x83, 0x86, 0x63A2
_VIDEO, _SOUND = 1, 2
_MAX_PRIVATE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    offset: int
    start: int
    end: int


_Rule = Callable[[StripSource, _Element], Iterator[Piece]]


def strip_matroska(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: the file is broken, or has tracks of text or data."""
    for element in _elements(source, 0, source.size):
        if element.kind == _EBML:
            yield from _children(_HEAD_RULES)(source, element)
        elif element.kind == _SEGMENT:
            yield source.span(element.offset, element.start)
            yield from _filtered(source, element.start, element.end, _SEGMENT_RULES)
            return
        else:
            yield from _void(source, element)
    raise Unstrippable("it has no segment")


def _elements(source: StripSource, offset: int, end: int) -> Iterator[_Element]:
    """Yield the elements between two offsets. Only segments and clusters may have no size."""
    while offset < end:
        kind, start = _number(source, offset, end, keep_marker=True)
        size, start = _number(source, start, end, keep_marker=False)
        if size < 0:
            if kind not in (_SEGMENT, _CLUSTER):
                raise Unstrippable("an element has no size")
            # The elements of a cluster without a size are read as if they followed it.
            stop = end if kind == _SEGMENT else start
        else:
            stop = start + size
        if stop > end:
            raise Unstrippable("an element extends beyond its parent")
        yield _Element(kind, offset, start, stop)
        offset = stop


def _number(source: StripSource, offset: int, end: int, *, keep_marker: bool) -> tuple[int, int]:
    """Return an EBML number and where it ends; -1 stands for an unknown size."""
    first = source.read(offset, 1)[0]
    length = 9 - first.bit_length()
    if length > (4 if keep_marker else 8) or offset + length > end:
        raise Unstrippable("a number is broken")
    value = source.number(offset, length)
    if not keep_marker:
        unknown = (1 << 7 * length) - 1
        value &= unknown
        value = -1 if value == unknown else value
    return value, offset + length


def _filtered(source: StripSource, start: int, end: int, rules: Mapping[int, _Rule]) -> Iterator[Piece]:
    for element in _elements(source, start, end):
        yield from rules.get(element.kind, _void)(source, element)


def _keep(source: StripSource, element: _Element) -> Iterator[Piece]:
    yield source.span(element.offset, element.end)


def _void(source: StripSource, element: _Element) -> Iterator[Piece]:
    length = element.end - element.offset
    if length - 2 < 127:
        yield bytes([0xEC, 0x80 | length - 2])
        yield Zeros(length - 2)
    else:
        yield b"\xec\x01" + (length - 9).to_bytes(7, "big")
        yield Zeros(length - 9)


def _blank(source: StripSource, element: _Element) -> Iterator[Piece]:
    """Keep an element that the format requires, with zeros in place of its text."""
    yield source.span(element.offset, element.start)
    yield source.blank(element.start, element.end)


def _children(rules: Mapping[int, _Rule]) -> _Rule:
    """Return the rule for an element that holds elements."""

    def rule(source: StripSource, element: _Element) -> Iterator[Piece]:
        yield source.span(element.offset, element.start)
        yield from _filtered(source, element.start, element.end, rules)

    return rule


def _seek(source: StripSource, element: _Element) -> Iterator[Piece]:
    """Keep a pointer to an element that is kept; drop every other one."""
    kept = False
    for part in _elements(source, element.start, element.end):
        if part.kind == _SEEK_ID:
            kept = source.number(part.start, min(part.end - part.start, 8)) in _SEGMENT_RULES
    yield from (_keep if kept else _void)(source, element)


def _track(source: StripSource, track: _Element) -> Iterator[Piece]:
    values = {
        part.kind: source.read(part.start, min(part.end - part.start, 64))
        for part in _elements(source, track.start, track.end)
        if part.kind in (_TRACK_TYPE, _CODEC_ID)
    }
    if int.from_bytes(values.get(_TRACK_TYPE, b""), "big") not in (_VIDEO, _SOUND):
        raise Unstrippable("it has a track of text or data beside pictures and audio")
    codec = values.get(_CODEC_ID, b"").rstrip(b"\0")
    private = {b"A_VORBIS": _vorbis_private, b"A_FLAC": _flac_private, b"V_THEORA": _refuse_theora}
    rules = {**_TRACK_RULES, 0x41E4: _MAPPING, _CODEC_PRIVATE: private.get(codec, _keep)}
    yield from _children(rules)(source, track)


def _vorbis_private(source: StripSource, element: _Element) -> Iterator[Piece]:
    """Blank the comments among Vorbis' three header packets (Xiph lacing), keeping their length."""
    head = source.read(element.start, min(element.end - element.start, _MAX_PRIVATE_BYTES))
    offset, lengths = 1, []
    for _ in range(2):
        length = 0
        while offset < len(head) and head[offset] == 255:
            length, offset = length + 255, offset + 1
        length, offset = length + (head[offset] if offset < len(head) else 0), offset + 1
        lengths.append(length)
    comments = element.start + offset + lengths[0]
    setup = comments + lengths[1]
    empty = b"\x03vorbis" + bytes(8) + b"\1"
    if head[:1] != b"\2" or lengths[1] < len(empty) or source.read(comments, 7) != empty[:7]:
        raise Unstrippable("the header of its audio is broken")
    yield source.span(element.offset, comments)
    yield empty
    yield source.blank(comments + len(empty), setup)
    yield source.span(setup, element.end)


def _flac_private(source: StripSource, element: _Element) -> Iterator[Piece]:
    if source.read(element.start, 4) != b"fLaC":
        raise Unstrippable("the header of its audio is broken")
    yield source.span(element.offset, element.start + 4)
    yield from blank_flac_blocks(source, element.start + 4, element.end)


def _refuse_theora(source: StripSource, element: _Element) -> Iterator[Piece]:
    raise Unstrippable("the codec Theora is not supported")


def _kept(kinds: str) -> dict[int, _Rule]:
    return dict.fromkeys((int(kind, 16) for kind in kinds.split()), _keep)


# EBMLVersion, EBMLReadVersion, EBMLMaxIDLength, EBMLMaxSizeLength, DocType and its two versions.
_HEAD_RULES = _kept("4286 42F7 42F2 42F3 4282 4287 4285")
# Track numbers, type, flags, durations, language, codec id, delays, video, audio, operation, encodings.
_TRACK_RULES = _kept(
    "D7 73C5 83 B9 88 55AA 9C 6DE7 6DF8 23E383 234E7A 23314F 55EE 22B59C 86 AA 56AA 56BB E0 E1 E2 6FAB 6D80"
)
# BlockAddIDValue, BlockAddIDType, BlockAddIDExtraData.
_MAPPING = _children(_kept("41F0 41E7 41ED"))
# Timestamp, position, previous size, SimpleBlock, EncryptedBlock; in groups: block, additions, duration, references.
_CLUSTER_RULES: dict[int, _Rule] = {
    **_kept("E7 A7 AB A3 AF"),
    0xA0: _children(_kept("A1 75A1 9B FA FB A4 75A2 8E")),
}
_SEGMENT_RULES: dict[int, _Rule] = {
    **_CLUSTER_RULES,
    _CLUSTER: _children(_CLUSTER_RULES),
    0x1C53BB6B: _keep,  # Cues
    0x114D9B74: _children({_SEEK: _seek}),
    # TimestampScale and Duration; the format requires the names of the writing programs.
    0x1549A966: _children({**_kept("2AD7B1 4489"), 0x4D80: _blank, 0x5741: _blank}),
    0x1654AE6B: _children({0xAE: _track}),
}
