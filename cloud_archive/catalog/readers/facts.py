"""What a reader finds in one file."""

from __future__ import annotations

import sys
import zlib
from typing import NamedTuple

from ..source import BoundedSource, LimitReached

MAX_TEXT_BYTES = 2 * 1024 * 1024
_MAX_TEXTS = 64
_MAX_ALL_TEXT_BYTES = 6 * 1024 * 1024


class FileFacts(NamedTuple):
    """What a file's container says; None: unknown. `texts`: (name, text) in the file's order, names in lower case."""

    format: str
    mime_type: str
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    texts: tuple[tuple[str, str], ...] = ()


class FactsBuilder:
    """Collect facts while a reader goes through a file. What was collected stays if the reader fails later."""

    def __init__(self, format_name: str, mime_type: str) -> None:
        self.format = format_name
        self.mime_type = mime_type
        self.width: int | None = None
        self.height: int | None = None
        self.duration_seconds: float | None = None
        self._texts: list[tuple[str, str]] = []
        self._charged_bytes = 0

    def set_size(self, width: int, height: int) -> None:
        """Keep width and height in pixels, where both are possible."""
        if 0 < width < 1 << 24 and 0 < height < 1 << 24:
            self.width, self.height = width, height

    def set_duration(self, seconds: float) -> None:
        """Keep the duration in seconds, where it is possible."""
        if 0 < seconds < 10_000_000:
            self.duration_seconds = round(seconds, 3)

    def add_text(self, name: str, text: str | bytes) -> None:
        """Keep one text. Bytes are UTF-8, else Latin-1. LimitReached: there are too many or too long texts."""
        # With a character outside ASCII, each character may take four bytes once the text is decoded.
        if len(text) > (MAX_TEXT_BYTES if text.isascii() else MAX_TEXT_BYTES // 2):
            raise LimitReached("a text of this file is too long")
        if isinstance(text, bytes):
            text = decode_text(text)
        self.charge(sys.getsizeof(text))
        text = text.strip("\0 \t\r\n")
        if text:
            self._texts.append((name.strip("\0 ").lower()[:200], text))

    def charge(self, size_bytes: int) -> None:
        """Count the bytes that a text takes. LimitReached: this file's texts are too many or too large."""
        self._charged_bytes += size_bytes
        if self._charged_bytes > _MAX_ALL_TEXT_BYTES or len(self._texts) >= _MAX_TEXTS:
            raise LimitReached("this file has too many texts")

    def has_graph(self) -> bool:
        """Return whether a text was found whose name says that it holds a graph."""
        return any(name in ("prompt", "workflow") for name, _ in self._texts)

    def build(self) -> FileFacts:
        return FileFacts(
            format=self.format,
            mime_type=self.mime_type,
            width=self.width,
            height=self.height,
            duration_seconds=self.duration_seconds,
            texts=tuple(self._texts),
        )


def decode_text(data: bytes) -> str:
    """Return `data` as text: UTF-8, or Latin-1 if it is not valid UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode_utf16(data: bytes, default: str = "utf-16-le") -> str:
    """Return UTF-16 `data` as text. Without a byte order mark, the position of zero bytes decides the order."""
    if data[:2] == b"\xff\xfe":
        return data[2:].decode("utf-16-le", "replace")
    if data[:2] == b"\xfe\xff":
        return data[2:].decode("utf-16-be", "replace")
    zeros_first, zeros_second = data[0::2].count(0), data[1::2].count(0)
    if zeros_first != zeros_second:
        default = "utf-16-be" if zeros_first > zeros_second else "utf-16-le"
    return data.decode(default, "replace")


def inflate(data: bytes, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Return zlib `data` decompressed. LimitReached: it grows over `max_bytes`. zlib.error: it is broken."""
    decompressor = zlib.decompressobj()
    plain = decompressor.decompress(data, max_bytes)
    if decompressor.unconsumed_tail:
        raise LimitReached("a compressed text of this file is too long")
    return plain


def read_text(source: BoundedSource, offset: int, length: int) -> bytes:
    """Return the bytes of a text. LimitReached: it is too long. ValueError: the file ends before."""
    if length > MAX_TEXT_BYTES:
        raise LimitReached("a text of this file is too long")
    return source.read_exactly(offset, length)
