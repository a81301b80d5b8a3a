"""ID3v2 tags, as MP3 and WAV carry them, and the duration of an MP3."""

from __future__ import annotations

import contextlib
import struct

from ..source import BoundedSource, BytesSource
from .facts import FactsBuilder, decode_text, decode_utf16, inflate, read_text

_MAX_FRAMES = 256
_MAX_NAME_BYTES = 1024
_MAX_DECODED_BYTES = 4 * 1024 * 1024  # of a tag whose frames can be found only after it was decoded
# MPEG audio layer III: kbit/s by index, and samples per second of MPEG-1.
_MPEG1_BIT_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_BIT_RATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SAMPLE_RATES = (44100, 48000, 32000)


def tag_length(head: bytes) -> int:
    """Return the length of the tag that begins with `head` (10 bytes), header and footer included; 0: no tag."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + _syncsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)


def read_id3(source: BoundedSource, start: int, facts: FactsBuilder) -> None:
    """Add the texts of the tag at `start`: TXXX, comments and lyrics."""
    head = source.read_exactly(start, 10)
    version, flags = head[3], head[5]
    end = start + 10 + _syncsafe(head[6:10])
    offset = start + 10
    if version < 4 and flags & 0x80:
        # Sizes count the bytes without unsynchronisation: https://id3.org/id3v2.3.0, "The 'unsynchronisation scheme'"
        tag = _resynchronised(source.read(offset, min(end - offset, _MAX_DECODED_BYTES)))
        source, offset, end = BoundedSource(BytesSource(tag)), 0, len(tag)
    if flags & 0x40 and version >= 3:
        size = source.read_exactly(offset, 4)
        offset += _syncsafe(size) if version == 4 else 4 + int.from_bytes(size, "big")
    for _ in range(_MAX_FRAMES):
        if offset + (6 if version == 2 else 10) > end:
            return
        if version == 2:
            frame = source.read_exactly(offset, 6)
            kind, size_bytes, frame_flags, offset = frame[:3], frame[3:6], 0, offset + 6
            length = int.from_bytes(size_bytes, "big")
        else:
            frame = source.read_exactly(offset, 10)
            kind, frame_flags, offset = frame[:4], frame[9], offset + 10
            length = _syncsafe(frame[4:8]) if version == 4 else int.from_bytes(frame[4:8], "big")
        if not kind.strip(b"\0"):
            return
        if kind in (b"TXXX", b"TXX", b"COMM", b"COM", b"USLT", b"ULT"):
            body = read_text(source, offset, min(length, end - offset))
            _read_frame(kind, _decode_body(body, version, frame_flags, flags), facts)
        offset += length


def _decode_body(body: bytes, version: int, frame_flags: int, tag_flags: int) -> bytes:
    if version == 4 and frame_flags & 0x01:
        body = body[4:]
    if version == 4 and (tag_flags & 0x80 or frame_flags & 0x02):
        body = _resynchronised(body)
    if version == 4 and frame_flags & 0x08:
        body = inflate(body)
    elif version == 3 and frame_flags & 0x80:
        body = inflate(body[4:])
    return body


def _resynchronised(data: bytes) -> bytes:
    """Drop the zero byte after each 0xff, which keeps a tag from looking like audio."""
    return data.replace(b"\xff\0", b"\xff")


def _read_frame(kind: bytes, body: bytes, facts: FactsBuilder) -> None:
    encoding, body = body[0], body[1:]
    if kind[:1] != b"T":
        body = body[3:]
    if encoding in (1, 2):
        places = range(0, min(len(body), _MAX_NAME_BYTES), 2)
        middle = next((place for place in places if body[place : place + 2] == b"\0\0"), len(body))
        order = "utf-16-be" if encoding == 2 or body[:2] == b"\xfe\xff" else "utf-16-le"
        name = decode_utf16(body[:middle], order)
        text = decode_utf16(body[middle + 2 :], order)
    else:
        raw_name, _, raw_text = body.partition(b"\0")
        name, text = decode_text(raw_name), decode_text(raw_text)
    if kind[:1] != b"T":
        name = "lyrics" if kind[:1] == b"U" else "comment"
    facts.add_text(name, text)


def read_mp3(source: BoundedSource, facts: FactsBuilder) -> None:
    start = tag_length(source.read(0, 10))
    with contextlib.suppress(ValueError, IndexError, struct.error):
        _read_duration(source, start, facts)
    if start:
        read_id3(source, 0, facts)


def _read_duration(source: BoundedSource, start: int, facts: FactsBuilder) -> None:
    head = source.read_exactly(start, 4)
    if head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return
    version = head[1] >> 3 & 3
    rate = _SAMPLE_RATES[head[2] >> 2 & 3] >> {3: 0, 2: 1, 0: 2}.get(version, 0)
    samples_per_frame = 1152 if version == 3 else 576
    body = source.read(start + 4, 64)
    for vbr_header in (b"Xing", b"Info"):
        position = body.find(vbr_header)
        if position >= 0 and body[position + 7] & 1:
            return facts.set_duration(
                int.from_bytes(body[position + 8 : position + 12], "big") * samples_per_frame / rate
            )
    bit_rate = (_MPEG1_BIT_RATES if version == 3 else _MPEG2_BIT_RATES)[head[2] >> 4] * 1000
    if bit_rate:
        facts.set_duration((source.size - start) * 8 / bit_rate)


def _syncsafe(data: bytes) -> int:
    return (data[0] & 127) << 21 | (data[1] & 127) << 14 | (data[2] & 127) << 7 | data[3] & 127
