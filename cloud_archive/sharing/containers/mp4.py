"""MP4 and QuickTime: boxes that players don't need become `free` boxes of zeros, so that every offset stays valid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from .flac import blank_flac_blocks
from .pieces import Piece, StripSource, Unstrippable

_SOUND, _VIDEO = b"soun", b"vide"


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    offset: int
    start: int
    end: int


_Rule = Callable[[StripSource, _Box], Iterator[Piece]]


def strip_mp4(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: the file is broken, or has tracks of text or data."""
    found = False
    for box in _boxes(source, 0, source.size, to_the_end=True):
        found = found or box.kind == b"moov"
        yield from _TOP.get(box.kind, _free)(source, box)
    if not found:
        raise Unstrippable("it describes no video or audio")


def _boxes(source: StripSource, offset: int, end: int, *, to_the_end: bool = False) -> Iterator[_Box]:
    """Yield the boxes between two offsets. `to_the_end`: the last one may have no size."""
    while offset < end:
        # QuickTime may end a list of boxes with four zero bytes.
        if end - offset == 4 and source.number(offset, 4) == 0:
            return
        head = source.read(offset, 8)
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:], offset + 8
        if size == 1:
            size, start = source.number(start, 8), start + 8
        elif size == 0 and to_the_end:
            size = end - offset
        if not start <= offset + size <= end:
            raise Unstrippable("a box extends beyond its parent")
        yield _Box(kind, offset, start, offset + size)
        offset += size


def _keep(source: StripSource, box: _Box) -> Iterator[Piece]:
    yield source.span(box.offset, box.end)


def _free(source: StripSource, box: _Box) -> Iterator[Piece]:
    yield source.read(box.offset, 4) + b"free" + source.read(box.offset + 8, box.start - box.offset - 8)
    yield source.blank(box.start, box.end)


def _filtered(
    source: StripSource, start: int, end: int, rules: Mapping[bytes, _Rule], other: _Rule
) -> Iterator[Piece]:
    for box in _boxes(source, start, end):
        yield from rules.get(box.kind, other)(source, box)
        start = box.end
    yield source.blank(start, end)


def _children(rules: Mapping[bytes, _Rule]) -> _Rule:
    """Return the rule for a box that holds boxes."""

    def rule(source: StripSource, box: _Box) -> Iterator[Piece]:
        yield source.span(box.offset, box.start)
        yield from _filtered(source, box.start, box.end, rules, _free)

    return rule


def _handler(source: StripSource, box: _Box) -> Iterator[Piece]:
    """Blank the handler's name."""
    named = min(box.start + 24, box.end)
    yield source.span(box.offset, named)
    yield source.blank(named, box.end)


def _references(source: StripSource, box: _Box) -> Iterator[Piece]:
    """Blank names of files and volumes. Unstrippable: pictures or audio are in another file."""
    yield source.span(box.offset, box.start + 8)
    for entry in _boxes(source, box.start + 8, box.end):
        if not source.number(entry.start, 4) & 1:
            raise Unstrippable("its pictures or its audio are in another file")
        yield source.span(entry.offset, entry.start + 4)
        yield source.blank(entry.start + 4, entry.end)


def _media(source: StripSource, box: _Box) -> Iterator[Piece]:
    handler = next((child for child in _boxes(source, box.start, box.end) if child.kind == b"hdlr"), None)
    media = source.read(handler.start + 8, 4) if handler else b""
    if media not in (_SOUND, _VIDEO):
        raise Unstrippable("it has a track of text or data beside pictures and audio")
    samples = _children({**dict.fromkeys(_SAMPLE_TABLES, _keep), b"stsd": partial(_descriptions, media)})
    minf = _children({**_MEDIA_INFORMATION, b"stbl": samples})
    yield from _children({b"mdhd": _keep, b"hdlr": _handler, b"minf": minf})(source, box)


def _descriptions(media: bytes, source: StripSource, box: _Box) -> Iterator[Piece]:
    """Keep what decoders need from the sample descriptions; blank the name of the encoder."""
    # In a description box of version 0, audio entries of version 1 and 2 are QuickTime's and have further fields.
    is_version_0 = source.read(box.start, 1) == b"\0"
    yield source.span(box.offset, box.start + 8)
    for entry in _boxes(source, box.start + 8, box.end):
        if media == _VIDEO:
            yield source.span(entry.offset, entry.start + 42)
            yield source.blank(entry.start + 42, entry.start + 74)
            yield source.span(entry.start + 74, entry.start + 78)
            rest = entry.start + 78
        else:
            version = source.number(entry.start + 8, 2)
            rest = entry.start + 28 + ({1: 16, 2: 36}.get(version, 0) if is_version_0 else 0)
            yield source.span(entry.offset, rest)
        yield from _filtered(source, rest, entry.end, _DESCRIPTION_RULES, _keep)


def _flac_description(source: StripSource, box: _Box) -> Iterator[Piece]:
    yield source.span(box.offset, box.start + 4)
    yield from blank_flac_blocks(source, box.start + 4, box.end)


def _refuse_compressed(source: StripSource, box: _Box) -> Iterator[Piece]:
    raise Unstrippable("its description is compressed")


_SAMPLE_TABLES = (
    b"stts ctts cslg stsc stsz stz2 stco co64 stss stsh stps padb stdp sdtp sbgp sgpd subs saiz saio".split()
)
_MEDIA_INFORMATION: dict[bytes, _Rule] = {
    **dict.fromkeys((b"vmhd", b"smhd"), _keep),
    b"hdlr": _handler,
    b"dinf": _children({b"dref": _references}),
}
_DESCRIPTION_RULES: dict[bytes, _Rule] = {
    **dict.fromkeys((b"udta", b"meta", b"uuid", b"free", b"skip", b"name"), _free),
    b"dfLa": _flac_description,
}
_TRACK: dict[bytes, _Rule] = {
    **dict.fromkeys((b"tkhd", b"edts", b"tref", b"tapt"), _keep),
    b"mdia": _media,
}
_TRACK_FRAGMENT = b"tfhd tfdt trun sdtp sbgp sgpd subs saiz saio senc".split()
_TOP: dict[bytes, _Rule] = {
    **dict.fromkeys((b"ftyp", b"styp", b"mdat", b"sidx", b"mfra"), _keep),
    b"moov": _children(
        {
            b"mvhd": _keep,
            b"trak": _children(_TRACK),
            b"mvex": _children(dict.fromkeys((b"mehd", b"trex"), _keep)),
            b"cmov": _refuse_compressed,
        }
    ),
    b"moof": _children({b"mfhd": _keep, b"traf": _children(dict.fromkeys(_TRACK_FRAGMENT, _keep))}),
}
