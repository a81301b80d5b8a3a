"""Encode and decode segments: gzipped JSON lines, a header first. Limits bound what a stranger's segment costs.

A damaged segment, or one of another version, raises SegmentError; a row that is not valid is skipped and counted.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...keys import MAX_KEY_BYTES
from ..assets import utc_time
from ..schema import MAX_CLOCK
from .fields import DEL, FORMAT_VERSION, HEADER, MAX_LIST, PUT, REPLACES, SET, checked_row

MAX_ROW_BYTES = 1024 * 1024
MAX_SEGMENT_BYTES = 64 * 1024 * 1024  # of a segment as it lies in the bucket
MAX_MONTH_BYTES = 1024 * 1024 * 1024
MAX_EXPANSION = 200  # bytes that a gzipped byte may expand to; JSON lines of this kind give 5 to 20
_SMALL_BYTES = 16 * 1024 * 1024  # any segment may expand to this: equal rows compress very well
_MAX_REPLACES_BYTES = 150_000_000  # in memory: a million names
_NAME_BYTES = 60  # what CPython takes for each name besides its text
_MAX_MEMBERS = 100  # of gzip; after each, the rest of the file is copied
_PIECE = 256 * 1024
_DECODER = json.JSONDecoder()


class SegmentError(ValueError):
    """A segment can't be read. `newer`: because of its version."""

    def __init__(self, message: str, *, newer: bool = False) -> None:
        super().__init__(message)
        self.newer = newer


@dataclass(slots=True)
class Decoded:
    """What reading a segment found besides its rows.

    Attributes:
        replaces: names of the files whose rows this one repeats.
        text_bytes: how long the lines of its rows were in all.
        skipped: how many rows were skipped, by reason.
    """

    replaces: list[str] = field(default_factory=list)
    rows: int = 0
    text_bytes: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


def encode(rows: Iterable[dict[str, Any]], *, machine: str, now: float) -> bytes:
    """Return a segment with these rows."""
    lines = [row_line(row) for row in rows]
    return gzip.compress(b"".join([header_line(machine, now, len(lines)), *lines]), 6, mtime=0)


def header_line(machine: str, now: float, rows: int) -> bytes:
    """Return a file's first line; `rows`: how many follow, without `replaces_lines`."""
    return row_line(
        {
            "op": HEADER,
            "version": FORMAT_VERSION,
            "written_at": utc_time(int(now * 1e9)),
            "written_by": machine,
            "rows": rows,
        }
    )


def replaces_lines(names: Sequence[str]) -> Iterator[bytes]:
    """Yield the lines that name the files whose rows this file repeats."""
    for first in range(0, len(names), MAX_LIST):
        yield row_line({"op": REPLACES, "names": list(names[first : first + MAX_LIST])})


def row_line(row: dict[str, Any]) -> bytes:
    """Return one line. Fields that are None are left out."""
    present = {name: value for name, value in row.items() if value is not None}
    # Other readers refuse the lone half of a UTF-16 pair, so it is replaced.
    text = json.dumps(present, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def decode(pieces: Iterable[bytes], found: Decoded, *, size_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the put, set and del rows of a segment, and fill in `found`.

    Args:
        pieces: the bytes as they lie in the bucket, `size_bytes` in all.

    Raises:
        SegmentError: it is damaged, expands beyond a limit, or has another version. Rows before that were yielded.
    """
    lines = _lines(pieces, max(_SMALL_BYTES, size_bytes * MAX_EXPANSION), found)
    _check_header(next(lines, None))
    replaces_bytes = 0
    for line in lines:
        if line is None:
            continue
        row = _row(line, found)
        if row is None:
            continue
        if row["op"] == REPLACES:
            names = row.get("names", [])
            replaces_bytes += len(line) + _NAME_BYTES * len(names)
            if replaces_bytes > _MAX_REPLACES_BYTES:
                raise SegmentError("it replaces too many files")
            found.replaces += names
        elif row["op"] != HEADER:
            found.rows += 1
            found.text_bytes += len(line)
            yield row


def _check_header(line: bytes | None) -> None:
    try:
        header = json.loads(line or b"")
        if not isinstance(header, dict) or header.get("op") != HEADER:
            raise ValueError("no header")
        version = header.get("version")
        if type(version) is not int:
            raise ValueError("no version")
    except (ValueError, RecursionError):
        raise SegmentError("it does not begin with a header") from None
    if version != FORMAT_VERSION:
        raise SegmentError(f"it has version {version}, and this program reads {FORMAT_VERSION}", newer=True)


def _lines(pieces: Iterable[bytes], limit: int, found: Decoded) -> Iterator[bytes | None]:
    """Yield each line; None: one that is too long."""
    rest = b""
    overlong = False
    for text in _expanded(pieces, limit):
        first, *others = text.split(b"\n")
        rest += first
        for line in others:
            yield _short_line(rest, overlong, found)
            rest, overlong = line, False
        if len(rest) > MAX_ROW_BYTES:
            rest, overlong = b"", True
    if rest or overlong:
        yield _short_line(rest, overlong, found)


def _short_line(line: bytes, overlong: bool, found: Decoded) -> bytes | None:
    if not overlong and len(line) <= MAX_ROW_BYTES:
        return line
    found.skip("a row is too long")
    return None


def _expanded(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield what gzip members expand to. SegmentError: they are damaged, or expand beyond `limit` bytes."""
    expander: Any = None
    total = members = 0

    def within(text: bytes) -> bytes:
        nonlocal total
        total += len(text)
        if total > limit:
            raise SegmentError("it expands to more than it may hold")
        return text

    try:
        for piece in pieces:
            while piece:
                expander = expander or zlib.decompressobj(31)
                yield within(expander.decompress(piece, _PIECE))
                if expander.eof:
                    members += 1
                    if members > _MAX_MEMBERS:
                        raise SegmentError("it has too many gzip members")
                    piece, expander = expander.unused_data, None
                else:
                    piece = expander.unconsumed_tail
        while expander is not None and not expander.eof:
            text = expander.decompress(b"", _PIECE)
            if not text:
                raise SegmentError("it ends early")
            yield within(text)
    except zlib.error as error:
        raise SegmentError(f"it is no valid gzip: {error}") from None


def _row(line: bytes, found: Decoded) -> dict[str, Any] | None:
    if not line:
        return None
    try:
        parsed = _DECODER.decode(line.decode())
        row = checked_row(parsed) if isinstance(parsed, dict) else None
    except (ValueError, RecursionError, OverflowError):
        row = None
    if row is None:
        found.skip("a row is not valid")
        return None
    if row["op"] in (PUT, SET, DEL) and not _has_identity(row):
        found.skip("a row has no valid key and clock")
        return None
    return row


def _has_identity(row: dict[str, Any]) -> bool:
    key = row.get("key")
    if not key or not 0 <= row.get("clock", -1) <= MAX_CLOCK:
        return False
    try:
        return len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False
