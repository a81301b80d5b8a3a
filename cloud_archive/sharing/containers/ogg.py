"""Ogg (Vorbis, Opus, FLAC): empty the comments, then number and checksum every page again."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .flac import SEEK_TABLE
from .pieces import Piece, StripSource, Unstrippable

_HEAD = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST = 1, 2
_MAX_SETUP_BYTES = 17 * 1024 * 1024
_MAX_FLAC_BLOCKS = 128
_PAGE_SEGMENTS = 255
_NO_COMMENTS = struct.pack("<II", 0, 0)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class _Page:
    flags: int
    granule: int
    lacing: bytes
    body: bytes


class _Pages:
    """The pages of a file that holds one stream. Unstrippable: a page is broken, or belongs to another stream."""

    def __init__(self, source: StripSource) -> None:
        self._source = source
        self._offset = 0
        self.serial = int.from_bytes(source.read(14, 4), "little")

    def next(self) -> _Page | None:
        """Return the next page; None: the file ends here."""
        if self._offset == self._source.size:
            return None
        head = self._source.read(self._offset, _HEAD.size)
        magic, version, flags, granule, serial, _, checksum, count = _HEAD.unpack(head)
        if magic != b"OggS" or version != 0:
            raise Unstrippable("a page doesn't start where it should")
        if serial != self.serial or (flags & _FIRST != 0) != (self._offset == 0):
            raise Unstrippable("it holds more than one stream")
        lacing = self._source.read(self._offset + _HEAD.size, count)
        body = self._source.read(self._offset + _HEAD.size + count, sum(lacing))
        self._offset += _HEAD.size + count + len(body)
        if _checksum(head[:22] + bytes(4) + head[26:] + lacing + body) != checksum:
            raise Unstrippable("a checksum in it is wrong")
        return _Page(flags, granule, lacing, body)


def strip_ogg(source: StripSource) -> Iterator[Piece]:
    """Yield the copy. Unstrippable: the file is broken, or holds another codec or more than one stream."""
    pages = _Pages(source)
    number = 0
    for index, packet in enumerate(_header_packets(pages)):
        for lacing, body, continued in _paginate(packet):
            flags = _CONTINUED if continued else _FIRST if index == 0 else 0
            yield _page(_Page(flags, 0 if lacing[-1] < 255 else -1, lacing, body), pages.serial, number)
            number += 1
    while page := pages.next():
        yield _page(page, pages.serial, number)
        number += 1


def _header_packets(pages: _Pages) -> list[bytes]:
    """Return the packets before the audio, without comments."""
    head, *_ = _read_packets(pages, 1)
    if head.startswith(b"OpusHead"):
        _read_packets(pages, 1, b"OpusTags")
        return [head, b"OpusTags" + _NO_COMMENTS]
    if head.startswith(b"\x01vorbis"):
        _, setup = _read_packets(pages, 2, b"\x03vorbis")
        if not setup.startswith(b"\x05vorbis"):
            raise Unstrippable("its setup is missing")
        return [head, b"\x03vorbis" + _NO_COMMENTS + b"\1", setup]
    if head.startswith(b"\x7fFLAC") and len(head) == 51:
        return _flac_headers(pages, head)
    raise Unstrippable("its codec is not supported in Ogg")


def _flac_headers(pages: _Pages, head: bytes) -> list[bytes]:
    kept = [head]
    for _ in range(_MAX_FLAC_BLOCKS):
        (block,) = _read_packets(pages, 1)
        if block[:1] and block[0] & 0x7F == SEEK_TABLE and len(kept) == 1:
            kept.append(bytes([SEEK_TABLE]) + block[1:])
        if not block or block[0] & 0x80:
            break
    else:
        raise Unstrippable("it has too many metadata blocks")
    # The format requires a comment block after the head, even if it is empty.
    kept.insert(1, b"\x04\0\0\x08" + _NO_COMMENTS)
    kept[-1] = bytes([kept[-1][0] | 0x80]) + kept[-1][1:]
    kept[0] = head[:7] + (len(kept) - 1).to_bytes(2, "big") + head[9:]
    return kept


def _read_packets(pages: _Pages, count: int, dropped: bytes | None = None) -> list[bytes]:
    """Return `count` packets, which together begin and end at the borders of pages.

    Args:
        dropped: the first packet must start with this, and only its start is returned, so that long comments take no
            memory. None: every packet is returned whole.
    """
    packets: list[bytes] = []
    packet = bytearray()
    while len(packets) < count:
        page = pages.next()
        if page is None:
            raise Unstrippable("it ends early")
        position = 0
        for index, segment in enumerate(page.lacing):
            if packets or dropped is None or len(packet) < len(dropped):
                packet += page.body[position : position + segment]
            position += segment
            if len(packet) > _MAX_SETUP_BYTES:
                raise Unstrippable("its setup is too long")
            if segment < 255:
                packets.append(bytes(packet))
                packet.clear()
                if len(packets) == count and index != len(page.lacing) - 1:
                    raise Unstrippable("its audio doesn't start on a new page")
    if dropped is not None and not packets[0].startswith(dropped):
        raise Unstrippable("its comments are not where they should be")
    return packets


def _paginate(packet: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield each page that a packet needs: its lacing, its body, and whether it continues the packet."""
    lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    for start in range(0, len(lacing), _PAGE_SEGMENTS):
        yield lacing[start : start + _PAGE_SEGMENTS], packet[start * 255 :][: _PAGE_SEGMENTS * 255], start > 0


def _page(page: _Page, serial: int, number: int) -> bytes:
    head = _HEAD.pack(b"OggS", 0, page.flags, page.granule, serial, number, 0, len(page.lacing))
    data = head + page.lacing + page.body
    return data[:22] + struct.pack("<I", _checksum(data)) + data[26:]


def _checksum(data: bytes) -> int:
    """Return Ogg's CRC-32: zlib's polynomial in the other bit order, without inversion."""
    value = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(_REVERSED), "big")
