"""WAV: keep the format, the samples and their count."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .pieces import Piece, StripSource, Unstrippable, total_length

_KEPT = (b"fmt ", b"fact", b"data")


def strip_wav(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: the file is broken, or longer than 4 GiB (RF64)."""
    if source.read(0, 4) != b"RIFF":
        raise Unstrippable("WAV files of this kind (RF64, BW64) are not supported")
    body: list[Piece] = []
    found: set[bytes] = set()
    end = min(source.size, 8 + int.from_bytes(source.read(4, 4), "little"))
    offset = 12
    while offset + 8 <= end:
        kind, length = struct.unpack("<4sI", source.read(offset, 8))
        start = offset + 8
        if kind in _KEPT and kind not in found:
            found.add(kind)
            body += [struct.pack("<4sI", kind, length), source.span(start, start + length), bytes(length & 1)]
        offset = start + length + (length & 1)
    if not {b"fmt ", b"data"} <= found:
        raise Unstrippable("its format or its samples are missing")
    yield b"RIFF" + struct.pack("<I", 4 + total_length(body)) + b"WAVE"
    yield from body
