"""What goes into an upload and what comes out of it: the journal, the prepared file, the outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from ..files import FileVersion
from ..ledger.rows import Claim
from ..store.evidence import Proof
from .source import Content


class Outcome(NamedTuple):
    """The file is in the bucket.

    Attributes:
        already: an object with these bytes was found, so this attempt wrote none.
        ours: this attempt or an earlier one wrote the object.
        changed: the file was written to after its bytes were read; its next version is still to be uploaded.
        base_key: the key without a conflict number.
        in_parts: the file is sent as a multipart upload.
        unprotected_at: not None if another writer may have replaced the object in the same moment: when it was written
            or found, in monotonic seconds. Then call `Uploader.confirm_unprotected`.
        read: the file as it was when its bytes were hashed; None if that is not known.
    """

    key: str
    sha256: str
    etag: str | None
    already: bool
    ours: bool
    proof: Proof
    changed: bool = False
    base_key: str = ""
    read: FileVersion | None = None
    in_parts: bool = False
    unprotected_at: float | None = None


class Journal(Protocol):
    """Durable notes of one attempt; each call returns after its commit."""

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        """Note that these bytes are about to be sent to `key`."""

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        """Note the multipart upload that exists, or will be begun (see `abandoned.INTENT`); None: it is over."""

    def abandon(self, key: str, upload_id: str) -> None:
        """Note that a multipart upload of ours is to be aborted."""


@dataclass(slots=True)
class Prepared:
    """A version whose bytes were read and hashed; its file is open."""

    root: Path
    claim: Claim
    source: BinaryIO
    content: Content
    base_key: str


@dataclass(slots=True)
class SentBytes:
    """Count the bytes that were sent or are in the bucket already. Thread-safe."""

    progress: Callable[[int], None]
    total: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Count more bytes, and call `progress` with the sum."""
        with self.lock:
            self.total += count
            self.progress(self.total)
