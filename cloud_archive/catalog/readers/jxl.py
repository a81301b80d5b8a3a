"""JPEG XL: EXIF and XMP boxes, and the size of the picture."""

from __future__ import annotations

from ..source import BoundedSource
from .exif import read_exif
from .facts import FactsBuilder, decode_text, read_text
from .mp4 import boxes
from .xmp import read_xmp

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
# The aspect ratios that a size header can name: width to height.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def read_jxl(source: BoundedSource, facts: FactsBuilder) -> None:
    """Read the size of the picture, and if the file has boxes, also EXIF and XMP."""
    if source.read(0, 2) == CODESTREAM:
        return _read_size(source.read(0, 16), facts)
    for box in boxes(source, 0, source.size):
        if box.kind in (b"jxlc", b"jxlp") and facts.width is None:
            _read_size(source.read(box.start + (4 if box.kind == b"jxlp" else 0), 16), facts)
        elif box.kind == b"Exif":
            data = read_text(source, box.start, box.end - box.start)
            read_exif(data[4 + int.from_bytes(data[:4], "big") :], facts)
        elif box.kind == b"xml ":
            read_xmp(decode_text(read_text(source, box.start, box.end - box.start)), facts)


def _read_size(head: bytes, facts: FactsBuilder) -> None:
    """Keep the size that a codestream begins with. Fields are read from the lowest bit up."""
    if head[:2] != CODESTREAM:
        raise ValueError("this is no JPEG XL codestream")
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & (1 << count) - 1
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio]
        facts.set_size(height * numerator // denominator, height)
    else:
        facts.set_size(side(), height)
