"""FLAC: Vorbis comments and duration."""

from __future__ import annotations

from ..source import BoundedSource
from .facts import FactsBuilder, read_text
from .vorbis import read_comments

_MAX_BLOCKS = 128


def read_flac(source: BoundedSource, facts: FactsBuilder, start: int = 0) -> None:
    """Walk the metadata blocks before the audio. `start`: where `fLaC` stands, behind an ID3 tag for instance."""
    offset = start + 4
    for _ in range(_MAX_BLOCKS):
        head = source.read_exactly(offset, 4)
        length = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == 0:
            _read_stream_info(source.read_exactly(offset + 4, 18), facts)
        elif head[0] & 0x7F == 4:
            read_comments(read_text(source, offset + 4, length), facts)
        if head[0] & 0x80:
            return
        offset += 4 + length


def _read_stream_info(data: bytes, facts: FactsBuilder) -> None:
    rate = int.from_bytes(data[10:13], "big") >> 4
    samples = int.from_bytes(data[13:18], "big") & (1 << 36) - 1
    if rate:
        facts.set_duration(samples / rate)
