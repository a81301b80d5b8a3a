"""Ogg (Vorbis, Opus, FLAC): comments and duration."""

from __future__ import annotations

import struct

from ..source import BoundedSource
from .facts import MAX_TEXT_BYTES, FactsBuilder
from .vorbis import read_comments

_MAX_PAGES = 1024
_TAIL_BYTES = 64 * 1024


def read_ogg(source: BoundedSource, facts: FactsBuilder) -> None:
    """Read the first two packets of the first stream: its head and its comments."""
    packets, serial = _first_packets(source, 2)
    head = packets[0]
    rate, skip = 0, 0
    if head.startswith(b"OpusHead"):
        facts.format, facts.mime_type = "opus", "audio/opus"
        rate, skip = 48000, struct.unpack_from("<H", head, 10)[0]
    elif head.startswith(b"\x01vorbis"):
        rate = struct.unpack_from("<I", head, 12)[0]
    elif head.startswith(b"\x7fFLAC"):
        rate = int.from_bytes(head[27:30], "big") >> 4
    _read_duration(source, serial, rate, skip, facts)
    comments = packets[1]
    for prefix in (b"OpusTags", b"\x03vorbis"):
        if comments.startswith(prefix):
            return read_comments(comments[len(prefix) :], facts)
    if head.startswith(b"\x7fFLAC") and comments[0] & 0x7F == 4:
        read_comments(comments[4:], facts)


def _first_packets(source: BoundedSource, wanted: int) -> tuple[list[bytes], int]:
    packets: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    offset = 0
    first_serial: int | None = None
    for _ in range(_MAX_PAGES):
        head = source.read_exactly(offset, 27)
        if head[:4] != b"OggS":
            raise ValueError("this is no Ogg page")
        (serial,) = struct.unpack_from("<I", head, 14)
        segments = source.read_exactly(offset + 27, head[26])
        start = offset + 27 + len(segments)
        offset = start + sum(segments)
        first_serial = serial if first_serial is None else first_serial
        if serial != first_serial:
            continue
        length = 0
        for segment in segments:
            length += segment
            if segment < 255:
                packets.append(b"".join([*parts, source.read_exactly(start, length)]))
                start, length, size, parts = start + length, 0, 0, []
                if len(packets) == wanted:
                    return packets, first_serial
        size += length
        if size > MAX_TEXT_BYTES:
            break
        parts.append(source.read_exactly(start, length))
    raise ValueError("the comments of this file don't end")


def _read_duration(source: BoundedSource, serial: int, rate: int, skip: int, facts: FactsBuilder) -> None:
    start = max(0, source.size - _TAIL_BYTES)
    tail = source.read(start, _TAIL_BYTES)
    position = len(tail)
    while rate and (position := tail.rfind(b"OggS", 0, position)) >= 0:
        if position + 18 <= len(tail):
            granule, page_serial = struct.unpack_from("<qI", tail, position + 6)
            if page_serial == serial and granule > 0:
                return facts.set_duration((granule - skip) / rate)
