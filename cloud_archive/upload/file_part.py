"""Read a part of a large file while it is sent, so that it takes hardly any memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Protocol

from ..beneath import open_file
from ..errors import FileChanged
from .memory import ByteBudget
from .outcome import Prepared
from .source import file_problem, read_at, read_into

PIECE_BYTES = 256 * 1024


class FilePart:
    """One part of a prepared file, as the body of a request. Use it as a context manager, in one thread.

    Iterating reads the part piece by piece; each piece is valid until the next one. `bytes(part)` reads all of it, and
    keeps the bytes until the end of the block. Both raise FileChanged, FileUnreadable and, on Windows, FileVanished.

    Args:
        offset, length: in bytes.
        budget: limits the memory for `bytes(part)`.
        hashed: compute `sha256`.

    Attributes:
        sha256: of the part as it was read last, hexadecimal; None: it was not computed, or not read to its end.
    """

    def __init__(
        self, prepared: Prepared, offset: int, length: int, budget: ByteBudget, *, hashed: bool
    ) -> None:
        self._prepared = prepared
        self._offset = offset
        self._length = length
        self._budget = budget
        self._hashed = hashed
        self._held_memory = ExitStack()
        self._whole: bytes | None = None
        self.sha256: str | None = None

    def __enter__(self) -> FilePart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._whole = None
        self._held_memory.close()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[memoryview]:
        digest = hashlib.sha256() if self._hashed else None
        self.sha256 = None
        buffer = memoryview(bytearray(min(PIECE_BYTES, self._length)))
        offset, end = self._offset, self._offset + self._length
        with _reader(self._prepared) as read:
            while offset < end:
                piece = buffer[: end - offset]
                piece = piece[: read(piece, offset)]
                if not piece:
                    raise FileChanged(self._prepared.claim.version.path)
                if digest is not None:
                    digest.update(piece)
                offset += len(piece)
                yield piece
        self.sha256 = None if digest is None else digest.hexdigest()

    def __bytes__(self) -> bytes:
        if self._whole is None:
            claim = self._prepared.claim
            self._held_memory.enter_context(self._budget.hold(self._length))
            try:
                whole = read_at(
                    self._prepared.root, claim.version, self._prepared.source, self._offset, self._length
                )
            except OSError as error:
                raise file_problem(claim, error) from error
            if len(whole) != self._length:
                raise FileChanged(claim.version.path)
            self._whole = whole
        self.sha256 = hashlib.sha256(self._whole).hexdigest() if self._hashed else None
        return self._whole


class _Read(Protocol):
    def __call__(self, buffer: memoryview, offset: int, /) -> int: ...


@contextmanager
def _reader(prepared: Prepared) -> Iterator[_Read]:
    """Yield a function that reads from an offset into a buffer, and moves no position that other threads use."""
    claim, source = prepared.claim, prepared.source

    def at(buffer: memoryview, offset: int) -> int:
        try:
            return os.preadv(source.fileno(), [buffer], offset)
        except OSError as error:
            raise file_problem(claim, error) from error

    if hasattr(os, "preadv"):
        yield at
        return
    try:
        with open_file(prepared.root, claim.version.path) as own:  # Windows: a handle has one position

            def seek_and_read(buffer: memoryview, offset: int) -> int:
                own.seek(offset)
                return read_into(own, buffer)

            yield seek_and_read
    except OSError as error:
        raise file_problem(claim, error) from error
