"""The one definition of proof: what an upload's answer, a HEAD, a listing or the bytes prove.

These prove bytes: a checksum that the store computed, an ETag that is their MD5, the very ETag that was there when the
bytes were proven, or the bytes themselves, read and hashed. An object's metadata is what its writer said: it can show
that an object is different, never that it is the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ..errors import StoreError
from ..ledger.rows import FileRow
from .base import Body, ObjectInfo, ObjectStore
from .failures import HEAD_REFUSED, explain, is_denied, is_missing

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Verdict(Enum):
    """How an object compares with the bytes that are expected."""

    SAME = "same"
    MISSING = "missing"
    DIFFERENT = "different"
    UNDECIDED = "undecided"  # this source can't tell


class Proof(Enum):
    """How it was proven that the bucket holds the bytes."""

    CHECKSUM = "checksum"  # the store's answer names their checksum or ETag
    READ_BACK = "read back"  # we read the object and hashed it
    ACCEPTED = "accepted"  # the store took our integrity header with 200, and the credentials may not read


class Expected(NamedTuple):
    """The bytes that an object should hold.

    Attributes:
        sha256: hexadecimal.
        proven_etag: the ETag that the object had when its bytes were proven; None where it is not known.
        has_etag: returns whether an ETag is made of the MD5 of these bytes; False also if that is not known.
    """

    size_bytes: int
    sha256: str
    proven_etag: str | None = None
    has_etag: Callable[[str], bool] = lambda etag: False

    @classmethod
    def of_row(cls, row: FileRow) -> Expected:
        return cls(row.version.size_bytes, row.sha256 or "", row.etag)


def md5_of(data: bytes) -> str:
    """Return the MD5 of `data` in hexadecimal, as in S3's ETags; not for security."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def answer_proves(body: Body, sha256: str, *, checksum: str | None, etag: str | None) -> bool:
    """Return whether the answer to a write proves that the store holds `body`.

    Some ETags are no MD5 (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html), and prove nothing.

    Args:
        sha256: of `body`, hexadecimal.
        checksum: the SHA-256 in the answer, hexadecimal; None: the answer has none.
        etag: without quotes.
    """
    if checksum is not None:
        return checksum == sha256
    return etag == md5_of(bytes(body))


def can_be_confirmed(key: str) -> bool:
    """Return whether the store's answers about this key can prove its bytes.

    SeaweedFS 4.48 takes a backslash for a slash: at a key's end it confirms any bytes and keeps an empty folder.
    """
    return "\\" not in key


def head_if_allowed(store: ObjectStore, key: str, *, needed: bool = False) -> tuple[bool, ObjectInfo | None]:
    """Return whether HEAD is allowed, and the object's facts; None: there is no object, or HEAD is denied.

    Args:
        needed: the store may not refuse to overwrite, so an object may be lost unless the caller gets an answer.

    Raises:
        StoreError: any error but a denied HEAD; with `needed` also a HEAD that is denied although HEADs were allowed
            before.
    """
    if store.capabilities.can_head is False:
        return False, None
    try:
        return True, store.head(key)
    except StoreError as error:
        if is_denied(error) and not (needed and error.failure.code == HEAD_REFUSED):
            return False, None
        raise


def stated_sha256(info: ObjectInfo) -> str | None:
    """Return the SHA-256 that comes with an object, the store's own before the metadata's; None: there is none."""
    stated = (info.checksum_sha256, info.sha256)
    return next((sha256 for sha256 in stated if sha256 is not None and _SHA256.fullmatch(sha256)), None)


def compare(info: ObjectInfo | None, expected: Expected) -> Verdict:
    """Compare what a HEAD or a listing says with the bytes that are expected; `info` None: there is no object."""
    if info is None:
        return Verdict.MISSING
    if info.size_bytes != expected.size_bytes:
        return Verdict.DIFFERENT
    written = info.sha256 if info.sha256 is not None and _SHA256.fullmatch(info.sha256) else None
    if info.checksum_sha256 == expected.sha256:
        return Verdict.SAME
    if info.checksum_sha256 is not None:
        # If the store's checksum and the metadata contradict each other, only the bytes decide.
        return Verdict.UNDECIDED if written == expected.sha256 else Verdict.DIFFERENT
    if info.etag is not None and info.etag == expected.proven_etag:
        return Verdict.SAME
    if written is not None and written != expected.sha256:
        return Verdict.DIFFERENT
    if info.etag is not None and expected.has_etag(info.etag):
        return Verdict.SAME
    return Verdict.UNDECIDED


