"""Check whether a media file's container is complete, with a limited number of reads.

The first bytes decide the format, not the name. A state is COMPLETE only if the file would hardly look complete when
cut off earlier. It is UNKNOWN if the format doesn't show where a file ends, or if finding the end needs many reads.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
_EBML = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"

_MAX_BOXES = 4096
_MAX_SEGMENTS = 512
_GIF_WALK_BYTES = 2 * 1024 * 1024
_OGG_PAGE_BYTES = 65_307  # the largest page, RFC 3533 section 6

# Major brands of images in the MP4 container, which have `meta` in place of `moov`.
_IMAGE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})

# Signatures by file extension. A file that ends within its signature is INCOMPLETE.
_SIGNATURES_BY_EXTENSION: dict[str, bytes] = {
    "png": _PNG,
    "jpg": b"\xff\xd8\xff",
    "jpeg": b"\xff\xd8\xff",
    "gif": b"GIF8",
    "webp": b"RIFF",
    "wav": b"RIFF",
    "mkv": _EBML,
    "webm": _EBML,
}


class ContainerState(Enum):
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    UNKNOWN = "unknown"


def inspect_container(stream: BinaryIO, name: str, size_bytes: int) -> ContainerState:
    """Return whether the container of an open file is complete. Raises OSError.

    Args:
        name: used only if the file is too short for its signature.
        size_bytes: the file's size; bytes beyond it are ignored.
    """
    head = _read(stream, 0, min(16, size_bytes))
    for signature, inspect in _INSPECTORS:
        if head.startswith(signature):
            return inspect(stream, head, size_bytes)
    if head[4:8] == b"ftyp":
        return _inspect_boxes(stream, head, size_bytes)
    expected = _SIGNATURES_BY_EXTENSION.get(name.rpartition(".")[2].lower(), b"")
    if 0 < len(head) < len(expected) and expected.startswith(head):
        return ContainerState.INCOMPLETE
    return ContainerState.UNKNOWN


def _read(stream: BinaryIO, position: int, count: int) -> bytes:
    if count <= 0:
        return b""
    stream.seek(position)
    return stream.read(count) or b""


def _inspect_png(stream: BinaryIO, head: bytes, size_bytes: int) -> ContainerState:
    # https://www.w3.org/TR/png-3/#11IEND
    tail = _read(stream, max(0, size_bytes - 12), 12)
    return ContainerState.COMPLETE if tail == _PNG_END else ContainerState.INCOMPLETE


def _inspect_jpeg(stream: BinaryIO, head: bytes, size_bytes: int) -> ContainerState:
    # https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B. Skip the marker segments before the first scan,
    # because an embedded thumbnail has an end marker too.
    position = 2
    for _ in range(_MAX_SEGMENTS):
        segment = _read(stream, position, 4)
        if len(segment) < 4 or position + 4 > size_bytes:
            return ContainerState.INCOMPLETE
        if segment[0] != 0xFF:
            return ContainerState.UNKNOWN
        if segment[1] == 0xFF:  # a fill byte
            position += 1
            continue
        length = int.from_bytes(segment[2:4], "big")
        if length < 2:
            return ContainerState.UNKNOWN
        position += 2 + length
        if segment[1] == 0xDA:  # start of scan
            if position + 2 > size_bytes:
                return ContainerState.INCOMPLETE
            ended = _read(stream, size_bytes - 2, 2) == b"\xff\xd9"
            return ContainerState.COMPLETE if ended else ContainerState.INCOMPLETE
    return ContainerState.UNKNOWN


def _inspect_gif(stream: BinaryIO, head: bytes, size_bytes: int) -> ContainerState:
    # https://www.w3.org/Graphics/GIF/spec-gif89a.txt. Image data may hold the trailer byte too, so walk the blocks.
    if head[:6] not in (b"GIF87a", b"GIF89a"):
        return ContainerState.UNKNOWN if len(head) >= 6 else ContainerState.INCOMPLETE
    if size_bytes > _GIF_WALK_BYTES:
        tail = _read(stream, size_bytes - 2, 2)
        return ContainerState.UNKNOWN if tail == b"\x00\x3b" else ContainerState.INCOMPLETE
    data = _read(stream, 0, size_bytes)
    try:
        position = 13 + _colour_table_bytes(data[10])
        while (kind := data[position]) != 0x3B:
            if kind == 0x21:  # extension: label, then sub-blocks
                position += 2
            elif kind == 0x2C:  # image: descriptor, colour table, code size, then sub-blocks
                position += 11 + _colour_table_bytes(data[position + 9])
            else:
                return ContainerState.UNKNOWN
            while count := data[position]:
                position += 1 + count
            position += 1
    except IndexError:
        return ContainerState.INCOMPLETE
    return ContainerState.COMPLETE if position + 1 == size_bytes else ContainerState.UNKNOWN


def _colour_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _inspect_riff(stream: BinaryIO, head: bytes, size_bytes: int) -> ContainerState:
    # https://developers.google.com/speed/webp/docs/riff_container; one pad byte may follow an odd size.
    if len(head) < 12:
        return ContainerState.INCOMPLETE
    declared = int.from_bytes(head[4:8], "little")
    if declared == 0xFFFFFFFF:  # written to a pipe: never filled in
        return ContainerState.UNKNOWN
    whole = declared + 8
    return (
        ContainerState.COMPLETE if size_bytes in (whole, whole + declared % 2) else ContainerState.INCOMPLETE
    )


def _inspect_boxes(stream: BinaryIO, head: bytes, size_bytes: int) -> ContainerState:
    # ISO/IEC 14496-12 section 4.2: size, type; size 1 = 64 bits follow, size 0 = up to the end of the file.
    image = head[8:12] in _IMAGE_BRANDS
    kinds: set[bytes] = set()
    kind = b""
    position = 0
    for _ in range(_MAX_BOXES):
        if position == size_bytes:
            break
        box = _read(stream, position, min(16, size_bytes - position))
        if len(box) < 8:
            return ContainerState.INCOMPLETE
        length, kind = int.from_bytes(box[:4], "big"), box[4:8]
        smallest = 8
        if length == 1:
            if len(box) < 16:
                return ContainerState.INCOMPLETE
            length, smallest = int.from_bytes(box[8:16], "big"), 16
        elif length == 0:
            # Muxers write 0 first and fill in the size at the end.
            return ContainerState.UNKNOWN if b"moov" in kinds else ContainerState.INCOMPLETE
        if length < smallest:
            return ContainerState.UNKNOWN if b"moov" in kinds else ContainerState.INCOMPLETE
        position += length
        if position > size_bytes:
            return ContainerState.INCOMPLETE
        kinds.add(kind)
    else:
        return ContainerState.UNKNOWN
    if b"moof" in kinds:
        # The end of any fragment looks like the end of the file, unless an index follows.
        return ContainerState.COMPLETE if kind == b"mfra" and b"moov" in kinds else ContainerState.UNKNOWN
    if image and b"meta" in kinds:
        return ContainerState.COMPLETE if b"mdat" in kinds else ContainerState.UNKNOWN
    return ContainerState.COMPLETE if {b"moov", b"mdat"} <= kinds else ContainerState.INCOMPLETE


def _inspect_matroska(stream: BinaryIO, head: bytes, size_bytes: int) -> ContainerState:
    # RFC 8794 section 4: sizes are of variable length, all ones = unknown (live, or not yet filled in).
    header = _variable_size(head[4:])
    if header is None:
        return ContainerState.INCOMPLETE if size_bytes < 16 else ContainerState.UNKNOWN
    start = 4 + header[1] + header[0]
    element = _read(stream, start, min(12, size_bytes - start))
    if len(element) < 12:
        return ContainerState.INCOMPLETE
    segment = _variable_size(element[4:])
    if element[:4] != _MATROSKA_SEGMENT or segment is None:
        return ContainerState.UNKNOWN
    end = start + 4 + segment[1] + segment[0]
    if end == size_bytes:
        return ContainerState.COMPLETE
    return ContainerState.INCOMPLETE if end > size_bytes else ContainerState.UNKNOWN


def _variable_size(data: bytes) -> tuple[int, int] | None:
    """Return an EBML size and its own length in bytes; None if the size is unknown, invalid or cut off."""
    if not data or data[0] == 0:
        return None
    length = 9 - data[0].bit_length()
    if len(data) < length:
        return None
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(data[:length], "big") & ones
    return None if value == ones else (value, length)


def _inspect_ogg(stream: BinaryIO, head: bytes, size_bytes: int) -> ContainerState:
    # RFC 3533 section 6: the last page must end where the file ends. Without its end-of-stream flag, which not every
    # writer sets, more pages may follow.
    start = max(0, size_bytes - _OGG_PAGE_BYTES)
    tail = _read(stream, start, size_bytes - start)
    start_of_page = tail.rfind(b"OggS\x00")
    while start_of_page >= 0:
        page = tail[start_of_page:]
        lacing = 27 + page[26] if len(page) >= 27 else len(page) + 1
        if lacing <= len(page) and lacing + sum(page[27:lacing]) == len(page):
            return ContainerState.COMPLETE if page[5] & 0x04 else ContainerState.UNKNOWN
        start_of_page = tail.rfind(b"OggS\x00", 0, start_of_page)
    return ContainerState.INCOMPLETE


_INSPECTORS: tuple[tuple[bytes, Callable[[BinaryIO, bytes, int], ContainerState]], ...] = (
    (_PNG, _inspect_png),
    (b"\xff\xd8\xff", _inspect_jpeg),
    (b"GIF8", _inspect_gif),
    (b"RIFF", _inspect_riff),
    (_EBML, _inspect_matroska),
    (b"OggS", _inspect_ogg),
)
