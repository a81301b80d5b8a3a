"""The pieces that a copy consists of, and a reader that limits how many reads a file may take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...catalog.source import ByteSource

_WINDOW_BYTES = 64 * 1024
_COPY_BYTES = 1024 * 1024
_MAX_READ_BYTES = 1024 * 1024
_BASE_READS = 100_000
_BYTES_PER_READ = 32


class Unstrippable(ValueError):
    """The file is broken, or holds something that can't be removed safely. The message is part of a sentence."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the source, copied as they are."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Zeros:
    """Zero bytes in place of what is removed."""

    length: int


Piece = bytes | Span | Zeros


class StripSource:
    """Read a source for a stripper; small reads share a window of 64 KiB.

    A file may take 100,000 reads and one more for each 32 bytes, so that a hostile file costs time in proportion to its
    size.
    """

    def __init__(self, source: ByteSource) -> None:
        self.size = source.size
        self._source = source
        self._reads_left = _BASE_READS + source.size // _BYTES_PER_READ
        self._window = b""
        self._window_start = 0

    def read(self, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from `start`.

        Unstrippable: the file ends before, takes too many reads, or `length` is more than 1 MiB.
        """
        self._reads_left -= 1
        if self._reads_left < 0:
            raise Unstrippable("it consists of too many small parts")
        if start < 0 or length > self.size - start:
            raise Unstrippable("it ends early")
        if length > _MAX_READ_BYTES:
            raise Unstrippable("a part of its header is too long")
        at = start - self._window_start
        if at < 0 or at + length > len(self._window):
            self._window = self._source.read_at(start, min(max(length, _WINDOW_BYTES), self.size - start))
            self._window_start, at = start, 0
            if len(self._window) < length:
                raise Unstrippable("it ends early")
        return self._window[at : at + length]

    def up_to(self, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`, fewer at the end of the file."""
        return self.read(start, max(0, min(length, self.size - start)))

    def number(self, start: int, length: int) -> int:
        """Return a big-endian number of `length` bytes."""
        return int.from_bytes(self.read(start, length), "big")

    def span(self, start: int, end: int) -> Span:
        """Return the bytes from `start` to `end`. Unstrippable: the file ends before."""
        if not 0 <= start <= end <= self.size:
            raise Unstrippable("it ends early")
        return Span(start, end - start)

    def blank(self, start: int, end: int) -> Zeros:
        """Return zeros in place of the bytes from `start` to `end`. Unstrippable: the file ends before."""
        return Zeros(self.span(start, end).length)

    def blocks(self, piece: Piece) -> Iterator[bytes]:
        """Yield the bytes of a piece, at most 1 MiB at a time."""
        if isinstance(piece, bytes):
            yield piece
            return
        for done in range(0, piece.length, _COPY_BYTES):
            length = min(_COPY_BYTES, piece.length - done)
            yield bytes(length) if isinstance(piece, Zeros) else self._copy(piece.start + done, length)

    def _copy(self, start: int, length: int) -> bytes:
        block = self._source.read_at(start, length)
        if len(block) != length:
            raise Unstrippable("it ends early")
        return block


def total_length(pieces: Iterable[Piece]) -> int:
    """Return how many bytes the pieces take."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces)
