"""Find the tags before and after the audio of FLAC and MP3 files: ID3, APE and Lyrics3."""

from __future__ import annotations

from ...catalog.readers.id3 import tag_length
from .pieces import StripSource, Unstrippable

_MAX_TAGS = 16
_APE_HEAD_BYTES = 32


def skip_leading_tags(source: StripSource) -> int:
    """Return the offset of the audio: the end of the tags at the start of the file."""
    offset = 0
    for _ in range(_MAX_TAGS):
        head = source.up_to(offset, _APE_HEAD_BYTES)
        length = tag_length(head)
        if head[:8] == b"APETAGEX" and len(head) == _APE_HEAD_BYTES:
            length = _APE_HEAD_BYTES + int.from_bytes(head[12:16], "little")
        if not length:
            return offset
        offset += length
    raise Unstrippable("it has too many tags")


def find_trailing_tags(source: StripSource) -> int:
    """Return the end of the audio: the offset of the first of the tags at the end of the file."""
    end = source.size
    for _ in range(_MAX_TAGS):
        length = _trailing_tag_length(source, end)
        if not length:
            return end
        end -= length
        if end < 0:
            raise Unstrippable("a tag is longer than the file")
    raise Unstrippable("it has too many tags")


def _trailing_tag_length(source: StripSource, end: int) -> int:
    """Return the length of the tag that ends at `end`; 0: there is none."""
    if end >= 128 and source.read(end - 128, 3) == b"TAG":
        return 355 if end >= 355 and source.read(end - 355, 4) == b"TAG+" else 128
    tail = source.read(max(0, end - 32), min(32, end))
    if len(tail) == 32 and tail[:8] == b"APETAGEX":
        has_head = tail[23] & 0x80
        return int.from_bytes(tail[12:16], "little") + (_APE_HEAD_BYTES if has_head else 0)
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    if tail[-9:] == b"LYRICSEND":
        lyrics = source.read(max(0, end - 5120), min(5120, end))
        return len(lyrics) - lyrics.rfind(b"LYRICSBEGIN") if b"LYRICSBEGIN" in lyrics else 0
    if tail[-10:-7] == b"3DI":
        return 10 + tag_length(b"ID3" + tail[-7:-5] + b"\0" + tail[-4:])
    return 0
