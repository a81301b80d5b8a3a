"""The only EXIF value that a copy keeps: how a picture is turned when it is shown."""

from __future__ import annotations

import struct

from .pieces import StripSource

_ORIENTATION = 0x0112
_MAX_ENTRIES = 1024


def read_orientation(source: StripSource, start: int, end: int) -> int | None:
    """Return the orientation (2 to 8) of the EXIF block between two offsets; None: upright or unknown."""
    if end - start >= 6 and source.read(start, 6) == b"Exif\0\0":
        start += 6
    if end - start < 8:
        return None
    head = source.read(start, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return None
    directory = start + struct.unpack(order + "I", head[4:])[0]
    if directory + 2 > end:
        return None
    (count,) = struct.unpack(order + "H", source.read(directory, 2))
    for entry in range(directory + 2, directory + 2 + min(count, _MAX_ENTRIES) * 12, 12):
        if entry + 12 > end:
            return None
        tag, kind, _, value = struct.unpack(order + "HHIH", source.read(entry, 10))
        if tag == _ORIENTATION:
            return value if kind == 3 and 2 <= value <= 8 else None
    return None


def minimal_exif(orientation: int) -> bytes:
    """Return an EXIF block (a TIFF structure) that holds the orientation only."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)
