"""MP3: keep the frames, and nothing before or after them."""

from __future__ import annotations

from collections.abc import Iterator

from .audio_tags import find_trailing_tags, skip_leading_tags
from .pieces import Piece, StripSource, Unstrippable

_SKIP_BYTES = 4096
_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SAMPLE_RATES = (44100, 48000, 32000)
# The two version bits of a frame's header: what the sample rate is divided by. 1 is reserved.
_DIVISORS = {3: 1, 2: 2, 0: 4}


def strip_mp3(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: something other than frames stands between the tags."""
    end = find_trailing_tags(source)
    offset = start = _skip_zeros(source, skip_leading_tags(source), end)
    while offset + 4 <= end and (length := _frame_bytes(source.read(offset, 4))):
        if offset + length > end:
            break
        offset += length
    if offset == start:
        raise Unstrippable("its audio doesn't start where it should")
    if _skip_zeros(source, offset, end) != end:
        raise Unstrippable("it contains something other than audio")
    yield source.span(start, offset)


def _frame_bytes(head: bytes) -> int:
    """Return the size in bytes of the layer III frame whose header is `head`; 0: it is no such header."""
    version, rate_index, size_index = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or version not in _DIVISORS:
        return 0
    if rate_index == 3 or size_index in (0, 15):
        return 0
    rate = _SAMPLE_RATES[rate_index] // _DIVISORS[version]
    samples, kilobits = (1152, _KILOBITS) if version == 3 else (576, _KILOBITS_V2)
    return samples // 8 * kilobits[size_index] * 1000 // rate + (head[2] >> 1 & 1)


def _skip_zeros(source: StripSource, offset: int, end: int) -> int:
    """Return the offset of the first byte other than zero: tagging programs leave zeros before and after the audio."""
    while offset < end:
        block = source.read(offset, min(_SKIP_BYTES, end - offset))
        rest = len(block.lstrip(b"\0"))
        offset += len(block) - rest
        if rest:
            break
    return offset