def compare_bytes(store: ObjectStore, key: str, expected: Expected) -> Verdict:
    """Read an object, hash it and compare it; never UNDECIDED. StoreError: it can't be read."""
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        for piece in store.read(key, expected.size_bytes):
            digest.update(piece)
            size_bytes += len(piece)
    except StoreError as error:
        if is_missing(error):
            return Verdict.MISSING
        raise
    same = size_bytes == expected.size_bytes and digest.hexdigest() == expected.sha256
    return Verdict.SAME if same else Verdict.DIFFERENT


def check_object(store: ObjectStore, key: str, expected: Expected) -> Verdict:
    """Compare an object by a HEAD, and by its bytes only if that can't tell; never UNDECIDED. Raises StoreError.

    A HEAD that finds no object can't tell either: a missing bucket or a web server gives the same answer.
    """
    verdict = compare(store.head(key), expected)
    is_clear = verdict in (Verdict.SAME, Verdict.DIFFERENT)
    return verdict if is_clear else compare_bytes(store, key, expected)


def confirmed_now(row: FileRow, store: ObjectStore) -> bool:
    """Return whether the object of an archived row holds its bytes at this moment. Raises StoreError."""
    if row.sha256 is None or row.key is None:
        return False
    return check_object(store, row.key, Expected.of_row(row)) is Verdict.SAME


def prove(
    store: ObjectStore, key: str, info: ObjectInfo | None, expected: Expected, *, accepted: bool
) -> Proof | None:
    """Return how the object at `key` is proven to hold the bytes; None if it is not.

    Args:
        info: the answer to a HEAD; None if HEAD is denied.
        accepted: the store accepted these bytes with their checksum before; this counts only if reading is denied.

    Raises:
        StoreError: the object is gone (code `Unproven`), or the store refuses or does not answer.
    """
    verdict = Verdict.UNDECIDED if info is None else compare(info, expected)
    if verdict is Verdict.SAME and can_be_confirmed(key):
        return Proof.CHECKSUM
    if verdict is Verdict.DIFFERENT:
        return None
    try:
        verdict = compare_bytes(store, key, expected)
    except StoreError as error:
        if is_denied(error):
            return Proof.ACCEPTED if accepted else None
        raise
    if verdict is Verdict.MISSING:
        raise StoreError("GetObject", key, explain("Unproven"), status=404)
    return Proof.READ_BACK if verdict is Verdict.SAME else None


class Digests:
    """Hash bytes as they pass: their SHA-256, and the ETags that stores make of them with MD5.

    Args:
        part_size_bytes: of the parts in which our uploads would send them; 0: in one request.
    """

    def __init__(self, part_size_bytes: int) -> None:
        self._part_bytes = part_size_bytes
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._part = hashlib.md5(usedforsecurity=False)
        self._parts = b""
        self._left = part_size_bytes
        self.size_bytes = 0

    def update(self, piece: bytes) -> None:
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
        """Return the ETags of an object with these bytes: sent in one request, and in parts as our uploads send them.

        The second as AWS makes it: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        """
        whole = self._md5.hexdigest()
        if not self._part_bytes:
            return whole, f"{hashlib.md5(self._md5.digest(), usedforsecurity=False).hexdigest()}-1"
        parts = self._parts + (self._part.digest() if self._left < self._part_bytes else b"")
        joined = hashlib.md5(parts, usedforsecurity=False).hexdigest()
        return whole, f"{joined}-{len(parts) // 16}"

    def expected(self, proven_etag: str | None = None) -> Expected:
        """Return what an object with exactly these bytes should show."""
        return Expected(self.size_bytes, self.sha256, proven_etag, lambda etag: etag in self.etags())
