"""EXIF (a TIFF structure), as JPEG, PNG, WebP, AVIF and JPEG XL files hold it."""

from __future__ import annotations

import struct

from .facts import FactsBuilder, decode_text, decode_utf16
from .xmp import read_xmp

_ASCII, _UNDEFINED, _BYTE = 2, 7, 1
_NAMES = {
    0x010E: "imagedescription",
    0x010F: "make",
    0x0110: "model",
    0x0131: "software",
    0x013B: "artist",
    0x9286: "usercomment",
    0x02BC: "xmp",
    0x9C9B: "xptitle",
    0x9C9C: "xpcomment",
    0x9C9F: "xpsubject",
}
_WIDTH, _HEIGHT, _EXIF_DIRECTORY = 0x0100, 0x0101, 0x8769
_MAX_ENTRIES = 256
_MAX_DIRECTORIES = 4


def read_exif(data: bytes, facts: FactsBuilder, *, sizes: bool = False) -> None:
    """Add the texts of an EXIF block; `sizes`: it is a TIFF file, so keep width and height too.

    Raises:
        ValueError, struct.error: this is no EXIF block, or it is damaged.
        LimitReached: it has too many texts, or they are too long.
    """
    data = data[6:] if data[:6] == b"Exif\0\0" else data
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("this is no EXIF block")
    pending = [struct.unpack_from(order + "I", data, 4)[0]]
    seen: set[int] = set()
    while pending and len(seen) < _MAX_DIRECTORIES:
        start = pending.pop(0)
        if start in seen:
            continue
        seen.add(start)
        (count,) = struct.unpack_from(order + "H", data, start)
        shape: dict[int, int] = {}
        for index in range(min(count, _MAX_ENTRIES)):
            tag, kind, length, raw = struct.unpack_from(order + "HHI4s", data, start + 2 + index * 12)
            (number,) = struct.unpack(order + "I", raw)
            if tag == _EXIF_DIRECTORY:
                pending.append(number)
            elif tag in (_WIDTH, _HEIGHT):
                shape[tag] = struct.unpack(order + "H", raw[:2])[0] if kind == 3 else number
            elif kind in (_ASCII, _UNDEFINED, _BYTE) and length <= len(data):
                value = raw[:length] if length <= 4 else data[number : number + length]
                _add(tag, kind, value, order, facts)
        if sizes and len(shape) == 2:
            facts.set_size(shape[_WIDTH], shape[_HEIGHT])


def _add(tag: int, kind: int, value: bytes, order: str, facts: FactsBuilder) -> None:
    name = _NAMES.get(tag)
    # Other tags count too: a thousand of them may point to the same large block.
    facts.charge(len(value))
    if name == "usercomment":
        facts.add_text(name, _user_comment(value, order))
    elif name == "xmp":
        read_xmp(decode_text(value), facts)
    elif name is not None and name.startswith("xp"):
        facts.add_text(name, decode_utf16(value))
    elif name is not None:
        facts.add_text(name, value)
    elif kind == _ASCII and b"{" in value[:64]:
        # ComfyUI uses Make and the tags below it for further entries, so any text tag may hold a workflow.
        facts.add_text(f"tag{tag:04x}", value)


def _user_comment(value: bytes, order: str) -> str:
    charset, body = value[:8], value[8:]
    if charset == b"UNICODE\0":
        return decode_utf16(body, "utf-16-be" if order == ">" else "utf-16-le")
    if charset in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"\0" * 8):
        return decode_text(body)
    return decode_text(value)
