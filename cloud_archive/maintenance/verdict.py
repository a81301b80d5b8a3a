"""Whether the bucket holds certain bytes: from a listing, from a HEAD, or from the bytes themselves.

An object's metadata is what its writer said, so it can show that an object is different and never that it is the same.
What proves bytes is a checksum that the store computed, an ETag made of MD5, the very ETag that was there when the
bytes were proven, or the bytes, read and hashed.
"""

from __future__ import annotations

import hashlib
from enum import Enum

from ..errors import StoreError
from ..ledger.rows import FileRow
from ..store.base import ObjectInfo, ObjectStore
from ..upload.source import SINGLE_PUT_BYTES, part_size_for


class Verdict(Enum):
    """How an object compares with its row."""

    SAME = "same"
    MISSING = "missing"
    DIFFERENT = "different"
    UNDECIDED = "undecided"  # this way of looking cannot tell


class Digests:
    """Hash a file's bytes as they pass: its SHA-256, and the ETags that stores make of it with MD5.

    Args:
        size_bytes: of the whole file; decides in what parts it would have been uploaded.
    """

    def __init__(self, size_bytes: int) -> None:
        self._part_bytes = part_size_for(size_bytes) if size_bytes > SINGLE_PUT_BYTES else 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._part = hashlib.md5(usedforsecurity=False)
        self._parts = b""
        self._left = self._part_bytes
        self.size_bytes = 0

    def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size_bytes += len(piece)
        self._sha256.update(piece)
        self._md5.update(piece)
        while self._part_bytes and piece:
            head, piece = piece[: self._left], piece[self._left :]
            self._part.update(head)
            self._left -= len(head)
            if not self._left:
                self._end_part()

    def _end_part(self) -> None:
        self._parts += self._part.digest()
        self._part = hashlib.md5(usedforsecurity=False)
        self._left = self._part_bytes

    @property
    def sha256(self) -> str:
        """Hexadecimal."""
        return self._sha256.hexdigest()

    def etags(self) -> tuple[str, ...]:
        """Return the ETags that an object with these bytes has: sent whole, and in parts as our uploads send them.

        The second as AWS makes it: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        """
        whole = self._md5.hexdigest()
        if not self._part_bytes:
            return (whole,)
        parts = self._parts + (self._part.digest() if self._left < self._part_bytes else b"")
        joined = hashlib.md5(parts, usedforsecurity=False).hexdigest()
        return whole, f"{joined}-{len(parts) // 16}"

    def prove(self, info: ObjectInfo) -> Verdict:
        """Return whether the object has these bytes, as far as a HEAD shows facts of the store's own."""
        if info.size_bytes != self.size_bytes:
            return Verdict.DIFFERENT
        if info.checksum_sha256 is not None:
            return Verdict.SAME if info.checksum_sha256 == self.sha256 else Verdict.DIFFERENT
        return Verdict.SAME if info.etag in self.etags() else Verdict.UNDECIDED


def by_listing(row: FileRow, info: ObjectInfo) -> Verdict:
    """From size and ETag. An ETag that is the one from the proof says that it is the very same object."""
    if info.size_bytes != row.version.size_bytes:
        return Verdict.DIFFERENT
    return Verdict.SAME if row.etag is not None and info.etag == row.etag else Verdict.UNDECIDED


def by_head(row: FileRow, info: ObjectInfo | None) -> Verdict:
    """From size, ETag and the SHA-256 that the store computed. The metadata alone can only show a difference."""
    if info is None:
        return Verdict.MISSING
    if info.size_bytes != row.version.size_bytes:
        return Verdict.DIFFERENT
    if info.checksum_sha256 is not None:
        return Verdict.SAME if info.checksum_sha256 == row.sha256 else Verdict.DIFFERENT
    listed = by_listing(row, info)
    if listed is Verdict.UNDECIDED and info.sha256 is not None and info.sha256 != row.sha256:
        return Verdict.DIFFERENT
    return listed


def by_bytes(row: FileRow, store: ObjectStore) -> Verdict:
    """From the bytes, read and hashed.

    Raises:
        StoreError: they cannot be read.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        for piece in store.read(row.key or "", row.version.size_bytes):
            digest.update(piece)
            size_bytes += len(piece)
    except StoreError as error:
        if error.status == 404:
            return Verdict.MISSING
        raise
    same = size_bytes == row.version.size_bytes and digest.hexdigest() == row.sha256
    return Verdict.SAME if same else Verdict.DIFFERENT


def look(row: FileRow, store: ObjectStore) -> Verdict:
    """The cheapest sure answer: HEAD, and the bytes only where HEAD cannot tell.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    found = by_head(row, store.head(row.key or ""))
    return by_bytes(row, store) if found is Verdict.UNDECIDED else found


def confirmed_now(row: FileRow, store: ObjectStore) -> bool:
    """Whether the only other copy may go: the object is looked at in this moment, and nothing about it is doubtful.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    return row.sha256 is not None and row.key is not None and look(row, store) is Verdict.SAME
