"""WAV: LIST/INFO texts, an `id3 ` chunk, and the duration."""

from __future__ import annotations

import struct

from ..source import BoundedSource
from .facts import FactsBuilder, read_text
from .id3 import read_id3

_MAX_CHUNKS = 512
_NAMES = {b"ICMT": "comment", b"INAM": "title", b"ISBJ": "subject", b"IKEY": "keywords"}


def read_wav(source: BoundedSource, facts: FactsBuilder) -> None:
    offset = 12
    byte_rate = long_data = 0
    for _ in range(_MAX_CHUNKS):
        if offset + 8 > source.size:
            return
        kind, length = struct.unpack("<4sI", source.read_exactly(offset, 8))
        start = offset + 8
        if kind == b"ds64":
            (long_data,) = struct.unpack("<Q", source.read_exactly(start + 8, 8))
        elif kind == b"fmt ":
            (byte_rate,) = struct.unpack("<I", source.read_exactly(start + 8, 4))
        elif kind == b"data":
            length = long_data if length == 0xFFFFFFFF and long_data else length
            if byte_rate:
                facts.set_duration(min(length, source.size - start) / byte_rate)
        elif kind == b"LIST" and source.read(start, 4) == b"INFO":
            _read_info(source, start + 4, start + length, facts)
        elif kind in (b"id3 ", b"ID3 "):
            read_id3(source, start, facts)
        offset = start + length + (length & 1)


def _read_info(source: BoundedSource, offset: int, end: int, facts: FactsBuilder) -> None:
    for _ in range(_MAX_CHUNKS):
        if offset + 8 > min(end, source.size):
            return
        kind, length = struct.unpack("<4sI", source.read_exactly(offset, 8))
        text = read_text(source, offset + 8, min(length, end - offset - 8))
        if kind != b"ISFT":
            facts.add_text(_NAMES.get(kind, kind.decode("latin-1").lower()), text)
        offset += 8 + length + (length & 1)
