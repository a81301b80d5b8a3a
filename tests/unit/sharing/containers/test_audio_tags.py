"""Where the audio of a FLAC or MP3 file begins and ends between tags."""

from __future__ import annotations

import struct

import pytest

from cloud_archive.catalog.source import BytesSource
from cloud_archive.sharing.containers.audio_tags import find_trailing_tags, skip_leading_tags
from cloud_archive.sharing.containers.pieces import StripSource, Unstrippable

AUDIO = b"\xff\xfb" + bytes(6000)
ID3 = b"ID3\4\0\0\0\0\0\5title"
ID3_WITH_FOOTER = b"ID3\4\0\x10\0\0\0\5title3DI\4\0\x10\0\0\0\5"
ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
ID3V1_EXTENDED = b"TAG+" + b"title".ljust(223, b"\0") + ID3V1
LYRICS1 = b"LYRICSBEGINla la laLYRICSEND"
LYRICS2 = b"LYRICSBEGININD0000211000021LYRICS200"


def ape(flags: int, *, head: bool) -> bytes:
    """An APE tag with one item; the size in head and foot covers the item and the foot."""
    item = struct.pack("<II", 5, 0) + b"Title\0title"
    block = struct.pack("<III", 2000, len(item) + 32, 1)
    foot = b"APETAGEX" + block + struct.pack("<I8x", flags)
    return (b"APETAGEX" + block + struct.pack("<I8x", flags | 0x20000000) if head else b"") + item + foot


APE = ape(0, head=False)
APE_WITH_HEAD = ape(0x80000000, head=True)


def bounds(data: bytes) -> tuple[int, int]:
    source = StripSource(BytesSource(data))
    return skip_leading_tags(source), find_trailing_tags(source)


@pytest.mark.parametrize("before", [b"", ID3, ID3_WITH_FOOTER, APE_WITH_HEAD, ID3 + APE_WITH_HEAD + ID3])
@pytest.mark.parametrize(
    "after",
    [
        b"",
        ID3V1,
        ID3V1_EXTENDED,
        APE,
        APE_WITH_HEAD,
        LYRICS1,
        LYRICS2,
        ID3_WITH_FOOTER,
        APE_WITH_HEAD + LYRICS2 + ID3V1,
        LYRICS1 + ID3V1,
    ],
)
def test_the_audio_is_what_is_left_between_the_tags(before: bytes, after: bytes) -> None:
    start, end = bounds(before + AUDIO + after)
    assert (start, end) == (len(before), len(before + AUDIO))


@pytest.mark.parametrize(
    "data",
    [
        ID3 * 20 + AUDIO,
        AUDIO + ID3V1 * 20,
        AUDIO + APE.replace(struct.pack("<I", len(APE)), struct.pack("<I", 1 << 20)),
        b"ID3\4\0\0\x7f\0\0\0" + AUDIO,
    ],
)
def test_too_many_tags_and_tags_longer_than_the_file_are_refused(data: bytes) -> None:
    with pytest.raises(Unstrippable):
        bounds(data)


def test_a_file_shorter_than_a_tag_has_none() -> None:
    for data in (b"", b"fox", b"LYRICSEND"):
        assert bounds(data) == (0, len(data))
