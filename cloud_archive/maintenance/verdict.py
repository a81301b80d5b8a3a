"""Whether the bucket holds what the ledger says: from a listing, from a look, or from the bytes themselves."""

from __future__ import annotations

import hashlib
from enum import Enum

from ..errors import StoreError
from ..ledger.rows import FileRow
from ..store.s3 import ObjectInfo, ObjectStore


class Verdict(Enum):
    """How an object compares with its row."""

    SAME = "same"
    MISSING = "missing"
    DIFFERENT = "different"
    UNDECIDED = "undecided"  # this way of looking cannot tell


def by_listing(row: FileRow, info: ObjectInfo) -> Verdict:
    """From size and ETag. An ETag that is the one from the proof says that it is the very same object."""
    if info.size_bytes != row.version.size_bytes:
        return Verdict.DIFFERENT
    return Verdict.SAME if row.etag is not None and info.etag == row.etag else Verdict.UNDECIDED


def by_look(row: FileRow, info: ObjectInfo | None) -> Verdict:
    """From what HEAD shows: size, and the SHA-256 that the store computed or the object's metadata names."""
    if info is None:
        return Verdict.MISSING
    if info.size_bytes != row.version.size_bytes:
        return Verdict.DIFFERENT
    stated = info.checksum_sha256 or info.sha256
    if stated is not None:
        return Verdict.SAME if stated == row.sha256 else Verdict.DIFFERENT
    return by_listing(row, info)


def by_bytes(row: FileRow, store: ObjectStore) -> Verdict:
    """From the bytes, read and hashed.

    Raises:
        StoreError: they cannot be read.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        for piece in store.read(row.key or ""):
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
    found = by_look(row, store.head(row.key or ""))
    return by_bytes(row, store) if found is Verdict.UNDECIDED else found


def confirmed_now(row: FileRow, store: ObjectStore) -> bool:
    """Whether the only other copy may go: a HEAD at this moment, and nothing about the object is doubtful.

    Stricter than `look`: metadata is only what the writer said, and an object that was replaced by a copy of itself
    may carry it. So the ETag must be the one from the proof, or the store must name the SHA-256 as computed by
    itself; where neither is so, the bytes are read.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    if row.sha256 is None or row.key is None:
        return False
    info = store.head(row.key)
    if info is None or by_look(row, info) in (Verdict.MISSING, Verdict.DIFFERENT):
        return False
    if info.checksum_sha256 == row.sha256 or (row.etag is not None and info.etag == row.etag):
        return True
    return by_bytes(row, store) is Verdict.SAME
