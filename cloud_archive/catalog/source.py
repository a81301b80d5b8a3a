"""Random access to the bytes of one file, on disk or in a bucket, with limits on what reading may cost."""

from __future__ import annotations

import os
import threading
from typing import IO, Protocol

MAX_READ_BYTES = 12 * 1024 * 1024
MAX_STEPS = 12_000  # reads by a reader, most of them from a block in memory: about 25 ms
_LOCAL_BLOCK_BYTES = 4096


class ByteSource(Protocol):
    """The bytes of one file."""

    @property
    def size(self) -> int:
        """In bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer at the end. OSError, StoreError: they can't be read now."""


class FileSource:
    """A local file that the caller opened and closes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.size = os.fstat(file.fileno()).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        # os.pread does not exist on Windows.
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class LimitReached(ValueError):
    """The file asks for more bytes, reads, steps or texts than one file may cost."""


class BoundedSource:
    """Read a source in blocks, and stop a reader that costs too much: LimitReached.

    Limits count work, not time, so that a busy machine reads the same.

    Args:
        block_bytes: the smallest read sent to the source, except at the file's end.
        max_reads: how many reads reach the source; None: no limit. In a bucket each is a request.
        max_bytes: how many bytes these may read.
        max_steps: how often a reader may ask, also for what is in memory.
    """

    def __init__(
        self,
        source: ByteSource,
        *,
        block_bytes: int = _LOCAL_BLOCK_BYTES,
        max_reads: int | None = None,
        max_bytes: int = MAX_READ_BYTES,
        max_steps: int = MAX_STEPS,
    ) -> None:
        self.size = source.size
        self.max_reads = max_reads
        self._source = source
        self._block_bytes = block_bytes
        self._bytes_left = max_bytes
        self._reads = 0
        self._steps_left = max_steps
        self._block = b""
        self._block_start = 0

    @property
    def few_reads_left(self) -> bool:
        """Whether more than half of the reads are used up, so that a walk should jump to the file's end."""
        return self.max_reads is not None and self._reads > self.max_reads // 2

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer at the end of the file. LimitReached: a limit is reached."""
        if self._steps_left <= 0:
            raise LimitReached("reading this file takes too many steps")
        self._steps_left -= 1
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        start = offset - self._block_start
        if start >= 0 and start + length <= len(self._block):
            return self._block[start : start + length]
        if length >= self._block_bytes:
            return self._fetch(offset, length)
        self._block = self._fetch(offset, min(self._block_bytes, self.size - offset))
        self._block_start = offset
        return self._block[:length]

    def read_exactly(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`. ValueError: the file ends before."""
        if length > self.size - offset:
            raise ValueError("the file ends early")
        data = self.read(offset, length)
        if len(data) != length:
            raise ValueError("the file ends early")
        return data

    def _fetch(self, offset: int, length: int) -> bytes:
        if length > self._bytes_left:
            raise LimitReached("reading this file takes too many bytes")
        if self.max_reads is not None and self._reads >= self.max_reads:
            raise LimitReached("reading this file takes too many reads")
        self._bytes_left -= length
        self._reads += 1
        return self._source.read_at(offset, length)
